// SPDX-License-Identifier: Apache-2.0
//! One pass over the node: compares, changes, notes what was applied. Says nothing
//! itself: the node does not wait for whoever reads it.

use std::{
    collections::BTreeSet,
    mem,
    time::{Duration, Instant},
};

use super::{
    Error, allowed,
    changes::{self, Mtus, Source, compare_by, locked, tables_for},
    configured::Networks,
    fabric::{FabricState, Outcome, Pass, Removal, Rest, WRITER_LIMIT, lock_all},
    former, refusal,
    repair::{self, Repair},
    table::removed,
    tables::{self, NetworkTable},
    version,
};
use crate::{
    fabric::{Answers, Change, pools::Misfit},
    list::{Gather, PushAll},
    net::{Socket, Tables},
    object::Told,
    state::lock::Guard,
};

/// What came of a pass.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What was changed, and what somebody else has.
    pub(crate) lines: Vec<Told>,
    /// What was to be changed, and was not.
    pub(crate) unmade: Vec<Told>,
    /// What an operator should know besides: of the fabrics, and of the tables.
    pub(crate) notes: [Vec<String>; 2],
    /// What is wanting in spite of all changes.
    pub(crate) wanting: Vec<String>,
    /// What could not be done.
    pub(crate) errors: Vec<String>,
    /// Nothing is wanting of the fabrics.
    pub(crate) whole: bool,
    /// How many routes the fabrics are to have, if they were compared: for those who count.
    #[cfg_attr(not(feature = "agent"), allow(dead_code))]
    pub(crate) routes: Option<usize>,
    /// The networks that want routes to other nodes and have none to any, each with the
    /// reason: for those who wait.
    #[cfg_attr(not(feature = "agent"), allow(dead_code))]
    pub(crate) unserved: Vec<(String, String)>,
    /// When it began.
    pub(crate) began: Option<Instant>,
    /// When what others may wait for was made, where that was ahead of the rest.
    pub(crate) ahead: Option<Instant>,
    /// As of the changes.
    pub(crate) misfits: Vec<Misfit>,
    pub(crate) mtus: Vec<Mtus>,
    /// What the only fabric was compared with, where nothing was to be changed.
    pub(crate) rest: Option<(Rest, Tables)>,
}

impl Report {
    /// Why a network has no routes to other nodes, if so.
    #[cfg(feature = "agent")]
    pub(crate) fn hindrance(&self, network: &str) -> Option<String> {
        if self.routes.is_none() {
            return Some(self.errors.join("; "));
        }
        let of_it = self.unserved.iter().find(|(name, _)| name == network);
        of_it.map(|(_, reason)| reason.clone())
    }

    /// Tells that changes were not made after all.
    pub(crate) fn take_back(&mut self, unmade: &[Told]) {
        let made = |line: &Told| !unmade.contains(line);
        let (lines, left) = mem::take(&mut self.lines).into_iter().partition(made);
        self.lines = lines;
        self.unmade.extend::<Vec<_>>(left);
    }
}

/// The fabrics that nobody else may change, and what keeps others from it.
pub(super) type Locked = (BTreeSet<u8>, Vec<Guard>);

/// Makes the node what its configuration and its peers files say.
///
/// # Errors
/// Where nothing could be compared, or another pass does not end.
pub(crate) fn apply(
    networks: &Networks,
    socket: &mut Socket,
    source: Source,
) -> Result<Report, Error> {
    let locked = lock(networks, WRITER_LIMIT)?;
    apply_by(networks, &locked, socket, source, &mut Answers::default())
}

