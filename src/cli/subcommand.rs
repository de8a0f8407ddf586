// SPDX-License-Identifier: Apache-2.0
//! What a subcommand is, and how it ends.

use std::{fmt, io};

use nix::errno::Errno;

use super::{
    args::{Args, Shape},
    console::Console,
};
use crate::{cni, net, node};

/// One subcommand.
pub(super) struct Subcommand {
    pub(super) name: &'static str,
    /// One line for the list of commands.
    pub(super) summary: &'static str,
    /// What follows the summary in the command's own help: usage and options.
    pub(super) help: &'static str,
    pub(super) shape: Shape,
    pub(super) run: fn(&Args, &mut Console<'_>) -> Result<Status, Failure>,
}

/// How a command ended that had nothing to complain of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    /// All is well: 0.
    Fine,
    /// Something failed, and the command has said what: 1.
    Failed,
    /// It found what it looked for, and that is not good: 3.
    Findings,
}

/// Why a command did not end well.
#[derive(Debug)]
pub(super) enum Failure {
    /// The arguments make no sense: 2.
    Usage(String),
    /// What went wrong, and the next step: 1.
    Failed(String),
    /// A program that could not be started in our place, with the status that
    /// a shell would give: 126 or 127.
    NotRun(u8, String),
    /// stdout did not take what was written to it.
    Output(io::Error),
}

impl Subcommand {
    pub(super) fn usage(&self, problem: &str) -> Failure {
        Failure::Usage(format!("{name}: {problem}; see manx {name} --help", name = self.name))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) | Self::Failed(message) | Self::NotRun(_, message) => {
                write!(f, "{message}")
            }
            Self::Output(error) => write!(f, "write to stdout: {error}"),
        }
    }
}

impl From<io::Error> for Failure {
    /// Only what a write to the console answers; an error of a file is told
    /// with its path, as [`Failure::Failed`].
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<node::Error> for Failure {
    fn from(error: node::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<cni::Error> for Failure {
    fn from(error: cni::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<net::Error> for Failure {
    fn from(error: net::Error) -> Self {
        Self::Failed(refused(&error))
    }
}

/// A failure of the file system.
pub(super) fn failed(what: impl fmt::Display, error: &io::Error) -> Failure {
    let next = match error.kind() {
        io::ErrorKind::PermissionDenied => "; run as root",
        io::ErrorKind::StorageFull => "; make room on that file system",
        io::ErrorKind::ReadOnlyFilesystem => "; that file system is mounted read-only",
        io::ErrorKind::NotFound => "; give the path of a file that is there",
        _ => "",
    };
    Failure::Failed(format!("{what}: {error}{next}"))
}

/// What the kernel refused of a request, and who may make it.
pub(super) fn refused(error: &net::Error) -> String {
    let next = match error.errno {
        Errno::EPERM | Errno::EACCES => "; run as root",
        _ => "",
    };
    format!("{error}{next}")
}
