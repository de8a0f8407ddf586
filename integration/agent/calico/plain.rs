// SPDX-License-Identifier: Apache-2.0
//! The pools of a dual-stack cluster as Calico's manifest makes them: IPv4 in VXLAN, and IPv6 as it is.

use std::fs;

use serde_json::{Value, json};

use super::cluster::{Cluster, block, node, pool};
use crate::ground::{CONFLIST, Ground, note_plugin};
use crate::harness::{DEADLINE, Pod, eventually};

/// A Node with an address of each family.
fn dual(number: u32) -> Value {
    let mut node = node(number);
    let address = if number == 1 { "2001:db8::11" } else { "2001:db8::1" };
    node["metadata"]["annotations"]["projectcalico.org/IPv6Address"] =
        json!(format!("{address}/64"));
    let addresses = node["status"]["addresses"].as_array_mut().unwrap();
    addresses.push(json!({"type": "InternalIP", "address": address}));
    node
}

fn plain_pool() -> Value {
    let mut plain = pool("Never");
    plain["metadata"]["name"] = json!("default-ipv6-ippool");
    plain["spec"]["cidr"] = json!("fd00:65::/64");
    plain["spec"]["blockSize"] = json!(122);
    plain
}

/// The plugin of before knows of one mode for both families: what it could not read is not written.
#[test]
fn ipv6_travels_plainly_beside_ipv4_in_vxlan_once_the_plugin_knows_of_that() {
    let ground = Ground::new();
    note_plugin(ground.host.scratch().path(), 2);
    let blocks = [
        block("10.65.1.0/26", 1),
        block("10.65.2.64/26", 2),
        block("fd00:65::1:0/122", 1),
        block("fd00:65::2:0/122", 2),
    ];
    let pools = [pool("Always"), plain_pool()];
    let cluster = Cluster::new(&ground, &[dual(1), dual(2)], &pools, &blocks);
    let _agent = cluster.agent();
    ground.await_file(CONFLIST);
    ground.await_log("calico-pools: IPPool default-ipv6-ippool");
    ground.await_log("its plugin reads no peers file by which a family travels plainly");
    let ipam = || -> Value {
        let conflist: Value =
            serde_json::from_slice(&fs::read(ground.path(CONFLIST)).unwrap()).unwrap();
        conflist["plugins"][0]["ipam"].clone()
    };
    assert_eq!(ipam()["assign_ipv6"], "false");
    let file = || fs::read_to_string(ground.path("var/lib/manx/peers.json")).unwrap();
    assert!(!file().contains("plain") && !file().contains("fd00:65"), "{}", file());
    // It is looked at with each change, and the next one goes by it.
    note_plugin(ground.host.scratch().path(), 3);
    for (cidr, number) in [("10.65.3.0/26", 2), ("10.65.4.0/26", 2)] {
        cluster.tell_block("ADDED", block(cidr, number));
        ground.await_route(cidr);
    }
    let routes = || ground.host.command("ip", &["-6", "route"]).ok();
    let plainly = "fd00:65::2:0/122 via 2001:db8::1 dev eth0";
    assert!(eventually(DEADLINE, || routes().contains(plainly)), "{}: {}", routes(), ground.log());
    assert!(file().contains("\"plain\":[\"IPv6\"]"), "{}", file());
    assert!(eventually(DEADLINE, || ipam()["assign_ipv6"] == "true"), "{}", ground.log());
    assert_eq!(ground.manx(&["plan"]).status, 0, "{}", ground.manx(&["plan"]).stdout);
    // Nodes that hear of it later send by the tunnel until then.
    assert!(file().contains("\"accepts\":{\"mode\":\"vxlan\""), "{}", file());
    assert!(ground.host.links().contains(&"vxlan-v6.calico".to_owned()));

    let there = "fd00:65::2:5";
    let outside = |arguments: &[&str]| ground.outside.command("ip", arguments).ok();
    outside(&["-6", "address", "add", &format!("{there}/128"), "dev", "lo", "nodad"]);
    outside(&["-6", "route", "add", "fd00:65::1:0/122", "via", "2001:db8::11"]);
    let felix = cluster.felix();
    let (plugin, pod) = (cluster.plugin(), Pod::new("a"));
    cluster.next_address("10.65.1.5/26\"}, {\"address\": \"fd00:65::1:5/122");
    let result = plugin.add(&pod).ok();
    assert_eq!(result["ips"].as_array().unwrap().len(), 2, "{result}");
    assert!(pod.netns.pings(there) && ground.outside.pings("fd00:65::1:5"), "{}", ground.log());
    assert!(pod.netns.pings(&felix.address), "by the tunnel");
    assert_eq!(pod.netns.link("eth0").unwrap()["mtu"], 1450, "what the tunnel takes");
    plugin.check(&pod, &result).ok();
    plugin.del(&pod).ok();
}
