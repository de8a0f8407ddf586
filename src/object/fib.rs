// SPDX-License-Identifier: Apache-2.0
//! Which route the kernel takes for a packet, reckoned from its rules and tables as they
//! were read: what asks the kernel itself asks it for now and for here.
//!
//! A rule names a table, the longest prefix of that table decides, and of one prefix the
//! lowest metric; a table without an answer, or with one that a rule suppresses, leaves it
//! to the next rule (`fib_rules_lookup`, net/core/fib_rules.c; `fib_table_lookup`,
//! net/ipv4/fib_trie.c).

use std::{cmp::Reverse, net::IpAddr};

use super::route::default_metric;
use crate::{
    family::HasFamily,
    net::{
        route::{Found, Kind, TABLE_MAIN},
        rule::Rule,
    },
};

/// The tables that there are without any rule (`fib_default_rules_init`,
/// net/ipv4/fib_rules.c): local, main and default.
const TABLES: [u32; 3] = [255, TABLE_MAIN, 253];

/// What is looked up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Where it comes from; none where that is not chosen yet, which no rule with a source
    /// matches.
    pub source: Option<IpAddr>,
    /// Where it is to go.
    pub destination: IpAddr,
}

/// What comes of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer<'a> {
    /// The rule that decides; none where there is no route, and in a kernel without rules.
    pub rule: Option<&'a Rule>,
    /// The route that decides; none where the rule drops the packet, and where there is
    /// no route.
    pub route: Option<&'a Found>,
    /// Rules before that one which ask for more than addresses: they were passed over.
    pub doubtful: Vec<&'a Rule>,
}

impl Answer<'_> {
    /// Whether packets go on by it, or arrive.
    pub fn leads_somewhere(&self) -> bool {
        self.route.is_some_and(|found| found.route.kind == Kind::Unicast)
    }
}

/// Looks a packet up in these rules, in the order in which the kernel has them, and routes.
pub fn lookup<'a>(rules: &'a [Rule], routes: &'a [Found], packet: Packet) -> Answer<'a> {
    let family = packet.destination.family();
    let mut answer = Answer::default();
    let mut of_family = rules.iter().filter(|rule| rule.source.family() == family).peekable();
    if of_family.peek().is_none() {
        answer.route = TABLES.into_iter().find_map(|table| of_table(routes, table, packet));
        return answer;
    }
    let mut from = 0;
    for rule in of_family {
        if rule.priority < from || !concerns(rule, packet) {
            continue;
        }
        if rule.selective {
            answer.doubtful.push(rule);
            continue;
        }
        if let Some(target) = rule.goto {
            // Without its target it leads nowhere.
            let is_there =
                |other: &Rule| other.priority == target && other.source.family() == family;
            if rules.iter().any(is_there) {
                from = target;
            }
            continue;
        }
        let route = of_table(routes, rule.table, packet);
        let is_suppressed = |found: &Found| {
            let prefix = u32::from(found.route.destination.prefix());
            rule.suppressed.is_some_and(|longest| prefix <= longest)
        };
        let route = route.filter(|found| !is_suppressed(found));
        if rule.refuses || route.is_some() {
            return Answer { rule: Some(rule), route, ..answer };
        }
    }
    answer
}

/// Whether a rule may be for a packet, by the addresses that it asks for.
fn concerns(rule: &Rule, packet: Packet) -> bool {
    let from = rule.source.prefix() == 0
        || packet.source.is_some_and(|source| rule.source.contains(source));
    // One that is turned round asks for other addresses than these.
    rule.selective || from && rule.destination.is_none_or(|to| to.contains(packet.destination))
}

/// The answer of one table; none where another is asked.
fn of_table(routes: &[Found], table: u32, packet: Packet) -> Option<&Found> {
    let leads = |found: &&Found| {
        let route = &found.route;
        route.table == table
            && route.tos == 0
            && route.destination.family() == packet.destination.family()
            && route.destination.contains(packet.destination)
    };
    // Of several that are equal the first.
    let best = routes.iter().filter(leads).min_by_key(|found| {
        let route = &found.route;
        let metric = route.priority.unwrap_or(default_metric(route.destination.family()));
        (Reverse(route.destination.prefix()), metric)
    });
    best.filter(|found| found.route.kind != Kind::Throw)
}

#[cfg(test)]
mod tests;
