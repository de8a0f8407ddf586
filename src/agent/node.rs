//! Keeps this node true to its configuration and its peers file: first by the
//! configuration that is to be put in place, then by all that are there, by the same
//! watch as `manx apply --watch`.

use std::{sync::Arc, thread, time::Duration};

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

/// Looks after the node, and comes to no end.
pub(crate) fn look_after(root: &Root, gate: &Gate, status: &Arc<Status>) -> ! {
    let mut log = Log::default();
    open(gate, status, &mut log);
    status.gate(None);
    let mut writes = status.writes();
    loop {
        let mut tell = |said: Said| match said {
            Said::Report(report) => {
                status.passed(&report);
                log.tell(*report);
                keep_open(gate, status, &mut log, &mut writes);
            }
            Said::Remark(words) => {
                status.alive();
                log::warn!("{words}");
                keep_open(gate, status, &mut log, &mut writes);
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

/// Puts the configuration in place again where somebody took it away, and another where
/// the node's podCIDRs ask for it. One that is there stays whatever is missing.
fn keep_open(gate: &Gate, status: &Status, log: &mut Log, writes: &mut u64) {
    let written = status.writes();
    if gate.is_in_place() && *writes == written {
        return;
    }
    *writes = written;
    match gate.attempt() {
        Outcome::Open => {
            log.reason.clear();
            status.gate(None);
        }
        Outcome::Closed(reason, _) => {
            if reason != log.reason {
                log::warn!("the configuration for pods is not renewed: {reason}");
                log.reason.clone_from(&reason);
            }
            if !gate.is_in_place() {
                status.gate(Some(reason));
            }
        }
    }
}

fn open(gate: &Gate, status: &Status, log: &mut Log) {
    loop {
        let writes = status.writes();
        let (reason, report) = match gate.attempt() {
            Outcome::Open => return,
            Outcome::Closed(reason, report) => (reason, report),
        };
        status.alive();
        if reason != log.reason {
            log::warn!("no pods may come yet: {reason}");
            log.reason.clone_from(&reason);
        }
        status.gate(Some(reason));
        if let Some(report) = report {
            status.passed(&report);
            log.tell(*report);
        }
        status.await_writing(writes, AGAIN);
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
