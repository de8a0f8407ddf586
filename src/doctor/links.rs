// SPDX-License-Identifier: Apache-2.0
//! Checks of links and of the kernel's parameters.

use std::collections::{BTreeMap, HashSet};

use super::{Answer, Seen, devices::devices, fabric::is_of_mtu};
use crate::{
    family::{Family, HasFamily},
    list::{Gather, PushAll},
    net::{
        devconf, forwarding,
        link::Link,
        route::{PROTOCOL_RA, TABLE_MAIN},
    },
    node::{Network, Snapshot},
    object::{Action, Kind, Told, reverse_path},
    pod::identity::HostLinks,
    state::Entry,
    text::{few::some_of, shell::quoted},
};

/// How full a table of connections may be before it is a finding, in per cent.
const CONNECTIONS_HIGH: u64 = 80;
const CONNECTIONS_FULL: u64 = 95;

/// Whether a network has pods of a family, as far as can be told.
pub(super) fn serves(family: Family, network: &Network, snapshot: &Snapshot) -> bool {
    let ranges = network.pool.iter().flat_map(|pool| &pool.ranges).map(|range| range.first);
    let own = network.fabric.iter().flat_map(|fabric| &fabric.own_cidrs).map(|cidr| cidr.ip());
    let live = attachments(network, snapshot).flat_map(|entry| entry.addresses.iter().copied());
    ranges.chain(own).chain(live).any(|ip| ip.family() == family)
}

fn attachments<'a>(
    network: &'a Network,
    snapshot: &'a Snapshot,
) -> impl Iterator<Item = &'a Entry> {
    snapshot.journal.iter().filter(move |entry| entry.network == network.name)
}

/// The attachments of a network with the host links whose MTU is ours: what is behind the
/// bridge of another plugin was made by that.
fn with_links<'a>(
    network: &'a Network,
    snapshot: &'a Snapshot,
    links: &HostLinks<'a>,
) -> impl Iterator<Item = (&'a Entry, &'a Link)> {
    let own = attachments(network, snapshot).filter(|entry| !entry.bridged);
    own.filter_map(|entry| Some((entry, links.of(entry)?)))
}

/// A link drops what it would not send back by, and while a mode changes each node has
/// packets of others by a way that its own do not take. The greater value counts.
pub(super) fn rp_filter(snapshot: &Snapshot) -> Answer {
    let kernel = &snapshot.kernel;
    let value = |link: &str| kernel.number(&reverse_path(link)).unwrap_or_default();
    let mut seen: Vec<Seen> = Vec::new();
    for fabric in snapshot.networks.iter().filter_map(|network| network.fabric.as_ref()) {
        let addresses = kernel.addresses.iter();
        let own =
            addresses.filter(|(_, own)| own.is_ipv4() && fabric.addresses.contains(&own.ip()));
        for link in own.filter_map(|(index, _)| kernel.link(*index)) {
            let name = link.name.as_str();
            let object = format!("sysctl {}", reverse_path(name).replace('/', "."));
            let is_told = seen.iter().any(|one| one.object == object);
            if is_told || value("all").max(value(name)) != 1 {
                continue;
            }
            let (before, is_all) = (value(name), value(name) == 0);
            let whose = if is_all { "all links filter" } else { "it filters" };
            let of = if fabric.accepts.is_some() { Seen::warning } else { Seen::info };
            let evidence = match &fabric.accepts {
                Some(mode) => format!(
                    "{whose} strictly (rp_filter 1), and {mode} is accepted besides: packets of \
                     nodes that have changed their mode and of those that have not yet come by a way \
                     that is not the way back, and are dropped"
                ),
                None => format!(
                    "{whose} strictly (rp_filter 1): packets are dropped when the fabric changes its \
                     mode, while some nodes have changed theirs and others have not"
                ),
            };
            seen.push(
                of(object, evidence)
                    .fix(format!("sysctl -w {}=2", quoted(&reverse_path(name))))
                    .undo(format!("sysctl -w {}={before}", quoted(&reverse_path(name)))),
            );
        }
    }
    Ok(seen)
}

