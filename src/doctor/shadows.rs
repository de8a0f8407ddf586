// SPDX-License-Identifier: Apache-2.0
//! Routes of others that come before the fabric's.

use std::fmt::Write;

use ipnetwork::IpNetwork;

use super::{
    Answer, Seen,
    cidrs::Cidrs,
    fabric::{changes, compared, in_the_way},
};
use crate::{
    family::HasFamily,
    net::route::{self, Details, Found, SCOPE_LINK, TABLE_MAIN},
    node::{Fabric, Snapshot},
    object::{Action, Kind},
    text::shell::quoted,
};

pub(super) fn route_shadowed(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for (_, fabric) in compared(snapshot)? {
        for change in changes(fabric, &[Kind::Route], &[Action::Conflict]) {
            let fix = "remove that route, or take the destination out of the peers file";
            seen.push(Seen::error(change.object.clone(), in_the_way(change)).fix(fix));
        }
        let reported = |found: &Found| {
            let object = format!("route {}", found.route.destination);
            changes(fabric, &[Kind::Route], &[Action::Conflict]).any(|one| one.object == object)
        };
        let cidrs = Cidrs::new(&fabric.remote_cidrs);
        for found in &snapshot.kernel.routes {
            let shadowed = shadowed(found, fabric, &cidrs, snapshot);
            let Some(cidr) = shadowed.filter(|_| !reported(found)) else { continue };
            let protocol = found.route.protocol;
            let Ways { told, del, add } = ways(found, snapshot);
            let evidence =
                format!("{told} proto {protocol} comes before the fabric's route to {cidr}");
            let object = format!("route {}", found.route.destination);
            let note = match add {
                Some(_) => "",
                None => {
                    "note what ip -d route shows of it first, which is more than is told here; "
                }
            };
            let fix = format!(
                "ip route del {del} proto {protocol} # {note}where nobody needs it; else take {} out \
                 of the peers file",
                found.route.destination
            );
            let undo = add.map_or_else(String::new, |add| format!("ip route add {add}"));
            seen.push(Seen::error(object, evidence).fix(fix).undo(undo));
        }
    }
    Ok(seen)
}

/// A route in words, and as ip(8) takes it.
#[derive(Debug)]
struct Ways {
    told: String,
    del: String,
    /// None where it could not be made again as it was.
    add: Option<String>,
}

fn ways(found: &Found, snapshot: &Snapshot) -> Ways {
    let route = &found.route;
    let devices = snapshot.kernel.devices(found);
    let told = match devices[..] {
        [] => route.to_string(),
        _ => format!("{route} dev {}", devices.join(", ")),
    };
    let object = found.details.as_ref().and_then(|details| details.object);
    let del = match (object, &devices[..]) {
        // What it leads through is the object's affair, and names no route.
        (Some(object), _) => format!("{} nhid {object}", bare(found)),
        (None, [device]) => format!("{route} dev {}", quoted(device)),
        // One of several paths is named by all of them or by none.
        (None, _) => route.to_string(),
    };
    Ways { told, del, add: add(found, &devices) }
}

/// A route without its paths.
fn bare(found: &Found) -> route::Route {
    route::Route { gateway: None, ..found.route.clone() }
}

/// All of a route, for `ip route add`.
fn add(found: &Found, devices: &[&str]) -> Option<String> {
    let route = &found.route;
    let details = found.details.as_deref().cloned().unwrap_or_default();
    // One that ends by itself would stay.
    if found.expires || devices.len() != found.devices.len() {
        return None;
    }
    let onlink = if route.onlink { " onlink" } else { "" };
    let via = |gateway: &std::net::IpAddr| {
        let family = if gateway.family() == route.destination.family() { "" } else { "inet6 " };
        format!(" via {family}{gateway}")
    };
    let mut text = bare(found).to_string();
    let mut paths = String::new();
    match (details.object, devices) {
        (Some(object), _) => text += &format!(" nhid {object}"),
        (None, []) => {}
        (None, [device]) => {
            text += &found.gateways.first().map(via).unwrap_or_default();
            _ = write!(text, " dev {}{onlink}", quoted(device));
        }
        (None, _) if found.gateways.len() != devices.len() => return None,
        (None, _) => {
            for (place, (gateway, device)) in found.gateways.iter().zip(devices).enumerate() {
                let weight = details.weights.get(place).copied().unwrap_or(1);
                _ = write!(
                    paths,
                    " nexthop{} dev {} weight {weight}",
                    via(gateway),
                    quoted(device)
                );
                paths += onlink;
            }
        }
    }
    _ = write!(text, " proto {}", route.protocol);
    // What ip(8) takes where none is named.
    let is_on_link = route.kind == route::Kind::Unicast
        && details.object.is_none()
        && !devices.is_empty()
        && found.gateways.is_empty();
    let usual = if is_on_link { SCOPE_LINK } else { 0 };
    if route.destination.is_ipv4() && route.scope != usual {
        _ = write!(text, " scope {}", route.scope);
    }
    if let Some(source) = found.source {
        _ = write!(text, " src {source}");
    }
    for (metric, value, name) in [(MTU, route.mtu, "mtu"), (ADVMSS, route.advmss, "advmss")] {
        let lock = if details.is_locked(metric) { " lock" } else { "" };
        if let Some(value) = value {
            _ = write!(text, " {name}{lock} {value}");
        }
    }
    Some(text + &Details::words(&details)? + &paths)
}

/// `RTAX_MTU` and `RTAX_ADVMSS`.
const MTU: u16 = 2;
const ADVMSS: u16 = 8;

/// The pod CIDR of another node that a route of somebody else takes packets from.
fn shadowed(
    found: &Found,
    fabric: &Fabric,
    cidrs: &Cidrs,
    snapshot: &Snapshot,
) -> Option<IpNetwork> {
    let route = &found.route;
    let own = route.protocol == fabric.protocol || found.local || found.shared;
    if own || route.table != TABLE_MAIN || route.kind == route::Kind::Throw {
        return None;
    }
    let cidr = cidrs.containing(&route.destination)?;
    if cidr.prefix() < route.destination.prefix() {
        return Some(cidr);
    }
    // Of one prefix the lower metric wins.
    let ours = snapshot.kernel.routes.iter().find(|other| {
        other.route.protocol == fabric.protocol
            && other.route.table == TABLE_MAIN
            && other.route.destination == route.destination
    })?;
    let metric = |found: &Found| found.route.priority.unwrap_or_default();
    (metric(found) < metric(ours)).then_some(cidr)
}
