// SPDX-License-Identifier: Apache-2.0
//! The ranges of configurations beside the peers files that they name: whether
//! they are where this node's pods should be.

use ipnetwork::IpNetwork;

use super::{finding::Findings, list::Linted, plugin::Ours};
use crate::{
    conf::has_store,
    doctor,
    fabric::{
        Peers,
        pools::{Cidrs, Misfit},
    },
    family::Family,
    list::Gather,
    net::Socket,
    node,
    node::fabric::read_peers,
    state::Root,
};

/// The peers of a plugin's object; `None` where it names no file, and where that
/// is no good, which is told elsewhere.
fn peers_of(ours: &Ours, root: &Root) -> Option<Peers> {
    let path = root.path(ours.config.fabric.peers_file.as_ref()?);
    let (peers, _) = read_peers(&path, &ours.config, &mut Socket::open().ok()?).ok()?;
    Some(peers)
}

/// Whether a plugin's peers file gives this node's pods IPv6.
pub(super) fn serve_ipv6(ours: &Ours, root: &Root) -> bool {
    peers_of(ours, root).is_some_and(|peers| peers.me.pod_cidrs(Family::V6).next().is_some())
}

/// All lists of peers that the files name.
pub(super) fn all<'a>(files: impl Iterator<Item = &'a Linted>, root: &Root) -> Vec<Peers> {
    files.flat_map(|linted| &linted.ours).filter_map(|ours| peers_of(ours, root)).gather()
}

/// Says which ranges of a file are not this node's. Where a file names no peers,
/// those of `others` tell whose pods would be cut off.
pub(super) fn compare(linted: &Linted, root: &Root, others: &[Peers], findings: &mut Findings) {
    for ours in linted.ours.iter().filter(|ours| has_store(&ours.config.ipam_type)) {
        match peers_of(ours, root) {
            Some(peers) => tell(ours, &peers, &|_| true, findings),
            None => {
                others.iter().for_each(|peers| tell(ours, peers, &Misfit::is_of_peer, findings));
            }
        }
    }
}

fn tell(ours: &Ours, peers: &Peers, which: &dyn Fn(&Misfit) -> bool, findings: &mut Findings) {
    let all: Vec<IpNetwork> = peers.pod_cidrs().gather();
    let node = |cidr| {
        let node = peers.nodes().find(|node| node.pod_cidrs.contains(&cidr));
        node.map_or_else(|| "another node".to_owned(), |node| node.name.clone())
    };
    let cidrs = Cidrs { own: &peers.me.given_pod_cidrs(), all: &|| all.clone(), node: &node };
    for pool in &ours.pools {
        let misfits = cidrs.misfits(&[("range".to_owned(), pool.range.clone())]);
        for misfit in misfits.iter().filter(|misfit| which(misfit)) {
            findings.place(&pool.path, doctor::of_misfit(&node::Misfit::from(misfit)));
        }
    }
}
