// SPDX-License-Identifier: Apache-2.0
//! Counters of the kernel at two moments: what only grows says nothing, what grows now does.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    list::Gather,
    nft,
    node::{Backlog, Counters, Load, Processor, Surroundings, policy, tables},
    policy::TABLE,
    state::{file::TEXT_BYTES_MAX, read_text},
};

/// Between the two moments.
const APART: Duration = Duration::from_millis(200);

const NETSTAT: &str = "/proc/net/netstat";
const CONNTRACK: &str = "/proc/net/stat/nf_conntrack";
const MEMORY: &str = "/proc/meminfo";
const SOFTNET: &str = "/proc/net/softnet_stat";
const SNMP: &str = "/proc/net/snmp";
const PROCESSORS: &str = "/proc/stat";
/// Packets that came by another device than the way back to their source.
const REVERSE_PATH: &str = "IPReversePathFilter";
const WRONG_CHECKSUMS: &str = "InCsumErrors";
/// What the names of our tables of nftables begin with.
const OURS: &str = "manx";

/// The first of the two.
pub(super) struct Samples {
    begin: Instant,
    first: Sample,
}

/// One moment.
struct Sample {
    reverse_path: Option<u64>,
    counters: Option<Counters>,
    load: Load,
}

impl Samples {
    pub(super) fn begin() -> Self {
        Self { begin: Instant::now(), first: Sample::take() }
    }

    /// Waits for the second, unless the time has passed with other work, and notes both.
    pub(super) fn end(self, surroundings: &mut Surroundings) {
        thread::sleep(APART.saturating_sub(self.begin.elapsed()));
        let second = Sample::take();
        surroundings.reverse_path = self.first.reverse_path.zip(second.reverse_path);
        surroundings.counters = self.first.counters.zip(second.counters);
        surroundings.load = Some((self.first.load, second.load));
    }
}

impl Sample {
    fn take() -> Self {
        let text = |path| read_text(Path::new(path), TEXT_BYTES_MAX).ok();
        let counters = |softnet: String| {
            // Absent while nothing tracks connections.
            let conntrack = text(CONNTRACK).unwrap_or_default();
            let [dropped, squeezed] = [1, 2].map(|column| sum(&softnet, column));
            Counters {
                insert_failed: sum_named(&conntrack, "insert_failed"),
                dropped: sum_named(&conntrack, "drop"),
                early_dropped: sum_named(&conntrack, "early_drop"),
                backlog_dropped: dropped,
                squeezed,
            }
        };
        let (softnet, processors) = (text(SOFTNET), text(PROCESSORS).unwrap_or_default());
        let queues = softnet.iter().flat_map(|text| text.lines().filter_map(of_queue));
        let ours = nft::tables(OURS).unwrap_or_default();
        let isolates = ours.iter().any(|table| table == TABLE);
        let load = Load {
            backlog: queues.gather(),
            processors: processors.lines().filter_map(processor).gather(),
            wrong_checksums: text(SNMP).and_then(|text| counter(&text, "Udp:", WRONG_CHECKSUMS)),
            sources: sources(ours),
            denied: if isolates { policy::denied().unwrap_or_default() } else { Vec::new() },
        };
        Self {
            reverse_path: text(NETSTAT).and_then(|text| counter(&text, "TcpExt:", REVERSE_PATH)),
            counters: softnet.map(counters),
            load,
        }
    }
}

/// What the source checks of all our tables dropped.
fn sources(ours: Vec<String>) -> Vec<(String, u64)> {
    let tables = ours.into_iter().filter(|table| table.starts_with(tables::PREFIX));
    let dropped = |table: String| {
        let dropped = nft::dropped_sources(&table).ok()??;
        Some((table, dropped))
    };
    tables.filter_map(dropped).gather()
}

