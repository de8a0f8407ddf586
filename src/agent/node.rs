// SPDX-License-Identifier: Apache-2.0
//! Keeps this node true to its configuration and its peers file: first by the
//! configuration that is to be put in place, then by all that are there, by the same
//! watch as `manx apply --watch`.

use std::{
    mem,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    backoff::Backoff,
    gate::{Gate, Outcome},
    status::Status,
};
use crate::{
    node::{
        apply::Report,
        watch::{Said, watch},
    },
    object::Told,
    state::Root,
};

/// How soon to try again where nothing tells of a change.
const AGAIN: Duration = Duration::from_secs(2);
/// How seldom, while another configuration than the one in place is wanted and cannot be had:
/// a pass by the one may undo what a pass by the other made.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// What was said last of the passes, which is not said again.
#[derive(Default)]
struct Log {
    lines: Vec<Told>,
    errors: Vec<String>,
    reason: String,
}

/// Whether pods may come, by what the passes since the agent's start have shown.
struct Door<'a> {
    gate: &'a Gate,
    status: &'a Status,
    log: Log,
    /// Of the configuration that is put in place.
    network: String,
    /// Why there are no routes yet; nothing once all that every peer needs was made.
    pending: Option<String>,
    /// What kept the last pass from making them.
    hindrance: Option<String>,
    /// The configuration that comes before the one that is put in place.
    hidden: Option<PathBuf>,
    /// Why the configuration in place is none that this agent has looked at: it may be of
    /// before.
    blocked: Option<String>,
    /// This node's podCIDRs, after so many writings of the peers file.
    own: (u64, Option<Vec<String>>),
    /// By what the configuration was made.
    served: Option<Asked>,
    backoff: Backoff,
    refused: Option<Refused>,
}

/// What the configuration is made of.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Asked {
    /// This node's podCIDRs, where there is a peers file that has it.
    own: Option<Vec<String>>,
    /// How often Calico's objects wanted something else.
    wishes: u64,
}

/// What was asked when nothing could be made of it.
#[derive(Debug)]
struct Refused {
    of: Asked,
    /// Whether what gives out addresses was there.
    supplied: bool,
    /// When that is tried again.
    until: Instant,
    /// What kept a pass by it from making the routes, where it came to one.
    hindrance: Option<String>,
}

impl Refused {
    /// Whether nothing is to be tried now. `hindrance` is what the last pass by the
    /// configuration in place had: the same is not cured by another configuration, and each
    /// try would change the node for a moment.
    fn waits(
        &self,
        now: Instant,
        (asked, supplied): (&Asked, bool),
        hindrance: Option<&str>,
    ) -> bool {
        let is_hindered = self.hindrance.is_some() && self.hindrance.as_deref() == hindrance;
        let is_same = self.of == *asked && self.supplied == supplied;
        is_same && (now < self.until || is_hindered)
    }
}

/// Looks after the node, and comes to no end.
pub(crate) fn look_after(root: &Root, gate: &Gate, status: &Arc<Status>) -> ! {
    let mut door = Door::new(gate, status);
    door.open();
    loop {
        let mut tell = |said: Said| {
            match said {
                Said::Report(report) => {
                    status.passed(&report);
                    door.take(&report);
                    door.log.tell(*report);
                }
                Said::Remark(words) => {
                    status.alive();
                    log::warn!("{words}");
                }
                Said::Woken => {}
            }
            door.keep_open();
            door.again()
        };
        let error = match watch(root, None, status.bell().map(Arc::as_ref), &mut tell) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        log::error!("{error}; trying again in {} s", AGAIN.as_secs());
        thread::sleep(AGAIN);
    }
}

impl<'a> Door<'a> {
    fn new(gate: &'a Gate, status: &'a Status) -> Self {
        Self {
            gate,
            status,
            log: Log::default(),
            network: String::new(),
            pending: Some("the routes to other nodes were not looked at yet".to_owned()),
            hindrance: None,
            hidden: None,
            blocked: None,
            own: (0, None),
            served: None,
            backoff: Backoff::new(AGAIN, AGAIN_MAX),
            refused: None,
        }
    }

    fn asked(&mut self) -> Asked {
        let writes = self.status.writes();
        if self.own.1.is_none() || self.own.0 != writes {
            self.own = (writes, self.gate.own_pod_cidrs().ok());
        }
        Asked { own: self.own.1.clone(), wishes: self.gate.wishes() }
    }

    /// Tries until the configuration is in place, or one of before is.
    fn open(&mut self) {
        loop {
            let (writes, asked) = (self.status.writes(), self.asked());
            let supplied = self.gate.is_supplied();
            let Some((reason, hindrance)) = self.attempt(&asked) else { return };
            self.status.alive();
            // The pods that came by it have to be reached, whatever is missing for others.
            if let Some(network) = self.gate.held() {
                self.network = network;
                return self.closed((asked, supplied), reason, hindrance);
            }
            if reason != self.log.reason {
                log::warn!("no pods may come yet: {reason}");
                self.log.reason.clone_from(&reason);
            }
            self.status.gate(Some(reason));
            self.status.await_writing(writes, AGAIN);
        }
    }

    /// Tries to put the configuration in place that is asked for. If that is not done: why,
    /// and what kept a pass by it from making the routes.
    fn attempt(&mut self, asked: &Asked) -> Option<(String, Option<String>)> {
        match self.gate.attempt() {
            Outcome::Open { network, passed } => {
                self.opened(asked.clone(), network, passed);
                None
            }
            Outcome::Closed(reason, None) => Some((reason, None)),
            Outcome::Closed(reason, Some(report)) => {
                self.status.passed(&report);
                self.log.tell(*report);
                Some((reason.clone(), Some(reason)))
            }
        }
    }

