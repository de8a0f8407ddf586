//! Counters of the kernel at two moments: what only grows says nothing, what grows now does.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::state::{file::TEXT_BYTES_MAX, read_text};

/// Between the two moments.
const APART: Duration = Duration::from_millis(200);

const NETSTAT: &str = "/proc/net/netstat";
/// Packets that came by another device than the way back to their source.
const REVERSE_PATH: &str = "IPReversePathFilter";

/// The first of the two.
pub(super) struct Samples {
    begin: Instant,
    reverse_path: Option<u64>,
}

impl Samples {
    pub(super) fn begin() -> Self {
        Self { begin: Instant::now(), reverse_path: reverse_path() }
    }

    /// Waits for the second, unless the time has passed with other work.
    pub(super) fn reverse_path(self) -> Option<(u64, u64)> {
        let before = self.reverse_path?;
        thread::sleep(APART.saturating_sub(self.begin.elapsed()));
        Some((before, reverse_path()?))
    }
}

fn reverse_path() -> Option<u64> {
    counter(&read_text(Path::new(NETSTAT), TEXT_BYTES_MAX).ok()?, REVERSE_PATH)
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
}
