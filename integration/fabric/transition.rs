// SPDX-License-Identifier: Apache-2.0
//! From one configuration to another, with the fabric of the first in place.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, SOON, addresses, batch};
use crate::harness::eventually;

/// Applies once, and expects that once is enough.
#[track_caller]
fn becomes(node: &Node) {
    node.apply().ok();
    node.assert_settled();
}

/// The routes of `node` to others by their device.
fn devices(node: &Node) -> Vec<String> {
    let word = |line: &String| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "dev");
        Some(format!("{} {}", line.split_whitespace().next()?, words.nth(1)?))
    };
    node.routes().iter().filter(|line| line.contains(" via ")).filter_map(word).collect()
}

/// The kernel takes no next hop that it would look for on another device, and a
/// peer's tunnel address lies in the very prefix whose old route leads there.
#[test]
fn plain_routes_become_tunnelled_ones_in_both_families() {
    let changes: [(Value, Value); 2] = [
        (json!({"mode": "direct"}), json!({"mode": "vxlan"})),
        (
            json!({"mode": "vxlan", "crossSubnet": true}),
            json!({"mode": "vxlan", "crossSubnet": false}),
        ),
    ];
    for (before, after) in changes {
        let cluster = Cluster::new(2, Families::Dual, &before);
        cluster.apply();
        let pods = cluster.pods();
        let to_peer = devices(&cluster.nodes[0]);
        assert_eq!(to_peer, ["10.244.2.0/24 eth0", "fd00:244:2::/64 eth0"], "{before}");
        for node in &cluster.nodes {
            let mut other = node.with("mode", after["mode"].clone());
            if let Some(only) = after.get("crossSubnet") {
                other = other.with("crossSubnet", only.clone());
            }
            becomes(&other);
        }
        let to_peer = devices(&cluster.nodes[0]);
        let tunnels = ["10.244.2.0/24 vxlan.calico", "fd00:244:2::/64 vxlan-v6.calico"];
        assert_eq!(to_peer, tunnels, "{after}");
        for address in addresses(&pods[1]) {
            assert!(pods[0].netns.pings(&address), "{after}: {address}");
        }
        for node in &cluster.nodes {
            becomes(node);
        }
        for address in addresses(&pods[1]) {
            assert!(pods[0].netns.pings(&address), "back to {before}: {address}");
        }
    }
}

/// Somebody's wider route to where the tunnel addresses are is no obstacle.
#[test]
fn a_wider_route_does_not_keep_tunnelled_ones_out() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    batch(
        &node.host,
        "route add fd00::/8 via 2001:db8:1::1 dev eth0\nroute add 10.0.0.0/8 via 192.0.2.1",
    );
    let before = node.state();
    becomes(node);
    cluster.nodes[1].apply().ok();
    let pods = cluster.pods();
    for address in addresses(&pods[1]) {
        assert!(pods[0].netns.pings(&address), "{address}");
    }
    drop(pods);
    node.manx(&["apply", "--undo"]).ok();
    // The kernel takes its time with the namespaces of pods.
    assert!(eventually(SOON, || node.state() == before), "{:#?}", node.state());
}

/// Two VXLAN devices of one identifier and port cannot be.
#[test]
fn a_device_gets_another_name() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    cluster.apply();
    let pods = cluster.pods();
    for node in &cluster.nodes {
        let vxlan = json!({"vni": 4096, "port": 4789, "device": "pods.7"});
        let other = node.with("vxlan", vxlan);
        let plan = other.plan();
        assert_eq!(plan.status, 3, "{plan:?}");
        becomes(&other);
        assert!(node.host.link("vxlan.calico").is_none());
    }
    let to_peer = devices(&cluster.nodes[0]);
    assert_eq!(to_peer, ["10.244.2.0/24 pods.7", "fd00:244:2::/64 pods-v6.7"]);
    for address in addresses(&pods[1]) {
        assert!(pods[0].netns.pings(&address), "{address}");
    }
}

/// What bears the network's former mark is taken over, not fought.
#[test]
fn a_network_changes_its_route_protocol() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::new(2, Families::Dual, &json!({"mode": mode}));
        cluster.apply();
        let pods = cluster.pods();
        let node = &cluster.nodes[0];
        let before = node.state();
        let index = || node.host.link("vxlan.calico").map(|link| link["ifindex"].clone());
        let device = index();
        let other = node.with("routeProtocol", 120.into());
        becomes(&other);
        let renumbered = |line: &String| line.replace("proto 109", "proto 120");
        assert_eq!(node.state(), before.iter().map(renumbered).collect::<Vec<_>>(), "{mode}");
        assert_eq!(index(), device, "the device is the same");
        for address in addresses(&pods[1]) {
            assert!(pods[0].netns.pings(&address), "{mode}: {address}");
        }
        // Back again, and gone without a trace of either.
        becomes(node);
        assert_eq!(node.state(), before);
        other.manx(&["apply", "--undo"]).ok();
        let left = node.state().join("\n");
        assert!(!left.contains("proto 109") && !left.contains("vxlan"), "{left}");
    }
}

/// What serves is not given up for what cannot be had.
#[test]
fn the_old_tunnel_stays_where_the_new_one_cannot_be_made() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    cluster.apply();
    let pods = cluster.pods();
    let node = &cluster.nodes[0];
    let foreign = "link add theirs type vxlan id 77 dstport 4789 local 192.0.2.11 dev eth0";
    batch(&node.host, foreign);
    let before = node.state();
    let other = node.with("vxlan", json!({"vni": 77, "port": 4789, "device": "ours.77"}));
    let apply = other.apply();
    assert_eq!(apply.status, 1, "{apply:?}");
    assert!(apply.stderr.contains("create vxlan device ours.77"), "{apply:?}");
    assert_eq!(node.state(), before);
    assert!(pods[0].netns.pings(&addresses(&pods[1])[0]));
    batch(&node.host, "link del theirs");
    becomes(&other);
    assert!(node.host.link("vxlan.calico").is_none());
}
