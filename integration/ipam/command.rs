// SPDX-License-Identifier: Apache-2.0
//! `manx ipam`: what it says of a pool, and what it mends.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::ground::{Ground, MANX, NETWORK, Program, address};
use crate::harness::{DEADLINE, Finished, Plugin, Pod, Stdin, run};

/// A node with pods and its configuration in a file.
struct Node {
    ground: Ground,
    plugin: Plugin,
}

impl Node {
    fn new(subnets: &[&str]) -> Self {
        let ground = Ground::with_uplink();
        let plugin = ground.manx(&ground.ipam(subnets));
        let path = ground.host.scratch().path().join("net.conf");
        fs::write(path, plugin.conf.to_string()).unwrap();
        Self { ground, plugin }
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let scratch = self.ground.host.scratch();
        let mut command = Command::new(MANX);
        command.arg("ipam").args(arguments);
        command.arg("--conf").arg(scratch.path().join("net.conf"));
        command.arg("--root").arg(scratch.dir("root"));
        self.ground.host.enter(|| run(command, &Stdin::Null, DEADLINE))
    }

    fn json(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let finished = self.run(&[arguments, &["--json"]].concat());
        let value = serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{error}: {} {}", finished.stdout, finished.stderr));
        (Some(finished.status), value)
    }

    /// The findings of a check as (id, address, fixed), and its exit code.
    fn check(&self, arguments: &[&str]) -> (Option<i32>, Vec<(String, String, bool)>) {
        let (code, report) = self.json(&[&["check"], arguments].concat());
        let checks = report["checks"].as_array().unwrap().iter();
        let found = checks.filter(|check| check["status"] == "found").map(|found| {
            let text = |key: &str| found[key].as_str().unwrap();
            let address = text("object").strip_prefix("address ").unwrap().to_owned();
            (text("id").to_owned(), address, text("severity") == "info")
        });
        (code, found.collect())
    }
}

