// SPDX-License-Identifier: Apache-2.0
//! What one run asks of the kernel, counted by strace: programs, system calls,
//! netlink messages. Counts do not depend on how busy the machine is.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::measure::{Job, Sample};

/// The counts of one run and of all processes that it starts.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Programs that were executed.
    pub processes: usize,
    pub system_calls: usize,
    /// Messages sent to netlink sockets of any protocol.
    pub netlink_messages: usize,
    /// Those among them that change something: neither queries nor frames.
    pub netlink_changes: usize,
}

/// Runs the job under strace, in the caller's namespace.
pub fn count(job: &Job, scratch: &Path) -> (Counts, Sample) {
    let trace = scratch.join("trace");
    let file = trace.to_str().expect("a path of ASCII");
    let sample = job.behind(Path::new("strace"), &["-f", "-v", "-qq", "-o", file]).run();
    let text = fs::read(&trace).expect("strace wrote its output");
    (read(&String::from_utf8_lossy(&text)), sample)
}

/// The time that the kernel takes for what the job changes of nftables: that of the calls which
/// send a batch, and of the two stops of the process for each.
pub fn batches(job: &Job, scratch: &Path) -> Duration {
    let trace = scratch.join("trace");
    let file = trace.to_str().expect("a path of ASCII");
    let args = ["-f", "-qq", "-T", "-e", "trace=sendto,sendmsg", "-o", file];
    job.behind(Path::new("strace"), &args).run();
    let text = fs::read(&trace).expect("strace wrote its output");
    let took = batch_times(&String::from_utf8_lossy(&text));
    assert!(!took.is_empty(), "{job:?} changed nothing of nftables");
    took.iter().sum()
}

/// Of the lines of `strace -T` those that send a batch of nftables, which begins with a message
/// of its own.
pub fn batch_times(trace: &str) -> Vec<Duration> {
    let time = |line: &str| {
        let (_, rest) = line.split_once("nlmsg_type=")?;
        let is_batch =
            ["NFNL_MSG_BATCH_BEGIN", "0x10 ", "0x10,"].iter().any(|it| rest.starts_with(it));
        let (_, last) = line.trim_end().strip_suffix('>')?.rsplit_once('<')?;
        is_batch.then(|| last.parse().ok().map(Duration::from_secs_f64))?
    };
    trace.lines().filter_map(time).collect()
}

/// Counts the lines of `strace -f -v`.
pub fn read(trace: &str) -> Counts {
    let mut counts = Counts::default();
    for line in trace.lines() {
        // "PID call(arguments) = result"; what is resumed was counted when it began.
        let Some((_, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with(['<', '+', '-']) || !rest.contains('(') {
            continue;
        }
        counts.system_calls += 1;
        if rest.starts_with("execve(") && !rest.contains(" = -1 ") {
            counts.processes += 1;
        }
        if ["sendto(", "sendmsg("].iter().any(|call| rest.starts_with(call)) {
            let types: Vec<Kind<'_>> = rest.split("nlmsg_type=").skip(1).map(Kind::read).collect();
            let netfilter = types.iter().any(Kind::is_of_netfilter);
            counts.netlink_messages += types.len();
            counts.netlink_changes += types.iter().filter(|kind| kind.is_change(netfilter)).count();
        }
    }
    counts
}

/// The type of a message. Strace cannot name all of them in a socket of another
/// namespace.
enum Kind<'a> {
    Name(&'a str),
    Number(u16),
}

impl<'a> Kind<'a> {
    /// The type that a text begins with.
    fn read(text: &'a str) -> Self {
        let word = text.split([',', '}', ' ']).next().unwrap_or_default();
        let number = word.strip_prefix("0x").map(|digits| u16::from_str_radix(digits, 16));
        match number {
            Some(Ok(number)) => Self::Number(number),
            _ => Self::Name(word.rsplit('|').next().unwrap_or_default()),
        }
    }

    /// Whether it can only be netfilter's, whose types have a subsystem in the high byte.
    fn is_of_netfilter(&self) -> bool {
        match self {
            Self::Number(number) => number >> 8 != 0,
            Self::Name(name) => name.starts_with("NFT_") || name.starts_with("NFNL_"),
        }
    }

    /// Whether it changes something, where it was sent alone or with others, of which
    /// one is netfilter's or none is.
    fn is_change(&self, netfilter: bool) -> bool {
        /// (include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h)
        const CONNTRACK: u16 = 1;
        const NFTABLES: u16 = 10;
        const COMPATIBLE: u16 = 11;
        /// Those of nf_tables that ask, be it with a reset, and that only the kernel sends.
        const QUESTIONS: [u16; 13] = [1, 4, 7, 10, 13, 15, 16, 17, 19, 21, 23, 25, 33];
        match self {
            Self::Name(name) => {
                let mut changes = ["RTM_NEW", "RTM_DEL", "RTM_SET", "NFT_MSG_NEW", "NFT_MSG_DEL"]
                    .iter()
                    .chain(&["NFT_MSG_DESTROY", "IPCTNL_MSG_CT_NEW", "IPCTNL_MSG_CT_DEL"]);
                changes.any(|prefix| name.starts_with(prefix))
            }
            Self::Number(number) => match (number >> 8, number & 0xff) {
                // Begin and end of a batch have the numbers of rtnetlink's first types.
                (0, kind) if !netfilter => kind >= 16 && kind & 3 != 2,
                (0 | COMPATIBLE, _) => false,
                (CONNTRACK, kind) => kind == 0 || kind == 2,
                (NFTABLES, kind) => !QUESTIONS.contains(&kind),
                _ => true,
            },
        }
    }
}
