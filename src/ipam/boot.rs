// SPDX-License-Identifier: Apache-2.0
//! When this boot began, and its name.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use crate::state::{file::TEXT_BYTES_MAX, read_text};

/// Leases are older than the boot only by more than this: two seconds for what the clock was off by, and
/// one for the fraction that [`since_boot`] leaves out.
const MARGIN: Duration = Duration::from_secs(3);

/// When the kernel started, a little earlier than the clock says.
pub(super) fn began() -> Option<SystemTime> {
    let uptime = read_text(Path::new("/proc/uptime"), TEXT_BYTES_MAX).ok()?;
    SystemTime::now().checked_sub(since_boot(&uptime)? + MARGIN)
}

/// The whole seconds of the first number of /proc/uptime (fs/proc/uptime.c).
fn since_boot(uptime: &str) -> Option<Duration> {
    let (seconds, _) = uptime.split_once('.')?;
    Some(Duration::from_secs(seconds.parse().ok()?))
}

/// The kernel's name for this boot (random(4)); empty where it tells none.
pub(super) fn id() -> String {
    let id = read_text(Path::new("/proc/sys/kernel/random/boot_id"), TEXT_BYTES_MAX);
    let id = id.unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_since_when_it_runs() {
        assert_eq!(since_boot("350735.47 234388.90\n"), Some(Duration::from_secs(350_735)));
        assert_eq!(since_boot("0.03 0.00\n"), Some(Duration::ZERO));
        for text in ["", "350735", "-1.00 0.00", "a.b c.d"] {
            assert_eq!(since_boot(text), None, "{text}");
        }
        assert!(began().is_some_and(|began| began < SystemTime::now()));
    }
}
