// SPDX-License-Identifier: Apache-2.0
//! Whose address the world sees.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::harness::{Host, Netns, Plugin, Pod, connect};
use crate::node::{NETWORK, assert_clean, fixed, host_local, manx, seen};

/// A node, an outside that knows the way to the pods, and a pod.
struct Scene {
    outside: Netns,
    plugin: Plugin,
    pod: Pod,
    result: Value,
}

const NODE: [&str; 2] = ["192.0.2.11", "2001:db8::11"];
const OUTSIDE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const POD: [&str; 2] = ["10.1.0.2", "fd00:1::2"];

impl Scene {
    fn new(keys: &Value) -> Self {
        let (host, outside) = Host::with_uplink();
        for (pods, node) in [("10.1.0.0/24", NODE[0]), ("fd00:1::/64", NODE[1])] {
            outside.command("ip", &["route", "add", pods, "via", node]).ok();
        }
        let ipam = host_local(&host, &["10.1.0.0/24", "fd00:1::/64"]);
        let mut plugin = manx(&host, &ipam);
        for (key, value) in keys.as_object().unwrap() {
            plugin = plugin.with(key, value.clone());
        }
        let pod = Pod::new("a");
        let result = plugin.add(&pod).ok();
        Self { outside, plugin, pod, result }
    }

    /// Whom the outside sees when the pod comes to it, in both families.
    fn seen_outside(&self) -> [Option<IpAddr>; 2] {
        OUTSIDE.map(|address| seen(&self.pod.netns, &self.outside, address))
    }

    fn table(&self) -> String {
        self.plugin.host().command("nft", &["list", "ruleset"]).ok()
    }
}

fn ips(addresses: [&str; 2]) -> [Option<IpAddr>; 2] {
    addresses.map(|address| Some(address.parse().unwrap()))
}

#[test]
fn the_outside_sees_the_node() {
    let scene = Scene::new(&json!({"ipMasq": true}));
    assert_eq!(scene.seen_outside(), ips(NODE));
    scene.plugin.check(&scene.pod, &scene.result).ok();
}

#[test]
fn without_masquerade_the_outside_sees_the_pod() {
    let scene = Scene::new(&json!({}));
    assert_eq!(scene.seen_outside(), ips(POD));
    assert!(!scene.table().contains("masquerade"), "{}", scene.table());
}

#[test]
fn pods_and_node_see_each_other_as_they_are() {
    let scene = Scene::new(&json!({"ipMasq": true}));
    let other = Pod::new("b");
    scene.plugin.add(&other).ok();
    for (theirs, own) in [("10.1.0.3", POD[0]), ("fd00:1::3", POD[1])] {
        assert_eq!(seen(&scene.pod.netns, &other.netns, theirs), Some(own.parse().unwrap()));
    }
    for (node, own) in NODE.into_iter().zip(POD) {
        let from_pod = seen(&scene.pod.netns, scene.plugin.host(), node);
        assert_eq!(from_pod, Some(own.parse().unwrap()), "the node sees the pod");
        let from_outside = seen(&scene.outside, &scene.pod.netns, own);
        let outside = OUTSIDE[usize::from(own.contains(':'))].parse().unwrap();
        assert_eq!(from_outside, Some(outside), "the pod sees who comes from outside");
    }
}

/// A second network has another group and table; its pods are no outside.
#[test]
fn a_pod_of_another_network_sees_the_pod() {
    let scene = Scene::new(&json!({"ipMasq": true}));
    let host = scene.plugin.host();
    let other = Pod::new("b");
    let second = manx(host, &fixed(&["10.7.0.9/24"])).with("name", "second".into());
    second.add(&other).ok();
    assert_eq!(seen(&scene.pod.netns, &other.netns, "10.7.0.9"), ips(POD)[0]);
    let route = ["route", "add", "10.7.0.9", "via", NODE[0]];
    scene.outside.command("ip", &route).ok();
    let outside = seen(&other.netns, &scene.outside, OUTSIDE[0]);
    assert_eq!(outside, Some("10.7.0.9".parse().unwrap()), "it did not ask to be masqueraded");
}

