// SPDX-License-Identifier: Apache-2.0
//! Where something is missing that a fabric goes by.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, batch, entry};

fn mtu(node: &Node, device: &str) -> Value {
    node.host.link(device).unwrap()["mtu"].clone()
}

/// As on the first node of a cluster, and where a routing daemon has the routes.
#[test]
fn a_node_that_is_alone_takes_the_mtu_of_its_device() {
    for device_mtu in [1460, 9000] {
        let cluster = Cluster::new(1, Families::Dual, &json!({"mode": "vxlan"}));
        let node = &cluster.nodes[0];
        batch(&node.host, &format!("link set eth0 mtu {device_mtu}"));
        node.plugin.status().ok();
        let pod = node.attach("a");
        assert_eq!(mtu(node, "vxlan.calico"), device_mtu - 50);
        assert_eq!(mtu(node, "vxlan-v6.calico"), device_mtu - 70);
        assert_eq!(pod.netns.link("eth0").unwrap()["mtu"], device_mtu - 70);
        // Without a default route, the node's address tells.
        for family in ["-4", "-6"] {
            node.host.command("ip", &[family, "route", "del", "default"]).ok();
        }
        node.assert_settled();
    }
}

/// What should be wrapped is not shown to the network for want of a tunnel.
#[test]
fn a_tunnel_that_cannot_be_made_is_no_reason_for_plain_routes() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let mut nodes: Vec<Value> = (1..=3).map(|number| entry(number, Families::Ipv4)).collect();
    // As behind a translation of addresses, or before the address is there.
    nodes[0]["addresses"] = json!(["203.0.113.11"]);
    node.set_peers(&nodes);
    let status = node.plugin.status();
    assert_eq!(status.code(), Some(50), "{status:?}");
    assert!(status.stdout.contains("no device of this machine has 203.0.113.11"), "{status:?}");
    let apply = node.apply();
    assert!(apply.status == 1 && apply.stderr.contains("203.0.113.11"), "{apply:?}");
    assert_eq!(node.routes(), ["blackhole 10.244.1.0/24 proto 109 metric 4294967295"]);
    // Those in the same subnet are not to be wrapped.
    let cross = node.with("crossSubnet", "route".into());
    cross.apply();
    let routes = node.routes();
    assert!(routes.iter().any(|route| route.starts_with("10.244.2.0/24 via 192.0.2.12 dev eth0")));
    assert_eq!(routes.len(), 2, "{routes:#?}");
}

/// As on a node of the control plane.
#[test]
fn a_node_without_pods_reaches_those_of_others() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    for given in [json!([]), json!(["10.255.0.1"])] {
        let mut nodes: Vec<Value> = (1..=3).map(|number| entry(number, Families::Ipv4)).collect();
        nodes[0]["podCIDRs"] = json!([]);
        nodes[0]["tunnelAddresses"] = given.clone();
        node.set_peers(&nodes);
        let apply = node.apply();
        assert_eq!(apply.status, 0, "{apply:?}");
        let told = apply.stderr.contains("bears that of another device");
        assert_eq!(told, given == json!([]), "{apply:?}");
        node.assert_settled();
        for number in [2, 3] {
            let route = format!("10.244.{number}.0/24 via 10.244.{number}.0 dev vxlan.calico");
            assert!(node.routes().iter().any(|line| line.starts_with(&route)), "{route}");
        }
    }
    let state = node.state().join("\n");
    assert!(state.contains("address \"vxlan.calico\" \"10.255.0.1\" 32"), "{state}");
}

/// What no outer packet has room for is a warning with both numbers.
#[test]
fn an_mtu_above_what_a_tunnel_carries_is_a_warning() {
    for (mtu_mode, wanted) in [("link", 1500), ("route", 1500), ("link", 1400)] {
        let keys = json!({"mode": "vxlan", "mtu": wanted, "mtuMode": mtu_mode});
        let cluster = Cluster::new(2, Families::Ipv4, &keys);
        let node = &cluster.nodes[0];
        let apply = node.apply();
        assert_eq!(apply.status, 0, "{apply:?}");
        let both = apply.stderr.contains("1500") && apply.stderr.contains("1450");
        assert_eq!(both, wanted == 1500, "{apply:?}");
        let _pod = node.attach("a");
        node.plugin.status().ok();
        let carried = wanted.min(1450);
        assert_eq!(mtu(node, "vxlan.calico"), carried);
        let route = format!("dev vxlan.calico proto 109 mtu {carried}");
        let routes = node.routes().join("\n").replace(" onlink", "");
        assert!(routes.contains(&route), "{routes}");
    }
}

/// A way that the fabric itself has made leads to no node, and its width is no
/// width to go by: each pass would take the overhead off once more.
#[test]
fn a_way_through_our_own_tunnel_is_none() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    batch(&node.host, "route add 198.51.100.13/32 dev vxlan.calico");
    for _ in 0..3 {
        let apply = node.apply();
        assert!(apply.stderr.contains("node-c: no route to 198.51.100.13"), "{apply:?}");
        assert_eq!(mtu(node, "vxlan.calico"), 1450);
    }
    assert_eq!(node.plan().stdout, "");
}
