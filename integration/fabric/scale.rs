// SPDX-License-Identifier: Apache-2.0
//! Thousands of peers.

use std::process::Command;
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, entry};
use crate::harness::{DEADLINE, Pod, Stdin, run};
use crate::monitor::Monitor;

/// How many.
pub const PEERS: usize = 5000;

/// One of them.
pub fn peer(number: usize) -> Value {
    let (high, low) = (number / 250, number % 250);
    json!({
        "name": format!("peer-{number}"),
        "addresses": [format!("172.16.{high}.{}", low + 1)],
        "podCIDRs": [format!("10.{}.{low}.0/24", high + 1)],
    })
}

/// How many system calls the plugin's ADD of one more pod makes, and how many
/// bytes it gets from files and from the kernel by netlink.
fn cost_of_add(node: &Node) -> (usize, u64) {
    let pod = Pod::new("counted");
    let trace = node.host.scratch().path().join("trace");
    let call = node.plugin.call("ADD").pod(&pod);
    let plain = call.command();
    let mut command = Command::new("strace");
    command.args(["-o"]).arg(&trace).arg(plain.get_program()).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let conf = Stdin::Bytes(call.conf().to_string().into());
    node.host.enter(|| run(command, &conf, DEADLINE)).ok();
    let trace = std::fs::read_to_string(trace).unwrap();
    let received =
        trace.lines().filter(|line| line.starts_with("recv") || line.starts_with("read("));
    let bytes = received.filter_map(|line| line.rsplit(" = ").next()?.parse::<u64>().ok());
    (trace.lines().count(), bytes.sum())
}

/// An ADD is no dearer on a large cluster: what the masquerade spares is not
/// read as long as nobody can have changed it.
#[test]
fn a_pod_costs_the_same_beside_five_thousand_peers() {
    let cost = |peers: usize| {
        let keys = json!({"mode": "vxlan", "ipMasq": true});
        let cluster = Cluster::of(&[1], Families::Ipv4, &keys);
        let node = &cluster.nodes[0];
        node.host.command("ip", &["route", "add", "172.16.0.0/16", "dev", "eth0"]).ok();
        let mut nodes = vec![entry(1, Families::Ipv4)];
        nodes.extend((0..peers).map(|number| {
            // With a gap behind each, so that none can be merged.
            let mut peer = peer(number);
            let cidr = peer["podCIDRs"][0].as_str().unwrap().replace("/24", "/25");
            peer["podCIDRs"] = json!([cidr]);
            peer
        }));
        node.set_peers(&nodes);
        let _first = node.attach("first");
        let cost = cost_of_add(node);
        println!("ADD beside {peers} peers: {} system calls, {} bytes", cost.0, cost.1);
        node.host.command("nft", &["flush", "chain", "inet", "manx-net", "postrouting"]).ok();
        let _last = node.attach("last");
        node.assert_settled();
        let rules = node.host.command("nft", &["list", "table", "inet", "manx-net"]).ok();
        assert!(rules.contains("masquerade"), "{rules}");
        cost
    };
    let ((few_calls, few_bytes), (calls, bytes)) = (cost(2), cost(PEERS));
    assert!(calls <= few_calls + 20, "{calls} system calls instead of {few_calls}");
    assert!(bytes <= few_bytes + 4096, "{bytes} bytes instead of {few_bytes}");
}

/// Runs `manx apply`, and tells the processor time that it took by itself and
/// in the kernel.
fn timed_apply(node: &Node, what: &str) -> Duration {
    let plain = node.command(&["apply"]);
    let mut command = Command::new("bash");
    command.args(["-c", r#"TIMEFORMAT="%U %S"; time "$0" "$@" >/dev/null"#]);
    command.arg(plain.get_program()).args(plain.get_args());
    let finished = node.host.enter(|| run(command, &Stdin::Null, DEADLINE));
    assert_eq!(finished.status, 0, "{finished:?}");
    let seconds: f64 =
        finished.stderr.split_whitespace().map(|part| part.parse::<f64>().unwrap()).sum();
    println!("{PEERS} peers, {what}: {seconds:.3} s of processor time");
    Duration::from_secs_f64(seconds)
}

#[test]
fn five_thousand_peers() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::of(&[1], Families::Ipv4, &json!({"mode": mode}));
        let node = &cluster.nodes[0];
        node.host.command("ip", &["route", "add", "172.16.0.0/16", "dev", "eth0"]).ok();
        let mut nodes = vec![entry(1, Families::Ipv4)];
        nodes.extend((0..PEERS).map(peer));
        node.set_peers(&nodes);
        let first = timed_apply(node, &format!("{mode}, from nothing"));
        assert_eq!(node.routes().len(), PEERS + 1);
        node.assert_settled();
        // One peer moves to another address.
        nodes[PEERS / 2]["addresses"] = json!(["172.16.77.77"]);
        node.set_peers(&nodes);
        let mut monitor = Monitor::of(&node.host);
        let second = timed_apply(node, &format!("{mode}, with one changed"));
        let changes = monitor.changes();
        // The kernel tells of what it replaces once, as of something new.
        let new = match mode {
            "direct" => matches!(changes.as_slice(), [RouteNetlinkMessage::NewRoute(_)]),
            _ => matches!(changes.as_slice(), [RouteNetlinkMessage::NewNeighbour(_)]),
        };
        assert!(new, "{mode}: {changes:?}");
        node.assert_settled();
        // A build without optimisation is some five times as slow as a release.
        for took in [first, second] {
            assert!(took < Duration::from_secs(10), "{mode}: {took:?}");
        }
    }
}

/// Refusals by the thousand: the reason is told once, with their number, and what
/// is not concerned is made.
#[test]
fn thousands_of_refusals_end_with_the_reason() {
    const REFUSED: usize = 2000;
    let cluster = Cluster::of(&[1], Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    node.host.set_sysctl("ipv6/conf/default/disable_ipv6", "1");
    let mut nodes = vec![entry(1, Families::Dual)];
    nodes.extend((0..REFUSED).map(|number| {
        let mut peer = peer(number);
        peer["addresses"] = json!([peer["addresses"][0], format!("2001:db8:1::{number:x}:1")]);
        peer["podCIDRs"] = json!([peer["podCIDRs"][0], format!("fd00:245:{number:x}::/64")]);
        peer
    }));
    node.host.command("ip", &["route", "add", "172.16.0.0/16", "dev", "eth0"]).ok();
    node.set_peers(&nodes);
    let apply = node.apply();
    assert!(!apply.timed_out && apply.status == 1, "{:?}", apply.stderr);
    for told in ["IPv6 is disabled on this device", &format!("(and {} more)", REFUSED - 1)] {
        assert!(apply.stderr.contains(told), "{told}: {}", apply.stderr);
    }
    assert_eq!(node.routes().len(), REFUSED + 2, "those of IPv4, and the blackholes");
    // Whoever comes next neither waits nor is told that all is well.
    assert_ne!(node.plugin.status().status, 0);
    node.host.command("sysctl", &["-qw", "net.ipv6.conf.vxlan-v6/calico.disable_ipv6=0"]).ok();
    node.apply().ok();
    node.assert_settled();
}
