// SPDX-License-Identifier: Apache-2.0
//! The search for the largest packet that passes, by as few packets as possible: the
//! largest that leaves here first, then what the network says, then the sizes of common
//! networks, then what is between. Pure.

use std::{net::IpAddr, time::Duration};

use super::{
    Method,
    round::{Next, Pace, Round},
};
use crate::list::Gather;
use crate::net::icmp::SMALL;

/// What networks carry, and what is left of that by encapsulations.
const COMMON: [u32; 14] =
    [8981, 8951, 4000, 1500, 1480, 1460, 1450, 1430, 1420, 1400, 1360, 1300, 1280, 576];
/// How many sizes are on their way at once.
const WIDTH: u32 = 8;
/// A size that goes unanswered so often is lost.
const TIMES: u32 = 3;
/// A kernel answers datagrams with no more than six errors at once and one a second.
const ANSWERS_MAX: u32 = 4;
/// More rounds than any search takes.
const ROUNDS_MAX: u32 = 16;

/// What a search found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// The largest size that passed, in bytes with all headers.
    pub passed: u32,
    /// The smallest that did not; none if the largest that leaves here passed.
    pub lost: Option<u32>,
    /// What the network says that it carries, and who says so.
    pub told: Option<(u32, IpAddr)>,
}

/// A search.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    method: Method,
    sizes: Sizes,
    /// What the network says that it carries, in so many words.
    hint: Option<u32>,
    pace: Pace,
    rounds: u32,
    answers: u32,
    round: Round,
    /// Whether silence may mean that no more is answered for now.
    doubt: Doubt,
    /// Whether what passes is searched for where the largest does not.
    search: bool,
    done: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Doubt {
    /// It is not, or does not matter.
    None,
    /// It is to be found out as soon as anything is lost.
    Open,
    /// A small packet is under way, which should be answered.
    Asked,
    /// It does, and nothing is known.
    Founded,
}

impl Ladder {
    /// From a size that passed up to the `limit` of this node, where answers take as
    /// long as `usual`.
    pub(super) fn new(method: Method, passed: u32, limit: u32, usual: Duration) -> Self {
        let pace = Pace {
            times: TIMES,
            gap: (usual * 2).clamp(Duration::from_millis(50), Duration::from_millis(200)),
            patience: (usual * 2 + Duration::from_millis(250)).min(Duration::from_millis(800)),
            always: false,
        };
        Self {
            method,
            sizes: Sizes { passed, ..Sizes::default() },
            hint: None,
            pace,
            rounds: 0,
            answers: 0,
            round: Round::new([limit], pace),
            doubt: if method == Method::Echo { Doubt::None } else { Doubt::Open },
            search: true,
            done: limit <= passed,
        }
    }

    /// Whether the largest passes, and no more.
    pub(super) fn largest_alone(mut self) -> Self {
        self.search = false;
        self
    }

    pub(super) fn next(&mut self, now: Duration) -> Next<u32> {
        loop {
            if self.done {
                return Next::Done;
            }
            match self.round.next(now) {
                Next::Done => self.advance(),
                next => return next,
            }
        }
    }

    pub(super) fn answered(&mut self, bytes: u32) {
        self.answers += 1;
        self.sizes.passed = self.sizes.passed.max(bytes);
        self.round.answered(bytes);
    }

    /// Somebody says that no more than `mtu` bytes pass; 0 if it does not say how many.
    pub(super) fn too_big(&mut self, bytes: u32, mtu: u32, by: IpAddr) {
        let hint = Some(mtu).filter(|mtu| (1..bytes).contains(mtu));
        let above = hint.unwrap_or(bytes.saturating_sub(1));
        self.hint = [self.hint, hint].into_iter().flatten().min();
        self.round.too_big(above);
        self.lose(above + 1);
        if self.sizes.told.is_none_or(|(told, _)| above < told) {
            self.sizes.told = Some((above, by));
        }
    }

    /// What was found; none where the other end may just answer no more for now.
    pub(super) fn into_sizes(self) -> Option<Sizes> {
        (self.doubt != Doubt::Founded).then_some(self.sizes)
    }

    fn advance(&mut self) {
        self.rounds += 1;
        let is_lost = self.round.lost().is_some();
        if self.doubt == Doubt::Asked {
            self.doubt = if is_lost { Doubt::Founded } else { Doubt::None };
            self.done = is_lost;
        }
        if self.done {
            return;
        }
        if let Some(lost) = self.round.lost() {
            self.lose(lost);
        }
        if self.doubt == Doubt::Open && is_lost && self.sizes.told.is_none() {
            self.doubt = Doubt::Asked;
            self.round = Round::new([SMALL], self.pace);
            return;
        }
        let is_spent = self.method != Method::Echo && self.answers >= ANSWERS_MAX;
        let sizes = if self.search { self.candidates() } else { Vec::new() };
        if sizes.is_empty() || is_spent || self.rounds >= ROUNDS_MAX {
            self.done = true;
        } else {
            self.round = Round::new(sizes, self.pace);
        }
    }

    fn lose(&mut self, bytes: u32) {
        let found = &mut self.sizes;
        // An answer may have come late.
        let lost = bytes.max(found.passed + 1);
        found.lost = Some(found.lost.map_or(lost, |before| before.min(lost)));
    }

    /// Sizes between what passed and what did not.
    fn candidates(&self) -> Vec<u32> {
        let Sizes { passed, lost, .. } = self.sizes;
        let Some(lost) = lost.filter(|lost| *lost > passed + 1) else { return Vec::new() };
        let between = |bytes: &u32| passed < *bytes && *bytes < lost;
        if let Some(hint) = self.hint {
            if between(&hint) {
                return vec![hint];
            }
            if hint == passed {
                return Vec::new();
            }
        }
        let width = if self.method == Method::Echo { WIDTH } else { 1 };
        let common: Vec<u32> = COMMON.into_iter().filter(between).gather();
        if !common.is_empty() {
            let count = usize::try_from(width).unwrap_or(1);
            let skip = if count == 1 { common.len() / 2 } else { 0 };
            return common.into_iter().skip(skip).take(count).gather();
        }
        let gap = lost - passed;
        let spread = |step: u32| passed + gap * step / (width + 1);
        let mut sizes: Vec<u32> = (1..=width).map(spread).filter(between).gather();
        sizes.dedup();
        sizes
    }
}
