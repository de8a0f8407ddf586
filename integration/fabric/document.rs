// SPDX-License-Identifier: Apache-2.0
//! What the peers file says of the fabric holds for all networks that name it.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, SOON, batch, entry};
use crate::doctor::doctor;
use crate::harness::{Pod, eventually};
use crate::watch::Watch;

/// Writes the peers file with this in `fabric`.
fn say(node: &Node, fabric: &Value) {
    let nodes: Vec<Value> = (1..=2).map(|number| entry(number, Families::Dual)).collect();
    let me = ["node-a", "node-b"][node.number - 1];
    node.write_peers(&json!({"self": me, "fabric": fabric, "nodes": nodes}).to_string());
}

/// A document that says all that one may.
fn all() -> Value {
    json!({"mode": "vxlan", "crossSubnet": true, "mtu": 1400, "overhead": 60,
        "vxlan": {"vni": 7, "port": 8472, "device": "over.7"}, "routeMetric": 5})
}

/// It makes no difference which of the two files says it, or whether both do.
#[test]
fn the_file_alone_makes_the_same_as_the_configuration() {
    let cluster = Cluster::new(2, Families::Dual, &all());
    let by_configuration: Vec<_> = cluster
        .nodes
        .iter()
        .map(|node| {
            node.apply().ok();
            let state = node.state();
            say(node, &all());
            node.assert_settled();
            node.manx(&["apply", "--undo"]).ok();
            state
        })
        .collect();
    let pods: Vec<Pod> = cluster
        .nodes
        .iter()
        .zip(&by_configuration)
        .map(|(node, before)| {
            let silent = silent(node);
            // An ADD is the first that sees it.
            let pod = silent.attach("a");
            let made: Vec<String> =
                silent.state().into_iter().filter(|line| !line.contains("cali")).collect();
            assert_eq!(made, *before);
            silent.assert_settled();
            silent.plugin.status().ok();
            assert_eq!(pod.netns.link("eth0").unwrap()["mtu"], 1400);
            pod
        })
        .collect();
    for address in crate::cluster::addresses(&pods[1]) {
        assert!(pods[0].netns.pings(&address), "{address}");
    }
}

/// The node with a configuration that says nothing of the fabric.
fn silent(node: &Node) -> Node {
    let mut node = node.with("mode", Value::Null);
    for key in all().as_object().unwrap().keys() {
        node = node.with(key, Value::Null);
    }
    node
}

#[test]
fn a_contradiction_is_refused_and_told_by_all_who_look() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let pod = node.attach("a");
    let before = node.state();
    say(node, &json!({"mode": "ipip"}));
    let reply = node.plugin.add(&Pod::new("b"));
    assert_eq!(reply.code(), Some(7), "{reply:?}");
    let error = reply.error();
    let told = error["msg"].as_str().unwrap();
    for word in ["net", "/etc/manx/peers.json", "mode", "\"vxlan\"", "\"ipip\""] {
        assert!(told.contains(word), "{word}: {told}");
    }
    // Also where the addresses are looked up in that file.
    let ipam = json!({"type": "manx-ipam", "ranges": [[{"subnet": "usePodCidr"}]]});
    let looking = node.with("ipam", ipam);
    let (reply, status) = (looking.plugin.add(&Pod::new("b")), looking.plugin.status());
    assert!(reply.code() == Some(7) && reply.stdout.contains("\"ipip\\\""), "{reply:?}");
    assert!(status.code() == Some(50) && status.stdout.contains("\"ipip\\\""), "{status:?}");
    let status = node.plugin.status();
    assert!(status.code() == Some(50) && status.stdout.contains("\"ipip\\\""), "{status:?}");
    for command in ["plan", "apply"] {
        let said = node.manx(&[command]);
        assert!(said.status == 1 && said.stderr.contains("contradict each other"), "{said:?}");
    }
    assert_eq!(node.state(), before, "and nothing is changed");
    let told = doctor(node, &["--only", "fabric-contradiction"]);
    assert!(told.status == 3 && told.stdout.contains("mode is \"vxlan\""), "{told:?}");
    node.plugin.del(&pod).ok();
    // A smaller MTU of pods contradicts nothing, a larger one does.
    say(node, &json!({"mode": "vxlan", "mtu": 1400}));
    let narrow = node.with("mtu", 1300.into());
    let pod = narrow.attach("c");
    assert_eq!(pod.netns.link("eth0").unwrap()["mtu"], 1300);
    assert_eq!(node.host.link("vxlan.calico").unwrap()["mtu"], 1400);
    assert_eq!(node.with("mtu", 1401.into()).plugin.add(&Pod::new("d")).code(), Some(7));
}

