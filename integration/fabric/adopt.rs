// SPDX-License-Identifier: Apache-2.0
//! Nodes that another plugin ran become ours with their pods running and packets under way.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::{Families, NETWORK, Node, addresses, batch};
use crate::doctor::besides_load;
use crate::harness::packet::{datagram, heard, listen, send, send_last};
use crate::harness::{DEADLINE, Stdin, eventually, run};
use crate::left_behind::{
    FELIX, OLD, OLD_IPV6, Pinging, Scene, WEB, calico, calico_without_rules, calicos_pod,
};
use crate::left_by_flannel::{flannel, flannel_of, flannels_tunnel};

/// Asserts that there is nothing that doctor would warn of.
#[track_caller]
fn assert_healthy(node: &Node) {
    let doctor = besides_load(|| node.manx(&["doctor"]));
    assert_eq!(doctor.status, 0, "{}", doctor.stdout);
}

/// The same where BIRD makes the routes, of both families, to a node on the same link.
#[test]
fn a_node_of_calico_with_bird_becomes_ours_under_traffic() {
    let scene = Scene::beside(2, Families::Dual, &json!({"mode": "direct"}));
    let node = scene.node();
    batch(
        &node.host,
        "route add 10.244.2.0/24 via 192.0.2.12 dev eth0 proto bird
         route add fd00:244:2::/64 via 2001:db8:1::12 dev eth0 proto bird metric 1024
         route add blackhole 10.244.1.0/26 proto bird",
    );
    calicos_pod(&scene);
    let far = addresses(&scene.far);
    let pinging: Vec<Pinging> = far
        .iter()
        .map(|address| Pinging::new(&scene.old.netns, address))
        .chain([OLD, OLD_IPV6].map(|address| Pinging::new(&scene.far.netns, address)))
        .collect();
    scene.adopt(&["calico", "--apply"]).ok();
    pinging.into_iter().for_each(Pinging::assert_whole);
    node.assert_settled();
    assert_eq!(scene.json(&["calico"])["changes"], json!([]));
    assert!(!node.state().iter().any(|line| line.contains("proto 12")), "{:?}", node.state());
    assert_eq!(scene.leases(), [OLD, OLD_IPV6]);
    let new = node.attach("new");
    for address in far.iter().map(String::as_str).chain([OLD, OLD_IPV6]) {
        assert!(new.netns.pings(address), "{address}");
    }
    assert_healthy(node);
    scene.delete_old();
    assert_eq!(scene.leases().len(), 2, "those of the new pod");
}

