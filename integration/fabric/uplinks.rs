// SPDX-License-Identifier: Apache-2.0
//! The way to the peers becomes another: each ADD sees it, and gives the tunnel
//! and the new pod the MTU that fits.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, batch};
use crate::harness::{Netns, connect};

fn mtu(netns: &Netns, link: &str) -> Value {
    netns.link(link).unwrap_or_else(|| panic!("no {link}"))["mtu"].clone()
}

/// A new pod fits an uplink of `mtu` bytes, and so does the tunnel.
#[track_caller]
fn new_pod_fits(node: &Node, bytes: u32) {
    let tunnel = match node.plugin.conf["mode"].as_str() {
        Some("vxlan") => Some(("vxlan.calico", 50)),
        _ => None,
    };
    let overhead = tunnel.map_or(0, |(_, overhead)| overhead);
    let pod = node.attach("new");
    assert_eq!(mtu(&pod.netns, "eth0"), bytes - overhead);
    if let Some((device, _)) = tunnel {
        assert_eq!(mtu(&node.host, device), bytes - overhead);
    }
    node.plugin.del(&pod).ok();
    node.assert_settled();
}

#[test]
fn the_uplinks_mtu_is_lowered_and_raised() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": mode}));
        let node = &cluster.nodes[0];
        new_pod_fits(node, 1500);
        for bytes in [1400, 1300, 1500] {
            batch(&node.host, &format!("link set eth0 mtu {bytes}"));
            new_pod_fits(node, bytes);
        }
    }
}

/// A node that is alone in its list goes by its default route.
#[test]
fn a_node_without_peers_looks_as_well() {
    let cluster = Cluster::new(1, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    new_pod_fits(node, 1500);
    batch(&node.host, "link set eth0 mtu 1400");
    new_pod_fits(node, 1400);
    batch(&node.host, "route replace default via 192.0.2.1 dev eth0 mtu 1350");
    new_pod_fits(node, 1350);
}

/// The status of a node is not believed either.
#[test]
fn status_looks_as_well() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    node.plugin.status().ok();
    node.plugin.status().ok();
    batch(&node.host, "link set eth0 mtu 1400");
    node.plugin.status().ok();
    assert_eq!(mtu(&node.host, "vxlan.calico"), 1350);
}

/// eth0 is gone, and a bond, say, has its address.
#[test]
fn another_device_takes_the_uplinks_place() {
    for stays in [false, true] {
        let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
        let node = &cluster.nodes[0];
        new_pod_fits(node, 1500);
        connect((&node.host, "bond0", &[]), (&cluster.router, "to-bond0", &[]));
        batch(&cluster.router, "link set to-bond0 master subnet1");
        let eth0 = if stays { "address flush dev eth0" } else { "link del eth0" };
        batch(
            &node.host,
            &format!(
                "link set bond0 mtu 1420
                 {eth0}
                 address add 192.0.2.11/24 dev bond0
                 route add default via 192.0.2.1"
            ),
        );
        new_pod_fits(node, 1420);
        assert_eq!(
            node.host.link("vxlan.calico").unwrap()["linkinfo"]["info_data"]["link"],
            "bond0"
        );
    }
}

/// The device stays as it is; the route to the peer is another.
#[test]
fn a_route_to_the_peers_gets_an_mtu_of_its_own() {
    for route in [
        "route add 192.0.2.12/32 dev eth0 mtu 1400",
        "route add 192.0.2.12/32 dev eth0 mtu lock 1400",
        "route replace 192.0.2.0/24 dev eth0 scope link src 192.0.2.11 proto kernel mtu 1400",
    ] {
        let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
        let node = &cluster.nodes[0];
        new_pod_fits(node, 1500);
        batch(&node.host, route);
        new_pod_fits(node, 1400);
    }
}

