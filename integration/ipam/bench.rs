// SPDX-License-Identifier: Apache-2.0
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

#[path = "../bench/machine.rs"]
mod machine;
#[path = "../bench/quantile.rs"]
mod quantile;

mod ground;
mod numbers;

use std::env;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use ground::{Ground, MANX_IPAM, NETWORK, Program};
use harness::Plugin;
use machine::Machine;
use numbers::{Report, Row};
use quantile::Times;

/// Leases in the store, and how many times each verb is timed.
const SIZES: [(u32, usize); 4] = [(0, 100), (250, 100), (2_000, 60), (20_000, 30)];

const VERBS: [&str; 3] = ["VERSION", "ADD", "DEL"];

const SUBNET: &str = "10.0.0.0/15";
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// One of the two programs with its store.
struct Contender {
    ground: Ground,
    plugin: Plugin,
    stdin: PathBuf,
    /// Of each of the verbs.
    times: [Vec<Duration>; VERBS.len()],
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
        Self { ground, plugin, stdin, times: Default::default() }
    }

    /// Whether the container has a lease, looked at outside of what is timed: a
    /// verb that does nothing would be the fastest.
    fn assert_done(&self, verb: &str, id: &str, answer: &[u8], address: &mut Option<String>) {
        if verb == "ADD" {
            let result: serde_json::Value = serde_json::from_slice(answer).unwrap();
            let cidr = result["ips"][0]["address"].as_str().unwrap();
            *address = cidr.split('/').next().map(String::from);
        }
        let Some(address) = address else { return };
        let lease = fs::read_to_string(self.ground.store().join(&*address)).unwrap_or_default();
        let binary = self.plugin.binary();
        assert_eq!(
            lease.contains(id),
            verb == "ADD",
            "{binary:?}: {address} after {verb}: {lease:?}"
        );
    }

    /// From the start of the process to its end, and what it answered.
    fn time(&self, verb: &str, id: &str) -> (Duration, Vec<u8>) {
        let pod = self.ground.container(id, "eth0");
        let mut command = self.plugin.call(verb).pod(&pod).command();
        let answer = self.ground.host.scratch().path().join("answer");
        command.stdin(File::open(&self.stdin).unwrap()).stdout(File::create(&answer).unwrap());
        command.stderr(Stdio::null());
        let begin = Instant::now();
        let status = command.status().unwrap();
        let took = begin.elapsed();
        assert!(status.success(), "{verb} of {NETWORK} by {:?}", self.plugin.binary());
        (took, fs::read(answer).unwrap())
    }
}

/// A row for each verb.
fn measure(binary: &Path, leases: u32, times: usize) -> Vec<Row> {
    let mut contenders =
        [Program::HostLocal, Program::Manx].map(|program| Contender::new(program, binary, leases));
    for turn in 0..=times {
        let id = format!("{:064x}", (1u64 << 40) + u64::try_from(turn).unwrap());
        let mut addresses = [None, None];
        for (number, verb) in VERBS.iter().enumerate() {
            // Each is the first as often as the other.
            let order = if turn % 2 == 0 { [0, 1] } else { [1, 0] };
            for which in order {
                let contender = &mut contenders[which];
                let (took, answer) = contender.time(verb, &id);
                contender.assert_done(verb, &id, &answer, &mut addresses[which]);
                // The first may read what all later ones know.
                if turn > 0 {
                    contender.times[number].push(took);
                }
            }
        }
    }
    let [theirs, ours] = contenders.each_ref();
    for contender in [theirs, ours] {
        assert_eq!(contender.ground.leases().len(), usize::try_from(leases).unwrap());
    }
    let times = |of: &Contender, number: usize| Times::of(of.times[number].iter().copied());
    let rows = VERBS.into_iter().enumerate().map(|(number, verb)| Row {
        leases,
        verb,
        host_local: times(theirs, number),
        manx_ipam: times(ours, number),
    });
    rows.collect()
}

/// hack/bench-ipam gives the binary and the directory for what is written.
fn main() -> ExitCode {
    let (quick, arguments): (Vec<String>, Vec<String>) =
        env::args().skip(1).filter(|arg| arg != "--bench").partition(|arg| arg == "--quick");
    let quick = !quick.is_empty();
    let [binary, out] = arguments.as_slice() else {
        eprintln!("run hack/bench-ipam");
        return ExitCode::from(2);
    };
    let binary = Path::new(binary);
    let mut report = Report { machine: Machine::here(binary), quick, rows: Vec::new() };
    for (leases, times) in SIZES {
        eprintln!("bench-ipam: {leases} leases");
        report.rows.extend(measure(binary, leases, if quick { times / 10 } else { times }));
    }
    println!("{}", report.page());
    let faults = report.faults();
    for fault in &faults {
        eprintln!("impossible: {fault}");
    }
    if !faults.is_empty() {
        return ExitCode::FAILURE;
    }
    fs::create_dir_all(out).unwrap();
    let json = serde_json::to_string_pretty(&report).unwrap();
    fs::write(Path::new(out).join("ipam.json"), json + "\n").unwrap();
    fs::write(Path::new(out).join("ipam.md"), report.page()).unwrap();
    if report.targets().iter().all(|(_, is_met)| *is_met) {
        return ExitCode::SUCCESS;
    }
    eprintln!("a target is missed");
    ExitCode::FAILURE
}