pub(super) fn accept_ra(snapshot: &Snapshot) -> Answer {
    let kernel = &snapshot.kernel;
    if kernel.sysctls.get(forwarding::IPV6).map(String::as_str) != Some("1") {
        return Ok(Vec::new());
    }
    let mut seen: Vec<Seen> = Vec::new();
    let advertised = kernel
        .routes
        .iter()
        .filter(|found| found.route.protocol == PROTOCOL_RA && found.route.table == TABLE_MAIN);
    for name in advertised.flat_map(|found| kernel.devices(found)) {
        let key = format!("net/ipv6/conf/{name}/accept_ra");
        let object = format!("sysctl {}", key.replace('/', "."));
        let value = kernel.sysctls.get(&key).map(String::as_str);
        if value != Some("1") && value != Some("0") || seen.iter().any(|one| one.object == object) {
            continue;
        }
        let value = value.unwrap_or_default();
        let evidence = format!("{name} has a route by router advertisement, and accept_ra {value}");
        let of = if value == "1" { Seen::error } else { Seen::info };
        seen.push(
            of(object, evidence)
                .fix(format!("sysctl -w {}=2", quoted(&key)))
                .undo(format!("sysctl -w {}={value}", quoted(&key))),
        );
    }
    Ok(seen)
}

pub(super) fn sysctl_drift(snapshot: &Snapshot) -> Answer {
    let planned = snapshot.networks.iter().flat_map(|network| {
        network.fabric.iter().flat_map(|fabric| &fabric.changes).chain(&network.repairs)
    });
    let mut seen: Vec<Seen> = Vec::new();
    let mut objects = HashSet::new();
    // Those are of ip-forward.
    let forward: HashSet<String> =
        devices(snapshot).into_iter().map(|(link, _)| devconf::forwarding(&link.name)).collect();
    for change in planned.filter(|change| change.kind == Kind::Sysctl) {
        let key = change.object.strip_prefix("sysctl ").unwrap_or(&change.object);
        let is_told = [forwarding::IPV4, forwarding::IPV6].contains(&key) || forward.contains(key);
        if is_told || !objects.insert(&change.object) {
            continue;
        }
        let (before, after) = (change.before.as_deref(), change.after.as_deref());
        let evidence = match before {
            Some(before) => format!("it is {before}, and should be {}", after.unwrap_or_default()),
            None => format!("it is not {}", after.unwrap_or_default()),
        };
        seen.push(Seen::warning(change.object.clone(), evidence).fix("manx apply"));
    }
    Ok(seen)
}

pub(super) fn conntrack_full(snapshot: &Snapshot) -> Answer {
    let number = |name: &str| snapshot.kernel.number(&format!("net/netfilter/{name}"));
    let (Some(count), Some(max)) = (number("nf_conntrack_count"), number("nf_conntrack_max"))
    else {
        return Err("the kernel keeps no table of connections here".to_owned());
    };
    let percent = count.saturating_mul(100).checked_div(max).unwrap_or_default();
    if percent < CONNECTIONS_HIGH {
        return Ok(Vec::new());
    }
    let evidence = format!("{count} of {max} entries are in use, {percent} %");
    let of = if percent >= CONNECTIONS_FULL { Seen::error } else { Seen::warning };
    Ok(vec![
        of("sysctl net.netfilter.nf_conntrack_max", evidence)
            .fix(format!("sysctl -w net.netfilter.nf_conntrack_max={}", max.saturating_mul(2)))
            .undo(format!("sysctl -w net.netfilter.nf_conntrack_max={max}")),
    ])
}

/// The MTU that a pod like this one should have.
fn fitting(network: &Network, entry: &Entry) -> Option<u32> {
    [network.configured_mtu, network.mtu_of(&entry.addresses)].into_iter().flatten().min()
}

fn named(entry: &Entry) -> String {
    entry.pod().unwrap_or_else(|| entry.container_id.clone())
}

