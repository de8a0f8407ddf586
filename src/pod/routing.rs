// SPDX-License-Identifier: Apache-2.0
//! Which way a pod's packets leave.
//!
//! The first interface of a pod is the way out, by routes in table main as Calico
//! makes them. Every further one has a table of its own besides, and a rule for
//! each of its addresses that leads there: what answers from such an address
//! leaves by the interface to which the address belongs. Its routes in table main
//! stand behind those that other interfaces have, by a metric; they serve when
//! those are gone, and whoever asks for a route through that interface.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

pub use super::spec::PodFacts;
use super::spec::{Remote, Spec, families, gateway_ipv6, host_route};
use crate::{
    cni,
    conf::{Config, ROUTE_PROTOCOL},
    family::{Family, HasFamily, is_single},
    list::{Gather, PushAll},
    net::{
        route::{Found, Route, SCOPE_LINK, TABLE_MAIN},
        rule::Rule,
    },
};

/// The first table that an interface may have as its own. The same number is the
/// metric of its routes in table main: behind IPv6's default of 1024.
const TABLE_FIRST: u32 = 10_901;
/// Where our rules stand: before the kernel's for table main.
const RULE_PRIORITY: u32 = 10_900;
/// Who made our rules: the number that marks our routes between nodes as well.
pub const RULE_PROTOCOL: u8 = ROUTE_PROTOCOL;

/// IPv4 and TCP headers without options, in bytes.
const HEADERS_IPV4: u32 = 40;
/// IPv6 and TCP headers without options, in bytes.
const HEADERS_IPV6: u32 = 60;

/// The lowest table that nobody uses: neither as a table nor as a metric.
pub fn free_table(rules: &[Rule], routes: &[Found]) -> u32 {
    let used = |number: u32| {
        rules.iter().any(|rule| rule.table == number)
            || routes
                .iter()
                .any(|found| found.route.table == number || found.route.priority == Some(number))
    };
    (TABLE_FIRST..u32::MAX).find(|number| !used(*number)).unwrap_or(u32::MAX)
}

/// Those of our rules whose address is on no link and whose table is empty: of an
/// interface that went without its DEL.
pub fn leftovers(rules: &[Rule], routes: &[Found], addresses: &[IpAddr]) -> Vec<Rule> {
    let is_left = |rule: &&Rule| {
        is_ours(rule)
            && !addresses.contains(&rule.source.ip())
            && !routes.iter().any(|found| found.route.table == rule.table)
    };
    rules.iter().filter(is_left).copied().gather()
}

/// Whether a rule is one that a further interface of ours has.
pub fn is_ours(rule: &Rule) -> bool {
    (rule.protocol, rule.priority) == (RULE_PROTOCOL, RULE_PRIORITY) && is_single(&rule.source)
}

/// The rules that lead from `addresses` to `table`.
pub fn rules(table: Option<u32>, addresses: &[IpAddr]) -> Vec<Rule> {
    let rule = |table| {
        let rule =
            move |address: IpAddr| Rule::new(address.into(), table, RULE_PRIORITY, RULE_PROTOCOL);
        addresses.iter().copied().map(rule)
    };
    table.into_iter().flat_map(rule).gather()
}

/// The next hop of a pod for destinations of the same family as `like`.
fn gateway(config: &Config, like: IpAddr) -> IpAddr {
    if like.is_ipv4() { config.gateway.into() } else { gateway_ipv6().into() }
}

/// One address of each family that the pod has.
pub(super) fn served(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let first = |family| addresses.iter().copied().find(|address| address.family() == family);
    Family::BOTH.into_iter().filter_map(first)
}

