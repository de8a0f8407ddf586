// SPDX-License-Identifier: Apache-2.0
//! Keeps the table of policies true to the lists on the board, and to itself where others
//! touch it.

use std::{
    collections::BTreeSet,
    os::fd::AsFd,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    super::{metrics::Counts, status::Status},
    board::{Board, News},
};
use crate::{
    list::{Gather, PushAll},
    nft::Monitor,
    node::policy::{Cut, Kept, monitor},
    policy::{Denial, World},
    state::Root,
};

/// How soon to try again what failed.
const RETRY: Duration = Duration::from_secs(2);
/// How often to compare all of the table, and in case an event was lost.
const LOOK: Duration = Duration::from_secs(60);
/// How often connections are looked through at most: there may be hundreds of thousands.
const CUT: Duration = Duration::from_secs(1);
/// The same where nothing but what others did to the table is a reason: pods that go are, and
/// seldom open anything.
const MENDED: Duration = Duration::from_secs(10);
/// How long one who is slow waits at most before the next change is made.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is known, what was done, and what is to be done when.
struct Keeper {
    board: Arc<Board>,
    status: Arc<Status>,
    kept: Kept,
    monitor: Option<Monitor>,
    lists: News,
    /// When to compare all of the table.
    whole: Instant,
    /// When the next change may be made: under load changes gather meanwhile.
    ready: Instant,
    /// When to look for connections that are not allowed any more.
    cut: Option<Instant>,
    last_cut: Option<Instant>,
    owed: Owed,
    /// Something changed that no pass has seen.
    is_behind: bool,
    said: Said,
}

/// Connections that are to be cut and are not yet.
#[derive(Default)]
struct Owed {
    /// How often in a row nothing came of it.
    fruitless: u32,
}

impl Owed {
    /// After what time to go on, where so many were cut and so many are left, or none could be
    /// looked for; `None` when nothing is left.
    fn after(&mut self, cut: Option<(usize, usize)>) -> Option<Duration> {
        match cut {
            Some((_, 0)) => {
                self.fruitless = 0;
                None
            }
            Some((1.., _)) => {
                self.fruitless = 0;
                Some(CUT)
            }
            _ => {
                let wait = RETRY.saturating_mul(1 << self.fruitless.min(8)).min(LOOK);
                self.fruitless = self.fruitless.saturating_add(1);
                Some(wait)
            }
        }
    }
}

#[derive(Default)]
struct Said {
    lost: String,
    failed: String,
    cut: Vec<String>,
    notes: BTreeSet<String>,
}

/// Keeps the table of the node of this name, which denies packets like that, and comes to no end.
pub(crate) fn keep(
    board: &Arc<Board>,
    node: &str,
    denial: Denial,
    root: &Root,
    status: &Arc<Status>,
) -> ! {
    let now = Instant::now();
    let mut keeper = Keeper {
        board: Arc::clone(board),
        status: Arc::clone(status),
        kept: Kept::new(node, denial, root),
        monitor: None,
        lists: News::default(),
        whole: now,
        ready: now,
        cut: None,
        last_cut: None,
        owed: Owed::default(),
        is_behind: false,
        said: Said::default(),
    };
    loop {
        keeper.listen();
        keeper.wait();
        keeper.step();
    }
}

impl Keeper {
    /// Subscribes to what others do with the table.
    fn listen(&mut self) {
        if self.monitor.is_some() {
            return;
        }
        match monitor() {
            Ok(monitor) => self.monitor = Some(monitor),
            Err(error) => log::debug!("what others do to network policies is found late: {error}"),
        }
    }

