// SPDX-License-Identifier: Apache-2.0
//! The file itself: written where it differs, as far as the plugin can read it.

use std::{io::ErrorKind, path::Path, time::Instant};

use super::{Keeper, RETRY};
use crate::{
    agent::{source::Source, standin},
    fabric::nodes::form_of,
    node::conflist,
    state::{
        file::{PEERS_BYTES_MAX, TEXT_BYTES_MAX, sweep},
        read, readable_directory, replace_synced,
    },
};

impl<S: Source> Keeper<S> {
    /// Writes the file where it differs, whoever changed it.
    pub(super) fn write(&mut self, now: Instant) {
        self.retry = None;
        let Some((wanted, form)) = &self.wanted else { return };
        let held = read(&self.path, PEERS_BYTES_MAX).unwrap_or_default();
        let is_held = held == wanted.as_bytes();
        if is_held && !standin::serves(&self.root, &self.path) {
            self.said.unwritten.clear();
            self.heard = None;
            return;
        }
        if let Some(words) = self.unreadable(wanted, *form, form_of(&held)) {
            return self.unwritten(format!("{} is not written: {words}", self.path.display()), now);
        }
        let directory = self.path.parent().unwrap_or(&self.path);
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
        // What a writer left that was killed.
        sweep(directory, |left| name.as_ref().is_some_and(|name| left.ends_with(name)));
        self.status.writing(self.heard);
        let written = readable_directory(directory)
            .and_then(|()| replace_synced(&self.path, wanted.as_bytes()));
        match written {
            Ok(()) => {
                self.status.wrote(true);
                self.heard = None;
                self.said.unwritten.clear();
                log::info!("{} is written", self.path.display());
            }
            Err(error) => {
                let mut words = format!("write {}: {error}", self.path.display());
                let is_full =
                    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
                if is_full {
                    let put = standin::put(&self.root, &self.path, wanted.as_bytes());
                    words += &match put {
                        Ok(()) => "; until there is room it leads to a file in memory".to_owned(),
                        Err(error) => format!("; nor does it lead to a file in memory: {error}"),
                    };
                }
                self.unwritten(words, now);
            }
        }
    }

    /// Why the plugin could not read this, if so.
    fn unreadable(&self, wanted: &str, form: u32, held: u32) -> Option<String> {
        if usize::try_from(PEERS_BYTES_MAX).is_ok_and(|most| wanted.len() > most) {
            let bytes = wanted.len();
            return Some(format!(
                "it would have {bytes} bytes, and is read up to {PEERS_BYTES_MAX}"
            ));
        }
        // Before there is a configuration of ours no plugin reads it: what is not known of one
        // that comes with a new node would keep pods from it for ever.
        let held = if self.is_read() { held } else { held.max(form) };
        self.plugin.known().refusal(form, held)
    }

    /// Whether the container runtime may call the plugin.
    fn is_read(&self) -> bool {
        // What cannot be read may name us.
        let may_name_us = |path: &Path| match read(path, TEXT_BYTES_MAX) {
            Ok(bytes) => conflist::may_name_us(&bytes),
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        match conflist::files(&self.root.path(conflist::DIRECTORY)) {
            Ok(files) => files.iter().any(|path| may_name_us(path)),
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }

    fn unwritten(&mut self, words: String, now: Instant) {
        self.status.wrote(false);
        self.retry = Some(now + RETRY);
        if words != self.said.unwritten {
            log::error!("{words}; trying again every {} s", RETRY.as_secs());
            self.said.unwritten = words;
        }
    }

    /// Says that the plugin is of another version.
    pub(super) fn look_at_plugin(&mut self) {
        let words = self.plugin.known().remark().unwrap_or_default();
        if words != self.said.skew {
            match words.is_empty() {
                true => log::info!("version-skew: no more"),
                false => log::warn!("{words}"),
            }
            self.said.skew = words;
        }
    }
}