pub(super) fn mtu_too_large(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    let links = HostLinks::new(&snapshot.kernel.links);
    for network in &snapshot.networks {
        let ipv6 = serves(Family::V6, network, snapshot);
        let limit = network.mtu.map(|(without, with)| if ipv6 { with } else { without });
        if let (Some(limit), Some(mtu)) = (limit, network.configured_mtu)
            && mtu > limit
        {
            let evidence = format!("mtu {mtu} is configured, and the node's links carry {limit}");
            seen.push(
                Seen::error(format!("network {}", network.name), evidence)
                    .fix(format!("set mtu to {limit} or leave it out, then recreate the pods")),
            );
            continue;
        }
        let live = with_links(network, snapshot, &links);
        seen.push_all(wide_pods(network, live.map(|(entry, link)| (entry, link.mtu))));
    }
    Ok(seen)
}

/// Those of a network's pods whose MTU the node's links do not carry any more.
pub(super) fn wide_pods<'a>(
    network: &Network,
    pods: impl IntoIterator<Item = (&'a Entry, u32)>,
) -> Vec<Seen> {
    let mut by_mtu: BTreeMap<(u32, u32), Vec<String>> = BTreeMap::new();
    for (entry, mtu) in pods {
        if let Some(limit) = network.mtu_of(&entry.addresses).filter(|limit| mtu > *limit) {
            by_mtu.entry((mtu, limit)).or_default().push(named(entry));
        }
    }
    let told = |((mtu, limit), pods): ((u32, u32), Vec<String>)| {
        let evidence = format!(
            "MTU {mtu} of {} is above {limit}, which is what the node's links carry by now",
            some_of(&pods)
        );
        Seen::error(format!("network {}", network.name), evidence)
            .fix("recreate these pods, or raise the MTU of the node's link again")
    };
    by_mtu.into_iter().map(told).gather()
}

pub(super) fn mtu_mismatch(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    let links = HostLinks::new(&snapshot.kernel.links);
    for network in &snapshot.networks {
        let changes = network.fabric.iter().flat_map(|fabric| &fabric.changes);
        for change in changes.filter(|one| one.kind == Kind::Mtu && one.action != Action::Conflict)
        {
            let evidence = format!(
                "it has {}, and should have {}",
                change.before.as_deref().unwrap_or("none"),
                change.after.as_deref().unwrap_or("none")
            );
            seen.push(Seen::error(change.object.clone(), evidence).fix("manx apply"));
        }
        let of_routes = network.fabric.iter().flat_map(|fabric| &fabric.changes);
        let of_routes: Vec<&Told> =
            of_routes.filter(|it| it.action == Action::Replace && is_of_mtu(it)).gather();
        if let Some(first) = of_routes.first() {
            let evidence = format!(
                "routes to other nodes with another MTU than they should have: {}: it is {}, and \
                 should be {}",
                of_routes.len(),
                first.before.as_deref().unwrap_or_default(),
                first.after.as_deref().unwrap_or_default()
            );
            seen.push(Seen::error(first.object.clone(), evidence).fix("manx apply"));
        }
        let mut smaller: Vec<String> = Vec::new();
        for (entry, link) in with_links(network, snapshot, &links) {
            // Packets to the pod are cut at the host's end.
            if link.mtu < entry.mtu {
                let evidence = format!(
                    "{} has MTU {}, and the pod's end was made with {}",
                    link.name, link.mtu, entry.mtu
                );
                let name = quoted(&link.name);
                seen.push(
                    Seen::warning(format!("link {}", link.name), evidence)
                        .fix(format!("ip link set {name} mtu {}", entry.mtu))
                        .undo(format!("ip link set {name} mtu {}", link.mtu)),
                );
            } else if fitting(network, entry).is_some_and(|mtu| link.mtu < mtu) {
                smaller.push(named(entry));
            }
        }
        if !smaller.is_empty() {
            let evidence = format!(
                "{} of network {} have a smaller MTU than new pods get",
                some_of(&smaller),
                network.name
            );
            let object = format!("network {}", network.name);
            seen.push(Seen::info(object, evidence).fix("recreate these pods, when it suits"));
        }
    }
    Ok(seen)
}
