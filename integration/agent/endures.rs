// SPDX-License-Identifier: Apache-2.0
//! What goes on while something is wrong: pods come and go while agents are killed, and the routes of
//! before serve while nothing can be written.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::answers::ask;
use crate::ground::{AGENT, CONFLIST, Ground, node};
use crate::harness::{DEADLINE, Pod, eventually};

/// At whatever moment an agent ends, with a file half-written and routes half-made, and another begins.
#[test]
fn pods_come_and_go_while_agents_are_killed() {
    const TIMES: u32 = 30;
    let ground = Ground::new();
    // Each agent finds another list than the one before.
    let (few, many) = (vec![node(1), node(2)], (1..=9).map(node).collect::<Vec<Value>>());
    let lists: Vec<&[Value]> =
        (0..=TIMES).map(|time| if time % 2 == 0 { &few[..] } else { &many[..] }).collect();
    let (server, _apis) = ground.apis(&lists);
    let mut agent = ground.agent(&server.url(), &[]);
    ground.await_file(CONFLIST);
    let plugin = ground.plugin(ground.host.scratch().path().to_str().unwrap());
    let over = AtomicBool::new(false);
    let attached = thread::scope(|scope| {
        let pods = scope.spawn(|| {
            let (mut attached, mut last) = (0, false);
            while !last {
                // One more than there are agents to kill.
                last = over.load(Ordering::Relaxed);
                let pod = Pod::new("a");
                plugin.add(&pod).ok();
                plugin.del(&pod).ok();
                attached += 1;
            }
            attached
        });
        for time in 0..TIMES {
            // From before it has read anything to after it has made all.
            thread::sleep(Duration::from_millis((u64::from(time) * 37) % 400));
            agent.end(Signal::SIGKILL);
            agent = ground.agent(&server.url(), &[]);
        }
        over.store(true, Ordering::Relaxed);
        pods.join().unwrap()
    });
    assert!(attached > 1, "{attached}");
    let settled = || ground.manx(&["plan"]).status == 0;
    assert!(eventually(DEADLINE, settled), "{}", ground.manx(&["plan"]).stdout);
    let left = ground.manx(&["ipam", "check"]);
    assert_eq!(left.status, 0, "{}", left.stdout);
}

/// A disk that is remounted read-only, as ext4 does after an error: the file of before serves until it can
/// be written again.
#[test]
fn a_disk_that_is_read_only_keeps_what_is_there() {
    let ground = Ground::new();
    let (server, api) = ground.api(&[node(1), node(2)]);
    let state = ground.host.scratch().dir("var/lib/manx");
    let [shut, is_shut, open] = ["shut", "is-shut", "open"].map(|name| ground.path(name));
    // mount is given source and target. Given the target alone, it repeats all options of the mount, and a user
    // namespace refuses one of them, the owner's number.
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs {state} || exit 1; \
         (while [ ! -e {shut} ]; do sleep 0.1; done; mount -o remount,ro tmpfs {state} && touch {is_shut}; \
          while [ ! -e {open} ]; do sleep 0.1; done; mount -o remount,rw tmpfs {state}) & exec \"$@\"",
        state = state.display(),
        shut = shut.display(),
        is_shut = is_shut.display(),
        open = open.display()
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", AGENT]);
    command.args(ground.arguments(&server.url()));
    let mut agent = ground.start(command);
    agent.api = Some(api);
    ground.await_file(CONFLIST);
    ground.await_routes(&[1, 2]);
    fs::write(&shut, "").unwrap();
    ground.await_file("is-shut");
    agent.tell("ADDED", node(3));
    ground.await_log("Read-only file system (os error 30); trying again");
    ground.host.command("ip", &["route", "del", "10.244.2.0/24"]).ok();
    ground.await_routes(&[1, 2]);
    assert!(ask(&ground, "/readyz").starts_with("HTTP/1.1 200 "), "{}", ask(&ground, "/readyz"));
    fs::write(&open, "").unwrap();
    ground.await_routes(&[1, 2, 3]);
}
