//! Counters of the kernel at two moments: what only grows says nothing, what grows now does.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::{
    node::{Counters, Surroundings},
    state::{file::TEXT_BYTES_MAX, read_text},
};

/// Between the two moments.
const APART: Duration = Duration::from_millis(200);

const NETSTAT: &str = "/proc/net/netstat";
const CONNTRACK: &str = "/proc/net/stat/nf_conntrack";
const MEMORY: &str = "/proc/meminfo";
const SOFTNET: &str = "/proc/net/softnet_stat";
/// Packets that came by another device than the way back to their source.
const REVERSE_PATH: &str = "IPReversePathFilter";

/// The first of the two.
pub(super) struct Samples {
    begin: Instant,
    first: Sample,
}

/// One moment.
struct Sample {
    reverse_path: Option<u64>,
    counters: Option<Counters>,
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
        Self {
            reverse_path: text(NETSTAT).and_then(|text| counter(&text, REVERSE_PATH)),
            counters: text(SOFTNET).map(counters),
        }
    }
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
fn counter(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let place = names.split_whitespace().position(|one| one == name);
        if let Some(place) = place {
            return values.split_whitespace().nth(place)?.parse().ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_name() {
        let text = "TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 3 42\n\
                    IpExt: InNoRoutes\nIpExt: 7\n";
        assert_eq!(counter(text, REVERSE_PATH), Some(42));
        assert_eq!(counter(text, "InNoRoutes"), Some(7));
        assert_eq!((counter(text, "Other"), counter("", "Other")), (None, None));
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
