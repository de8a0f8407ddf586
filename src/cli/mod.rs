//! The command line.

use std::{ffi::OsString, process::ExitCode};

/// Runs the command that the arguments name.
pub fn run(_arguments: impl Iterator<Item = OsString>) -> ExitCode {
    ExitCode::SUCCESS
}
