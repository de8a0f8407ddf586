// SPDX-License-Identifier: Apache-2.0
//! One packet at all places that it passes on this node: a tcpdump for each, whose lines are
//! labelled and put in order.

use std::{
    io::{self, Read},
    net::IpAddr,
    os::fd::AsFd,
    process::{ChildStderr, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::{
    lines::{Line, Lines, Seen, stamped, time_of_day},
    places::Place,
    unpack::unpack,
};
use crate::{
    cli::{Console, Failure},
    cni::Beside,
    list::{Gather, PushAll},
};

/// When it ends by itself.
pub(super) struct Bounds {
    pub(super) limit: Option<Duration>,
    /// So many lines.
    pub(super) count: Option<u64>,
}

/// Whose packets they are.
pub(super) struct Asked<'a> {
    /// The pod, as it was named.
    pub(super) pod: &'a str,
    pub(super) addresses: Vec<IpAddr>,
    /// The node's own.
    pub(super) node: Vec<IpAddr>,
    /// Those of the node's pods.
    pub(super) here: Vec<IpAddr>,
}

/// What a message of tcpdump has at most, in bytes.
const MESSAGE_BYTES_MAX: u64 = 4096;
/// More of a line is not kept, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The tcpdumps of a place: one that shows, behind one that takes where packets are unpacked.
struct Source {
    place: usize,
    stdout: ChildStdout,
    /// What came of a line that has not ended.
    begun: Vec<u8>,
    ended: bool,
    /// Whose processes are gone when it is dropped, and what each of them says.
    running: Vec<(Beside, Option<ChildStderr>)>,
}

/// Shows them until it is over.
pub(super) fn show(
    places: &[Place],
    asked: &Asked<'_>,
    bounds: &Bounds,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let begin = Instant::now();
    // Before the first program, or it would be left by a signal that comes meanwhile. What is held
    // is handed down: these programs are ended by SIGKILL alone.
    let held = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect::<SigSet>();
    let signals = held
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&held, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC))
        .map_err(|errno| Failure::Failed(format!("wait for signals: {}", errno.desc())))?;
    // All of them before the first thread.
    let started: Result<Vec<_>, Failure> =
        (0..).zip(places).map(|(at, place)| Source::start(at, place)).collect();
    let mut sources = started?;
    for (source, place) in sources.iter_mut().zip(places) {
        source.unpack(place)?;
    }
    let names = places.iter().map(|place| (place.role, place.name())).gather();
    let mut printer = Printer {
        width: places.iter().map(|place| place.name().len()).max().unwrap_or_default(),
        seen: Seen::new(names, asked.addresses.clone(), asked.node.clone()),
        left: bounds.count.unwrap_or(u64::MAX),
        places,
    };
    let names: Vec<String> = places.iter().map(Place::name).gather();
    console.remark(format_args!("listening on {}; times are UTC", names.join(", ")))?;
    let end = bounds.limit.and_then(|limit| begin.checked_add(limit));
    let mut lines = Lines::new(asked.addresses.clone());
    loop {
        let now = Instant::now();
        printer.print(&lines.due(now), console)?;
        if printer.left == 0 || end.is_some_and(|end| now >= end) {
            break;
        }
        let until = [end, lines.next()].into_iter().flatten().min();
        let is_over = wait(&sources, &signals, until.map(|until| until - now))?;
        let now = Instant::now();
        for source in &mut sources {
            source.read(|line| lines.add(now, line))?;
        }
        if is_over {
            break;
        }
        if let Some(place) = sources.iter().position(|source| source.ended) {
            let source = sources.remove(place);
            return Err(source.failure(places));
        }
    }
    drop(sources);
    printer.print(&lines.rest(), console)?;
    for told in printer.seen.told(asked.pod, |address| asked.here.contains(&address)) {
        console.remark(told)?;
    }
    Ok(())
}

