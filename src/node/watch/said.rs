// SPDX-License-Identifier: Apache-2.0
//! What a watch says.

use std::time::Instant;

use super::super::apply::Report;

/// Who is told what a watch says. The answer is when that wants to be woken, whatever comes.
pub(super) type Tell<'a> = &'a mut dyn FnMut(Said) -> Option<Instant>;

/// What a watch says.
pub(crate) enum Said {
    /// What came of a pass.
    Report(Box<Report>),
    /// Something besides.
    Remark(String),
    /// That the time has come that was asked for, or the bell was rung: no pass was made.
    Woken,
}
