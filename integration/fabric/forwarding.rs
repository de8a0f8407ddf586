// SPDX-License-Identifier: Apache-2.0
//! That a node forwards, and heeds its routers all the same: before they speak, after a
//! card was changed, and whoever resets it.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, SOON, batch};
use crate::harness::eventually;
use crate::watch::Watch;

fn accept_ra(node: &Node, link: &str) -> String {
    node.host.sysctl(&format!("ipv6/conf/{link}/accept_ra"))
}

/// Before its first advertisement, and whether forwarding was on already or not.
#[test]
fn the_link_of_the_nodes_address_heeds_routers() {
    for forwarding in ["0", "1"] {
        let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "direct"}));
        let node = &cluster.nodes[0];
        node.host.set_sysctl("ipv6/conf/all/forwarding", forwarding);
        assert_eq!(accept_ra(node, "eth0"), "1");
        let plan = node.plan();
        let line = "~ sysctl net/ipv6/conf/eth0/accept_ra: 1 -> 2";
        assert!(plan.stdout.contains(line), "{plan:?}");
        node.apply().ok();
        assert_eq!(accept_ra(node, "eth0"), "2");
        node.assert_settled();
        node.host.set_sysctl("ipv6/conf/eth0/accept_ra", "1");
        node.plugin.status().ok();
        assert_eq!(accept_ra(node, "eth0"), "2");
        // Who turned it off looks after the link by other means.
        node.host.set_sysctl("ipv6/conf/eth0/accept_ra", "0");
        node.apply().ok();
        node.assert_settled();
        assert_eq!(accept_ra(node, "eth0"), "0");
    }
}

/// What is behind them would become the node's router by one packet.
#[test]
fn links_to_anybody_else_heed_no_router() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    batch(
        &node.host,
        "link add docker0 type bridge
         address add fd00:d0::1/64 dev docker0 nodad
         link set docker0 up
         link add left type veth peer name right
         address add fd00:d1::1/64 dev left nodad
         link set left up
         link set right up
         tuntap add tap0 mode tap
         link set tap0 up",
    );
    node.apply().ok();
    let _pod = node.attach("a");
    node.plugin.status().ok();
    for link in ["docker0", "left", "right", "tap0", "vxlan.calico"] {
        assert_eq!(accept_ra(node, link), "1", "{link}");
    }
    // But for one by which something was learned: an address that goes by itself.
    let learned = "fd00:d1::7/64 dev left nodad mngtmpaddr valid_lft 600 preferred_lft 600";
    batch(&node.host, &format!("address add {learned}"));
    node.apply().ok();
    assert_eq!((accept_ra(node, "left"), accept_ra(node, "right")), ("2".into(), "1".into()));
}

/// As when a card is changed, or a cloud attaches it anew.
#[test]
fn a_link_that_is_made_anew_heeds_routers_again() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let watch = Watch::start(node);
    assert_eq!(accept_ra(node, "eth0"), "2");
    batch(
        &node.host,
        "link del eth0
         link add eth0 type veth peer name other
         address add 192.0.2.11/24 dev eth0
         address add 2001:db8:1::11/64 dev eth0 nodad
         link set other up
         link set eth0 up",
    );
    let heeds = || accept_ra(node, "eth0") == "2";
    assert!(eventually(SOON, heeds), "{}", watch.log());
}

/// Nobody's but the pods': without other nodes they need it as well.
#[test]
fn forwarding_is_restored_for_live_pods_without_a_fabric() {
    let cluster = Cluster::new(1, Families::Dual, &json!({}));
    let node = &cluster.nodes[0].with("peersFile", Value::Null);
    const KEYS: [&str; 2] = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
    let pod = node.attach("a");
    for by in ["apply", "ADD", "STATUS"] {
        for key in KEYS {
            node.host.set_sysctl(key, "0");
        }
        let plan = node.plan();
        assert!(plan.status == 3 && plan.stdout.contains("net/ipv4/ip_forward: 1"), "{plan:?}");
        assert!(plan.stdout.contains("net/ipv6/conf/all/forwarding: 1"), "{plan:?}");
        let new = (by == "ADD").then(|| node.attach("b"));
        match by {
            "apply" => drop(node.apply().ok()),
            "STATUS" => drop(node.plugin.status().ok()),
            _ => {}
        }
        assert_eq!(KEYS.map(|key| node.host.sysctl(key)), ["1", "1"], "{by}");
        node.assert_settled();
        // The kernel takes its time with a namespace: until then the link of a
        // pod that had no DEL is there, and counts.
        if let Some(new) = new {
            node.plugin.del(&new).ok();
        }
    }
    let watch = Watch::start(node);
    let link = node.host.links().into_iter().find(|name| name.starts_with("cali")).unwrap();
    // A pod lives whatever its link is called besides.
    for alias in [None, Some("rack 7")] {
        if let Some(alias) = alias {
            node.host.command("ip", &["link", "set", &link, "alias", alias]).ok();
        }
        for key in KEYS {
            node.host.set_sysctl(key, "0");
            assert!(eventually(SOON, || node.host.sysctl(key) == "1"), "{key}: {}", watch.log());
        }
    }
    drop(watch);
    // Not where that is somebody else's to decide, and not without pods.
    let other = node.with("manageForwarding", false.into());
    node.host.set_sysctl(KEYS[0], "0");
    assert!(!other.plan().stdout.contains("ip_forward"));
    other.plugin.status().ok();
    assert_eq!(node.host.sysctl(KEYS[0]), "0");
    node.plugin.del(&pod).ok();
    node.assert_settled();
    assert_eq!(node.host.sysctl(KEYS[0]), "0");
}
