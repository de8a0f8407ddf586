// SPDX-License-Identifier: Apache-2.0
//! What each attachment of ours has in a pod of several: a rule for each of its
//! addresses, and a table of its own.
//!
//! The first one is made without them. It needs them as soon as there is a second:
//! whatever moves the pod's default route, as Multus does, would else move its
//! answers along. Manx 0.1 made none at all.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use super::{
    routing::{free_table, is_ours, rules, served},
    spec::{gateway_ipv6, host_route},
};
use crate::{
    family::HasFamily,
    list::{Gather, PushAll},
    net::{
        route::{Found, Kind, PROTOCOL_KERNEL, Route, TABLE_MAIN},
        rule::Rule,
    },
};

/// The kernel's rule that leads to table main (`fib_default_rules_init`).
const RULE_PRIORITY_MAIN: u32 = 32_766;

/// An interface of ours in a pod that has others.
#[derive(Clone, Copy, Debug)]
pub struct Attached<'a> {
    /// Index of its link in the pod.
    pub index: u32,
    /// Its addresses.
    pub addresses: &'a [IpAddr],
    /// Its IPv4 next hop, where none of its routes tells.
    pub gateway: Ipv4Addr,
    /// The others are not ours: what leads them is theirs to say.
    pub alone: bool,
}

/// What an interface needs besides what the pod has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lack {
    /// The table of its own, that it has or is to get.
    pub table: Option<u32>,
    /// Routes, most of that table.
    pub routes: Vec<Route>,
    /// Rules that lead there.
    pub rules: Vec<Rule>,
}

/// What the interface needs so that its answers leave by it, whatever becomes of the
/// pod's default route. Nothing where it is alone of ours and the pod's way out.
pub fn lacking(it: &Attached<'_>, has: &[Rule], routes: &[Found]) -> Lack {
    let own = |rule: &&Rule| is_ours(rule) && it.addresses.contains(&rule.source.ip());
    let noted = has.iter().find(own).map(|rule| rule.table);
    let table = noted.unwrap_or_else(|| free_table(has, routes));
    let mut lack = Lack { table: noted, ..Lack::default() };
    for like in served(it.addresses) {
        if it.alone && is_way_out(it, like, routes) {
            continue;
        }
        let of_family = it.addresses.iter().filter(|ip| ip.family() == like.family());
        let unled: Vec<IpAddr> =
            of_family.filter(|ip| !is_led(it, **ip, has, routes)).copied().gather();
        let missing = rules(Some(table), &unled).into_iter().filter(|rule| !has.contains(rule));
        let before = lack.rules.len();
        lack.rules.push_all(missing);
        if lack.rules.len() > before {
            lack.table = Some(table);
            lack.routes.push_all(routes_of(it, like, table, routes));
        }
    }
    lack
}

/// Whether somebody else, such as sbr, leads what comes from an address out by the
/// interface: by a rule before table main, and a default route.
fn is_led(it: &Attached<'_>, address: IpAddr, has: &[Rule], routes: &[Found]) -> bool {
    let leads = |rule: &&Rule| {
        rule.source == IpNetwork::from(address)
            && rule.priority < RULE_PRIORITY_MAIN
            && !is_ours(rule)
            && routes.iter().any(|found| {
                found.route.table == rule.table
                    && found.route.destination == address.family().everything()
                    && found.is_through(it.index)
            })
    };
    has.iter().find(leads).is_some()
}

/// Whether the pod's default route of a family leads through the interface.
fn is_way_out(it: &Attached<'_>, like: IpAddr, routes: &[Found]) -> bool {
    let defaults = routes.iter().filter(|found| {
        (found.route.table, found.route.kind) == (TABLE_MAIN, Kind::Unicast)
            && found.route.destination == like.family().everything()
    });
    let best = defaults.min_by_key(|found| found.route.priority.unwrap_or_default());
    best.is_some_and(|found| found.is_through(it.index))
}