/// A cloud's services at link-local addresses answer the node alone. The pods'
/// next hop is none of them, and a group is no service.
#[test]
fn link_local_services_see_the_node() {
    let scene = Scene::new(&json!({"ipMasq": true}));
    for service in ["169.254.169.254", "169.254.170.2", "169.254.0.9"] {
        scene.outside.command("ip", &["address", "add", service, "dev", "lo"]).ok();
        scene.outside.command("ip", &["link", "set", "lo", "up"]).ok();
        let by_node = seen(&scene.pod.netns, &scene.outside, service);
        assert_eq!(by_node, ips(NODE)[0], "{service}");
    }
    let never = |table: String| {
        let set = table.split_once("set never4").expect("the set").1;
        set.split_once('}').unwrap().0.to_owned()
    };
    let usual = never(scene.table());
    assert!(usual.contains("169.254.1.1,") && usual.contains("224.0.0.0/4"), "{usual}");
    assert!(scene.table().contains("fe80::/10"), "{}", scene.table());
    let own = Scene::new(&json!({"ipMasq": true, "gateway": "169.254.169.1"}));
    let other = never(own.table());
    assert!(other.contains("169.254.169.1,") && !other.contains("169.254.1.1,"), "{other}");
}

#[test]
fn named_networks_see_the_pod() {
    let named = json!(["192.0.2.0/24", "2001:db8::1/128"]);
    for key in ["nonMasqueradeCIDRs", "clusterCIDRs"] {
        let scene = Scene::new(&json!({"ipMasq": true, key: named}));
        let further = Netns::new();
        connect(
            (&scene.outside, "eth1", &["198.51.100.1/24"]),
            (&further, "eth0", &["198.51.100.2/24"]),
        );
        scene.outside.set_sysctl("ipv4/ip_forward", "1");
        further.command("ip", &["route", "add", "default", "via", "198.51.100.1"]).ok();
        assert_eq!(scene.seen_outside(), ips(POD), "{key}");
        let beyond = seen(&scene.pod.netns, &further, "198.51.100.2");
        assert_eq!(beyond, ips(NODE)[0], "{key} names another network");
    }
}

#[test]
fn a_flush_is_told_by_check_and_repaired_by_the_next_add() {
    let scene = Scene::new(&json!({"ipMasq": true}));
    let flush = |what: &[&str]| drop(scene.plugin.host().command("nft", what).ok());
    let ours = format!("manx-{NETWORK}");
    for (what, id) in [
        (vec!["flush", "ruleset"], "b"),
        (vec!["flush", "table", "inet", ours.as_str()], "c"),
        (vec!["delete", "table", "inet", ours.as_str()], "d"),
    ] {
        let before = scene.table();
        flush(&what);
        let error = scene.plugin.check(&scene.pod, &scene.result).error();
        assert_eq!(error["code"], 102, "{what:?}: {error}");
        assert!(error["msg"].as_str().unwrap().contains(&ours), "{what:?}: {error}");
        assert_eq!(scene.seen_outside(), ips(POD), "{what:?}");
        scene.plugin.add(&Pod::new(id)).ok();
        assert_eq!(scene.table(), before, "{what:?}");
        assert_eq!(scene.seen_outside(), ips(NODE), "{what:?}");
        scene.plugin.check(&scene.pod, &scene.result).ok();
    }
}

#[test]
fn the_table_is_the_same_for_one_pod_and_for_many() {
    let scene = Scene::new(&json!({"ipMasq": true}));
    let one = scene.table();
    for id in ["b", "c", "d"] {
        scene.plugin.add(&Pod::new(id)).ok();
    }
    assert_eq!(scene.table(), one, "no rule and no element per pod");
}

#[test]
fn the_table_goes_with_the_gc_that_leaves_no_attachment() {
    let scene = Scene::new(&json!({"ipMasq": true}));
    let other = Pod::new("b");
    scene.plugin.add(&other).ok();
    scene.plugin.gc(&[&other]).ok();
    assert!(!scene.table().is_empty(), "one is left");
    assert_eq!(seen(&other.netns, &scene.outside, OUTSIDE[0]), ips(NODE)[0]);
    scene.plugin.gc(&[]).ok();
    assert_eq!(scene.table(), "");
    assert_clean(scene.plugin.host());
}

#[test]
fn foreign_tables_are_left_alone() {
    let (host, _outside) = Host::with_uplink();
    host.command("nft", &["add table inet manxish"]).ok();
    let plugin = manx(&host, &fixed(&["10.1.0.2/24"])).with("ipMasq", true.into());
    plugin.add(&Pod::new("a")).ok();
    plugin.gc(&[]).ok();
    assert_eq!(host.command("nft", &["list", "tables"]).ok(), "table inet manxish\n");
}
