//! Routes of ours beside those of others.

use super::*;
use crate::{
    conf::Mode,
    fabric::settings::{METRIC_LAST, Settings},
    net::route::{Found, Kind, Route},
};

const OURS: u8 = 109;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn blackhole(destination: &str) -> FabricRoute {
    wanted(destination, Target::Blackhole)
}

fn wanted(destination: &str, target: Target) -> FabricRoute {
    let destination: IpNetwork = destination.parse().unwrap();
    let metric = Settings::of_mode(Mode::Direct).metric(&target, destination.is_ipv6());
    FabricRoute { destination, metric, protocol: OURS, target }
}

fn to_peer(destination: &str, gateway: &str) -> FabricRoute {
    let gateway = ip(gateway);
    let target = Target::Node { gateway, device: "eth0".into(), onlink: true, mtu: None };
    wanted(destination, target)
}

/// A route that is held: its metric, its protocol, and where it leads.
fn held(route: &FabricRoute, metric: u32, protocol: u8, device: u32) -> HeldRoute {
    let mut plain = Route::new(route.destination);
    plain.protocol = protocol;
    plain.priority = Some(metric);
    match &route.target {
        Target::Blackhole => plain.kind = Kind::Blackhole,
        Target::Node { gateway, .. } => plain.gateway = Some(*gateway),
    }
    let devices = if plain.kind == Kind::Blackhole { Vec::new() } else { vec![device] };
    HeldRoute {
        destination: route.destination,
        protocol,
        ours: protocol == OURS,
        metric,
        target: Some(route.target.clone()),
        on_host_link: false,
        device: (!devices.is_empty()).then(|| "eth0".to_owned()),
        found: Found::new(plain, devices),
    }
}

/// The network of an address on a device of the node.
fn connected(destination: &str, metric: u32) -> HeldRoute {
    let mut route = held(&blackhole(destination), metric, PROTOCOL_KERNEL, 7);
    (route.target, route.found.route.kind) = (None, Kind::Unicast);
    (route.found.devices, route.device) = (vec![7], Some("br0".to_owned()));
    route
}

fn told(wanted: &[FabricRoute], routes: Vec<HeldRoute>) -> Vec<String> {
    let desired = Desired { routes: wanted.to_vec(), ..Desired::default() };
    let observed = Observed { routes, ..Observed::default() };
    let changes = diff(&desired, &observed);
    changes.iter().map(ToString::to_string).collect()
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
        let lent_of = |routes| {
            let desired = Desired { routes: wanted.to_vec(), ..Desired::default() };
            let observed = Observed { routes, ..Observed::default() };
            lent(&desired, &observed).len()
        };
        assert_eq!(lent_of(vec![connected(cidr, metric)]), 1);
        assert_eq!(lent_of(vec![connected(cidr, metric), ours()]), 0);
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
        let own = Settings::of_mode(Mode::Direct).metric(&wanted[0].target, gateway.contains(':'));
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
