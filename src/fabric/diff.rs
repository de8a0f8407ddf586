//! The difference between what the kernel should have and what it has, as a
//! list of changes. Pure: it is told all that it compares.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::{
    added::Addition,
    change::Change,
    desired::{Desired, FabricRoute, Target, Tunnel, TunnelKind, TunnelNeighbour},
    held::{HeldRoute, HeldTunnel, Owner},
    observe::Observed,
    settings::Settings,
};
use crate::net::route::Kind;

/// All changes, in the order in which they are to be made: parameters, devices,
/// what their entries need, routes; and then what is to go, in reverse.
pub fn diff(settings: &Settings, desired: &Desired, observed: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
    let advertised = observed.keep_advertised.iter();
    changes.extend(advertised.map(|wanted| Change::Sysctl(wanted.clone(), "1".to_owned())));
    for wanted in &desired.sysctls {
        let now = observed.sysctls.get(&wanted.key).cloned().unwrap_or_default();
        if now != wanted.value {
            changes.push(Change::Sysctl(wanted.clone(), now));
        }
    }
    let mut foreign = Vec::new();
    for tunnel in &desired.tunnels {
        if let Some(held) = observed.tunnels.get(&tunnel.name)
            && (matches!(held.owner, Owner::Fabric(_))
                || held.owner == Owner::Other && !held.kind.is(&tunnel.kind))
        {
            changes.push(Change::ForeignTunnel(tunnel.clone(), held.kind.clone(), held.owner));
            foreign.push(tunnel.name.clone());
        }
    }
    let mut desired = desired.clone();
    leave_out(&mut desired, &foreign);
    fit(&mut desired, observed);
    let mut lost = Vec::new();
    for tunnel in desired.tunnels.iter().filter(|tunnel| !foreign.contains(&tunnel.name)) {
        tunnel_changes(tunnel, &desired, observed, &mut changes, &mut lost);
    }
    forwarding_changes(&desired, observed, &lost, &mut changes);
    neighbour_changes(&desired, observed, &lost, &mut changes);
    route_changes(settings, &desired, observed, &lost, &mut changes);
    stale(&desired, observed, &lost, &mut changes);
    changes
}

/// Leaves out what leads through some devices.
fn leave_out(desired: &mut Desired, devices: &[String]) {
    if devices.is_empty() {
        return;
    }
    desired.neighbours.retain(|entry| !devices.contains(&entry.device));
    desired.forwarding.retain(|entry| !devices.contains(&entry.device));
    desired.routes.retain(|route| match &route.target {
        Target::Node { device, .. } => !devices.contains(device),
        Target::Blackhole => true,
    });
}

/// Another's device keeps its MTU: the routes take that, where it is less.
fn fit(desired: &mut Desired, observed: &Observed) {
    for tunnel in &mut desired.tunnels {
        let Some(held) = guest_on(observed, &tunnel.name).filter(|held| !is_unused(tunnel, held))
        else {
            continue;
        };
        let narrower = held.mtu < tunnel.mtu;
        tunnel.mtu = held.mtu;
        for route in desired.routes.iter_mut().filter(|_| narrower) {
            if let Target::Node { device, mtu: Some(mtu), .. } = &mut route.target
                && *device == tunnel.name
            {
                *mtu = held.mtu;
            }
        }
    }
}

/// Another's device by that name.
fn guest_on<'a>(observed: &'a Observed, name: &str) -> Option<&'a HeldTunnel> {
    observed.tunnels.get(name).filter(|held| held.owner == Owner::Other)
}

/// The IPIP module makes a device in every namespace; one that is down and has
/// no address is nobody's.
fn is_unused(tunnel: &Tunnel, held: &HeldTunnel) -> bool {
    tunnel.kind == TunnelKind::Ipip && !held.up && held.addresses.is_empty()
}

