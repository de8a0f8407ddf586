// SPDX-License-Identifier: Apache-2.0
//! `manx explain` says what becomes of a packet, and the kernel does the same.

use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, MANX, Node, addresses, bare, batch, entry};
use crate::doctor::bundle;
use crate::harness::{DEADLINE, Finished, Pod, Stdin, plugin_dir, run};
use crate::scale::{PEERS, peer};

fn explain(node: &Node, args: &[&str]) -> Finished {
    let mut command: Command = node.command(&[&["explain"], args].concat());
    let beside = std::path::Path::new(MANX).parent().unwrap().to_owned();
    command.env("CNI_PATH", std::env::join_paths([plugin_dir(), beside]).unwrap());
    node.host.enter(|| run(command, &Stdin::Null, DEADLINE))
}

/// Three nodes, of which the third is behind a router, with a pod each.
fn cluster(mode: &str) -> (Cluster, Vec<Pod>) {
    let keys = json!({"mode": mode, "ipMasq": true, "crossSubnet": true, "ipam": {
        "type": "manx-ipam", "ranges": [[{"subnet": "usePodCidr"}], [{"subnet": "usePodCidrIPv6"}]]
    }});
    let cluster = Cluster::new(3, Families::Dual, &keys);
    cluster.apply();
    let pods = cluster.nodes.iter().zip(["a", "b", "c"]);
    let pods = pods.map(|(node, name)| {
        let pod = Pod::new(name).kubernetes("shop", name);
        node.plugin.add(&pod).ok();
        pod
    });
    let pods = pods.collect();
    (cluster, pods)
}

/// The last line.
fn verdict(told: &Finished) -> String {
    let last = told.stdout.lines().last().unwrap_or_default();
    last.strip_prefix("verdict").unwrap_or_else(|| panic!("{told:?}")).trim().to_owned()
}

