// SPDX-License-Identifier: Apache-2.0
//! Checks of rules of others that lead packets elsewhere than the fabric does.

use ipnetwork::IpNetwork;

use super::{
    Answer, Seen,
    cidrs::Cidrs,
    devices::{Role, devices},
    fabric::fabrics,
};
use crate::{
    family::HasFamily,
    finding::Severity,
    list::{Gather, Ordered, PushAll},
    net::{
        route::{self, Found, TABLE_MAIN},
        rule::{KERNELS, Rule},
    },
    node::{Kernel, Snapshot},
    object::route::default_metric,
};

/// More than these are no command that a person reads.
const COMMANDS_MAX: usize = 16;
/// As many of a table's routes are held against those of main.
const ROUTES_MAX: usize = 64;

/// Packets that the fabric lives by.
struct Flow {
    /// In words.
    what: &'static str,
    /// Where they come from.
    sources: Vec<IpNetwork>,
    destinations: Vec<IpNetwork>,
    /// The devices that they come by.
    inputs: Vec<String>,
    /// The node itself sends them, so that table main may be asked what is right.
    own: bool,
}

/// Those from pods and to them, and those that carry them.
fn flows(snapshot: &Snapshot) -> Vec<Flow> {
    let fabrics = fabrics(snapshot);
    let own: Vec<IpNetwork> = fabrics.iter().flat_map(|(_, it)| &it.own_cidrs).copied().gather();
    let remote: Vec<IpNetwork> =
        fabrics.iter().flat_map(|(_, it)| &it.remote_cidrs).copied().gather();
    let pods = snapshot.journal.iter().flat_map(|entry| &entry.addresses).copied();
    let sources = pods.map(IpNetwork::from).chain(own.iter().copied()).gather();
    let nodes = fabrics.iter().flat_map(|(_, it)| &it.addresses).copied();
    let lists = snapshot.compared.fabrics.iter().map(|fabric| &fabric.peers);
    let peers = lists.flat_map(|peers| &peers.others).flat_map(|node| &node.addresses).copied();
    let (mut of_pods, mut of_others) = (Vec::new(), Vec::new());
    for (link, role) in devices(snapshot) {
        let names = if matches!(role, Role::Pod(_)) { &mut of_pods } else { &mut of_others };
        names.push(link.name.clone());
    }
    let all = own.iter().chain(&remote).copied().gather();
    vec![
        Flow { what: "pods' packets", sources, destinations: all, inputs: of_pods, own: false },
        Flow {
            what: "packets to pods",
            sources: remote,
            destinations: own,
            inputs: of_others,
            own: false,
        },
        Flow {
            what: "what this node itself sends to other nodes, as what carries pods' packets,",
            sources: nodes.map(IpNetwork::from).gather(),
            destinations: peers.map(IpNetwork::from).gather(),
            inputs: vec!["lo".to_owned()],
            own: true,
        },
    ]
}

impl Flow {
    /// The destinations of packets that a rule is for, as far as that is certain.
    fn caught(&self, rule: &Rule) -> Vec<IpNetwork> {
        let family = rule.source.family();
        let all = self.destinations.iter().filter(|cidr| cidr.family() == family).copied();
        let asked = match (rule.selective, rule.asked) {
            (false, _) => Default::default(),
            // Of an older bundle, or more than is known of a packet.
            (true, None) => return Vec::new(),
            (true, Some(asked)) if asked.more => return Vec::new(),
            (true, Some(asked)) => asked,
        };
        // Nobody has set a mark.
        let unmarked = asked.mark.is_none_or(|(value, _)| value == 0);
        let by = asked.input.map(|name| name.to_string());
        let sources = || self.sources.iter().filter(|own| own.family() == family);
        if asked.inverted {
            let is_other = |own: &IpNetwork| !is_all_of(Some(rule.source), own);
            let elsewhere = by.is_some_and(|name| self.inputs.iter().any(|own| *own != name));
            let from_elsewhere = rule.source.prefix() > 0 && sources().any(is_other);
            return match !unmarked || elsewhere || from_elsewhere {
                true => all.gather(),
                false => {
                    let to = rule.destination;
                    all.filter(|cidr| to.is_some_and(|to| !is_all_of(Some(to), cidr))).gather()
                }
            };
        }
        let is_from = rule.source.prefix() == 0 || sources().any(|own| overlap(own, &rule.source));
        let comes = by.is_none_or(|name| self.inputs.contains(&name));
        if !(unmarked && is_from && comes) {
            return Vec::new();
        }
        all.filter(|cidr| rule.destination.is_none_or(|to| overlap(cidr, &to))).gather()
    }
}

pub(super) fn rule_diverts(snapshot: &Snapshot) -> Answer {
    let kernel = &snapshot.kernel;
    let flows = flows(snapshot);
    let mut by_table: Vec<&Found> = kernel.routes.iter().gather();
    by_table.order_by_key(|found| found.route.table);
    let mut seen = Vec::new();
    let others = kernel.rules.iter().filter(|rule| !KERNELS.contains(&rule.priority));
    let is_passed = |rule: &&Rule| kernel.rules.iter().any(|one| skips(one, rule));
    for rule in others.filter(|rule| rule.table != TABLE_MAIN && !is_passed(rule)) {
        let first = by_table.partition_point(|found| found.route.table < rule.table);
        let of_table = by_table.iter().skip(first);
        let of_table: Vec<&Found> = of_table
            .take_while(|found| found.route.table == rule.table)
            .filter(|found| is_taken(found, rule))
            .copied()
            .gather();
        // The first of them is what matters most.
        seen.push_all(flows.iter().find_map(|flow| diverted(flow, rule, &of_table, kernel)));
    }
    Ok(seen)
}

