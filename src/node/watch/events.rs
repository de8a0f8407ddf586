// SPDX-License-Identifier: Apache-2.0
//! All that may tell a watch of a change: the kernel's routes, its nftables tables, and
//! files.

use std::{
    mem,
    os::fd::AsFd,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    super::{Error, Kind, Object, configured::Networks, fabric::AtRest, kernel, tables},
    bell::Bell,
    files::{Files, Told},
    said::{Said, Tell},
};
use crate::{
    fabric::Answers,
    list::{Gather, PushAll},
    net::{Event, Monitor, monitor},
};

/// A pass without an event, in case one was lost.
const FULL_PASS: Duration = Duration::from_secs(60);
/// It takes a thousandth of the time: that over thousands of nodes comes less often.
const FULL_PASS_SHARE: u32 = 1000;
const FULL_PASS_MAX: Duration = Duration::from_secs(240);
/// How long to gather events before a pass: a link that goes down tells of
/// each of its routes.
const SETTLE: Duration = Duration::from_millis(5);

fn until_full(pass: Duration) -> Duration {
    (pass * FULL_PASS_SHARE).clamp(FULL_PASS, FULL_PASS_MAX)
}

/// All that may tell of a change.
pub(super) struct Events {
    /// Links, addresses, routes, neighbours.
    network: Monitor,
    /// The nftables tables of the network and of its fabric's tunnels.
    table: Option<Monitor>,
    /// The peers file and the configuration.
    files: Option<Files>,
    /// What came since a pass.
    since: Since,
    /// What was found, as far as no event says otherwise.
    pub(super) answers: Answers,
    /// What a pass found that had nothing to change; it goes with the first event of the
    /// kernel.
    pub(super) at_rest: Option<AtRest>,
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Came {
    /// The time was over.
    Nothing,
    /// An event that matters.
    Event,
    /// The bell was rung, and that is all.
    Ring,
}

/// What came of events.
struct Since {
    /// Of the kernel.
    kernel: bool,
    files: Told,
}

impl Since {
    const NOTHING: Self = Self { kernel: false, files: Told::Nothing };
}

impl Events {
    pub(super) fn subscribe(
        networks: &Networks,
        place: &Path,
        tell: Tell<'_>,
    ) -> Result<Self, Error> {
        let network = monitor::subscribe().map_err(kernel)?;
        // A kernel that cannot tell of the table may well have routes to repair.
        let table = match tables::monitor(networks.all.iter().map(|one| &one.config)) {
            Ok(table) => Some(table),
            Err(error) => {
                tell(Said::Remark(error.to_string()));
                None
            }
        };
        // The node was read before.
        let since = Since { kernel: false, files: Told::Changed };
        let mut events =
            Self { network, table, files: None, since, answers: Answers::default(), at_rest: None };
        if let Some(failure) = events.watch_files(networks, place) {
            let seconds = FULL_PASS.as_secs();
            let words = "a change of the peers file or the configuration is noticed after";
            tell(Said::Remark(format!("{failure}; {words} {seconds} s at most")));
        }
        Ok(events)
    }

    /// Watches the peers file and the configuration, if that is not done. Where the
    /// node has no inotify instance left there will be another one: until then the
    /// peers file is read with each pass all the same.
    pub(super) fn watch_files(&mut self, networks: &Networks, place: &Path) -> Option<Error> {
        if self.files.is_some() {
            return None;
        }
        let peers = networks.all.iter().filter_map(|one| one.heeds(&networks.root));
        let paths = peers.chain([place.to_owned()]);
        Files::watch(paths.gather()).map(|files| self.files = Some(files)).err()
    }

    /// Whether a file was put in the place of another, and that is all: it is whole, and
    /// nothing that belongs to it is to come.
    pub(super) fn is_renamed(&self) -> bool {
        !self.since.kernel && self.since.files == Told::Renamed
    }

    /// That anything may be another.
    pub(super) fn doubt(&mut self) {
        self.answers.forget(&Event::Other);
        self.at_rest = None;
        self.since.files = Told::Changed;
    }

    /// Whether the peers file or the configuration may be another one, for a pass that
    /// begins.
    pub(super) fn take_files(&mut self) -> bool {
        mem::replace(&mut self.since, Since::NOTHING).files != Told::Nothing
    }

    /// How long to wait for an event, where a pass over everything takes so long. It is what
    /// notices a change of a file that nothing tells of.
    pub(super) fn until_full(&self, pass: Duration) -> Duration {
        match self.files {
            Some(_) => until_full(pass),
            None => FULL_PASS,
        }
    }

    /// Waits for an event that matters, or the bell, for at most `limit`.
    pub(super) fn wait(&mut self, limit: Duration, bell: Option<&Bell>) -> Result<Came, Error> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Came::Nothing);
            }
            match self.poll(left, bell)? {
                Came::Nothing => {}
                came => return Ok(came),
            }
        }
    }

    /// Waits for any event, and tells whether it matters.
    fn poll(&mut self, limit: Duration, bell: Option<&Bell>) -> Result<Came, Error> {
        let mut sources = vec![PollFd::new(self.network.as_fd(), PollFlags::POLLIN)];
        sources.push_all(self.table.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)));
        sources.push_all(self.files.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)));
        sources.push_all(bell.map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)));
        // Rounded up, or the last part of a millisecond would be spent turning.
        let millis = u16::try_from(limit.as_millis() + 1).unwrap_or(u16::MAX);
        match poll(&mut sources, PollTimeout::from(millis)) {
            Ok(0) | Err(Errno::EINTR) => return Ok(Came::Nothing),
            Ok(_) => {}
            Err(errno) => {
                return Err(Error::new(
                    Kind::Kernel,
                    Object::request("wait for events"),
                    errno.desc(),
                ));
            }
        }
        drop(sources);
        Ok(match self.look()? {
            true => Came::Event,
            false if bell.is_some_and(Bell::is_rung) => Came::Ring,
            false => Came::Nothing,
        })
    }

    /// Takes all events that there are, and tells whether any matters.
    pub(super) fn look(&mut self) -> Result<bool, Error> {
        let answers = &mut self.answers;
        let mut network = false;
        let take = &mut |event: Event| {
            network |= answers.forget(&event);
        };
        monitor::read(&mut self.network, take).map_err(kernel)?;
        let table = self.table.as_mut().map_or(Ok(false), Monitor::drain).map_err(kernel)?;
        let files = self.files.as_mut().map_or(Told::Nothing, Files::drain);
        self.since.kernel |= network || table;
        if network || table {
            self.at_rest = None;
        }
        self.since.files = self.since.files.max(files);
        Ok(network || table || files != Told::Nothing)
    }

    /// Takes what came until a pass begins to read the kernel's tables: it sees all of that
    /// itself.
    pub(super) fn begin_pass(&mut self) -> Result<(), Error> {
        self.look()?;
        self.since.kernel = false;
        Ok(())
    }

    /// Whether files changed that the last pass may not have seen.
    pub(super) fn is_behind(&self) -> bool {
        self.since.files != Told::Nothing
    }

    /// Gathers what belongs together.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        // Whatever came while nobody looked may be more than the renaming.
        self.look()?;
        if self.is_renamed() {
            return Ok(());
        }
        let deadline = Instant::now() + SETTLE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.wait(left, None)? == Came::Nothing {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_over_thousands_of_nodes_comes_less_often() {
        for (millis, seconds) in [(0, 60), (60, 60), (150, 150), (10_000, 240)] {
            let pass = Duration::from_millis(millis);
            assert_eq!(until_full(pass), Duration::from_secs(seconds));
        }
    }
}