/// The pod's routes beyond the one to the gateway, as the result tells them:
/// IPAM's, all through our gateway, and the default routes of the families that
/// have none. They are in table main, unless IPAM named another one. One whose
/// destination another interface has a route to gets our metric, unless IPAM gave
/// one. Nothing stands beside another default route where there is no metric.
pub(super) fn told(spec: &Spec<'_>) -> Vec<cni::Route> {
    let facts = spec.facts;
    let mut routes = Vec::new();
    for like in served(spec.addresses) {
        let default = like.family().everything();
        let default_taken = facts.taken.contains(&default);
        let given = spec.routes.iter().filter(|route| route.dst.family() == like.family());
        let mut family: Vec<cni::Route> = given.cloned().gather();
        let has_default = family.iter().any(|route| route.dst.prefix() == 0);
        let wanted = family.is_empty() || (spec.config.include_default_routes && !has_default);
        if wanted && (!default_taken || facts.table.is_some()) {
            family.insert(0, cni::Route::new(default, None));
        }
        for route in &mut family {
            let on_link = route.scope.is_some_and(|scope| scope >= SCOPE_LINK);
            route.gw = (!on_link).then(|| gateway(spec.config, like));
        }
        if let Some(remote) = spec.remote.filter(|_| !default_taken) {
            family.push_all(remote_routes(remote, spec.config, like));
        }
        for route in family.iter_mut().filter(|route| is_in_main(route)) {
            let taken = facts.taken.contains(&of_pod_route(route).destination);
            route.priority = route.priority.or(facts.table.filter(|_| taken));
        }
        routes.append(&mut family);
    }
    routes
}

/// The routes that carry the MTU, and the segment size that goes with it: a
/// route's own `advmss` is what the pod announces, so that the other end sends
/// no more either. A host's route would do nothing for forwarded packets.
fn remote_routes(remote: Remote<'_>, config: &Config, like: IpAddr) -> Vec<cni::Route> {
    let headers = if like.is_ipv4() { HEADERS_IPV4 } else { HEADERS_IPV6 };
    let of_family = |cidr: &&IpNetwork| cidr.family() == like.family();
    let via = |cidr: &IpNetwork| cni::Route::new(*cidr, Some(gateway(config, like)));
    let own = remote.own.iter().filter(of_family);
    let others = remote.cluster.iter().filter(of_family).filter(|cidr| !remote.own.contains(cidr));
    let reduced = others.map(|cidr| cni::Route {
        mtu: Some(remote.mtu),
        advmss: Some(remote.mtu.saturating_sub(headers)),
        ..via(cidr)
    });
    own.map(via).chain(reduced).gather()
}

/// The routes of the pod link: the way to its next hop, those that are `told`, and
/// those of its own table.
pub(super) fn of_pod(spec: &Spec<'_>, told: &[cni::Route]) -> Vec<Route> {
    let PodFacts { table, taken, .. } = spec.facts;
    let (ipv4, _) = families(spec.addresses);
    let mut routes = Vec::new();
    if ipv4 {
        let next_hop = host_route(spec.config.gateway.into());
        let taken = taken.contains(&next_hop.destination);
        let priority = table.filter(|_| taken);
        routes.push_all((!taken || table.is_some()).then_some(Route { priority, ..next_hop }));
    }
    routes.push_all(told.iter().map(of_pod_route));
    if let Some(table) = table {
        let of_family = |like| of_own_table(spec, *table, like, told);
        routes.push_all(served(spec.addresses).flat_map(of_family));
    }
    routes
}

/// What an interface's own table has for one family: all of its routes, and a
/// default route in any case.
fn of_own_table(spec: &Spec<'_>, table: u32, like: IpAddr, told: &[cni::Route]) -> Vec<Route> {
    let next_hop = gateway(spec.config, like);
    let told = told.iter().filter(|route| route.dst.family() == like.family());
    let remote = spec.remote.map(|remote| remote_routes(remote, spec.config, like));
    let default = cni::Route::new(like.family().everything(), Some(next_hop));
    let mut routes: Vec<Route> = Vec::new();
    routes.push_all(next_hop.is_ipv4().then(|| host_route(next_hop)));
    let all = told.filter(|route| is_in_main(route)).cloned();
    for route in all.chain(remote.into_iter().flatten()).chain([default]) {
        let route = Route { priority: None, ..of_pod_route(&route) };
        if routes.iter().all(|one| one.destination != route.destination) {
            routes.push(route);
        }
    }
    routes.into_iter().map(|route| Route { table, ..route }).gather()
}

fn is_in_main(route: &cni::Route) -> bool {
    route.table.is_none_or(|table| table == 0 || table == TABLE_MAIN)
}

fn of_pod_route(route: &cni::Route) -> Route {
    Route {
        gateway: route.gw,
        scope: route.scope.unwrap_or(0),
        table: route.table.filter(|table| *table != 0).unwrap_or(TABLE_MAIN),
        priority: route.priority,
        mtu: route.mtu,
        advmss: route.advmss,
        ..Route::new(route.dst)
    }
}

#[cfg(test)]
mod tests;
