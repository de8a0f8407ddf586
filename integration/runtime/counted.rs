// SPDX-License-Identifier: Apache-2.0
//! What a call tells whoever counts calls: one write into a pipe, if somebody holds it.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::harness::{Host, Pod};
use crate::node::{manx, strace};

#[test]
fn a_call_tells_whoever_counts_by_one_write() {
    let host = Host::new();
    let leases = host.scratch().dir("leases");
    let ranges = json!([[{"subnet": "10.1.0.0/24"}]]);
    let plugin = manx(&host, &json!({"type": "manx-ipam", "dataDir": leases, "ranges": ranges}));
    let pipe = host.scratch().dir("root/run/manx").join(".operations");
    let traced = |pod: &Pod| {
        let (finished, trace) = strace(&host, &plugin.call("ADD").pod(pod), &["-qq"]);
        assert_eq!(finished.status, 0, "{finished:?}");
        trace.lines().skip_while(|line| !line.contains(".operations")).map(str::to_owned).collect()
    };
    // Nobody counts.
    let nobody: Vec<String> = traced(&Pod::new("a"));
    assert!(nobody[0].contains("ENOENT"), "{nobody:?}");
    assert!(!pipe.exists());

    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let mut somebody = options.open(&pipe).unwrap();
    let told: Vec<String> = traced(&Pod::new("b"));
    assert_eq!(told.len(), nobody.len() + 1, "one call more: {told:?}");
    assert!(told[1].starts_with("write(") && told[1].ends_with(" = 16"), "{told:?}");
    let mut record = [0; 64];
    assert_eq!(somebody.read(&mut record).unwrap(), 16);
    assert_eq!(&record[..12], b"ADD\0\0\0\0\0\0\0\0\0", "a verb, and no error");

    // One that is gone does not hold anybody up.
    drop(somebody);
    let gone: Vec<String> = traced(&Pod::new("c"));
    assert!(gone[0].contains("ENXIO"), "{gone:?}");
}
