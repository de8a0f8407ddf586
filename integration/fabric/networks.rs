// SPDX-License-Identifier: Apache-2.0
//! One fabric per route protocol.

use serde_json::json;

use crate::cluster::{Cluster, Families, MANX, batch, entry};
use crate::harness::{DEADLINE, Finished, Pod, Stdin, run};

#[test]
fn two_networks_may_not_disagree() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let _pod = node.attach("a");
    let before = node.state();
    let other = node.with("name", "other".into()).with("mode", "direct".into());
    let reply = other.plugin.add(&Pod::new("b"));
    assert_eq!(reply.code(), Some(7), "{reply:?}");
    let error = reply.error();
    let told = error["msg"].as_str().unwrap();
    for word in ["net", "other", "vxlan", "direct", "109"] {
        assert!(told.to_lowercase().contains(word), "{word}: {told}");
    }
    // STATUS has but one word for it, and the same reason.
    let status = other.plugin.status();
    assert_eq!(status.code(), Some(50), "{status:?}");
    assert!(status.stdout.contains("disagree"), "{status:?}");
    let apply = other.apply();
    assert!(apply.status == 1 && apply.stderr.contains("disagree"), "{apply:?}");
    assert_eq!(node.state(), before);
    node.plugin.status().ok();
}

#[test]
fn two_networks_may_share() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let _a = node.attach("a");
    let before = node.routes();
    let other = node
        .with("name", "other".into())
        .with("ipam", json!({"type": "static", "addresses": [{"address": "10.244.1.200/24"}]}));
    let _b = other.attach("b");
    other.assert_settled();
    assert_eq!(node.routes(), before);
}

/// The same network may change its mind; once it is empty, so may another.
#[test]
fn a_network_may_change_its_mode() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let pod = node.attach("a");
    let direct = node.with("mode", "direct".into());
    let _b = direct.attach("b");
    direct.assert_settled();
    assert!(node.host.link("vxlan.calico").is_none(), "its device is gone with the mode");
    node.plugin.gc(&[]).ok();
    drop(pod);
    let other = node.with("name", "other".into());
    let _c = other.attach("c");
    other.assert_settled();
}

/// A list of peers beside the usual one, with pods of its own.
fn other_peers(node: &crate::cluster::Node) {
    let nodes = json!([
        {"name": "node-a", "addresses": ["192.0.2.11"], "podCIDRs": ["10.99.1.0/24"]},
        {"name": "node-b", "addresses": ["192.0.2.12"], "podCIDRs": ["10.99.2.0/24"]},
    ]);
    let text = json!({"self": "node-a", "nodes": nodes}).to_string();
    std::fs::write(node.peers_file().with_file_name("other.json"), text).unwrap();
}

/// What one made is nothing to the other, not even where both have tunnels.
#[test]
fn fabrics_of_two_protocols_leave_each_other_alone() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    other_peers(node);
    let other = node
        .with("name", "other".into())
        .with("ipam", json!({"type": "host-local", "ranges": [[{"subnet": "10.99.1.0/24"}]]}))
        .with("peersFile", "/etc/manx/other.json".into())
        .with("routeProtocol", 110.into());
    let vxlan = json!({"vni": 77, "port": 4789, "device": "other.77"});
    for other in [other.with("mode", "direct".into()), other.with("vxlan", vxlan)] {
        let nothing = node.state();
        node.apply().ok();
        let alone = node.state();
        other.apply().ok();
        let both = node.state();
        assert!(alone.iter().all(|entry| both.contains(entry)), "{alone:#?}\n{both:#?}");
        assert!(both.len() > alone.len());
        node.assert_settled();
        other.assert_settled();
        other.manx(&["apply", "--undo"]).ok();
        assert_eq!(node.state(), alone);
        other.apply().ok();
        node.manx(&["apply", "--undo"]).ok();
        other.assert_settled();
        other.manx(&["apply", "--undo"]).ok();
        assert_eq!(node.state(), nothing);
    }
}

