// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a list of nodes by itself.
//!
//! One node's mistake must not cut others off: an address that cannot be a
//! node's, pods where the nodes themselves are, two ends of a tunnel that
//! cannot be told apart. Such an entry is taken out, and the rest of the list
//! serves; only what this node is part of itself refuses the list. Knows no
//! kernel.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::LazyLock,
};

use ipnetwork::IpNetwork;

use super::peers::Node;
use crate::family::{Family, HasFamily};
use crate::list::{Gather, Ordered, PushAll};

/// Networks in which neither nodes nor pods can be, and what they are for
/// (RFC 6890, RFC 4291).
const SPECIAL: [(&str, &str); 8] = [
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("::/127", "loopback and unspecified"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
];

/// An entry of a list, with what is wrong with its text.
pub(super) type Entry = (Node, Vec<String>);

/// A list as far as it is sound.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) me: Node,
    pub(super) others: Vec<Node>,
    /// Who is left out, and why: a sentence for each.
    pub(super) excluded: Vec<String>,
}

/// A fault of one entry, or one that two entries have together.
#[derive(Debug)]
struct Fault {
    entry: usize,
    other: Option<usize>,
    words: String,
}

/// Takes the faulty entries out of a list in which this node is at `place`. Of two
/// that clash, the one goes that clashes with more, else the later one.
///
/// # Errors
/// All that is wrong with this node's own entry, a sentence each.
pub(super) fn admit(entries: Vec<Entry>, place: usize) -> Result<Admitted, Vec<String>> {
    let mut out: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let (mut nodes, mut own) = (Vec::new(), Vec::new());
    for (at, (node, problems)) in entries.into_iter().enumerate() {
        if at == place {
            own.push_all(problems.iter().map(|problem| format!("{}: {problem}", label(&node))));
        } else if !problems.is_empty() {
            out.insert(at, problems);
        }
        nodes.push(node);
    }
    for round in 0.. {
        let sound: Vec<(usize, &Node)> =
            nodes.iter().enumerate().filter(|(at, _)| !out.contains_key(at)).gather();
        let faults = of(&sound);
        let (alone, rest): (Vec<Fault>, Vec<Fault>) =
            faults.into_iter().partition(|fault| fault.other.is_none() && fault.entry != place);
        // What is wrong with an entry by itself may be all that others clash with.
        if !alone.is_empty() {
            for fault in alone {
                out.entry(fault.entry).or_default().push(fault.words);
            }
            continue;
        }
        let (of_me, pairs): (Vec<Fault>, Vec<Fault>) =
            rest.into_iter().partition(|fault| fault.entry == place || fault.other == Some(place));
        own.push_all(of_me.into_iter().map(|fault| match (fault.other, nodes.get(fault.entry)) {
            (None, Some(node)) => format!("{}: {}", label(node), fault.words),
            _ => fault.words,
        }));
        if !own.is_empty() {
            return Err(own);
        }
        if pairs.is_empty() {
            break;
        }
        blame(pairs, round < ROUNDS_MAX, &mut out);
    }
    let (mut me, mut others, mut excluded) = (None, Vec::new(), Vec::new());
    for (at, node) in nodes.into_iter().enumerate() {
        match out.get(&at) {
            Some(problems) => {
                excluded.push(format!("{} is left out: {}", label(&node), problems.join("; ")));
            }
            None if at == place => me = Some(node),
            None => others.push(node),
        }
    }
    let me = me.ok_or_else(|| vec!["this node has no entry".to_owned()])?;
    Ok(Admitted { me, others, excluded })
}

/// All that is wrong with a list in which this node is not found, a sentence each.
pub(super) fn all(entries: &[Entry]) -> Vec<String> {
    let nodes: Vec<(usize, &Node)> = entries.iter().map(|(node, _)| node).enumerate().gather();
    let of_text = entries.iter().flat_map(|(node, problems)| {
        problems.iter().map(|problem| format!("{}: {problem}", label(node)))
    });
    let faults = of(&nodes).into_iter().map(|fault| match entries.get(fault.entry) {
        Some((node, _)) if fault.other.is_none() => format!("{}: {}", label(node), fault.words),
        _ => fault.words,
    });
    of_text.chain(faults).gather()
}

