// SPDX-License-Identifier: Apache-2.0
//! What the plugin has made: attachments and their leases, fabrics, tables, values of the
//! kernel's parameters.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    configurations::Configuration,
    files,
    progress::{Order, Progress},
    refusal,
};
use crate::{
    cli::{Failure, Status, fabric::apply::take_back, gc, tune},
    cni::json::member,
    conf::has_store,
    fabric,
    ipam::store,
    list::{Gather, PushAll},
    net::Socket,
    nft,
    node::{
        self,
        apply::Report,
        fabric::{FabricState, Removal, WRITER_LIMIT, lock_all, protocols_here},
        policy, tables,
    },
    object::Told,
    policy::TABLE,
    state::journal,
    verb::{collect_dead, leases_of},
};

/// All tables of ours begin like this, and some of others.
const PREFIX: &str = "manx";

/// What dead pods left, with their leases and where those were; with `--force` pods that live
/// as well.
pub(super) fn attachments(
    order: &Order,
    configurations: &[Configuration],
    progress: &mut Progress<'_, '_>,
) -> Result<(), Failure> {
    let root = &order.root;
    let stores = stores(order, configurations);
    let mut sections: BTreeMap<&str, (Value, String)> = BTreeMap::new();
    for (document, config) in configurations.iter().filter_map(|one| one.part.as_ref()) {
        let section = (document.ipam().clone(), config.version.to_string());
        sections.entry(config.name.as_str()).or_insert(section);
    }
    let mut networks = gc::networks(root, None)?;
    let with_leases = stores.iter().filter(|(directory, _)| directory.is_dir());
    networks.extend(with_leases.map(|(_, network)| network.clone()));
    let before = own_tables()?;
    let none_is_valid = order.force.then(HashSet::new);
    let path = [order.bin_dir.clone()];
    for network in &networks {
        let section = sections.get(network.as_str()).cloned();
        let ipam = section.filter(|(ipam, _)| ipam.is_object());
        let valid = none_is_valid.as_ref();
        let (gone, errors) = collect_dead(root, network, &path, ipam, valid, order.dry_run)?;
        for one in gone {
            let pod = one.pod.unwrap_or_else(|| format!("container {}", one.container_id));
            let ifname = one.ifname;
            progress.gone(format_args!("attachment {ifname} of {pod} in network {network}"))?;
        }
        for error in errors {
            progress.fail(error)?;
        }
    }
    // Those of networks of which nothing is left have gone with it.
    let left = own_tables()?;
    for table in before.iter().filter(|table| !left.contains(table)) {
        tell(&[node::table::removed(table)], progress)?;
    }
    for (directory, _) in stores {
        remove_store(&directory, progress)?;
    }
    Ok(())
}

/// Where leases are by the configurations and by what is noted of attachments, each with its
/// network.
fn stores(order: &Order, configurations: &[Configuration]) -> BTreeSet<(PathBuf, String)> {
    let parts = configurations.iter().filter_map(|one| one.part.as_ref());
    let configured = parts.map(|(document, config)| (config.name.clone(), document.ipam().clone()));
    let noted = journal::all(&order.root).into_iter().map(|entry| (entry.network, entry.ipam));
    let kept = |ipam: &Value| member(ipam, "type").and_then(Value::as_str).is_some_and(has_store);
    let all = configured.chain(noted).filter(|(_, ipam)| kept(ipam));
    all.map(|(network, ipam)| (leases_of(&order.root, &network, &ipam), network)).gather_set()
}

/// Removes what is left where leases were.
fn remove_store(directory: &Path, progress: &mut Progress<'_, '_>) -> Result<(), Failure> {
    let count = store::leases(directory).len();
    if count > 0 && !progress.dry_run {
        return progress.kept(directory.display(), "addresses are leased there to somebody else");
    }
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_notes = |name: &str| name == "lock" || name.starts_with("last_reserved_ip.");
    let is_lease = |name: &str| name.parse::<std::net::IpAddr>().is_ok();
    let known = files
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .all(|name| is_notes(&name) || is_lease(&name) && progress.dry_run);
    match known {
        true => files::remove_all(directory, progress),
        false => progress.kept(directory.display(), "there is something else in it"),
    }
}

/// The fabrics of all route protocols, as `manx apply --undo` takes back those of networks.
pub(super) fn fabrics(
    order: &Order,
    configurations: &[Configuration],
    progress: &mut Progress<'_, '_>,
) -> Result<(), Failure> {
    let (root, mut host) = (&order.root, Socket::open()?);
    if order.force && !order.dry_run {
        for (path, _) in FabricState::unreadable(root) {
            files::remove(&path, progress)?;
        }
    }
    let mut protocols = protocols_here(root, &mut host)?;
    let parts = configurations.iter().filter_map(|one| one.part.as_ref());
    protocols.extend(parts.map(|(_, config)| config.fabric.protocol));
    let mut report = Report::default();
    for protocol in protocols {
        let removal = Removal::of_protocol(protocol, root, &mut host)?;
        if order.dry_run {
            // Its table stays for now, and is told with those of networks.
            report.lines.push_all(removal.changes().iter().map(fabric::Change::told));
            continue;
        }
        if removal.changes().is_empty() && removal.tables()?.is_empty() {
            continue;
        }
        let _locks = lock_all(&BTreeSet::from([protocol]), root, WRITER_LIMIT)?;
        let removal = Removal::of_protocol(protocol, root, &mut host)?;
        take_back(&removal, &mut host, &mut report)?;
    }
    tell(&report.lines, progress)?;
    for error in report.errors {
        progress.fail(error)?;
    }
    Ok(())
}

fn tell(lines: &[Told], progress: &mut Progress<'_, '_>) -> Result<(), Failure> {
    for line in lines {
        progress.count += 1;
        progress.console.line(line)?;
    }
    Ok(())
}

fn own_tables() -> Result<Vec<String>, Failure> {
    let mut found = nft::tables(PREFIX).map_err(node::refused)?;
    found.retain(|table| tables::is_ours(table));
    Ok(found)
}

/// The tables of networks and of network policies.
pub(super) fn tables(order: &Order, progress: &mut Progress<'_, '_>) -> Result<(), Failure> {
    let found = own_tables()?;
    if !order.dry_run && found.iter().any(|table| table.starts_with(TABLE)) {
        // Together with what is noted for it, and with what covers it while it is made.
        policy::remove(&order.root)?;
    }
    for table in found {
        if !order.dry_run {
            nft::remove(&table).map_err(node::refused)?;
        }
        tell(&[node::table::removed(&table)], progress)?;
    }
    Ok(())
}

/// What came back while there was a configuration still.
pub(super) fn look_again(
    order: &Order,
    configurations: &[Configuration],
    progress: &mut Progress<'_, '_>,
) -> Result<(), Failure> {
    if order.dry_run || order.keep_conf {
        return Ok(());
    }
    if !order.force
        && let Some(words) = refusal::attached(order)?
    {
        return Err(Failure::Failed(words));
    }
    attachments(order, configurations, progress)?;
    fabrics(order, configurations, progress)?;
    tables(order, progress)
}

/// The values of parameters that `manx tune` has set.
pub(super) fn tuned(order: &Order, progress: &mut Progress<'_, '_>) -> Result<(), Failure> {
    if !tune::is_applied(&order.root) {
        return Ok(());
    }
    if order.dry_run {
        return progress.gone("what manx tune has set");
    }
    progress.count += 1;
    match tune::revert(&order.root, progress.console)? {
        Status::Fine => Ok(()),
        _ => progress.fail("not all that manx tune has set is as it was"),
    }
}
