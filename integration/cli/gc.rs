// SPDX-License-Identifier: Apache-2.0
//! Pools and leases: what is shown of them, and what a collection removes.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Plugin, Pod, Stdin, eventually};
use crate::{MANX, Node};

#[test]
fn the_pool_of_another_plugin_is_shown() {
    let node = Node::new();
    let leases = node.host.scratch().dir("leases");
    let ipam = |kind: &str| json!({"type": kind, "dataDir": leases, "ranges": [[{"subnet": "10.8.0.0/24"}]]});
    let allocator = node.host.scratch().dir("bin").join("manx-ipam");
    std::os::unix::fs::symlink(MANX, &allocator).unwrap();
    // Its mode is none that a plugin of ours could have.
    let bridge = |kind: &str| json!({"type": "macvlan", "mode": "bridge", "ipam": ipam(kind)});
    let list = |plugins: Value| json!({"cniVersion": "1.1.0", "name": "lan", "plugins": plugins});
    let conf = json!({"cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "mode": "bridge",
        "ipam": ipam("manx-ipam")});
    Plugin::new(&node.host, &allocator).config(conf).add(&Pod::new("a")).ok();
    for kind in ["manx-ipam", "host-local"] {
        let text = list(json!([{"type": "tuning"}, bridge(kind)])).to_string();
        let file = node.host.scratch().file("lan.conflist", text);
        let shown = node.json(&["ipam", "show", "--json", "--conf", file.to_str().unwrap()]);
        assert_eq!((&shown["network"], &shown["ranges"][0]["used"]), (&json!("lan"), &json!(1)));
        assert_eq!(shown["ranges"][0]["subnet"], "10.8.0.0/24");
    }
    let directory = node.host.scratch().dir("root/etc/cni/net.d");
    let text = list(json!([bridge("manx-ipam")])).to_string();
    fs::write(directory.join("10-lan.conflist"), text).unwrap();
    assert_eq!(node.json(&["ipam", "show", "--json"])["network"], "lan");
    let text = list(json!([{"type": "macvlan", "ipam": {"type": "static"}}])).to_string();
    let file = node.host.scratch().file("static.conflist", text);
    let refused = node.manx(&["ipam", "show", "--conf", file.to_str().unwrap()]);
    assert!(refused.status == 1 && refused.stderr.contains("manx-ipam"), "{refused:?}");
}

#[test]
fn gc_removes_the_dead_and_leaves_the_living() {
    let node = Node::new();
    let (alive, unlinked, dead) = (node.pod("alive"), node.pod("unlinked"), node.pod("dead"));
    assert_eq!(node.json(&["gc", "--json"])["collected"], json!([]));
    let link = node.pods()[2]["hostLink"].clone();
    node.host.command("ip", &["link", "delete", link.as_str().unwrap()]).ok();
    let (unlinked, dead) = (unlinked.id, { dead }.id);
    let both = || {
        let found = node.json(&["gc", "--dry-run", "--json"]);
        assert_eq!(found["dryRun"], true);
        found["collected"].as_array().unwrap().len() == 2
    };
    // The kernel takes a namespace down some time after its last user has gone.
    assert!(eventually(DEADLINE, both));
    assert_eq!((node.pods().len(), node.leases()), (3, 6));

    let said = node.manx(&["gc", "--network", "net"]).ok();
    assert!(said.contains(&unlinked) && said.contains(&dead), "{said}");
    assert!(said.contains("its link is gone") && said.ends_with("removed: 2\n"), "{said}");
    assert!(said.contains("default/unlinked") && said.contains("default/dead"), "{said}");
    assert_eq!((node.pods().len(), node.leases()), (1, 2));
    assert_eq!(node.manx(&["gc"]).ok(), "removed: 0\n");
    assert_eq!(node.manx(&["gc", "--network", "nt"]).status, 1);

    let list =
        |id: &str| Stdin::Bytes(json!([{"containerID": id, "ifname": "eth0"}]).to_string().into());
    let kept = node.with_stdin(&["gc", "--valid", "-"], &list(&alive.id)).ok();
    assert_eq!(kept, "removed: 0\n");
    let broken = node.with_stdin(&["gc", "--valid", "-"], &Stdin::Null);
    assert!(broken.status == 1 && broken.stderr.contains("nothing was removed"), "{broken:?}");
    assert_eq!(node.pods().len(), 1);
    let gone = node.with_stdin(&["gc", "--valid", "-"], &list("other")).ok();
    assert!(gone.contains("not in the list") && gone.contains("removed: 1"), "{gone}");
    assert_eq!((node.pods().len(), node.leases()), (0, 0));
    assert!(alive.netns.links().is_empty() && node.host.links().is_empty());
}

/// Where the journal is lost, the configuration tells where the leases are.
#[test]
fn gc_finds_leases_by_a_configuration() {
    let node = Node::new();
    let (_alive, dead) = (node.pod("alive"), node.pod("dead"));
    let link = node.pods()[1]["hostLink"].clone();
    node.host.command("ip", &["link", "delete", link.as_str().unwrap()]).ok();
    let state = node.host.scratch().path().join("root/run/manx");
    fs::remove_dir_all(&state).unwrap();
    let conf = node.host.scratch().file("conf.json", node.plugin.conf.to_string());
    let conf = conf.to_str().unwrap();
    assert_eq!((node.manx(&["gc"]).ok().as_str(), node.leases()), ("removed: 0\n", 4));
    let _ = fs::remove_dir_all(&state);
    let looked = node.manx(&["gc", "--conf", conf, "--dry-run"]).ok();
    assert!(looked.contains(&dead.id) && looked.ends_with("would be removed: 2\n"), "{looked}");
    assert!(!state.join("net").exists(), "nothing was made for a look");
    let said = node.manx(&["gc", "--conf", conf]).ok();
    assert!(said.contains("its lease has no link") && said.ends_with("removed: 2\n"), "{said}");
    assert_eq!(node.leases(), 2);
    assert_eq!(node.manx(&["gc", "--conf", conf, "--network", "net"]).status, 2);
    assert_eq!(node.manx(&["gc", "--conf", "/nowhere"]).status, 1);
}

#[test]
fn gc_tells_what_it_could_not_release() {
    let node = Node::new();
    let pod = node.pod("web").id;
    // A store is written without its plugin; another plugin has to be there.
    let journal = node.host.scratch().path().join("root/run/manx/net");
    let is_entry = |path: &PathBuf| !path.file_name().unwrap().to_string_lossy().starts_with('.');
    let files = fs::read_dir(journal).unwrap().map(|file| file.unwrap().path());
    let entry = files.into_iter().find(is_entry).unwrap();
    let noted = fs::read_to_string(&entry).unwrap();
    fs::write(&entry, noted.replace("\"host-local\"", "\"not-there\"")).unwrap();
    let failing = || node.manx(&["gc"]).status == 1;
    assert!(eventually(DEADLINE, failing));
    let said = node.manx(&["gc", "--json"]);
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    assert!(said["errors"][0]["msg"].as_str().unwrap().contains("not-there"), "{said}");
    // What was not released stays known, for the next try.
    assert_eq!(node.pods()[0]["containerID"], pod);
    fs::write(&entry, noted).unwrap();
    node.manx(&["gc"]).ok();
    assert!(node.pods().is_empty() && node.leases() == 0);
}