/// The IPv4 next hop by which its routes lead.
fn gateway(it: &Attached<'_>, routes: &[Found]) -> Ipv4Addr {
    let of_main = |found: &&Found| found.is_through(it.index) && found.route.table == TABLE_MAIN;
    let told = routes.iter().filter(of_main).find_map(|found| match found.route.gateway {
        Some(IpAddr::V4(gateway)) => Some(gateway),
        _ => None,
    });
    told.unwrap_or(it.gateway)
}

/// What a second interface is given by its ADD: a table with all of its routes, the narrow
/// ones of others to the same next hop, and a default route; in table main its way
/// to the next hop and a default route behind the others', unless it has routes.
fn routes_of(it: &Attached<'_>, like: IpAddr, table: u32, routes: &[Found]) -> Vec<Route> {
    let next_hop = if like.is_ipv4() { gateway(it, routes).into() } else { gateway_ipv6().into() };
    let way = like.is_ipv4().then(|| host_route(next_hop));
    let in_main = |found: &&Found| {
        found.route.table == TABLE_MAIN
            && found.route.kind == Kind::Unicast
            && found.route.protocol != PROTOCOL_KERNEL
            && found.route.destination.family() == like.family()
            && Some(found.route.destination) != way.as_ref().map(|way| way.destination)
    };
    let (own, others): (Vec<_>, Vec<_>) =
        routes.iter().filter(in_main).partition(|found| found.is_through(it.index));
    let narrow = others.into_iter().filter(|found| {
        let Route { gateway, mtu, advmss, .. } = found.route;
        gateway == Some(next_hop) && (mtu.is_some() || advmss.is_some())
    });
    let default = Route { gateway: Some(next_hop), ..Route::new(like.family().everything()) };
    let mut wanted: Vec<Route> = way.clone().into_iter().gather();
    for route in own.iter().copied().chain(narrow).map(|found| &found.route).chain([&default]) {
        if wanted.iter().all(|one| one.destination != route.destination) {
            wanted.push(Route { priority: None, onlink: false, ..route.clone() });
        }
    }
    for route in &mut wanted {
        route.table = table;
    }
    let behind = |route: Route| Route { priority: Some(table), ..route };
    let has_way = routes.iter().any(|found| {
        found.is_through(it.index)
            && found.route.table == TABLE_MAIN
            && Some(found.route.destination) == way.as_ref().map(|way| way.destination)
    });
    let main = way.filter(|_| !has_way).into_iter().chain(own.is_empty().then_some(default));
    main.map(behind).chain(wanted).gather()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::cidr;

    const NEXT_HOP: &str = "169.254.1.1";

    fn found(device: u32, text: &str) -> Found {
        let mut words = text.split(' ');
        let mut route = Route::new(cidr::parse(words.next().unwrap()).unwrap());
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            match key {
                "via" => route.gateway = Some(value.parse().unwrap()),
                "mtu" => route.mtu = Some(value.parse().unwrap()),
                "metric" => route.priority = Some(value.parse().unwrap()),
                "proto" => route.protocol = value.parse().unwrap(),
                other => panic!("{other}"),
            }
        }
        Found::new(route, vec![device])
    }

    fn lacks(index: u32, has: &[Rule], routes: &[Found]) -> (Vec<String>, Vec<String>) {
        of(lacking(&attached(index, &["10.9.0.5".parse().unwrap()], false), has, routes))
    }

    fn attached(index: u32, addresses: &[IpAddr], alone: bool) -> Attached<'_> {
        Attached { index, addresses, gateway: NEXT_HOP.parse().unwrap(), alone }
    }

    fn of(lack: Lack) -> (Vec<String>, Vec<String>) {
        let routes = lack.routes.iter().map(Route::to_string).collect();
        (routes, lack.rules.iter().map(Rule::to_string).collect())
    }

    fn first() -> Vec<Found> {
        vec![found(2, "169.254.1.1/32"), found(2, "0.0.0.0/0 via 169.254.1.1")]
    }

    #[test]
    fn the_way_out_has_a_table_as_well_where_another_is_ours() {
        let address = ["10.9.0.5".parse().unwrap()];
        let alone = lacking(&attached(2, &address, true), &[], &first());
        assert_eq!(alone, Lack::default(), "beside those of other plugins");
        let (routes, rules) = lacks(2, &[], &first());
        let own = ["169.254.1.1/32 table 10901", "0.0.0.0/0 via 169.254.1.1 table 10901"];
        assert_eq!(routes, own);
        assert_eq!(rules, ["10900: from 10.9.0.5/32 lookup 10901"]);
    }

    #[test]
    fn the_next_hop_is_that_of_its_routes() {
        let routes = [found(2, "169.254.7.7/32"), found(2, "0.0.0.0/0 via 169.254.7.7")];
        let own = ["169.254.7.7/32 table 10901", "0.0.0.0/0 via 169.254.7.7 table 10901"];
        assert_eq!(lacks(2, &[], &routes).0, own);
    }

    #[test]
    fn what_another_plugin_leads_out_by_the_interface_is_left_alone() {
        let address = ["10.9.0.5".parse().unwrap()];
        let theirs =
            |priority| Rule { table: 100, protocol: 0, priority, ..rules(Some(100), &address)[0] };
        let led = |device| {
            let default = found(device, "0.0.0.0/0 via 169.254.1.1");
            let route = Route { table: 100, ..default.route };
            [first(), vec![Found::new(route, vec![device])]].concat()
        };
        assert_eq!(lacks(2, &[theirs(32_765)], &led(2)), (vec![], vec![]));
        assert_eq!(lacks(2, &[theirs(32_767)], &led(2)).1.len(), 1, "main comes first");
        assert_eq!(lacks(2, &[theirs(32_765)], &led(3)).1.len(), 1, "by another interface");
        assert_eq!(lacks(2, &[theirs(32_765)], &first()).1.len(), 1, "nowhere");
    }

    #[test]
    fn a_second_one_gets_what_its_add_makes_now() {
        let (routes, rules) = lacks(3, &[], &first());
        assert_eq!(
            routes,
            [
                "169.254.1.1/32 metric 10901",
                "0.0.0.0/0 via 169.254.1.1 metric 10901",
                "169.254.1.1/32 table 10901",
                "0.0.0.0/0 via 169.254.1.1 table 10901",
            ]
        );
        assert_eq!(rules, ["10900: from 10.9.0.5/32 lookup 10901"]);
    }

    #[test]
    fn what_is_there_is_not_made_again() {
        let has = rules(Some(10_901), &["10.9.0.5".parse().unwrap()]);
        assert_eq!(lacks(3, &has, &first()), (vec![], vec![]));
        let address = ["10.9.0.5".parse().unwrap()];
        assert_eq!(lacking(&attached(3, &address, false), &has, &first()).table, Some(10_901));
        let others = rules(Some(10_901), &["10.9.0.6".parse().unwrap()]);
        assert_eq!(lacks(3, &others, &first()).1, ["10900: from 10.9.0.5/32 lookup 10902"]);
    }

    #[test]
    fn its_routes_and_the_narrow_ones_of_the_first_are_in_its_table() {
        let mut routes = first();
        routes.push(found(2, "10.2.0.0/24 via 169.254.1.1 mtu 1450"));
        routes.push(found(2, "10.3.0.0/24 via 169.254.1.1"));
        routes.push(found(3, "10.123.0.0/16 via 169.254.1.1"));
        routes.push(found(3, "10.9.0.5/32 proto 2"));
        let (routes, _) = lacks(3, &[], &routes);
        assert_eq!(
            routes,
            [
                "169.254.1.1/32 metric 10901",
                "169.254.1.1/32 table 10901",
                "10.123.0.0/16 via 169.254.1.1 table 10901",
                "10.2.0.0/24 via 169.254.1.1 table 10901",
                "0.0.0.0/0 via 169.254.1.1 table 10901",
            ]
        );
    }
}