fn tunnel_changes(
    tunnel: &Tunnel,
    desired: &Desired,
    observed: &Observed,
    changes: &mut Vec<Change>,
    lost: &mut Vec<String>,
) {
    let name = tunnel.name.clone();
    let made = |changes: &mut Vec<Change>| {
        changes.push(Change::SetUp(name.clone()));
        changes.extend(tunnel.address.map(|address| Change::AddAddress(name.clone(), address)));
    };
    let Some(held) = observed.tunnels.get(&tunnel.name) else {
        lost.push(name.clone());
        changes.push(match in_the_way(tunnel, desired, observed) {
            Some((former, held)) => {
                lost.push(former.clone());
                Change::ReplaceTunnel(tunnel.clone(), held.kind.clone(), former.clone())
            }
            None => Change::CreateTunnel(tunnel.clone()),
        });
        return made(changes);
    };
    let guest = held.owner == Owner::Other;
    if !guest && !held.kind.is(&tunnel.kind) {
        lost.push(name.clone());
        changes.push(Change::ReplaceTunnel(tunnel.clone(), held.kind.clone(), name.clone()));
        return made(changes);
    }
    if guest && is_unused(tunnel, held) || matches!(held.owner, Owner::Unnamed | Owner::Former) {
        changes.push(Change::Claim(name.clone(), held.owner));
    }
    if held.mtu != tunnel.mtu {
        changes.push(Change::SetMtu(name.clone(), tunnel.mtu, held.mtu));
    }
    if !held.up {
        changes.push(Change::SetUp(name.clone()));
    }
    if let Some(address) = tunnel.address.filter(|address| !held.addresses.contains(address)) {
        changes.push(Change::AddAddress(name.clone(), address));
    }
    let surplus = held.addresses.iter().filter(|address| {
        let same_family = tunnel.address.is_some_and(|own| own.is_ipv4() == address.is_ipv4());
        let ours = !guest || observed.past.added.has(Addition::Address(&name, **address));
        same_family && ours && tunnel.address != Some(**address) && !is_link_local(address)
    });
    changes.extend(surplus.map(|address| Change::DeleteAddress(name.clone(), *address)));
}

/// A device of ours under a name that is not wanted any more, beside which the
/// kernel does not take the new one.
fn in_the_way<'a>(
    tunnel: &Tunnel,
    desired: &Desired,
    observed: &'a Observed,
) -> Option<(&'a String, &'a HeldTunnel)> {
    observed.tunnels.iter().find(|(name, held)| {
        held.owner.is_ours()
            && held.kind.excludes(&tunnel.kind)
            && !desired.tunnels.iter().any(|other| other.name == **name)
    })
}

fn is_link_local(address: &IpNetwork) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn forwarding_changes(
    desired: &Desired,
    observed: &Observed,
    lost: &[String],
    changes: &mut Vec<Change>,
) {
    // The dumps are turned into maps once, not searched for every peer.
    let held: HashMap<_, _> =
        observed.forwarding.iter().map(|entry| ((&entry.device, entry.mac), entry)).collect();
    for entry in &desired.forwarding {
        let now = held.get(&(&entry.device, entry.mac)).filter(|_| !lost.contains(&entry.device));
        match now {
            Some(now) if *now == entry => {}
            Some(now) if !is_ours(observed, &entry.device, Addition::Forwarding(now)) => {
                changes.push(Change::ForeignForwarding(entry.clone(), (*now).clone()));
            }
            _ => changes.push(Change::SetForwarding(entry.clone())),
        }
    }
}

fn neighbour_changes(
    desired: &Desired,
    observed: &Observed,
    lost: &[String],
    changes: &mut Vec<Change>,
) {
    let held: HashMap<_, _> = observed.neighbours.iter().map(|entry| (key(entry), entry)).collect();
    for entry in &desired.neighbours {
        let now = held.get(&key(entry)).filter(|_| !lost.contains(&entry.device));
        match now {
            Some(now) if *now == entry => {}
            Some(now) if !is_ours(observed, &entry.device, Addition::Neighbour(now)) => {
                changes.push(Change::ForeignNeighbour(entry.clone(), (*now).clone()));
            }
            _ => changes.push(Change::SetNeighbour(entry.clone())),
        }
    }
}

/// Whether an entry is ours to change: all on a device of ours, and on another's
/// what we have added.
fn is_ours(observed: &Observed, device: &str, addition: Addition<'_>) -> bool {
    match observed.tunnels.get(device).map(|held| held.owner) {
        Some(Owner::Ours | Owner::Unnamed | Owner::Former) => true,
        Some(Owner::Other) => observed.past.added.has(addition),
        Some(Owner::Fabric(_)) | None => false,
    }
}

