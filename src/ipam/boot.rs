// SPDX-License-Identifier: Apache-2.0
//! When this boot began, and its name.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use crate::state::{file::TEXT_BYTES_MAX, read_text};

/// Leases are older than the boot only by more than what the clock was off by.
const MARGIN: Duration = Duration::from_secs(2);

/// When the kernel started, a little earlier than the clock says.
pub(super) fn began() -> Option<SystemTime> {
    let uptime = read_text(Path::new("/proc/uptime"), TEXT_BYTES_MAX).ok()?;
    let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    SystemTime::now().checked_sub(Duration::try_from_secs_f64(seconds).ok()? + MARGIN)
}

/// The kernel's name for this boot (random(4)); empty where it tells none.
pub(super) fn id() -> String {
    let id = read_text(Path::new("/proc/sys/kernel/random/boot_id"), TEXT_BYTES_MAX);
    let id = id.unwrap_or_default();
    id.trim().to_owned()
}
