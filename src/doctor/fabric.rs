// SPDX-License-Identifier: Apache-2.0
//! Checks of what leads to the pods of other nodes.

use std::{net::IpAddr, path::Path};

use ipnetwork::IpNetwork;

use super::{Answer, Seen, devices::down};
use crate::{
    family::{Family, HasFamily},
    list::{Gather, PushAll},
    net::{link::Link, route::TABLE_MAIN, rule::KERNELS},
    node::{Fabric, Network, Snapshot},
    object::{Action, Kind, Told, link::is_tunnel},
    pod::identity::GROUPS,
    text::{few::some_of, shell::quoted},
};

const APPLY: &str = "manx apply";
/// Whether all links are without IPv6 (Documentation/networking/ip-sysctl.rst).
pub const NO_IPV6: &str = "net/ipv6/conf/all/disable_ipv6";

/// Networks with a fabric, each fabric once: networks may share one.
pub(super) fn fabrics(snapshot: &Snapshot) -> Vec<(&Network, &Fabric)> {
    let mut fabrics: Vec<(&Network, &Fabric)> = Vec::new();
    for network in &snapshot.networks {
        let Some(fabric) = &network.fabric else { continue };
        if !fabrics.iter().any(|(_, other)| other.protocol == fabric.protocol) {
            fabrics.push((network, fabric));
        }
    }
    fabrics
}

/// As [`fabrics`], of those that were compared.
pub(super) fn compared(snapshot: &Snapshot) -> Result<Vec<(&Network, &Fabric)>, String> {
    let all = fabrics(snapshot);
    if all.is_empty() {
        return Err("no network has a peersFile".to_owned());
    }
    let compared: Vec<_> = all
        .into_iter()
        .filter(|(_, fabric)| fabric.problem.is_none() && fabric.failure.is_none())
        .gather();
    if compared.is_empty() {
        return Err(
            "the peers file cannot be used: see fabric-stale and fabric-contradiction".into()
        );
    }
    Ok(compared)
}

pub(super) fn changes<'a>(
    fabric: &'a Fabric,
    kinds: &'a [Kind],
    actions: &'a [Action],
) -> impl Iterator<Item = &'a Told> {
    let all = fabric.changes.iter();
    all.filter(|change| kinds.contains(&change.kind) && actions.contains(&change.action))
}

pub(super) fn node_address_changed(snapshot: &Snapshot) -> Answer {
    let has =
        |address: &IpAddr| snapshot.kernel.addresses.iter().any(|(_, own)| own.ip() == *address);
    let mut seen = Vec::new();
    for (_, fabric) in fabrics(snapshot) {
        let (file, node) = (fabric.peers_file.display(), &fabric.node);
        for address in fabric.addresses.iter().filter(|address| !has(address)) {
            let claim = format!("{file} names {address} as an address of this node ({node})");
            seen.push_all(lost(address, &claim, "give the node", fabric, snapshot));
        }
        // Unless those pods' addresses were handed on to another machine.
        if let Some((name, addresses)) = &fabric.heir {
            for address in addresses {
                let claim = format!(
                    "{file} gives {name} the pod CIDRs that this node had, and {address}, which \
                     this machine has not"
                );
                let give = format!("if this node is still {name}, give it");
                seen.push_all(lost(address, &claim, &give, fabric, snapshot));
            }
        }
    }
    Ok(seen)
}

/// An address that this node should have, as that is claimed, and has not.
fn lost(
    address: &IpAddr,
    claim: &str,
    give: &str,
    fabric: &Fabric,
    snapshot: &Snapshot,
) -> Option<Seen> {
    let again = format!("{give} that address again");
    let (object, held) = (format!("address {address}"), held(snapshot, address.family()));
    if held.is_empty() && address.is_ipv6() && snapshot.kernel.number(NO_IPV6) == Some(1) {
        let fix = format!("sysctl -w {}=0 # and {again}", NO_IPV6.replace('/', "."));
        let evidence = format!("{claim}, and IPv6 is turned off here");
        return Some(Seen::error(object, evidence).fix(fix));
    }
    let held = if held.is_empty() { "none of that family".to_owned() } else { some_of(&held) };
    let fix = format!("{again}, or correct the peers file of every node");
    let seen = Seen::error(object, format!("{claim}; it has {held}")).fix(fix);
    lost_with_link(address, fabric, snapshot, seen)
}

