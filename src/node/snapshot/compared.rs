// SPDX-License-Identifier: Apache-2.0
//! What of a node was compared: of each thing what is wanted, or what that follows from,
//! and what there is. The difference is made of it, here as elsewhere, by the same pure
//! functions as of the node itself.

use serde::{Deserialize, Serialize};

use super::network::{Fabric, Misfit};
use crate::{
    conf::Config,
    fabric::{Change, Peers, Plan, Settings, desired::Facts, observed::Observed},
    list::Gather,
    net::Tables,
    node::{
        changes::{Changes, Lines},
        configured::Networks,
        fabric::tunnel::TunnelTable,
        policy::PolicyTable,
        repair::{HostSide, Repair},
        table,
        tables::NetworkTable,
    },
    object::{self, HeldTable, Told},
};

/// All of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Compared {
    /// The fabrics that are asked for.
    pub fabrics: Vec<OfFabric>,
    /// What there is of fabrics that are not asked for any more.
    pub removals: Vec<OfRemoval>,
    /// The node's sides of live attachments.
    pub sides: Vec<HostSide>,
    /// The tables of networks, and that of network policies where they are enforced.
    pub tables: Vec<OfTable>,
    /// Networks that are gone and have a table left.
    pub former: Vec<String>,
    /// Why networks have no fabric.
    pub without: Vec<String>,
    /// Ranges that are not this node's.
    pub misfits: Vec<Misfit>,
    /// Networks without an MTU of their own, and the MTU that a new pod would get, in bytes:
    /// of IPv4 alone, and with IPv6.
    pub mtus: Vec<(String, (u32, u32))>,
    /// What could not be compared.
    pub failed: Vec<String>,
    /// Nothing else was: there is one network alone.
    pub fails: bool,
}

/// One fabric.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfFabric {
    /// The networks that have it.
    pub networks: Vec<String>,
    /// What they say of it.
    pub settings: Settings,
    /// Who else there is.
    pub peers: Peers,
    /// What was asked of the node.
    pub facts: Facts,
    /// What there is.
    pub observed: Observed,
    /// Who may put packets into the tunnels.
    pub tunnel: Option<OfTable>,
}

/// What is left of a fabric.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OfRemoval {
    /// What there is.
    pub observed: Observed,
    /// Tables of its tunnels.
    pub tables: Vec<String>,
}

/// A table of nf_tables.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfTable {
    /// The network; empty for a fabric's, and for that of network policies.
    #[serde(default)]
    pub network: String,
    /// The table that is wanted.
    pub wanted: object::Table,
    /// The one that there is.
    pub held: HeldTable,
    /// What it does without, and why.
    #[serde(default)]
    pub note: Option<String>,
}

impl Compared {
    /// What was compared of a node that has these tables.
    pub(crate) fn of(changes: &Changes, networks: &Networks, tables: &Tables) -> Self {
        let fabrics = changes.fabrics.iter().filter_map(|(_, pass)| {
            let serves = |config: &&Config| pass.serves(config);
            let configs = networks.all.iter().map(|network| &network.config).filter(serves);
            Some(OfFabric {
                networks: configs.map(|config| config.name.clone()).gather(),
                settings: Settings::of_config(pass.config()),
                peers: pass.peers(tables)?,
                facts: pass.plan.facts.clone(),
                observed: pass.plan.observed.clone(),
                tunnel: pass.tunnel().map(OfTable::of_tunnel),
            })
        });
        let removals = changes.removals.iter().map(|(removal, tables)| OfRemoval {
            observed: removal.observed().clone(),
            tables: tables.clone(),
        });
        // What no link shows has no side.
        let forwarding = changes.repairs.iter().filter(|repair| repair.is_of_node());
        let sides = changes.sides.iter().cloned().chain(forwarding.map(Repair::as_side));
        Self {
            fabrics: fabrics.gather(),
            removals: removals.gather(),
            sides: sides.gather(),
            tables: {
                let tables = changes.tables.iter().map(OfTable::of_network);
                tables.chain(changes.policies.iter().map(OfTable::of_policies)).gather()
            },
            former: changes.former.clone(),
            without: changes.without.clone(),
            misfits: changes.misfits.iter().map(Misfit::from).gather(),
            mtus: changes.mtus.iter().map(|mtus| (mtus.network.clone(), mtus.new)).gather(),
            failed: changes.failed.iter().map(ToString::to_string).gather(),
            fails: changes.failures(networks).is_err(),
        }
    }

