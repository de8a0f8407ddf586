// SPDX-License-Identifier: Apache-2.0
//! Calico's placeholders for this node's own pod CIDRs, and the address that
//! the node keeps of them.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::ground::{Ground, MANX, Program, addresses};
use crate::harness::{DEADLINE, Plugin, Pod, Stdin, run};

/// Where a configuration without `peersFile` looks.
const USUAL: &str = "root/var/lib/manx/peers.json";

fn peers(ground: &Ground, path: &str, node: Value) {
    let mut me = json!({"name": "node-a", "addresses": ["192.0.2.11", "2001:db8::11"],
        "podCIDRs": ["10.244.1.0/24", "fd00:244:1::/64"]});
    me.as_object_mut().unwrap().extend(node.as_object().unwrap().clone());
    let document = json!({"self": "node-a", "nodes": [me]});
    let path = ground.host.scratch().path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, document.to_string()).unwrap();
}

fn remove(ground: &Ground, path: &str) {
    fs::remove_file(ground.host.scratch().path().join(path)).unwrap();
}

fn placeholders(ground: &Ground) -> Value {
    ground.ipam(&["usePodCidr", "usePodCidrIPv6"])
}

/// ADD with a peers file, CHECK and DEL without.
fn assert_served(ground: &Ground, plugin: &Plugin, path: &str) {
    for _ in 0..2 {
        let pod = Pod::new("a");
        peers(ground, path, json!({}));
        plugin.status().ok();
        let result = plugin.add(&pod).ok();
        let own = addresses(&result);
        assert!(own[0].starts_with("10.244.1.") && own[1].starts_with("fd00:244:1::"), "{own:?}");
        assert_eq!(ground.leases().into_keys().collect::<Vec<_>>(), own);
        plugin.check(&pod, &result).ok();
        remove(ground, path);
        plugin.check(&pod, &result).ok();
        plugin.del(&pod).ok();
        assert!(ground.leases().is_empty());
    }
}

#[test]
fn they_are_filled_from_the_peers_file() {
    let ground = Ground::with_uplink();
    let plugin = ground.manx(&placeholders(&ground)).with("peersFile", "/etc/peers.json".into());
    assert_served(&ground, &plugin, "root/etc/peers.json");
}

#[test]
fn without_a_fabric_from_the_usual_one() {
    let ground = Ground::with_uplink();
    assert_served(&ground, &ground.manx(&placeholders(&ground)), USUAL);
    let error = ground.manx(&placeholders(&ground)).add(&Pod::new("a")).error();
    assert_eq!(error["code"], 50, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("pod CIDR"), "{error}");
}

#[test]
fn they_are_filled_for_those_who_delegate() {
    let ground = Ground::with_uplink();
    assert_served(&ground, &ground.ipam_plugin(Program::Manx, &placeholders(&ground)), USUAL);
}

/// Keys of the plugin that delegates are its own, but for those that are looked up by.
#[test]
fn a_delegators_other_keys_are_not_ours() {
    let ground = Ground::with_uplink();
    let plugin = ground.ipam_plugin(Program::Manx, &placeholders(&ground));
    // As macvlan's and ipvlan's.
    assert_served(&ground, &plugin.with("mode", "bridge".into()), USUAL);
    let path = ground.host.scratch().path().join("root/etc/peers.json");
    peers(&ground, "root/etc/peers.json", json!({}));
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen('{', "{\"fabric\": {\"mode\": \"vxlan\"}, ", 1)).unwrap();
    let plugin = ground.ipam_plugin(Program::Manx, &placeholders(&ground));
    let plugin = plugin.with("peersFile", "/etc/peers.json".into()).with("mode", "ipip".into());
    let told = [plugin.add(&Pod::new("a")).error(), plugin.status().error()];
    for (error, code) in told.iter().zip([7, 50]) {
        assert_eq!(error["code"], code, "{error}");
        assert!(error["msg"].as_str().unwrap().contains("contradict each other"), "{error}");
    }
}

#[test]
fn a_family_that_the_node_has_not_is_told() {
    let ground = Ground::with_uplink();
    peers(&ground, USUAL, json!({"podCIDRs": ["10.244.1.0/24"]}));
    let error = ground.manx(&placeholders(&ground)).add(&Pod::new("a")).error();
    assert_eq!(error["code"], 50, "{error}");
    assert!(ground.leases().is_empty());
    let ipv4 = ground.manx(&ground.ipam(&["usepodcidr"]));
    assert_eq!(addresses(&ipv4.add(&Pod::new("a")).ok()), ["10.244.1.2"]);
}

#[test]
fn the_nodes_tunnel_address_is_never_given() {
    let ground = Ground::with_uplink();
    let peers_file = "root/etc/peers.json";
    peers(&ground, peers_file, json!({"tunnelAddresses": ["10.244.1.2", "fd00:244:1::2"]}));
    let plugin = ground
        .manx(&placeholders(&ground))
        .with("mode", "vxlan".into())
        .with("peersFile", "/etc/peers.json".into());
    let pod = Pod::new("a");
    assert_eq!(addresses(&plugin.add(&pod).ok()), ["10.244.1.3", "fd00:244:1::3"]);
    let asked = Pod { args: Some("IP=10.244.1.2".into()), ..Pod::new("b") };
    let error = plugin.add(&asked).error();
    assert!(error["msg"].as_str().unwrap().contains("tunnel"), "{error}");
    // By itself it knows the node's fabric, too.
    let two = json!([[{"subnet": "10.244.1.0/24", "rangeStart": "10.244.1.2",
        "rangeEnd": "10.244.1.3"}]]);
    let alone = ground.ipam_plugin(Program::Manx, &ground.ipam_of(two));
    let error = alone.add(&ground.container("c", "eth0")).error();
    assert_eq!(
        error["code"], 11,
        "of the two the node has one, and the first pod's is in use: {error}"
    );
    plugin.del(&pod).ok();
    assert_eq!(addresses(&alone.add(&ground.container("c", "eth0")).ok()), ["10.244.1.3"]);
}

/// Who looks at a pool is told of the node's pod CIDR, and applies nothing for it.
#[test]
fn a_look_at_a_pool_makes_no_routes() {
    let ground = Ground::with_uplink();
    let conf = ground.manx(&placeholders(&ground)).with("peersFile", "/etc/peers.json".into()).conf;
    let conf = ground.host.scratch().file("net.conf", conf.to_string());
    let path = ground.host.scratch().dir("root/etc").join("peers.json");
    let nodes = json!([
        {"name": "node-a", "addresses": ["192.0.2.11", "2001:db8::11"],
            "podCIDRs": ["10.244.1.0/24", "fd00:244:1::/64"]},
        {"name": "node-b", "addresses": ["192.0.2.12"], "podCIDRs": ["10.244.2.0/24"]}]);
    fs::write(path, json!({"self": "node-a", "nodes": nodes}).to_string()).unwrap();
    let before = ground.host.routes("-4");
    let mut command = Command::new(MANX);
    command.args(["ipam", "show", "--json", "--conf"]).arg(conf);
    command.arg("--root").arg(ground.host.scratch().dir("root"));
    let shown = ground.host.enter(|| run(command, &Stdin::Null, DEADLINE));
    assert!(shown.stdout.contains("10.244.1."), "{shown:?}");
    assert_eq!(ground.host.routes("-4"), before);
}
