// SPDX-License-Identifier: Apache-2.0
//! Addresses are given out where the peers file puts this node's pods, and
//! nowhere else.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, addresses, entry, pod_cidr};
use crate::harness::{Finished, Pod};

/// The node with these ranges, each a set of its own, of manx-ipam or host-local.
fn with_ranges(node: &Node, kind: &str, ranges: &[Value]) -> Node {
    let sets: Vec<Value> = ranges.iter().map(|range| json!([range])).collect();
    let dir = node.host.scratch().dir("leases");
    node.with("ipam", json!({"type": kind, "dataDir": dir, "ranges": sets}))
}

/// Runs `manx validate` for the node's configuration alone.
fn validate(node: &Node) -> Finished {
    let mut plugin = node.plugin.conf.clone();
    let list = json!({"cniVersion": "1.1.0", "name": plugin["name"].take(), "plugins": [plugin]});
    let file = node.host.scratch().file("10-net.conflist", list.to_string());
    let root = node.host.scratch().dir("root");
    let args = ["validate", file.to_str().unwrap(), "--root", root.to_str().unwrap()];
    node.host.command(crate::cluster::MANX, &args)
}

/// How many leases there are.
fn leases(node: &Node) -> usize {
    let directory = node.host.scratch().path().join("leases/net");
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
    names.filter(|file| file.file_name().to_string_lossy().contains("10.2")).count()
}

/// Everybody says this: ADD refuses, plan and validate find it, and with pods on
/// the node STATUS goes on, told once.
#[track_caller]
fn refused(node: &Node, words: &[&str]) {
    let says = |text: &str| assert!(words.iter().all(|word| text.contains(word)), "{text}");
    let reply = node.plugin.add(&Pod::new("refused"));
    assert_eq!(reply.code(), Some(7), "{reply:?}");
    says(&reply.stdout);
    assert_eq!(leases(node), 0);
    assert_eq!(node.host.links().iter().filter(|name| name.starts_with("cali")).count(), 0);
    let reply = node.plugin.status();
    assert_eq!(reply.code(), Some(50), "{reply:?}");
    says(&reply.stdout);
    found(node, words);
}

/// plan and validate find it; apply tells it, and makes the routes.
#[track_caller]
fn found(node: &Node, words: &[&str]) {
    let says = |text: &str| assert!(words.iter().all(|word| text.contains(word)), "{text}");
    let plan = node.plan();
    assert_eq!(plan.status, 3, "{plan:?}");
    says(&plan.stderr);
    let json = node.manx(&["plan", "--json"]);
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    says(&document["notes"].to_string());
    says(&node.apply().stderr);
    let validate = validate(node);
    assert_eq!(validate.status, 3, "{validate:?}");
    assert!(validate.stdout.contains("error"), "{validate:?}");
    says(&validate.stdout);
}

#[test]
fn ranges_of_another_node_are_refused() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let own = [pod_cidr(1, false), pod_cidr(1, true)].map(|cidr| json!({"subnet": cidr}));
    let [ipv4, ipv6] = &own;
    for kind in ["manx-ipam", "host-local"] {
        for (ranges, cidr) in [
            (vec![json!({"subnet": "10.244.2.0/24"})], "10.244.2.0/24"),
            (vec![json!({"subnet": "10.244.2.64/26"}), ipv6.clone()], "10.244.2.0/24"),
            // Half of it.
            (
                vec![json!({"subnet": "10.244.0.0/16", "rangeStart": "10.244.1.9",
                            "rangeEnd": "10.244.2.9"})],
                "10.244.2.0/24",
            ),
            (vec![ipv4.clone(), json!({"subnet": "fd00:244::/32"})], "fd00:244:2::/64"),
        ] {
            refused(&with_ranges(node, kind, &ranges), &["node-b", cidr, "ipam"]);
        }
        let fine = with_ranges(node, kind, &own);
        fine.plugin.status().ok();
        assert!(!validate(&fine).stdout.contains("podCIDR"));
        fine.plugin.del(&fine.attach("a")).ok();
        fine.assert_settled();
    }
}

/// As on a node of the control plane, with the file that all nodes have.
#[test]
fn a_node_without_pods_has_no_ranges_to_be_outside_of() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let mut nodes = [entry(1, Families::Ipv4), entry(2, Families::Ipv4)];
    nodes[0]["podCIDRs"] = json!([]);
    node.set_peers(&nodes);
    node.apply().ok();
    node.assert_settled();
    node.plugin.status().ok();
    refused(&with_ranges(node, "manx-ipam", &[json!({"subnet": "10.244.2.0/24"})]), &["node-b"]);
}

/// `refused` looks for where a range is written in what all of them say.
#[test]
fn ranges_that_are_nobodys_are_found() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    for ranges in [
        vec![json!({"subnet": "10.99.0.0/24"})],
        vec![json!({"subnet": "10.244.0.0/23"})],
        // One family of two.
        vec![json!({"subnet": pod_cidr(1, false)}), json!({"subnet": "fd00:99::/64"})],
    ] {
        let wrong = with_ranges(node, "manx-ipam", &ranges);
        let subnet = ranges.last().unwrap()["subnet"].as_str().unwrap();
        let words = [subnet.split("::").next().unwrap().trim_end_matches("0/24"), "10.244.1.0/24"];
        let words = if subnet == "10.244.0.0/23" { ["10.244.0.1", words[1]] } else { words };
        found(&wrong, &words);
        let reply = wrong.plugin.status();
        assert_eq!(reply.code(), Some(50), "{reply:?}");
        let pod = Pod::new("a");
        let reply = wrong.plugin.add(&pod);
        assert!(reply.stderr.contains("WARN") && reply.stderr.contains(words[0]), "{reply:?}");
        reply.ok();
        // With a pod on the node, it is told once.
        for told in [true, false, false] {
            let reply = wrong.plugin.status();
            assert_eq!(reply.stderr.contains(words[0]), told, "{reply:?}");
            reply.ok();
        }
        wrong.plugin.del(&pod).ok();
    }
}