/// Waits for a line, a signal or the time; whether it was a signal.
fn wait(sources: &[Source], signals: &SignalFd, limit: Option<Duration>) -> Result<bool, Failure> {
    let limit = limit.map(|limit| limit.as_millis() + 1);
    let limit = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
    let limit = limit.map_or(PollTimeout::NONE, |limit| {
        PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)
    });
    let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    fds.push_all(
        sources.iter().map(|source| PollFd::new(source.stdout.as_fd(), PollFlags::POLLIN)),
    );
    match poll(&mut fds, limit) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(Failure::Failed(format!("wait for tcpdump: {}", errno.desc()))),
    }
    Ok(fds.first().and_then(PollFd::any).unwrap_or_default())
}

/// What is printed, and how much is left of it.
struct Printer<'a> {
    places: &'a [Place],
    /// Of the longest name.
    width: usize,
    seen: Seen,
    left: u64,
}

impl Printer<'_> {
    fn print(&mut self, lines: &[Line], console: &mut Console<'_>) -> io::Result<()> {
        let is_some = !lines.is_empty();
        for line in lines {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            self.seen.add(line);
            let Some(place) = self.places.get(line.place) else { continue };
            let (time, name, width) = (time_of_day(line.stamp), place.name(), self.width);
            console
                .line(format_args!("{time} {:<6} {name:<width$} {}", place.role, line.packet))?;
        }
        if is_some { console.flush() } else { Ok(()) }
    }
}

impl Source {
    fn start(at: usize, place: &Place) -> Result<Self, Failure> {
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
                running.push(begin(&mut take)?);
                show.args(["-r", "-", &place.shown]).stdin(Stdio::piped());
            }
        }
        running.push(begin(&mut show)?);
        let shows = running.last_mut().and_then(|(child, _)| child.stdout());
        let Some(stdout) = shows else {
            return Err(Failure::Failed("tcpdump: no output".to_owned()));
        };
        Ok(Self { place: at, stdout, begun: Vec::new(), ended: false, running })
    }

    /// Takes packets from one to the other.
    fn unpack(&mut self, place: &Place) -> Result<(), Failure> {
        let (Some(carrier), [(take, _), (show, _)]) = (place.carrier, self.running.as_mut_slice())
        else {
            return Ok(());
        };
        let (Some(outer), Some(inner)) = (take.stdout(), show.stdin()) else { return Ok(()) };
        let started = thread::Builder::new().spawn(move || {
            // That one of them ended is seen where its output ends.
            let _ = unpack(carrier, outer, inner);
        });
        started.map(|_| ()).map_err(|error| Failure::Failed(format!("start a thread: {error}")))
    }

    /// Reads once, after which another poll tells whether there is more.
    fn read(&mut self, mut add: impl FnMut(Line)) -> Result<(), Failure> {
        let mut fds = [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)];
        if self.ended || !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..)) {
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

    /// Why it ended: the last thing that tcpdump said.
    fn failure(self, places: &[Place]) -> Failure {
        let device = places.get(self.place).map_or("?", |place| place.device.as_str());
        let mut words = Vec::new();
        for (child, stderr) in self.running {
            // Nothing is written any more.
            drop(child);
            let mut said = Vec::new();
            let read = stderr.map(|stderr| stderr.take(MESSAGE_BYTES_MAX).read_to_end(&mut said));
            let said = String::from_utf8_lossy(&said).into_owned();
            let line = said.lines().rev().find_map(|line| line.strip_prefix("tcpdump: "));
            if read.is_some_and(|read| read.is_ok()) {
                words.push_all(line.map(str::to_owned));
            }
        }
        let words = words.into_iter().next().unwrap_or_else(|| "it ended".to_owned());
        let next = if words.contains("permission") { "; run as root" } else { "" };
        Failure::Failed(format!("tcpdump on {device}: {words}{next}"))
    }
}

/// Starts one.
fn begin(command: &mut Command) -> Result<(Beside, Option<ChildStderr>), Failure> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Beside::start(command).map_err(|error| not_run(&error))?;
    let stderr = child.stderr();
    Ok((child, stderr))
}

/// That there is no tcpdump, or none that runs.
pub(super) fn not_run(error: &io::Error) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; install the package tcpdump",
        _ => "",
    };
    Failure::Failed(format!("tcpdump: {error}{hint}"))
}
