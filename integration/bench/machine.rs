// SPDX-License-Identifier: Apache-2.0
//! The machine that a report comes from, and the versions of what was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::harness::plugin_dir;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    pub processor: String,
    pub processors: usize,
    pub memory_mib: u64,
    pub kernel: String,
    /// Of the day, UTC.
    pub date: String,
    /// Of the checkout; with "+" if it has changes.
    pub commit: String,
    /// Name and version of what manx is compared with.
    pub peers: Vec<(String, String)>,
    /// How manx is linked, and with which C library.
    pub manx: String,
    /// Load average over the minute before the run.
    pub load_before: String,
}

impl Machine {
    /// This one.
    pub fn here(manx: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| -> String {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let memory: u64 =
            field(&memory, "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
        let here = env!("CARGO_MANIFEST_DIR");
        // What a run writes is no change of what it measures.
        let others = ["--", ".", ":!results", ":!README.md"];
        let status = [&["-C", here, "status", "--porcelain"][..], &others].concat();
        let changed = say("git", &status);
        let peers = ["ptp", "bridge", "host-local", "flannel"];
        Self {
            processor: field(&cpu, "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            date: say("date", &["-u", "+%Y-%m-%d"]),
            commit: say("git", &["-C", here, "rev-parse", "--short", "HEAD"])
                + if changed.is_empty() { "" } else { "+" },
            peers: peers.iter().map(|name| ((*name).to_owned(), version(name))).collect(),
            manx: say("file", &["-b", &manx.display().to_string()])
                .split(", ")
                .filter(|part| part.contains("link") || part.contains("stripped"))
                .chain([libc(manx)])
                .collect::<Vec<_>>()
                .join(", "),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().into(),
        }
    }
}

/// The C library in a static program, by what each puts into all of them: musl
/// its text for error 0, glibc the name of a variable that it reads at the start.
fn libc(program: &Path) -> &'static str {
    let bytes = fs::read(program).unwrap_or_default();
    let has = |mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    match (has(b"No error information\0"), has(b"GLIBC_TUNABLES\0")) {
        (true, false) => "musl",
        (false, true) => "glibc",
        _ => "of an unknown libc",
    }
}

/// The module version that Go noted in a plugin.
fn version(name: &str) -> String {
    let path = plugin_dir().join(name);
    let told = say("go", &["version", "-m", &path.display().to_string()]);
    let module = told.lines().find_map(|line| line.trim().strip_prefix("mod\t"));
    let mut words = module.unwrap_or_default().split('\t');
    words.nth(1).unwrap_or("unknown").into()
}

fn say(program: &str, args: &[&str]) -> String {
    let said = Command::new(program).args(args).output();
    said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned()).unwrap_or_default()
}
