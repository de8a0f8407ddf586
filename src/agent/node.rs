//! Keeps this node true to its configuration and its peers file: first by the
//! configuration that is to be put in place, then by all that are there, by the same
//! watch as `manx apply --watch`.

use std::{mem, path::PathBuf, sync::Arc, thread, time::Duration};

use super::{
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
    /// The writings of the peers file by which that configuration was made.
    writes: u64,
    /// What Calico's objects wanted of it by then.
    wishes: u64,
}

/// Looks after the node, and comes to no end.
pub(crate) fn look_after(root: &Root, gate: &Gate, status: &Arc<Status>) -> ! {
    let (log, network, writes) = (Log::default(), String::new(), status.writes());
    let pending = Some("the routes to other nodes were not looked at yet".to_owned());
    let wishes = gate.wishes();
    let mut door = Door { gate, status, log, network, pending, hidden: None, writes, wishes };
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

impl Door<'_> {
    /// Tries until the configuration is in place.
    fn open(&mut self) {
        loop {
            (self.writes, self.wishes) = (self.status.writes(), self.gate.wishes());
            let (reason, report) = match self.gate.attempt() {
                Outcome::Open { network, passed } => return self.opened(network, passed),
                Outcome::Closed(reason, report) => (reason, report),
            };
            self.status.alive();
            if reason != self.log.reason {
                log::warn!("no pods may come yet: {reason}");
                self.log.reason.clone_from(&reason);
            }
            self.status.gate(Some(reason));
            if let Some(report) = report {
                self.status.passed(&report);
                self.log.tell(*report);
            }
            self.status.await_writing(self.writes, AGAIN);
        }
    }

    /// The configuration is in place.
    fn opened(&mut self, network: String, passed: bool) {
        self.log.reason.clear();
        self.network = network;
        if passed {
            self.pending = None;
        }
        self.tell();
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
        self.status.gate(self.pending.clone().or(hidden));
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
        let asked = (self.status.writes(), self.gate.wishes());
        if self.gate.is_in_place() && (self.writes, self.wishes) == asked {
            return;
        }
        (self.writes, self.wishes) = asked;
        match self.gate.attempt() {
            Outcome::Open { network, passed } => self.opened(network, passed),
            Outcome::Closed(reason, _) => {
                if reason != self.log.reason {
                    log::warn!("the configuration for pods is not renewed: {reason}");
                    self.log.reason.clone_from(&reason);
                }
                if !self.gate.is_in_place() {
                    self.status.gate(Some(reason));
                }
            }
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
