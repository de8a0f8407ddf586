//! What one run asks of the kernel, counted by strace: programs, system calls,
//! netlink messages. Counts do not depend on how busy the machine is.

use std::fs;
use std::path::Path;

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

/// Counts the lines of `strace -f -v`.
fn read(trace: &str) -> Counts {
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
            let types = rest.split("nlmsg_type=").skip(1);
            for kind in types {
                counts.netlink_messages += 1;
                counts.netlink_changes += usize::from(is_change(kind));
            }
        }
    }
    counts
}

/// Whether a message of the type that `text` begins with changes something.
/// Types of rtnetlink come in fours: new, delete, get, set; strace cannot name
/// them in a socket of another namespace.
fn is_change(text: &str) -> bool {
    if let Some(number) = text.strip_prefix("0x") {
        let digits = number.split(|c: char| !c.is_ascii_hexdigit()).next().unwrap_or_default();
        return u16::from_str_radix(digits, 16).is_ok_and(|kind| kind >= 16 && kind & 3 != 2);
    }
    let name = text.split([',', '}', ' ']).next().unwrap_or_default();
    let name = name.rsplit('|').next().unwrap_or_default();
    ["RTM_NEW", "RTM_DEL", "RTM_SET", "NFT_MSG_NEW", "NFT_MSG_DEL"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}
