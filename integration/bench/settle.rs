// SPDX-License-Identifier: Apache-2.0
//! Waiting until the machine is done with what came before.
//!
//! A namespace that is dropped is taken down by the kernel some time later, and
//! that would be charged to whatever is measured next.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// Of the processors' time, what may be busy on a quiet machine.
const QUIET: f64 = 0.10;
/// A machine that others use never gets quiet.
const PATIENCE: Duration = Duration::from_secs(4);
const WINDOW: Duration = Duration::from_millis(200);

/// Processor time since boot, of all processors together.
#[derive(Clone, Copy, Debug)]
pub struct Processors {
    pub busy_s: f64,
    pub idle_s: f64,
}

impl Processors {
    /// Up to now, from /proc/stat.
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").expect("read /proc/stat");
        let first = text.lines().next().unwrap_or_default();
        let ticks: Vec<f64> =
            first.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        let idle_ticks: f64 = ticks.iter().skip(3).take(2).sum();
        // user, nice, system, idle, iowait, irq, softirq, steal; guest is part of user.
        let all: f64 = ticks.iter().take(8).sum();
        // USER_HZ is 100 wherever Linux runs.
        Self { busy_s: (all - idle_ticks) / 100.0, idle_s: idle_ticks / 100.0 }
    }

    /// What was spent since `before`.
    pub fn since(self, before: Self) -> Self {
        Self { busy_s: self.busy_s - before.busy_s, idle_s: self.idle_s - before.idle_s }
    }

    /// Of all processors' time, what was spent busy: 0 to 1.
    pub fn load(self) -> f64 {
        self.busy_s / (self.busy_s + self.idle_s).max(f64::EPSILON)
    }
}

/// Waits until the processors are idle, or for as long as is reasonable.
pub fn settle() {
    let end = Instant::now() + PATIENCE;
    loop {
        let before = Processors::now();
        thread::sleep(WINDOW);
        if Processors::now().since(before).load() < QUIET || Instant::now() > end {
            return;
        }
    }
}
