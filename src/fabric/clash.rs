// SPDX-License-Identifier: Apache-2.0
//! What of a list would cut this node off from what it has or goes by: pods of others
//! where this node has its own networks or its next hop, a peer whose address is here.
//!
//! A clash with one peer is that peer's alone: it is left out, and all others are
//! served. Only what makes the list another node's refuses it.

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;

use super::{
    faults::{contains, is_within},
    peers::{Node, Peers},
    site::{NextHop, Site},
};
use crate::family::{Family, is_single};
use crate::list::{Gather, PushAll};

/// The networks in which all pods are, as a network's configuration has them.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// The network.
    pub network: &'a str,
    /// Its `clusterCIDRs`.
    pub cidrs: &'a [IpNetwork],
}

/// Takes out of a list what clashes with the node that is at `site`, or lies outside
/// of the networks that all pods are in.
///
/// # Errors
/// What is wrong with this node's own entry, a sentence each.
pub(super) fn settle(
    peers: &mut Peers,
    site: &Site,
    bounds: Option<Bounds<'_>>,
) -> Result<(), Vec<String>> {
    let mut problems = self_of_another(peers, site);
    let of_me = outside(&peers.me, bounds);
    problems.push_all(of_me.into_iter().chain(cut_off(peers, &peers.me, site)).map(|problem| {
        let name = &peers.me.name;
        format!("{name}: {problem}")
    }));
    if !problems.is_empty() {
        return Err(problems);
    }
    peers.notes = inside(peers, site);
    let (mut others, mut left_out, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
    for node in &peers.others {
        let foreign = outside(node, bounds);
        let problems = foreign.iter().cloned().chain(own_inside(node, site));
        let problems: Vec<String> = problems.chain(cut_off(peers, node, site)).gather();
        if problems.is_empty() {
            others.push(node.clone());
            continue;
        }
        excluded.push(format!("{} is left out: {}", node.name, problems.join("; ")));
        // Its pods are pods all the same, but for those that can be none.
        if foreign.is_empty() {
            left_out.push(node.clone());
        }
    }
    (peers.others, peers.left_out) = (others, left_out);
    peers.excluded.push_all(excluded);
    leave_out(peers, site);
    Ok(())
}

/// Without any address of its own, this node may not be the one that the file means.
fn self_of_another(peers: &Peers, site: &Site) -> Vec<String> {
    if peers.me.addresses.iter().any(|address| site.has(*address)) {
        return Vec::new();
    }
    let here = peers.others.iter().filter_map(|node| held(node, site));
    here.map(|(node, address)| {
        let name = &node.name;
        format!("{name}'s address {address} is this machine's: is self {name}?")
    })
    .gather()
}

/// The pod CIDRs of a node that lie outside of `bounds`, in words.
fn outside(node: &Node, bounds: Option<Bounds<'_>>) -> Vec<String> {
    let Some(Bounds { network, cidrs }) = bounds else { return Vec::new() };
    let outside = |cidr: &&IpNetwork| !is_within(cidr, cidrs);
    let told = |cidr: &IpNetwork| {
        format!("podCIDR {cidr} is in none of clusterCIDRs of network {network}")
    };
    node.pod_cidrs.iter().filter(outside).map(told).gather()
}

/// Notes of pods inside this node's networks, one for each network.
fn inside(peers: &Peers, site: &Site) -> Vec<String> {
    let networks: BTreeSet<IpNetwork> = site.plain.iter().filter_map(network).gather_set();
    let note = |network: &IpNetwork| {
        let is_inside = |cidr: &IpNetwork| cidr != network && contains(network, cidr);
        let mut inside = peers.pod_cidrs().filter(is_inside);
        let first = inside.next()?;
        let more = match inside.count() {
            0 => String::new(),
            more => format!(" and {more} more podCIDRs"),
        };
        Some(format!(
            "{first}{more} inside {network}, a network of this node: who else is there looks for \
             these pods on the link, and finds them if it has routes to them"
        ))
    };
    networks.iter().filter_map(note).gather()
}

/// Leaves out the peers whose address this node has: one that floats and is
/// here now, or one that kube-proxy keeps on a device of its own. There is no
/// way to them, and there may be one to all others.
fn leave_out(peers: &mut Peers, site: &Site) {
    let here = |node: &Node| held(node, site).is_some();
    let (left_out, others): (Vec<Node>, Vec<Node>) =
        std::mem::take(&mut peers.others).into_iter().partition(here);
    peers.here.push_all(left_out.iter().filter_map(|node| held(node, site)).map(
        |(node, address)| {
            format!("{} is left out: its address {address} is this machine's", node.name)
        },
    ));
    peers.others = others;
    peers.left_out.push_all(left_out);
}

/// A node with that of its addresses which this machine has, of those that count.
fn held<'a>(node: &'a Node, site: &Site) -> Option<(&'a Node, IpAddr)> {
    let mut counting = Family::BOTH.into_iter().filter_map(|family| node.address(family));
    counting.find(|address| site.has(*address)).map(|address| (node, address))
}

/// The network of an address, if it has one besides itself.
fn network(own: &IpNetwork) -> Option<IpNetwork> {
    let network = IpNetwork::new(own.network(), own.prefix()).ok()?;
    (own.prefix() > 0 && !is_single(own)).then_some(network)
}

/// What of this node a peer's pods contain, in words. Pods inside one of its networks
/// do no harm: the longer prefix wins.
fn own_inside(node: &Node, site: &Site) -> Vec<String> {
    let within = |cidr: &IpNetwork| {
        let own = site.plain.iter().find(|own| cidr.contains(own.ip()))?;
        let all = network(own).filter(|network| contains(cidr, network));
        let own =
            all.map_or_else(|| format!("address {}", own.ip()), |all| format!("all of {all}"));
        Some(format!("its podCIDR {cidr} contains {own}, which is this node's"))
    };
    node.pod_cidrs.iter().filter_map(within).gather()
}

/// A next hop that would be looked for among the pods of a node: of a route that
/// leads to no pods, and on the link by no longer prefix. A bridge of another plugin
/// may have this node's pods, but not the way out.
fn cut_off(peers: &Peers, node: &Node, site: &Site) -> Vec<String> {
    let among = |cidr: &IpNetwork| {
        let hop = site.next_hops.iter().find(|hop| {
            cidr.contains(hop.address)
                && cidr.prefix() > hop.reach
                && !peers.pod_cidrs().any(|pods| contains(&pods, &hop.destination))
        });
        let NextHop { address, destination, .. } = hop?;
        Some(format!("its podCIDR {cidr} contains next hop {address} (of {destination})"))
    };
    node.pod_cidrs.iter().filter_map(among).gather()
}

#[cfg(test)]
mod tests;