    /// The plans of the fabrics.
    pub fn plans(&self) -> Vec<Plan> {
        self.fabrics.iter().map(OfFabric::plan).gather()
    }

    /// All changes, as they are told, with the fabrics' by these plans.
    pub fn told(&self, plans: &[Plan]) -> Vec<Told> {
        let told = |change: Change| change.told();
        let removed = self.removals.iter().flat_map(|removal| {
            let plan = Plan::undo_again(removal.observed.clone());
            let tables = removal.tables.iter().map(|name| table::removed(name));
            plan.changes.iter().map(Change::told).chain(tables).gather()
        });
        let tunnels = self.fabrics.iter().filter_map(|fabric| fabric.tunnel.as_ref()?.change());
        Lines {
            fabrics: plans.iter().flat_map(|plan| &plan.changes).map(Change::told).gather(),
            removed: removed.gather(),
            tunnels: tunnels.map(told).gather(),
            repairs: self.repairs().map(|repair| repair.told()).gather(),
            tables: self.tables.iter().filter_map(OfTable::change).map(told).gather(),
            former: self.former.clone(),
        }
        .in_order()
    }

    /// What live attachments lack on the node's side.
    pub fn repairs(&self) -> impl Iterator<Item = Repair> {
        self.sides.iter().flat_map(HostSide::lacking)
    }

    /// What is wanting in spite of all changes, by these plans.
    pub fn wanting(plans: &[Plan]) -> Vec<String> {
        let desired = plans.iter().map(|plan| &plan.desired);
        let wanting = desired.flat_map(|desired| {
            desired.not_ready.iter().chain(&desired.excluded).chain(&desired.wanting)
        });
        wanting.cloned().gather()
    }

    /// What an operator should know besides: of the fabrics, and of the tables.
    pub fn notes(&self, plans: &[Plan]) -> [Vec<String>; 2] {
        let fabric = plans.iter().flat_map(|plan| &plan.desired.notes).chain(&self.without);
        let tables = self.tables.iter().filter_map(|table| table.note.clone());
        [fabric.cloned().gather(), tables.gather()]
    }
}

impl OfFabric {
    /// The changes.
    pub fn plan(&self) -> Plan {
        Plan::again(&self.settings, &self.peers, self.facts.clone(), self.observed.clone())
    }
}

impl Fabric {
    /// What follows from what was seen of it.
    pub(super) fn conclude(&mut self, seen: &OfFabric, plan: &Plan) {
        let desired = &plan.desired;
        // Longer prefixes and rules are looked for in the kernel's tables themselves.
        let changes = plan.changes.iter();
        let changes = changes.filter(|change| !matches!(change, Change::Lookup(_)));
        let tunnel = seen.tunnel.as_ref().and_then(OfTable::change);
        self.changes = changes.chain(&tunnel).map(Change::told).gather();
        self.wanting.clone_from(&desired.wanting);
        self.not_ready.clone_from(&desired.not_ready);
        // Those of the list are told as such.
        let is_of_list =
            |note: &&String| self.left_out.contains(note) || self.unread.as_ref() == Some(*note);
        self.notes = desired.notes.iter().filter(|note| !is_of_list(note)).cloned().gather();
    }
}

impl OfTable {
    fn of_network(table: &NetworkTable) -> Self {
        let (wanted, held) = table.compared();
        let (network, note) = (table.network().to_owned(), table.note().cloned());
        Self { network, wanted: wanted.clone(), held: held.clone(), note }
    }

    fn of_policies(table: &PolicyTable) -> Self {
        let (wanted, held) = table.compared();
        let note = table.note().cloned();
        Self { network: String::new(), wanted: wanted.clone(), held: held.clone(), note }
    }

    fn of_tunnel(table: &TunnelTable) -> Self {
        let (wanted, held) = table.compared();
        Self { network: String::new(), wanted: wanted.clone(), held: held.clone(), note: None }
    }

    /// What is to be changed of it.
    pub fn change(&self) -> Option<Change> {
        table::change(&self.wanted, &self.held)
    }
}

#[cfg(test)]
mod tests;
