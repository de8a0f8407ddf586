// SPDX-License-Identifier: Apache-2.0
//! What would cut pods off ends `manx adopt --apply` before it changes anything.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::cluster::{Families, batch, entry};
use crate::harness::{DEADLINE, Pod, eventually};
use crate::left_behind::{Dweller, FELIX, OLD, Scene, WEB, calico};
use crate::left_by_flannel::flannel;

/// Asserts that it is refused for this reason, and that nothing is changed.
#[track_caller]
fn assert_refused(scene: &Scene, path: Option<&str>, words: &str) {
    let before = scene.node().state();
    let path = path.map_or_else(|| std::env::var("PATH").unwrap(), str::to_owned);
    let refused = scene.adopt_by(&path, &["calico", "--apply"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.stderr.contains("nothing was changed"), "{}", refused.stderr);
    assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    assert_eq!(scene.node().state(), before);
    assert_eq!(scene.leases(), [""; 0]);
    scene.assert_forgotten();
    let files = scene.node().host.scratch().path().join("root/etc/cni/net.d");
    assert!(files.join("10-calico.conflist").exists());
}

/// Felix lets pods' packets pass a chain that drops all others: without its rules, nobody.
#[test]
fn rules_that_let_pods_pass_are_not_taken_away() {
    let scene = calico();
    let drops = FELIX.replace(":FORWARD ACCEPT", ":FORWARD DROP");
    scene.restore("iptables-nft-restore", &drops);
    assert_refused(&scene, None, "-I FORWARD -i cali+ -j ACCEPT");
    for option in ["-i", "-o"] {
        let rule = ["-I", "FORWARD", option, "cali+", "-j", "ACCEPT"];
        scene.node().host.command("iptables-nft", &rule).ok();
    }
    scene.adopt(&["calico", "--apply"]).ok();
    assert!(scene.node().attach("new").netns.pings(&scene.far_address()));
    assert!(scene.old.netns.pings(&scene.far_address()));
}

/// A directory with these programs alone.
fn programs(scene: &Scene, names: &[&str]) -> String {
    let directory = scene.node().host.scratch().dir("programs");
    for name in names {
        let path = std::env::var_os("PATH").unwrap();
        let mut all = std::env::split_paths(&path).map(|it| it.join(name));
        let found: PathBuf = all.find(|it| it.exists()).unwrap();
        symlink(found, directory.join(name)).unwrap();
    }
    directory.display().to_string()
}

/// Rules that no tool here shows are there all the same.
#[test]
fn rules_that_cannot_be_read_are_not_taken_for_none() {
    let scene = calico();
    let of_nft = programs(&scene, &["iptables-nft-save", "ip6tables-nft-save"]);
    assert_refused(&scene, Some(&of_nft), "iptables-legacy has tables");
    let of_legacy = ["iptables-legacy-save", "ip6tables-legacy-save"];
    for name in ["iptables-nft-save", "ip6tables-nft-save"] {
        fs::remove_file(PathBuf::from(&of_nft).join(name)).unwrap();
    }
    let of_legacy = programs(&scene, &of_legacy);
    assert_refused(&scene, Some(&of_legacy), "table ip filter has chains of calico");
}

#[test]
fn a_pool_that_is_not_known_gives_live_addresses_away() {
    let scene = calico();
    scene.node().set_peers(&[entry(3, Families::Ipv4)]);
    assert_refused(&scene, None, "which addresses are its own is not known");
}

/// A tunnel that becomes ours keeps what leads to nodes of the peers file.
#[test]
fn networks_that_only_the_other_agent_knew_keep_their_tunnel() {
    let scene = calico();
    let host = &scene.node().host;
    let neighbour =
        "neighbour add 10.65.9.0 lladdr 66:00:00:00:00:09 dev vxlan.calico nud permanent";
    let route = "route replace 10.65.9.0/26 via 10.65.9.0 dev vxlan.calico onlink proto 80";
    batch(host, &format!("{neighbour}\n{route}"));
    assert_refused(&scene, None, "10.65.9.0/26 are in no podCIDR of the peers file, and would");
    let plan = scene.adopt(&["calico"]).stdout;
    assert!(plan.contains("- neighbour 10.65.9.0 dev vxlan.calico"), "{plan}");
    host.command("ip", &["route", "del", "10.65.9.0/26"]).ok();
    scene.adopt(&["calico", "--apply"]).ok();
}

/// The node may have a BIRD of its own.
#[test]
fn a_route_to_the_nodes_own_network_is_not_one_to_pods() {
    let scene = calico();
    batch(&scene.node().host, "route add 192.0.0.0/8 dev eth0 proto bird");
    let told = scene.json(&["calico"]);
    assert!(!told.to_string().contains("192.0.0.0/8"), "{told}");
}

/// The path with a program before all others that does this first.
fn with_program(scene: &Scene, name: &str, script: &str) -> String {
    let programs = scene.node().host.scratch().dir("programs");
    let path = std::env::var("PATH").unwrap();
    let program = programs.join(name);
    fs::write(&program, format!("#!/bin/sh\n{script}\nPATH={path} exec {name} \"$@\"\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:{path}", programs.display())
}

/// What is done by whoever is asked to take the rules away: after the node was looked at.
fn meanwhile(scene: &Scene, script: &str) {
    let path = with_program(scene, "iptables-nft-restore", script);
    scene.adopt_by(&path, &["calico", "--apply"]).ok();
}

/// The API server is asked last of all, when the links of the node were seen.
#[test]
fn a_pod_that_goes_before_it_is_marked_leaves_nothing() {
    let scene = calico();
    scene.write("etc/kubernetes/kubelet.conf", &json!(null));
    let goes = format!("ip link del {WEB}");
    let path = with_program(&scene, "kubectl", &goes);
    let done = scene.adopt_by(&path, &["calico", "--apply"]);
    assert_eq!(done.status, 0, "{done:?}");
    assert!(done.stdout.contains(WEB), "it was there when it was looked for: {}", done.stdout);
    assert_eq!(scene.leases(), [""; 0]);
    scene.assert_forgotten();
}

#[test]
fn a_pod_that_comes_meanwhile_is_adopted_and_one_that_goes_is_forgotten() {
    const LATE: &str = "cali0123456789a";
    let scene = calico();
    let late = Pod::new("late");
    let netns = late.netns.path().display().to_string();
    let host = &scene.node().host;
    batch(host, &format!("link add late type veth peer name eth0 netns {netns}"));
    batch(&late.netns, "address add 10.244.1.6/32 dev eth0\nlink set eth0 up");
    let _within = Dweller::new(&late.netns);
    scene.note_of(&late.id, LATE, "10.244.1.6");
    let results = host.scratch().path().join("root/var/lib/cni/results");
    let note = |id: &str| results.join(format!("k8s-pod-network-{id}-eth0"));
    let aside = host.scratch().path().join("late");
    fs::rename(note(&late.id), &aside).unwrap();
    let comes = format!("ip link set late name {LATE} up; cp {aside:?} {:?}", note(&late.id));
    let goes = format!("ip link del {WEB}; rm {:?}", note(&scene.old.id));
    meanwhile(&scene, &format!("{comes}\n{goes}"));
    let alias = scene.node().host.link(LATE).unwrap()["ifalias"].clone();
    assert!(alias.as_str().is_some_and(|it| it.contains(&late.id)), "{alias}");
    assert_eq!(scene.leases(), ["10.244.1.6"]);
    scene.assert_forgotten();
}

/// The note of a former pod of the same name stays where its DEL failed.
#[test]
fn the_pod_that_a_link_leads_to_is_told_from_a_former_one() {
    let scene = calico();
    scene.calicos_note("fedcba9876543210", "10.244.1.4");
    scene.adopt(&["calico", "--apply"]).ok();
    let alias = scene.node().host.link(WEB).unwrap()["ifalias"].clone();
    assert!(alias.as_str().unwrap().contains(&scene.old.id), "{alias}");
    assert_eq!(scene.leases(), [OLD]);
}

#[test]
fn a_link_that_is_of_two_pods_or_of_none_has_to_be_looked_at() {
    let scene = calico();
    scene.calicos_note("fedcba9876543210", OLD);
    assert_refused(&scene, None, "fedcba9876543210");
    let results = scene.node().host.scratch().path().join("root/var/lib/cni/results");
    fs::remove_dir_all(results).unwrap();
    assert_refused(&scene, None, WEB);
}

/// It was killed between the entry and the mark.
#[test]
fn a_pod_that_was_noted_and_not_marked_is_marked() {
    let scene = calico();
    scene.adopt(&["calico", "--apply"]).ok();
    let marked = scene.node().host.link(WEB).unwrap();
    scene.node().host.command("ip", &["link", "set", WEB, "alias", "", "group", "0"]).ok();
    scene.adopt(&["calico", "--apply"]).ok();
    let again = scene.node().host.link(WEB).unwrap();
    for key in ["ifalias", "group"] {
        assert_eq!(again[key], marked[key], "{key}");
    }
    assert_eq!(scene.json(&["calico"])["changes"], json!([]));
}

/// K3s has flannel in itself, unless it is told otherwise: then it writes no configuration.
#[test]
fn k3s_is_the_agent_where_it_runs_flannel() {
    let scene = flannel();
    let program = scene.node().host.scratch().program("k3s-server", "/bin/sleep");
    let mut server = scene.node().host.enter(|| Command::new(&program).arg("60").spawn().unwrap());
    let told = || scene.json(&["flannel"])["checks"].to_string();
    let without = told();
    scene.write("var/lib/rancher/k3s/agent/etc/cni/net.d/10-flannel.conflist", &json!({}));
    let seen = eventually(DEADLINE, || told().contains("--flannel-backend=none"));
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(seen && !without.contains("former-agent"), "{without}");
}

/// Programs of eBPF and WireGuard decide about packets besides routes and rules; what has both
/// is Felix's to turn off.
#[test]
fn what_felix_alone_can_turn_off_is_turned_off_before() {
    let scene = calico();
    let host = &scene.node().host;
    scene.write("sys/fs/bpf/tc/globals/cali_v4_ct3", &json!(null));
    assert_refused(&scene, None, "/sys/fs/bpf/tc/globals/cali_v4_ct3");
    fs::remove_dir_all(host.scratch().path().join("root/sys")).unwrap();
    // Of a kind that every kernel has.
    for (device, key) in [("bpfin.cali", "bpfEnabled"), ("wireguard.cali", "wireguardEnabled")] {
        batch(host, &format!("link add {device} type bridge"));
        assert_refused(&scene, None, &format!("{{\"{key}\":false}}"));
        batch(host, &format!("link del {device}"));
    }
    scene.adopt(&["calico", "--apply"]).ok();
}

#[test]
fn a_rule_that_is_left_of_wireguard_is_told_and_keeps_nobody() {
    let scene = calico();
    let host = &scene.node().host;
    let add = "rule add not fwmark 0x100000/0x100000 pref 99 table 1";
    batch(host, add);
    let rules = || host.command("ip", &["rule"]).ok();
    let with = rules();
    let told = scene.json(&["calico"]);
    let checks = told["checks"].as_array().unwrap();
    let check = checks.iter().find(|it| it["id"] == "calico-dataplane").unwrap();
    assert_eq!(check["severity"], "warning", "{told}");
    assert!(told["found"].to_string().contains("lookup 1"), "{told}");
    let fix: Vec<&str> = check["fix"].as_str().unwrap().split(' ').collect();
    host.command(fix[0], &fix[1..]).ok();
    assert!(with.contains("0x100000") && !rules().contains("0x100000"), "{with}");
    assert!(!scene.json(&["calico"]).to_string().contains("calico-dataplane"));
}

/// K3s has its directories elsewhere.
#[test]
fn the_directory_in_which_the_runtime_looks_may_be_named() {
    let scene = flannel();
    let root = scene.node().host.scratch().path().join("root");
    let directory = root.join("var/lib/rancher/k3s/agent/etc/cni/net.d");
    fs::create_dir_all(&directory).unwrap();
    for name in ["10-flannel.conflist", "20-manx.conflist"] {
        fs::rename(root.join("etc/cni/net.d").join(name), directory.join(name)).unwrap();
    }
    let without = scene.adopt(&["flannel", "--apply"]);
    assert!(without.stderr.contains("type manx"), "{without:?}");
    let named = directory.display().to_string();
    scene.adopt(&["flannel", "--apply", "--conf-dir", &named]).ok();
    assert!(directory.join("10-flannel.conflist.disabled").exists());
    assert_eq!(scene.leases(), [OLD]);
}
