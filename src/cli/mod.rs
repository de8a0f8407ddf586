// SPDX-License-Identifier: Apache-2.0
//! The command line: one file per subcommand, and here what they share, which
//! is how one is chosen, how it ends, and where it prints.
//!
//! A command writes to the [`Console`] that it is given and nowhere else, so
//! that each can be tested without a process. Nothing here runs for a container
//! runtime: the verbs know no command line, and stdout is the protocol there.

mod adopt;
mod age;
mod args;
mod attachments;
mod bundle;
mod capture;
mod console;
mod doctor;
mod exec;
mod explain;
mod export;
mod fabric;
mod findings;
mod forward;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gc;
mod help;
mod install;
mod ipam;
mod peers;
mod pods;
mod policy;
mod probe;
mod registry;
mod report;
mod status;
mod subcommand;
mod table;
mod tune;
mod uninstall;
mod validate;
mod version;

use std::{ffi::OsString, io, process::ExitCode};

use args::Args;
use console::{Console, wants_colours};
use registry::find;
use subcommand::{Failure, Status, Subcommand, failed, refused};

use crate::list::Gather;
use crate::node::conflist;

/// Runs the command that the arguments name, the first being the program.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let mut console = Console::new(&mut out, &mut err).coloured(wants_colours());
    ExitCode::from(conclude(arguments.skip(1).gather(), &mut console))
}

/// Runs a command to its exit code, failures told on `err`.
fn conclude(arguments: Vec<OsString>, console: &mut Console<'_>) -> u8 {
    let outcome = dispatch(arguments, console).and_then(|status| {
        console.flush()?;
        Ok(status)
    });
    let (code, message) = match outcome {
        Ok(Status::Fine) => return 0,
        Ok(Status::Failed) => return 1,
        Ok(Status::Findings) => return 3,
        // The reader has seen enough: `manx pods | head -1`.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
        Err(Failure::Output(error)) => (1, format!("write to stdout: {error}")),
        Err(Failure::Failed(message)) => (1, message),
        Err(Failure::Usage(message)) => (2, message),
        Err(Failure::NotRun(code, message)) => (code, message),
    };
    // Where stderr is closed too, the exit code has to say it all.
    let _ = console.remark(format_args!("manx: {message}"));
    code
}

fn dispatch(arguments: Vec<OsString>, console: &mut Console<'_>) -> Result<Status, Failure> {
    let mut arguments = arguments.into_iter();
    let Some(first) = arguments.next() else {
        help::about(console.verbatim_err())?;
        return Ok(Status::Fine);
    };
    let rest: Vec<OsString> = arguments.gather();
    match first.to_str().unwrap_or_default() {
        "--help" | "-h" => help::overview(console.verbatim()).map(|()| Status::Fine),
        "help" => help::help(&rest, console.verbatim()).map(|()| Status::Fine),
        "--version" | "-V" => invoke(&version::SUBCOMMAND, rest, console),
        _ => invoke(find(&first)?, rest, console),
    }
}

fn invoke(
    subcommand: &Subcommand,
    arguments: Vec<OsString>,
    console: &mut Console<'_>,
) -> Result<Status, Failure> {
    match Args::parse(arguments, &subcommand.shape) {
        Ok(Some(args)) => (subcommand.run)(&args, console),
        Ok(None) => help::of(subcommand, console.verbatim()).map(|()| Status::Fine),
        Err(problem) => Err(subcommand.usage(&problem)),
    }
}

#[cfg(test)]
mod tests;