#[test]
fn show_counts_what_is_used_free_and_nobodys() {
    let node = Node::new(&["10.1.0.0/29", "fd00::/64"]);
    let (code, empty) = node.json(&["show"]);
    assert_eq!(code, Some(0));
    assert_eq!(empty["ranges"][0]["oldest"], Value::Null);
    let pod = Pod::new("a");
    node.plugin.add(&pod).ok();
    fs::write(node.ground.store().join("10.1.0.5"), "gone\r\neth0").unwrap();
    let (code, report) = node.json(&["show"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        (&report["network"], &report["directory"]),
        (&json!(NETWORK), &json!(node.ground.store()),)
    );
    let range = &report["ranges"][0];
    let expected = [
        ("size", json!(5)),
        ("used", json!(2)),
        ("free", json!(3)),
        ("leaked", json!(1)),
        ("first", json!("10.1.0.1")),
        ("last", json!("10.1.0.6")),
        ("set", json!(0)),
    ];
    for (key, value) in expected {
        assert_eq!(range[key], value, "{key} of {range}");
    }
    assert_eq!(range["oldest"]["containerID"], pod.id.as_str());
    assert_eq!(report["ranges"][1]["size"], json!((1u64 << 53) - 1), "exact in every reader");
    let table = node.run(&["show"]).ok();
    assert!(table.contains("10.1.0.1-10.1.0.6") && table.contains("LEAKED"), "{table}");
    node.plugin.del(&pod).ok();
}

#[test]
fn a_check_of_what_agrees_finds_nothing() {
    let node = Node::new(&["10.1.0.0/24", "fd00::/64"]);
    let pods = [Pod::new("a"), Pod::new("b").kubernetes("default", "b")];
    for pod in &pods {
        node.plugin.add(pod).ok();
    }
    assert_eq!(node.check(&[]), (Some(0), Vec::new()));
    assert!(node.run(&["check"]).ok().contains("every lease has its attachment"));
    for pod in &pods {
        node.plugin.del(pod).ok();
    }
}

#[test]
fn what_leaked_is_released_and_what_lost_its_lease_is_leased_again() {
    let node = Node::new(&["10.1.0.0/24"]);
    let (alive, robbed) = (Pod::new("a"), Pod::new("b"));
    let result = node.plugin.add(&alive).ok();
    let (link, lost) = (result["interfaces"][0]["name"].as_str().unwrap(), address(&result));
    // It is there, whatever somebody writes over its mark.
    node.ground.host.command("ip", &["link", "set", link, "alias", "rack 7"]).ok();
    let taken = address(&node.plugin.add(&robbed).ok());
    let store = node.ground.store();
    fs::remove_file(store.join(&lost)).unwrap();
    fs::write(store.join(&taken), "other\r\neth0").unwrap();
    fs::write(store.join("10.1.0.77"), "gone\r\neth0").unwrap();
    let finding = |id: &str, address: &str, fixed| (id.to_owned(), address.to_owned(), fixed);
    let before = vec![
        finding("lease-leaked", "10.1.0.77", false),
        finding("lease-missing", &lost, false),
        finding("lease-missing", &taken, false),
    ];
    assert_eq!(node.check(&[]), (Some(3), before), "and nothing is changed");
    assert!(store.join("10.1.0.77").exists() && !store.join(&lost).exists());
    let mended = vec![
        finding("lease-leaked", "10.1.0.77", true),
        finding("lease-missing", &lost, true),
        finding("lease-missing", &taken, false),
    ];
    assert_eq!(node.check(&["--fix"]), (Some(3), mended), "two pods with one address remain");
    let content = fs::read_to_string(store.join(&lost)).unwrap();
    assert_eq!(content, format!("{}\r\neth0", alive.id));
    node.plugin.del(&alive).ok();
    assert!(!store.join(&lost).exists(), "the DEL finds it");
    node.plugin.del(&robbed).ok();
    fs::remove_file(store.join(&taken)).unwrap();
    assert_eq!(node.check(&[]), (Some(0), Vec::new()));
}

#[test]
fn the_pool_of_host_local_is_read_as_well() {
    let node = Node::new(&["10.1.0.0/24"]);
    let mut section = node.ground.ipam(&["10.1.0.0/24"]);
    section["type"] = "host-local".into();
    let path = node.ground.host.scratch().path().join("net.conf");
    let conf = node.ground.manx(&section).conf;
    fs::write(path, conf.to_string()).unwrap();
    let container = node.ground.container("c1", "eth0");
    node.ground.ipam_plugin(Program::HostLocal, &section).add(&container).ok();
    assert_eq!(node.json(&["show"]).1["ranges"][0]["leaked"], 1);
    assert_eq!(node.check(&["--fix"]).0, Some(0));
    assert_eq!(node.json(&["show"]).1["ranges"][0]["used"], 0);
}

#[test]
fn what_keeps_no_leases_is_said() {
    let node = Node::new(&["10.1.0.0/24"]);
    let path = node.ground.host.scratch().path().join("net.conf");
    let section = json!({"type": "static", "addresses": [{"address": "10.1.0.2/24"}]});
    fs::write(path, node.ground.manx(&section).conf.to_string()).unwrap();
    let finished = node.run(&["show"]);
    assert_eq!(finished.status, 1);
    assert!(finished.stderr.contains("\"static\""), "{}", finished.stderr);
    assert_eq!(node.run(&["shwo"]).status, 2);
    assert_eq!(node.run(&["show", "--fix"]).status, 2);
}

/// A bridge that delegates keeps no journal, marks no link and makes no route.
#[test]
fn the_lease_of_a_plugin_that_delegates_is_nobodys_only_by_a_list() {
    let node = Node::new(&["10.1.0.0/24"]);
    let pod = Pod::new("a");
    node.plugin.add(&pod).ok();
    let ipam = node.ground.ipam_plugin(Program::Manx, &node.ground.ipam(&["10.1.0.0/24"]));
    let other = address(&ipam.add(&node.ground.container("other", "eth0")).ok());
    let unknown = vec![("lease-leaked".to_owned(), other.clone(), false)];
    assert_eq!(node.check(&["--fix"]), (Some(3), unknown));
    let scratch = node.ground.host.scratch();
    let collect = |arguments: &[&str]| {
        let mut command = Command::new(MANX);
        command.arg("gc").args(arguments).arg("--root").arg(scratch.dir("root"));
        node.ground.host.enter(|| run(command, &Stdin::Null, DEADLINE)).ok();
    };
    collect(&[]);
    assert!(node.ground.leases().contains_key(&other), "without a list it stays");
    let valid = scratch.path().join("valid.json");
    fs::write(&valid, json!([{"containerID": pod.id, "ifname": "eth0"}]).to_string()).unwrap();
    collect(&["--valid", valid.to_str().unwrap()]);
    assert_eq!(node.ground.leases().len(), 1, "by a list it goes");
    node.plugin.del(&pod).ok();
}

#[test]
fn the_pool_of_another_plugin_is_shown_and_not_mended() {
    let node = Node::new(&["10.1.0.0/24"]);
    let mut conf = node.plugin.conf.clone();
    conf["type"] = "bridge".into();
    fs::write(node.ground.host.scratch().path().join("net.conf"), conf.to_string()).unwrap();
    // A lease that none of our attachments has, as that of a bridge's pod.
    node.ground.put("10.1.0.9", "c1\r\neth0");
    let finished = node.run(&["check", "--fix"]);
    assert_eq!(finished.status, 1);
    assert!(finished.stderr.contains("does not name this plugin"), "{}", finished.stderr);
    let shown: Value = serde_json::from_str(&node.run(&["show", "--json"]).ok()).unwrap();
    let range = &shown["ranges"][0];
    assert_eq!((&range["used"], &range["leaked"]), (&json!(1), &json!(0)), "{shown:#}");
    assert_eq!(node.ground.leases().len(), 1);
}
