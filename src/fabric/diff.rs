//! The difference between what the kernel should have and what it has, as a
//! list of changes. Pure: it is told all that it compares.

use std::{
    cell::LazyCell,
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::{
    added::Addition,
    change::Change,
    desired::{Desired, FabricRoute, Target, Tunnel, TunnelKind},
    held::{HeldRoute, HeldTunnel, Owner},
    observe::Observed,
};
use crate::{
    net::route::{self, PROTOCOL_KERNEL},
    object::{
        Action, Forwarding, Neighbour,
        diff::{self, Object, Step},
    },
};

/// All changes, in the order in which they are to be made: parameters, devices,
/// what their entries need, routes; and then what is to go, in reverse.
pub fn diff(desired: &Desired, observed: &Observed) -> Vec<Change> {
    let mut changes = Vec::new();
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
    // The kernel drops a device's entries and routes with the device.
    let stays = |device: &String| !lost.contains(device);
    let held = observed.forwarding.iter().filter(|held| stays(&held.object.device));
    let forwarding = diff::diff(&desired.forwarding, held);
    let held = observed.neighbours.iter().filter(|held| stays(&held.object.device));
    let neighbours = diff::diff(&desired.neighbours, held);
    let is_lost = |held: &HeldRoute| held.device.as_ref().is_some_and(|name| lost.contains(name));
    let held: Vec<&HeldRoute> = observed.routes.iter().filter(|held| !is_lost(held)).collect();
    let (set_forwarding, drop_forwarding) = split(forwarding.iter().map(of_forwarding));
    let (set_neighbours, drop_neighbours) = split(neighbours.iter().map(of_neighbour));
    changes.extend(set_forwarding);
    changes.extend(set_neighbours);
    changes.extend(route_changes(&desired, &held));
    let told = observed.diversions.iter().filter(|told| desired.routes.contains(&told.wanted));
    changes.extend(told.cloned().map(Change::Diverted));
    changes.extend(drop_neighbours);
    changes.extend(drop_forwarding);
    stale(&desired, observed, &lost, &mut changes);
    changes
}

/// The device of somebody else beside which the kernel takes no such tunnel, where that
/// is still to be made, or to be brought up: in words.
pub fn rival(tunnel: &Tunnel, observed: &Observed) -> Option<String> {
    let held = observed.tunnels.get(&tunnel.name);
    if held.is_some_and(|held| held.up && held.kind.is(&tunnel.kind)) {
        return None;
    }
    let excludes =
        |(_, rival): &(&String, &HeldTunnel)| rival.kind.excludes(&tunnel.kind, rival.up);
    let (name, rival) = observed.rivals.iter().filter(excludes).min_by_key(|(name, _)| *name)?;
    Some(format!(
        "{name} ({}) is in the way: remove it, or give the fabric another vxlan.vni or \
         vxlan.port, on every node",
        rival.kind
    ))
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
        let surplus = same_family && tunnel.address != Some(**address) && !is_link_local(address);
        ours && (surplus || tunnel.taken == Some(**address))
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
            && held.kind.excludes(&tunnel.kind, held.up)
            && !desired.tunnels.iter().any(|other| other.name == **name)
    })
}

fn is_link_local(address: &IpNetwork) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// What is to be made, and what is to go.
fn split(changes: impl Iterator<Item = Change>) -> (Vec<Change>, Vec<Change>) {
    changes.partition(|change| change.action() != Action::Delete)
}

fn of_forwarding(step: &Step<'_, Forwarding>) -> Change {
    match step {
        Step::Create(wanted) | Step::Replace(wanted, _) => Change::SetForwarding((*wanted).clone()),
        Step::Foreign(wanted, held) => {
            Change::ForeignForwarding((*wanted).clone(), held.object.clone())
        }
        Step::Delete(held) => Change::DeleteForwarding(held.object.clone()),
    }
}

fn of_neighbour(step: &Step<'_, Neighbour>) -> Change {
    match step {
        Step::Create(wanted) | Step::Replace(wanted, _) => Change::SetNeighbour((*wanted).clone()),
        Step::Foreign(wanted, held) => {
            Change::ForeignNeighbour((*wanted).clone(), held.object.clone())
        }
        Step::Delete(held) => Change::DeleteNeighbour(held.object.clone()),
    }
}

fn of_route(step: &Step<'_, FabricRoute>) -> Change {
    match step {
        Step::Create(wanted) => Change::CreateRoute((*wanted).clone()),
        Step::Replace(wanted, held) => Change::ReplaceRoute((*wanted).clone(), (*held).clone()),
        Step::Foreign(wanted, held) => Change::Conflict((*wanted).clone(), (*held).clone()),
        Step::Delete(held) => Change::DeleteRoute((*held).clone()),
    }
}

