// SPDX-License-Identifier: Apache-2.0
//! Packets of some sizes that are on their way at once, each sent again until it is
//! answered. Pure: the time is handed in, and so are the answers.

use std::time::Duration;

use crate::list::Gather;

/// What is to be done next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next<T> {
    /// Send this.
    Send(T),
    /// Nothing, until then.
    Wait(Duration),
    /// There is nothing more to do.
    Done,
}

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How often a size is sent at most.
    pub(super) times: u32,
    /// How long until it is sent again.
    pub(super) gap: Duration,
    /// How long the last one is waited for.
    pub(super) patience: Duration,
    /// Whether it is sent so often in any case.
    pub(super) always: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    Answered,
    TooBig,
}

#[derive(Clone, Debug)]
struct Try {
    bytes: u32,
    sent: u32,
    answers: u32,
    last: Duration,
    state: State,
}

/// The sizes of one round.
#[derive(Clone, Debug)]
pub(super) struct Round {
    pace: Pace,
    tries: Vec<Try>,
}

impl Round {
    pub(super) fn new(sizes: impl IntoIterator<Item = u32>, pace: Pace) -> Self {
        let open = |bytes| {
            let (last, state) = (Duration::ZERO, State::Open);
            Try { bytes, sent: 0, answers: 0, last, state }
        };
        Self { pace, tries: sizes.into_iter().map(open).gather() }
    }

    /// What is said to send is taken as sent.
    pub(super) fn next(&mut self, now: Duration) -> Next<u32> {
        let pace = self.pace;
        let mut until: Option<Duration> = None;
        for one in self.tries.iter_mut().filter(|one| !one.is_settled(&pace)) {
            let due = match (one.sent, one.sent < pace.times) {
                (0, _) => now,
                (_, true) => one.last + pace.gap,
                (_, false) => one.last + pace.patience,
            };
            if due > now {
                until = Some(until.map_or(due, |until| until.min(due)));
            } else if one.sent < pace.times {
                one.sent += 1;
                one.last = now;
                return Next::Send(one.bytes);
            }
        }
        until.map_or(Next::Done, Next::Wait)
    }

    /// This size was answered; so would be any smaller one.
    pub(super) fn answered(&mut self, bytes: u32) {
        for one in &mut self.tries {
            one.answers += u32::from(one.bytes == bytes);
            if one.bytes <= bytes && one.state == State::Open {
                one.state = State::Answered;
            }
        }
    }

    /// No larger size than this one passes.
    pub(super) fn too_big(&mut self, above: u32) {
        for one in self.tries.iter_mut().filter(|one| one.bytes > above) {
            one.state = State::TooBig;
        }
    }

    /// The smallest size that did not pass.
    pub(super) fn lost(&self) -> Option<u32> {
        let lost = self.tries.iter().filter(|one| one.state != State::Answered);
        lost.map(|one| one.bytes).min()
    }

    /// How many packets were sent, and how many of them answered.
    pub(super) fn counts(&self) -> (u32, u32) {
        let sum = |of: fn(&Try) -> u32| self.tries.iter().map(of).sum();
        (sum(|one| one.sent), sum(|one| one.answers))
    }
}

impl Try {
    fn is_settled(&self, pace: &Pace) -> bool {
        match self.state {
            State::TooBig => true,
            State::Answered if pace.always => self.answers >= pace.times,
            State::Answered => true,
            State::Open => false,
        }
    }
}