/// Addresses of this node that others may send to.
fn held(snapshot: &Snapshot, family: Family) -> Vec<String> {
    let own = snapshot.kernel.addresses.iter().filter(|(index, own)| {
        let link = snapshot.kernel.link(*index);
        let of_others = link.is_none_or(|link| GROUPS.contains(&link.group) || is_tunnel(link));
        own.family() == family && is_of_node(own.ip()) && !of_others
    });
    own.map(|(_, own)| own.ip().to_string()).gather()
}

/// Whether it is one that other nodes may send to.
fn is_of_node(address: IpAddr) -> bool {
    let is_of_link = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_loopback() && !is_of_link
}

/// A link that is set down loses its addresses of IPv6. Where it has another one that the
/// fabric goes by, next-hop-unreachable tells of it; else it is told which may be it.
fn lost_with_link(
    address: &IpAddr,
    fabric: &Fabric,
    snapshot: &Snapshot,
    seen: Seen,
) -> Option<Seen> {
    let kernel = &snapshot.kernel;
    let down = kernel.links.iter().filter(|link| {
        !link.up && !link.loopback && !GROUPS.contains(&link.group) && address.is_ipv6()
    });
    let down: Vec<&Link> = down.gather();
    let is_own = |(index, own): &(u32, IpNetwork)| {
        fabric.addresses.contains(&own.ip()) && down.iter().any(|link| link.index == *index)
    };
    if kernel.addresses.iter().any(is_own) {
        return None;
    }
    let [link] = down[..] else { return Some(seen) };
    let name = quoted(&link.name);
    let evidence = format!(
        "{}; {} is set down, and a link loses its IPv6 addresses by that",
        seen.evidence, link.name
    );
    let fix = format!("ip link set {name} up, and give it the address again; else {}", seen.fix);
    Some(Seen { evidence, fix, ..seen })
}

pub(super) fn fabric_stale(snapshot: &Snapshot) -> Answer {
    let all = fabrics(snapshot);
    if all.is_empty() {
        return Err("no network has a peersFile".to_owned());
    }
    let mut seen = Vec::new();
    for (network, fabric) in all {
        let object = format!("peers file {}", fabric.peers_file.display());
        if let Some(problem) = &fabric.problem {
            let serves = if fabric.applied { "; the last valid list serves" } else { "" };
            let evidence = format!("{problem}{serves}");
            let of = if fabric.applied { Seen::warning } else { Seen::error };
            seen.push(of(object, evidence).fix(
                "put a valid list of all nodes there, the same on every node; manx validate says \
                 what is wrong with it",
            ));
        } else if let Some(failure) = failure(network, fabric, false) {
            // What the list says was not compared.
            seen.push(failure);
        } else if !fabric.applied {
            let evidence = format!("network {}: it was not applied since boot", network.name);
            seen.push(Seen::warning(object, evidence).fix(APPLY).undo("manx apply --undo"));
        } else if !fabric.is_current && fabric.failure.is_none() {
            let evidence = "it has changed since it was applied";
            // What differs from it is its consequence.
            let of = if fabric.changes.is_empty() { Seen::warning } else { Seen::error };
            seen.push(of(object, evidence).fix(APPLY));
        }
    }
    Ok(seen)
}

/// Of each network: two that share a fabric may each say something else.
pub(super) fn fabric_contradiction(snapshot: &Snapshot) -> Answer {
    let networks = snapshot.networks.iter();
    let seen = networks.filter_map(|network| failure(network, network.fabric.as_ref()?, true));
    Ok(seen.gather())
}

/// Why nothing was compared, where that is of this sort.
fn failure(network: &Network, fabric: &Fabric, of_configuration: bool) -> Option<Seen> {
    let failure = fabric.failure.as_ref().filter(|it| it.of_configuration == of_configuration)?;
    let object = format!("network {}", network.name);
    Some(Seen::error(object, failure.text.as_str()).fix(&failure.fix))
}

pub(super) fn fabric_conflict(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for (_, fabric) in fabrics(snapshot) {
        let kinds = [Kind::Link, Kind::Mtu, Kind::Address, Kind::Neighbour, Kind::Forwarding];
        for change in changes(fabric, &kinds, &[Action::Conflict]) {
            let fix = "remove it, or give the fabric another device, VNI or port; manx plan shows all \
                       that is in the way";
            seen.push(Seen::error(change.object.clone(), in_the_way(change)).fix(fix));
        }
    }
    Ok(seen)
}

