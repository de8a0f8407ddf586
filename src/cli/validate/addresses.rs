// SPDX-License-Identifier: Apache-2.0
//! What an IPAM section of ours or of host-local's comes to on this machine: whether its
//! ranges have an address that a pod may have, and whether there is what it names.

use std::{
    fs,
    io::ErrorKind,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{
    Node,
    finding::{Findings, member},
    pool::Pool,
};
use crate::{
    cni::Document,
    conf::{Config, IpamKeys, has_store},
    list::{Gather, distinct},
    net::{Socket, addr},
    pod::reserved::reserved_all,
    state::Root,
    verb::{leases_of, own_cidrs_fit, resolver},
};

/// Says what an ADD would fail at.
pub(super) fn lint(
    document: &Document,
    path: &str,
    (config, keys): (&Config, &IpamKeys),
    pools: &[Pool],
    node: &Node,
    findings: &mut Findings,
) {
    if !has_store(&config.ipam_type) {
        return;
    }
    let Some(root) = &node.root else {
        barren(pools, config, &[], findings);
        return;
    };
    let own = Socket::open().ok().and_then(|mut socket| addr::all(&mut socket).ok());
    let own: Vec<IpAddr> = own.into_iter().flatten().map(|(_, own)| own.ip()).gather();
    barren(pools, config, &own, findings);
    let ipam = member(path, "ipam");
    if let Err(error) = own_cidrs_fit(document.ipam(), config, root) {
        let message = format!("{}: ADD fails with code {}", error.msg, error.code.0);
        findings.error(&ipam, message, error.details.as_str());
    }
    if let Err(error) = resolver(keys) {
        findings.error(&member(&ipam, "resolvConf"), error.msg.as_str(), error.details.as_str());
    }
    store(document, &ipam, root, findings);
}

/// The directory of the leases, or what would be above it, is something else.
fn store(document: &Document, ipam: &str, root: &Root, findings: &mut Findings) {
    let directory = leases_of(root, &document.name, document.ipam());
    let is_other = |path: &PathBuf| match fs::metadata(path) {
        Ok(found) => !found.is_dir(),
        Err(error) => error.kind() == ErrorKind::NotADirectory,
    };
    // The lowest that is in the way of all below it.
    let above = directory.ancestors().map(Path::to_owned).filter(is_other).last();
    if let Some(path) = above {
        let message = format!(
            "leases cannot be in {}: {} is no directory",
            directory.display(),
            path.display()
        );
        let fix = format!("name another directory, or move {} away", path.display());
        findings.error(&member(ipam, "dataDir"), message, fix);
    }
}

/// Ranges without an address for a pod: an error where the whole set has none.
pub(super) fn barren(pools: &[Pool], config: &Config, own: &[IpAddr], findings: &mut Findings) {
    let set = |pool: &Pool| pool.path.rsplit_once('[').map(|(set, _)| set.to_owned());
    let reasons: Vec<Option<String>> =
        pools.iter().map(|pool| why_barren(pool, config, own)).gather();
    for (pool, reason) in pools.iter().zip(&reasons) {
        let Some(reason) = reason else { continue };
        let others = pools.iter().zip(&reasons);
        let fertile =
            others.filter(|(other, _)| set(other) == set(pool)).any(|(_, why)| why.is_none());
        let message = format!("{} has no address for a pod: {reason}", pool.range);
        let fix = "give a range of other addresses";
        match fertile {
            true => findings.warning(&pool.path, message, fix),
            false => findings.error(&pool.path, message, fix),
        }
    }
}

fn why_barren(pool: &Pool, config: &Config, own: &[IpAddr]) -> Option<String> {
    let (first, last) = pool.range.ends();
    if let Some(what) = reserved_all(first, last) {
        return Some(format!("each is {what}"));
    }
    let gateway = IpAddr::from(config.gateway);
    let mut taken: Vec<IpAddr> = own.iter().copied().chain([gateway]).gather();
    taken.retain(|address| pool.range.contains(*address) && *address != pool.range.gateway());
    let taken = distinct(taken);
    if u128::try_from(taken.len()).is_ok_and(|taken| taken < pool.range.size()) {
        return None;
    }
    let what = |address: &IpAddr| match *address == gateway {
        true => format!("{address} is the pods' gateway"),
        false => format!("{address} is the node's own"),
    };
    let mut reasons: Vec<String> = taken.iter().map(what).gather();
    if pool.range.contains(pool.range.gateway()) {
        reasons.push(format!("{} is the subnet's gateway", pool.range.gateway()));
    }
    Some(reasons.join(", "))
}
