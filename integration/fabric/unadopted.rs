//! What would cut pods off ends `manx adopt --apply` before it changes anything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;

use crate::cluster::{Families, entry};
use crate::left_behind::{FELIX, OLD, Scene, WEB, calico};

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