/// One device cannot be in two fabrics.
#[test]
fn the_tunnel_of_another_fabric_is_not_used() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    let before = node.state();
    let other = node
        .with("name", "other".into())
        .with("peersFile", "/etc/manx/other.json".into())
        .with("routeProtocol", 110.into());
    other_peers(node);
    let apply = other.apply();
    assert_eq!(apply.status, 1, "{apply:?}");
    assert!(apply.stdout.contains("! link vxlan.calico: "), "{apply:?}");
    assert!(apply.stdout.contains("of the fabric of route protocol 109"), "{apply:?}");
    let own: Vec<String> =
        node.state().into_iter().filter(|entry| !entry.contains("10.99.1.0/24")).collect();
    assert_eq!(own, before, "but for the new blackhole");
    node.assert_settled();
}

/// Whoever may not apply may not undo either; nor does a network without peers
/// have anything to undo.
#[test]
fn undo_is_for_the_fabric_of_the_configuration() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let pod = node.attach("a");
    let before = node.state();
    let direct = node.with("name", "other".into()).with("mode", "direct".into());
    let undo = direct.manx(&["apply", "--undo"]);
    assert!(undo.status == 1 && undo.stderr.contains("disagree"), "{undo:?}");
    assert_eq!(node.state(), before);
    let without = node.with("name", "other".into()).with("peersFile", serde_json::Value::Null);
    let undo = without.manx(&["apply", "--undo"]);
    assert!(undo.status == 0 && undo.stdout.is_empty(), "{undo:?}");
    assert!(undo.stderr.contains("no peersFile"), "{undo:?}");
    assert_eq!(node.state(), before);
    // The network's own configuration may have lost its peers meanwhile.
    drop(pod);
    let lost = node.with("peersFile", serde_json::Value::Null);
    lost.manx(&["apply", "--undo"]).ok();
    assert_eq!(node.routes(), [""; 0]);
}

/// Nor may a network that lost its peers take from others what they share.
#[test]
fn undo_of_a_network_that_lost_its_peers_asks_those_that_share() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    let nodes = [1, 2].map(|number| entry(number, Families::Ipv4));
    for protocol in [json!({}), json!({"routeProtocol": 110})] {
        node.write_peers(
            &json!({"self": "node-a", "fabric": protocol, "nodes": nodes}).to_string(),
        );
        let ipam = json!({"type": "static", "addresses": [{"address": "10.244.1.200/24"}]});
        let other = node.with("name", "other".into()).with("ipam", ipam);
        let pod = other.attach("a");
        node.apply().ok();
        let (before, lost) = (node.state(), node.with("peersFile", serde_json::Value::Null));
        let undo = lost.manx(&["apply", "--undo"]);
        assert!(undo.status == 1 && undo.stderr.contains("networks other ("), "{undo:?}");
        assert_eq!(node.state(), before);
        other.plugin.del(&pod).ok();
        lost.manx(&["apply", "--undo"]).ok();
        assert!(node.state().iter().all(|line| !line.contains("10.244.2.0/24")));
    }
}

/// Which network had what cannot be read is not known.
#[test]
fn undo_of_what_cannot_be_read_is_an_error() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"routeProtocol": 110}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    let before = node.state();
    let noted = node.host.scratch().path().join("root/run/manx/.fabric/110.json");
    std::fs::write(&noted, "{").unwrap();
    let lost = node.with("peersFile", serde_json::Value::Null).with("routeProtocol", 109.into());
    let undo = lost.manx(&["apply", "--undo"]);
    assert!(undo.status == 1 && undo.stderr.contains("110.json"), "{undo:?}");
    assert_eq!(node.state(), before);
    // Nothing is in doubt where the fabric is named.
    node.apply().ok();
    node.manx(&["apply", "--undo"]).ok();
    assert!(node.state().iter().all(|line| !line.contains("proto 110")));
    assert!(!noted.exists());
}

