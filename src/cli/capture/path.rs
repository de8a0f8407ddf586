// SPDX-License-Identifier: Apache-2.0
//! One packet at all places that it passes on this node: a tcpdump for each, whose lines are
//! labelled and put in order.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant, SystemTime},
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
    lines::{Line, Lines, Seen, Stamp, time_of_day},
    places::Place,
    source::Source,
};
use crate::{
    cli::{Console, Failure},
    list::{Gather, PushAll},
};

/// So long tcpdump may take to listen: a busy machine needs a second.
const START_LIMIT: Duration = Duration::from_secs(10);
/// So much later a busy machine may tell of a packet at one place than at another.
const LATE: Duration = Duration::from_secs(2);

/// When it ends by itself.
pub(super) struct Bounds {
    /// So long after all of them listen.
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

/// Shows them until it is over.
pub(super) fn show(
    places: &[Place],
    asked: &Asked<'_>,
    bounds: &Bounds,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
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
    // What is seen before all of them listen is seen at some places only, and would tell that it ends there.
    if let Some(late) = listen(&mut sources, places, &signals)? {
        let name = late.device(places);
        console.remark(format_args!("ended before tcpdump listened on {name}"))?;
        return Ok(());
    }
    let end = bounds.limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut lines = Lines::new(asked.addresses.clone(), now_stamped());
    let names: Vec<String> = places.iter().map(Place::name).gather();
    console.remark(format_args!("listening on {}; times are UTC", names.join(", ")))?;
    let by_signal = loop {
        let now = Instant::now();
        printer.print(&lines.due(now), console)?;
        if printer.left == 0 || end.is_some_and(|end| now >= end) {
            break false;
        }
        let until = [end, lines.next()].into_iter().flatten().min();
        let is_over = wait(sources.iter().map(Source::lines), &signals, until)?;
        let now = Instant::now();
        for source in &mut sources {
            source.read(|line| lines.add(now, line))?;
        }
        if is_over {
            break true;
        }
        if let Some(place) = sources.iter().position(Source::has_ended) {
            let source = sources.remove(place);
            return Err(source.failure(places, "it ended"));
        }
    };
    printer.print(&lines.rest(), console)?;
    let is_here = |address| asked.here.contains(&address);
    let end = Instant::now() + LATE;
    while !by_signal && Instant::now() < end && !printer.seen.last_seen(is_here).is_empty() {
        if wait(sources.iter().map(Source::lines), &signals, Some(end))? {
            break;
        }
        for source in &mut sources {
            source.read(|line| printer.seen.add_later(&line))?;
        }
        sources.retain(|source| !source.has_ended());
    }
    drop(sources);
    for told in printer.seen.told(asked.pod, is_here) {
        console.remark(told)?;
    }
    Ok(())
}

/// Waits until every tcpdump listens; one that does not yet where a signal came first.
fn listen(
    sources: &mut Vec<Source>,
    places: &[Place],
    signals: &SignalFd,
) -> Result<Option<Source>, Failure> {
    let end = Instant::now() + START_LIMIT;
    while let Some(late) = sources.iter().position(|source| !source.listens()) {
        if Instant::now() >= end {
            let limit = START_LIMIT.as_secs();
            let words = format!("it has not begun to listen within {limit} s; try it by hand");
            return Err(sources.remove(late).failure(places, &words));
        }
        if wait(sources.iter().flat_map(Source::remarks), signals, Some(end))? {
            return Ok(Some(sources.remove(late)));
        }
        if let Some(failed) = sources.iter_mut().position(|source| !source.hear()) {
            return Err(sources.remove(failed).failure(places, "it ended"));
        }
    }
    Ok(None)
}

/// The time as tcpdump tells it.
fn now_stamped() -> Stamp {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    (now.as_secs(), now.subsec_micros())
}

/// Waits for one of these, a signal or the time; whether it was a signal.
fn wait<'a>(
    others: impl Iterator<Item = BorrowedFd<'a>>,
    signals: &'a SignalFd,
    until: Option<Instant>,
) -> Result<bool, Failure> {
    let limit = until.map(|until| until.saturating_duration_since(Instant::now()).as_millis() + 1);
    let limit = limit.map(|limit| u32::try_from(limit).unwrap_or(u32::MAX));
    let limit = limit.map_or(PollTimeout::NONE, |limit| {
        PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)
    });
    let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    fds.push_all(others.map(|other| PollFd::new(other, PollFlags::POLLIN)));
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
                self.seen.add_later(line);
                continue;
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
