// SPDX-License-Identifier: Apache-2.0
//! `manx apply --undo` takes back what is ours.

use serde_json::json;

use crate::cluster::{Cluster, Families, Node, batch};

#[test]
fn undo_leaves_the_node_as_it_was() {
    for (mode, cross_subnet) in [("direct", false), ("vxlan", false), ("vxlan", true)] {
        let keys = json!({"mode": mode, "crossSubnet": cross_subnet});
        let cluster = Cluster::new(3, Families::Dual, &keys);
        let node = &cluster.nodes[0];
        let before = node.state();
        node.apply().ok();
        assert_ne!(node.state(), before);
        let undo = node.manx(&["apply", "--undo"]);
        assert!(undo.stdout.contains("- route 10.244.2.0/24"), "{undo:?}");
        undo.ok();
        assert_eq!(node.state(), before, "{mode}");
        let again = node.manx(&["apply", "--undo"]);
        assert!(again.status == 0 && again.stdout.is_empty(), "{again:?}");
        node.apply().ok();
        node.assert_settled();
    }
}

/// Pods keep their own routes, and what keeps them from speaking in other names.
#[test]
fn undo_leaves_pods_on_their_node() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan", "ipMasq": true}));
    let node = &cluster.nodes[0];
    let (one, other) = (node.attach("a"), node.attach("b"));
    let table = || node.host.command("nft", &["list", "table", "inet", "manx-net"]).ok();
    let before = table();
    let undone = node.manx(&["apply", "--undo"]);
    assert!(undone.status == 0 && undone.stderr.contains("of network net stays"), "{undone:?}");
    assert_eq!(node.routes(), [""; 0]);
    assert_eq!(table(), before);
    assert_eq!(tables(node), "table inet manx-net\n");
    for address in crate::cluster::addresses(&other) {
        assert!(one.netns.pings(&address), "{address}");
        assert!(node.host.pings(&address), "{address}");
    }
    node.apply().ok();
    node.assert_settled();
    assert!(tables(node).contains("manx.fabric-109"));
    // A link that lost its group is a pod all the same; a note without a link is none.
    node.plugin.del(&one).ok();
    let left = node.host.links().into_iter().find(|link| link.starts_with("cali")).unwrap();
    node.host.command("ip", &["link", "set", &left, "group", "default"]).ok();
    node.manx(&["apply", "--undo"]).ok();
    assert_eq!(tables(node), "table inet manx-net\n");
    node.host.command("ip", &["link", "del", &left]).ok();
    let undone = node.manx(&["apply", "--undo"]);
    assert!(undone.stdout.contains("- nftables table of network net"), "{undone:?}");
    assert_eq!(tables(node), "");
}

fn tables(node: &Node) -> String {
    node.host.command("nft", &["list", "tables"]).ok()
}

/// Ours are the routes of our protocol, whatever the metric was, and no other.
#[test]
fn another_metric_leaves_no_routes_of_the_old_one() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    let other = node.with("routeMetric", 50.into());
    other.apply().ok();
    other.assert_settled();
    let routes = node.routes();
    // Those to nowhere stand behind all others, whatever the metric of the rest.
    let of_metric = |line: &String| {
        let metric = if line.starts_with("blackhole") { "4294967295" } else { "50" };
        line.contains(&format!("metric {metric}"))
    };
    assert!(routes.len() == 4 && routes.iter().all(of_metric), "{routes:#?}");
    batch(&node.host, "route add 10.77.0.0/16 via 192.0.2.1 proto 110");
    node.manx(&["apply", "--undo"]).ok();
    assert_eq!(node.routes(), [""; 0]);
    assert!(node.state().iter().any(|line| line.contains("10.77.0.0/16")));
}
