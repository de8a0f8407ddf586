// SPDX-License-Identifier: Apache-2.0
//! Running a program to its end: input, output and a deadline at once.
//!
//! A child may not read its input, fill its output before it reads, leave a
//! grandchild behind that holds the pipes open, or hang. None of that may hang
//! us. What the output means is not known here.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::spawn::{process_descriptor, spawn_mortal};
use crate::list::{Gather, PushAll};

/// No result is larger; a child that writes more is out of its mind.
pub(super) const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// No list that is read is longer.
const MAX_PRINTED_BYTES: usize = 64 << 20;

/// How much of what a child says on its standard error is kept.
const MAX_SAID_BYTES: usize = 16 << 10;

/// How much is read of a pipe before the deadline is looked at again.
const MAX_PULL_BYTES: usize = 256 << 10;

/// How long a killed child may take to be gone. One that hangs in the kernel is
/// left behind rather than waited for.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// The pause before a program that is being written to is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// How often a child is looked at where the kernel has no descriptors of
/// processes.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// What a child left behind.
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
}

/// What came of a run, however it ended.
pub(super) struct Run {
    pub(super) outcome: Result<Output, Failure>,
    /// The beginning of its standard error.
    pub(super) said: Vec<u8>,
}

impl Run {
    fn failed(failure: Failure) -> Self {
        Self { outcome: Err(failure), said: Vec::new() }
    }
}

/// Why there is no [`Output`].
pub(super) enum Failure {
    /// The deadline passed; the child and its process group were killed.
    Deadline,
    /// The child wrote more than it may and was killed.
    Flood,
    /// The program could not be started.
    Start(io::Error),
    /// Talking to it failed; it was killed.
    Io(io::Error),
}

/// Runs `command` with `input` on its standard input. It is the leader of a
/// process group of its own, of which nobody is left when this returns.
pub(super) fn run(command: &mut Command, input: &[u8], limit: Duration) -> Run {
    run_up_to(command, input, (limit, MAX_OUTPUT_BYTES))
}

fn run_up_to(command: &mut Command, input: &[u8], limits: (Duration, usize)) -> Run {
    let run = run_at_once(std::slice::from_mut(command), input, limits).pop();
    run.unwrap_or_else(|| Run::failed(Failure::Deadline))
}

/// Runs all of them at once, in the time that one has; in their order.
pub(super) fn run_all(commands: &mut [Command], input: &[u8], limit: Duration) -> Vec<Run> {
    run_at_once(commands, input, (limit, MAX_OUTPUT_BYTES))
}

fn run_at_once(
    commands: &mut [Command],
    input: &[u8],
    (limit, bytes): (Duration, usize),
) -> Vec<Run> {
    let now = Instant::now();
    // A limit beyond what the clock can say is a day.
    let end = now.checked_add(limit).unwrap_or(now + Duration::from_secs(86_400));
    // What has not ended by then was late.
    let mut runs: Vec<Run> = commands.iter().map(|_| Run::failed(Failure::Deadline)).gather();
    let mut talks = Vec::new();
    for (command, run) in commands.iter_mut().zip(&mut runs) {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match start(command.process_group(0), end) {
            Ok(child) => talks.push_all(Talk::new(child, (input, bytes), run).begin()),
            Err(failure) => run.outcome = Err(failure),
        }
    }
    loop {
        talks.retain_mut(Talk::goes_on);
        // One that never stops writing would keep the poll from ever waiting.
        if talks.is_empty() || Instant::now() >= end {
            break;
        }
        let is_seen = talks.iter().all(|talk| talk.running.descriptor.is_some());
        let end = if is_seen { end } else { end.min(Instant::now() + LOOK_PAUSE) };
        if let Err(error) = wait(talks.iter().flat_map(Talk::waits), end) {
            for talk in &mut talks {
                talk.run.outcome = Err(Failure::Io(io::Error::from(error.kind())));
            }
            break;
        }
    }
    drop(talks);
    runs
}

