//! Thousands of peers.

use std::process::Command;
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, entry};
use crate::harness::{Stdin, run};
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

/// Runs `manx apply`, and tells the processor time that it took by itself and
/// in the kernel.
fn timed_apply(node: &Node, what: &str) -> Duration {
    let plain = node.command(&["apply"]);
    let mut command = Command::new("bash");
    command.args(["-c", r#"TIMEFORMAT="%U %S"; time "$0" "$@" >/dev/null"#]);
    command.arg(plain.get_program()).args(plain.get_args());
    let finished = node.host.enter(|| run(command, &Stdin::Null, Duration::from_secs(60)));
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
