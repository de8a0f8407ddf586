// SPDX-License-Identifier: Apache-2.0
//! The changes of a few nodes of a list, made ahead of the pass that compares all.
//!
//! A watch that has just found nothing to change knows what there is, and of another list
//! it reads what is different. What follows from that is made at once, the rest is left to
//! the pass that comes behind it, which notes what was applied. A pass is noted as begun
//! before: whatever interrupts it, the next one goes on.

use std::path::PathBuf;

use super::{
    applied::{Applied, State},
    document::{self, file_version},
    pass::Rest,
    state::FabricState,
    tunnel::TunnelTable,
};
use crate::{
    conf::Config,
    fabric::{
        Answers, Change, Inquiry, Ledger, Observed, Settings, Settled, Site,
        amend::Amendment,
        apply::apply,
        observe::{facts, of_others},
        text::Text,
    },
    list::Gather,
    net::{Socket, Tables},
    object::Told,
    state::{Root, file::PEERS_BYTES_MAX, read},
};

/// A fabric at rest.
#[derive(Debug)]
pub(crate) struct AtRest {
    config: Config,
    settled: Settled,
    text: Text,
    /// Without the routes that are ours.
    tables: Tables,
    ledger: Ledger,
    /// As it is noted.
    applied: Applied,
    /// The peers file, and where it is noted what it says of the fabric.
    path: PathBuf,
    place: PathBuf,
}

impl AtRest {
    /// What is left of a pass over the only fabric, if that had nothing to change; `path`
    /// is the peers file.
    pub(crate) fn of(rest: Rest, tables: Tables, root: &Root) -> Option<Self> {
        let Rest { config, peers, plan, file } = rest;
        let settings = Settings::of_config(&config);
        let (bytes, place) = file?;
        let path = root.path(config.fabric.peers_file.as_ref()?);
        let protocol = config.fabric.protocol;
        let state = FabricState::new(root, protocol);
        let applied = state.applied().filter(|applied| applied.state == State::Ready)?;
        let ledger = plan.observed.ledger.clone();
        let cluster_cidrs = config.fabric.cluster_cidrs.clone();
        let site = Site::of(&tables, protocol);
        let settled = Settled::of(settings, &peers, plan, site, cluster_cidrs)?;
        let text = Text::of(bytes, peers.nodes().count())?;
        let tables = tables.of_others(protocol);
        Some(Self { config, settled, text, tables, ledger, applied, path, place })
    }

    /// What the peers file says of some nodes by now; `None` unless that is all. It is
    /// noted that it says the same of the fabric.
    pub(crate) fn amendment(&self) -> Option<Amendment> {
        let version = file_version(&self.path);
        let bytes = read(&self.path, PEERS_BYTES_MAX).ok()?;
        let splice = self.text.splice(&bytes)?;
        document::note(&self.place, &version, &self.config.fabric.file);
        self.settled.admit(splice)
    }

    /// Makes the changes that follow, by a caller that has the lock; gives those that were
    /// made. What goes wrong the next pass finds.
    pub(crate) fn carry_out(
        self,
        amendment: &Amendment,
        root: &Root,
        socket: &mut Socket,
    ) -> Vec<Told> {
        self.made(amendment, root, socket).unwrap_or_default()
    }

    fn made(self, amendment: &Amendment, root: &Root, socket: &mut Socket) -> Option<Vec<Told>> {
        let Self { config, settled, tables, ledger, applied, .. } = self;
        let state = FabricState::new(root, config.fabric.protocol);
        // Somebody else may have made a pass.
        let noted = state.applied().filter(|noted| *noted == applied)?;
        let inquiry = Inquiry { socket, tables: &tables, answers: &mut Answers::default() };
        let after = facts(inquiry, settled.settings(), &amendment.after, &ledger).ok()?;
        let indexes = settled.indexes().clone();
        let others = of_others(&tables, config.fabric.protocol);
        let changes = settled.changes(amendment, after, others)?;
        if changes.is_empty() {
            return None;
        }
        state.note(&Applied { state: State::InProgress, ..noted }, None).ok()?;
        // Before the routes: what they bring is taken from the first packet on.
        TunnelTable::admit(&config, &amendment.after)?;
        let observed = Observed { indexes, ..Observed::default() };
        let refused = apply(socket, &observed, &changes);
        let made = changes.iter().filter(|change| !refused.unmade.contains(change));
        Some(made.map(Change::told).gather())
    }
}
