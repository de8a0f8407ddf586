// SPDX-License-Identifier: Apache-2.0
//! What a configuration does not ask for any more goes by the next pass, whoever makes
//! it; and a running watch follows its configuration.

use std::fs;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, NETWORK, Node, SOON, entries};
use crate::harness::{Pod, eventually};
use crate::watch::Watch;

/// The state of a node without a fabric, but for the parameters.
fn cluster(mode: &str) -> (Cluster, Vec<String>) {
    let cluster = Cluster::new(3, Families::Dual, &json!({"mode": mode}));
    let before = cluster.nodes[0].state();
    cluster.nodes[0].apply().ok();
    (cluster, before)
}

fn tables(node: &Node) -> String {
    node.host.command("nft", &["list", "tables"]).ok()
}

#[test]
fn a_fabric_goes_with_its_key() {
    for mode in ["direct", "vxlan"] {
        for by in ["apply", "STATUS", "ADD"] {
            let (cluster, before) = cluster(mode);
            let node = &cluster.nodes[0];
            let without = node.with("peersFile", Value::Null);
            let plan = without.plan();
            assert!(plan.status == 3 && plan.stdout.contains("- route 10.244.2.0/24"), "{plan:?}");
            let pod = Pod::new("a");
            match by {
                "apply" => drop(without.apply().ok()),
                "STATUS" => drop(without.plugin.status().ok()),
                _ => {
                    without.plugin.add(&pod).ok();
                    without.plugin.del(&pod).ok();
                }
            }
            assert_eq!(node.state(), before, "{mode}, by {by}");
            assert!(!tables(node).contains("manx.fabric"), "{mode}, by {by}: {}", tables(node));
            without.assert_settled();
            // And comes back with it.
            node.plugin.status().ok();
            node.assert_settled();
            assert_ne!(node.state(), before);
        }
    }
}

/// As of the fabric of another route protocol, and of one that has none now.
#[test]
fn a_fabric_of_a_former_protocol_goes_as_well() {
    let (cluster, before) = cluster("vxlan");
    let node = &cluster.nodes[0];
    let without = node.with("peersFile", Value::Null).with("routeProtocol", 80.into());
    let plan = without.plan();
    assert!(plan.stdout.contains("- link vxlan.calico"), "{plan:?}");
    without.apply().ok();
    assert_eq!(node.state(), before);
    without.assert_settled();
}

/// What another network still asks for stays.
#[test]
fn a_shared_fabric_stays_for_the_other_network() {
    let (cluster, before) = cluster("vxlan");
    let node = &cluster.nodes[0];
    let other = node.with("name", "other".into());
    other.plugin.status().ok();
    let conf = other.plugin.conf.to_string();
    let directory = node.host.scratch().dir("root/etc/cni/net.d");
    fs::write(directory.join("20-other.conf"), conf).unwrap();
    let whole = node.state();
    let without = node.with("peersFile", Value::Null);
    without.apply().ok();
    without.plugin.status().ok();
    let _pod = without.attach("a");
    let fabric = |state: Vec<String>| -> Vec<String> {
        state.into_iter().filter(|line| !line.contains(" dev cali")).collect()
    };
    assert_eq!(fabric(node.state()), whole);
    // Until that goes too.
    fs::remove_file(directory.join("20-other.conf")).unwrap();
    without.apply().ok();
    assert_eq!(fabric(node.state()), before);
}

#[test]
fn a_network_that_is_not_masqueraded_any_more() {
    let cluster = Cluster::new(1, Families::Ipv4, &json!({"ipMasq": true}));
    let node = &cluster.nodes[0].with("peersFile", Value::Null);
    for by in ["apply", "STATUS", "ADD"] {
        let _pod = node.attach("a");
        let masquerades = || {
            let table = format!("manx-{NETWORK}");
            node.host.command("nft", &["list", "table", "inet", &table]).ok().contains("masquerade")
        };
        assert!(masquerades());
        let without = node.with("ipMasq", false.into());
        assert_eq!(without.plan().status, 3);
        let new = Pod::new("b");
        match by {
            "apply" => drop(without.apply().ok()),
            "STATUS" => drop(without.plugin.status().ok()),
            _ => drop(without.plugin.add(&new).ok()),
        }
        assert!(!masquerades(), "{by}");
        without.assert_settled();
    }
}

/// The configuration as a runtime and the watch read it.
fn write(node: &Node) {
    let path = node.host.scratch().path().join("conf.json");
    let new = path.with_extension("new");
    fs::write(&new, node.plugin.conf.to_string()).unwrap();
    fs::rename(&new, &path).unwrap();
}

#[test]
fn a_watch_follows_its_configuration() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let watch = Watch::start(node);
    let direct = node.with("mode", "direct".into());
    let without = node.with("peersFile", Value::Null);
    let (in_tunnel, plain, none) = ("dev vxlan.calico", "via 192.0.2.12 dev eth0", "");
    for (now, expected) in
        [(&direct, plain), (node, in_tunnel), (&without, none), (node, in_tunnel)]
    {
        write(now);
        let there = || {
            let routes = now.routes().join("\n");
            let route = routes.lines().find(|line| line.starts_with("10.244.2.0/24 "));
            route.map_or(expected.is_empty(), |route| {
                !expected.is_empty() && route.contains(expected)
            })
        };
        assert!(eventually(SOON, there), "{expected}: {:#?}\n{}", now.routes(), watch.log());
        watch.comes_to_rest();
        // It does not undo what the plugin does by the same.
        now.plugin.status().ok();
        watch.comes_to_rest();
        assert!(there(), "{expected}: {:#?}", now.routes());
        let links = now.host.ip(&["link", "show", "type", "vxlan"]);
        assert_eq!(
            entries(&links).iter().any(|link| link["ifname"].is_string()),
            expected == in_tunnel
        );
    }
    // One that is no good changes nothing.
    let state = node.state();
    fs::write(node.host.scratch().path().join("conf.json"), "{").unwrap();
    let told = || watch.log().contains("going on with the configuration as it was");
    assert!(eventually(SOON, told), "{}", watch.log());
    assert_eq!(node.state(), state);
    write(&direct);
    assert!(eventually(SOON, || direct.routes().join("").contains(plain)), "{}", watch.log());
}