/// What is said to arrive does, and what is said to be dropped does not.
#[test]
fn the_verdict_is_what_happens() {
    let (cluster, pods) = cluster("vxlan");
    let [a, b, c] = cluster.nodes.as_slice() else { panic!("three nodes") };
    let [pod, near, far] = [&pods[0], &pods[1], &pods[2]];
    let address = |pod: &Pod, ipv6: bool| addresses(pod)[usize::from(ipv6)].clone();
    for ipv6 in [false, true] {
        let (near, far) = (address(near, ipv6), address(far, ipv6));
        for (destination, words) in [
            (&near, "leaves by eth0 to node-b, whose pods are"),
            (
                &far,
                if ipv6 {
                    "leaves by vxlan-v6.calico to node-c"
                } else {
                    "leaves by vxlan.calico to node-c"
                },
            ),
        ] {
            let told = explain(a, &["shop/a", &format!("[{destination}]:80")]);
            assert_eq!((told.status, told.stderr.as_str()), (0, ""), "{told:?}");
            assert!(verdict(&told).contains(words), "{}", told.stdout);
            assert!(pod.netns.pings(destination));
        }
        // Where it arrives.
        let own = address(pod, ipv6);
        let told = explain(c, &[&own, &far]);
        assert!(verdict(&told).starts_with("delivered to pod shop/c by cali"), "{}", told.stdout);
    }
    let far = address(far, false);
    let told = explain(a, &["shop/a", &far]).stdout;
    for words in [
        "pod shop/a of this node, and leads back to cali",
        "a pod of node-c (10.244.3.0/24)",
        "10.244.3.0/24 via 10.244.3.0 dev vxlan.calico",
        "by /etc/manx/peers.json",
        "behind 198.51.100.13",
        "carried by vxlan of vxlan.calico to 198.51.100.13 [0.0.0.0/0 via 192.0.2.1 dev eth0",
        "1430 bytes",
        "no: 10.244.3.0/24 sees the pod's address [table inet manx-net chain postrouting (set never4)]",
        "off: nothing filters",
        "answers come by vxlan.calico",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    // On another machine, by a bundle.
    let file = b.host.scratch().file("node.bundle", bundle(a));
    let there =
        b.host.command(MANX, &["explain", "--bundle", file.to_str().unwrap(), "shop/a", &far]);
    assert_eq!(there.stdout, told, "{there:?}");
    // A route of somebody else, which leads nowhere.
    batch(&a.host, "route add blackhole 10.244.3.0/25");
    let told = explain(a, &["shop/a", &far]);
    assert_eq!(told.status, 3, "{told:?}");
    assert!(verdict(&told).contains("manx doctor --only route-missing"), "{}", told.stdout);
    assert!(pod.netns.keeps_silent(&far));
    batch(&a.host, "route del blackhole 10.244.3.0/25");
    a.host.command("sh", &["-c", "ip neigh flush dev vxlan.calico nud permanent"]).ok();
    let told = explain(a, &["shop/a", &far]);
    assert!(verdict(&told).contains("manx doctor --only neighbour-missing"), "{}", told.stdout);
    assert!(pod.netns.keeps_silent(&far));
}

#[test]
fn nodes_and_the_world_are_ends_too() {
    let (cluster, pods) = cluster("direct");
    let node = &cluster.nodes[0];
    let own = addresses(&pods[0]);
    for (source, destination, status, words) in [
        ("shop/a", "node-b", 0, "leaves by eth0 to node-b"),
        ("shop/a", "203.0.113.9:443", 0, "leaves by eth0 via 192.0.2.1"),
        ("shop/a", "node-a", 0, "delivered to this node"),
        ("node-a", "node-c", 0, "leaves by eth0 to node-c"),
        ("192.0.2.1", own[0].as_str(), 0, "delivered to pod shop/a by cali"),
        ("shop/a", "10.244.1.200", 3, "dropped: no pod of this node has the address"),
        (&pods[0].id, "10.244.2.9", 0, "leaves by eth0 to node-b, whose pods are 10.244.2.0/24"),
    ] {
        let told = explain(node, &[source, destination]);
        assert!(verdict(&told).contains(words), "{source} {destination}: {told:?}");
        assert_eq!(told.status, status, "{told:?}");
    }
    let masqueraded = explain(node, &["shop/a", "203.0.113.9", "--json"]);
    let document: Value = serde_json::from_str(&masqueraded.stdout).unwrap();
    let steps = document["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["step"] == "masquerade").unwrap();
    assert_eq!(step["text"], "yes: it leaves from 192.0.2.11");
    assert_eq!((&document["outcome"], &document["check"]), (&json!("leaves"), &Value::Null));
    for (args, status, words) in [
        (&["shop/a"][..], 2, "name where the packet comes from"),
        (&["shop/x", "node-b"], 1, "no pod \"shop/x\""),
        (&["192.0.2.1", "fd00::1"], 1, "no family"),
    ] {
        let told = explain(node, args);
        assert!(told.status == status && told.stderr.contains(words), "{told:?}");
    }
}

/// A chain that drops what is forwarded, and a node that does not forward.
#[test]
fn what_this_node_drops_is_named() {
    let (cluster, pods) = cluster("direct");
    let (node, near) = (&cluster.nodes[0], addresses(&pods[1]));
    node.host.command("nft", &["add table ip filter"]).ok();
    let chain = "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }";
    node.host.command("nft", &[chain]).ok();
    let told = explain(node, &["shop/a", &near[0]]);
    assert!(verdict(&told).contains("--only forward-drop"), "{}", told.stdout);
    assert!(told.stdout.contains("chain FORWARD of table ip filter drops by its policy"));
    let of_ipv6 = explain(node, &["shop/a", &near[1]]);
    assert_eq!(of_ipv6.status, 0, "{of_ipv6:?}");
    assert!(pods[0].netns.keeps_silent(&near[0]) && pods[0].netns.pings(&near[1]));
    node.host.command("nft", &["delete table ip filter"]).ok();
    node.host.set_sysctl("ipv4/ip_forward", "0");
    let told = explain(node, &["shop/a", &near[0]]);
    assert!(verdict(&told).contains("--only ip-forward"), "{}", told.stdout);
    node.host.set_sysctl("ipv4/ip_forward", "1");
    // Service proxies give packets other destinations: nothing is claimed of where to.
    let nat = "add table ip svc; add chain ip svc pre { type nat hook prerouting priority -100; }; \
               add rule ip svc pre ip daddr 10.96.0.1 tcp dport 443 dnat to 192.0.2.1:6443";
    node.host.command("nft", &[nat]).ok();
    let told = explain(node, &["shop/a", "10.96.0.1:443"]).stdout;
    assert!(told.contains("dnat") && told.contains("[table ip svc (1 rules)]"), "{told}");
    assert!(!explain(node, &["shop/a", &near[1]]).stdout.contains("dnat"));
    // A rule that sends a pod's packets by another table.
    let own = addresses(&pods[0]);
    batch(
        &node.host,
        &format!(
            "route add default via 192.0.2.1 table 300\nrule add pref 90 from {} lookup 300",
            bare(&own[0])
        ),
    );
    let told = explain(node, &["shop/a", &near[0]]);
    assert!(told.stdout.contains("rule 90: from"), "{}", told.stdout);
    assert!(told.stdout.contains("0.0.0.0/0 via 192.0.2.1 table 300"), "{}", told.stdout);
}

/// Whoever writes over a link's alias takes the pod from nobody, and a cable that is pulled is
/// seen before a packet is missed.
#[test]
fn a_lost_alias_and_a_lost_carrier() {
    let (cluster, pods) = cluster("direct");
    let (node, near) = (&cluster.nodes[0], addresses(&pods[1]));
    let name = node.host.links().into_iter().find(|name| name.starts_with("cali")).unwrap();
    node.host.command("ip", &["link", "set", &name, "alias", "rack 7"]).ok();
    let told = explain(node, &["shop/a", &near[0]]);
    assert_eq!(told.status, 0, "{told:?}");
    let told = explain(node, &["node-b", bare(&addresses(&pods[0])[0])]);
    assert!(verdict(&told).contains("shop/a"), "{told:?}");
    let root = node.host.scratch().dir("root").display().to_string();
    let listed = node.host.command(MANX, &["pods", "--root", &root]).ok();
    assert!(listed.contains(" up "), "{listed}");

    // Without the route to the pods of a node a packet takes the default one.
    let cidr = "10.244.2.0/24";
    batch(&node.host, &format!("route del {cidr} proto 109"));
    let told = explain(node, &["shop/a", &near[0]]);
    assert!(told.status == 3 && verdict(&told).contains("--only route-missing"), "{told:?}");
    node.apply();

    batch(&cluster.router, "link set to-a down");
    let told = explain(node, &["shop/a", &near[0]]);
    assert_eq!(told.status, 3, "{told:?}");
    let words = verdict(&told);
    assert!(words.contains("eth0 has no carrier"), "{words}");
    assert!(words.contains("--only next-hop-unreachable"), "{words}");
    let peers = node.manx(&["peers"]).ok();
    assert!(peers.contains("degraded") && peers.contains("has no carrier"), "{peers}");
}

/// Thousands of peers: how long it takes is told.
#[test]
fn explaining_beside_five_thousand_peers() {
    let cluster = Cluster::of(&[1], Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    batch(&node.host, "route add 172.16.0.0/16 dev eth0");
    let mut nodes = vec![entry(1, Families::Ipv4)];
    nodes.extend((0..PEERS).map(peer));
    node.set_peers(&nodes);
    node.apply().ok();
    let pod = node.attach("a");
    let own = addresses(&pod);
    let told = explain(node, &[&own[0], "peer-4999"]);
    println!("explain beside {PEERS} peers: {:?}", told.took);
    assert!(verdict(&told).ends_with("leaves by eth0 to peer-4999"), "{told:?}");
    let told = explain(node, &["node-a", "10.20.249.7"]);
    assert!(verdict(&told).contains("leaves by vxlan.calico to peer-4999"), "{told:?}");
}
