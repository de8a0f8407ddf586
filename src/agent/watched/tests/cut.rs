// SPDX-License-Identifier: Apache-2.0
//! A connection whose other end is gone without a word, as where a machine loses its power.

use std::{fs::File, os::fd::AsRawFd, process::Command};

use nix::sched::{CloneFlags, setns, unshare};

use super::*;

const THERE: &str = "198.51.100.2";

/// The network namespace of a server, at the other end of a link.
struct Far(File);

impl Far {
    fn new() -> Self {
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let file = file.join().unwrap();
        let netns = format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd());
        run(&format!("ip link add cut type veth peer name cut netns {netns}"));
        run("ip address add 198.51.100.1/24 dev cut");
        run("ip link set cut up");
        let far = Self(file);
        far.enter(|| {
            run(&format!("ip address add {THERE}/24 dev cut"));
            run("ip link set cut up");
        });
        far
    }

    fn enter<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let within = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                what()
            });
            within.join().unwrap()
        })
    }
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{line}");
}

#[test]
fn a_connection_that_is_cut_without_a_word_is_noticed_and_another_made() {
    // As long as no word is no reason yet.
    let limits = Limits {
        silence: DEADLINE * 10,
        unanswered: Duration::from_secs(3),
        retry_max: Duration::from_secs(1),
        ..limits()
    };
    let far = Far::new();
    let mut watched = Followed::of(limits, |_| {
        let rest = Answer::stream(&[event("ADDED", "b", 11)], Ending::Silence);
        let answers = vec![list(&["a"], &[], Ending::Silence), rest];
        far.enter(|| Server::start_at(THERE.parse().unwrap(), answers))
    });
    assert_eq!(watched.next(), ["a"]);
    far.enter(|| {
        run("nft add table inet cut");
        for hook in ["input", "output"] {
            let chain = format!("{{ type filter hook {hook} priority 0; policy drop; }}");
            run(&format!("nft add chain inet cut {hook} {chain}"));
        }
    });
    let said = watched.next_lost();
    assert!(said.contains("timed out"), "{said}");
    far.enter(|| run("nft delete table inet cut"));
    watched.until(&["a", "b"]);
}
