//! Checks of what leads pods' packets elsewhere than the fabric does: routes and rules of
//! others.

use std::{fmt::Write, net::IpAddr};

use ipnetwork::IpNetwork;

use super::{
    Answer, Seen,
    cidrs::Cidrs,
    fabric::{changes, compared, fabrics, in_the_way},
};
use crate::{
    family::HasFamily,
    net::{
        route::{self, Found, TABLE_MAIN},
        rule::{KERNELS, Rule},
    },
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
            let fix = format!(
                "ip route del {del} proto {protocol} # where nobody needs it; else take {} out of \
                 the peers file",
                found.route.destination
            );
            let undo = add.map_or_else(String::new, |add| format!("ip route add {add}"));
            seen.push(Seen::error(object, evidence).fix(fix).undo(undo));
        }
    }
    Ok(seen)
}

/// A route in words, and as ip(8) takes it.
struct Ways {
    told: String,
    del: String,
    /// None where its paths are not known one by one.
    add: Option<String>,
}

fn ways(found: &Found, snapshot: &Snapshot) -> Ways {
    let (route, protocol) = (&found.route, found.route.protocol);
    let devices = snapshot.kernel.devices(found);
    match devices[..] {
        [] => {
            let text = route.to_string();
            let add = Some(format!("{text} proto {protocol}"));
            Ways { told: text.clone(), del: text, add }
        }
        [device] => {
            let del = format!("{route} dev {}", quoted(device));
            let add = Some(format!("{del} proto {protocol}"));
            Ways { told: format!("{route} dev {device}"), del, add }
        }
        // One of several paths is named by all of them or by none.
        _ => {
            let mut add = format!("{route} proto {protocol}");
            for (gateway, device) in found.gateways.iter().zip(&devices) {
                let family =
                    if gateway.family() == route.destination.family() { "" } else { "inet6 " };
                _ = write!(add, " nexthop via {family}{gateway} dev {}", quoted(device));
            }
            let is_whole = found.gateways.len() == devices.len();
            Ways {
                told: format!("{route} dev {}", devices.join(", ")),
                del: route.to_string(),
                add: is_whole.then_some(add),
            }
        }
    }
}

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

/// More than these are no command that a person reads.
const COMMANDS_MAX: usize = 16;

pub(super) fn rule_diverts(snapshot: &Snapshot) -> Answer {
    let kernel = &snapshot.kernel;
    let remote: Vec<IpNetwork> = fabrics(snapshot)
        .into_iter()
        .flat_map(|(_, fabric)| fabric.remote_cidrs.iter().chain(&fabric.own_cidrs).copied())
        .collect();
    let mut by_table: Vec<&Found> = kernel.routes.iter().collect();
    by_table.sort_by_key(|found| found.route.table);
    let mut seen = Vec::new();
    let others = kernel.rules.iter().filter(|rule| !KERNELS.contains(&rule.priority));
    // One that asks for a mark, a device or a user is not for what pods forward.
    let plain = others.filter(|rule| !rule.selective && concerns_pods(rule, snapshot));
    let is_passed = |rule: &&Rule| kernel.rules.iter().any(|one| skips(one, rule));
    for rule in plain.filter(|rule| rule.table != TABLE_MAIN && !is_passed(rule)) {
        let before: Vec<&Rule> =
            kernel.rules.iter().filter(|one| leads_to_main(one, rule)).collect();
        let is_led = |cidr: &IpNetwork| before.iter().any(|one| is_all_of(one.destination, cidr));
        let concerned: Vec<IpNetwork> = remote
            .iter()
            .filter(|cidr| cidr.family() == rule.source.family())
            .filter(|cidr| rule.destination.is_none_or(|to| overlap(cidr, &to)))
            .filter(|cidr| !is_led(cidr))
            .copied()
            .collect();
        let cidrs = Cidrs::new(&concerned);
        let first = by_table.partition_point(|found| found.route.table < rule.table);
        let of_table =
            by_table.iter().skip(first).take_while(|found| found.route.table == rule.table);
        let mut leads = of_table.filter(|found| {
            found.route.kind != route::Kind::Throw
                && rule
                    .suppressed
                    .is_none_or(|most| u32::from(found.route.destination.prefix()) > most)
                && cidrs.overlap(&found.route.destination)
        });
        let evidence = match leads.next() {
            _ if concerned.is_empty() => continue,
            _ if rule.refuses => {
                format!("rule {} from {} drops pods' packets", rule.priority, rule.source)
            }
            Some(found) if rule.table != 0 => {
                let (table, route) = (rule.table, &found.route);
                format!("rule {rule} sends pods' packets by table {table}: {route}")
            }
            _ => continue,
        };
        let (fix, undo) = past(rule, &concerned, &kernel.rules);
        let object = format!("rule {}", rule.priority);
        seen.push(Seen::error(object, evidence).fix(fix).undo(undo));
    }
    Ok(seen)
}

/// What leads the destinations past a rule, and what takes that back.
fn past(rule: &Rule, concerned: &[IpNetwork], all: &[Rule]) -> (String, String) {
    let family = if rule.source.is_ipv6() { "ip -6" } else { "ip" };
    let is_free = |place: &u32| !all.iter().any(|other| other.priority == *place);
    // Before the kernel's first one is no place.
    let place = (1..rule.priority).rev().take(all.len().saturating_add(1)).find(is_free);
    let Some(place) = place.filter(|_| concerned.len() <= COMMANDS_MAX) else {
        let fix = "lead the pods' destinations to table main by rules before it, if their packets \
                   should not go there (ip rule add pref N to CIDR lookup main)";
        return (fix.to_owned(), String::new());
    };
    let commands = |action: &str| {
        let one = |cidr| format!("{family} rule {action} pref {place} to {cidr} lookup main");
        concerned.iter().map(one).collect::<Vec<_>>().join("; ")
    };
    let fix = format!("{} # if pods' packets should not go there", commands("add"));
    (fix, commands("del"))
}

/// Whether a rule leads all that another one would see to one behind that.
fn skips(one: &Rule, other: &Rule) -> bool {
    one.goto.is_some_and(|target| one.priority < other.priority && other.priority < target)
        && !one.selective
        && one.destination.is_none()
        && is_all_of(Some(one.source), &other.source)
}

/// Whether a rule before another one sends what that is about by the table main.
fn leads_to_main(one: &Rule, other: &Rule) -> bool {
    one.priority < other.priority
        && one.table == TABLE_MAIN
        && !one.selective
        && one.suppressed.is_none()
        && is_all_of(Some(one.source), &other.source)
}

/// Whether what a rule asks for, if anything, holds for all of a network.
fn is_all_of(asked: Option<IpNetwork>, network: &IpNetwork) -> bool {
    asked.is_none_or(|asked| {
        asked.family() == network.family()
            && asked.prefix() <= network.prefix()
            && asked.contains(network.ip())
    })
}

/// Whether packets of pods may have the source that a rule asks for.
fn concerns_pods(rule: &Rule, snapshot: &Snapshot) -> bool {
    let pods = snapshot.journal.iter().flat_map(|entry| &entry.addresses);
    let own = snapshot.networks.iter().filter_map(|network| network.fabric.as_ref());
    let own = own.flat_map(|fabric| &fabric.own_cidrs);
    rule.source.prefix() == 0
        || pods.into_iter().any(|address: &IpAddr| rule.source.contains(*address))
        || own.into_iter().any(|cidr| overlap(cidr, &rule.source))
}

fn overlap(one: &IpNetwork, other: &IpNetwork) -> bool {
    one.family() == other.family()
        && (one.contains(other.network()) || other.contains(one.network()))
}
