// SPDX-License-Identifier: Apache-2.0
//! What the plugin's stamp says of a fabric is so: nothing that is wanting
//! passes for whole, and what is wanting is tried again.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::cluster::{Cluster, Families, Node, SOON, batch, default_routes, entry};
use crate::harness::{DEADLINE, Pod, Stdin, eventually, run};
use crate::killed::killed;
use crate::scale;

/// STATUS answers 50, and with these words.
#[track_caller]
fn unavailable(node: &Node, words: &str) {
    let reply = node.plugin.status();
    assert_eq!(reply.code(), Some(50), "{reply:?}");
    let error = reply.error();
    assert!(error["msg"].as_str().unwrap().contains(words), "{words}: {error}");
}

/// A runtime that asks every now and then is told that all is well in the end.
#[track_caller]
fn becomes_available(node: &Node) {
    // What single peers want is no error, so that it is asked for as well.
    let ready = || node.plugin.status().status == 0 && node.plan().status == 0;
    assert!(eventually(SOON, ready), "{:?} {:?}", node.plugin.status(), node.plan());
    node.assert_settled();
}

/// Where the stamp is.
pub fn stamp(node: &Node) -> std::path::PathBuf {
    node.host.scratch().path().join("root/run/manx/.fabric/109.json")
}

/// Makes the last pass as old as that.
fn age(node: &Node, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    fs::File::options().write(true).open(stamp(node)).unwrap().set_modified(then).unwrap();
}

/// STATUS is content, and warns of this once.
#[track_caller]
fn warns_once(node: &Node, words: &str) {
    age(node, 120);
    for told in [true, false, false] {
        let reply = node.plugin.status();
        assert!(reply.status == 0, "{words}: {reply:?}");
        assert_eq!(reply.stderr.contains(words), told, "{words}: {reply:?}");
        assert_eq!(reply.stderr.contains("WARN"), told, "{words}: {reply:?}");
        // Long enough ago for another pass.
        age(node, 2);
    }
    let apply = node.apply();
    assert_eq!(apply.status, 1, "{words}: {apply:?}");
    assert!((apply.stdout + &apply.stderr).contains(words), "{words}");
}

/// A node that is gone, and with it what a routing daemon told of it, takes no
/// other node along.
#[test]
fn a_peer_without_a_route_is_a_warning() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::new(3, Families::Dual, &json!({"mode": mode}));
        let node = &cluster.nodes[0];
        node.plugin.status().ok();
        let whole = node.state();
        for gone in ["198.51.100.13", "2001:db8:2::13"] {
            let family = if gone.contains(':') { "-6" } else { "-4" };
            let route = |verb| ["ip", family, "route", verb, "unreachable", gone, "proto", "12"];
            node.host.command("ip", &route("add")[1..]).ok();
            warns_once(node, &format!("node-c: no route to {gone}"));
            node.host.command("ip", &route("del")[1..]).ok();
            becomes_available(node);
            assert_eq!(node.state(), whole, "{mode}, {gone}");
        }
    }
}

/// But a node that reaches none of a family that its pods have is not ready.
#[test]
fn a_family_without_any_way_is_an_error() {
    let cluster = Cluster::new(3, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    node.plugin.status().ok();
    batch(
        &node.host,
        "route add unreachable 2001:db8:2::13 proto 12
         route add unreachable 2001:db8:1::12 proto 12",
    );
    age(node, 120);
    unavailable(node, "no route to 2001:db8:1::12");
    batch(&node.host, "route del unreachable 2001:db8:2::13 proto 12");
    assert!(eventually(SOON, || node.plugin.status().status == 0));
}

/// As at boot, when the runtime is there before the network.
#[test]
fn peers_that_could_not_be_reached_are_tried_again() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": mode}));
        cluster.teach_router();
        let node = &cluster.nodes[0];
        batch(&node.host, "link set eth0 down");
        unavailable(node, "no route to 192.0.2.12");
        // Asked again at once, it says the same.
        unavailable(node, "no route to 192.0.2.12");
        batch(&node.host, "link set eth0 up");
        default_routes(&node.host, 1);
        becomes_available(node);
        assert_eq!(node.routes().len(), 3, "{mode}: {:#?}", node.routes());
    }
}