pub(super) fn in_the_way(change: &Told) -> String {
    let (before, after) = (shown(change.before.as_ref()), shown(change.after.as_ref()));
    format!("wanted is {after}, and somebody else has {before}")
}

fn shown(value: Option<&String>) -> &str {
    value.map_or("nothing", String::as_str)
}

pub(super) fn peer_excluded(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for (_, fabric) in compared(snapshot)? {
        seen.push_all(fabric.left_out.iter().map(|told| excluded(&fabric.peers_file, told)));
    }
    Ok(seen)
}

pub(super) fn excluded(peers_file: &Path, told: &str) -> Seen {
    Seen::error(format!("peers file {}", peers_file.display()), told)
        .fix("correct the file on every node, or what is in the way on this one")
}

pub(super) fn version_skew(snapshot: &Snapshot) -> Answer {
    let all = fabrics(snapshot).into_iter();
    let seen =
        all.filter_map(|(_, fabric)| Some(unread(&fabric.peers_file, fabric.unread.as_ref()?)));
    let exchanged = snapshot.surroundings.exchanged.iter().map(|(path, version)| {
        let evidence = format!(
            "it is another program than the one that noted itself as manx {version}: an agent writes \
             a peers file that manx {version} reads, and older versions may not"
        );
        Seen::warning(format!("plugin {}", path.display()), evidence).fix(format!(
            "{} install --no-conf, or delete the agent's pod: it installs its own version",
            quoted(&path.to_string_lossy())
        ))
    });
    Ok(seen.chain(exchanged).gather())
}

pub(super) fn unread(peers_file: &Path, told: &str) -> Seen {
    Seen::warning(format!("peers file {}", peers_file.display()), told)
        .fix("correct the key where it is mistyped; else install the version of manx that reads it")
}

pub(super) fn route_missing(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for (_, fabric) in compared(snapshot).unwrap_or_default() {
        let missing: Vec<&Told> =
            changes(fabric, &[Kind::Route], &[Action::Create, Action::Replace])
                .filter(|change| !is_of_mtu(change))
                .gather();
        if let Some(first) = missing.first() {
            let objects: Vec<&str> = missing.iter().map(|change| change.object.as_str()).gather();
            let evidence = format!(
                "routes to other nodes that are missing or lead elsewhere: {}: {}; wanted is {}",
                missing.len(),
                some_of(&objects),
                shown(first.after.as_ref()),
            );
            seen.push(Seen::error(first.object.clone(), evidence).fix(APPLY));
        }
    }
    for network in &snapshot.networks {
        let lacks = network
            .repairs
            .iter()
            .filter(|change| matches!(change.kind, Kind::Route | Kind::Address | Kind::Link))
            .filter(|change| change.action != Action::Create || !is_there(change, snapshot));
        seen.push_all(lacks.map(|change| {
            let evidence = format!(
                "a live pod of network {} lacks it: {}",
                network.name,
                shown(change.after.as_ref())
            );
            Seen::error(change.object.clone(), evidence).fix(APPLY)
        }));
    }
    Ok(seen)
}

/// Whether table main has a route that is to be made: then a rule keeps packets from it.
fn is_there(change: &Told, snapshot: &Snapshot) -> bool {
    let destination = change.object.strip_prefix("route ");
    let destination = destination.and_then(|text| text.parse::<IpNetwork>().ok());
    let mut routes = snapshot.kernel.routes.iter().filter(|found| found.route.table == TABLE_MAIN);
    let rules = &snapshot.kernel.rules;
    change.kind == Kind::Route
        && rules.iter().any(|rule| !KERNELS.contains(&rule.priority))
        && destination.is_some_and(|wanted| routes.any(|it| it.route.destination == wanted))
}

/// Whether a route differs by nothing but its MTU. One that is there says its protocol besides.
pub(super) fn is_of_mtu(change: &Told) -> bool {
    let bare = |text: &str| -> Vec<String> {
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).gather();
        for key in ["mtu", "proto"] {
            if let Some(at) = words.iter().position(|word| word == key) {
                words.drain(at..words.len().min(at.saturating_add(2)));
            }
        }
        words
    };
    let pair = change.before.as_deref().zip(change.after.as_deref());
    change.kind == Kind::Route
        && pair.is_some_and(|(before, after)| before != after && bare(before) == bare(after))
}

