//! The difference between what the kernel should have and what it has, as a
//! list of changes. Pure: it is told all that it compares.

use super::{
    change::Change,
    desired::{Desired, Target, Tunnel, TunnelKind, TunnelNeighbour},
    observe::{HeldRoute, Observed},
    settings::Settings,
};

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
    let mut anew = Vec::new();
    let mut foreign = Vec::new();
    for tunnel in &desired.tunnels {
        match observed.tunnels.get(&tunnel.name).filter(|held| !held.ours) {
            Some(held) if mismatch(tunnel, held).is_some() => {
                changes.push(Change::ForeignTunnel(tunnel.clone(), held.description.clone()));
                foreign.push(tunnel.name.as_str());
            }
            _ => tunnel_changes(tunnel, observed, &mut changes, &mut anew),
        }
    }
    let without = (!foreign.is_empty()).then(|| without(desired, &foreign));
    let desired = without.as_ref().unwrap_or(desired);
    entry_changes(desired, observed, &anew, &mut changes);
    route_changes(settings, desired, observed, &anew, &mut changes);
    stale(desired, observed, &anew, &mut changes);
    changes
}

/// What is desired but for all that leads through some devices.
fn without(desired: &Desired, devices: &[&str]) -> Desired {
    let mut rest = desired.clone();
    rest.neighbours.retain(|entry| !devices.contains(&entry.device.as_str()));
    rest.forwarding.retain(|entry| !devices.contains(&entry.device.as_str()));
    rest.routes.retain(|route| match &route.target {
        Target::Node { device, .. } => !devices.contains(&device.as_str()),
        Target::Blackhole => true,
    });
    rest
}

fn tunnel_changes(
    tunnel: &Tunnel,
    observed: &Observed,
    changes: &mut Vec<Change>,
    anew: &mut Vec<String>,
) {
    let name = tunnel.name.clone();
    let add = |changes: &mut Vec<Change>| {
        changes.push(Change::SetUp(name.clone()));
        changes.extend(tunnel.address.map(|address| Change::AddAddress(name.clone(), address)));
    };
    let Some(held) = observed.tunnels.get(&tunnel.name) else {
        changes.push(Change::CreateTunnel(tunnel.clone()));
        anew.push(name.clone());
        return add(changes);
    };
    if let Some(found) = mismatch(tunnel, held) {
        changes.push(Change::ReplaceTunnel(tunnel.clone(), found));
        anew.push(name.clone());
        return add(changes);
    }
    if !held.ours && !held.up && held.addresses.is_empty() {
        changes.push(Change::Claim(name.clone()));
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
        tunnel.address.is_some_and(|own| own.is_ipv4() == address.is_ipv4() && own != **address)
            && !is_link_local(address)
    });
    changes.extend(surplus.map(|address| Change::DeleteAddress(name.clone(), *address)));
}

/// What a device is, if it is not what it should be.
fn mismatch(tunnel: &Tunnel, held: &super::observe::HeldTunnel) -> Option<String> {
    // An IPIP device has nothing that could differ; a device of another kind
    // under this name is not looked into any further than its description.
    let other_kind = tunnel.kind == TunnelKind::Ipip && held.description != "ipip";
    if held.kind == tunnel.kind && !other_kind {
        return None;
    }
    Some(held.description.clone())
}

fn is_link_local(address: &ipnetwork::IpNetwork) -> bool {
    matches!(address.ip(), std::net::IpAddr::V6(ip) if ip.is_unicast_link_local())
}

fn entry_changes(
    desired: &Desired,
    observed: &Observed,
    anew: &[String],
    changes: &mut Vec<Change>,
) {
    // The dumps are turned into sets once, not searched for every peer.
    let neighbours: std::collections::HashSet<_> = observed.neighbours.iter().collect();
    let forwarding: std::collections::HashSet<_> = observed.forwarding.iter().collect();
    for entry in &desired.forwarding {
        if anew.contains(&entry.device) || !forwarding.contains(entry) {
            changes.push(Change::SetForwarding(entry.clone()));
        }
    }
    for entry in &desired.neighbours {
        if anew.contains(&entry.device) || !neighbours.contains(entry) {
            changes.push(Change::SetNeighbour(entry.clone()));
        }
    }
}

fn route_changes(
    settings: &Settings,
    desired: &Desired,
    observed: &Observed,
    anew: &[String],
    changes: &mut Vec<Change>,
) {
    let (same_key, former): (Vec<_>, Vec<_>) =
        observed.routes.iter().partition(|route| route.same_metric);
    let mut held: std::collections::HashMap<_, _> =
        same_key.into_iter().map(|route| (route.destination, route)).collect();
    for wanted in &desired.routes {
        let lost = |found: &HeldRoute| matches!(&found.target, Some(Target::Node { device, .. }) if anew.contains(device));
        match held.remove(&wanted.destination) {
            None => changes.push(Change::CreateRoute(wanted.clone())),
            Some(found) if found.protocol != settings.keys.protocol => {
                changes.push(Change::Conflict(wanted.clone(), found.clone()));
            }
            // The kernel drops a device's routes with the device.
            Some(found) if lost(found) => changes.push(Change::CreateRoute(wanted.clone())),
            Some(found) if found.target.as_ref() != Some(&wanted.target) => {
                changes.push(Change::ReplaceRoute(wanted.clone(), found.clone()));
            }
            Some(_) => {}
        }
    }
    let mut stale: Vec<_> = held
        .into_values()
        .chain(former)
        .filter(|route| route.protocol == settings.keys.protocol && !route.on_host_link)
        .collect();
    stale.sort_by_key(|route| (route.destination, route.same_metric));
    changes.extend(stale.into_iter().cloned().map(Change::DeleteRoute));
}

/// Entries and devices of ours that nothing needs any more.
fn stale(desired: &Desired, observed: &Observed, anew: &[String], changes: &mut Vec<Change>) {
    let wanted: std::collections::HashSet<_> = desired.neighbours.iter().map(key).collect();
    for entry in &observed.neighbours {
        if !anew.contains(&entry.device) && !wanted.contains(&key(entry)) {
            changes.push(Change::DeleteNeighbour(entry.clone()));
        }
    }
    let wanted: std::collections::HashSet<_> =
        desired.forwarding.iter().map(|entry| (&entry.device, entry.mac.0)).collect();
    for entry in &observed.forwarding {
        if !anew.contains(&entry.device) && !wanted.contains(&(&entry.device, entry.mac.0)) {
            changes.push(Change::DeleteForwarding(entry.clone()));
        }
    }
    let kept = |name: &String| desired.tunnels.iter().any(|tunnel| tunnel.name == *name);
    let mut gone: Vec<_> =
        observed.tunnels.iter().filter(|(name, tunnel)| tunnel.ours && !kept(name)).collect();
    gone.sort_by_key(|(name, _)| *name);
    for (name, tunnel) in gone {
        if tunnel.kind == TunnelKind::Ipip {
            let addresses = tunnel.addresses.iter().filter(|address| !is_link_local(address));
            changes.extend(addresses.map(|own| Change::DeleteAddress(name.clone(), *own)));
            changes.push(Change::Release(name.clone()));
        }
        changes.push(Change::DeleteTunnel(name.clone()));
    }
}

fn key(entry: &TunnelNeighbour) -> (&str, std::net::IpAddr) {
    (&entry.device, entry.address)
}