/// What an entry is called.
fn label(node: &Node) -> &str {
    if node.name.is_empty() { "an entry" } else { &node.name }
}

/// How often entries are weighed against each other. Where thousands have the same
/// pods, who comes later goes.
const ROUNDS_MAX: usize = 8;

/// Decides which entries go for what they have together.
fn blame(mut pairs: Vec<Fault>, weigh: bool, out: &mut BTreeMap<usize, Vec<String>>) {
    while !pairs.is_empty() {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for at in pairs.iter().flat_map(|fault| [Some(fault.entry), fault.other]).flatten() {
            *counts.entry(at).or_default() += 1;
        }
        let worst = counts.into_iter().max_by_key(|(at, count)| (*count, *at));
        let goes = |at: usize| weigh && worst.is_some_and(|(worst, _)| worst == at);
        let (gone, left): (Vec<Fault>, Vec<Fault>) = pairs
            .into_iter()
            .partition(|fault| !weigh || goes(fault.entry) || fault.other.is_some_and(goes));
        pairs = left;
        for fault in gone {
            let entry = worst.filter(|_| weigh).map_or(fault.entry, |(worst, _)| worst);
            // One of them is enough to say.
            out.entry(entry).or_insert_with(|| vec![fault.words]);
        }
    }
}

fn of(nodes: &[(usize, &Node)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    special(nodes, &mut faults);
    duplicates(nodes, &mut faults);
    overlaps(nodes, &mut faults);
    misplaced(nodes, &mut faults);
    faults
}

impl Fault {
    fn alone(entry: usize, words: String) -> Self {
        Self { entry, other: None, words }
    }

    fn between(entry: usize, other: usize, words: String) -> Self {
        Self { entry, other: Some(other), words }
    }
}

/// Whether all of one network is in another.
pub fn contains(outer: &IpNetwork, inner: &IpNetwork) -> bool {
    outer.family() == inner.family()
        && outer.prefix() <= inner.prefix()
        && outer.contains(inner.network())
}

/// Whether all of a network is in one of these.
pub fn is_within(inner: &IpNetwork, outer: &[IpNetwork]) -> bool {
    outer.iter().any(|outer| contains(outer, inner))
}

/// Whether two networks have addresses in common.
pub fn overlap(one: &IpNetwork, other: &IpNetwork) -> bool {
    contains(one, other) || contains(other, one)
}

/// The network overlapping this one in which neither nodes nor pods can be, and what it
/// is for.
pub fn reserved(network: &IpNetwork) -> Option<(IpNetwork, &'static str)> {
    static NETWORKS: LazyLock<Vec<(IpNetwork, &str)>> = LazyLock::new(|| {
        let parsed = SPECIAL.iter().filter_map(|(text, what)| Some((text.parse().ok()?, *what)));
        parsed.gather()
    });
    NETWORKS.iter().find(|(net, _)| overlap(net, network)).copied()
}

fn special(nodes: &[(usize, &Node)], faults: &mut Vec<Fault>) {
    for (at, node) in nodes {
        for address in node.addresses.iter().chain(&node.tunnel_addresses) {
            if let Some((_, what)) = reserved(&(*address).into()) {
                faults.push(Fault::alone(*at, format!("no node can have {address} ({what})")));
            }
        }
        for cidr in &node.pod_cidrs {
            if let Some((net, what)) = reserved(cidr) {
                let words = format!("podCIDR {cidr} overlaps {net} ({what})");
                faults.push(Fault::alone(*at, words));
            }
        }
        if let Some(mac) = node.tunnel_mac.filter(|mac| !mac.is_unicast()) {
            faults.push(Fault::alone(*at, format!("tunnelMAC {mac} is no unicast address")));
        }
    }
}

fn duplicates(nodes: &[(usize, &Node)], faults: &mut Vec<Fault>) {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut owners: HashMap<IpAddr, (usize, &str)> = HashMap::new();
    // Each family has a device, and with it a table, of its own.
    let mut macs: HashMap<(Family, [u8; 6]), (usize, &str)> = HashMap::new();
    for (at, node) in nodes {
        let (at, name) = (*at, node.name.as_str());
        if let Some(other) = names.insert(name, at) {
            faults.push(Fault::between(at, other, format!("node {name} is listed twice")));
        }
        let derived = Family::BOTH.into_iter().filter_map(|family| node.tunnel_address(family));
        let derived = derived.filter(|address| !node.tunnel_addresses.contains(address));
        let all = node.addresses.iter().chain(&node.tunnel_addresses).copied().chain(derived);
        for address in all {
            match owners.insert(address, (at, name)) {
                Some((other, _)) if other == at => {
                    faults.push(Fault::alone(at, format!("{name} has address {address} twice")));
                }
                Some((other, others_name)) => {
                    let words = format!("{name} and {others_name} both have address {address}");
                    faults.push(Fault::between(at, other, words));
                }
                None => {}
            }
        }
        for family in Family::BOTH.into_iter().filter(|family| node.address(*family).is_some()) {
            let mac = node.tunnel_mac(family);
            // Two of one name have one anyway.
            if let Some((other, others_name)) = macs.insert((family, mac.0), (at, name))
                && others_name != name
            {
                let words = format!("{name} and {others_name} both have tunnel MAC {mac}");
                faults.push(Fault::between(at, other, words));
            }
        }
    }
}

/// A pod CIDR, and the entry that has it.
type Pods<'a> = (IpNetwork, (usize, &'a str));