/// The same if pods are attached and nobody asks for the status.
#[test]
fn the_next_pod_brings_what_was_wanting() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    batch(&node.host, "link set eth0 down");
    for pod in ["first", "second"] {
        let reply = node.plugin.add(&Pod::new(pod));
        assert!(reply.stderr.contains("no route to 192.0.2.12"), "{reply:?}");
        reply.ok();
    }
    batch(&node.host, "link set eth0 up");
    default_routes(&node.host, 1);
    let there = || {
        let pod = Pod::new("a");
        node.plugin.add(&pod).ok();
        node.plugin.del(&pod).ok();
        node.plan().status == 0
    };
    assert!(eventually(SOON, there), "{:?}", node.plan());
}

/// What is lost of a fabric that was whole.
const LOSSES: [&str; 6] = [
    "route flush proto 109",
    "route del fd00:244:3::/64",
    "neighbour flush dev vxlan.calico nud permanent",
    "address flush dev vxlan.calico",
    "link set vxlan.calico mtu 1300",
    "link del vxlan.calico",
];

#[test]
fn what_was_lost_is_restored_by_status() {
    let cluster = Cluster::new(3, Families::Dual, &json!({"mode": "vxlan", "crossSubnet": true}));
    let node = &cluster.nodes[0];
    node.plugin.status().ok();
    let whole = node.state();
    for loss in LOSSES {
        // Both after a pass that changed something and after one that did not.
        for _ in 0..2 {
            batch(&node.host, loss);
            assert_ne!(node.state(), whole, "{loss}");
            node.plugin.status().ok();
            assert_eq!(node.state(), whole, "{loss}");
            node.plugin.status().ok();
        }
    }
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        node.host.set_sysctl(key, "0");
        node.plugin.status().ok();
        assert_eq!(node.host.sysctl(key), "1", "{key}");
    }
}

#[test]
fn check_tells_what_was_lost() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let pod = Pod::new("a");
    let result = node.plugin.add(&pod).ok();
    node.plugin.check(&pod, &result).ok();
    let whole = node.state();
    for (loss, words) in [
        ("route add 10.250.0.0/24 via 192.0.2.12 proto 109", "has besides: route 10.250.0.0/24"),
        ("route del 10.244.2.0/24", "lacks: route 10.244.2.0/24"),
        ("neighbour flush dev vxlan.calico nud permanent", "neighbour 10.244.3.0"),
        ("link set vxlan.calico mtu 1300", "mtu 1300"),
    ] {
        batch(&node.host, loss);
        let reply = node.plugin.check(&pod, &result);
        assert_eq!(reply.code(), Some(102), "{loss}: {reply:?}");
        assert!(reply.stdout.contains(words), "{loss}: {reply:?}");
        let details = reply.error()["details"].to_string();
        assert!(details.contains("manx apply") && !details.contains("recreate"), "{details}");
        assert_ne!(node.state(), whole, "CHECK changes nothing");
        node.apply().ok();
        node.plugin.check(&pod, &result).ok();
    }
}

/// CHECK fails a pod for nothing that neither the pod nor this node can help.
#[test]
fn check_leaves_out_what_single_peers_want() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let pod = Pod::new("a");
    let result = node.plugin.add(&pod).ok();
    batch(&node.host, "route prepend 10.244.2.0/24 via 192.0.2.1 proto 4");
    batch(&node.host, "route add unreachable 198.51.100.13 proto 12");
    assert_eq!(node.plan().status, 3);
    node.plugin.check(&pod, &result).ok();
    batch(&node.host, "route del blackhole 10.244.1.0/24 proto 109");
    let reply = node.plugin.check(&pod, &result);
    assert_eq!(reply.code(), Some(102), "{reply:?}");
    let error = reply.error();
    let (msg, details) = (error["msg"].to_string(), error["details"].to_string());
    assert!(msg.contains("10.244.1.0/24") && !msg.contains("10.244.2.0/24"), "{error}");
    for words in ["no route to 198.51.100.13", "route 10.244.2.0/24"] {
        assert!(details.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_conflict_is_told_until_it_is_gone() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    batch(&node.host, "route add 10.244.2.0/24 via 192.0.2.1 proto 4");
    for _ in 0..3 {
        unavailable(node, "route 10.244.2.0/24");
    }
    batch(&node.host, "route del 10.244.2.0/24 via 192.0.2.1 proto 4");
    becomes_available(node);
    assert_eq!(node.routes().len(), 2);
}

/// One peer's route that somebody else has is a warning; the node's own network
/// is more than that.
#[test]
fn a_conflict_about_one_peer_is_a_warning() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    node.plugin.status().ok();
    batch(&node.host, "route prepend 10.244.2.0/24 via 192.0.2.1 proto 4");
    warns_once(node, "route 10.244.2.0/24");
    batch(&node.host, "route prepend 10.244.1.0/24 via 192.0.2.1 proto 4");
    age(node, 120);
    unavailable(node, "route 10.244.1.0/24");
    batch(&node.host, "route del 10.244.1.0/24 via 192.0.2.1 proto 4");
    batch(&node.host, "route del 10.244.2.0/24 via 192.0.2.1 proto 4");
    becomes_available(node);
}

