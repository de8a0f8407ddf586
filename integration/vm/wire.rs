// SPDX-License-Identifier: Apache-2.0
//! What is on the wire, as tcpdump sees it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::harness::{DEADLINE, Netns, eventually};

/// A running tcpdump; ended on drop.
#[derive(Debug)]
pub struct Wire {
    tcpdump: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Wire {
    /// Listens on a link for what a filter selects; it listens when this
    /// returns.
    #[track_caller]
    pub fn tap(netns: &Netns, link: &str, filter: &str) -> Self {
        // Without -Z it would change to a user that a user namespace lacks.
        let mut tcpdump = netns.enter(|| {
            Command::new("tcpdump")
                .args(["-Z", "root", "-nn", "-l", "--immediate-mode", "-i", link, filter])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("start tcpdump")
        });
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stdout = tcpdump.stdout.take().expect("a pipe");
        let seen = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                seen.lock().expect("no panic while locked").push(line);
            }
        });
        let mut words = BufReader::new(tcpdump.stderr.take().expect("a pipe"));
        let mut said = String::new();
        while !said.contains("listening on") {
            let read = words.read_line(&mut said).expect("tcpdump's words");
            assert!(read > 0, "tcpdump does not listen: {said}");
        }
        // The rest goes nowhere, but must find a reader.
        thread::spawn(move || words.lines().map_while(Result::ok).count());
        Self { tcpdump, lines }
    }

    /// All packets so far, a line each.
    pub fn packets(&self) -> Vec<String> {
        self.lines.lock().expect("no panic while locked").clone()
    }

    /// Waits for a packet whose line has all of these parts.
    #[track_caller]
    pub fn expect(&self, parts: &[&str]) {
        let matches = |line: &String| parts.iter().all(|part| line.contains(part));
        let found = eventually(DEADLINE, || self.packets().iter().any(matches));
        assert!(found, "no packet with {parts:?} in {:#?}", self.packets());
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}
