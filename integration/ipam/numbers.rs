// SPDX-License-Identifier: Apache-2.0
//! What the benchmark of addresses found: as JSON, as a table, and what of it
//! cannot be.

use std::fmt::Write as _;

use serde::Serialize;

use crate::machine::Machine;
use crate::quantile::Times;

/// What must hold at the largest size.
const TIMES_FASTER: f64 = 30.0;
/// What must hold between the largest and the smallest.
const TIMES_AS_LONG_AS_EMPTY: f64 = 3.0;
/// A verb takes at least what VERSION of the same program takes, within noise.
const NOISE: f64 = 1.05;

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub quick: bool,
    pub rows: Vec<Row>,
}

/// One verb with so many leases in the store.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    pub leases: u32,
    pub verb: &'static str,
    pub host_local: Times,
    pub manx_ipam: Times,
}

impl Row {
    pub fn times_faster(&self) -> f64 {
        self.host_local.p50_ms / self.manx_ipam.p50_ms
    }

    fn name(&self) -> String {
        format!("{} with {} leases", self.verb, self.leases)
    }
}

impl Report {
    fn row(&self, verb: &str, leases: Option<u32>) -> Option<&Row> {
        self.rows.iter().find(|row| row.verb == verb && Some(row.leases) == leases)
    }

    fn of_size(&self, verb: &str, is_largest: bool) -> Option<&Row> {
        let sizes = self.rows.iter().map(|row| row.leases);
        self.row(verb, if is_largest { sizes.max() } else { sizes.min() })
    }

    /// What cannot be.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for row in &self.rows {
            let start = self.row("VERSION", Some(row.leases));
            for (program, times, least) in [
                ("host-local", row.host_local, start.map(|start| start.host_local)),
                ("manx-ipam", row.manx_ipam, start.map(|start| start.manx_ipam)),
            ] {
                let name = format!("{program}, {}", row.name());
                let is_time = |ms: f64| ms.is_finite() && ms > 0.0;
                if times.count == 0 || ![times.p10_ms, times.p50_ms].into_iter().all(is_time) {
                    faults.push(format!("{name}: {times:?} is no time"));
                }
                match least {
                    Some(least) if times.p50_ms * NOISE < least.p10_ms => faults.push(format!(
                        "{name}: {:.3} ms is less than the {:.3} of VERSION, which does nothing",
                        times.p50_ms, least.p10_ms
                    )),
                    Some(_) => {}
                    None => faults.push(format!("{name}: VERSION was not measured beside it")),
                }
            }
        }
        faults
    }

    /// Each target as a sentence, and whether it is met.
    pub fn targets(&self) -> Vec<(String, bool)> {
        let verbs = ["ADD", "DEL"].into_iter();
        let pairs =
            verbs.filter_map(|verb| Some((self.of_size(verb, true)?, self.of_size(verb, false)?)));
        pairs
            .map(|(largest, empty)| {
                let faster = largest.times_faster();
                let longer = largest.manx_ipam.p50_ms / empty.manx_ipam.p50_ms;
                let told = format!(
                    "{}: {faster:.0} times as fast as host-local (target {TIMES_FASTER}), {longer:.1} \
                     times as long as with {} (target {TIMES_AS_LONG_AS_EMPTY})",
                    largest.name(),
                    empty.leases
                );
                (told, faster >= TIMES_FASTER && longer <= TIMES_AS_LONG_AS_EMPTY)
            })
            .collect()
    }

    /// For a reader.
    pub fn page(&self) -> String {
        let machine = &self.machine;
        let mut page = format!(
            "# What an address costs\n\nMade by `hack/bench-ipam{}` on {} at commit {}: manx-ipam and \
             host-local in turns, each on a store of its own with the same leases; whole processes, from \
             before their start until their end is known; ms. VERSION is what starting the program \
             takes. After every ADD its lease is looked for, and after every DEL that it is gone.\n\n\
             - {} x {}, {} MiB, Linux {}, load before {}\n- manx: {}\n",
            if self.quick { " --quick" } else { "" },
            machine.date,
            machine.commit,
            machine.processors,
            machine.processor,
            machine.memory_mib,
            machine.kernel,
            machine.load_before,
            machine.manx
        );
        page += "\n| leases | verb | host-local p50 / p90 | manx-ipam p50 / p90 | times as fast | runs |\n\
            |---:|---|---:|---:|---:|---:|\n";
        for row in &self.rows {
            let (theirs, ours) = (row.host_local, row.manx_ipam);
            let _ = writeln!(
                page,
                "| {} | {} | {:.1} / {:.1} | {:.2} / {:.2} | {:.1} | {} |",
                row.leases,
                row.verb,
                theirs.p50_ms,
                theirs.p90_ms,
                ours.p50_ms,
                ours.p90_ms,
                row.times_faster(),
                ours.count
            );
        }
        page.push('\n');
        for (told, is_met) in self.targets() {
            let _ = writeln!(page, "- {told}: {}", if is_met { "met" } else { "**missed**" });
        }
        page
    }
}