/// What it said is forgotten with the fabric, unless another one goes by it.
#[test]
fn undo_forgets_what_the_peers_file_said() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let directory = node.host.scratch().path().join("root/run/manx/.fabric");
    let noted = || {
        let names = std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".document")).count()
    };
    let other = node.with("name", "other".into()).with("routeProtocol", 110.into());
    for network in [node, &other] {
        network.apply().ok();
    }
    assert_eq!(noted(), 1);
    node.manx(&["apply", "--undo"]).ok();
    assert_eq!(noted(), 1);
    other.with("peersFile", serde_json::Value::Null).manx(&["apply", "--undo"]).ok();
    assert_eq!(noted(), 0);
}

/// Whatever the kernel's state follows from is part of what is shared.
#[test]
fn two_networks_may_not_disagree_about_details() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let _pod = node.attach("a");
    let before = node.state();
    for (key, value, told) in [
        ("vxlan", json!({"vni": 77}), "vni 77"),
        ("vxlan", json!({"port": 8472}), "port 8472"),
        ("vxlan", json!({"device": "x.1"}), "vxlan x.1"),
        ("crossSubnet", json!(true), "crossSubnet"),
        ("routeMetric", json!(7), "routeMetric 7"),
        ("mtu", json!(1300), "mtu 1300"),
        ("overhead", json!(100), "overhead 100"),
    ] {
        let other = node.with("name", "other".into()).with(key, value);
        let reply = other.plugin.add(&Pod::new("b"));
        assert_eq!(reply.code(), Some(7), "{key}: {reply:?}");
        let error = reply.error();
        assert!(error["msg"].as_str().unwrap().contains(told), "{error}");
        assert_eq!(other.plugin.status().code(), Some(50), "{key}");
        assert_eq!(node.state(), before, "{key}");
    }
    node.plugin.status().ok();
}

/// Whoever applied last, and agreed then, may not change what another has pods in.
#[test]
fn nobody_changes_what_others_have_pods_in() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let pod = node.attach("a");
    let (other, third) = (node.with("name", "other".into()), node.with("name", "third".into()));
    for network in [&third, &other] {
        network.plugin.status().ok();
        network.apply().ok();
    }
    let before = node.state();
    let direct = other.with("mode", "direct".into());
    for args in [&["apply"][..], &["plan"], &["apply", "--undo"]] {
        let said = direct.manx(args);
        assert!(said.status == 1 && said.stderr.contains("disagree"), "{args:?}: {said:?}");
        assert!(said.stderr.contains("networks net (mode Vxlan"), "{args:?}: {said:?}");
    }
    assert_eq!(direct.plugin.status().code(), Some(50));
    assert_eq!(direct.plugin.add(&Pod::new("b")).code(), Some(7));
    assert_eq!(node.state(), before);
    // Once nobody else has pods, it may.
    node.plugin.del(&pod).ok();
    direct.apply().ok();
    assert_ne!(node.state(), before);
    direct.assert_settled();
}

/// A network that moves to another protocol leaves what it shared to the others.
#[test]
fn who_moves_out_takes_along_what_nobody_shares() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let moved = |node: &crate::cluster::Node| {
        node.with("routeProtocol", 110.into()).with("routeMetric", 7.into())
    };
    let _pod = node.attach("a");
    let other = node.with("name", "other".into());
    other.apply().ok();
    let shared = node.routes();
    moved(&other).apply().ok();
    assert_eq!(node.routes(), shared);
    node.assert_settled();
    moved(&node.with("name", "net".into())).apply().ok();
    assert_eq!(node.routes(), [""; 0]);
}