/// The memory of the machine; 0 where that is not known.
pub(super) fn memory_bytes() -> u64 {
    let text = read_text(Path::new(MEMORY), TEXT_BYTES_MAX).unwrap_or_default();
    let kibibytes = text.strip_prefix("MemTotal:").and_then(|rest| rest.split_whitespace().next());
    kibibytes.and_then(|number| number.parse::<u64>().ok()).map_or(0, |number| number << 10)
}

/// The sum of a column, in hexadecimal, with a line for each processor.
fn sum(text: &str, column: usize) -> u64 {
    let numbers = text.lines().filter_map(|line| line.split_whitespace().nth(column));
    numbers.filter_map(|number| u64::from_str_radix(number, 16).ok()).sum()
}

/// As [`sum`], of the column that the first line names.
fn sum_named(text: &str, name: &str) -> u64 {
    let (names, values) = text.split_once('\n').unwrap_or_default();
    let column = names.split_whitespace().position(|one| one == name);
    column.map_or(0, |column| sum(values, column))
}

/// A line of names, and behind it one of their values.
fn counter(text: &str, kind: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(kind));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|one| one == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
}

/// Of softnet_stat: received, dropped, squeezed and so on, in hexadecimal.
fn of_queue(line: &str) -> Option<Backlog> {
    let mut values = line.split_whitespace().skip(1);
    let mut next = || u64::from_str_radix(values.next()?, 16).ok();
    Some(Backlog { dropped: next()?, squeezed: next()? })
}

/// Of /proc/stat: user, nice, system, idle, iowait, irq, softirq and steal (proc_stat(5)).
fn processor(line: &str) -> Option<Processor> {
    let (name, values) = line.split_once(' ')?;
    name.strip_prefix("cpu")?.parse::<u32>().ok()?;
    let values = values.split_whitespace().take(8).map(|value| value.parse().ok());
    let values: Vec<u64> = values.collect::<Option<_>>()?;
    Some(Processor {
        total: values.iter().copied().fold(0, u64::saturating_add),
        softirq: *values.get(6)?,
        steal: *values.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_name() {
        let text = "TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 3 42\n\
                    IpExt: InNoRoutes IPReversePathFilter\nIpExt: 7 8\n";
        assert_eq!(counter(text, "TcpExt:", REVERSE_PATH), Some(42));
        assert_eq!(counter(text, "IpExt:", "InNoRoutes"), Some(7));
        assert_eq!(counter(text, "IpExt:", "Other"), None);
        assert_eq!(counter("", "IpExt:", "Other"), None);
    }

    #[test]
    fn counters_of_processors_are_read() {
        let expected = Backlog { dropped: 16, squeezed: 2 };
        assert_eq!(of_queue("0000bc4f 00000010 00000002 00000000"), Some(expected));
        assert_eq!((of_queue("0"), of_queue("x y z")), (None, None));
        let expected = Processor { total: 36, softirq: 7, steal: 8 };
        assert_eq!(processor("cpu11 1 2 3 4 5 6 7 8 9 10"), Some(expected));
        for other in ["cpu  1 2 3 4 5 6 7 8", "intr 1 2 3 4 5 6 7 8 9", "cpu0 1 2", ""] {
            assert_eq!(processor(other), None, "{other}");
        }
    }

    #[test]
    fn columns_are_added_up_over_all_processors() {
        let conntrack = "entries  searched insert_failed drop early_drop\n\
                         00000010 00000000 0000000a 00000001 00000000\n\
                         00000010 00000000 000000f0 00000001 00000002\n";
        let sums = ["insert_failed", "drop", "early_drop", "other"];
        assert_eq!(sums.map(|name| sum_named(conntrack, name)), [250, 2, 2, 0]);
        let softnet = "0000ffff 00000003 00000010 00000000\n0000ffff 00000001 0000000f 0\n";
        assert_eq!([sum(softnet, 1), sum(softnet, 2), sum(softnet, 99)], [4, 31, 0]);
        assert_eq!((sum("", 0), sum_named("", "drop")), (0, 0));
    }
}
