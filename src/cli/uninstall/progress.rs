// SPDX-License-Identifier: Apache-2.0
//! What was asked for, and what has been done of it.

use std::{fmt::Display, path::PathBuf};

use crate::{
    cli::{Console, Failure},
    state::Root,
};

/// What was asked for.
pub(super) struct Order {
    pub(super) root: Root,
    pub(super) bin_dir: PathBuf,
    pub(super) conf_dir: PathBuf,
    pub(super) keep_conf: bool,
    pub(super) force: bool,
    pub(super) dry_run: bool,
}

/// What has been done of it.
pub(super) struct Progress<'a, 'c> {
    pub(super) console: &'a mut Console<'c>,
    pub(super) dry_run: bool,
    pub(super) force: bool,
    /// How much has gone, or would.
    pub(super) count: usize,
    pub(super) failed: bool,
}

impl Progress<'_, '_> {
    pub(super) fn gone(&mut self, what: impl Display) -> Result<(), Failure> {
        self.count += 1;
        let words = if self.dry_run { "would be removed" } else { "removed" };
        Ok(self.console.line(format_args!("{what}: {words}"))?)
    }

    pub(super) fn kept(&mut self, what: impl Display, why: &str) -> Result<(), Failure> {
        Ok(self.console.line(format_args!("{what}: kept, {why}"))?)
    }

    pub(super) fn fail(&mut self, words: impl Display) -> Result<(), Failure> {
        self.failed = true;
        Ok(self.console.remark(format_args!("manx: uninstall: {words}"))?)
    }

    /// Takes the next step. Whether it may go on: what failed stops the rest, which the next
    /// run needs, unless that is forced.
    pub(super) fn step(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        match step(self) {
            Err(output @ Failure::Output(_)) => return Err(output),
            Err(failure) => self.fail(failure)?,
            Ok(()) => {}
        }
        Ok(self.force || self.dry_run || !self.failed)
    }
}
