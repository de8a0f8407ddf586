// SPDX-License-Identifier: Apache-2.0
//! The store's lock: who holds it for too long is named, and nobody waits for
//! ever.

use std::fs::{self, File};
use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

use crate::ground::{Ground, Program};
use crate::harness::{DEADLINE, Reply, eventually};

/// How long a call waits for the lock.
const LIMIT: Duration = Duration::from_secs(10);

fn assert_gave_up(reply: &Reply, code: u64) {
    assert!(reply.took >= LIMIT && !reply.timed_out, "{reply:?}");
    assert_eq!(reply.code(), Some(code), "{reply:?}");
    let holder = format!("process {} (", process::id());
    let msg = reply.json.as_ref().unwrap()["msg"].as_str().unwrap();
    assert!(msg.contains(&holder) && msg.contains("lock"), "{msg}");
}

#[test]
fn who_waits_too_long_is_told_for_whom() {
    let ground = Ground::new();
    let plugin = ground.ipam_plugin(Program::Manx, &ground.ipam(&["10.1.0.0/24"]));
    let (one, other) = (ground.container("a", "eth0"), ground.container("b", "eth0"));
    plugin.add(&one).ok();
    let before = ground.files();
    let held = File::open(ground.store().join("lock")).unwrap();
    held.lock().unwrap();
    let [add, del, status] = thread::scope(|scope| {
        [
            scope.spawn(|| plugin.add(&other)),
            scope.spawn(|| plugin.del(&one)),
            scope.spawn(|| plugin.status()),
        ]
        .map(|call| call.join().unwrap())
    });
    assert_gave_up(&add, 11);
    assert_gave_up(&del, 11);
    assert_gave_up(&status, 50);
    assert_eq!(ground.files(), before);
    // One that comes while the lock is held, and lives to see it released.
    thread::scope(|scope| {
        let waiting = scope.spawn(|| plugin.add(&other));
        let lock = ground.store().join("lock");
        assert!(eventually(DEADLINE, || is_open_elsewhere(&lock)), "nobody waits");
        held.unlock().unwrap();
        waiting.join().unwrap().ok();
    });
    plugin.del(&one).ok();
}

/// Whether another process than this one has a file open.
fn is_open_elsewhere(path: &Path) -> bool {
    let own = process::id().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|process| process.file_name() != *own).any(|process| {
        let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file == path)
    })
}