/// The same under locks that are held, by what is known of the ways to peers.
///
/// # Errors
/// As for [`apply`].
pub(super) fn apply_by(
    networks: &Networks,
    (protocols, _): &Locked,
    socket: &mut Socket,
    source: Source,
    answers: &mut Answers,
) -> Result<Report, Error> {
    let (root, began) = (&networks.root, Some(Instant::now()));
    let plugin = version::sure(root).map(|plugin| plugin.version);
    let tables = tables_for(networks, socket)?;
    let mut changes = compare_by(networks, socket, tables.as_ref(), source, answers)?;
    if source == Source::File {
        changes.failures(networks)?;
    }
    changes.keep_locked(protocols);
    let desired = changes.fabrics.iter().map(|(_, pass)| &pass.plan.desired);
    let mut report = Report {
        lines: changes.told(),
        notes: changes.notes(),
        wanting: changes.wanting(),
        whole: true,
        routes: Some(desired.map(|desired| desired.objects.routes.len()).sum()),
        began,
        unserved: changes.unserved(networks),
        misfits: mem::take(&mut changes.misfits),
        mtus: mem::take(&mut changes.mtus),
        ..Report::default()
    };
    let (mut unmade, mut rests) = (Vec::new(), Vec::new());
    for (state, mut pass) in changes.fabrics.drain(..) {
        pass.applied.plugin.clone_from(&plugin);
        let served: Vec<_> = changes::served(networks, &pass).map(str::to_owned).gather();
        let (rest, hindrance) = carry_out(pass, &state, socket, &mut report, &mut unmade);
        rests.push_all(rest);
        let unserved = hindrance.map(|why| served.into_iter().map(move |name| (name, why.clone())));
        report.unserved.push_all(unserved.into_iter().flatten());
    }
    for (removal, _) in &changes.removals {
        remove(removal, socket, &mut report, &mut unmade);
    }
    for (place, error) in repair::restore(socket, &changes.repairs) {
        report.errors.push_all(error.map(|error| refusal(&error)));
        unmade.push_all(changes.repairs.get(place).map(Repair::told));
    }
    for table in &changes.tables {
        restore(table, socket, &mut report, &mut unmade);
    }
    if let Some(policies) = &changes.policies
        && let Some(change) = policies.change()
        && let Err(error) = policies.restore()
    {
        report.errors.push(error.to_string());
        unmade.push(change.told());
    }
    for network in &networks.all {
        let noted = allowed::note(root, network.name());
        report.errors.push_all(noted.err().map(|error| error.to_string()));
    }
    for network in &changes.former {
        match former::remove(root, socket, network) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => report.errors.push(error.to_string()),
        }
        unmade.push(removed(&tables::table(network)));
    }
    report.errors.push_all(changes.failed.iter().map(ToString::to_string));
    report.take_back(&unmade);
    let is_quiet = report.lines.is_empty() && report.unmade.is_empty() && report.errors.is_empty();
    let is_quiet = is_quiet && rests.len() == 1 && networks.share_a_list();
    report.rest = rests.pop().filter(|_| is_quiet).zip(tables);
    Ok(report)
}

/// Keeps others from changing the fabrics that are asked for, and those of before: they are
/// given.
pub(super) fn lock(networks: &Networks, limit: Duration) -> Result<Locked, Error> {
    let protocols = locked(networks);
    let locks = lock_all(&protocols, &networks.root, limit)?;
    Ok((protocols, locks))
}

fn carry_out(
    pass: Pass,
    state: &FabricState,
    socket: &mut Socket,
    report: &mut Report,
    unmade: &mut Vec<Told>,
) -> (Option<Rest>, Option<String>) {
    let tunnel = pass.tunnel_change().map(|change| change.told());
    match pass.carry_out(state, socket) {
        Ok(outcome) => {
            report.whole &= outcome.wanting().is_empty();
            let hindrance = outcome.hindrance();
            let Outcome { unguarded, refused, of_peers, unmade: left, .. } = outcome;
            if let Some(note) = unguarded {
                let [of_fabrics, _] = &mut report.notes;
                of_fabrics.push(note);
                unmade.push_all(tunnel);
            }
            report.errors.push_all(refused.iter().map(ToString::to_string));
            report.errors.push_all(of_peers);
            unmade.push_all(left.iter().map(Change::told));
            (Some(pass.into_rest()), hindrance)
        }
        Err(error) => {
            report.errors.push(error.to_string());
            unmade.push_all(pass.plan.feasible().map(Change::told).chain(tunnel));
            (None, Some(error.to_string()))
        }
    }
}

fn remove(removal: &Removal, socket: &mut Socket, report: &mut Report, unmade: &mut Vec<Told>) {
    match removal.carry_out(socket) {
        Ok(taken) => {
            report.errors.push_all(taken.node.iter().chain(&taken.peers).map(refusal));
            unmade.push_all(taken.unmade.iter().map(Change::told));
        }
        Err(error) => report.errors.push(error.to_string()),
    }
}

fn restore(table: &NetworkTable, socket: &mut Socket, report: &mut Report, unmade: &mut Vec<Told>) {
    let change = table.change().map(|change| change.told());
    match table.restore(socket) {
        Err(error) => {
            report.errors.push(error.to_string());
            unmade.push_all(change);
        }
        Ok((changed, notes)) => {
            let [_, of_tables] = &mut report.notes;
            of_tables.push_all(notes);
            unmade.push_all(change.filter(|_| !changed));
        }
    }
}
