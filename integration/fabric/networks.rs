//! One fabric per route protocol.

use serde_json::json;

use crate::cluster::{Cluster, Families};
use crate::harness::Pod;

#[test]
fn two_networks_may_not_disagree() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let _pod = node.attach("a");
    let before = node.state();
    let other = node.with("name", "other".into()).with("mode", "direct".into());
    let reply = other.plugin.add(&Pod::new("b"));
    assert_eq!(reply.code(), Some(7), "{reply:?}");
    let error = reply.error();
    let told = error["msg"].as_str().unwrap();
    for word in ["net", "other", "vxlan", "direct", "109"] {
        assert!(told.to_lowercase().contains(word), "{word}: {told}");
    }
    // STATUS has but one word for it, and the same reason.
    let status = other.plugin.status();
    assert_eq!(status.code(), Some(50), "{status:?}");
    assert!(status.stdout.contains("disagree"), "{status:?}");
    let apply = other.apply();
    assert!(apply.status == 1 && apply.stderr.contains("disagree"), "{apply:?}");
    assert_eq!(node.state(), before);
    node.plugin.status().ok();
}

#[test]
fn two_networks_may_share() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let _a = node.attach("a");
    let before = node.routes();
    let other = node
        .with("name", "other".into())
        .with("ipam", json!({"type": "static", "addresses": [{"address": "10.244.1.200/24"}]}));
    let _b = other.attach("b");
    other.assert_settled();
    assert_eq!(node.routes(), before);
}

/// The same network may change its mind; once it is empty, so may another.
#[test]
fn a_network_may_change_its_mode() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let pod = node.attach("a");
    let direct = node.with("mode", "direct".into());
    let _b = direct.attach("b");
    direct.assert_settled();
    assert!(node.host.link("vxlan.calico").is_none(), "its device is gone with the mode");
    node.plugin.gc(&[]).ok();
    drop(pod);
    let other = node.with("name", "other".into());
    let _c = other.attach("c");
    other.assert_settled();
}