#[test]
fn what_calico_left_is_told() {
    let scene = calico();
    let before = scene.node().state();
    let told = scene.json(&["calico"]);
    let objects = |kind: &str| {
        let rows = told["found"].as_array().unwrap().iter().filter(|row| row["kind"] == kind);
        rows.map(|row| row["object"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(objects("device"), ["vxlan.calico"]);
    assert_eq!(objects("pod"), [WEB]);
    assert_eq!(objects("chains"), ["iptables-nft ip filter", "iptables-legacy ip filter"]);
    let mut routes = objects("route");
    routes.sort();
    assert_eq!(routes, ["10.244.1.0/26", "10.244.3.0/26", "10.65.9.0/26"]);
    assert_eq!(objects("leases"), ["network k8s-pod-network"]);
    assert!(objects("file")[0].ends_with("10-calico.conflist"), "{told}");
    let checks: Vec<&str> =
        told["checks"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(checks, ["calico-chains", "fabric-conflict", "network-unavailable"], "{told}");
    let plan = scene.adopt(&["calico"]);
    assert_eq!(plan.status, 3, "{plan:?}");
    for words in ["KIND", WEB, "~ link vxlan.calico", "- rules iptables-nft ip filter"] {
        assert!(plan.stdout.contains(words), "{words}: {}", plan.stdout);
    }
    assert_eq!(scene.node().state(), before, "it was only asked");
}

#[test]
fn a_node_of_calico_becomes_ours_under_traffic() {
    let scene = calico();
    let node = scene.node();
    // Beside what is left of Felix, no pod of ours reaches anything.
    let refused = node.attach("refused");
    assert!(refused.netns.keeps_silent(&scene.far_address()));
    let told = node.manx(&["doctor", "--only", "calico-chains"]);
    assert!(told.status == 3 && told.stdout.contains("manx adopt calico\n"), "{told:?}");
    node.plugin.del(&refused).ok();
    let pinging = Pinging::new(&scene.old.netns, &scene.far_address());
    let to_old = Pinging::new(&scene.far.netns, OLD);
    let done = scene.adopt(&["calico", "--apply"]);
    assert_eq!(done.status, 0, "{done:?}");
    pinging.assert_whole();
    to_old.assert_whole();
    // Nothing is left to do, and what is no affair of ours is still there.
    let again = scene.json(&["calico"]);
    assert_eq!(again["changes"], json!([]), "{again}");
    node.assert_settled();
    assert!(node.state().iter().any(|line| line.starts_with("10.65.9.0/26")), "{:?}", node.state());
    for program in ["iptables-nft-save", "iptables-legacy-save"] {
        let saved = node.host.command(program, &[]).ok();
        assert!(saved.contains("KUBE-FORWARD") && !saved.contains("cali"), "{saved}");
    }
    let link = node.host.link(WEB).unwrap();
    let alias = format!("manx1 {NETWORK} {} eth0", scene.old.id);
    assert_eq!(link["ifalias"], json!(alias));
    assert_eq!(scene.leases(), [OLD]);
    assert_healthy(node);
    // New pods reach old ones, and what those reach.
    let new = node.attach("new");
    assert!(new.netns.pings(OLD) && new.netns.pings(&scene.far_address()));
    let pods = scene.pods();
    assert!(pods.contains("default/web") && !pods.contains("missing"), "{pods}");
    scene.delete_old();
    assert!(node.host.link(WEB).is_none() && !scene.leases().contains(&OLD.to_owned()));
}

/// Whatever ends it half-way leaves a node that goes on, and is found as it is.
#[test]
fn what_was_begun_is_ended() {
    let scene = calico();
    let node = scene.node();
    let pinging = Pinging::new(&scene.old.netns, &scene.far_address());
    let programs = node.host.scratch().dir("programs");
    symlink("/bin/false", programs.join("iptables-nft-restore")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let first = scene.adopt_by(&path, &["calico", "--apply"]);
    assert!(first.status == 1 && first.stderr.contains("iptables-nft-restore"), "{first:?}");
    let files = node.host.scratch().path().join("root/etc/cni/net.d");
    assert!(files.join("10-calico.conflist").exists(), "pods do not come before they may");
    assert!(node.host.link(WEB).unwrap()["ifalias"].is_string());
    let lines = scene.json(&["calico"])["changes"].as_array().unwrap().len();
    assert_eq!(lines, 3, "the firewall of both backends and the file");
    scene.adopt(&["calico", "--apply"]).ok();
    assert!(files.join("10-calico.conflist.disabled").exists());
    pinging.assert_whole();
}

#[test]
fn a_running_agent_is_in_the_way() {
    let scene = calico();
    let program = scene.node().host.scratch().path().join("calico-node");
    symlink("/bin/sleep", &program).unwrap();
    let mut agent = scene.node().host.enter(|| Command::new(&program).arg("60").spawn().unwrap());
    let seen = eventually(DEADLINE, || {
        scene.json(&["calico"])["checks"].to_string().contains("former-agent")
    });
    let before = scene.node().state();
    let refused = scene.adopt(&["calico", "--apply"]);
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert!(seen && refused.status == 1, "{refused:?}");
    assert!(
        refused.stderr.contains("calico-node") && refused.stderr.contains("nothing was changed")
    );
    assert_eq!(scene.node().state(), before);
}

/// Who gave the address takes it back, and a runtime that deletes by the configuration of
/// the ADD finds the pod all the same.
#[test]
fn an_address_of_another_pool_is_left_to_it() {
    let scene = calico();
    let node = scene.node();
    let file = node.host.scratch().path().join("root/etc/cni/net.d/20-manx.conflist");
    let mut list: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    list["plugins"][0]["ipam"]["ranges"] = json!([[{"subnet": "10.244.1.128/25"}]]);
    fs::write(&file, list.to_string()).unwrap();
    assert!(scene.json(&["calico"])["checks"].to_string().contains("lease-out-of-range"));
    let pinging = Pinging::new(&scene.old.netns, &scene.far_address());
    scene.adopt(&["calico", "--apply"]).ok();
    pinging.assert_whole();
    assert_eq!(scene.leases(), [""; 0]);
    let by_calico = node.plugin.clone().with("name", json!("k8s-pod-network"));
    let by_calico = by_calico.with("type", json!("calico"));
    by_calico.with("ipam", json!({"type": "calico-ipam"})).del(&scene.old).ok();
    assert!(node.host.link(WEB).is_none());
    scene.assert_forgotten();
}

#[test]
fn a_node_of_flannel_becomes_ours_under_traffic() {
    let scene = flannel();
    let node = scene.node();
    let pinging = Pinging::new(&scene.old.netns, &scene.far_address());
    let to_old = Pinging::new(&scene.far.netns, OLD);
    let done = scene.adopt(&["flannel", "--apply"]);
    assert_eq!(done.status, 0, "{done:?}");
    pinging.assert_whole();
    to_old.assert_whole();
    let again = scene.json(&["flannel"]);
    assert_eq!(again["changes"], json!([]), "{again}");
    node.assert_settled();
    // The old pod stays behind its bridge, and is known.
    assert_eq!(node.host.link("veth0a1b2c3d").unwrap()["master"], "cni0");
    assert_eq!(scene.leases(), [OLD]);
    let pods = scene.pods();
    assert!(pods.contains("default/web") && pods.contains(" up "), "{pods}");
    let new = node.attach("new");
    assert!(new.netns.pings(OLD) && new.netns.pings(&scene.far_address()));
    assert!(scene.old.netns.pings(&addresses(&new)[0]), "what is not behind the bridge");
    assert_healthy(node);
    let collected = node.manx(&["gc", "--dry-run"]).stdout;
    assert!(collected.contains(": 0"), "{collected}");
    // Its rules go with the last of its pods.
    assert!(node.host.command("iptables-nft-save", &[]).ok().contains("FLANNEL"));
    scene.delete_old();
    assert!(node.host.link("veth0a1b2c3d").is_none());
    scene.adopt(&["flannel", "--apply"]).ok();
    assert!(!node.host.command("iptables-nft-save", &[]).ok().contains("FLANNEL"));
    assert!(new.netns.pings(&scene.far_address()));
}

/// Its pods of IPv6 find each other by neighbour discovery, which the bridge does not answer.
#[test]
fn a_node_of_flannel_with_both_families_becomes_ours_under_traffic() {
    let scene = flannel_of(Families::Dual);
    let node = scene.node();
    let far = addresses(&scene.far);
    let pinging: Vec<Pinging> = far
        .iter()
        .map(|address| Pinging::new(&scene.old.netns, address))
        .chain([OLD, OLD_IPV6].map(|address| Pinging::new(&scene.far.netns, address)))
        .collect();
    scene.adopt(&["flannel", "--apply"]).ok();
    pinging.into_iter().for_each(Pinging::assert_whole);
    assert_eq!(scene.json(&["flannel"])["changes"], json!([]));
    node.assert_settled();
    assert_eq!(scene.leases(), [OLD, OLD_IPV6]);
    let new = node.attach("new");
    for address in far.iter().map(String::as_str).chain([OLD]) {
        assert!(new.netns.pings(address), "{address}");
    }
    assert_healthy(node);
    scene.delete_old();
    assert_eq!(scene.leases().len(), 2, "those of the new pod");
}

/// What Felix leaves where it does without iptables.
const OF_NFTABLES: &str = "
table ip calico {
  chain filter-cali-from-wl-dispatch {
    iifname cali68caf03a5f4 counter return
    counter drop comment \"Unknown interface\"
  }
  chain filter-cali-FORWARD {
    iifname cali* counter jump filter-cali-from-wl-dispatch
  }
  chain filter-FORWARD {
    type filter hook forward priority filter; policy accept;
    counter jump filter-cali-FORWARD
  }
}
table ip6 calico {
  chain filter-FORWARD {
    type filter hook forward priority filter; policy accept;
  }
}
";

#[test]
fn tables_that_felix_made_without_iptables_go_as_well() {
    let scene = calico_without_rules();
    let node = scene.node();
    node.host.enter(|| {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]);
        run(command, &Stdin::Bytes(OF_NFTABLES.into()), DEADLINE).ok()
    });
    let refused = node.attach("refused");
    assert!(refused.netns.keeps_silent(&scene.far_address()));
    let told = scene.json(&["calico"]);
    for id in ["calico-chains", "policy-unenforced"] {
        assert!(told["checks"].to_string().contains(id), "{id}: {told}");
    }
    let pinging = Pinging::new(&scene.old.netns, &scene.far_address());
    scene.adopt(&["calico", "--apply"]).ok();
    pinging.assert_whole();
    let tables = node.host.command("nft", &["list", "tables"]).ok();
    assert!(!tables.contains("calico") && tables.contains("manx"), "{tables}");
    assert!(refused.netns.pings(&scene.far_address()));
    assert_eq!(scene.json(&["calico"])["changes"], json!([]));
    assert_healthy(node);
}

/// What Calico's annotation allowedSourcePrefixes allowed to a pod, as Felix has it.
const SPOOFED: &str = "*raw
:cali-rpf-skip - [0:0]
-A cali-rpf-skip -s 10.9.0.0/16 -i cali68caf03a5f4 -j ACCEPT
COMMIT
";

#[test]
fn what_a_pod_was_allowed_to_send_from_it_keeps_where_ours_lets_it() {
    for serves in [false, true] {
        let scene = calico();
        let host = &scene.node().host;
        scene.restore("iptables-nft-restore", SPOOFED);
        let file = host.scratch().path().join("root/etc/cni/net.d/20-manx.conflist");
        let mut list: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        list["plugins"][0]["sourceSpoofing"] = json!(if serves { "annotation" } else { "off" });
        fs::write(&file, list.to_string()).unwrap();
        let believed = || {
            let socket = listen(host, "192.0.2.11");
            let to = socket.local_addr().unwrap();
            for source in ["10.9.1.2", "10.8.1.2"] {
                let forged = datagram(source.parse().unwrap(), to, b"forged");
                send(&scene.old.netns, to.ip(), &forged);
            }
            send_last(&scene.old.netns, to);
            heard(&socket).into_iter().map(|(_, source)| source.to_string()).collect::<Vec<_>>()
        };
        let told = scene.json(&["calico"]);
        let lost = told["checks"].as_array().unwrap().iter().find(|it| it["id"] == "sources-lost");
        assert_eq!(lost.is_none(), serves, "{told}");
        scene.adopt(&["calico", "--apply"]).ok();
        if let Some(lost) = lost {
            assert!(lost["evidence"].as_str().unwrap().contains("default/web"), "{lost}");
            assert_eq!(believed(), [""; 0]);
            let fix = lost["fix"].as_str().unwrap();
            let (_, command) = fix.split_once("afterwards: ").unwrap();
            host.command("sh", &["-c", command]).ok();
        }
        assert_eq!(believed(), ["10.9.1.2"]);
        scene.delete_old();
        // What an operator added is noticed by STATUS, now and then.
        if serves {
            assert!(!host.command("nft", &["list", "ruleset"]).ok().contains("10.9.0.0/16"));
        }
    }
}

/// Canal: Calico's links and rules, and flannel's way to other nodes.
#[test]
fn what_calico_and_flannel_left_together_is_taken_from_each() {
    let scene = flannels_tunnel(Families::Ipv4);
    let node = scene.node();
    calicos_pod(&scene);
    scene.restore("iptables-nft-restore", FELIX);
    let pinging = Pinging::new(&scene.old.netns, &scene.far_address());
    let to_old = Pinging::new(&scene.far.netns, OLD);
    for former in ["calico", "flannel"] {
        scene.adopt(&[former, "--apply"]).ok();
    }
    pinging.assert_whole();
    to_old.assert_whole();
    for former in ["calico", "flannel"] {
        assert_eq!(scene.json(&[former])["changes"], json!([]), "{former}");
    }
    node.assert_settled();
    assert_healthy(node);
    assert_eq!(scene.leases(), [OLD]);
    let saved = node.host.command("iptables-nft-save", &[]).ok();
    assert!(!saved.contains("cali-") && !saved.contains("FLANNEL"), "{saved}");
}

/// The plan has what the pass makes of what it takes over.
#[test]
fn the_plan_is_what_is_done() {
    let scene = calico();
    let lines = |changes: &Value| {
        let told = |it: &Value| format!("{} {}", it["action"], it["object"]);
        let of_table = |it: &&Value| !it["object"].as_str().unwrap().contains("table manx-");
        let all = changes.as_array().unwrap().iter().filter(of_table);
        all.map(told).collect::<Vec<_>>()
    };
    let planned = scene.json(&["calico"]);
    let done = scene.json(&["calico", "--apply"]);
    assert_eq!(lines(&planned["changes"]), lines(&done["changes"]));
}