/// Devices of a build that did not mark them with the protocol.
#[test]
fn devices_without_a_protocol_in_their_mark_are_ours() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    for device in ["vxlan.calico", "vxlan-v6.calico"] {
        batch(
            &node.host,
            &format!(
                "link set {device} alias manx1-fabric
                 link set {device} group 1296125528"
            ),
        );
    }
    std::fs::remove_dir_all(node.peers_file().with_file_name("../../run/manx/.fabric")).unwrap();
    batch(&node.host, "link set eth0 mtu 1400");
    node.apply().ok();
    node.assert_settled();
    assert_eq!(node.host.link("vxlan.calico").unwrap()["mtu"], 1350);
    node.manx(&["apply", "--undo"]).ok();
    assert_eq!(node.host.links(), ["eth0"]);
}

/// Networks that all have pods change their minds together: the first to ask is
/// refused, and agrees with the next.
#[test]
fn networks_that_share_may_change_together() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let static_ipam = json!({"type": "static", "addresses": [{"address": "10.244.1.200/24"}]});
    let other = node.with("name", "other".into()).with("ipam", static_ipam);
    let (_a, _b) = (node.attach("a"), other.attach("b"));
    let before = node.state();
    let direct = [node, &other].map(|network| network.with("mode", "direct".into()));
    assert_eq!(direct[0].plugin.status().code(), Some(50));
    // One that has thought better of it does not agree any more.
    node.plugin.status().ok();
    assert_eq!(direct[1].plugin.status().code(), Some(50));
    other.plugin.status().ok();
    // To look does not mean to ask.
    assert_eq!(direct[0].plan().status, 1);
    assert_eq!(direct[1].plugin.add(&Pod::new("c")).code(), Some(7));
    assert_eq!(node.state(), before);
    direct[0].plugin.status().ok();
    direct[0].assert_settled();
    assert!(node.host.link("vxlan.calico").is_none());
    direct[1].plugin.status().ok();
    direct[1].assert_settled();
    // And each still minds the other.
    assert_eq!(node.plugin.status().code(), Some(50));
}

/// `manx ARGS` beside these configurations of the node's directory, none of them named.
pub fn manx_of_all(nodes: &[&crate::cluster::Node], args: &[&str]) -> Finished {
    for (place, node) in nodes.iter().enumerate() {
        write_configuration(node, place, &node.plugin.conf.to_string());
    }
    let host = &nodes[0].host;
    host.enter(|| run(command_of_all(nodes[0], args), &Stdin::Null, DEADLINE))
}

/// Writes a file of the node's directory of configurations.
pub fn write_configuration(node: &crate::cluster::Node, place: usize, text: &str) {
    let directory = node.host.scratch().dir("root/etc/cni/net.d");
    std::fs::write(directory.join(format!("{place}0-manx.conf")), text).unwrap();
}

/// `manx ARGS` beside the node's directory of configurations.
pub fn command_of_all(node: &crate::cluster::Node, args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(MANX);
    command.args(args).arg("--root").arg(node.host.scratch().dir("root"));
    command
}

