// SPDX-License-Identifier: Apache-2.0
//! What the peers file says of the fabric while a mode changes. Pure.
//!
//! Another configuration reaches the nodes of a cluster one after the other. So a node
//! first takes what comes by the new mode and goes on sending by the old one, for half of
//! the time that it may take until all have the configuration. Then it sends by the new
//! one, and takes what comes by the old one for the other half. What the cluster itself
//! says reaches all nodes in a moment: it is sent by at once, and the old mode is taken
//! for all of the time.
//!
//! Where a node is can be read in its file, and since when in a note beside it, so that an
//! agent that is started again goes on there.

use std::{
    mem,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conf::FabricPart;

/// For how long a former mode is accepted, if nobody says so.
pub(super) const ACCEPTED: Duration = Duration::from_secs(600);

/// What outlives the agent, beside the peers file. Times are seconds since 1970.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Note {
    /// Of the modes that the file says; a note of others is none.
    fabric: Value,
    /// Since when it says them.
    since: u64,
    /// When an agent last kept it.
    seen: u64,
}

impl Note {
    /// Whether it is of the same modes.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.fabric == other.fabric
    }
}

/// A fabric on its way from one mode to another.
#[derive(Debug)]
pub(super) struct Change {
    /// The fabric that the peers file names; none where there is no file.
    said: Option<FabricPart>,
    /// For how long the file had named it, and the moment at which that was so, if it is known.
    age: (Duration, Option<Instant>),
    /// For how long no agent kept the file before this one was started.
    away: Duration,
    /// When there is another step to be made.
    due: Option<Instant>,
    /// For how long a former mode is accepted.
    pub(super) limit: Duration,
    /// Whether all nodes hear of a change in the same moment.
    pub(super) at_once: bool,
}

/// A stage of a change.
struct Stage {
    says: FabricPart,
    /// For how long it has been, where it is a new one.
    head: Duration,
    /// How long this step lasts; none where it is the last one.
    lasts: Option<Duration>,
}

impl Change {
    /// From what the file says that is there, and what was noted of that.
    pub(super) fn new(said: Option<FabricPart>, note: Option<&Note>, clock: u64) -> Self {
        let of_file = said.as_ref().map(|said| ways(said).encode());
        let note = note.filter(|note| of_file.as_ref() == Some(&note.fabric));
        // A clock that was put back leaves times of the future.
        let until_now = |then: u64| Duration::from_secs(clock.saturating_sub(then));
        let age = note.map_or(Duration::ZERO, |note| until_now(note.since));
        let away = note.map_or(Duration::ZERO, |note| until_now(note.seen));
        let (due, limit) = (None, ACCEPTED);
        Self { said, age: (age, None), away, due, limit, at_once: false }
    }

    /// What the file says.
    pub(super) fn said(&self) -> Option<&FabricPart> {
        self.said.as_ref()
    }

    /// What the file is to say now, where this is wanted.
    pub(super) fn step(&mut self, wanted: &FabricPart, now: Instant) -> FabricPart {
        let age = self.age_at(now);
        let away = mem::take(&mut self.away);
        let stage = match &self.said {
            Some(said) => self.next(said, wanted, age, away),
            None => self.joins(wanted),
        };
        let goes_on = self.said.as_ref().map(ways) == Some(ways(&stage.says));
        let age = if goes_on { age } else { stage.head };
        self.age = (age, Some(now));
        self.due = stage.lasts.map(|lasts| now + lasts.saturating_sub(age));
        self.said = Some(stage.says.clone());
        stage.says
    }

    /// What is wanted, at once: for a plugin that cannot read what leads there.
    pub(super) fn skip(&mut self, wanted: &FabricPart, now: Instant) -> FabricPart {
        let Stage { says, head, .. } = settled(wanted);
        (self.age, self.due) = ((head, Some(now)), None);
        self.said = Some(says.clone());
        says
    }

    /// A node that joins knows nothing of the others but what the configuration says. Where
    /// that names a mode to be accepted besides, such a node sends by this one at first: nodes
    /// that have the configuration take it, and so do those that have that of before.
    fn joins(&self, wanted: &FabricPart) -> Stage {
        match named(wanted).filter(|_| !self.at_once) {
            Some(former) => {
                self.next(&wanted.going_by(&former), wanted, Duration::ZERO, Duration::ZERO)
            }
            None => settled(wanted),
        }
    }

    /// When there is another step to be made.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be noted.
    pub(super) fn note(&self, now: Instant, clock: u64) -> Option<Note> {
        let fabric = ways(self.said.as_ref()?).encode();
        let since = clock.saturating_sub(self.age_at(now).as_secs());
        Some(Note { fabric, since, seen: clock })
    }

    fn age_at(&self, now: Instant) -> Duration {
        let (age, then) = self.age;
        age + then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then))
    }

    fn next(&self, said: &FabricPart, wanted: &FabricPart, age: Duration, away: Duration) -> Stage {
        let (old, new) = (said.way(), wanted.way());
        let accepted = said.accepts().map(FabricPart::way);
        let half = self.limit / 2;
        // Packets as they are need no time ahead: they are never refused.
        let needs_no_time = self.at_once || new.is_direct();
        let after = if needs_no_time { self.limit } else { half };
        let accepting = |former: &FabricPart, lasts| {
            let says = wanted.accepting(Some(former));
            match says.accepts() {
                Some(_) => Stage { says, head: Duration::ZERO, lasts: Some(lasts) },
                None => settled(wanted),
            }
        };
        if old == new {
            let former = accepted.filter(|one| Some(one) != named(wanted).as_ref());
            return match former.filter(|_| age < after) {
                Some(former) => accepting(&former, after),
                None => settled(wanted),
            };
        }
        if old.excludes(&new) {
            return settled(wanted);
        }
        // The others began while nobody was here. For half of the time they took the old
        // mode for sure; after all of it nobody may.
        let head = away.saturating_sub(half);
        let is_taken = accepted.as_ref() == Some(&new) && age >= half || head >= half;
        match needs_no_time || is_taken {
            true => accepting(&old, after),
            false => Stage { says: said.accepting(Some(&new)), head, lasts: Some(half) },
        }
    }
}

/// What holds when nothing changes.
fn settled(wanted: &FabricPart) -> Stage {
    let says = wanted.accepting(named(wanted).as_ref());
    Stage { says, head: Duration::ZERO, lasts: None }
}

/// The mode that the configuration itself says is accepted besides, for as long as it does.
fn named(wanted: &FabricPart) -> Option<FabricPart> {
    let other = wanted.accepts()?.way();
    (other != wanted.way() && !other.excludes(wanted)).then_some(other)
}

/// What it says of modes, and nothing else.
fn ways(part: &FabricPart) -> FabricPart {
    part.way().accepting(part.accepts())
}

#[cfg(test)]
mod tests;