/// While one peer is away, a pod costs what it costs otherwise; STATUS, or in
/// the end a pod, tries again.
#[test]
fn a_pod_believes_a_stamp_that_wants_one_peer() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    batch(&node.host, "route add unreachable 198.51.100.13 proto 12");
    node.plugin.status().ok();
    let written = || fs::metadata(stamp(node)).unwrap().modified().unwrap();
    age(node, 30);
    let before = written();
    let pod = Pod::new("a");
    let reply = node.plugin.add(&pod);
    assert!(!reply.stderr.contains("WARN"), "{reply:?}");
    reply.ok();
    assert_eq!(written(), before, "no pass was made");
    batch(&node.host, "route del unreachable 198.51.100.13 proto 12");
    age(node, 120);
    let _other = node.attach("b");
    node.assert_settled();
}

/// A list that is no list is told once, also of two that are none.
#[test]
fn a_refused_list_is_told_once() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let all: Vec<_> = (1..=2).map(|number| entry(number, Families::Ipv4)).collect();
    for _ in 0..2 {
        node.set_peers(&all);
        node.plugin.status().ok();
        node.write_peers("{");
        for (seconds, told) in [(0, true), (0, false), (120, false), (0, false)] {
            age(node, seconds);
            let reply = node.plugin.status();
            let words = "going on with the peers that were applied last";
            assert!(reply.status == 0, "{reply:?}");
            assert_eq!(reply.stderr.contains(words), told, "{seconds}: {reply:?}");
        }
        node.write_peers(r#"{"nodes": 5}"#);
        assert!(node.plugin.status().stderr.contains("going on with the peers"));
    }
}

/// What is to be said of many peers is one line, and said once.
#[test]
fn many_peers_behind_one_router_are_one_note() {
    let cluster = Cluster::of(&[1], Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let mut nodes = vec![entry(1, Families::Ipv4)];
    nodes.extend((0..300).map(scale::peer));
    node.set_peers(&nodes);
    let apply = node.apply();
    assert_eq!(apply.stderr.lines().count(), 1, "{}", apply.stderr);
    for words in ["and 297 more", "192.0.2.1,"] {
        assert!(apply.stderr.contains(words), "{words}: {}", apply.stderr);
    }
    node.manx(&["apply", "--undo"]).ok();
    let first = node.plugin.status();
    assert_eq!(first.stderr.matches("WARN").count(), 1, "{}", first.stderr);
    batch(&node.host, "route flush proto 109");
    let again = node.plugin.status();
    assert_eq!(node.routes().len(), 301);
    assert!(!again.stderr.contains("WARN"), "{}", again.stderr);
    batch(&node.host, "route add unreachable 172.16.0.0/16 proto 12");
    age(node, 120);
    let apply = node.apply();
    assert!(apply.stderr.contains("no route to peer-0 (172.16.0.1)"), "{}", apply.stderr);
    assert_eq!(apply.stderr.lines().count(), 1, "{}", apply.stderr);
    unavailable(node, "297 more");
}

/// A change that was begun is not forgotten because the configuration is again
/// what it was.
#[test]
fn a_change_that_was_begun_is_not_taken_for_none() {
    for verb in ["STATUS", "ADD"] {
        let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "direct"}));
        cluster.teach_router();
        let node = &cluster.nodes[0];
        node.apply().ok();
        let whole = node.state();
        let other = node.with("mode", "vxlan".into());
        let mut kills = 0;
        for count in 1.. {
            if !killed(&other, &["apply"], "sendto", count) {
                break;
            }
            kills += usize::from(node.state() != whole);
            match verb {
                "STATUS" => drop(node.plugin.status().ok()),
                _ => drop(node.attach("a")),
            }
            assert!(eventually(SOON, || node.state() == whole), "{verb}, message {count}");
        }
        assert!(kills > 2, "{verb}: {kills}");
    }
}

