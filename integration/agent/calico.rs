// SPDX-License-Identifier: Apache-2.0
//! A node of manx among Calico's: the agent, an API server that has Calico's objects, and a node
//! that `ip` programs as Calico's agent, Felix, would.

mod api;
mod cluster;
mod moved;
mod plain;

use std::fs;

use serde_json::{Value, json};

use crate::ground::{CONFLIST, Ground};
use crate::harness::{DEADLINE, Pod, eventually};
use cluster::{Cluster, block, node, pool};

#[test]
fn no_pods_come_before_calicos_ipam_plugin_is_there() {
    let ground = Ground::new();
    let cluster = Cluster::new(&ground, &[node(1), node(2)], &[pool("Always")], &[]);
    let _agent = cluster.bare_agent();
    ground.await_log("no pods may come yet: there is no ");
    ground.await_log("calico-ipam");
    assert!(!ground.path(CONFLIST).exists());
    cluster.install();
    ground.await_file(CONFLIST);
    let conflist: Value =
        serde_json::from_slice(&fs::read(ground.path(CONFLIST)).unwrap()).unwrap();
    let plugin = &conflist["plugins"][0];
    assert_eq!(plugin["ipam"]["type"], "calico-ipam");
    assert_eq!((&plugin["nodename"], &plugin["ipMasq"]), (&json!("node-1"), &json!(true)));
    // No plugin is installed where plugins usually are, and Calico's knows no newer version.
    let checked = ground.manx(&["validate"]).stdout;
    let wrong = |line: &&str| line.starts_with("error") || line.starts_with("warning");
    let known =
        |line: &str| line.contains("no plugin") || line.contains("with 1.0.0 as the newest");
    assert!(checked.lines().filter(wrong).all(known), "{checked}");
}

#[test]
fn no_pods_come_before_calicos_nodes_know_the_tunnel() {
    let ground = Ground::new();
    let mut bare = node(1);
    bare["metadata"]["annotations"] = json!({});
    let cluster = Cluster::new(&ground, &[bare, node(2)], &[pool("Always")], &[]);
    let _agent = cluster.agent();
    ground.await_log("projectcalico.org/IPv4VXLANTunnelAddr=10.65.");
    ground.await_log("kubectl annotate node node-1 projectcalico.org/IPv4Address=192.0.2.11/24");
    ground.await_log("IPReservation");
    assert!(!ground.path(CONFLIST).exists());
    cluster.tell_node("MODIFIED", node(1));
    ground.await_file(CONFLIST);
}

/// Felix's routes, neighbour and forwarding entry to a block, and what it has of this node's.
#[test]
fn routes_are_what_felix_makes() {
    let ground = Ground::new();
    let blocks = [block("10.65.1.0/26", 1), block("10.65.2.64/26", 2)];
    let cluster = Cluster::new(&ground, &[node(1), node(2)], &[pool("Always")], &blocks);
    let _agent = cluster.agent();
    ground.await_file(CONFLIST);
    let said = |program: &str, arguments: &[&str]| ground.host.command(program, arguments).ok();
    let has = |said: &str, words: &[&str]| {
        said.lines().any(|line| words.iter().all(|word| line.contains(word)))
    };
    let routes = said("ip", &["route"]);
    let tunnelled = ["10.65.2.64/26 via 10.65.2.64 dev vxlan.calico", "onlink", "mtu 1450"];
    assert!(has(&routes, &tunnelled), "{routes}");
    assert!(has(&routes, &["blackhole 10.65.1.0/26"]), "{routes}");
    let mac = cluster::calico_mac("node-2");
    let neighbours = said("ip", &["neighbour", "show", "dev", "vxlan.calico"]);
    assert!(has(&neighbours, &["10.65.2.64", &mac, "PERMANENT"]), "{neighbours}");
    let entries = said("bridge", &["fdb", "show", "dev", "vxlan.calico"]);
    assert!(has(&entries, &[&mac, "dst 192.0.2.1 ", "permanent"]), "{entries}");
    let link = said("ip", &["-details", "link", "show", "vxlan.calico"]);
    assert!(has(&link, &["vxlan id 4096 local 192.0.2.11 dev eth0", "dstport 4789"]), "{link}");
    assert!(link.contains(&cluster::calico_mac("node-1")), "{link}");
    assert_eq!(ground.host.addresses("vxlan.calico")[0], "10.65.1.0/32");
    // A block that goes takes its route with it, and one that comes brings it.
    cluster.tell_block("DELETED", block("10.65.2.64/26", 2));
    cluster.tell_block("ADDED", block("10.65.3.0/26", 2));
    let moved = || {
        let routes = said("ip", &["route"]);
        has(&routes, &["10.65.3.0/26 via 10.65.2.64"]) && !routes.contains("10.65.2.64/26")
    };
    assert!(eventually(DEADLINE, moved), "{}: {}", said("ip", &["route"]), ground.log());
    assert_eq!(ground.manx(&["plan"]).status, 0, "{}", ground.manx(&["plan"]).stdout);
}

