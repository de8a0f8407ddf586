// SPDX-License-Identifier: Apache-2.0
//! A mode that changes reaches nodes at different moments: what one sends by the old one, or by the
//! new one already, is taken by all.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, addresses, entry};
use crate::harness::Netns;

fn say(node: &Node, fabric: &Value) {
    say_of(node, 2, fabric);
}

fn say_of(node: &Node, nodes: usize, fabric: &Value) {
    say_in(Families::Ipv4, node, nodes, fabric);
}

fn say_in(families: Families, node: &Node, nodes: usize, fabric: &Value) {
    let nodes: Vec<Value> = (1..=nodes).map(|number| entry(number, families)).collect();
    let me = ["node-a", "node-b", "node-c"][node.number - 1];
    node.write_peers(&json!({"self": me, "fabric": fabric, "nodes": nodes}).to_string());
    node.apply().ok();
    node.assert_settled();
}

/// Echo requests that go on.
struct Pinging(Child);

impl Pinging {
    fn start(from: &Netns, to: &str) -> Self {
        let mut command = Command::new("ping");
        command.args(["-n", "-q", "-i", "0.02", to]).stdout(Stdio::piped()).stderr(Stdio::null());
        Self(from.enter(|| command.spawn().unwrap()))
    }

    /// How many were not answered, but for one that may be under way.
    fn lost(self) -> (u32, String) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        let output = self.0.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.contains("packets transmitted")).unwrap();
        let counts: Vec<u32> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        ((counts[0] - counts[1]).saturating_sub(1), line.to_owned())
    }
}

/// Devices that are made later are so as well.
fn filter(node: &Node, value: &str) {
    for scope in ["default", "all"] {
        node.host.set_sysctl(&format!("ipv4/conf/{scope}/rp_filter"), value);
    }
}

/// With `accepts` a node takes packets by one mode and sends by the other, and whichever node is
/// first, nothing is lost.
#[test]
fn a_mode_changes_node_by_node_and_no_packet_is_lost() {
    let direct = json!({"mode": "direct"});
    let calicos = json!({"mode": "vxlan"});
    let flannels =
        json!({"mode": "vxlan", "vxlan": {"vni": 1, "port": 8472, "device": "flannel.1"}});
    for (from, to) in
        [(&direct, &calicos), (&calicos, &direct), (&calicos, &flannels), (&flannels, &calicos)]
    {
        let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
        let [first, second] = &cluster.nodes[..] else { panic!() };
        for node in &cluster.nodes {
            // As most distributions have it.
            filter(node, "2");
            say(node, from);
        }
        let pods = cluster.pods();
        let [a, b] = [0, 1].map(|number| addresses(&pods[number])[0].clone());
        assert!(pods[0].netns.pings(&b) && pods[1].netns.pings(&a), "{from}");
        let pinging = [Pinging::start(&pods[0].netns, &b), Pinging::start(&pods[1].netns, &a)];
        let accepting = |fabric: &Value, other: &Value| {
            let mut fabric = fabric.clone();
            fabric["accepts"] = other.clone();
            fabric
        };
        for fabric in [accepting(from, to), accepting(to, from), to.clone()] {
            for node in [first, second] {
                say(node, &fabric);
                assert!(pods[0].netns.pings(&b) && pods[1].netns.pings(&a), "{fabric}");
            }
        }
        for pinging in pinging {
            let (lost, told) = pinging.lost();
            assert_eq!(lost, 0, "{from} to {to}: {told}");
        }
        let held = ["vxlan.calico", "flannel.1"].map(|name| first.host.link(name).is_some());
        assert_eq!(held, [to == &calicos, to == &flannels], "nothing of {from} is left");
    }
}

/// The device of the family that travels plainly by now stays as long as somebody sends by it.
#[test]
fn a_family_begins_and_ends_to_travel_plainly_node_by_node() {
    let (all, one) = (json!({"mode": "vxlan"}), json!({"mode": "vxlan", "plain": ["IPv6"]}));
    let cluster = Cluster::new(2, Families::Dual, &json!({}));
    let say = |node, fabric: &Value| say_in(Families::Dual, node, 2, fabric);
    for node in &cluster.nodes {
        say(node, &all);
    }
    let pods = cluster.pods();
    let [a, b] = [0, 1].map(|number| addresses(&pods[number])[1].clone());
    assert!(a.contains(':') && pods[0].netns.pings(&b) && pods[1].netns.pings(&a));
    let pinging = [Pinging::start(&pods[0].netns, &b), Pinging::start(&pods[1].netns, &a)];
    for (from, to) in [(&all, &one), (&one, &all)] {
        let accepting = |fabric: &Value, other: &Value| {
            let mut fabric = fabric.clone();
            fabric["accepts"] = other.clone();
            fabric
        };
        for fabric in [accepting(from, to), accepting(to, from), to.clone()] {
            for node in &cluster.nodes {
                say(node, &fabric);
                assert!(pods[0].netns.pings(&b) && pods[1].netns.pings(&a), "{fabric}");
            }
        }
        let held = cluster.nodes[0].host.link("vxlan-v6.calico").is_some();
        assert_eq!(held, to == &all, "{to}");
    }
    for pinging in pinging {
        let (lost, told) = pinging.lost();
        assert_eq!(lost, 0, "{told}");
    }
}

