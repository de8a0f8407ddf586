// SPDX-License-Identifier: Apache-2.0
//! What a network leaves whose configuration is gone: its nftables table.

use std::fs;

use serde_json::json;

use crate::cluster::{Cluster, Families, NETWORK, Node};
use crate::harness::Pod;

fn node() -> (Cluster, Pod) {
    let cluster = Cluster::new(1, Families::Ipv4, &json!({"ipMasq": true}));
    let pod = cluster.nodes[0].attach("a");
    (cluster, pod)
}

fn has_table(node: &Node, network: &str) -> bool {
    let tables = node.host.command("nft", &["list", "tables"]).ok();
    tables.lines().any(|line| line == format!("table inet manx-{network}"))
}

#[test]
fn the_table_of_a_renamed_network_goes_with_its_last_pod() {
    let (cluster, first) = node();
    let node = &cluster.nodes[0];
    let second = node.attach("b");
    // It passes over the addresses that pods of the former name have.
    let ipam = json!({"type": "manx-ipam", "ranges": [[{"subnet": "10.244.1.0/24"}]]});
    let renamed = node.with("name", "renamed".into()).with("ipam", ipam);
    let new = renamed.attach("c");
    renamed.plugin.del(&first).ok();
    assert!(has_table(node, NETWORK) && has_table(node, "renamed"));
    renamed.plugin.del(&second).ok();
    assert!(!has_table(node, NETWORK) && has_table(node, "renamed"));
    assert!(new.netns.pings("192.0.2.11"));
}

#[test]
fn the_next_pass_removes_the_table_of_a_network_that_is_gone() {
    let (cluster, pod) = node();
    let node = &cluster.nodes[0];
    let other = node.with("name", "other".into()).with("peersFile", json!(null));
    // One with a live pod stays, whether or not its journal is there.
    other.assert_settled();
    let journal = node.host.scratch().path().join("root/run/manx").join(NETWORK);
    fs::remove_dir_all(&journal).unwrap();
    other.assert_settled();
    assert!(has_table(node, NETWORK));
    node.plugin.del(&pod).ok();
    let plan = other.plan();
    assert!(plan.stdout.contains("- nftables table manx-net"), "{plan:?}");
    other.apply().ok();
    other.assert_settled();
    assert!(!has_table(node, NETWORK));
}

#[test]
fn gc_removes_the_table_of_a_network_that_is_gone() {
    let (cluster, pod) = node();
    let node = &cluster.nodes[0];
    node.host.command("nft", &["add table inet mine"]).ok();
    let gc = || {
        let root = node.host.scratch().dir("root");
        let root = root.to_str().unwrap().to_owned();
        node.host.command(crate::cluster::MANX, &["gc", "--root", &root]).ok();
    };
    gc();
    assert!(has_table(node, NETWORK));
    node.plugin.del(&pod).ok();
    gc();
    let left = node.host.command("nft", &["list", "tables"]).ok();
    assert_eq!(left.trim(), "table inet mine");
}