    /// The configuration is in place, by what was asked for.
    fn opened(&mut self, asked: Asked, network: String, passed: bool) {
        self.log.reason.clear();
        (self.served, self.blocked, self.refused) = (Some(asked), None, None);
        self.backoff.reset();
        self.network = network;
        if passed {
            self.pending = None;
        }
        self.tell();
    }

    /// Nothing can be put in place of what is there, if anything is.
    fn closed(&mut self, (of, supplied): (Asked, bool), reason: String, hindrance: Option<String>) {
        let until = Instant::now() + self.backoff.failed(AGAIN);
        self.refused = Some(Refused { of, supplied, until, hindrance });
        if reason != self.log.reason {
            log::warn!("the configuration for pods is not renewed: {reason}");
            self.log.reason.clone_from(&reason);
        }
        // One that is in place is not known to be good before this agent has put it there.
        if self.served.is_none() || self.blocked.is_some() || !self.gate.is_in_place() {
            self.blocked = Some(reason);
            self.tell();
        }
    }

    /// Tells whether pods may come.
    fn tell(&mut self) {
        let before = mem::replace(&mut self.hidden, self.gate.hidden_by());
        let hidden = self.hidden.as_ref().map(|path| {
            let path = path.display();
            format!("pods get their network by {path}, which comes first there; fix: remove it")
        });
        if let Some(words) = hidden.as_ref().filter(|_| self.hidden != before) {
            log::warn!("{words}");
        }
        let closed = self.blocked.as_ref().or(self.pending.as_ref());
        self.status.gate(closed.cloned().or(hidden));
    }

    /// Goes by a pass of the watch. After the first that was whole, what is wanting is told
    /// and no reason to send pods elsewhere: those that are here stay.
    fn take(&mut self, report: &Report) {
        self.hindrance = report.hindrance(&self.network);
        if self.pending.is_some() {
            let reason = self.hindrance.as_ref();
            self.pending =
                reason.map(|reason| format!("the routes to other nodes are not made: {reason}"));
            self.tell();
        }
    }

    /// Puts the configuration in place again where somebody took it away, and another where
    /// the node's podCIDRs or Calico's objects ask for it. One that is there stays whatever is
    /// missing.
    fn keep_open(&mut self) {
        if self.gate.hidden_by() != self.hidden {
            self.tell();
        }
        let (asked, in_place) = (self.asked(), self.gate.is_in_place());
        if in_place && self.blocked.is_none() && self.served.as_ref() == Some(&asked) {
            self.refused = None;
            return;
        }
        let (now, hindrance) = (Instant::now(), self.hindrance.as_deref());
        let supplied = self.gate.is_supplied();
        let waits = |refused: &Refused| refused.waits(now, (&asked, supplied), hindrance);
        if self.refused.as_ref().is_some_and(waits) {
            return;
        }
        if let Some((reason, hindrance)) = self.attempt(&asked) {
            self.closed((asked, supplied), reason, hindrance);
        }
    }

    /// When something is tried again though nothing tells of a change. What hinders a pass is
    /// found by another one.
    fn again(&self) -> Option<Instant> {
        let refused = self.refused.as_ref()?;
        let hindrance = self.hindrance.as_deref();
        let waits = refused.waits(refused.until, (&refused.of, refused.supplied), hindrance);
        (!waits).then_some(refused.until)
    }
}

impl Log {
    fn tell(&mut self, report: Report) {
        if report.lines != self.lines {
            report.lines.iter().for_each(|line| log::info!("{line}"));
        }
        let [of_fabrics, of_tables] = report.notes;
        let errors = [report.errors, report.wanting, of_fabrics, of_tables].concat();
        for new in errors.iter().filter(|one| !self.errors.contains(one)) {
            log::warn!("{new}");
        }
        (self.lines, self.errors) = (report.lines, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(own: &str, wishes: u64) -> Asked {
        Asked { own: Some(vec![own.to_owned()]), wishes }
    }

    /// Each try makes the node what the other configuration says, and the next pass makes it
    /// again what the one in place says.
    #[test]
    fn what_was_refused_is_not_tried_again_for_the_same_reason() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(9));
        let refused = |hindrance: &str| Refused {
            of: asked("10.244.1.0/24", 1),
            supplied: true,
            until: later,
            hindrance: Some(hindrance.to_owned()),
        };
        let same = refused("the address is not on this node");
        for (other, is_other) in [
            (asked("10.244.1.0/24", 1), false),
            (asked("10.244.2.0/24", 1), true),
            (asked("10.244.1.0/24", 2), true),
        ] {
            assert_eq!(same.waits(now, (&other, true), None), !is_other, "{other:?}");
        }
        let asked = same.of.clone();
        assert!(!same.waits(now, (&asked, false), None), "a token has come or gone");
        let waits = |refused: &Refused, hindrance| refused.waits(later, (&asked, true), hindrance);
        assert!(!waits(&same, None), "the node is well again");
        assert!(waits(&same, Some("the address is not on this node")));
        assert!(!waits(&refused("mode is contradicted"), Some("something else")));
        assert!(!waits(&Refused { hindrance: None, ..same }, None), "no pass was made");
    }
}
