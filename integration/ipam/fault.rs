// SPDX-License-Identifier: Apache-2.0
//! Killed at any system call: what the next DEL, or GC, makes of it.
//!
//! strace ends the process as it enters a call, which then is not carried out.
//! So every state is seen that a process can leave the node and the store in.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::ground::{Ground, Program, content, strace};
use crate::harness::{Call, Plugin, Pod};

/// The status of a process that SIGKILL ended.
const KILLED: i32 = 128 + 9;

/// How many points are tried at a time, each on a node of its own.
const WORKERS: usize = 2;

/// What is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Subject {
    /// manx with its own IPAM, two families and masquerade.
    Whole,
    /// manx-ipam by itself.
    Alone,
}

/// What is killed, and what comes after.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Case {
    /// An ADD after others; then DEL.
    AddThenDel,
    /// The first ADD of a node; then GC without a valid attachment.
    FirstAddThenGc,
    /// A DEL; then DEL again.
    DelThenDel,
}

/// A node on which points are tried.
struct Lab {
    ground: Ground,
    plugin: Plugin,
    subject: Subject,
    case: Case,
    pod: Pod,
    /// What is there when no attachment is.
    before: String,
}

impl Lab {
    fn new(subject: Subject, case: Case) -> Self {
        let subnets = ["10.1.0.0/24", "fd00:1::/64"];
        let (ground, plugin, pod);
        if subject == Subject::Whole {
            ground = Ground::with_uplink();
            plugin = ground.manx(&ground.ipam(&subnets)).with("ipMasq", true.into());
            pod = Pod::new("killed").kubernetes("test", "pod1");
        } else {
            ground = Ground::new();
            plugin = ground.ipam_plugin(Program::Manx, &ground.ipam(&subnets));
            pod = ground.container("killed", "eth0");
        }
        let mut lab = Self { ground, plugin, subject, case, pod, before: String::new() };
        lab.plugin.add(&lab.pod).ok();
        lab.clear();
        lab.before = lab.remains();
        lab
    }

    /// Makes the state that the case starts from. Nothing is attached.
    fn clear(&self) {
        if self.case == Case::FirstAddThenGc {
            self.plugin.gc(&[]).ok();
            for directory in [self.ground.data_dir(), self.ground.host.scratch().dir("root")] {
                let _ = fs::remove_dir_all(directory);
            }
        } else {
            self.plugin.del(&self.pod).ok();
        }
    }

    /// The call that is killed, at its start.
    fn call(&self) -> Call {
        if self.case != Case::DelThenDel {
            return self.plugin.call("ADD").pod(&self.pod);
        }
        self.plugin.add(&self.pod).ok();
        self.plugin.call("DEL").pod(&self.pod)
    }

