// SPDX-License-Identifier: Apache-2.0
//! The tcpdumps of one place: what they are started with, when they listen, and the lines that they print.

use std::{
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd},
    process::{ChildStderr, ChildStdout, Command, Stdio},
    thread,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    lines::{Line, stamped},
    places::Place,
    unpack::unpack,
};
use crate::{cli::Failure, cni::Beside, list::Gather};

/// What a message of tcpdump has at most, in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;
/// More of a line is not kept, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// So begins what it says where nothing is wrong.
const NOISE: [&str; 6] = [
    "listening on ",
    "verbose output suppressed",
    "dropped privs",
    "data link type",
    "WARNING: ",
    // Of the one that shows, because the other has ended.
    "truncated dump file",
];

/// One that shows, behind one that takes where packets are unpacked.
pub(super) struct Source {
    place: usize,
    stdout: ChildStdout,
    /// What came of a line that has not ended.
    begun: Vec<u8>,
    ended: bool,
    /// Whose processes are gone when it is dropped.
    running: Vec<Running>,
}

/// A tcpdump, and what it says of itself.
struct Running {
    child: Beside,
    stderr: Option<ChildStderr>,
    said: Vec<u8>,
}

impl Running {
    fn start(command: &mut Command) -> Result<Self, Failure> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = Beside::start(command).map_err(|error| not_run(&error))?;
        let stderr = child.stderr();
        Ok(Self { child, stderr, said: Vec::new() })
    }

    /// Whether no packet passes it unseen any more: the socket is open, or what the other wrote has begun
    /// (main() of tcpdump.c says so in these words, and in no language but English).
    fn listens(&self) -> bool {
        let said = String::from_utf8_lossy(&self.said);
        said.contains("listening on ") || said.contains("reading from file ")
    }

    /// Reads once what it says, if it says anything; false when it ended before it listened.
    fn hear(&mut self) -> bool {
        let Some(stderr) = &mut self.stderr else { return false };
        if !is_readable(stderr.as_fd()) {
            return true;
        }
        let mut buffer = [0; 1 << 10];
        match stderr.read(&mut buffer) {
            Ok(count @ 1..) if self.said.len() < MESSAGE_BYTES_MAX => {
                self.said.extend(buffer.iter().take(count));
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            _ => false,
        }
    }
}

impl Source {
    pub(super) fn start(at: usize, place: &Place) -> Result<Self, Failure> {
        let mut show = Command::new("tcpdump");
        show.args(["-n", "-l", "-tt"]).stdin(Stdio::null());
        let mut running = Vec::new();
        match place.carrier {
            None => {
                show.args(["--immediate-mode", "-i", &place.device, &place.taken]);
            }
            Some(_) => {
                let mut take = Command::new("tcpdump");
                take.args(["-n", "-U", "--immediate-mode", "-w", "-", "-i", &place.device]);
                take.arg(&place.taken).stdin(Stdio::null());
                running.push(Running::start(&mut take)?);
                show.args(["-r", "-", &place.shown]).stdin(Stdio::piped());
            }
        }
        running.push(Running::start(&mut show)?);
        let shows = running.last_mut().and_then(|one| one.child.stdout());
        let Some(stdout) = shows else {
            return Err(Failure::Failed("tcpdump: no output".to_owned()));
        };
        Ok(Self { place: at, stdout, begun: Vec::new(), ended: false, running })
    }

    /// Takes packets from one to the other.
    pub(super) fn unpack(&mut self, place: &Place) -> Result<(), Failure> {
        let (Some(carrier), [take, show]) = (place.carrier, self.running.as_mut_slice()) else {
            return Ok(());
        };
        let (Some(outer), Some(inner)) = (take.child.stdout(), show.child.stdin()) else {
            return Ok(());
        };
        let started = thread::Builder::new().spawn(move || {
            // That one of them ended is seen where its output ends.
            let _ = unpack(carrier, outer, inner);
        });
        started.map(|_| ()).map_err(|error| Failure::Failed(format!("start a thread: {error}")))
    }

    /// Whether every packet is seen from now on.
    pub(super) fn listens(&self) -> bool {
        self.running.iter().all(Running::listens)
    }

    /// Where those that do not listen yet say that they do.
    pub(super) fn remarks(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let waits = self.running.iter().filter(|one| !one.listens());
        waits.filter_map(|one| one.stderr.as_ref().map(AsFd::as_fd))
    }

    /// Reads once what they say; false when one ended before it listened.
    pub(super) fn hear(&mut self) -> bool {
        self.running.iter_mut().filter(|one| !one.listens()).all(Running::hear)
    }

    /// Where lines come.
    pub(super) fn lines(&self) -> BorrowedFd<'_> {
        self.stdout.as_fd()
    }

    /// Reads once, after which another poll tells whether there is more.
    pub(super) fn read(&mut self, mut add: impl FnMut(Line)) -> Result<(), Failure> {
        if self.ended || !is_readable(self.stdout.as_fd()) {
            return Ok(());
        }
        let mut buffer = [0; 16 << 10];
        let count = match self.stdout.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            count => count.map_err(|error| Failure::Failed(format!("tcpdump: {error}")))?,
        };
        self.ended = count == 0;
        self.begun.extend(buffer.iter().take(count));
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).gather();
            let line = String::from_utf8_lossy(&line);
            if let Some((stamp, packet)) = stamped(line.trim_end()) {
                add(Line { stamp, place: self.place, packet: packet.to_owned() });
            }
        }
        if self.begun.len() > LINE_BYTES_MAX {
            self.begun.clear();
        }
        Ok(())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The device of its place.
    pub(super) fn device<'a>(&self, places: &'a [Place]) -> &'a str {
        places.get(self.place).map_or("?", |place| place.device.as_str())
    }

    /// Why there is no more of it: the last thing that tcpdump said, or else these words.
    pub(super) fn failure(self, places: &[Place], otherwise: &str) -> Failure {
        let device = self.device(places);
        let words = self.running.into_iter().find_map(|Running { child, stderr, mut said }| {
            // Nothing is written any more.
            drop(child);
            let rest = stderr.map(|stderr| stderr.take(MESSAGE_BYTES_MAX as u64));
            rest.map(|mut rest| rest.read_to_end(&mut said)).transpose().ok()?;
            let said = String::from_utf8_lossy(&said).into_owned();
            let mut lines = said.lines().rev().filter_map(|line| line.strip_prefix("tcpdump: "));
            let is_noise = |line: &str| NOISE.iter().any(|begin| line.starts_with(begin));
            lines.find(|line| !is_noise(line)).map(str::to_owned)
        });
        let words = words.unwrap_or_else(|| otherwise.to_owned());
        let next = if words.contains("permission") { "; run as root" } else { "" };
        Failure::Failed(format!("tcpdump on {device}: {words}{next}"))
    }
}

fn is_readable(pipe: BorrowedFd<'_>) -> bool {
    matches!(poll(&mut [PollFd::new(pipe, PollFlags::POLLIN)], PollTimeout::ZERO), Ok(1..))
}

/// That there is no tcpdump, or none that runs.
pub(super) fn not_run(error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; install the package tcpdump",
        _ => "",
    };
    Failure::Failed(format!("tcpdump: {error}{hint}"))
}