    /// Waits for something to do.
    fn wait(&self) {
        let now = Instant::now();
        let due = if self.is_behind { self.ready.min(self.whole) } else { self.whole };
        let due = self.cut.map_or(due, |cut| due.min(cut));
        let left = due.saturating_duration_since(now);
        if left.is_zero() {
            return;
        }
        // Rounded up, or the last part of a millisecond would be spent turning.
        let millis = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
        let mut sources = vec![PollFd::new(self.board.bell().as_fd(), PollFlags::POLLIN)];
        sources.push_all(self.monitor.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)));
        if poll(&mut sources, PollTimeout::from(millis)).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn step(&mut self) {
        if self.board.bell().is_rung() {
            let news = self.board.take();
            self.take(news);
        }
        let touched = match self.monitor.as_mut().map(Monitor::drain) {
            None | Some(Ok(false)) => false,
            Some(Ok(true)) => true,
            Some(Err(error)) => {
                log::debug!("events of nf_tables: {error}");
                self.monitor = None;
                true
            }
        };
        // One's own changes are told of as well.
        if touched && self.kept.is_overtaken().unwrap_or(true) {
            self.whole = self.whole.min(self.ready);
        }
        let now = Instant::now();
        let is_whole = self.whole <= now;
        if is_whole || self.is_behind && self.ready <= now {
            self.pass(is_whole);
        }
        if self.cut.is_some_and(|cut| cut <= Instant::now()) {
            self.cut_connections();
        }
    }

    /// Takes what is new.
    fn take(&mut self, news: News) {
        let News { namespaces, pods, policies, heard, lost } = news;
        let lost = lost.into_iter().flatten().next().unwrap_or_default();
        if lost != self.said.lost {
            match lost.is_empty() {
                true => log::info!("the API server tells of network policies"),
                false => log::warn!("{lost}; network policies stay as they are"),
            }
            if self.status.unenforced().is_some() && !lost.is_empty() {
                self.status.enforced(Some(format!("network policies are not known yet: {lost}")));
            }
            self.said.lost = lost;
        }
        let is_new = namespaces.is_some() || pods.is_some() || policies.is_some();
        match namespaces {
            // Each cluster has some that nobody can delete.
            Some(none) if none.is_empty() => {
                log::warn!("the API server lists no namespace at all, which is not believed");
            }
            Some(all) => self.lists.namespaces = Some(all),
            None => {}
        }
        self.lists.pods = pods.or(self.lists.pods.take());
        self.lists.policies = policies.or(self.lists.policies.take());
        self.lists.heard = self.lists.heard.or(heard);
        self.is_behind |= is_new;
    }

    /// All that is known; nothing before all of it is.
    fn world(&self) -> Option<World> {
        let News { namespaces, pods, policies, .. } = &self.lists;
        let namespaces = namespaces.as_ref()?.iter();
        let namespaces = namespaces.map(|one| (one.name.clone(), Arc::clone(&one.labels)));
        let policies = policies.as_ref()?.iter().map(|given| Arc::clone(&given.policy));
        Some(World {
            namespaces: namespaces.collect(),
            pods: pods.clone()?,
            policies: policies.gather(),
        })
    }

    fn pass(&mut self, is_whole: bool) {
        let began = Instant::now();
        self.whole = began + LOOK;
        let Some(world) = self.world() else { return self.is_behind = false };
        let done = self.kept.pass(&world, is_whole);
        let now = Instant::now();
        self.ready = now + now.saturating_duration_since(began).min(PAUSE_MAX);
        match done {
            Ok(done) => {
                self.is_behind = false;
                let heard = self.lists.heard.take().filter(|_| done.changed);
                self.status.enforced(None);
                self.status.policies(&self.counts(), done, heard);
                if done.restricts || done.mended {
                    let pause = if done.restricts { CUT } else { MENDED };
                    let next = self.last_cut.map_or(now, |last| last + pause).max(now);
                    self.cut = Some(self.cut.map_or(next, |cut| cut.min(next)));
                }
                if !self.said.failed.is_empty() {
                    log::info!("network policies are enforced again");
                    self.said.failed.clear();
                }
                self.say();
            }
            Err(error) => {
                let words = error.to_string();
                self.status.policies_failed();
                if self.status.unenforced().is_some() {
                    self.status.enforced(Some(format!("network policies: {words}")));
                }
                if words != self.said.failed {
                    log::error!("{words}; trying again every {} s", RETRY.as_secs());
                    self.said.failed = words;
                }
                self.is_behind = true;
                self.ready = self.ready.max(now + RETRY);
            }
        }
    }

    /// Cuts what is not allowed any more, and goes on with what is left soon.
    fn cut_connections(&mut self) {
        self.last_cut = Some(Instant::now());
        let (cut, notes) = match self.kept.cut() {
            Ok(Cut { count, left, notes }) => {
                if count > 0 {
                    log::info!("connections that network policies do not allow are cut: {count}");
                    self.status.cut(count);
                }
                (Some((count, left)), notes)
            }
            Err(error) => {
                self.status.policies_failed();
                (None, vec![format!("{error}: connections stay, whatever network policies say")])
            }
        };
        notes.iter().filter(|note| !self.said.cut.contains(note)).for_each(|it| log::warn!("{it}"));
        self.said.cut = notes;
        self.cut = self.owed.after(cut).map(|wait| Instant::now() + wait);
    }

    fn counts(&self) -> Counts {
        let News { namespaces, pods, policies, .. } = &self.lists;
        let policies = policies.as_deref().unwrap_or_default();
        Counts {
            namespaces: namespaces.as_ref().map_or(0, Vec::len),
            pods: pods.as_ref().map_or(0, Vec::len),
            policies: policies.len(),
            unreadable: policies.iter().filter(|given| !given.notes.is_empty()).count(),
            isolated: self.kept.isolated(),
            unknown: self.kept.unknown(),
        }
    }

    /// Says what of policies could not be understood, where that is new.
    fn say(&mut self) {
        let policies = self.lists.policies.iter().flatten();
        let notes: BTreeSet<String> = policies.flat_map(|given| given.notes.clone()).collect();
        for new in notes.difference(&self.said.notes) {
            log::warn!("{new}");
        }
        self.said.notes = notes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_gone_on_with_soon_and_ever_more_rarely_where_nothing_comes_of_it() {
        let mut owed = Owed::default();
        assert_eq!(owed.after(Some((0, 0))), None);
        assert_eq!(owed.after(Some((16_384, 9))), Some(CUT));
        assert_eq!(owed.after(Some((9, 0))), None);
        let seconds = |wait: Option<Duration>| wait.unwrap().as_secs();
        let waits: Vec<u64> = (0..8).map(|_| seconds(owed.after(None))).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(seconds(owed.after(Some((0, 3)))), 60, "as if they could not be looked for");
        assert_eq!(owed.after(Some((1, 2))), Some(CUT));
        assert_eq!(seconds(owed.after(None)), 2);
    }
}
