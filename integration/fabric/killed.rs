// SPDX-License-Identifier: Apache-2.0
//! Killed at any point, the next apply makes it whole.

use serde_json::json;

use crate::cluster::{Cluster, Families, Node};
use crate::harness::{DEADLINE, Stdin, run};

/// Runs `manx ARGS`, killed as it enters the system call `name` for the `count`th
/// time. True if it was.
pub fn killed(node: &Node, args: &[&str], name: &str, count: usize) -> bool {
    let plain = node.command(args);
    let mut command = std::process::Command::new("strace");
    let inject = format!("inject={name}:signal=KILL:when={count}");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={name}"), "-e", &inject]);
    command.arg(plain.get_program()).args(plain.get_args());
    let finished = node.host.enter(|| run(command, &Stdin::Null, DEADLINE));
    assert!([0, 137].contains(&finished.status), "{finished:?}");
    finished.status == 137
}

/// Everything by which manx tells the kernel or the disk something.
const CALLS: [&str; 5] = ["sendto", "write", "fsync", "/^rename", "/^unlink"];

#[test]
fn a_killed_apply_is_made_whole_by_the_next() {
    let cluster = Cluster::new(3, Families::Dual, &json!({"mode": "vxlan", "crossSubnet": true}));
    let node = &cluster.nodes[0];
    let bare = node.state();
    node.apply().ok();
    let whole = node.state();
    node.manx(&["apply", "--undo"]).ok();
    let mut kills = 0;
    for name in CALLS {
        for count in 1.. {
            if !killed(node, &["apply"], name, count) {
                break;
            }
            kills += 1;
            node.apply().ok();
            node.assert_settled();
            assert_eq!(node.state(), whole, "after the kill at {name} {count}");
            node.manx(&["apply", "--undo"]).ok();
            assert_eq!(node.state(), bare, "after the kill at {name} {count} and undo");
        }
        node.manx(&["apply", "--undo"]).ok();
    }
    println!("killed at {kills} points");
    assert!(kills > 10, "{kills}");
}

#[test]
fn a_killed_undo_is_finished_by_the_next() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let bare = node.state();
    node.apply().ok();
    for name in CALLS {
        for count in 1.. {
            let done = !killed(node, &["apply", "--undo"], name, count);
            node.manx(&["apply", "--undo"]).ok();
            assert_eq!(node.state(), bare, "after the kill at {name} {count}");
            node.apply().ok();
            node.assert_settled();
            if done {
                break;
            }
        }
    }
}

/// A device that a killed apply made is ours to remove, even if nothing else
/// came about.
#[test]
fn what_a_killed_apply_leaves_is_undone() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let bare = node.state();
    for count in 1.. {
        if !killed(node, &["apply"], "sendto", count) {
            break;
        }
        node.manx(&["apply", "--undo"]).ok();
        assert_eq!(node.state(), bare, "after the kill at message {count}");
    }
}