/// A node that joins sends by the mode that its configuration says is accepted besides, and takes both: it
/// reaches those that do not have that configuration yet, and those at each step of the change.
#[test]
fn a_node_that_joins_during_a_change_reaches_all() {
    let old = json!({"mode": "vxlan"});
    let new = json!({"mode": "vxlan", "vxlan": {"vni": 1, "port": 8472, "device": "flannel.1"}});
    let accepting = |fabric: &Value, other: &Value| {
        let mut fabric = fabric.clone();
        fabric["accepts"] = other.clone();
        fabric
    };
    let (first, second) = (accepting(&old, &new), accepting(&new, &old));
    let cluster = Cluster::new(3, Families::Ipv4, &json!({}));
    let [without, ahead, joins] = &cluster.nodes[..] else { panic!() };
    say_of(without, 3, &old);
    say_of(ahead, 3, &first);
    say_of(joins, 3, &first);
    let pods = cluster.pods();
    let all: Vec<String> = pods.iter().map(|pod| addresses(pod)[0].clone()).collect();
    let reach_each_other = |when: &str| {
        for (from, pod) in pods.iter().enumerate() {
            for (to, address) in all.iter().enumerate().filter(|(to, _)| *to != from) {
                assert!(pod.netns.pings(address), "{when}: {from} to {to}");
            }
        }
    };
    reach_each_other("one has no new configuration");
    say_of(without, 3, &first);
    say_of(ahead, 3, &second);
    reach_each_other("one sends by the new mode");
    say_of(joins, 3, &second);
    reach_each_other("so does the one that has joined");
    say_of(without, 3, &second);
    reach_each_other("all do");
}

/// A node that filters strictly by the way back takes what comes by a tunnel of ours. What comes by the
/// uplink is for its administrator to let in, and `doctor` says how.
#[test]
fn nothing_is_lost_either_where_nodes_filter_strictly_once_doctor_is_followed() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    for node in &cluster.nodes {
        filter(node, "1");
        say(node, &json!({"mode": "direct", "accepts": {"mode": "vxlan"}}));
        let doctor = node.manx(&["doctor", "--json", "--only", "rp-filter"]);
        let document: Value = serde_json::from_str(&doctor.stdout).unwrap();
        let told = document["checks"].as_array().unwrap();
        assert_eq!((told.len(), &told[0]["severity"]), (1, &json!("warning")), "{document}");
        assert_eq!(told[0]["undo"], "sysctl -w net/ipv4/conf/eth0/rp_filter=0");
        let fix = told[0]["fix"].as_str().unwrap();
        node.host.command("sh", &["-c", fix]).ok();
        assert!(node.manx(&["doctor", "--only", "rp-filter"]).status == 0);
    }
    let pods = cluster.pods();
    let [a, b] = [0, 1].map(|number| addresses(&pods[number])[0].clone());
    let both_ways = || pods[0].netns.pings(&b) && pods[1].netns.pings(&a);
    let [first, second] = &cluster.nodes[..] else { panic!() };
    assert!(both_ways());
    // One sends by the tunnel, and is answered plainly.
    say(first, &json!({"mode": "vxlan", "accepts": {"mode": "direct"}}));
    assert!(both_ways());
    let value = || second.host.sysctl("ipv4/conf/vxlan.calico/rp_filter");
    assert_eq!(value(), "2");
    second.host.set_sysctl("ipv4/conf/vxlan.calico/rp_filter", "0");
    assert!(pods[0].netns.keeps_silent(&b), "as all links do, it filters strictly");
    assert!(second.plan().stdout.contains("net/ipv4/conf/vxlan.calico/rp_filter"));
    second.apply().ok();
    assert_eq!(value(), "2");
    assert!(both_ways());
    say(second, &json!({"mode": "vxlan"}));
    assert!(both_ways());
    // It keeps that: who sets it back for one device knows of no other reason.
    assert_eq!(value(), "2");
}

/// Whoever is no peer gets in by neither.
#[test]
fn what_is_accepted_besides_is_guarded_as_well() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    say(node, &json!({"mode": "direct", "accepts": {"mode": "vxlan", "vxlan": {"vni": 7}}}));
    let table = node.host.command("nft", &["list", "table", "inet", "manx.fabric-109"]).stdout;
    let of = |words: &str| table.lines().filter(|line| line.contains(words)).count();
    assert!(of("4789") >= 3 && of("@peers4") >= 2, "{table}");
    let link = node.host.link("vxlan.calico").unwrap();
    assert_eq!(link["linkinfo"]["info_data"]["id"], 7, "{link}");
    // No route leads there.
    assert!(node.routes().iter().all(|line| !line.contains("vxlan.calico")), "{:?}", node.routes());
    say(node, &json!({"mode": "direct"}));
    assert!(node.host.link("vxlan.calico").is_none());
    let tables = node.host.command("nft", &["list", "tables"]).stdout;
    assert!(!tables.contains("manx.fabric"), "{tables}");
}