/// Whether a rule takes what its table answers by a route.
fn is_taken(found: &Found, rule: &Rule) -> bool {
    let prefix = u32::from(found.route.destination.prefix());
    found.route.kind != route::Kind::Throw && rule.suppressed.is_none_or(|most| prefix > most)
}

/// What a rule with these routes does to packets, if it leads them elsewhere.
fn diverted(flow: &Flow, rule: &Rule, of_table: &[&Found], kernel: &Kernel) -> Option<Seen> {
    let before: Vec<&Rule> = kernel.rules.iter().filter(|one| leads_to_main(one, rule)).gather();
    let mut concerned = flow.caught(rule);
    concerned.retain(|cidr| !before.iter().any(|one| leads(one, cidr, kernel)));
    if concerned.is_empty() {
        return None;
    }
    let (of, evidence) = if rule.refuses {
        (Severity::Error, format!("rule {rule} drops {}", flow.what))
    } else if rule.table == 0 {
        return None;
    } else {
        let cidrs = Cidrs::new(&concerned);
        let mut ways = of_table.iter().filter(|found| cidrs.overlap(&found.route.destination));
        let (of, found, more) = match flow.own {
            false => (Severity::Error, ways.next()?, String::new()),
            true => ways.take(ROUTES_MAX).find_map(|found| {
                let (of, more) = differs(found, &cidrs, of_table, kernel)?;
                Some((of, found, more))
            })?,
        };
        let Rule { table, .. } = rule;
        let text = &found.route;
        (of, format!("rule {rule} sends {} by table {table}: {text}{more}", flow.what))
    };
    let (fix, undo) = past(rule, &concerned, &kernel.rules);
    Some(Seen::new(of, format!("rule {}", rule.priority), evidence).fix(fix).undo(undo))
}

/// Whether a rule before leads a destination by main: it takes what is longer than it passes
/// over.
fn leads(one: &Rule, cidr: &IpNetwork, kernel: &Kernel) -> bool {
    is_all_of(one.destination, cidr)
        && one.suppressed.is_none_or(|most| {
            let is_way = |found: &&Found| {
                let to = &found.route.destination;
                found.route.table == TABLE_MAIN
                    && u32::from(to.prefix()) > most
                    && is_all_of(Some(*to), cidr)
            };
            kernel.routes.iter().any(|found| is_way(&found))
        })
}

/// How a table's way to one of these addresses differs from that of main: it drops packets,
/// or they leave by another device, which may be meant.
fn differs(
    found: &Found,
    addresses: &Cidrs,
    of_table: &[&Found],
    kernel: &Kernel,
) -> Option<(Severity, String)> {
    let to = &found.route.destination;
    let address = addresses.within(to).next()?;
    let best = |routes: &mut dyn Iterator<Item = &Found>| -> Option<Found> {
        let of_address = routes.filter(|one| is_all_of(Some(one.route.destination), address));
        let best = of_address.min_by_key(|one| {
            let route = &one.route;
            let metric = route.priority.unwrap_or(default_metric(route.destination.family()));
            (std::cmp::Reverse(route.destination.prefix()), metric)
        });
        best.cloned()
    };
    let there = best(&mut of_table.iter().copied()).filter(|there| there == found)?;
    let main = best(&mut kernel.routes.iter().filter(|one| one.route.table == TABLE_MAIN))?;
    if there.route.kind != route::Kind::Unicast {
        return Some((Severity::Error, format!(", to {} as well", address.ip())));
    }
    let names = |found: &Found| kernel.devices(found).join(", ");
    (there.devices != main.devices).then(|| {
        let text = format!(
            " dev {}, to {} as well, which table main has by {}",
            names(&there),
            address.ip(),
            names(&main)
        );
        (Severity::Warning, text)
    })
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
        concerned.iter().map(one).gather().join("; ")
    };
    let fix = format!("{} # if pods' packets should not go there", commands("add"));
    (fix, commands("del"))
}

/// Whether a rule leads all that another one would see to one behind that.
fn skips(one: &Rule, other: &Rule) -> bool {
    one.goto.is_some_and(|target| one.priority < other.priority && other.priority < target)
        && one.destination.is_none()
        && sees_all_of(one, other)
}

/// Whether a rule before another one may send what that is about by the table main.
fn leads_to_main(one: &Rule, other: &Rule) -> bool {
    one.priority < other.priority && one.table == TABLE_MAIN && sees_all_of(one, other)
}

/// Whether a rule is for all sources that another one may be for.
fn sees_all_of(one: &Rule, other: &Rule) -> bool {
    let is_inverted = other.asked.is_some_and(|asked| asked.inverted);
    let all = IpNetwork::new(other.source.ip(), 0).ok().filter(|_| is_inverted);
    !one.selective && is_all_of(Some(one.source), &all.unwrap_or(other.source))
}

/// Whether what a rule asks for, if anything, holds for all of a network.
fn is_all_of(asked: Option<IpNetwork>, network: &IpNetwork) -> bool {
    asked.is_none_or(|asked| {
        asked.family() == network.family()
            && asked.prefix() <= network.prefix()
            && asked.contains(network.ip())
    })
}

fn overlap(one: &IpNetwork, other: &IpNetwork) -> bool {
    one.family() == other.family()
        && (one.contains(other.network()) || other.contains(one.network()))
}