#[test]
fn a_default_route_to_the_peers_has_an_mtu_of_its_own() {
    let cluster = Cluster::of(&[1, 3], Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    batch(
        &node.host,
        "route replace default via 192.0.2.1 dev eth0 mtu 1400
         route replace default via 2001:db8:1::1 dev eth0 mtu 1390",
    );
    node.apply().ok();
    assert_eq!(mtu(&node.host, "vxlan.calico"), 1350);
    assert_eq!(mtu(&node.host, "vxlan-v6.calico"), 1320);
    let pod = node.attach("a");
    assert_eq!(mtu(&pod.netns, "eth0"), 1320);
    batch(&node.host, "route replace default via 2001:db8:1::1 dev eth0 mtu 1380");
    assert_eq!(mtu(&node.attach("b").netns, "eth0"), 1310);
}

/// Whichever path a peer's packets take, the tunnel fits all.
#[test]
fn the_narrowest_of_several_paths_counts() {
    let cluster = Cluster::of(&[1, 3], Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    connect(
        (&node.host, "eth1", &["192.0.3.11/24", "2001:db8:3::11/64"]),
        (&cluster.router, "second", &["192.0.3.1/24", "2001:db8:3::1/64"]),
    );
    batch(
        &node.host,
        "link set eth1 mtu 1400
         route replace default nexthop via 192.0.2.1 dev eth0 nexthop via 192.0.3.1 dev eth1
         route del default via 2001:db8:1::1",
    );
    let paths = "-6 route add default nexthop via 2001:db8:1::1 dev eth0 \
                 nexthop via 2001:db8:3::1 dev eth1";
    node.host.command("ip", &paths.split(' ').collect::<Vec<_>>()).ok();
    node.apply().ok();
    assert_eq!(mtu(&node.host, "vxlan.calico"), 1350);
    assert_eq!(mtu(&node.host, "vxlan-v6.calico"), 1330);
    assert_eq!(mtu(&node.attach("a").netns, "eth0"), 1330);
    // Of the one that the kernel's own look-up may not name.
    batch(&node.host, "link set eth1 mtu 1380");
    assert_eq!(mtu(&node.attach("b").netns, "eth0"), 1310);
    batch(&node.host, "link set eth1 mtu 1500\nlink set eth0 mtu 1390");
    assert_eq!(mtu(&node.attach("c").netns, "eth0"), 1320);
    node.assert_settled();
}

/// As clouds have it that give a node a /32 and a router outside of it.
#[test]
fn a_router_that_its_route_alone_calls_onlink() {
    let cluster = Cluster::of(&[1, 3], Families::Ipv4, &json!({"mode": "direct"}));
    cluster.teach_router();
    let node = &cluster.nodes[0];
    batch(&cluster.router, "address add 172.31.1.1/32 dev subnet1");
    batch(
        &node.host,
        "address del 192.0.2.11/24 dev eth0
         address add 192.0.2.11/32 dev eth0
         route add default via 172.31.1.1 dev eth0 onlink",
    );
    cluster.apply();
    let route = "10.244.3.0/24 via 172.31.1.1 dev eth0 proto 109 onlink";
    assert!(node.routes().iter().any(|line| line == route), "{:#?}", node.routes());
    let pods = cluster.pods();
    assert!(pods[0].netns.pings(&crate::cluster::addresses(&pods[1])[0]));
    node.assert_settled();
    node.plugin.status().ok();
}

/// The same of two routers, over which packets are spread.
#[test]
fn routers_that_a_route_of_several_paths_calls_onlink() {
    let cluster = Cluster::of(&[1, 3], Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    batch(
        &node.host,
        "address del 192.0.2.11/24 dev eth0
         address add 192.0.2.11/32 dev eth0
         route add default nexthop via 172.31.1.1 dev eth0 onlink nexthop via 172.31.1.2 dev eth0 onlink",
    );
    node.apply().ok();
    let to_peer = |line: &String| line.starts_with("10.244.3.0/24 via 172.31.1.");
    assert!(node.routes().iter().any(to_peer), "{:#?}", node.routes());
    node.assert_settled();
}

/// What is in a pod is the pod's: it is told which are too wide now.
#[test]
fn pods_that_are_too_wide_by_now_are_told() {
    for peers in [true, false] {
        let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
        let node = match peers {
            true => cluster.nodes[0].with("mode", "vxlan".into()),
            false => cluster.nodes[0].with("peersFile", Value::Null),
        };
        let old = crate::harness::Pod::new("a").kubernetes("shop", "web");
        node.plugin.add(&old).ok();
        assert!(!node.plan().stderr.contains("shop/web"));
        batch(&node.host, "link set eth0 mtu 1400");
        let _new = node.attach("b");
        let plan = node.plan();
        assert!(plan.status == 0 && plan.stdout.is_empty(), "{plan:?}");
        let note = "note: MTU 1430 of shop/web is above 1330";
        assert!(plan.stderr.contains(note), "{plan:?}");
        batch(&node.host, "link set eth0 mtu 1500");
        assert!(!node.plan().stderr.contains("shop/web"));
    }
}
