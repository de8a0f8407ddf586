//! What a pod of several interfaces lacks that manx 0.1 attached.
//!
//! It made no rule and no table for a second interface, whose answers left by the
//! first one. A node that believes no such source is made so only afterwards.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    attachment::{gateway_ipv6, host_route},
    routing::{everywhere, free_table, is_ours, rules, served},
};
use crate::net::{
    route::{Found, Kind, PROTOCOL_KERNEL, Route, TABLE_MAIN},
    rule::Rule,
};

/// An interface of ours in a pod that has others.
#[derive(Clone, Copy, Debug)]
pub struct Attached<'a> {
    /// Index of its link in the pod.
    pub index: u32,
    /// Its addresses.
    pub addresses: &'a [IpAddr],
    /// Its IPv4 next hop.
    pub gateway: Ipv4Addr,
}

/// The routes and rules that the interface needs besides what the pod has, so that
/// its answers leave by it. None where it is the pod's way out, or has them.
pub fn lacking(it: &Attached<'_>, has: &[Rule], routes: &[Found]) -> (Vec<Route>, Vec<Rule>) {
    let own = |rule: &&Rule| is_ours(rule) && it.addresses.contains(&rule.source.ip());
    let noted = has.iter().find(own).map(|rule| rule.table);
    let table = noted.unwrap_or_else(|| free_table(has, routes));
    let (mut wanted, mut new) = (Vec::new(), Vec::new());
    for like in served(it.addresses) {
        if is_way_out(it, like, routes) {
            continue;
        }
        let of_family: Vec<IpAddr> =
            it.addresses.iter().filter(|ip| ip.is_ipv4() == like.is_ipv4()).copied().collect();
        let missing = rules(Some(table), &of_family).into_iter().filter(|rule| !has.contains(rule));
        let before = new.len();
        new.extend(missing);
        if new.len() > before {
            wanted.extend(routes_of(it, like, table, routes));
        }
    }
    (wanted, new)
}

/// Whether the pod's default route of a family leads through the interface.
fn is_way_out(it: &Attached<'_>, like: IpAddr, routes: &[Found]) -> bool {
    let defaults = routes.iter().filter(|found| {
        (found.route.table, found.route.kind) == (TABLE_MAIN, Kind::Unicast)
            && found.route.destination == everywhere(like)
    });
    let best = defaults.min_by_key(|found| found.route.priority.unwrap_or_default());
    best.is_some_and(|found| found.is_through(it.index))
}

/// What a second interface is given now: a table with all of its routes, the narrow
/// ones of others to the same next hop, and a default route; in table main its way
/// to the next hop and a default route behind the others', unless it has routes.
fn routes_of(it: &Attached<'_>, like: IpAddr, table: u32, routes: &[Found]) -> Vec<Route> {
    let next_hop: IpAddr = if like.is_ipv4() { it.gateway.into() } else { gateway_ipv6().into() };
    let way = like.is_ipv4().then(|| host_route(next_hop));
    let in_main = |found: &&Found| {
        found.route.table == TABLE_MAIN
            && found.route.kind == Kind::Unicast
            && found.route.protocol != PROTOCOL_KERNEL
            && found.route.destination.is_ipv4() == like.is_ipv4()
            && Some(found.route.destination) != way.as_ref().map(|way| way.destination)
    };
    let (own, others): (Vec<_>, Vec<_>) =
        routes.iter().filter(in_main).partition(|found| found.is_through(it.index));
    let narrow = others.into_iter().filter(|found| {
        let Route { gateway, mtu, advmss, .. } = found.route;
        gateway == Some(next_hop) && (mtu.is_some() || advmss.is_some())
    });
    let default = Route { gateway: Some(next_hop), ..Route::new(everywhere(like)) };
    let mut wanted: Vec<Route> = way.clone().into_iter().collect();
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
    main.map(behind).chain(wanted).collect()
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
        let addresses = ["10.9.0.5".parse().unwrap()];
        let gateway = NEXT_HOP.parse().unwrap();
        let (routes, rules) =
            lacking(&Attached { index, addresses: &addresses, gateway }, has, routes);
        let routes = routes.iter().map(Route::to_string).collect();
        (routes, rules.iter().map(Rule::to_string).collect())
    }

    fn first() -> Vec<Found> {
        vec![found(2, "169.254.1.1/32"), found(2, "0.0.0.0/0 via 169.254.1.1")]
    }

    #[test]
    fn the_way_out_lacks_nothing_and_the_second_what_add_makes_now() {
        assert_eq!(lacks(2, &[], &first()), (vec![], vec![]));
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
