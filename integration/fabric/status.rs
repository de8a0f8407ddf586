// SPDX-License-Identifier: Apache-2.0
//! `manx status` and `manx peers` say how a node and the others stand.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, MANX, NETWORK, Node, batch, entry};
use crate::doctor::bundle;
use crate::harness::{DEADLINE, Finished, Pod, Stdin, eventually, plugin_dir, run};
use crate::scale::{PEERS, peer};

fn command(node: &Node, args: &[&str]) -> Command {
    let mut command = node.command(args);
    let beside = std::path::Path::new(MANX).parent().unwrap().to_owned();
    command.env("CNI_PATH", std::env::join_paths([plugin_dir(), beside]).unwrap());
    command
}

fn status(node: &Node, args: &[&str]) -> Finished {
    let command = command(node, &[&["status"], args].concat());
    node.host.enter(|| run(command, &Stdin::Null, DEADLINE))
}

fn document(told: &Finished) -> Value {
    serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"))
}

/// Two nodes, of which the first has a pod.
fn cluster(mode: &str) -> (Cluster, Pod) {
    let keys = json!({"mode": mode, "ipam": {"type": "manx-ipam", "ranges": [
        [{"subnet": "usePodCidr"}], [{"subnet": "usePodCidrIPv6"}]
    ]}});
    let cluster = Cluster::new(2, Families::Dual, &keys);
    cluster.apply();
    let pod = cluster.nodes[0].attach("a");
    (cluster, pod)
}

#[test]
fn a_node_that_works_is_ready_on_one_screen() {
    for (mode, words) in [
        ("direct", "IPv4: MTU 1500 = eth0's 1500 - 0"),
        ("vxlan", "IPv6: MTU 1430 = eth0's 1500 - 70"),
    ] {
        let (cluster, _pod) = cluster(mode);
        let node = &cluster.nodes[0];
        let told = status(node, &[]);
        assert_eq!((told.status, told.stderr.as_str()), (0, ""), "{told:?}");
        assert!(told.stdout.lines().count() < 25, "one screen: {}", told.stdout);
        for words in [
            "node-a, manx",
            ": ready",
            mode,
            words,
            "1 reachable, 0 degraded, 0 excluded",
            "Pods:      1 up",
            "10.244.1.1-10.244.1.254 1 of 253 used",
            "Agent:     none runs",
            "Policy:    off",
            "Findings:  none",
        ] {
            assert!(told.stdout.contains(words), "{words}: {}", told.stdout);
        }
        let json = document(&status(node, &["--json"]));
        assert_eq!((&json["state"], &json["node"]), (&json!("ready"), &json!("node-a")));
        assert_eq!(json["pods"], json!({"up": 1, "down": 0, "missing": 0, "unnoted": 0}));
        assert_eq!(json["fabrics"][0]["mode"], mode);
        assert_eq!(json["fabrics"][0]["peers"]["reachable"], 1);
        assert_eq!(json["networks"][0]["leases"][0]["used"], 1);
        assert!(json["checks"].as_array().unwrap().len() > 20);
        // On another machine, by a bundle.
        let elsewhere = &cluster.nodes[1].host;
        let file = elsewhere.scratch().file("node.bundle", bundle(node));
        let there = elsewhere.command(MANX, &["status", "--bundle", file.to_str().unwrap()]);
        assert_eq!(there.stdout, told.stdout, "{there:?}");
    }
}