#[test]
fn a_watch_follows_what_the_file_says() {
    let cluster = Cluster::new(2, Families::Dual, &json!({}));
    let node = &cluster.nodes[0];
    say(node, &json!({"mode": "direct"}));
    let watch = Watch::start(node);
    let direct = node.state();
    say(node, &json!({"mode": "vxlan"}));
    let has_device = || node.host.link("vxlan.calico").is_some();
    assert!(eventually(SOON, || has_device() && node.plan().status == 0), "{}", watch.log());
    watch.comes_to_rest();
    assert!(has_device(), "{}", watch.log());
    say(node, &json!({"mode": "direct"}));
    assert!(eventually(SOON, || node.state() == direct), "{:#?}\n{}", node.state(), watch.log());
    // One that the configuration contradicts leaves all as it is.
    drop(watch);
    let stubborn = node.with("mode", "direct".into());
    let watch = Watch::start(&stubborn);
    say(node, &json!({"mode": "vxlan"}));
    assert!(eventually(SOON, || watch.log().contains("contradict each other")), "{}", watch.log());
    watch.comes_to_rest();
    assert_eq!(node.state(), direct);
    // And goes on with what was applied last.
    watch.repairs("a route beside a contradiction", || {
        batch(&node.host, "route del 10.244.2.0/24");
    });
}

/// A file that is no good does not take back what the last one said.
#[test]
fn what_a_good_file_said_holds_beside_a_bad_one() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    say(node, &json!({"mode": "vxlan", "routeProtocol": 110}));
    let first = node.attach("a");
    let before = node.state();
    let mtu = |pod: &Pod| pod.netns.link("eth0").unwrap()["mtu"].clone();
    // Of the last one it shows in the list alone that it is no good.
    let entry = entry(1, Families::Ipv4);
    let stranger =
        json!({"self": "x", "fabric": {"mtu": 1490, "routeProtocol": 110}, "nodes": [entry]});
    let [mut other, mut silent] = [stranger.clone(), stranger.clone()];
    other["fabric"]["routeProtocol"] = 111.into();
    silent["fabric"] = json!({});
    let strangers = [stranger, other, silent].map(|list| list.to_string());
    let [one, two, three] = strangers.each_ref().map(String::as_str);
    for bad in ["{", r#"{"fabric": {"mode": "warp"}, "nodes": []}"#, one, two, three] {
        node.write_peers(bad);
        let pod = node.attach("b");
        assert_eq!(mtu(&pod), mtu(&first), "{bad}");
        node.plugin.del(&pod).ok();
    }
    std::fs::remove_file(node.peers_file()).unwrap();
    let pod = node.attach("c");
    assert_eq!(mtu(&pod), mtu(&first));
    node.plugin.del(&pod).ok();
    assert_eq!(node.state(), before);
}

/// A refused file that names another VNI leaves the table guarding the one in use: strangers could
/// send into the tunnel otherwise.
#[test]
fn a_bad_file_leaves_the_tunnels_guarded() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    let vni = |vni: u32| json!({"mode": "vxlan", "vxlan": {"vni": vni}});
    say(node, &vni(7));
    let _first = node.attach("a");
    let table = || {
        let all = node.host.command("nft", &["list", "ruleset"]).ok();
        let mut tables = all.split_inclusive("\n}\n").map(str::to_owned);
        tables.find(|table| table.starts_with("table inet manx.fabric-"))
    };
    let before = table();
    assert!(before.is_some());
    let stranger = json!({"self": "x", "fabric": vni(8), "nodes": [entry(1, Families::Ipv4)]});
    node.write_peers(&stranger.to_string());
    for _ in 0..2 {
        node.plugin.status().ok();
        assert_eq!(table(), before);
    }
    node.host.command("nft", &["flush ruleset"]).ok();
    let _second = node.attach("b");
    assert_eq!(table(), before);
}

/// What was applied is found whichever protocol a refused file names.
#[test]
fn a_watch_repairs_beside_a_refused_file_of_another_protocol() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let nodes: Vec<Value> = (1..=2).map(|number| entry(number, Families::Ipv4)).collect();
    let stranger = json!({"self": "x", "fabric": {"routeProtocol": 110}, "nodes": nodes});
    let contradicting = json!({"mode": "vxlan", "routeProtocol": 110});
    let refused: [(&str, &dyn Fn()); 2] = [
        ("contradict each other", &|| say(node, &contradicting)),
        ("self \"x\" is no node", &|| node.write_peers(&stranger.to_string())),
    ];
    for configured in [Value::Null, 110.into()] {
        for (reason, refuse) in refused {
            say(node, &json!({}));
            let former = node.with("routeProtocol", configured.clone());
            let watch = Watch::start(&former);
            let before = node.state();
            // It may have been in the configuration until now.
            node.host.scratch().file("conf.json", node.plugin.conf.to_string());
            refuse();
            assert!(eventually(SOON, || watch.log().contains(reason)), "{}", watch.log());
            watch.comes_to_rest();
            assert_eq!(node.state(), before, "{reason}\n{}", watch.log());
            watch.repairs(reason, || batch(&node.host, "route del 10.244.2.0/24"));
            assert!(!watch.log().contains("call again"), "{}", watch.log());
            drop(watch);
            node.manx(&["apply", "--undo"]).ok();
        }
    }
}

