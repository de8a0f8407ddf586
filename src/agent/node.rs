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
    /// The configuration that comes before the one that is put in place.
    hidden: Option<PathBuf>,
    /// Why the configuration in place is none that this agent has looked at: it may be of
    /// before.
    blocked: Option<String>,
    /// By what the configuration was made.
    served: Option<Asked>,
    backoff: Backoff,
    /// What was asked when nothing could be made of it, and when that is tried again.
    refused: Option<(Asked, Instant)>,
}

/// The writings of the peers file, and what Calico's objects wanted by then.
type Asked = (u64, u64);

/// Looks after the node, and comes to no end.
pub(crate) fn look_after(root: &Root, gate: &Gate, status: &Arc<Status>) -> ! {
    let mut door = Door::new(gate, status);
    door.open();
    loop {
        let mut tell = |said: Said| match said {
            Said::Report(report) => {
                status.passed(&report);
                door.take(&report);
                door.log.tell(*report);
                door.keep_open();
            }
            Said::Remark(words) => {
                status.alive();
                log::warn!("{words}");
                door.keep_open();
            }
        };
        let error = match watch(root, None, &mut tell) {
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
            hidden: None,
            blocked: None,
            served: None,
            backoff: Backoff::new(AGAIN, AGAIN_MAX),
            refused: None,
        }
    }

    fn asked(&self) -> Asked {
        (self.status.writes(), self.gate.wishes())
    }

    /// Tries until the configuration is in place, or one of before is.
    fn open(&mut self) {
        loop {
            let asked = self.asked();
            let (reason, report) = match self.gate.attempt() {
                Outcome::Open { network, passed } => return self.opened(asked, network, passed),
                Outcome::Closed(reason, report) => (reason, report),
            };
            self.status.alive();
            if let Some(report) = report {
                self.status.passed(&report);
                self.log.tell(*report);
            }
            // The pods that came by it have to be reached, whatever is missing for others.
            if let Some(network) = self.gate.held() {
                self.network = network;
                self.blocked = Some(reason.clone());
                return self.closed(asked, reason);
            }
            if reason != self.log.reason {
                log::warn!("no pods may come yet: {reason}");
                self.log.reason.clone_from(&reason);
            }
            self.status.gate(Some(reason));
            let (writes, _) = asked;
            self.status.await_writing(writes, AGAIN);
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
    fn closed(&mut self, asked: Asked, reason: String) {
        self.refused = Some((asked, Instant::now() + self.backoff.failed(Duration::ZERO)));
        if reason != self.log.reason {
            log::warn!("the configuration for pods is not renewed: {reason}");
            self.log.reason.clone_from(&reason);
        }
        if self.blocked.is_some() || !self.gate.is_in_place() {
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
        if self.pending.is_some() {
            let reason = report.hindrance(&self.network);
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
        if in_place && self.blocked.is_none() && self.served == Some(asked) {
            return;
        }
        let waits = |(of, until): (Asked, Instant)| of == asked && Instant::now() < until;
        if in_place && self.refused.is_some_and(waits) {
            return;
        }
        match self.gate.attempt() {
            Outcome::Open { network, passed } => self.opened(asked, network, passed),
            Outcome::Closed(reason, _) => self.closed(asked, reason),
        }
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
