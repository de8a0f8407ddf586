//! Running a program to its end: input, output and a deadline at once.
//!
//! A child may not read its input, fill its output before it reads, leave a
//! grandchild behind that holds the pipes open, or hang. None of that may hang
//! us. What the output means is not known here.

use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::spawn::spawn_mortal;

/// No result is larger; a child that writes more is out of its mind.
pub(super) const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// How long a killed child may take to be gone. One that hangs in the kernel is
/// left behind rather than waited for.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// The pause before a program that is being written to is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What a child left behind.
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
}

/// Why there is no [`Output`].
pub(super) enum Failure {
    /// The deadline passed; the child and its process group were killed.
    Deadline,
    /// The child wrote more than [`MAX_OUTPUT_BYTES`] and was killed.
    Flood,
    /// The program could not be started.
    Start(io::Error),
    /// Talking to it failed; it was killed.
    Io(io::Error),
}

/// Runs `command` with `input` on its standard input. Its standard error is
/// ours. It is the leader of a process group of its own.
pub(super) fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output, Failure> {
    let now = Instant::now();
    // A limit beyond what the clock can say is a day.
    let end = now.checked_add(limit).unwrap_or(now + Duration::from_secs(86_400));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
    let mut running = Running::new(start(command, end)?);
    let stdout = running.converse(input, end)?;
    let status = running.reap().map_err(Failure::Io)?;
    Ok(Output { status, stdout })
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

/// A child that is killed with its group unless it is reaped.
struct Running {
    child: Child,
    group: Pid,
    reaped: bool,
    /// Reaches its end when the child has ended.
    ended: Option<PipeReader>,
}

impl Running {
    fn new(child: Child) -> Self {
        // A process id is positive and fits: the kernel's limit is 2^22.
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        Self { child, group, reaped: false, ended: None }
    }

    /// Feeds the child and reads its output until it ends.
    fn converse(&mut self, input: &[u8], end: Instant) -> Result<Vec<u8>, Failure> {
        let mut ended = watch(self.group).map_err(Failure::Io)?;
        self.ended = ended.try_clone().ok();
        let mut feed = Feed { pipe: self.child.stdin.take(), rest: input };
        let mut sink = Sink { pipe: self.child.stdout.take(), bytes: Vec::new() };
        for fd in [Some(ended.as_fd()), feed.fd(), sink.fd()].into_iter().flatten() {
            set_nonblocking(fd).map_err(Failure::Io)?;
        }
        loop {
            feed.push().map_err(Failure::Io)?;
            // In this order: what the child wrote is in the pipe when it has ended.
            let over = at_end(&mut ended).map_err(Failure::Io)?;
            sink.pull().map_err(Failure::Io)?;
            if sink.bytes.len() > MAX_OUTPUT_BYTES {
                return Err(Failure::Flood);
            }
            if over {
                return Ok(sink.bytes);
            }
            let waits = [
                Some((ended.as_fd(), PollFlags::POLLIN)),
                feed.fd().map(|fd| (fd, PollFlags::POLLOUT)),
                sink.fd().map(|fd| (fd, PollFlags::POLLIN)),
            ];
            if !wait(waits.into_iter().flatten(), end).map_err(Failure::Io)? {
                return Err(Failure::Deadline);
            }
        }
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        // Not reaped, so the number is still the child's. That it has ended on
        // its own meanwhile is no matter.
        let _ = killpg(self.group, Signal::SIGKILL);
        if let Some(ended) = &self.ended {
            let _ =
                wait([(ended.as_fd(), PollFlags::POLLIN)].into_iter(), Instant::now() + KILL_GRACE);
        }
        let _ = self.child.try_wait();
    }
}

/// A pipe that reaches its end when process `pid` has ended, without reaping it:
/// the end of the child's output would not do, for a grandchild may hold it.
fn watch(pid: Pid) -> io::Result<PipeReader> {
    let (ended, notice) = io::pipe()?;
    thread::Builder::new().name("delegate".into()).spawn(move || {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), flags) == Err(Errno::EINTR) {}
        drop(notice);
    })?;
    Ok(ended)
}

/// Waits until something can be done; false if the deadline came first.
fn wait<'a>(
    fds: impl Iterator<Item = (BorrowedFd<'a>, PollFlags)>,
    end: Instant,
) -> io::Result<bool> {
    let mut fds: Vec<PollFd> = fds.map(|(fd, flags)| PollFd::new(fd, flags)).collect();
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

fn at_end(pipe: &mut PipeReader) -> io::Result<bool> {
    match pipe.read(&mut [0]) {
        Ok(_) => Ok(true),
        Err(error) if is_transient(&error) => Ok(false),
        Err(error) => Err(error),
    }
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

/// The child's output.
struct Sink {
    pipe: Option<ChildStdout>,
    bytes: Vec<u8>,
}

impl Sink {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there.
    fn pull(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => self.bytes.extend(buffer.iter().take(count)),
                Err(error) if is_transient(&error) => break,
                Err(error) => return Err(error),
            }
            if self.bytes.len() > MAX_OUTPUT_BYTES {
                break;
            }
        }
        Ok(())
    }
}
