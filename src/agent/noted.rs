// SPDX-License-Identifier: Apache-2.0
//! The note beside the peers file of how long that has said what it says.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use super::change::{Change, Note};
use crate::{
    state::{file::TEXT_BYTES_MAX, read, replace},
    text::json,
};

/// So many times in the time of a whole change an agent notes that it is there.
const TIMES: u32 = 4;

/// The file of it.
#[derive(Debug)]
pub(super) struct Noted {
    path: PathBuf,
    /// What was written last, and when.
    last: Option<(Note, Instant)>,
}

impl Noted {
    /// That of this peers file.
    pub(super) fn beside(peers_file: &Path) -> Self {
        Self { path: peers_file.with_extension("mode"), last: None }
    }

    /// What is there. What cannot be read is none: it only says how to go on.
    pub(super) fn read(&self) -> Option<Note> {
        json::read(&read(&self.path, TEXT_BYTES_MAX).ok()?).ok()
    }

    /// Notes a change as it is, where that is another one or was long ago.
    pub(super) fn keep(&mut self, change: &Change, now: Instant) {
        let Some(note) = change.note(now, clock()) else { return };
        let recent = self.last.as_ref().is_some_and(|(last, then)| {
            let age = now.saturating_duration_since(*then);
            last.is_of(&note) && age < change.limit / TIMES
        });
        if recent {
            return;
        }
        let written = serde_json::to_vec(&note).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|text| replace(&self.path, &text)) {
            log::debug!("write {}: {error}", self.path.display());
        }
        self.last = Some((note, now));
    }
}

/// Seconds since 1970.
pub(super) fn clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}
