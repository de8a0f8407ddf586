//! The command line: one file per subcommand, and here what they share, which
//! is how one is chosen, how it ends, and where it prints.
//!
//! A command writes to the [`Console`] that it is given and nowhere else, so
//! that each can be tested without a process. Nothing here runs for a container
//! runtime: the verbs know no command line, and stdout is the protocol there.

mod age;
mod args;
mod attachments;
mod capture;
mod conflist;
mod console;
mod doctor;
mod exec;
mod export;
mod fabric;
mod findings;
mod forward;
mod gc;
mod help;
mod install;
mod ipam;
mod pods;
mod table;
mod validate;
mod version;

use std::{ffi::OsString, fmt, io, process::ExitCode};

use args::{Args, Shape};
use console::Console;
use nix::errno::Errno;

use crate::{cni, text::nearest};

/// All subcommands, in the order of the help text.
const SUBCOMMANDS: &[Subcommand] = &[
    install::SUBCOMMAND,
    validate::SUBCOMMAND,
    doctor::SUBCOMMAND,
    fabric::plan::SUBCOMMAND,
    fabric::apply::SUBCOMMAND,
    export::SUBCOMMAND,
    pods::SUBCOMMAND,
    exec::SUBCOMMAND,
    capture::SUBCOMMAND,
    ipam::SUBCOMMAND,
    gc::SUBCOMMAND,
    version::SUBCOMMAND,
];

/// One subcommand.
struct Subcommand {
    name: &'static str,
    /// One line for the list of commands.
    summary: &'static str,
    /// What follows the summary in the command's own help: usage and options.
    help: &'static str,
    shape: Shape,
    run: fn(&Args, &mut Console<'_>) -> Result<Status, Failure>,
}

/// How a command ended that had nothing to complain of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Status {
    /// All is well: 0.
    Fine,
    /// Something failed, and the command has said what: 1.
    Failed,
    /// It found what it looked for, and that is not good: 3.
    Findings,
}

/// Why a command did not end well.
#[derive(Debug)]
enum Failure {
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

/// Runs the command that the arguments name, the first being the program.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let mut console = Console::new(&mut out, &mut err);
    ExitCode::from(conclude(arguments.skip(1).collect(), &mut console))
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
    let rest: Vec<OsString> = arguments.collect();
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

fn find(name: &std::ffi::OsStr) -> Result<&'static Subcommand, Failure> {
    if let Some(found) = SUBCOMMANDS.iter().find(|subcommand| name == subcommand.name) {
        return Ok(found);
    }
    let name = name.to_string_lossy();
    let kind = if name.starts_with('-') { "option" } else { "command" };
    let names = SUBCOMMANDS.iter().map(|subcommand| subcommand.name).chain(["help"]);
    let hint = nearest::hint(&name, names);
    Err(Failure::Usage(format!("unknown {kind} {name:?}{hint}; see manx --help")))
}

impl Subcommand {
    fn usage(&self, problem: &str) -> Failure {
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

impl From<cni::Error> for Failure {
    fn from(error: cni::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<crate::net::Error> for Failure {
    fn from(error: crate::net::Error) -> Self {
        Self::Failed(refused(&error))
    }
}

/// A failure of the file system.
fn failed(what: impl fmt::Display, error: &io::Error) -> Failure {
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
fn refused(error: &crate::net::Error) -> String {
    let next = match error.errno {
        Errno::EPERM | Errno::EACCES => "; run as root",
        _ => "",
    };
    format!("{error}{next}")
}

#[cfg(test)]
mod tests;