fn route_changes(
    settings: &Settings,
    desired: &Desired,
    observed: &Observed,
    lost: &[String],
    changes: &mut Vec<Change>,
) {
    let mut stale: Vec<&HeldRoute> = Vec::new();
    let mut held = by_destination(observed, &mut stale);
    for wanted in &desired.routes {
        // The kernel drops a device's routes with the device.
        let mut routes = held.remove(&wanted.destination).unwrap_or_default();
        routes.retain(|route| !is_lost(route, lost));
        let metric = settings.metric(&wanted.target, wanted.destination.is_ipv6());
        let (same_key, others): (Vec<_>, Vec<_>) =
            routes.into_iter().partition(|route| route.metric == metric);
        let before = others.iter().copied().find(|route| !route.ours && route.metric < metric);
        let served = before.is_some_and(|route| serves(route, wanted, observed));
        if let Some(before) = before.filter(|_| !served) {
            changes.push(Change::Conflict(wanted.clone(), before.clone()));
        }
        // Where we have one it stays: it takes over when the other one goes.
        let have_one = same_key.iter().chain(&others).any(|route| route.ours);
        stale.extend(others);
        if served && !have_one {
            continue;
        }
        let told = before.is_some();
        let whose = (settings.keys.protocol, observed);
        stale.extend(changes_to(wanted, &same_key, whose, changes, told));
    }
    stale.extend(held.into_values().flatten().filter(|route| !is_lost(route, lost)));
    stale.retain(|route| route.ours && !route.on_host_link);
    stale.sort_by_key(|route| (route.destination, route.metric));
    changes.extend(stale.into_iter().cloned().map(Change::DeleteRoute));
}

/// The routes to each destination, as the kernel would choose among them: by their
/// metrics, and of several with one key the one that it lists first, which is also
/// the one that it replaces. Those for one type of service are `apart`.
fn by_destination<'a>(
    observed: &'a Observed,
    apart: &mut Vec<&'a HeldRoute>,
) -> HashMap<IpNetwork, Vec<&'a HeldRoute>> {
    let mut held: HashMap<IpNetwork, Vec<&HeldRoute>> = HashMap::new();
    for route in &observed.routes {
        match route.found.route.tos {
            0 => held.entry(route.destination).or_default().push(route),
            _ => apart.push(route),
        }
    }
    for routes in held.values_mut() {
        routes.sort_by_key(|route| route.metric);
    }
    held
}

fn is_lost(route: &HeldRoute, lost: &[String]) -> bool {
    matches!(&route.target, Some(Target::Node { device, .. }) if lost.contains(device))
}

/// What makes the first of several routes of one key the wanted one; one of
/// somebody else is a conflict, unless one before it was `told`. Returns those
/// that nobody needs then.
fn changes_to<'a>(
    wanted: &FabricRoute,
    routes: &[&'a HeldRoute],
    (protocol, observed): (u8, &Observed),
    changes: &mut Vec<Change>,
    told: bool,
) -> Vec<&'a HeldRoute> {
    let Some((first, _)) = routes.split_first() else {
        changes.push(Change::CreateRoute(wanted.clone()));
        return Vec::new();
    };
    let is_wanted = |route: &HeldRoute| {
        route.protocol == protocol && route.target.as_ref() == Some(&wanted.target)
    };
    let mut kept = routes.iter().position(|route| is_wanted(route));
    if serves(first, wanted, observed) {
        // A node moves over with its pods running.
    } else if !first.ours {
        let conflict = || Change::Conflict(wanted.clone(), (*first).clone());
        changes.extend((!told).then(conflict));
    } else if kept.is_none() {
        changes.push(Change::ReplaceRoute(wanted.clone(), (*first).clone()));
        kept = Some(0);
    }
    // The kernel refuses to put a route in another's place that it has already:
    // there it is enough to remove those in front of it.
    let surplus = routes.iter().enumerate().filter(|(place, _)| Some(*place) != kept);
    surplus.map(|(_, route)| *route).collect()
}

/// The protocol of the routes that come with an address (RTPROT_KERNEL,
/// linux/rtnetlink.h).
const OF_AN_ADDRESS: u8 = 2;