/// What another program prints that is asked something by its arguments, if it ends well in
/// time. It may print as much as a firewall of a hundred thousand rules.
pub(crate) fn printed(command: &mut Command, limit: Duration) -> Option<Vec<u8>> {
    let output = run_up_to(command, &[], (limit, MAX_PRINTED_BYTES)).outcome.ok()?;
    output.status.success().then_some(output.stdout)
}

/// A program that runs beside this one. When this is dropped nobody of its process group is
/// left, and the kernel kills the program when the calling thread ends.
pub(crate) struct Beside(Running);

impl Beside {
    /// # Errors
    /// As [`std::process::Command::spawn`].
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        match start(command.process_group(0), Instant::now() + KILL_GRACE) {
            Ok(child) => Ok(Self(Running::new(child))),
            Err(Failure::Start(error) | Failure::Io(error)) => Err(error),
            Err(_) => Err(ErrorKind::Other.into()),
        }
    }

    /// Its pipes, each once.
    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        self.0.child.stdin.take()
    }

    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.child.stdout.take()
    }

    pub(crate) fn stderr(&mut self) -> Option<ChildStderr> {
        self.0.child.stderr.take()
    }
}

/// Starts the program. Whoever copies a new plugin over an old one in place, not
/// by rename, leaves a moment in which it cannot be executed.
fn start(command: &mut Command, end: Instant) -> Result<Child, Failure> {
    loop {
        match spawn_mortal(command) {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() < end => {
                thread::sleep(BUSY_PAUSE);
            }
            started => return started.map_err(Failure::Start),
        }
    }
}

/// A child whose process group is killed, at the latest when this is dropped.
struct Running {
    child: Child,
    group: Pid,
    reaped: bool,
    /// Can be read when the child has ended; `None` before Linux 5.3, and where a
    /// sandbox forbids it.
    descriptor: Option<OwnedFd>,
}

impl Running {
    fn new(child: Child) -> Self {
        // A process id is positive and fits: the kernel's limit is 2^22.
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        Self { child, group, reaped: false, descriptor: process_descriptor(group).ok() }
    }

    /// Whether the child has ended, without reaping it: the end of its output
    /// would not do, for a grandchild may hold it.
    fn has_ended(&self) -> io::Result<bool> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        loop {
            match waitid(Id::Pid(self.group), flags) {
                Ok(status) => return Ok(status != WaitStatus::StillAlive),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits until the child may have ended, or the deadline has come.
    fn wait(&self, end: Instant) -> io::Result<()> {
        let ended = self.descriptor.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLIN));
        let end = match ended {
            Some(_) => end,
            None => end.min(Instant::now() + LOOK_PAUSE),
        };
        wait(ended.into_iter(), end).map(|_| ())
    }

    /// Ends whoever the child left behind in its group, then takes its status. As
    /// long as it is not reaped, the number is that of no other group.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        let _ = killpg(self.group, Signal::SIGKILL);
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(status)
    }
}

/// A child that is fed, and whose output is read.
struct Talk<'a> {
    running: Running,
    feed: Feed<'a>,
    sink: Sink<ChildStdout>,
    talk: Sink<ChildStderr>,
    stdout: Vec<u8>,
    /// How much it may print, in bytes.
    bytes: usize,
    run: &'a mut Run,
}

