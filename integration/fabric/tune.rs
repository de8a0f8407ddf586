// SPDX-License-Identifier: Apache-2.0
//! `manx tune` on a node of a cluster: what a namespace has of the parameters is set, kept at
//! boot, and set back.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node};
use crate::harness::Finished;

const STRICT: &str = "net.ipv4.conf.eth0.rp_filter";
const FORWARD: &str = "net.ipv4.ip_forward";

fn tune(node: &Node, args: &[&str]) -> Finished {
    node.manx(&[&["tune"], args].concat())
}

/// What is recommended, with who set what there is.
fn recommended(node: &Node) -> Vec<(String, u64, u64, String)> {
    let told = tune(node, &["--json"]);
    let document: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
    let settings = document["settings"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let found: Vec<_> = settings
        .filter_map(|one| {
            let value = one["recommended"].as_u64()?;
            assert!(!text(&one["reason"]).is_empty(), "{one}");
            Some((text(&one["key"]), one["current"].as_u64().unwrap(), value, text(&one["setBy"])))
        })
        // What the machine has counted is not the test's.
        .filter(|(key, ..)| [STRICT, FORWARD].contains(&key.as_str()))
        .collect();
    assert!(found.is_empty() || told.status == 3, "{told:?}");
    found
}

/// A node that lacks both, with a file that says so of one.
fn node() -> (Cluster, PathBuf) {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    cluster.apply();
    let host = &cluster.nodes[0].host;
    host.set_sysctl("ipv4/ip_forward", "0");
    host.set_sysctl("ipv4/conf/eth0/rp_filter", "1");
    let root = host.scratch().path().join("root");
    let directory = root.join("etc/sysctl.d");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("50-site.conf"), "\nnet.ipv4.conf.eth*.rp_filter = 1\n").unwrap();
    (cluster, root)
}

fn values(node: &Node) -> (String, String) {
    (node.host.sysctl("ipv4/ip_forward"), node.host.sysctl("ipv4/conf/eth0/rp_filter"))
}

fn both(forward: &str, strict: &str) -> (String, String) {
    (forward.to_owned(), strict.to_owned())
}

#[test]
fn what_is_recommended_is_set_and_set_back() {
    let (cluster, root) = node();
    let node = &cluster.nodes[0];
    let file = root.join("etc/sysctl.d/50-site.conf");
    let found = recommended(node);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found[0].0.as_str(), found[0].1, found[0].2), (FORWARD, 0, 1));
    assert_eq!((found[1].0.as_str(), found[1].1, found[1].2), (STRICT, 1, 2));
    assert_eq!(found[1].3, format!("{}:2", file.display()));

    let told = tune(node, &["--apply"]).ok();
    assert!(told.contains(&format!("{FORWARD}: 0 -> 1")), "{told}");
    assert_eq!(values(node), both("1", "2"));
    assert!(recommended(node).is_empty());
    let (drop_in, note) =
        (root.join("etc/sysctl.d/zz-manx-tune.conf"), root.join("var/lib/manx/tune.json"));
    let text = fs::read_to_string(&drop_in).unwrap();
    assert!(text.ends_with(&format!("\n{STRICT} = 2\n{FORWARD} = 1\n")), "{text}");
    let noted = fs::read(&note).unwrap();

    let again = tune(node, &["--apply"]).ok();
    assert_eq!(again, "nothing to change\n");
    assert_eq!((fs::read_to_string(&drop_in).unwrap(), fs::read(&note).unwrap()), (text, noted));

    tune(node, &["--revert"]).ok();
    assert_eq!(values(node), both("0", "1"));
    assert!(!drop_in.exists() && !note.exists());
    assert_eq!(tune(node, &["--revert"]).ok(), "nothing to revert\n");
}

#[test]
fn what_somebody_changed_since_stays() {
    let (cluster, root) = node();
    let node = &cluster.nodes[0];
    tune(node, &["--apply"]).ok();
    node.host.set_sysctl("ipv4/conf/eth0/rp_filter", "0");
    let told = tune(node, &["--revert"]);
    assert!(told.stderr.contains(STRICT) && told.stderr.contains("it stays"), "{told:?}");
    assert_eq!((told.status, values(node)), (0, both("0", "0")));

    node.host.set_sysctl("ipv4/conf/eth0/rp_filter", "1");
    tune(node, &["--apply"]).ok();
    let drop_in = root.join("etc/sysctl.d/zz-manx-tune.conf");
    fs::write(&drop_in, "net.ipv4.ip_forward = 1\n").unwrap();
    let told = tune(node, &["--apply"]);
    assert!(told.status == 1 && told.stderr.contains("not as manx tune wrote it"), "{told:?}");
    let told = tune(node, &["--revert"]);
    assert!(told.stderr.contains("somebody edited it") && drop_in.exists(), "{told:?}");
    assert_eq!((told.status, values(node)), (0, both("0", "1")));
}

/// Killed behind the note, which then is one step ahead of the file, or behind the files.
#[test]
fn what_a_kill_left_is_taken_up_and_taken_back() {
    let (cluster, root) = node();
    let node = &cluster.nodes[0];
    let (drop_in, note) =
        (root.join("etc/sysctl.d/zz-manx-tune.conf"), root.join("var/lib/manx/tune.json"));
    let begin = || {
        node.host.set_sysctl("ipv4/ip_forward", "0");
        node.host.set_sysctl("ipv4/conf/eth0/rp_filter", "1");
    };
    tune(node, &["--apply"]).ok();
    let ahead = fs::read(&note).unwrap();
    let whole = fs::read(&drop_in).unwrap();
    tune(node, &["--revert"]).ok();
    for next in ["--apply", "--revert"] {
        begin();
        node.host.set_sysctl("ipv4/ip_forward", "1");
        tune(node, &["--apply"]).ok();
        assert_ne!(fs::read(&drop_in).unwrap(), whole);
        node.host.set_sysctl("ipv4/ip_forward", "0");
        fs::write(&note, &ahead).unwrap();
        tune(node, &[next]).ok();
        if next == "--apply" {
            assert_eq!(
                (values(node), fs::read(&drop_in).unwrap()),
                (both("1", "2"), whole.clone())
            );
            tune(node, &["--revert"]).ok();
        }
        assert_eq!(values(node), both("0", "1"));
        assert!(!drop_in.exists() && !note.exists());

        // The note is gone already, and a file is not.
        fs::write(&drop_in, &whole).unwrap();
        let told = tune(node, &["--revert"]).ok();
        assert!(told.contains("removed") && !drop_in.exists(), "{told}");
    }
}

/// A file that is read last sets it back at the next boot.
#[test]
fn a_file_that_overrules_ours_is_named() {
    let (cluster, root) = node();
    let node = &cluster.nodes[0];
    fs::write(root.join("etc/sysctl.conf"), format!("{FORWARD}=0\n")).unwrap();
    let told = tune(node, &["--apply"]);
    assert!(told.stderr.contains("etc/sysctl.conf:1 sets net.ipv4.ip_forward to 0"), "{told:?}");
    assert_eq!(values(node), both("1", "2"));
}
