// SPDX-License-Identifier: Apache-2.0
//! Nodes whose routes through the tunnels a routing daemon makes, with what
//! `manx export` prints; `ipip_between_nodes` runs it, here or in a machine.

use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    cluster::{Attached, Cluster, MANX, Node, fits, transfer},
    daemon::{Daemon, find},
    harness::{DEADLINE, Stdin, eventually, run},
    wire::Wire,
};

/// How long a mesh may take to converge: sessions try again after some seconds,
/// and an emulated machine takes its time.
const CONVERGED: Duration = Duration::from_secs(300);
/// BIRD's routes (RTPROT_BIRD, include/uapi/linux/rtnetlink.h).
const PROTOCOL: &str = "12";
const BYTES: usize = 4 << 20;

/// Starts BIRD on a node with the configuration that manx prints for `mesh`.
fn start(node: &Node, mesh: &[&Node]) -> Daemon {
    let scratch = node.host.scratch();
    let mesh = scratch.file("mesh.json", list(node, mesh));
    let conf = node.host.enter(|| {
        let mut command = Command::new(MANX);
        command.args(["export", "bird", "--peers"]).arg(mesh).arg("--root").arg(node.root());
        run(command, &Stdin::Null, DEADLINE).ok()
    });
    assert!(conf.contains("ifname = \"tunl0\""), "{conf}");
    let conf = scratch.file("bird.conf", conf);
    let mut bird = Command::new(find("bird").expect("looked for before"));
    bird.args(["-f", "-c"]).arg(conf).arg("-s").arg(scratch.path().join("bird.ctl"));
    Daemon::start(node, "bird", bird)
}

fn list(me: &Node, nodes: &[&Node]) -> String {
    let entry = |node: &&Node| json!({"name": node.name, "addresses": [node.address], "podCIDRs": [node.cidr]});
    let nodes: Vec<Value> = nodes.iter().map(entry).collect();
    json!({"self": me.name, "nodes": nodes}).to_string()
}

/// BIRD's routes to the pods of others, as they are to be.
fn expected(node: &Node, all: &[Node]) -> Vec<String> {
    let others = all.iter().filter(|other| other.name != node.name);
    let mut routes: Vec<String> = others
        .map(|other| {
            format!("{} via {} dev tunl0 metric 32 onlink mtu 1480", other.cidr, other.address)
        })
        .collect();
    routes.sort();
    routes
}

/// How many BGP sessions of a node are established. Looked at without a program:
/// each that is started takes an emulated machine a second.
fn sessions(node: &Node) -> usize {
    const PORT: &str = ":00B3";
    const ESTABLISHED: &str = "01";
    let read = || std::fs::read_to_string("/proc/thread-self/net/tcp").expect("read connections");
    let connections = node.host.enter(read);
    let fields = connections.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| fields[3] == ESTABLISHED)
        .filter(|fields| fields[1].ends_with(PORT) || fields[2].ends_with(PORT))
        .count()
}

#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn birds_make_the_routes_through_the_tunnels() {
    let test = "birds_make_the_routes_through_the_tunnels";
    if find("bird").is_none() {
        return eprintln!("SKIP {test}: no bird in PATH (hack/setup provides it)");
    }
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let [a, b, c] = &cluster.nodes;
    for node in &cluster.nodes {
        // manx makes the tunnel and the blackhole, and leaves all routes to BIRD.
        node.host.scratch().file("root/etc/cni/peers.json", list(node, &[node]));
        node.manx(&["apply"]).ok();
    }
    let mut birds = cluster.nodes.each_ref().map(|node| start(node, &[a, b, c]));
    let routes = |node: &Node| node.routes(&["proto", PROTOCOL]);
    for (node, bird) in cluster.nodes.iter().zip(&birds) {
        let wanted = expected(node, &cluster.nodes);
        let there = eventually(CONVERGED, || routes(node) == wanted);
        assert!(there, "{}: {:#?}\n{}", node.name, routes(node), bird.said());
        assert_eq!(node.plan(), "", "BIRD's routes are not in our way");
    }
    let pods: Vec<Attached> = cluster.nodes.iter().map(Node::pod).collect();
    let [from, near, far] = pods.as_slice() else { panic!("a pod for each node") };
    for (to, node) in [(near, b), (far, c)] {
        let wire = Wire::tap(&node.host, "eth0", "ip proto 4");
        assert!(from.pod.netns.pings(&to.address), "no answer from {}", to.address);
        assert_eq!(fits(&from.pod.netns, &to.address, 1480), Ok(true));
        assert_eq!(transfer(&from.pod.netns, &to.pod.netns, &to.address, BYTES), BYTES);
        let outer = format!("IP 192.0.2.11 > {}: IP 10.244.1.", node.address);
        wire.expect(&[&outer, "ICMP echo request"]);
    }

    assert!(eventually(CONVERGED, || cluster.nodes.iter().all(|node| sessions(node) == 2)));
    let ping = ["-n", "-q", "-i", "0.2", "-c", "40", &near.address];
    let traffic = thread::scope(|scope| {
        let pinging = scope.spawn(|| from.pod.netns.command("ping", &ping));
        birds[1].kill();
        // The others notice, and keep what it told them.
        let noticed = eventually(CONVERGED, || sessions(a) == 1 && sessions(c) == 1);
        assert!(noticed, "{} {}", sessions(a), sessions(c));
        pinging.join().expect("ping ends")
    });
    assert!(traffic.stdout.contains(" 0% packet loss"), "{traffic:?}");
    for node in &cluster.nodes {
        assert_eq!(routes(node), expected(node, &cluster.nodes), "{}", node.name);
    }
}