/// Routes of one key are compared as objects are. Besides, one of somebody else with a
/// lower metric decides where packets go, whatever ours says: it is in the way, or does
/// as well.
fn route_changes(desired: &Desired, held: &[&HeldRoute]) -> Vec<Change> {
    let best = best_of_others(held);
    let before = |wanted: &FabricRoute| {
        best.get(&wanted.destination).copied().filter(|other| other.metric < wanted.metric)
    };
    let serves = |wanted: &FabricRoute| before(wanted).is_some_and(|one| wanted.is_served_by(one));
    // Rarely asked for.
    let ours = LazyCell::new(|| {
        let ours = held.iter().filter(|held| held.ours).map(|held| held.destination);
        ours.collect::<HashSet<IpNetwork>>()
    });
    let has_one = |wanted: &FabricRoute| ours.contains(&wanted.destination);
    let in_the_way = desired.routes.iter().filter(|wanted| !serves(wanted));
    let in_the_way = in_the_way.filter_map(|wanted| Some((wanted, before(wanted)?)));
    let mut changes: Vec<Change> =
        in_the_way.map(|(wanted, other)| Change::Conflict(wanted.clone(), other.clone())).collect();
    // Where we have one it stays: it takes over when the other one goes.
    let needed = desired.routes.iter().filter(|wanted| !serves(wanted) || has_one(wanted));
    let mut steps = diff::diff(needed, held.iter().copied());
    steps.retain(|step| match step {
        Step::Foreign(wanted, _) => before(wanted).is_none(),
        Step::Delete(held) => !held.on_host_link,
        Step::Create(_) | Step::Replace(..) => true,
    });
    // In an order that does not depend on the kernel's list.
    steps.sort_by_key(|step| match step {
        Step::Delete(held) => Some((held.destination, held.metric)),
        _ => None,
    });
    changes.extend(steps.iter().map(of_route));
    changes
}

/// The route to each destination that the kernel takes of those of others: the one of
/// the lowest metric, and of several such the first in its list.
fn best_of_others<'a>(held: &[&'a HeldRoute]) -> HashMap<IpNetwork, &'a HeldRoute> {
    let mut best: HashMap<IpNetwork, &HeldRoute> = HashMap::new();
    for one in held.iter().filter(|held| !held.ours && held.found.route.tos == 0) {
        let known = best.entry(one.destination).or_insert(one);
        if one.metric < known.metric {
            *known = one;
        }
    }
    best
}

impl Object for FabricRoute {
    type Held = HeldRoute;
    type Key<'a> = (IpNetwork, u32);

    fn key(&self) -> (IpNetwork, u32) {
        (self.destination, self.metric)
    }

    /// Without a type of service, as all of ours are.
    fn key_of(held: &HeldRoute) -> Option<(IpNetwork, u32)> {
        (held.found.route.tos == 0).then_some((held.destination, held.metric))
    }

    fn is_ours(held: &HeldRoute) -> bool {
        held.ours
    }

    fn is(&self, held: &HeldRoute) -> bool {
        held.protocol == self.protocol && held.target.as_ref() == Some(&self.target)
    }

    /// It leads to the same next hop, or is the node's own network on a link of the node.
    fn is_served_by(&self, held: &HeldRoute) -> bool {
        let route = &held.found.route;
        if held.ours || held.device.is_none() && route.kind == route::Kind::Unicast {
            return false;
        }
        match (&self.target, route.kind) {
            (Target::Blackhole, route::Kind::Blackhole) => true,
            (Target::Blackhole, route::Kind::Unicast) => {
                route.gateway.is_none() && held.protocol == PROTOCOL_KERNEL
            }
            (Target::Node { gateway, device, .. }, route::Kind::Unicast) => {
                route.gateway == Some(*gateway) && held.device.as_ref() == Some(device)
            }
            _ => false,
        }
    }
}

/// The routes of others that serve in place of ours, where we have none.
pub fn lent<'a>(desired: &Desired, observed: &'a Observed) -> Vec<&'a HeldRoute> {
    let held: Vec<&HeldRoute> = observed.routes.iter().collect();
    let best = best_of_others(&held);
    let ours = LazyCell::new(|| {
        let ours = held.iter().filter(|held| held.ours);
        ours.filter_map(|held| FabricRoute::key_of(held)).collect::<HashSet<_>>()
    });
    let of = |wanted: &FabricRoute| {
        let one = best.get(&wanted.destination).copied();
        let one = one.filter(|one| one.metric <= wanted.metric && wanted.is_served_by(one))?;
        (!ours.contains(&wanted.key())).then_some(one)
    };
    desired.routes.iter().filter_map(of).collect()
}

/// Devices of ours that nothing needs any more.
fn stale(desired: &Desired, observed: &Observed, lost: &[String], changes: &mut Vec<Change>) {
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

#[cfg(test)]
mod tests;
