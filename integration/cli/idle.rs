// SPDX-License-Identifier: Apache-2.0
//! A node on which manx never did anything, and commands that look at it or have nothing to do.

use std::{fs, process::Command};

use serde_json::json;

use crate::harness::{DEADLINE, Host, Stdin, run};
use crate::{MANX, plugin_dir};

#[test]
fn a_command_that_has_nothing_to_do_leaves_nothing() {
    let host = Host::new();
    let root = host.scratch().dir("root");
    let world = json!({"kind": "List", "items": []});
    let world = host.scratch().file("world.json", world.to_string());
    let world = world.to_str().unwrap();
    let rules = || host.command("nft", &["list", "ruleset"]).ok();
    let before = rules();
    for (arguments, said) in [
        (&["policy", "remove"][..], "nothing to remove"),
        (&["policy", "show"], ""),
        (&["policy", "plan", world, "--node", "node-a"], ""),
        (&["tune", "--revert"], "nothing to revert"),
        (&["tune"], ""),
        (&["gc"], ""),
        (&["gc", "--dry-run"], ""),
        (&["pods"], ""),
        (&["plan"], ""),
        (&["apply"], ""),
        (&["apply", "--undo"], ""),
        (&["adopt", "calico"], "nothing of calico is on this node"),
        (&["ipam", "check"], ""),
        (&["peers"], ""),
        (&["probe"], ""),
        (&["status"], ""),
        (&["doctor"], ""),
        (&["doctor", "--only", "fabric-stale"], "not checked: fabric-stale: no network has"),
        (&["bundle", "-"], ""),
        (&["uninstall", "--dry-run"], ""),
        (&["uninstall"], "nothing of manx is on this node"),
    ] {
        let mut command = Command::new(MANX);
        command.args(arguments).env("MANX_ROOT", &root).env("CNI_PATH", plugin_dir());
        let done = host.enter(|| run(command, &Stdin::Null, DEADLINE));
        assert_ne!(done.status, 2, "{arguments:?}: {done:?}");
        let words = [done.stdout.as_str(), done.stderr.as_str()].concat();
        assert!(words.contains(said), "{arguments:?}: {done:?}");
        let left: Vec<_> = fs::read_dir(&root).unwrap().flatten().map(|it| it.path()).collect();
        assert!(left.is_empty(), "{arguments:?}: {left:?}");
        assert_eq!(rules(), before, "{arguments:?}");
    }
}
