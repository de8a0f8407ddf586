//! How soon the next pass may follow, however many events ask for one.
//!
//! A few passes follow each other at once, for a link that goes down and up
//! takes several; a stream of events gets a pass every now and then, the more
//! rarely the longer a pass takes.

use std::time::{Duration, Instant};

/// A pass may follow the last one by this, in the long run.
const INTERVAL: Duration = Duration::from_millis(100);
/// And one part in so many of its time may a watch spend on passes that find
/// nothing to do.
const SHARE: u32 = 4;
/// But however slow they are, what is to be repaired waits no longer.
const INTERVAL_MAX: Duration = Duration::from_millis(500);
/// How far ahead of its time a pass may be.
const BURST: Duration = Duration::from_millis(600);

/// When passes may be.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the next one would be due without any burst.
    due: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now }
    }

    /// How long to wait before a pass.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now).saturating_sub(BURST)
    }

    /// Counts a pass that ended just now, and that found something to do or not.
    pub(super) fn passed(&mut self, now: Instant, took: Duration, useful: bool) {
        let interval = match useful {
            true => INTERVAL,
            false => (took * SHARE).clamp(INTERVAL, INTERVAL_MAX),
        };
        self.due = self.due.max(now) + interval;
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
            pace.passed(now, took, false);
            passes += 1;
        }
        passes
    }

    #[test]
    fn a_stream_of_events_brings_ten_passes_a_second() {
        let few = passes(Duration::from_millis(1), Duration::from_secs(10));
        assert!((100..=110).contains(&few), "{few}");
        // A slow one leaves the processor to others.
        let slow = passes(Duration::from_millis(200), Duration::from_secs(10));
        assert!((15..=22).contains(&slow), "{slow}");
    }

    #[test]
    fn a_few_passes_follow_at_once_after_a_pause() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..100 {
            now += pace.delay(now);
            pace.passed(now, Duration::ZERO, false);
        }
        assert!(pace.delay(now) > Duration::from_millis(90));
        now += Duration::from_secs(1);
        for _ in 0..6 {
            assert_eq!(pace.delay(now), Duration::ZERO);
            pace.passed(now, Duration::from_millis(5), false);
        }
    }
}
