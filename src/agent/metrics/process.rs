// SPDX-License-Identifier: Apache-2.0
//! What the kernel knows of this process, by the names that all exporters use.

use std::{fmt, fs, path::Path};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::list::Gather;
use crate::state::{file::TEXT_BYTES_MAX, read_text};

/// In what /proc counts times, on all of Linux' architectures that anybody uses.
const TICKS_PER_SECOND: f64 = 100.0;

/// Asks when it is asked.
#[derive(Debug)]
pub(super) struct Process;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Times {
    cpu_seconds: f64,
    /// Since the machine's boot.
    started_seconds: f64,
}

/// Out of /proc/PID/stat.
fn times(stat: &str) -> Option<Times> {
    // The program's name, in parentheses, may have any character.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').gather();
    // Behind the name the third field comes first (proc_pid_stat(5)).
    let ticks = |field: usize| fields.get(field.checked_sub(3)?)?.parse::<f64>().ok();
    Some(Times {
        cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
        started_seconds: ticks(22)? / TICKS_PER_SECOND,
    })
}

/// The number behind `key` in a file of /proc that has one to a line.
fn number(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let text = |path: &str| read_text(Path::new(path), TEXT_BYTES_MAX).unwrap_or_default();
        let bytes = |status: &str, key: &str| number(status, key).map(|kib| kib * 1024.0);
        let status = text("/proc/self/status");
        let times = times(&text("/proc/self/stat"));
        let booted = number(&text("/proc/stat"), "btime ");
        let started = times.zip(booted).map(|(times, booted)| booted + times.started_seconds);
        let open = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        if let Some(Times { cpu_seconds, .. }) = times {
            let counter = ConstCounter::new(cpu_seconds);
            let help = "Time of processors that was spent";
            let name = "process_cpu";
            let metric = counter.metric_type();
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                Some(&Unit::Seconds),
                metric,
            )?)?;
        }
        for (name, unit, help, value) in [
            (
                "process_resident_memory",
                Some(Unit::Bytes),
                "Memory that is in use",
                bytes(&status, "VmRSS:"),
            ),
            (
                "process_virtual_memory",
                Some(Unit::Bytes),
                "Memory that was asked for",
                bytes(&status, "VmSize:"),
            ),
            ("process_start_time", Some(Unit::Seconds), "When it was started", started),
            ("process_open_fds", None, "Open files", open.map(|count| count as f64)),
        ] {
            let Some(gauge) = value.map(ConstGauge::new) else { continue };
            let metric = gauge.metric_type();
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), metric)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_whatever_the_program_is_called() {
        let stat = "7 (a) R 1 (x) S 1 7 7 0 -1 4194304 160 0 0 0 150 50 0 0 20 0 1 0 12345 1000";
        let expected = Times { cpu_seconds: 2.0, started_seconds: 123.45 };
        assert_eq!(times(stat), Some(expected));
        assert_eq!(times("7 (a"), None);
        assert_eq!(times("7 (a) S 1"), None);
    }

    #[test]
    fn a_number_is_found_by_its_key() {
        let status = "Name:\tx\nVmSize:\t  2000 kB\nVmRSS:\t  1000 kB\n";
        assert_eq!(number(status, "VmRSS:"), Some(1000.0));
        assert_eq!(number(status, "VmSwap:"), None);
        assert_eq!(number("cpu 1 2\nbtime 1700000000\n", "btime "), Some(1_700_000_000.0));
    }
}
