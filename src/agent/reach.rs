// SPDX-License-Identifier: Apache-2.0
//! How long it takes from what the API server tells until the kernel has it.
//!
//! A change is heard, written to the peers file, and made by a pass that reads the file.
//! Pass and writer are threads of their own: a pass may end before the writer knows that
//! the file is in place, and one that began before that may have read the old one. Knows
//! no clock.

use std::time::{Duration, Instant};

/// The change that is under way.
#[derive(Debug, Default)]
pub(crate) struct Reach(Option<UnderWay>);

#[derive(Debug)]
struct UnderWay {
    heard: Instant,
    /// A pass that began before has not read it.
    writing: Instant,
    /// A pass that began afterwards has.
    written: Option<Instant>,
}

impl Reach {
    /// Notes that the file is about to be written with a change that was heard at `heard`. A
    /// change that is still under way counts with it, by the time at which it was heard.
    pub(crate) fn writing(&mut self, heard: Instant, now: Instant) {
        let heard = self.0.take().map_or(heard, |before| before.heard.min(heard));
        self.0 = Some(UnderWay { heard, writing: now, written: None });
    }

    /// The file is in place, or could not be written.
    pub(crate) fn wrote(&mut self, done: bool, now: Instant) {
        match &mut self.0 {
            Some(under_way) if done => under_way.written = Some(now),
            under_way => *under_way = None,
        }
    }

    /// A pass began, and at `made` had made what it `changed`, if anything; how long that
    /// took since it was heard, where it was this change.
    pub(crate) fn passed(
        &mut self,
        began: Instant,
        changed: bool,
        made: Instant,
    ) -> Option<Duration> {
        let under_way = self.0.take_if(|it| {
            let has_read = it.written.is_some_and(|written| began >= written);
            has_read || (changed && began >= it.writing)
        })?;
        changed.then(|| made.saturating_duration_since(under_way.heard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_change_is_in_the_kernel_when_the_pass_that_read_it_has_made_it() {
        let zero = Instant::now();
        let at = |ms: u32| zero + MS * ms;
        let mut reach = Reach::default();
        assert_eq!(reach.passed(at(0), true, at(1)), None, "nothing is under way");
        reach.writing(at(0), at(50));
        assert_eq!(reach.passed(at(49), true, at(52)), None, "it read the file before");
        assert_eq!(reach.passed(at(51), false, at(52)), None, "it may have");
        // The file is in place before its writer knows that.
        assert_eq!(reach.passed(at(54), true, at(60)), Some(MS * 60));
        reach.wrote(true, at(61));
        assert_eq!(reach.passed(at(62), true, at(63)), None, "once");
    }

    #[test]
    fn a_change_that_needs_nothing_of_the_kernel_is_over_with_the_next_pass() {
        let zero = Instant::now();
        let at = |ms: u32| zero + MS * ms;
        let mut reach = Reach::default();
        reach.writing(at(0), at(1));
        reach.wrote(true, at(2));
        assert_eq!(reach.passed(at(3), false, at(4)), None);
        assert_eq!(reach.passed(at(90), true, at(91)), None);
        reach.writing(at(100), at(101));
        reach.wrote(false, at(102));
        assert_eq!(reach.passed(at(103), true, at(104)), None, "it was not written");
    }

    #[test]
    fn of_several_changes_the_first_counts() {
        let zero = Instant::now();
        let at = |ms: u32| zero + MS * ms;
        let mut reach = Reach::default();
        for (heard, writing) in [(0, 1), (10, 11)] {
            reach.writing(at(heard), at(writing));
            reach.wrote(true, at(writing + 1));
        }
        assert_eq!(reach.passed(at(13), true, at(20)), Some(MS * 20));
    }
}
