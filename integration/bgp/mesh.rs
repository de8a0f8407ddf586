// SPDX-License-Identifier: Apache-2.0
//! Three nodes whose routes a daemon is to make, and what it then has to show.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, MANX, Node};
use crate::harness::{DEADLINE, Stdin, eventually, run};

/// How long a mesh may take to converge: sessions that start at different
/// times try again after some seconds.
pub const CONVERGED: Duration = Duration::from_secs(180);

/// IPv6 addresses and pod CIDRs of the nodes that have any.
const IPV6: [(&str, &str, &str); 2] =
    [("node-a", "2001:db8::11", "fd00:1::/64"), ("node-b", "2001:db8::12", "fd00:2::/64")];

/// A cluster in mode direct; every node has applied a peers file that names it
/// alone, and the router between the subnets knows all pods.
pub fn prepare() -> Cluster {
    let cluster = Cluster::new(&json!({"mode": "direct"}));
    for node in &cluster.nodes {
        if let Some((_, address, _)) = IPV6.iter().find(|(name, ..)| *name == node.name) {
            let address = format!("{address}/64");
            let args = ["address", "add", &address, "dev", "eth0", "nodad"];
            node.host.command("ip", &args).ok();
        }
        cluster.router.command("ip", &["route", "add", node.cidr, "via", node.address]).ok();
        let scratch = node.host.scratch();
        scratch.file("root/etc/cni/peers.json", list(node, &[node]));
        let all: Vec<&Node> = cluster.nodes.iter().collect();
        scratch.file("mesh.json", list(node, &all));
        node.manx(&["apply"]).ok();
        assert_eq!(node.plan(), "");
    }
    cluster
}

fn list(me: &Node, nodes: &[&Node]) -> String {
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|node| {
            let (mut addresses, mut cidrs) = (vec![node.address], vec![node.cidr]);
            for (_, address, cidr) in IPV6.iter().filter(|(name, ..)| *name == node.name) {
                addresses.push(address);
                cidrs.push(cidr);
            }
            json!({"name": node.name, "addresses": addresses, "podCIDRs": cidrs})
        })
        .collect();
    json!({"self": me.name, "nodes": nodes}).to_string()
}

/// Writes what `manx export` prints for this node and gives the file.
pub fn export(node: &Node, daemon: &str) -> PathBuf {
    let mesh = node.host.scratch().path().join("mesh.json");
    let text = node.host.enter(|| {
        let mut command = Command::new(MANX);
        command.args(["export", daemon, "--peers"]).arg(&mesh).arg("--root").arg(node.root());
        run(command, &Stdin::Null, DEADLINE).ok()
    });
    node.host.scratch().file(&format!("{daemon}.conf"), text)
}

/// Routes on a node that must never reach another: to pods of a third node, by
/// our own protocol, and a blackhole that is not ours.
pub fn plant(node: &Node) {
    for line in [
        "route add 10.244.9.0/24 via 192.0.2.254 proto 109",
        "route add blackhole 10.244.8.0/24 proto static",
    ] {
        node.host.command("ip", &line.split(' ').collect::<Vec<_>>()).ok();
    }
}

/// Waits until every node has a route to the pods of every other.
#[track_caller]
pub fn converge(cluster: &Cluster) {
    let [a, b, c] = &cluster.nodes;
    for (from, to, next) in [
        (a, b, "via 192.0.2.12 "),
        (a, c, "via 192.0.2.254 "),
        (b, a, "via 192.0.2.11 "),
        (b, c, "via 192.0.2.254 "),
        (c, a, "via 198.51.100.254 "),
        (c, b, "via 198.51.100.254 "),
    ] {
        let found = eventually(CONVERGED, || {
            from.routes(&[to.cidr]).iter().any(|route| route.contains(next))
        });
        assert!(found, "{} to {}: {:#?}", from.name, to.name, from.routes(&[]));
    }
    let ipv6 = || a.host.command("ip", &["-6", "route", "show", "fd00:2::/64"]).ok();
    assert!(eventually(CONVERGED, || ipv6().contains("dev eth0")), "{}", ipv6());
}

/// Pods reach pods, and what was planted on `node-b` is nowhere else.
#[track_caller]
pub fn assert_mesh(cluster: &Cluster) {
    let pods = cluster.nodes.each_ref().map(Node::pod);
    for from in &pods {
        for to in &pods {
            assert!(from.pod.netns.pings(&to.address), "{} to {}", from.address, to.address);
        }
    }
    let [a, b, c] = &cluster.nodes;
    b.host.command("ip", &["address", "add", "fd00:2::1/128", "dev", "lo", "nodad"]).ok();
    assert!(a.host.pings("fd00:2::1"));
    for node in [a, c] {
        for planted in ["10.244.8.0/24", "10.244.9.0/24"] {
            assert_eq!(node.routes(&[planted]), [""; 0], "{}", node.name);
        }
        assert_eq!(node.plan(), "", "the daemon's routes are not in our way");
    }
}