    /// Every system call of the call, with the number of times it is made.
    fn points(&self) -> Vec<(String, usize)> {
        let trace = self.ground.host.scratch().path().join("trace");
        let args = ["-f", "-qq", "-o", trace.to_str().unwrap()];
        let finished = strace(&self.ground.host, &self.call(), &args);
        assert_eq!(finished.status, 0, "{finished:?}");
        let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in fs::read_to_string(&trace).unwrap().lines() {
            let Some((thread, call)) = line.split_once(' ') else { continue };
            // "<... NAME resumed>" and "+++ exited" are no calls.
            let Some((name, _)) = call.trim_start().split_once('(') else { continue };
            if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                *counts.entry((name.to_owned(), thread.to_owned())).or_default() += 1;
            }
        }
        self.clear();
        let calls = counts.into_iter().filter(|((name, _), _)| name != "execve");
        calls.flat_map(|((name, _), count)| (1..=count).map(move |at| (name.clone(), at))).collect()
    }

    /// True if the call was killed.
    fn attempt(&self, name: &str, at: usize) -> bool {
        let call = self.call();
        let trace = format!("trace={name}");
        let inject = format!("inject={name}:signal=KILL:when={at}");
        let args = ["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let finished = strace(&self.ground.host, &call, &args);
        assert!([0, KILLED].contains(&finished.status), "{name} {at}: {finished:?}");
        for (address, lease) in self.ground.leases() {
            assert_eq!(lease, content(&self.pod), "{address} after {name} {at}");
        }
        if (self.subject, self.case) == (Subject::Alone, Case::AddThenDel) {
            // Whoever opens the store next takes back what is half done.
            self.plugin.status().ok();
            let count = self.ground.leases().len();
            assert!([0, 2].contains(&count), "{count} of two addresses after {name} {at}");
        }
        match self.case {
            Case::FirstAddThenGc => self.plugin.gc(&[]).ok(),
            Case::AddThenDel | Case::DelThenDel => self.plugin.del(&self.pod).ok(),
        };
        assert_eq!(self.remains(), self.before, "{:?}, {:?}: {name} {at}", self.subject, self.case);
        // After a DEL the next attempt is another ADD.
        if self.case != Case::DelThenDel {
            self.plugin.add(&self.pod).ok();
            self.clear();
        }
        finished.status == KILLED
    }

    /// All that attachments leave while they live, and must not after.
    fn remains(&self) -> String {
        let mut files = self.ground.files();
        files.retain(|name, _| !name.starts_with("last_reserved_ip."));
        let mut said = format!("{:?}\n", files.keys());
        if self.subject == Subject::Alone {
            return said;
        }
        let host = self.ground.host.command("sh", &["-c", LOOK]).ok();
        let pod = self.pod.netns.command("ip", &["-o", "link"]).ok();
        let mut lines: Vec<&str> = host.lines().filter(|line| !is_kernels(line)).collect();
        lines.extend(pod.lines().filter(|line| !line.starts_with("1: lo:")));
        let directory = self.ground.host.scratch().path().join("root/run/manx/net");
        let journal = fs::read_dir(directory).into_iter().flatten().flatten();
        let journal = journal.map(|file| file.file_name().into_string().unwrap());
        let journal: Vec<String> = journal.filter(|name| !name.starts_with('.')).collect();
        said += &lines.join("\n");
        said + &format!("\njournal {journal:?}\n")
    }
}

/// Links, routes, rules and neighbours of the node, and what nftables has.
const LOOK: &str = "ip -br link; ip -4 route show table all; ip -6 route show table all
    ip -4 rule; ip -6 rule; ip neighbour show nud permanent; nft list ruleset";

/// The kernel's own entries: a node has more once it forwards.
fn is_kernels(line: &str) -> bool {
    line.contains("table local")
}

/// Tries every point of a case and says how many there were.
fn kill_everywhere(subject: Subject, case: Case, least: usize) {
    let points = Lab::new(subject, case).points();
    let (next, killed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let lab = Lab::new(subject, case);
                while let Some((name, at)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    killed.fetch_add(lab.attempt(name, *at).into(), Ordering::Relaxed);
                }
            });
        }
    });
    let (killed, points) = (killed.into_inner(), points.len());
    println!("{subject:?}, {case:?}: killed at {killed} points of {points}");
    assert!(killed >= least, "{killed} deaths of {points}, fewer than {least}");
    assert!(points - killed <= points / 50, "{} points were not reached", points - killed);
}

#[test]
fn del_leaves_nothing_of_an_add_killed_anywhere() {
    kill_everywhere(Subject::Whole, Case::AddThenDel, 200);
}

#[test]
fn gc_leaves_nothing_of_a_first_add_killed_anywhere() {
    kill_everywhere(Subject::Whole, Case::FirstAddThenGc, 200);
}

#[test]
fn del_finishes_a_del_killed_anywhere() {
    kill_everywhere(Subject::Whole, Case::DelThenDel, 100);
}

#[test]
fn del_leaves_nothing_of_an_allocation_killed_anywhere() {
    kill_everywhere(Subject::Alone, Case::AddThenDel, 100);
}

#[test]
fn gc_leaves_nothing_of_a_first_allocation_killed_anywhere() {
    kill_everywhere(Subject::Alone, Case::FirstAddThenGc, 100);
}

#[test]
fn del_finishes_a_release_killed_anywhere() {
    kill_everywhere(Subject::Alone, Case::DelThenDel, 100);
}
