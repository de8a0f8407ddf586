// SPDX-License-Identifier: Apache-2.0
//! Several routes of one destination: which one the kernel uses, and whose it is.

use serde_json::json;

use crate::cluster::{Cluster, Families, Node, batch};

fn direct() -> Cluster {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "direct"}));
    cluster.nodes[0].apply().ok();
    cluster
}

/// One pass puts everything right, and there was something to put right.
#[track_caller]
fn is_repaired(node: &Node, before: &[String], disturbance: &str) {
    batch(&node.host, disturbance);
    assert_ne!(node.state(), before, "{disturbance}");
    node.apply().ok();
    assert_eq!(node.state(), before, "{disturbance}");
    node.assert_settled();
}

/// The kernel's "replace" is for the first of them only.
#[test]
fn surplus_routes_of_ours_go() {
    let cluster = direct();
    let node = &cluster.nodes[0];
    let before = node.state();
    for disturbance in [
        "route append 10.244.2.0/24 via 192.0.2.77 dev eth0 proto 109",
        "route prepend 10.244.2.0/24 via 192.0.2.77 dev eth0 proto 109",
        "route append 10.244.2.0/24 via 192.0.2.77 dev eth0 proto 109
         route append 10.244.2.0/24 via 192.0.2.78 dev eth0 proto 109",
        "route prepend 10.244.2.0/24 via 192.0.2.77 dev eth0 proto 109
         route del 10.244.2.0/24 via 192.0.2.12
         route append 10.244.2.0/24 via 192.0.2.78 dev eth0 proto 109",
        "route add 10.250.0.0/24 tos 0x10 via 192.0.2.77 dev eth0 proto 109",
        "route add 10.244.2.0/24 tos 0x10 via 192.0.2.77 dev eth0 proto 109",
        "route append fd00:244:2::/64 via 2001:db8:1::77 dev eth0 proto 109",
    ] {
        is_repaired(node, &before, disturbance);
    }
}

/// What changes a route without changing where it leads.
#[test]
fn a_route_that_somebody_has_adorned_is_put_right() {
    let cluster = direct();
    let node = &cluster.nodes[0];
    let before = node.state();
    let route = "route replace 10.244.2.0/24 via 192.0.2.12 dev eth0 onlink proto 109";
    let ipv6 = "route replace fd00:244:2::/64 via 2001:db8:1::12 dev eth0 onlink proto 109";
    for adornment in ["src 192.0.2.11", "advmss 500", "mtu 1300", "mtu lock 1300"] {
        is_repaired(node, &before, &format!("{route} {adornment}"));
    }
    for adornment in ["src 2001:db8:1::11", "advmss 500", "mtu 1300"] {
        is_repaired(node, &before, &format!("{ipv6} {adornment}"));
    }
}

/// In front of ours it takes the traffic, and that is told; behind, with another
/// type of service, or with another metric, it is nobody's business here.
#[test]
fn a_foreign_route_beside_ours_counts_where_it_wins() {
    let cluster = direct();
    let node = &cluster.nodes[0];
    batch(&node.host, "route prepend 10.244.2.0/24 via 192.0.2.77 dev eth0 proto 4");
    let state = node.state();
    let apply = node.apply();
    assert_eq!(apply.status, 1, "{apply:?}");
    assert!(apply.stdout.contains("! route 10.244.2.0/24: "), "{apply:?}");
    assert!(apply.stdout.contains("192.0.2.77"), "{apply:?}");
    assert_eq!(node.state(), state, "ours is there for when the other one is gone");
    batch(&node.host, "route del 10.244.2.0/24 via 192.0.2.77");
    node.assert_settled();
    batch(
        &node.host,
        "route append 10.244.2.0/24 via 192.0.2.77 dev eth0 proto 4
         route add 10.244.2.0/24 tos 0x10 via 192.0.2.77 dev eth0 proto 4",
    );
    let state = node.state();
    node.assert_settled();
    node.apply().ok();
    assert_eq!(node.state(), state);
    node.manx(&["apply", "--undo"]).ok();
    let left: Vec<String> = state.into_iter().filter(|line| !line.contains("proto 109")).collect();
    assert_eq!(node.state(), left);
}

/// BGP without numbers: IPv4 through a next hop of IPv6 is a way through a router.
#[test]
fn a_next_hop_of_the_other_family_is_a_router() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    batch(&node.host, "route add 192.0.2.12/32 via inet6 fe80::1 dev eth0");
    node.apply().ok();
    node.assert_settled();
    let route = |node: &Node| {
        let routes = node.routes();
        routes.iter().find(|line| line.starts_with("10.244.2.0/24")).cloned().unwrap()
    };
    assert_eq!(route(node), "10.244.2.0/24 via inet6 fe80::1 dev eth0 proto 109");
    let wrapped = node.with("mode", "vxlan".into()).with("crossSubnet", "route".into());
    wrapped.apply().ok();
    wrapped.assert_settled();
    let tunnelled = "10.244.2.0/24 via 10.244.2.0 dev vxlan.calico proto 109 onlink mtu 1450";
    assert_eq!(route(node), tunnelled);
}