/// The list of nodes is as before, so that no pass comes to it.
#[test]
fn a_pool_that_is_not_masqueraded_any_more_changes_the_configuration() {
    let ground = Ground::new();
    let blocks = [block("10.65.1.0/26", 1), block("10.65.2.64/26", 2)];
    let cluster = Cluster::new(&ground, &[node(1), node(2)], &[pool("Always")], &blocks);
    let _agent = cluster.agent();
    ground.await_file(CONFLIST);
    let held =
        || -> Value { serde_json::from_slice(&fs::read(ground.path(CONFLIST)).unwrap()).unwrap() };
    assert_eq!(held()["plugins"][0]["ipMasq"], true);
    let mut plain = pool("Always");
    plain["spec"]["natOutgoing"] = json!(false);
    cluster.tell_pool("MODIFIED", plain);
    let renewed = || held()["plugins"][0]["ipMasq"] == false;
    assert!(eventually(DEADLINE, renewed), "{}: {}", held(), ground.log());
    ground.await_route("10.65.2.64/26");
}

/// What gives out addresses is just being replaced when a pool changes.
#[test]
fn what_cannot_be_put_in_place_at_once_is_tried_again() {
    let ground = Ground::new();
    let blocks = [block("10.65.1.0/26", 1), block("10.65.2.64/26", 2)];
    let cluster = Cluster::new(&ground, &[node(1), node(2)], &[pool("Always")], &blocks);
    let _agent = cluster.agent();
    ground.await_file(CONFLIST);
    ground.await_route("10.65.2.64/26");
    fs::remove_file(ground.path("plugins/calico-ipam")).unwrap();
    let mut plain = pool("Always");
    plain["spec"]["natOutgoing"] = json!(false);
    cluster.tell_pool("MODIFIED", plain);
    ground.await_log("the configuration for pods is not renewed: there is no ");
    cluster.install();
    let renewed = || {
        let held: Value =
            serde_json::from_slice(&fs::read(ground.path(CONFLIST)).unwrap()).unwrap();
        held["plugins"][0]["ipMasq"] == false
    };
    assert!(eventually(DEADLINE, renewed), "{}", ground.log());
}

/// An agent that is replaced while no pods may come, as the configuration of before is in place, be it by
/// another name.
#[test]
fn routes_are_kept_while_no_configuration_can_be_put_in_place() {
    for name in [CONFLIST, "etc/cni/net.d/20-before.conflist"] {
        are_kept_by(name);
    }
}

fn are_kept_by(name: &str) {
    let ground = Ground::new();
    let blocks = [block("10.65.1.0/26", 1), block("10.65.2.64/26", 2)];
    let cluster = Cluster::new(&ground, &[node(1), node(2)], &[pool("Always")], &blocks);
    let agent = cluster.agent();
    ground.await_file(CONFLIST);
    ground.await_route("10.65.2.64/26");
    drop(agent);
    fs::remove_file(ground.path("plugins/calico-ipam")).unwrap();
    ground.host.command("ip", &["route", "del", "10.65.2.64/26"]).ok();
    fs::rename(ground.path(CONFLIST), ground.path(name)).unwrap();
    let before = fs::read(ground.path(name)).unwrap();
    let cluster = Cluster::new(&ground, &[node(1), node(2)], &[pool("Always")], &blocks);
    let _agent = cluster.bare_agent();
    ground.await_route("10.65.2.64/26");
    cluster.tell_block("ADDED", block("10.65.3.0/26", 2));
    ground.await_route("10.65.3.0/26");
    ground.await_log("the configuration for pods is not renewed: there is no ");
    assert_eq!(fs::read(ground.path(name)).unwrap(), before);
}

/// The first pod takes the block, which the agent learns of afterwards. A pod may also have an
/// address of another node's block.
#[test]
fn a_node_of_calico_reaches_pods_and_is_reached() {
    let ground = Ground::new();
    let blocks = [block("10.65.2.64/26", 2)];
    let cluster = Cluster::new(&ground, &[node(1), node(2)], &[pool("Always")], &blocks);
    let _agent = cluster.agent();
    ground.await_file(CONFLIST);
    let felix = cluster.felix();
    let plugin = cluster.plugin();
    let pod = Pod::new("a");
    cluster.next_address("10.65.1.5/26");
    let result = plugin.add(&pod).ok();
    assert_eq!(result["ips"][0]["address"], "10.65.1.5/32");
    cluster.tell_block("ADDED", block("10.65.1.0/26", 1));
    ground.await_route("10.65.1.0/26");
    assert!(felix.pod.pings("10.65.1.5"), "from their pod: {}", ground.log());
    assert!(pod.netns.pings(&felix.address), "to their pod");
    assert!(ground.outside.pings("10.65.1.5"), "from their node");
    assert!(ground.host.pings(&felix.address), "from our node to their pod");
    plugin.check(&pod, &result).ok();

    let borrower = Pod::new("b");
    cluster.next_address("10.65.2.100/26");
    plugin.add(&borrower).ok();
    let mut lent = block("10.65.2.64/26", 2);
    lent["spec"]["allocations"] = (0..64).map(|at| (at == 36).then_some(0)).collect();
    lent["spec"]["attributes"] = json!([{"secondary": {"node": "node-1"}}]);
    cluster.tell_block("MODIFIED", lent);
    ground.await_route("10.65.2.64/27");
    felix.ip("route add 10.65.2.100/32 via 10.65.1.0 dev vxlan.calico onlink");
    assert!(felix.pod.pings("10.65.2.100"), "{}", ground.log());
    assert!(borrower.netns.pings(&felix.address), "the others of the block are where they were");
    plugin.del(&borrower).ok();
    plugin.del(&pod).ok();
}