pub(super) fn route_stale(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for (_, fabric) in compared(snapshot)? {
        // A route to one that the list has is taken away for another reason, which is told.
        let stale = changes(fabric, &[Kind::Route], &[Action::Delete]);
        let stale: Vec<&Told> = stale.filter(|change| !leads_to_peer(change, snapshot)).gather();
        if let Some(first) = stale.first() {
            let objects: Vec<&str> = stale.iter().map(|change| change.object.as_str()).gather();
            let evidence = format!("no peer has these pods any more: {}", some_of(&objects));
            seen.push(Seen::warning(first.object.clone(), evidence).fix(APPLY));
        }
    }
    Ok(seen)
}

/// Whether it is the route to the pods of a node of the list.
fn leads_to_peer(change: &Told, snapshot: &Snapshot) -> bool {
    let destination = change.object.strip_prefix("route ").and_then(|text| text.parse().ok());
    let others = snapshot.compared.fabrics.iter().flat_map(|fabric| &fabric.peers.others);
    let mut cidrs = others.flat_map(|node| &node.pod_cidrs);
    destination.is_some_and(|wanted: IpNetwork| cidrs.any(|cidr| *cidr == wanted))
}

pub(super) fn next_hop_unreachable(snapshot: &Snapshot) -> Answer {
    let mut seen = down(snapshot);
    let kernel = &snapshot.kernel;
    let compared = match compared(snapshot) {
        Err(reason) if seen.is_empty() => return Err(reason),
        compared => compared.unwrap_or_default(),
    };
    for (_, fabric) in compared {
        let by_routes = |link: &Link| {
            kernel.routes.iter().any(|found| {
                found.route.protocol == fabric.protocol && found.devices.contains(&link.index)
            })
        };
        let by_address = |link: &Link| {
            let has = |(index, own): &(u32, IpNetwork)| {
                *index == link.index && fabric.addresses.contains(&own.ip())
            };
            kernel.addresses.iter().any(has)
        };
        let dead = kernel.without_carrier().filter(|link| by_address(link) || by_routes(link));
        seen.push_all(dead.map(|link| {
            let evidence = "packets to other nodes leave by it, and it has no carrier";
            let fix = "look at its cable, at the switch's port, and in a virtual machine at the \
                       network card that it was given";
            Seen::error(format!("link {}", link.name), evidence).fix(fix)
        }));
        let object = || format!("peers file {}", fabric.peers_file.display());
        let fix = "see ip route get ADDRESS, and whether the link towards it is up; correct the file \
                   if that is no address of the node any more";
        let all = fabric.not_ready.iter().chain(&fabric.wanting);
        seen.push_all(all.map(|told| Seen::error(object(), told.clone()).fix(fix)));
    }
    Ok(seen)
}

pub(super) fn remarks(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for (network, fabric) in compared(snapshot)? {
        let object = || format!("network {}", network.name);
        seen.push_all(fabric.notes.iter().map(|note| Seen::info(object(), note.clone())));
    }
    Ok(seen)
}

pub(super) fn neighbour_missing(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for (_, fabric) in compared(snapshot)? {
        let of_kinds = |kinds: &'static [Kind]| -> Vec<&Told> {
            changes(fabric, kinds, &[Action::Create, Action::Replace]).gather()
        };
        // The entries of a device come with the device.
        if let Some(first) = of_kinds(&[Kind::Link]).first() {
            let evidence = format!(
                "the tunnel device is {}, and should be {}",
                first.before.as_deref().unwrap_or("missing"),
                shown(first.after.as_ref())
            );
            seen.push(Seen::error(first.object.clone(), evidence).fix(APPLY));
            continue;
        }
        let missing = of_kinds(&[Kind::Neighbour, Kind::Forwarding, Kind::Address]);
        if let Some(first) = missing.first() {
            let objects: Vec<&str> = missing.iter().map(|change| change.object.as_str()).gather();
            let is_wrong = |change: &&&Told| change.action == Action::Replace;
            let wrong = missing.iter().filter(is_wrong).count();
            let counts = [("missing", missing.len() - wrong), ("other than they should be", wrong)];
            let told = counts.iter().filter(|(_, count)| *count > 0);
            let told: Vec<String> =
                told.map(|(what, count)| format!("entries that are {what}: {count}")).gather();
            let evidence = format!("{}: {}", told.join(", "), some_of(&objects));
            seen.push(Seen::error(first.object.clone(), evidence).fix(APPLY));
        }
    }
    Ok(seen)
}
