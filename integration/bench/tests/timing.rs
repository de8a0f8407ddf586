// SPDX-License-Identifier: Apache-2.0
//! Whether times of many programs at once can be true.

use std::path::PathBuf;
use std::time::Duration;

use crate::measure::{Job, Sample, at_once};

/// Counts in a shell, which takes some milliseconds of processor time.
fn busy() -> Job {
    let script = "i=0; while [ $i -lt 2000 ]; do i=$((i+1)); done";
    Job {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), script.into()],
        env: Vec::new(),
        stdin: None,
        output: None,
    }
}

#[test]
fn a_burst_takes_no_less_than_its_processor_time_allows() {
    let jobs: Vec<Job> = (0..100).map(|_| busy()).collect();
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    for _ in 0..5 {
        let burst = at_once(&jobs);
        assert!(burst.processors() <= processors * 1.02, "{} processors", burst.processors());
    }
}

/// The clock of all runs begins at the same moment, whenever each gets its turn.
#[test]
fn a_job_that_waits_for_its_turn_is_not_faster_for_it() {
    let jobs: Vec<Job> = (0..100).map(|_| busy()).collect();
    let burst = at_once(&jobs);
    let longest = burst.samples.iter().map(|sample| sample.wall).max().unwrap_or_default();
    assert_eq!(burst.took, longest);
    // Of n runs on p processors, k need at least k / p times the work of one.
    let mut walls: Vec<Duration> = burst.samples.iter().map(|sample| sample.wall).collect();
    walls.sort();
    let spent: Duration = burst.samples.iter().map(Sample::cpu).sum();
    let middle = walls.get(walls.len() / 2).copied().unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    // With a wide margin, for half of the runs may be the cheaper half.
    assert!(middle * processors * 4 >= spent, "{middle:?} at half of {spent:?}");
}