impl<'a> Talk<'a> {
    fn new(mut child: Child, (input, bytes): (&'a [u8], usize), run: &'a mut Run) -> Self {
        let feed = Feed { pipe: child.stdin.take(), rest: input };
        let sink = Sink { pipe: child.stdout.take(), limit: bytes + 1 };
        let talk = Sink { pipe: child.stderr.take(), limit: MAX_SAID_BYTES };
        Self { running: Running::new(child), feed, sink, talk, stdout: Vec::new(), bytes, run }
    }

    /// As long as none of its pipes may hold this process.
    fn begin(self) -> Option<Self> {
        let fds = [self.feed.fd(), self.sink.fd(), self.talk.fd()];
        let set = fds.into_iter().flatten().try_for_each(set_nonblocking);
        match set {
            Ok(()) => Some(self),
            Err(error) => {
                self.run.outcome = Err(Failure::Io(error));
                None
            }
        }
    }

    /// Says and hears what there is; false when that is all, and noted.
    fn goes_on(&mut self) -> bool {
        let outcome = match self.step() {
            Ok(false) => return true,
            Ok(true) => self
                .running
                .reap()
                .map_err(Failure::Io)
                .map(|status| Output { status, stdout: std::mem::take(&mut self.stdout) }),
            Err(failure) => Err(failure),
        };
        self.run.outcome = outcome;
        false
    }

    /// Whether it has ended.
    fn step(&mut self) -> Result<bool, Failure> {
        self.feed.push().map_err(Failure::Io)?;
        // In this order: what the child wrote is in the pipe when it has ended.
        let over = self.running.has_ended().map_err(Failure::Io)?;
        self.sink.pull(&mut self.stdout).map_err(Failure::Io)?;
        self.talk.pull(&mut self.run.said).map_err(Failure::Io)?;
        match self.stdout.len() > self.bytes {
            true => Err(Failure::Flood),
            false => Ok(over),
        }
    }

    /// What it waits for.
    fn waits(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let ended = self.running.descriptor.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLIN));
        let pipes = [
            self.feed.fd().map(|fd| (fd, PollFlags::POLLOUT)),
            self.sink.fd().map(|fd| (fd, PollFlags::POLLIN)),
            self.talk.fd().map(|fd| (fd, PollFlags::POLLIN)),
        ];
        ended.into_iter().chain(pipes.into_iter().flatten())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        // That it has ended on its own meanwhile is no matter.
        let _ = killpg(self.group, Signal::SIGKILL);
        let end = Instant::now() + KILL_GRACE;
        while !self.has_ended().unwrap_or(true) && Instant::now() < end {
            let _ = self.wait(end);
        }
        let _ = self.child.try_wait();
    }
}

/// Waits until something can be done; false if the deadline came first.
fn wait<'a>(
    fds: impl Iterator<Item = (BorrowedFd<'a>, PollFlags)>,
    end: Instant,
) -> io::Result<bool> {
    let mut fds: Vec<PollFd> = fds.map(|(fd, flags)| PollFd::new(fd, flags)).gather();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        // Rounded up, or the last millisecond would be spent spinning.
        let left = u32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u32::MAX);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(0) if Instant::now() >= end => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn set_nonblocking(fd: BorrowedFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// The child's input, closed when it has been written.
struct Feed<'a> {
    pipe: Option<ChildStdin>,
    rest: &'a [u8],
}

impl Feed<'_> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Writes what fits. A child that does not want its input is within its
    /// rights (a VERSION has no use for it).
    fn push(&mut self) -> io::Result<()> {
        while let Some(pipe) = &mut self.pipe {
            if self.rest.is_empty() {
                self.pipe = None;
                break;
            }
            match pipe.write(self.rest) {
                Ok(count) => self.rest = self.rest.get(count..).unwrap_or_default(),
                Err(error) if is_transient(&error) => break,
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.pipe = None,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A pipe that the child writes to.
struct Sink<P> {
    pipe: Option<P>,
    /// How much is kept, in bytes; what comes after it is read and dropped, so
    /// that the child does not wait for ever.
    limit: usize,
}

impl<P: Read + AsFd> Sink<P> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there.
    fn pull(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = [0; 8192];
        let mut read = 0;
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    let room = self.limit.saturating_sub(bytes.len());
                    bytes.extend(buffer.iter().take(count.min(room)));
                    read += count;
                }
                Err(error) if is_transient(&error) => break,
                Err(error) => return Err(error),
            }
            if read >= MAX_PULL_BYTES {
                break;
            }
        }
        Ok(())
    }
}
