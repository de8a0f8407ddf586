// SPDX-License-Identifier: Apache-2.0
//! How long a call waits for another writer.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// How long an ADD or a STATUS waits for somebody else who changes the fabric.
const WRITER_PATIENCE: Duration = Duration::from_secs(1);

/// Whether this call has waited for a writer in vain.
pub(super) static HAS_WAITED: AtomicBool = AtomicBool::new(false);

/// How long this call still waits for somebody who changes the fabric.
pub(super) fn patience() -> Duration {
    if HAS_WAITED.load(Ordering::Relaxed) { Duration::ZERO } else { WRITER_PATIENCE }
}