/// Networks that name one file have no votes: it speaks for all.
#[test]
fn networks_follow_one_file_without_a_vote() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let ipam = json!({"type": "static", "addresses": [{"address": "10.244.1.200/24"}]});
    let other = node.with("name", "other".into()).with("ipam", ipam);
    let (_a, _b) = (node.attach("a"), other.attach("b"));
    let (silent_node, silent_other) = (silent(node), silent(&other));
    for (mode, device) in [("vxlan", true), ("direct", false), ("vxlan", true)] {
        say(node, &json!({"mode": mode}));
        let _c = silent_node.attach(mode);
        silent_other.plugin.status().ok();
        silent_other.assert_settled();
        silent_node.assert_settled();
        assert_eq!(node.host.link("vxlan.calico").is_some(), device, "{mode}");
    }
}

/// What is noted of a fabric goes by its protocol, which the file alone may say.
#[test]
fn the_protocol_may_be_the_files() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    say(node, &json!({"routeProtocol": 110}));
    let _pod = node.attach("a");
    node.assert_settled();
    assert_eq!(node.routes(), [""; 0], "those of the former protocol are gone");
    assert!(node.state().iter().any(|line| line.contains("proto 110")), "{:#?}", node.state());
    node.plugin.status().ok();
    node.manx(&["apply", "--undo"]).ok();
    assert!(node.state().iter().all(|line| !line.contains("proto 110")), "{:#?}", node.state());
}

/// Without the file's name nobody tells the protocol that it said.
#[test]
fn what_was_applied_by_the_files_protocol_goes_with_its_name() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    say(node, &json!({"mode": "vxlan", "routeProtocol": 110}));
    let lost = node.with("peersFile", Value::Null);
    let nothing = node.state();
    let add = || {
        let pod = lost.attach("a");
        lost.plugin.del(&pod).ok();
    };
    let status = || drop(lost.plugin.status().ok());
    let undo = || {
        let undone = lost.manx(&["apply", "--undo"]);
        assert!(undone.stdout.contains("- route 10.244.2.0/24"), "{undone:?}");
        undone.ok();
    };
    let all: [(&str, &dyn Fn()); 3] = [("ADD", &add), ("STATUS", &status), ("undo", &undo)];
    for (what, takes_back) in all {
        node.apply().ok();
        assert_ne!(node.state(), nothing);
        takes_back();
        assert_eq!(node.state(), nothing, "{what}");
    }
}

/// Who writes the file writes nothing that this version does not read.
#[test]
fn the_version_and_what_it_reads_are_noted() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let note = |node: &Node| {
        let path = node.host.scratch().path().join("root/run/manx/plugin.json");
        let mut note: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        // Of which program it is, by which an exchanged one is noticed.
        assert!(note["file"].take()["inode"].is_u64());
        note
    };
    let (version, file) = (env!("CARGO_PKG_VERSION"), Value::Null);
    let wanted = json!({"version": version, "schemas": {"peers": 3}, "file": file});
    cluster.nodes[0].apply().ok();
    assert_eq!(note(&cluster.nodes[0]), wanted);
    // Also where there is no file yet.
    std::fs::remove_file(cluster.nodes[1].peers_file()).unwrap();
    assert_eq!(cluster.nodes[1].plugin.status().code(), Some(50));
    assert_eq!(note(&cluster.nodes[1]), wanted);
}

/// The same version, copied once more by other hands: who sees that it is another file knows
/// nothing of it until it is called.
#[test]
fn a_copy_of_the_plugin_notes_itself_when_it_is_called() {
    let cluster = Cluster::new(1, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    let root = node.host.scratch().path().join("root");
    let path = root.join("run/manx/plugin.json");
    let note = || serde_json::from_slice::<Value>(&std::fs::read(&path).unwrap()).unwrap();
    let own = note();
    let mut former = own.clone();
    former["file"] = json!({"inode": 1, "modified": 1});
    std::fs::write(&path, former.to_string()).unwrap();
    std::fs::create_dir_all(root.join("opt/cni/bin")).unwrap();
    std::fs::write(root.join("opt/cni/bin/manx"), "a copy").unwrap();
    node.apply().ok();
    assert_eq!(note(), former, "who applies is not what is installed");
    let _pod = node.attach("a");
    assert_eq!(note(), own);
}

/// A writer that is newer than this reader may say more.
#[test]
fn keys_that_nothing_reads_are_told_once() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    say(node, &json!({"mode": "vxlan", "mtuu": 1400}));
    // What others read of it is known.
    let text = std::fs::read_to_string(node.peers_file()).unwrap();
    node.write_peers(&text.replacen(
        '{',
        "{\"serviceCIDRs\": [\"10.96.0.0/12\", \"fd00:96::/112\"], ",
        1,
    ));
    let applied = node.apply();
    let words = "of the peers file nothing reads fabric.mtuu (did you mean mtu?)";
    assert!(applied.status == 0 && applied.stderr.contains(words), "{applied:?}");
    assert!(node.host.link("vxlan.calico").is_some());
    let told = doctor(node, &["--only", "version-skew"]);
    assert!(told.stdout.contains(words), "{told:?}");
}
