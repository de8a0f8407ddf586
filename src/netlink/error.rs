// SPDX-License-Identifier: Apache-2.0
//! What the kernel answered, with the object it was asked about.

use std::{fmt, io};

use nix::errno::Errno;

use crate::boxed::Boxed;

/// A failed request.
pub type Error = Boxed<Refusal>;

/// What was asked, the errno, and the kernel's own words where it gave any (extended
/// acknowledgement, `NLMSGERR_ATTR_MSG`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// What was attempted, with the object: `create veth cali1234`.
    pub what: String,
    /// The error number.
    pub errno: Errno,
    /// The kernel's explanation, if it sent one.
    pub words: Option<String>,
}

impl Error {
    /// An error of `what` with only a number.
    pub fn new(what: impl Into<String>, errno: Errno) -> Self {
        Refusal { what: what.into(), errno, words: None }.into()
    }

    /// An error of `what` from an I/O error; `EIO` where that has no number.
    pub fn from_io(what: impl Into<String>, error: &io::Error) -> Self {
        Self::new(what, error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }

    /// The same in these words.
    #[must_use]
    pub(crate) fn words(mut self, words: String) -> Self {
        self.words = Some(words);
        self
    }

    /// An error of `what` that the kernel did not answer. Answers are there when a send
    /// returns, so one that is not was lost.
    pub(crate) fn unanswered(what: impl Into<String>) -> Self {
        Self::new(what, Errno::ENODATA).words("the kernel gave no answer".to_owned())
    }

    /// Whether the object was not there to begin with.
    pub fn is_absent(&self) -> bool {
        matches!(self.errno, Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::ENXIO)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.errno.desc())?;
        if let Some(words) = &self.words {
            write!(f, ": {words}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
