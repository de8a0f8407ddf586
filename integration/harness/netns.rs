// SPDX-License-Identifier: Apache-2.0
//! Network namespaces that are nothing but an open file.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

use super::{DEADLINE, Finished, Stdin, eventually, run};

/// A network namespace. It lives as long as a clone of this value, or a process
/// in it, does; there is no name and no mount to remove.
#[derive(Clone, Debug)]
pub struct Netns {
    file: Arc<File>,
}

impl Netns {
    /// A new namespace with only its loopback link, up.
    pub fn new() -> Self {
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .unwrap_or_else(|e| panic!("no network namespace ({e}): run under unshare -rn"));
            File::open("/proc/thread-self/ns/net").expect("open the namespace just made")
        })
        .join()
        .unwrap_or_else(|panic| resume_unwind(panic));
        let netns = Self { file: Arc::new(file) };
        netns.command("ip", &["link", "set", "lo", "up"]).ok();
        netns
    }

    /// The namespace that the caller's thread is in.
    pub fn current() -> Self {
        let file = File::open("/proc/thread-self/ns/net").expect("open our namespace");
        Self { file: Arc::new(file) }
    }

    /// A path that any process of this user opens, for CNI_NETNS.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd()))
    }

    /// Runs `body` in a thread inside the namespace; processes that it starts
    /// are born there. `/proc/sys/net` follows, `/proc/net` and `/sys` do not.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&*self.file, CloneFlags::CLONE_NEWNET).expect("enter a namespace");
                    body()
                })
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Runs a program inside the namespace, to its end.
    pub fn command(&self, program: &str, args: &[&str]) -> Finished {
        self.enter(|| {
            let mut command = Command::new(program);
            command.args(args);
            run(command, &Stdin::Null, DEADLINE)
        })
    }

    /// What `ip -j -d ARGS` says, parsed; an empty answer is an empty array.
    #[track_caller]
    pub fn ip(&self, args: &[&str]) -> Value {
        let all: Vec<&str> = ["-j", "-d"].iter().chain(args).copied().collect();
        let said = self.command("ip", &all).ok();
        if said.trim().is_empty() {
            return Value::Array(Vec::new());
        }
        serde_json::from_str(&said).unwrap_or_else(|e| panic!("ip {args:?} said {said:?}: {e}"))
    }

    /// The names of the links, sorted, without `lo`.
    pub fn links(&self) -> Vec<String> {
        let mut names: Vec<String> = entries(&self.ip(&["link", "show"]))
            .filter_map(|link| link["ifname"].as_str())
            .filter(|name| *name != "lo")
            .map(String::from)
            .collect();
        names.sort();
        names
    }

    /// One link as `ip -j -d link` describes it, if it is there.
    pub fn link(&self, name: &str) -> Option<Value> {
        entries(&self.ip(&["link", "show"])).find(|link| link["ifname"] == name).cloned()
    }

    /// The global addresses of a link as `ADDRESS/LENGTH`, v4 first.
    pub fn addresses(&self, link: &str) -> Vec<String> {
        entries(&self.ip(&["address", "show"]))
            .filter(|entry| entry["ifname"] == link)
            .flat_map(|entry| entries(&entry["addr_info"]))
            .filter(|info| info["scope"] == "global")
            .filter_map(|info| Some(format!("{}/{}", info["local"].as_str()?, info["prefixlen"])))
            .collect()
    }

    /// The routes of every table but the kernel's own entries, for one family
    /// (`"-4"` or `"-6"`).
    pub fn routes(&self, family: &str) -> Vec<Value> {
        entries(&self.ip(&[family, "route", "show", "table", "all"]))
            .filter(|route| route["table"] != "local")
            .cloned()
            .collect()
    }

    /// The value of `/proc/sys/net/KEY` inside, trimmed.
    pub fn sysctl(&self, key: &str) -> String {
        let path = format!("/proc/sys/net/{key}");
        self.enter(|| fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}")))
            .trim()
            .to_owned()
    }

    /// Sets `/proc/sys/net/KEY` inside.
    pub fn set_sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/net/{key}");
        self.enter(|| fs::write(&path, value).unwrap_or_else(|e| panic!("write {path}: {e}")));
    }

    /// Whether an echo request is answered. Asked again until one is, as the first packets of a link
    /// that is coming up may be lost, or answered with an error, upon which ping gives up. For what
    /// must be answered: anything else takes the whole deadline, and is asked of `keeps_silent`.
    pub fn pings(&self, address: &str) -> bool {
        let args = ["-n", "-q", "-i", "0.2", "-c", "1", "-w", "5", address];
        eventually(DEADLINE, || self.command("ping", &args).status == 0)
    }

    /// Whether no echo request is answered within a second and a half.
    pub fn keeps_silent(&self, address: &str) -> bool {
        let args = ["-n", "-q", "-i", "0.2", "-c", "4", "-W", "1", address];
        self.command("ping", &args).stdout.contains(" 0 received")
    }
}

/// The elements of a JSON array; none for anything else.
fn entries(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