fn pod_cidrs<'a>(nodes: &'a [(usize, &Node)]) -> impl Iterator<Item = Pods<'a>> {
    nodes
        .iter()
        .flat_map(|(at, node)| node.pod_cidrs.iter().map(|cidr| (*cidr, (*at, node.name.as_str()))))
}

/// Overlapping pod CIDRs, found in the order of their first addresses.
fn overlaps(nodes: &[(usize, &Node)], faults: &mut Vec<Fault>) {
    let mut cidrs: Vec<Pods<'_>> = pod_cidrs(nodes).gather();
    cidrs.order_by_key(|(cidr, (at, _))| (cidr.family(), cidr.network(), cidr.prefix(), *at));
    let mut widest: Option<Pods<'_>> = None;
    for (cidr, (at, name)) in cidrs {
        match widest {
            Some((outer, (other, owner))) if contains(&outer, &cidr) => {
                let words = format!("{name}'s podCIDR {cidr} overlaps {owner}'s {outer}");
                faults.push(match at == other {
                    true => Fault::alone(at, words),
                    false => Fault::between(at, other, words),
                });
            }
            _ => widest = Some((cidr, (at, name))),
        }
    }
}

/// Nodes where pods are: their packets would be sent through tunnels to
/// themselves. A tunnel's address may be among its own node's pods.
fn misplaced(nodes: &[(usize, &Node)], faults: &mut Vec<Fault>) {
    let starts: BTreeMap<IpAddr, Pods<'_>> =
        pod_cidrs(nodes).map(|(cidr, owner)| (cidr.network(), (cidr, owner))).gather_map();
    // Those that do not overlap are told by where they begin.
    let holder = |address: &IpAddr| {
        let (_, (cidr, owner)) = starts.range(..=*address).next_back()?;
        cidr.contains(*address).then_some((*cidr, *owner))
    };
    for (at, node) in nodes {
        let (at, name) = (*at, node.name.as_str());
        for address in &node.addresses {
            if let Some((cidr, (other, owner))) = holder(address) {
                let words = format!("{name}'s address {address} is in {owner}'s podCIDR {cidr}");
                faults.push(match at == other {
                    true => Fault::alone(at, words),
                    false => Fault::between(at, other, words),
                });
            }
        }
        for address in &node.tunnel_addresses {
            let holder = holder(address).filter(|(_, (other, _))| *other != at);
            if let Some((cidr, (other, owner))) = holder {
                let words =
                    format!("{name}'s tunnel address {address} is in {owner}'s podCIDR {cidr}");
                faults.push(Fault::between(at, other, words));
            }
        }
    }
}

#[cfg(test)]
mod tests;