/// Whether another's route does what the wanted one would: it leads to the same
/// next hop, or is the node's own network on a link of the node.
fn serves(held: &HeldRoute, wanted: &FabricRoute, observed: &Observed) -> bool {
    let (route, through) = (&held.found.route, held.found.device());
    if held.ours || through.is_none() && route.kind == Kind::Unicast {
        return false;
    }
    match (&wanted.target, route.kind) {
        (Target::Blackhole, Kind::Blackhole) => true,
        (Target::Blackhole, Kind::Unicast) => {
            route.gateway.is_none() && held.protocol == OF_AN_ADDRESS
        }
        (Target::Node { gateway, device, .. }, Kind::Unicast) => {
            route.gateway == Some(*gateway) && through == observed.indexes.get(device).copied()
        }
        _ => false,
    }
}

/// The routes of others that serve in place of ours, where we have none.
pub fn lent<'a>(
    settings: &Settings,
    desired: &Desired,
    observed: &'a Observed,
) -> Vec<&'a HeldRoute> {
    let held = by_destination(observed, &mut Vec::new());
    let of = |wanted: &FabricRoute| {
        let metric = settings.metric(&wanted.target, wanted.destination.is_ipv6());
        let mut routes = held.get(&wanted.destination)?.iter().copied();
        if routes.clone().any(|route| route.ours && route.metric == metric) {
            return None;
        }
        let first = routes.find(|route| !route.ours && route.metric <= metric)?;
        serves(first, wanted, observed).then_some(first)
    };
    desired.routes.iter().filter_map(of).collect()
}

/// Entries and devices of ours that nothing needs any more.
fn stale(desired: &Desired, observed: &Observed, lost: &[String], changes: &mut Vec<Change>) {
    let wanted: HashSet<_> = desired.neighbours.iter().map(key).collect();
    for entry in &observed.neighbours {
        let ours = is_ours(observed, &entry.device, Addition::Neighbour(entry));
        if ours && !lost.contains(&entry.device) && !wanted.contains(&key(entry)) {
            changes.push(Change::DeleteNeighbour(entry.clone()));
        }
    }
    let wanted: HashSet<_> =
        desired.forwarding.iter().map(|entry| (&entry.device, entry.mac)).collect();
    for entry in &observed.forwarding {
        let ours = is_ours(observed, &entry.device, Addition::Forwarding(entry));
        if ours && !lost.contains(&entry.device) && !wanted.contains(&(&entry.device, entry.mac)) {
            changes.push(Change::DeleteForwarding(entry.clone()));
        }
    }
    let gone = |name: &String| {
        !lost.contains(name) && !desired.tunnels.iter().any(|tunnel| tunnel.name == *name)
    };
    let mut gone: Vec<_> = observed.tunnels.iter().filter(|(name, _)| gone(name)).collect();
    gone.sort_by_key(|(name, _)| *name);
    for (name, tunnel) in gone {
        tunnel_goes(name, tunnel, observed, changes);
    }
}

fn tunnel_goes(name: &str, tunnel: &HeldTunnel, observed: &Observed, changes: &mut Vec<Change>) {
    let name = name.to_owned();
    let added = |address: &&IpNetwork| observed.past.added.has(Addition::Address(&name, **address));
    let addresses = tunnel.addresses.iter().filter(|address| !is_link_local(address));
    let delete = |address: &IpNetwork| Change::DeleteAddress(name.clone(), *address);
    match tunnel.owner {
        Owner::Other => changes.extend(addresses.filter(added).map(delete)),
        Owner::Ours | Owner::Unnamed | Owner::Former if tunnel.kind.is(&TunnelKind::Ipip) => {
            changes.extend(addresses.map(delete));
            changes.push(Change::Release(name.clone()));
            changes.push(Change::DeleteTunnel(name));
        }
        Owner::Ours | Owner::Unnamed | Owner::Former => changes.push(Change::DeleteTunnel(name)),
        Owner::Fabric(_) => {}
    }
}

fn key(entry: &TunnelNeighbour) -> (&str, IpAddr) {
    (&entry.device, entry.address)
}

#[cfg(test)]
mod tests;
