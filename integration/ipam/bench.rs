//! What an address costs, by the number of those that are taken: manx-ipam
//! against the real host-local, each on a store of its own with the same leases,
//! in turns, so that whatever else the machine does meets both.
//!
//! A program of its own: `hack/bench-ipam` runs it with the static binary.

#![allow(missing_docs, unreachable_pub, dead_code)]
// No test in clippy's eyes, and not to be continued after what was not expected.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "../harness/mod.rs"]
mod harness;

mod ground;

use std::env;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use ground::{Ground, MANX, MANX_IPAM, NETWORK, Program};
use harness::Plugin;

/// Leases in the store, and how many times each verb is timed.
const SIZES: [(u32, usize); 4] = [(0, 100), (250, 100), (2_000, 60), (20_000, 30)];

/// What must hold at the largest size.
const TIMES_FASTER: f64 = 30.0;
/// What must hold between the largest and the smallest.
const TIMES_SLOWER_THAN_EMPTY: f64 = 3.0;

const SUBNET: &str = "10.0.0.0/15";
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// One of the two programs with its store.
struct Contender {
    ground: Ground,
    plugin: Plugin,
    stdin: PathBuf,
    add: Vec<Duration>,
    del: Vec<Duration>,
}

impl Contender {
    fn new(program: Program, binary: &Path, leases: u32) -> Self {
        let ground = Ground::new();
        let link = ground.bin().join(MANX_IPAM);
        fs::remove_file(&link).unwrap();
        symlink(binary, link).unwrap();
        for number in 0..leases {
            let address = Ipv4Addr::from_bits(FIRST.to_bits() + number);
            ground.write(&address.to_string(), &format!("{:064x}\r\neth0", number));
            if number + 1 == leases {
                ground.write("last_reserved_ip.0", &address.to_string());
            }
        }
        let plugin = ground.ipam_plugin(program, &ground.ipam(&[SUBNET]));
        let stdin = ground.host.scratch().file("stdin", plugin.conf.to_string());
        Self { ground, plugin, stdin, add: Vec::new(), del: Vec::new() }
    }

    /// From the start of the process to its end.
    fn time(&self, verb: &str, id: &str) -> Duration {
        let pod = self.ground.container(id, "eth0");
        let mut command = self.plugin.call(verb).pod(&pod).command();
        command.stdin(File::open(&self.stdin).unwrap()).stdout(Stdio::null()).stderr(Stdio::null());
        let begin = Instant::now();
        let status = command.status().unwrap();
        let took = begin.elapsed();
        assert!(status.success(), "{verb} of {NETWORK} by {:?}", self.plugin.binary());
        took
    }
}

/// The value that so many of a hundred do not exceed, in milliseconds.
fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() - 1) * percent / 100].as_secs_f64() * 1e3
}

/// p50 and p90 in milliseconds.
fn quantiles_ms(durations: &[Duration]) -> [f64; 2] {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    [50, 90].map(|percent| percentile_ms(&sorted, percent))
}

/// A row for each verb: host-local's and our p50.
fn measure(binary: &Path, leases: u32, times: usize) -> [[f64; 2]; 2] {
    let mut contenders =
        [Program::HostLocal, Program::Manx].map(|program| Contender::new(program, binary, leases));
    for turn in 0..=times {
        let id = format!("{:064x}", (1u64 << 40) + u64::try_from(turn).unwrap());
        for verb in ["ADD", "DEL"] {
            for contender in &mut contenders {
                let took = contender.time(verb, &id);
                // The first may read what all later ones know.
                if turn > 0 {
                    if verb == "ADD" { &mut contender.add } else { &mut contender.del }.push(took);
                }
            }
        }
    }
    let [theirs, ours] = contenders.each_ref();
    for contender in [theirs, ours] {
        assert_eq!(contender.ground.leases().len(), usize::try_from(leases).unwrap());
    }
    [("ADD", &theirs.add, &ours.add), ("DEL", &theirs.del, &ours.del)].map(|(verb, theirs, ours)| {
        let ([theirs, theirs_slow], [ours, ours_slow]) = (quantiles_ms(theirs), quantiles_ms(ours));
        println!(
            "| {leases} | {verb} | {theirs:.1} / {theirs_slow:.1} | {ours:.2} / {ours_slow:.2} | {:.1} |",
            theirs / ours
        );
        [theirs, ours]
    })
}

fn main() -> ExitCode {
    let binary = env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let binary = PathBuf::from(binary.as_deref().unwrap_or(MANX));
    println!("| leases | verb | host-local p50 / p90 ms | manx-ipam p50 / p90 ms | times faster |");
    println!("|---:|---|---:|---:|---:|");
    let rows = SIZES.map(|(leases, times)| measure(&binary, leases, times));
    let (empty, largest) = (rows[0], rows[SIZES.len() - 1]);
    let mut missed = false;
    println!();
    for (index, verb) in ["ADD", "DEL"].iter().enumerate() {
        let ([theirs, ours], [_, ours_empty]) = (largest[index], empty[index]);
        let (faster, slower) = (theirs / ours, ours / ours_empty);
        println!(
            "{verb} with {} leases: {faster:.0} times faster than host-local (target {TIMES_FASTER}), \
             {slower:.1} times as long as with none (target {TIMES_SLOWER_THAN_EMPTY})",
            SIZES[SIZES.len() - 1].0
        );
        missed |= faster < TIMES_FASTER || slower > TIMES_SLOWER_THAN_EMPTY;
    }
    if missed {
        eprintln!("a target is missed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
