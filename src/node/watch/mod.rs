// SPDX-License-Identifier: Apache-2.0
//! Keeps the node as it should be: repairs what others change, as soon as the kernel
//! tells of it.
//!
//! The configuration is read again when it may have changed: a watch that kept to
//! an old one would undo what the plugin does by the new one. One that is started
//! before there is a configuration, or with one that cannot be read, waits for it: a
//! node may get its configuration after its units, and a unit that failed would be
//! started again every second.
//!
//! Subscribes before the first full pass, so that nothing falls between. An
//! event is only a hint to compare: the pass that follows reads everything
//! itself, so lost events cost nothing but time, and a slow pass makes up for
//! them.

mod ahead;
mod bell;
mod events;
mod files;
mod pace;
mod said;

use std::{
    convert::Infallible,
    os::fd::AsFd,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use ahead::ahead;
use events::{Came, Events};
use files::ANY;
use pace::{Pace, Work};
use said::Tell;

pub(crate) use bell::Bell;
pub(crate) use files::Files;
pub(crate) use said::Said;

use super::{
    Error,
    apply::{Report, apply_by, lock},
    changes::Source,
    configured::Networks,
    conflist::DIRECTORY,
    fabric::{AtRest, WRITER_LIMIT},
    kernel,
};
use crate::{list::PushAll, net::Socket, state::Root};

/// A file that is written in place is whole after this.
const WRITTEN: Duration = Duration::from_millis(100);
/// How often to look for a configuration where the kernel tells of no files, and in
/// case it lost an event.
const LOOK: Duration = Duration::from_secs(10);

/// What is said where the same is repaired again and again.
const CONTESTED: &str = "another program undoes what is repaired here, again and again: repairs \
     wait for up to 5 s from now on; ip monitor shows what changes, ps who may do it";

/// Watches over all networks, or over that of `conf` alone, and comes to no end. The bell
/// wakes whoever is told.
///
/// # Errors
/// If the kernel does not tell of changes.
pub(crate) fn watch(
    root: &Root,
    conf: Option<&Path>,
    bell: Option<&Bell>,
    tell: Tell<'_>,
) -> Result<Infallible, Error> {
    // Whichever file appears there.
    let place = conf.map_or_else(|| root.path(DIRECTORY).join(ANY), PathBuf::from);
    let mut networks = awaited(root, conf, &place, tell);
    let mut events = Events::subscribe(&networks, &place, tell)?;
    let mut unread = None;
    let mut socket = Socket::open().map_err(kernel)?;
    let mut pace = Pace::new(Instant::now());
    let (mut is_full, mut full) = (true, Duration::ZERO);
    loop {
        let begin = Instant::now();
        let ahead = ahead(&mut events, &networks, conf, &mut socket)?;
        let made = (!ahead.is_empty()).then(Instant::now);
        let is_told = events.take_files();
        if is_told {
            let read = match reread(root, conf, &networks) {
                Ok(mut read) => {
                    unread = None;
                    read.keep(&networks);
                    read
                }
                Err(error) => {
                    unread = Some(format!("{error}; going on with the configuration as it was"));
                    networks.again()
                }
            };
            let is_same = read.is_same(&networks);
            networks = read;
            if !is_same {
                events = Events::subscribe(&networks, &place, tell)?;
            }
        }
        let mut report = attempt(&networks, &mut socket, &mut events);
        let rest = report.rest.take();
        report.lines.splice(0..0, ahead);
        (report.began, report.ahead) = (Some(begin), made);
        let elapsed = begin.elapsed();
        let work = match (report.lines.is_empty(), is_told) {
            (true, _) => Work::Nothing,
            (false, true) => Work::Wanted,
            (false, false) => Work::Repair,
        };
        pace.passed(Instant::now(), elapsed, work);
        if is_full {
            full = elapsed;
        }
        report.errors.push_all(unread.clone());
        if pace.is_contested() {
            let [_, of_tables] = &mut report.notes;
            of_tables.push(CONTESTED.to_owned());
        }
        let again = tell(Said::Report(Box::new(report)));
        events.at_rest = rest.and_then(|(rest, tables)| AtRest::of(rest, tables, root));
        is_full = !events.is_behind() && !await_event(&mut events, full, bell, again, tell)?;
        if is_full {
            events.watch_files(&networks, &place);
            events.doubt();
        }
        // Whatever happens until then is part of the same pass.
        thread::sleep(pace.delay(Instant::now()));
        events.settle()?;
    }
}

/// Waits for an event until a pass over everything is due, where one takes so long, and wakes
/// whoever is told meanwhile. True if there was one.
fn await_event(
    events: &mut Events,
    pass: Duration,
    bell: Option<&Bell>,
    mut again: Option<Instant>,
    tell: Tell<'_>,
) -> Result<bool, Error> {
    let end = Instant::now() + events.until_full(pass);
    loop {
        let next = again.map_or(end, |again| again.min(end));
        let left = next.saturating_duration_since(Instant::now());
        match events.wait(left, bell)? {
            Came::Event => return Ok(true),
            Came::Nothing if next == end => return Ok(false),
            Came::Nothing | Came::Ring => again = tell(Said::Woken),
        }
    }
}

/// Reads the configuration as soon as there is one. Why there is none is said once.
fn awaited(root: &Root, conf: Option<&Path>, place: &Path, tell: Tell<'_>) -> Networks {
    // Before the first look, so that nothing falls between.
    let mut files = Files::watch(vec![place.to_owned()]).ok();
    let mut told = String::new();
    loop {
        let reason = match Networks::read(root, conf) {
            Ok(networks) => return networks,
            Err(error) => error.to_string(),
        };
        if reason != told {
            tell(Said::Remark(format!("{reason}; waiting for a configuration")));
            told = reason;
        }
        let Some(files) = &mut files else {
            thread::sleep(LOOK);
            continue;
        };
        let timeout = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut [PollFd::new(files.as_fd(), PollFlags::POLLIN)], timeout);
        files.drain();
    }
}

/// Reads the configuration; one that is being written is no good for a moment. One that
/// was no good before is not waited for again.
fn reread(root: &Root, conf: Option<&Path>, before: &Networks) -> Result<Networks, Error> {
    match Networks::read(root, conf) {
        Ok(networks) if networks.unusable.iter().all(|one| before.unusable.contains(one)) => {
            Ok(networks)
        }
        _ => {
            thread::sleep(WRITTEN);
            Networks::read(root, conf)
        }
    }
}

/// What cannot be repaired now is tried again on the next event. A file that is no
/// good does not let what was applied before fall to pieces.
fn attempt(networks: &Networks, socket: &mut Socket, events: &mut Events) -> Report {
    let mut pass = || {
        let locked = lock(networks, WRITER_LIMIT)?;
        // Whoever had the lock before may have changed what the answers come from.
        events.begin_pass()?;
        apply_by(networks, &locked, socket, Source::FileOrLast, &mut events.answers)
    };
    pass().unwrap_or_else(|error| Report { errors: vec![error.to_string()], ..Report::default() })
}

#[cfg(test)]
mod tests;