/// The processor time of a STATUS that finds all well, its IPAM plugin's included.
#[track_caller]
fn timed_status(node: &Node, what: &str) -> Duration {
    let call = node.plugin.call("STATUS");
    let plain = call.command();
    let mut command = Command::new("bash");
    command.env_clear();
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.args(["-c", r#"TIMEFORMAT="%U %S"; time "$0" >&2"#]).arg(plain.get_program());
    let stdin = Stdin::Bytes(call.conf().to_string().into());
    let finished = node.host.enter(|| run(command, &stdin, DEADLINE));
    assert_eq!(finished.status, 0, "{finished:?}");
    let times = finished.stderr.split_whitespace().map(|part| part.parse::<f64>().unwrap());
    let took = Duration::from_secs_f64(times.sum());
    println!("STATUS with {} peers, {what}: {} ms", scale::PEERS, took.as_millis());
    took
}

/// STATUS is asked every few seconds: while all is well it neither reads the
/// list nor asks the way to each peer.
#[test]
fn status_is_cheap_with_thousands_of_peers() {
    let cluster = Cluster::of(&[1], Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    node.host.command("ip", &["route", "add", "172.16.0.0/16", "dev", "eth0"]).ok();
    let mut nodes = vec![entry(1, Families::Ipv4)];
    nodes.extend((0..scale::PEERS).map(scale::peer));
    node.set_peers(&nodes);
    let first = timed_status(node, "from nothing");
    timed_status(node, "that looks at all there is");
    let third = timed_status(node, "while all is well");
    assert!(third * 4 < first, "{third:?} of {first:?}");
}

/// What the kernel refuses of one peer keeps no pod from starting.
#[test]
fn one_peer_that_is_refused_does_not_stop_the_others() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let mut all: Vec<_> = (1..=3).map(|number| entry(number, Families::Ipv4)).collect();
    // The way to the node is one that the kernel takes no more: its next hop was
    // on the link, and is not.
    all[2]["addresses"] = json!(["203.0.113.13"]);
    batch(
        &node.host,
        "route add 10.9.9.9/32 dev eth0
         route add 203.0.113.13/32 via 10.9.9.9 dev eth0
         route del 10.9.9.9/32 dev eth0",
    );
    node.set_peers(&all);
    let reply = node.plugin.add(&Pod::new("a"));
    assert!(reply.stderr.contains("10.244.3.0/24"), "{reply:?}");
    reply.ok();
    assert!(node.routes().iter().any(|route| route.starts_with("10.244.2.0/24 via 192.0.2.12")));
    age(node, 120);
    let status = node.plugin.status();
    assert!(status.status == 0 && !status.stderr.contains("WARN"), "told by ADD: {status:?}");
    let apply = node.apply();
    assert!(apply.status == 1 && apply.stderr.contains("10.244.3.0/24"), "{apply:?}");
    node.set_peers(&all[..2]);
    becomes_available(node);
    // Where it is the only one, no pod reaches any other node.
    node.set_peers(&[all[0].clone(), all[2].clone()]);
    unavailable(node, "10.244.3.0/24");
}

/// As a tool does that copies dates with contents: the list has other nodes, the
/// same size and the same date, in the same file or in another one.
#[test]
fn a_list_of_the_same_size_and_date_is_another_list() {
    for in_place in [true, false] {
        let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
        let node = &cluster.nodes[0];
        node.plugin.status().ok();
        let path = node.peers_file();
        let date = fs::metadata(&path).unwrap().modified().unwrap();
        let text = fs::read_to_string(&path).unwrap().replace("10.244.2.0/24", "10.244.9.0/24");
        if in_place {
            fs::write(&path, text).unwrap();
        } else {
            node.write_peers(&text);
        }
        fs::File::options().write(true).open(&path).unwrap().set_modified(date).unwrap();
        node.plugin.status().ok();
        assert!(node.routes().join("\n").contains("10.244.9.0/24"), "{in_place}");
        node.assert_settled();
    }
}
