// SPDX-License-Identifier: Apache-2.0
//! Configurations that cannot be used, beside others that can.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, SOON, batch, entry};
use crate::harness::{DEADLINE, Finished, Stdin, eventually, run};
use crate::networks::{command_of_all, manx_of_all, write_configuration};
use crate::watch::Watch;

/// Another network of the node.
fn other(node: &Node) -> Node {
    let ipam = json!({"type": "static", "addresses": [{"address": "10.244.1.200/24"}]});
    node.with("name", "other".into()).with("ipam", ipam)
}

/// The configuration of a node with a typo, cut off, just being written, with a number that
/// no reader takes, and with a list in the place of the object.
fn broken(node: &Node) -> [String; 5] {
    let whole = node.plugin.conf.to_string();
    let typo = node.with("mode", "warp".into()).plugin.conf.to_string();
    let number = whole.replacen('{', "{\"x\": 1e999, ", 1);
    [typo, whole[..90].to_owned(), String::new(), number, format!("[{whole}]")]
}

/// What cannot be used is told, and nothing goes that its network may share.
#[test]
fn nothing_is_removed_beside_a_configuration_that_cannot_be_used() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let sharing = other(node);
    let pod = node.attach("a");
    node.plugin.del(&pod).ok();
    manx_of_all(&[node, &sharing], &["apply"]).ok();
    let (before, tables) = (node.state(), nftables(node));
    assert!(tables.contains("inet manx-net"), "{tables}");
    let without = sharing.with("peersFile", Value::Null);
    for text in broken(node) {
        write_configuration(node, 0, &text);
        write_configuration(node, 1, &without.plugin.conf.to_string());
        for command in ["plan", "apply"] {
            let said = manx_of_directory(node, &[command]);
            assert!(said.status != 0 && said.stdout.is_empty(), "{text}: {said:?}");
            assert_eq!(said.stderr.matches("00-manx.conf").count(), 1, "{text}: {said:?}");
        }
        without.apply().ok();
        assert_eq!(node.state(), before, "{text}");
        assert_eq!(nftables(node), tables, "{text}");
    }
    // Without the file nobody asks for them any more.
    write_configuration(node, 0, "{}");
    manx_of_directory(node, &["apply"]).ok();
    assert_eq!(node.routes(), [""; 0]);
    assert_eq!(nftables(node), "");
}

fn manx_of_directory(node: &Node, args: &[&str]) -> Finished {
    node.host.enter(|| run(command_of_all(node, args), &Stdin::Null, DEADLINE))
}

fn nftables(node: &Node) -> String {
    node.host.command("nft", &["list", "tables"]).ok()
}

#[test]
fn a_watch_goes_on_beside_a_configuration_that_cannot_be_used() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let without = other(node).with("peersFile", Value::Null);
    manx_of_all(&[node, &without], &["apply"]).ok();
    let watch = Watch::of(node, command_of_all(node, &["apply", "--watch"]), None);
    watch.repairs("before", || batch(&node.host, "route del 10.244.2.0/24"));
    for text in broken(node) {
        write_configuration(node, 0, &text);
        assert!(eventually(SOON, || watch.log().contains("00-manx.conf")), "{}", watch.log());
        watch.comes_to_rest();
        watch.repairs(&text, || batch(&node.host, "route del 10.244.2.0/24"));
    }
}

/// A network that is refused its peers file keeps no other from being served, in
/// whichever order their files are read.
#[test]
fn a_refused_peers_file_is_the_affair_of_its_network() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let refused = other(node).with("clusterCIDRs", json!(["10.99.0.0/16"]));
    for all in [[&refused, node], [node, &refused]] {
        let apply = manx_of_all(&all, &["apply"]);
        assert_eq!(apply.status, 1, "{apply:?}");
        assert!(!node.routes().is_empty(), "{apply:?}");
        let plan = manx_of_all(&all, &["plan"]);
        assert!(plan.status == 3 && plan.stdout.is_empty(), "{plan:?}");
        for said in [&apply, &plan] {
            let mut lines = said.stderr.lines().filter(|line| line.contains("peers file"));
            let names = |line: &str| line.contains("clusterCIDRs of network other");
            assert!(lines.next().is_some_and(names) && lines.next().is_none(), "{said:?}");
        }
        node.manx(&["apply", "--undo"]).ok();
    }
    // What is wrong for both is said once.
    node.apply().ok();
    let before = node.state();
    node.write_peers("{");
    let apply = manx_of_all(&[node, &other(node)], &["apply"]);
    assert_eq!(apply.status, 1, "{apply:?}");
    assert_eq!(apply.stderr.matches("peers file").count(), 1, "{apply:?}");
    assert_eq!(node.state(), before);
}

