// SPDX-License-Identifier: Apache-2.0
//! Tests against this kernel, each in network namespaces of its own, with the
//! nft program as the oracle.

mod addresses;
mod concurrency;
mod datapath;
mod denial;
mod oracle;
mod policy;
mod repair;
mod seal;
// Public to the crates of integration tests, which it is a part of as well.
#[allow(unreachable_pub)]
#[path = "../../../integration/harness/uninterrupted.rs"]
mod uninterrupted;

use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use super::{Carrier, Ensured, Error, Guard, Masquerade, Network, Tunnel};

/// A network namespace, gone when this and everything in it is.
pub(super) struct Namespace(File);

impl Namespace {
    pub(super) fn new() -> Self {
        thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("run the tests under `unshare -rn`");
                Self(File::open("/proc/thread-self/ns/net").unwrap())
            });
            made.join().unwrap()
        })
    }

    /// Runs `what` on a thread within the namespace.
    pub(super) fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let within = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                what()
            });
            within.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// What a command says within the namespace. Words are separated by blanks.
    pub(super) fn command(&self, line: &str) -> String {
        self.run(|| {
            let mut words = line.split_whitespace();
            let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{line}: {complaint}");
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// `nft -f -` with a text.
    pub(super) fn load(&self, text: &str) {
        assert!(!self.refuses(text), "nft refuses:\n{text}");
    }

    /// Whether `nft -f -` with a text fails.
    fn refuses(&self, text: &str) -> bool {
        self.run(|| {
            let mut nft =
                Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
            nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            !nft.wait().unwrap().success()
        })
    }

    fn ruleset(&self) -> String {
        self.command("nft -n list ruleset")
    }
}

/// A network that is masqueraded and no more.
fn wanted() -> Network {
    Network {
        table: "manx-blue".into(),
        group: 0x6d61_0001,
        host_link_groups: 0x6d61_0000..=0x6d61_ffff,
        masquerade: Some(but(&[
            "10.244.0.0/16",
            "10.245.0.0/17",
            "fd00:244::/48",
            "198.51.100.7/32",
        ])),
        guard: Guard::Off,
    }
}

/// The same with the check of sources.
fn guarded() -> Network {
    Network { guard: Guard::Sources, ..wanted() }
}

fn but(never: &[&str]) -> Masquerade {
    let never = never.iter().map(|text| text.parse().unwrap()).collect();
    Masquerade { never, pods: Vec::new(), next_hop: [169, 254, 1, 1].into() }
}

fn ensure(wanted: &Network) -> Result<Ensured, Error> {
    super::ensure(&wanted.describe()?)
}

fn differences(wanted: &Network) -> Result<Vec<String>, Error> {
    super::differences(&wanted.describe()?)
}

fn vxlan(peers: &[&str]) -> Tunnel {
    Tunnel {
        table: "manx.tunnels".into(),
        host_link_groups: 0x6d61_0000..=0x6d61_ffff,
        own: vec!["192.0.2.11".parse().unwrap(), "2001:db8::11".parse().unwrap()],
        carriers: vec![Carrier::Vxlan { port: 4789, vni: 4096 }],
        peers: peers.iter().map(|text| text.parse().unwrap()).collect(),
    }
}