/// Without `--conf` all networks of the node are looked after, each fabric once.
#[test]
fn all_networks_are_looked_after() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    other_peers(node);
    let own = node
        .with("name", "own".into())
        .with("mode", "direct".into())
        .with("ipam", json!({"type": "host-local", "ranges": [[{"subnet": "10.99.1.0/24"}]]}))
        .with("peersFile", "/etc/manx/other.json".into())
        .with("routeProtocol", 110.into());
    let sharing = node
        .with("name", "sharing".into())
        .with("ipam", json!({"type": "static", "addresses": [{"address": "10.244.1.200/24"}]}));
    let all = [node, &own, &sharing];
    let nothing = node.state();
    let plan = manx_of_all(&all, &["plan"]);
    assert_eq!(plan.status, 3, "{plan:?}");
    let apply = manx_of_all(&all, &["apply"]);
    assert_eq!(apply.status, 0, "{apply:?}");
    for line in plan.stdout.lines() {
        assert!(apply.stdout.contains(line), "{line}: {apply:?}");
    }
    let lines = apply.stdout.lines().count();
    let once: std::collections::BTreeSet<&str> = apply.stdout.lines().collect();
    assert_eq!(once.len(), lines, "a change is told twice: {apply:?}");
    let routes = node.state().join("\n");
    for cidr in ["10.244.2.0/24", "10.99.2.0/24"] {
        assert!(routes.contains(cidr), "{cidr}: {routes}");
    }
    // Whoever attaches first finds all as it should be: nobody's pass is needed.
    let before = node.state();
    let pod = Pod::new("a");
    sharing.plugin.add(&pod).ok();
    let plan = manx_of_all(&all, &["plan"]);
    assert!(plan.status == 0 && plan.stdout.is_empty(), "{plan:?}");
    assert_eq!(node.state().iter().filter(|line| !before.contains(line)).count(), 1, "the pod");
    // The table of the second and of the third network as well.
    let table = ["list", "table", "inet", "manx-sharing"];
    node.host.command("nft", &table).ok();
    node.host.command("nft", &["delete", "table", "inet", "manx-sharing"]).ok();
    let apply = manx_of_all(&all, &["apply"]);
    assert!(apply.status == 0 && apply.stdout.contains("manx-sharing"), "{apply:?}");
    node.host.command("nft", &table).ok();
    // And one alone, where that is named.
    own.assert_settled();
    drop(pod);
    let undo = manx_of_all(&all, &["apply", "--undo"]);
    assert_eq!(undo.status, 0, "{undo:?}");
    assert_eq!(node.state(), nothing);
}

/// One that cannot be served is told, and keeps no other from being served.
#[test]
fn a_network_that_disagrees_keeps_none_from_being_served() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let other = node.with("name", "other".into()).with("mode", "direct".into());
    let wrong = node.with("name", "wrong".into()).with("mode", "sideways".into());
    let all = [node, &other, &wrong];
    let apply = manx_of_all(&all, &["apply"]);
    assert_eq!(apply.status, 1, "{apply:?}");
    for word in ["disagree", "sideways"] {
        assert!(apply.stderr.contains(word), "{word}: {apply:?}");
    }
    node.assert_settled();
    let plan = manx_of_all(&all, &["plan"]);
    assert!(plan.status == 3 && plan.stdout.is_empty(), "{plan:?}");
    assert!(plan.stderr.contains("error: networks net"), "{plan:?}");
    // Whoever has pods has the fabric.
    let _pod = other.attach("a");
    let apply = manx_of_all(&all, &["apply"]);
    assert!(apply.status == 1 && apply.stderr.contains("disagree"), "{apply:?}");
    other.assert_settled();
}

/// What cannot be told of one network is no reason to tell nothing of the others.
#[test]
fn a_network_that_cannot_be_compared_keeps_none_from_being_served() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let other = node.with("name", "other".into()).with("peersFile", serde_json::Value::Null);
    let other = other.with("ipMasq", true.into());
    let entry = node.host.scratch().dir("root/run/manx/other").join("a:eth0");
    std::fs::write(entry, json!({"version": 1}).to_string()).unwrap();
    for (place, network) in [&other, node].into_iter().enumerate() {
        write_configuration(network, place, &network.plugin.conf.to_string());
    }
    // A node without nf_tables: the first socket is the routes'.
    let plain = command_of_all(node, &["apply"]);
    let mut command = std::process::Command::new("strace");
    let inject = "inject=socket:error=EPROTONOSUPPORT:when=2+";
    command.args(["-f", "-o", "/dev/null", "-e", "trace=socket", "-e", inject]);
    command.arg(plain.get_program()).args(plain.get_args());
    let apply = node.host.enter(|| run(command, &Stdin::Null, DEADLINE));
    assert_eq!(apply.status, 1, "{apply:?}");
    assert!(apply.stdout.contains("+ route 10.244.2.0/24"), "{apply:?}");
    assert!(apply.stderr.contains("nf_tables"), "{apply:?}");
    assert!(node.routes().len() == 2, "{apply:?}");
}
