// SPDX-License-Identifier: Apache-2.0
//! The verbs besides ADD and DEL, and the plugin that others delegate to.

use serde_json::{Value, json};

use crate::ground::{Ground, Program, address, addresses, content};
use crate::harness::{Plugin, Pod, plugin_dir};

const SUBNETS: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

/// manx with its own IPAM, and manx-ipam by itself, each with a node.
fn both() -> [(Ground, Plugin); 2] {
    let (one, other) = (Ground::new(), Ground::new());
    let whole = one.manx(&one.ipam(&SUBNETS));
    let alone = other.ipam_plugin(Program::Manx, &other.ipam(&SUBNETS));
    [(one, whole), (other, alone)]
}

#[test]
fn check_compares_the_addresses_with_the_leases() {
    for (ground, plugin) in both() {
        let pod = Pod::new("a");
        let result = plugin.add(&pod).ok();
        plugin.check(&pod, &result).ok();
        for name in addresses(&result) {
            let lease = ground.store().join(&name);
            std::fs::remove_file(&lease).unwrap();
            let error = plugin.check(&pod, &result).error();
            assert_eq!(error["code"], 102, "{error}");
            assert!(error["msg"].as_str().unwrap().contains(&name), "{error}");
            for (foreign, why) in [("other\r\neth0", "another's"), ("", "nobody's")] {
                ground.put(&name, foreign);
                let error = plugin.check(&pod, &result).error();
                assert_eq!(error["code"], 102, "{why}: {error}");
            }
            ground.put(&name, &content(&pod));
            plugin.check(&pod, &result).ok();
        }
        ground.put("10.1.0.77", &content(&pod));
        let error = plugin.check(&pod, &result).error();
        assert!(error["msg"].as_str().unwrap().contains("10.1.0.77"), "{error}");
        plugin.del(&pod).ok();
        assert!(ground.leases().is_empty(), "also the one that nobody was told of");
    }
}

#[test]
fn check_refuses_a_result_of_others() {
    let [_, (ground, plugin)] = both();
    let (pod, other) = (ground.container("a", "eth0"), ground.container("b", "eth0"));
    let (result, others) = (plugin.add(&pod).ok(), plugin.add(&other).ok());
    assert_eq!(plugin.check(&pod, &others).error()["code"], 102);
    let mut partly = result.clone();
    partly["ips"].as_array_mut().unwrap().pop();
    assert_eq!(plugin.check(&pod, &partly).error()["code"], 102);
    let without = plugin.call("CHECK").pod(&pod).run().error();
    assert_eq!(without["code"], 7, "{without}");
    plugin.check(&pod, &result).ok();
    plugin.check(&other, &others).ok();
}

#[test]
fn gc_keeps_what_is_in_the_list_and_what_is_no_lease() {
    for (ground, plugin) in both() {
        let (live, dead) = (Pod::new("live"), Pod::new("dead"));
        let result = plugin.add(&live).ok();
        plugin.add(&dead).ok();
        ground.write("10.1.0.50", &live.id);
        ground.write("10.1.0.51", "forgotten");
        ground.write("10.1.0.52", "");
        ground.write("10.1.0.053", "no address of ours");
        ground.write("notes", "of the operator");
        let before = ground.files();
        plugin.call("GC").run().ok();
        assert_eq!(ground.files(), before, "without a list it does nothing");
        plugin.gc(&[&live]).ok();
        let mut kept = addresses(&result);
        kept.push("10.1.0.50".into());
        kept.sort();
        assert_eq!(ground.leases().into_keys().collect::<Vec<_>>(), kept);
        let files = ground.files();
        for name in ["10.1.0.053", "notes", "last_reserved_ip.0", "last_reserved_ip.1"] {
            assert_eq!(files.get(name), before.get(name), "{name}");
        }
        plugin.check(&live, &result).ok();
        plugin.del(&dead).ok();
        plugin.gc(&[]).ok();
        assert!(ground.leases().is_empty(), "{:?}", ground.leases());
        plugin.del(&live).ok();
        assert!(ground.host.links().is_empty());
    }
}

#[test]
fn status_of_a_new_node_makes_no_lease() {
    for (ground, plugin) in both() {
        plugin.status().ok();
        assert!(ground.leases().is_empty());
        let broken = ground.ipam(&["10.1.0.1/24"]);
        let error = plugin.clone().with("ipam", broken).status().error();
        assert!(error["msg"].as_str().unwrap().contains("ipam.ranges[0][0].subnet"), "{error}");
    }
}

#[test]
fn the_name_is_for_those_who_delegate() {
    let [_, (ground, plugin)] = both();
    let mut ipam = ground.ipam(&SUBNETS);
    ipam["type"] = "host-local".into();
    let error = plugin.with("ipam", ipam).add(&ground.container("a", "eth0")).error();
    assert_eq!(error["code"], 7);
    assert!(error["msg"].as_str().unwrap().contains("ipam.type"), "{error}");
}

#[test]
fn a_del_finds_the_store_of_its_add() {
    let ground = Ground::new();
    let plugin = ground.manx(&ground.ipam(&SUBNETS));
    for changed in [
        json!({"type": "manx-ipam", "dataDir": ground.host.scratch().dir("elsewhere"),
            "ranges": [[{"subnet": "10.9.0.0/24"}]]}),
        json!({"type": "manx-ipam", "dataDir": ground.data_dir(), "ranges": "broken"}),
        Value::Null,
    ] {
        let pod = Pod::new("a");
        plugin.add(&pod).ok();
        assert_eq!(ground.leases().len(), 2);
        plugin.clone().with("ipam", changed.clone()).del(&pod).ok();
        assert!(ground.leases().is_empty(), "{changed}");
    }
}

/// Where no directory is named, it is host-local's.
#[test]
fn the_store_is_where_host_local_has_it() {
    let ground = Ground::new();
    let mut ipam = ground.ipam(&SUBNETS);
    ipam.as_object_mut().unwrap().remove("dataDir");
    let plugin = ground.manx(&ipam);
    let pod = Pod::new("a");
    let name = address(&plugin.add(&pod).ok());
    let store = ground.host.scratch().path().join("root/var/lib/cni/networks/net");
    assert_eq!(std::fs::read_to_string(store.join(&name)).unwrap(), content(&pod));
    plugin.del(&pod).ok();
    assert!(!store.join(&name).exists());
}

#[test]
fn the_reference_bridge_delegates_to_it() {
    let ground = Ground::new();
    let ranges = json!([
        [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.3"}],
        [{"subnet": "fd00:1::/64"}],
    ]);
    let mut ipam = ground.ipam_of(ranges);
    ipam["routes"] = json!([{"dst": "0.0.0.0/0"}]);
    let bridge =
        Plugin::new(&ground.host, plugin_dir().join("bridge")).path([ground.bin()]).config(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0",
            "isGateway": true, "ipam": ipam,
        }));
    let (one, other) = (Pod::new("a"), Pod::new("b"));
    bridge.status().ok();
    let result = bridge.add(&one).ok();
    assert_eq!(addresses(&result), ["10.1.0.2", "fd00:1::2"]);
    assert_eq!(ground.leases()["10.1.0.2"], content(&one));
    assert!(ground.host.pings("10.1.0.2"));
    bridge.check(&one, &result).ok();
    bridge.add(&other).ok();
    bridge.status().ok();
    assert_eq!(bridge.add(&Pod::new("c")).error()["code"], 11);
    bridge.del(&one).ok();
    bridge.del(&one).ok();
    bridge.status().ok();
    bridge.del(&other).ok();
    assert!(ground.leases().is_empty(), "{:?}", ground.leases());
}
