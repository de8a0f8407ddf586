// SPDX-License-Identifier: Apache-2.0
//! Routes of ours beside those of others.

mod properties;

use ipnetwork::IpNetwork;

use super::*;
use crate::{
    conf::Mode,
    fabric::settings::{METRIC_LAST, Settings},
    family::HasFamily,
    net::route::{self, Found, PROTOCOL_KERNEL},
    object::{HeldRoute, Route, route::adopted},
};

const OURS: u8 = 109;

fn plain(destination: &str, blackhole: bool) -> route::Route {
    let destination: IpNetwork = destination.parse().unwrap();
    let metric = Settings::of_mode(Mode::Direct).metric(blackhole, destination.family());
    let (protocol, priority) = (OURS, Some(metric));
    route::Route { protocol, priority, ..route::Route::new(destination) }
}

fn blackhole(destination: &str) -> Route {
    Route::blackhole(plain(destination, true))
}

fn to_peer(destination: &str, gateway: &str) -> Route {
    let gateway = Some(gateway.parse().unwrap());
    let route = plain(destination, false);
    Route::through("eth0", route::Route { gateway, onlink: true, ..route })
}

/// A route that is held: its metric, its protocol, and where it leads.
fn held(route: &Route, metric: u32, protocol: u8, device: u32) -> HeldRoute {
    let there = route::Route { protocol, priority: Some(metric), ..route.plain().clone() };
    let devices = if route.is_blackhole() { Vec::new() } else { vec![device] };
    HeldRoute {
        device: (!devices.is_empty()).then(|| "eth0".to_owned()),
        found: Found::new(there, devices),
        ours: protocol == OURS,
        on_host_link: false,
    }
}

/// The network of an address on a device of the node.
fn connected(destination: &str, metric: u32) -> HeldRoute {
    let mut route = held(&blackhole(destination), metric, PROTOCOL_KERNEL, 7);
    route.found.route.kind = route::Kind::Unicast;
    (route.found.devices, route.device) = (vec![7], Some("br0".to_owned()));
    route
}

fn told(wanted: &[Route], routes: Vec<HeldRoute>) -> Vec<String> {
    let objects = Objects { routes: wanted.to_vec(), ..Objects::default() };
    let desired = Desired { objects, ..Desired::default() };
    let held = HeldObjects { routes, ..HeldObjects::default() };
    let changes = diff(&desired, &Observed { held, ..Observed::default() });
    changes.iter().map(|change| change.told().to_string()).collect()
}

#[test]
fn a_network_of_the_node_is_before_the_route_to_nowhere() {
    for (cidr, metric) in [("10.1.0.0/24", 0), ("fd00:1::/64", 256)] {
        let wanted = [blackhole(cidr)];
        let ours = || held(&wanted[0], METRIC_LAST, OURS, 0);
        // Whichever came first.
        for routes in
            [vec![connected(cidr, metric), ours()], vec![ours()], vec![connected(cidr, metric)]]
        {
            assert_eq!(told(&wanted, routes), [""; 0], "{cidr}");
        }
        let adopted_of = |routes: Vec<HeldRoute>| adopted(&wanted, &routes).len();
        assert_eq!(adopted_of(vec![connected(cidr, metric)]), 1);
        assert_eq!(adopted_of(vec![connected(cidr, metric), ours()]), 0);
    }
}

/// As an earlier version made it, which stood before the network of a bridge.
#[test]
fn a_route_to_nowhere_of_another_metric_goes_after_the_new_one_came() {
    for bridge in [false, true] {
        let wanted = [blackhole("10.1.0.0/24")];
        let mut routes = vec![held(&wanted[0], 0, OURS, 0)];
        routes.extend(bridge.then(|| connected("10.1.0.0/24", 0)));
        assert_eq!(
            told(&wanted, routes),
            [
                "+ route 10.1.0.0/24: blackhole 10.1.0.0/24 metric 4294967295",
                "- route 10.1.0.0/24: blackhole 10.1.0.0/24 metric 0 proto 109",
            ],
        );
    }
}

#[test]
fn a_foreign_route_of_a_better_metric_is_in_the_way() {
    for (cidr, gateway, other, metric) in
        [("fd00:2::/64", "2001:db8::2", "2001:db8::99", 20), ("10.1.0.0/24", "", "192.0.2.99", 77)]
    {
        let wanted = [if gateway.is_empty() { blackhole(cidr) } else { to_peer(cidr, gateway) }];
        let family = wanted[0].destination().family();
        let own = Settings::of_mode(Mode::Direct).metric(gateway.is_empty(), family);
        let foreign = || held(&to_peer(cidr, other), metric, 186, 2);
        let told_of = |routes| told(&wanted, routes).join("\n");
        let both = told_of(vec![foreign(), held(&wanted[0], own, OURS, 2)]);
        assert!(both.starts_with(&format!("! route {cidr}: wanted")), "{both}");
        assert!(both.contains(other) && both.lines().count() == 1, "{both}");
        // Ours is made all the same, for when the other one goes.
        let one = told_of(vec![foreign()]);
        assert!(one.contains("\n+ route"), "{one}");
        // To the same next hop it does no harm, and behind ours neither.
        let behind = held(&to_peer(cidr, other), own.saturating_add(1), 186, 2);
        let ours = held(&wanted[0], own, OURS, 2);
        if !gateway.is_empty() {
            assert_eq!(told_of(vec![ours.clone(), behind]), "");
            let same = held(&wanted[0], metric, 186, 2);
            assert_eq!(told_of(vec![same.clone(), ours]), "");
            assert_eq!(told_of(vec![same]), "");
        }
    }
}

/// The order in which the kernel lists routes is the one in which it uses those of
/// one key; what is compared in another order comes to the same.
#[test]
fn the_order_of_a_list_does_not_matter() {
    let wanted = [blackhole("10.1.0.0/24"), to_peer("10.2.0.0/24", "192.0.2.2")];
    let mut routes = vec![
        held(&wanted[0], 0, OURS, 0),
        held(&to_peer("10.2.0.0/24", "192.0.2.9"), 0, OURS, 2),
        held(&to_peer("10.3.0.0/24", "192.0.2.3"), 0, OURS, 2),
    ];
    let forwards = told(&wanted, routes.clone());
    routes.reverse();
    assert_eq!(told(&wanted, routes), forwards);
    assert_eq!(forwards.len(), 4, "{forwards:#?}");
}
