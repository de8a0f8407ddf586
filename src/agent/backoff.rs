// SPDX-License-Identifier: Apache-2.0
//! How long to wait after a failure, so that a thousand agents do not ask at once.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// Waits that double up to a limit, each a random part of that ("full jitter").
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure, and tells what to wait after it: no less than what the server
    /// asked for, of which is believed as much as the longest wait.
    pub(crate) fn failed(&mut self, asked: Duration) -> Duration {
        let limit = self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        asked.min(self.longest) + part_of(limit)
    }
}

/// A random part of a time.
pub(crate) fn part_of(whole: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() >> 32;
    let random = u32::try_from(random).unwrap_or_default();
    whole.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_differ() {
        let longest = Duration::from_secs(30);
        let mut backoff = Backoff::new(Duration::from_millis(500), longest);
        let waits: Vec<Duration> = (0..200).map(|_| backoff.failed(Duration::ZERO)).collect();
        assert!(waits[0] <= Duration::from_millis(500) && waits[1] <= Duration::from_secs(1));
        assert!(waits.iter().all(|wait| *wait <= longest));
        assert!(waits[10..].iter().max() > waits[10..].iter().min());
        assert!(waits[10..].iter().sum::<Duration>() / 190 > longest / 4, "they are not short");
        backoff.reset();
        assert!(backoff.failed(Duration::ZERO) <= Duration::from_millis(500));
    }

    #[test]
    fn what_the_server_asks_for_is_waited_at_least() {
        let longest = Duration::from_secs(30);
        let mut backoff = Backoff::new(Duration::from_millis(500), longest);
        let wait = backoff.failed(Duration::from_secs(5));
        assert!((5000..=5500).contains(&wait.as_millis()), "{wait:?}");
        assert!(backoff.failed(Duration::from_secs(86_400)) < longest * 2);
    }
}