/// A note of the journal whose pod died with its namespace, or is of another network,
/// is no pod that would suffer.
#[test]
fn only_live_pods_of_the_network_keep_a_node_with_wrong_ranges_ready() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let wrong = with_ranges(node, "manx-ipam", &[json!({"subnet": "10.99.0.0/24"})]);
    let other = with_ranges(node, "manx-ipam", &[json!({"subnet": pod_cidr(1, false)})]);
    let elsewhere = other.with("name", json!("other")).attach("b");
    assert_eq!(wrong.plugin.status().code(), Some(50));
    let before = node.host.links();
    let pod = wrong.attach("a");
    wrong.plugin.status().ok();
    // The mark and the group are each enough.
    let link = node.host.links().into_iter().find(|name| !before.contains(name)).unwrap();
    for change in [["group", "default"], ["alias", "x"]] {
        node.host.command("ip", &["link", "set", &link, change[0], change[1]]).ok();
        wrong.plugin.status().ok();
    }
    node.host.command("ip", &["link", "del", &link]).ok();
    let reply = wrong.plugin.status();
    assert_eq!(reply.code(), Some(50), "{reply:?}");
    wrong.plugin.del(&pod).ok();
    other.plugin.del(&elsewhere).ok();
}

/// What another IPAM plugin gives is known once it has given it.
#[test]
fn an_address_of_another_node_is_refused_and_released() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let directory = node.host.scratch().dir("bin");
    for (address, refused) in
        [("10.244.2.7/24", true), ("fd00:244:2::7/64", true), ("10.244.1.7/24", false)]
    {
        let calls = node.host.scratch().path().join("calls");
        let body = format!(
            "#!/bin/sh\ncat >/dev/null\necho $CNI_COMMAND >>{}\n[ $CNI_COMMAND = ADD ] && \
             echo '{{\"cniVersion\":\"1.0.0\",\"ips\":[{{\"address\":\"{address}\"}}]}}'\nexit 0\n",
            calls.display()
        );
        node.host.scratch().script("bin/given", &body);
        let mut given = node.with("ipam", json!({"type": "given"}));
        given.plugin = given.plugin.path([directory.clone()]);
        let pod = Pod::new("a");
        let reply = given.plugin.add(&pod);
        let log = std::fs::read_to_string(&calls).unwrap();
        if refused {
            assert_eq!(reply.code(), Some(7), "{reply:?}");
            assert!(reply.stdout.contains("node-b"), "{reply:?}");
            assert_eq!(log.trim(), "ADD\nDEL");
            assert_eq!(node.host.links(), ["eth0"]);
        } else {
            reply.ok();
            given.plugin.del(&pod).ok();
        }
        std::fs::remove_file(calls).unwrap();
    }
}

#[test]
fn an_address_of_another_node_may_not_be_asked_for() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let mut pod = Pod::new("a");
    pod.args = Some("IP=10.244.2.9".into());
    let reply = node.plugin.add(&pod);
    assert_eq!(reply.code(), Some(7), "{reply:?}");
    assert!(reply.stdout.contains("node-b") && reply.stdout.contains("10.244.2.9"), "{reply:?}");
    // Nor may a range by the runtime's capability, of whichever family.
    pod.args = None;
    for (range, peer) in [("10.244.2.0/28", "10.244.2.0/24"), ("fd00:244::/40", "node-b")] {
        let dual = Cluster::new(2, Families::Dual, &json!({"mode": "direct"}));
        let ranges = json!({"ipRanges": [[{"subnet": range}]]});
        let reply = dual.nodes[0].plugin.call("ADD").pod(&pod).key("runtimeConfig", ranges).run();
        assert_eq!(reply.code(), Some(7), "{reply:?}");
        assert!(reply.stdout.contains("runtimeConfig.ipRanges") && reply.stdout.contains(peer));
    }
    pod.args = Some("IP=10.244.1.9".into());
    node.plugin.add(&pod).ok();
    assert_eq!(addresses(&pod), ["10.244.1.9"]);
    node.plugin.del(&pod).ok();
}

/// A network without routes to other nodes, beside one that has them.
#[test]
fn a_network_without_peers_is_compared_with_those_of_others() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let directory = node.host.scratch().dir("root/etc/cni/net.d");
    let list = |name: &str, conf: &Value| {
        let list = json!({"cniVersion": "1.1.0", "name": name, "plugins": [conf]});
        std::fs::write(directory.join(format!("{name}.conflist")), list.to_string()).unwrap();
    };
    list("10-net", &node.plugin.conf);
    let alone = |subnet: &str| {
        let ipam = json!({"type": "manx-ipam", "ranges": [[{"subnet": subnet}]]});
        list("20-alone", &json!({"type": "manx", "ipam": ipam}));
        let root = node.host.scratch().dir("root");
        node.host.command(crate::cluster::MANX, &["validate", "--root", root.to_str().unwrap()])
    };
    assert!(alone("10.244.2.128/25").stdout.contains("node-b's podCIDR 10.244.2.0/24"));
    assert!(!alone("10.99.0.0/24").stdout.contains("podCIDR"));
}