/// What is gone on with follows the peers file all the same.
#[test]
fn a_watch_follows_the_peers_file_beside_a_configuration_that_cannot_be_used() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    let nodes: Vec<Value> = (1..=2).map(|number| entry(number, Families::Ipv4)).collect();
    let say = |fabric: &Value| {
        node.write_peers(&json!({"self": "node-a", "fabric": fabric, "nodes": nodes}).to_string());
    };
    let without = other(node).with("peersFile", Value::Null);
    let sharing = other(node).with("mode", "direct".into());
    for others in [&[][..], &[&without], &[&sharing]] {
        say(&json!({}));
        let all = [&[node][..], others].concat();
        manx_of_all(&all, &["apply"]).ok();
        let watch = Watch::of(node, command_of_all(node, &["apply", "--watch"]), None);
        watch.repairs("before", || batch(&node.host, "route del 10.244.2.0/24"));
        write_configuration(node, 0, "{");
        assert!(eventually(SOON, || watch.log().contains("00-manx.conf")), "{}", watch.log());
        say(&json!({"mode": "direct", "routeProtocol": 110}));
        let moved = || {
            let state = node.state().join("\n");
            state.contains("10.244.2.0/24 via 192.0.2.12 dev eth0 proto 110")
                && !state.contains("proto 109")
        };
        assert!(eventually(SOON, moved), "{:#?}\n{}", node.state(), watch.log());
        watch.comes_to_rest();
        assert!(moved() && !watch.log().contains("disagree"), "{}", watch.log());
        drop(watch);
        manx_of_all(&all, &["apply", "--undo"]).ok();
        if !others.is_empty() {
            write_configuration(node, 1, "{}");
        }
    }
}

/// Another node whose pods one network does not know is served for those that do, in
/// whichever order their files are read.
#[test]
fn a_network_with_narrow_cluster_cidrs_takes_no_peer_from_others() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let narrow = |network: &Node, cidrs: &[&str]| network.with("clusterCIDRs", json!(cidrs));
    let all = narrow(&other(node), &["10.244.1.0/24", "10.244.2.0/24"]);
    let first = narrow(node, &["10.244.1.0/24"]);
    for all in [[&first, &other(node)], [&other(node), &first], [&first, &all], [&all, &first]] {
        let apply = manx_of_all(&all, &["apply"]);
        assert!(apply.status == 0 && apply.stderr.is_empty(), "{apply:?}");
        assert_eq!(node.routes().len(), 2, "{apply:?}");
        node.manx(&["apply", "--undo"]).ok();
    }
    // None of them knows it.
    let apply = manx_of_all(&[&first, &narrow(&other(node), &["10.244.1.0/24"])], &["apply"]);
    assert!(apply.stderr.contains("node-b is left out"), "{apply:?}");
    assert_eq!(node.routes().len(), 1, "{apply:?}");
}

/// Who takes all back is told of which networks that cannot be known.
#[test]
fn undo_and_export_tell_of_configurations_that_cannot_be_used() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    write_configuration(node, 0, &node.plugin.conf.to_string());
    write_configuration(node, 1, "{");
    let exported = manx_of_directory(node, &["export", "bird"]);
    assert!(exported.status == 0 && exported.stderr.contains("10-manx.conf"), "{exported:?}");
    let undone = manx_of_directory(node, &["apply", "--undo"]);
    assert!(undone.status == 1 && undone.stderr.contains("10-manx.conf"), "{undone:?}");
    assert_eq!(node.routes(), [""; 0], "and what is known is taken back");
}

/// Why a former fabric stays is said, also to who names another configuration.
#[test]
fn what_stays_for_a_configuration_that_cannot_be_used_is_told_with_its_reason() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let sharing = other(node);
    manx_of_all(&[node, &sharing], &["apply"]).ok();
    let before = node.state();
    let without = node.with("peersFile", Value::Null);
    // Another one asks for it.
    write_configuration(node, 0, &without.plugin.conf.to_string());
    for args in [&["plan"][..], &["apply"]] {
        for said in [without.manx(args), manx_of_directory(node, args)] {
            assert!(said.status == 0 && !said.stderr.contains("former"), "{said:?}");
        }
    }
    write_configuration(node, 1, "{");
    for args in [&["plan"][..], &["apply"]] {
        for said in [without.manx(args), manx_of_directory(node, args)] {
            assert!(!said.stderr.contains("configuration go"), "{said:?}");
            assert_eq!(said.stderr.matches("10-manx.conf").count(), 1, "{said:?}");
        }
    }
    assert_eq!(node.state(), before);
    // Nor is the node's forwarding turned on for a network that it may be about.
    let pod = sharing.attach("a");
    node.host.set_sysctl("ipv4/ip_forward", "0");
    let without = without.with("name", "third".into());
    write_configuration(node, 0, &without.plugin.conf.to_string());
    let said = manx_of_directory(node, &["plan"]);
    assert!(!said.stdout.contains("ip_forward"), "{said:?}");
    drop(pod);
}
