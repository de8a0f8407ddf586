// SPDX-License-Identifier: Apache-2.0
//! Running a program with a deadline and collecting what it says.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// What a program finds on its standard input.
#[derive(Clone, Debug)]
pub enum Stdin {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// `/dev/null`.
    Null,
    /// A pipe that nobody writes to and that stays open.
    Silent,
}

/// A program that ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit status; 128 + n for a death by signal n.
    pub status: i32,
    /// All of standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// All of standard error, invalid UTF-8 replaced.
    pub stderr: String,
    /// From start to exit.
    pub took: Duration,
    /// The same without the time for which it or who ran it waited for a processor: what it
    /// takes where the machine has no other work. That it waits for anything else is in it.
    pub alone: Duration,
    /// The deadline passed and the program was killed.
    pub timed_out: bool,
}

impl Finished {
    /// Standard output of a program that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.status == 0 && !self.timed_out, "{self:?}");
        self.stdout
    }
}

/// Runs `command` to its end, or kills its process group at `deadline`.
pub fn run(mut command: Command, stdin: &Stdin, deadline: Duration) -> Finished {
    let (begin, before) = (Instant::now(), queued(OWN_ACCOUNT));
    command.stdin(match stdin {
        Stdin::Null => Stdio::null(),
        Stdin::Bytes(_) | Stdin::Silent => Stdio::piped(),
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child =
        command.spawn().unwrap_or_else(|e| panic!("start {:?}: {e}", command.get_program()));
    let starting = queued(OWN_ACCOUNT).saturating_sub(before);
    let group = Pid::from_raw(child.id().cast_signed());
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let mut pipe = child.stdin.take();
    if let Stdin::Bytes(bytes) = stdin {
        let (bytes, pipe) = (bytes.clone(), pipe.take());
        // A program that exits without reading breaks the pipe, which is its right.
        thread::spawn(move || pipe.map(|mut pipe| pipe.write_all(&bytes)));
    }
    let (exited, exit) = channel();
    thread::spawn(move || {
        // Until it is reaped its account can be read.
        let _ = waitid(Id::Pid(group), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        let took = begin.elapsed();
        let queued = queued(&format!("/proc/{group}/schedstat")) + queued(OWN_ACCOUNT);
        exited.send((child.wait().expect("wait for a child"), took, queued))
    });
    let ((status, took, queued), timed_out) = match exit.recv_timeout(deadline) {
        Ok(ended) => (ended, false),
        Err(_) => {
            let _ = killpg(group, Signal::SIGKILL);
            (exit.recv().expect("the waiting thread reports"), true)
        }
    };
    drop(pipe);
    Finished {
        status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: text(&stdout, deadline),
        stderr: text(&stderr, deadline),
        took,
        alone: took.saturating_sub(starting + queued),
        timed_out,
    }
}

/// The account of the thread that asks.
const OWN_ACCOUNT: &str = "/proc/thread-self/schedstat";

/// How long a task has waited for a processor: the second number of its account
/// (Documentation/scheduler/sched-stats.rst).
fn queued(account: &str) -> Duration {
    let text = std::fs::read_to_string(account).unwrap_or_default();
    let nanoseconds = text.split(' ').nth(1).and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// Reads to the end in a thread, so that a full pipe never blocks the program.
fn collect(source: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut source) = source {
            let _ = source.read_to_end(&mut bytes);
        }
        send.send(bytes)
    });
    receive
}

/// What was read. A process that outlives the program and holds its output open
/// is reported in the text rather than waited for.
fn text(from: &Receiver<Vec<u8>>, limit: Duration) -> String {
    match from.recv_timeout(limit) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => "(a process that was left behind holds this stream open)".into(),
    }
}