#[test]
fn what_is_wrong_is_on_the_screen() {
    let (cluster, _pod) = cluster("vxlan");
    let node = &cluster.nodes[0];
    let excluded =
        json!({"name": "node-x", "addresses": ["192.0.2.99"], "podCIDRs": ["10.244.2.128/25"]});
    let all = Families::Dual;
    node.set_peers(&[entry(1, all), entry(2, all), excluded]);
    node.apply();
    node.host.command("sh", &["-c", "ip neigh flush dev vxlan.calico nud permanent"]).ok();
    let told = status(node, &[]);
    assert_eq!(told.status, 3, "{told:?}");
    for words in [
        ": degraded",
        "0 reachable, 1 degraded, 1 excluded",
        "node-b degraded: neighbour 10.244.2.0 dev vxlan.calico is missing",
        "node-x excluded: ",
        "error: peer-excluded",
    ] {
        assert!(told.stdout.contains(words), "{words}: {}", told.stdout);
    }
    let listed = node.manx(&["peers", "--json"]);
    let states: Vec<(Value, Value)> = document(&listed)["peers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|peer| (peer["name"].clone(), peer["state"].clone()))
        .collect();
    let pair = |name: &str, state: &str| (json!(name), json!(state));
    let expected = [pair("node-a", "self"), pair("node-b", "degraded"), pair("node-x", "excluded")];
    assert_eq!(states, expected);
    let table = node.manx(&["peers"]).ok();
    assert!(table.contains("10.244.2.0/24,fd00:244:2::/64  vxlan.calico  degraded"), "{table}");
    // Nothing of the list leads anywhere: the node is not ready.
    node.host.command("sysctl", &["-qw", "net.ipv4.ip_forward=0"]).ok();
    let told = status(node, &["--json"]);
    let json = document(&told);
    assert_eq!((told.status, &json["state"]), (3, &json!("notReady")), "{json:#}");
    assert!(json["reason"].as_str().unwrap().contains("ip_forward"), "{}", json["reason"]);
}

/// A bad list is told; one without other nodes, and no list at all, are no fault.
#[test]
fn without_peers_there_is_a_screen_all_the_same() {
    let (cluster, _pod) = cluster("direct");
    let node = &cluster.nodes[0];
    node.set_peers(&[entry(1, Families::Dual)]);
    node.apply().ok();
    assert!(status(node, &[]).stdout.contains("Peers:     none"));
    node.write_peers("{");
    let told = status(node, &[]);
    assert!(told.status == 3 && told.stdout.contains("fabric-stale"), "{told:?}");
    let alone = node.with("peersFile", Value::Null);
    let alone =
        alone.with("ipam", json!({"type": "manx-ipam", "ranges": [[{"subnet": "10.9.0.0/24"}]]}));
    let told = status(&alone, &[]);
    assert!(told.stdout.contains("Routes:    none: no peersFile"), "{told:?}");
    let listed = alone.manx(&["peers"]);
    assert!(listed.status == 0 && listed.stdout.is_empty(), "{listed:?}");
    assert!(listed.stderr.contains("has no peersFile"), "{listed:?}");
}

#[test]
fn waiting_ends_when_the_node_is_ready_or_the_time_is_up() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    let told = status(node, &["--wait", "--timeout", "0"]);
    assert!(told.status == 1 && told.stderr.contains("not ready after 0 s"), "{told:?}");
    assert!(told.stdout.contains("not applied since boot"), "{told:?}");
    let mut waiting = command(node, &["status", "--wait"]);
    waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null());
    let mut child = node.host.enter(|| waiting.spawn().unwrap());
    // It has seen that the node is not ready before that changes.
    let mut first = String::new();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    told.read_line(&mut first).unwrap();
    assert!(first.contains("waiting: network net"), "{first}");
    node.apply().ok();
    let ended = eventually(DEADLINE, || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    assert!(ended && output.status.code() == Some(0), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains(": ready"));
    for args in [
        &["--timeout", "3"][..],
        &["--wait", "--bundle", "x"],
        &["--wait", "--timeout", "soon"],
        &["--bundle", "x", "--conf", "y"],
    ] {
        let command = [&["status"], args].concat();
        assert_eq!(node.host.command(MANX, &command).status, 2, "{args:?}");
    }
}

/// An agent holds a pipe; it answers at its port, or does not.
#[test]
fn an_agent_that_runs_is_on_the_screen() {
    let (cluster, _pod) = cluster("direct");
    let node = &cluster.nodes[0];
    let pipe = node.host.scratch().dir("root").join("run/manx/.operations");
    node.host.command("mkfifo", &[pipe.to_str().unwrap()]).ok();
    assert!(status(node, &[]).stdout.contains("Agent:     none runs"));
    let _held = File::options().read(true).write(true).open(&pipe).unwrap();
    let told = status(node, &[]);
    assert!(
        told.stdout.contains("runs, and does not say how it stands: 127.0.0.1:9641"),
        "{told:?}"
    );
}

/// Thousands of peers take less than a second; how long is told, as nothing asks for it.
#[test]
fn status_and_peers_of_five_thousand() {
    let cluster = Cluster::of(&[1], Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    batch(&node.host, "route add 172.16.0.0/16 dev eth0");
    let mut nodes = vec![entry(1, Families::Ipv4)];
    nodes.extend((0..PEERS).map(peer));
    node.set_peers(&nodes);
    node.apply().ok();
    let told = status(node, &[]);
    println!("status beside {PEERS} peers: {:?}", told.took);
    assert!(told.stdout.contains(&format!("{PEERS} reachable, 0 degraded")), "{told:?}");
    let listed = node.manx(&["peers", "--json"]);
    println!("peers, of {PEERS}: {:?}", listed.took);
    assert_eq!(document(&listed)["peers"].as_array().unwrap().len(), PEERS + 1);
    assert_eq!(document(&listed)["peers"][1]["networks"], json!([NETWORK]));
}
