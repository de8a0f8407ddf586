// SPDX-License-Identifier: Apache-2.0
//! How soon the next pass may follow, however many events ask for one.
//!
//! A few passes follow each other at once, for a link that goes down and up
//! takes several; a stream of events gets a pass every now and then, the more
//! rarely the longer a pass takes.

use std::time::{Duration, Instant};

/// A pass may follow the last one by this, in the long run.
const INTERVAL: Duration = Duration::from_millis(100);
/// And one part in so many of its time may a watch spend on passes that repair
/// nothing.
const SHARE: u32 = 4;
/// But however slow they are, what is to be repaired waits no longer.
const INTERVAL_MAX: Duration = Duration::from_millis(500);
/// So many passes in a row may repair something before each waits twice as long
/// as the one before: somebody else is at work, who undoes what is done here.
const REPAIRS_MAX: u32 = 50;
/// One of them is forgotten in this time.
const FORGOTTEN: Duration = Duration::from_secs(1);
/// The longest wait between two repairs.
const CONTESTED_MAX: Duration = Duration::from_secs(5);
/// How far ahead of its time a pass may be.
const BURST: Duration = Duration::from_millis(600);

/// What a pass found to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Work {
    Nothing,
    /// What the files say anew, which nobody undid.
    Wanted,
    /// What was otherwise than the files said before.
    Repair,
}

/// When passes may be.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the next one would be due without any burst.
    due: Instant,
    /// How many passes repaired something, less those that are forgotten.
    repairs: u32,
    /// Up to when they are.
    counted: Instant,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Self { due: now, repairs: 0, counted: now }
    }

    /// How long to wait before a pass.
    pub(crate) fn delay(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now).saturating_sub(BURST)
    }

    /// Counts a pass that ended just now.
    pub(crate) fn passed(&mut self, now: Instant, took: Duration, work: Work) {
        while self.repairs > 0 && now.saturating_duration_since(self.counted) >= FORGOTTEN {
            self.repairs -= 1;
            self.counted += FORGOTTEN;
        }
        if self.repairs == 0 {
            self.counted = now;
        }
        self.repairs += u32::from(work == Work::Repair);
        let interval = match work {
            Work::Nothing | Work::Wanted => (took * SHARE).clamp(INTERVAL, INTERVAL_MAX),
            Work::Repair => INTERVAL
                .saturating_mul(1 << self.repairs.saturating_sub(REPAIRS_MAX).min(10))
                .min(CONTESTED_MAX),
        };
        self.due = self.due.max(now) + interval;
    }

    /// Whether somebody else undoes what is done here, as far as can be told.
    pub(crate) fn is_contested(&self) -> bool {
        self.repairs > REPAIRS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many passes a stream of events brings about within `limit`.
    fn passes(took: Duration, limit: Duration) -> u32 {
        let begin = Instant::now();
        let (mut now, mut passes) = (begin, 0);
        let mut pace = Pace::new(now);
        while now < begin + limit {
            now += pace.delay(now) + took;
            pace.passed(now, took, Work::Nothing);
            passes += 1;
        }
        passes
    }

    /// Nodes that join a cluster one after another, each in a new peers file.
    #[test]
    fn files_that_change_again_and_again_are_no_contest() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..500 {
            now += Duration::from_millis(250);
            assert_eq!(pace.delay(now), Duration::ZERO);
            pace.passed(now, Duration::from_millis(10), Work::Wanted);
            // The events of one's own changes.
            pace.passed(now, Duration::from_millis(10), Work::Nothing);
            assert!(!pace.is_contested());
        }
        pace.passed(now, Duration::from_millis(10), Work::Repair);
        assert!(!pace.is_contested());
    }

    #[test]
    fn a_stream_of_events_brings_ten_passes_a_second() {
        let few = passes(Duration::from_millis(1), Duration::from_secs(10));
        assert!((100..=110).contains(&few), "{few}");
        // A slow one leaves the processor to others.
        let slow = passes(Duration::from_millis(200), Duration::from_secs(10));
        assert!((15..=22).contains(&slow), "{slow}");
    }

    /// Another program puts back at once what is repaired here.
    #[test]
    fn two_that_undo_each_other_do_not_go_on_at_that_pace() {
        let begin = Instant::now();
        let (mut now, mut passes) = (begin, 0);
        let mut pace = Pace::new(now);
        let mut until = |end: Duration, pace: &mut Pace| {
            let before = passes;
            while now < begin + end {
                now += pace.delay(now);
                pace.passed(now, Duration::from_millis(1), Work::Repair);
                // The events of one's own changes.
                pace.passed(now, Duration::from_millis(1), Work::Nothing);
                passes += 1;
            }
            passes - before
        };
        let first = until(Duration::from_secs(5), &mut pace);
        assert!(!pace.is_contested() || first >= REPAIRS_MAX, "{first}");
        until(Duration::from_secs(60), &mut pace);
        assert!(pace.is_contested());
        let later = until(Duration::from_secs(160), &mut pace);
        assert!((10..=150).contains(&later), "{later} in 100 s");
        // Left alone for a while, it repairs at once again.
        now += Duration::from_secs(120);
        pace.passed(now, Duration::ZERO, Work::Repair);
        assert!(!pace.is_contested() && pace.delay(now) == Duration::ZERO);
    }

    #[test]
    fn a_few_passes_follow_at_once_after_a_pause() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..100 {
            now += pace.delay(now);
            pace.passed(now, Duration::ZERO, Work::Nothing);
        }
        assert!(pace.delay(now) > Duration::from_millis(90));
        now += Duration::from_secs(1);
        for _ in 0..6 {
            assert_eq!(pace.delay(now), Duration::ZERO);
            pace.passed(now, Duration::from_millis(5), Work::Nothing);
        }
    }
}
