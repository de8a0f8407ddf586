// SPDX-License-Identifier: Apache-2.0
//! What is to be changed on a node: its fabrics, and what its networks and their
//! attachments lack.

use std::collections::BTreeSet;

use super::{
    Error, Kind, Object,
    configured::{Configured, Networks},
    fabric::{Applied, FabricState, Pass, Removal, fabric_of, last_applied, noted_protocols},
    former, kernel, link_mtus,
    policy::PolicyTable,
    repair::{self, HostSide, Repair},
    table,
    tables::{self, NetworkTable},
};
use crate::{
    fabric::{Answers, Change, Inquiry, pools::Misfit},
    list::{Gather, PushAll},
    net::{Socket, Tables},
    object::{self, Told},
    state::{Entry, Journal, Root, journal},
};

/// Which peers serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// Those of the file, or none.
    File,
    /// Those of the file; where it is no good, the last valid ones.
    FileOrLast,
}

/// The MTU of a network's pods.
#[derive(Debug)]
pub(crate) struct Mtus {
    pub(crate) network: String,
    /// What a new one would get: of IPv4 alone, and with IPv6.
    pub(crate) new: (u32, u32),
    /// Those that it has.
    pub(crate) pods: Vec<Entry>,
}

/// Changes as they are told, by what they are of.
pub(super) struct Lines {
    pub(super) fabrics: Vec<Told>,
    pub(super) removed: Vec<Told>,
    pub(super) tunnels: Vec<Told>,
    pub(super) repairs: Vec<Told>,
    pub(super) tables: Vec<Told>,
    /// Networks that are gone and have a table left.
    pub(super) former: Vec<String>,
}

impl Lines {
    /// All of them, in the order in which they are made.
    pub(super) fn in_order(self) -> Vec<Told> {
        let former = self.former.iter().map(|name| table::removed(&tables::table(name)));
        let all = [self.fabrics, self.removed, self.tunnels, self.repairs, self.tables];
        // A parameter of the node is wanted by each fabric.
        let mut parameters: Vec<Told> = Vec::new();
        let is_new = |line: &Told| {
            let is_parameter = line.kind == object::Kind::Sysctl;
            let is_new = !is_parameter || !parameters.contains(line);
            parameters.push_all((is_parameter && is_new).then(|| line.clone()));
            is_new
        };
        all.into_iter().flatten().chain(former).filter(is_new).gather()
    }
}

/// What is to be changed.
#[derive(Default)]
pub(crate) struct Changes {
    /// Of each fabric, with its state.
    pub(super) fabrics: Vec<(FabricState, Pass)>,
    /// What there is of fabrics that are not asked for any more, and their tables.
    pub(super) removals: Vec<(Removal, Vec<String>)>,
    /// The node's sides of live attachments, and what they lack.
    pub(super) sides: Vec<HostSide>,
    pub(super) repairs: Vec<Repair>,
    pub(super) tables: Vec<NetworkTable>,
    /// The table of network policies, where they are enforced.
    pub(super) policies: Option<PolicyTable>,
    /// Networks that are gone and have a table left.
    pub(super) former: Vec<String>,
    /// Why networks have no fabric.
    pub(super) without: Vec<String>,
    /// Ranges that are not this node's.
    pub(crate) misfits: Vec<Misfit>,
    pub(crate) mtus: Vec<Mtus>,
    /// What could not be compared.
    pub(super) failed: Vec<Error>,
    /// Which networks are refused what they ask for, and why.
    refused: Vec<(String, Error)>,
    /// The networks of whose tables nothing is known, and why.
    unknown_tables: Vec<(String, Error)>,
}

/// The kernel's tables, where anything is asked of them.
///
/// # Errors
/// Of the kernel's answers.
pub(super) fn tables_for(networks: &Networks, host: &mut Socket) -> Result<Option<Tables>, Error> {
    let has_fabric = networks.all.iter().any(|one| one.peers_file.is_some());
    let is_asked = has_fabric || !journal::networks(&networks.root).is_empty();
    is_asked.then(|| Tables::of_kernel(host).map_err(kernel)).transpose()
}

/// Compares the node with what it should be, as one that has these tables; none where
/// nothing is asked of them.
///
/// # Errors
/// Of the kernel's answers; what concerns single networks is among the changes.
pub(crate) fn compare_by(
    networks: &Networks,
    host: &mut Socket,
    known: Option<&Tables>,
    source: Source,
    answers: &mut Answers,
) -> Result<Changes, Error> {
    let root = &networks.root;
    let mut changes = Changes::default();
    let nothing = Tables::default();
    let tables = known.unwrap_or(&nothing);
    changes.failed.push_all(networks.unusable.iter().map(|(_, error)| error.clone()));
    answers.begin();
    if let Some(tables) = known {
        let tunnels = tables.links.iter().filter(|link| link.vxlan.is_some());
        answers.learn_tunnels(tunnels.map(|link| link.index));
    }
    for protocol in protocols(networks) {
        let node = Inquiry { socket: host, tables, answers };
        changes.compare_fabric(networks, protocol, node);
    }
    if source == Source::FileOrLast {
        changes.go_on_with_last(networks, Inquiry { socket: host, tables, answers });
    }
    changes.find_removals(networks, host, known);
    changes.sides = repair::sides(root, host, tables).map_err(kernel)?;
    changes.repairs = changes.sides.iter().flat_map(HostSide::lacking).gather();
    let sysctls = changes.fabrics.iter().flat_map(|(_, pass)| &pass.plan.desired.objects.sysctls);
    let sysctls: Vec<_> = sysctls.cloned().gather();
    let manage = |network: &str| networks.manages_forwarding(network);
    changes.repairs.push_all(repair::forwarding::lacking(root, tables, &manage, &sysctls));
    for network in &networks.all {
        let noted;
        let pass = changes.pass_of(network);
        let misfits = pass.map(|pass| {
            let state = FabricState::new(root, pass.protocol());
            pass.misfits(&state, &network.document, &network.config)
        });
        let applied = match pass {
            Some(pass) => Some(&pass.applied),
            None => {
                noted = last_applied(&network.config, root);
                noted.as_ref().filter(|_| network.peers_file.is_some())
            }
        };
        let table = NetworkTable::of(&network.config, root, host, applied);
        let mtus = mtus(network, networks, (host, tables), applied);
        changes.misfits.push_all(misfits.into_iter().flatten());
        match table {
            Ok(table) => changes.tables.push_all(table),
            Err(error) => {
                changes.unknown_tables.push((network.name().to_owned(), error.clone()));
                changes.fail(error);
            }
        }
        match mtus {
            Ok(mtus) => changes.mtus.push_all(mtus),
            Err(error) => changes.fail(error),
        }
    }
    changes.policies = PolicyTable::of(networks);
    if let Some(names) = networks.names() {
        let links = known.map(|known| known.links.as_slice());
        match former::networks(root, host, links, &names) {
            Ok(former) => changes.former = former,
            Err(error) => changes.fail(error),
        }
    }
    let goes = |network: &str| changes.removals.iter().any(|(removal, _)| removal.is_of(network));
    let notes = networks.all.iter().filter_map(|one| without_fabric(one, networks, &goes));
    changes.without = notes.gather();
    Ok(changes)
}

/// The route protocols of the fabrics that are asked for, each once.
fn protocols(networks: &Networks) -> Vec<u8> {
    let mut protocols: Vec<u8> = Vec::new();
    for network in networks.all.iter().filter(|one| one.peers_file.is_some()) {
        let protocol = network.config.fabric.protocol;
        if !protocols.contains(&protocol) {
            protocols.push(protocol);
        }
    }
    protocols
}

/// The fabrics that a pass may change, those of before as well: each is to be locked.
pub(super) fn locked(networks: &Networks) -> BTreeSet<u8> {
    let all = networks.all.iter();
    let before = all.clone().flat_map(|one| noted_protocols(one.name(), &networks.root));
    all.map(|network| network.config.fabric.protocol).chain(before).gather_set()
}

fn mtus(
    network: &Configured,
    networks: &Networks,
    (host, known): (&mut Socket, &Tables),
    applied: Option<&Applied>,
) -> Result<Option<Mtus>, Error> {
    let entries = Journal::new(&networks.root, network.name()).entries();
    if network.config.mtu.is_some() || entries.is_empty() {
        return Ok(None);
    }
    let new = link_mtus(host, &network.config, &networks.root, applied, known)?;
    Ok(Some(Mtus { network: network.name().to_owned(), new, pods: entries }))
}

/// Whether a network has a fabric, or had one when it was applied last.
pub(crate) fn has_fabric(network: &Configured, networks: &Networks) -> bool {
    let state = fabric_of(&network.config, &networks.root).ok();
    let had = |applied: Applied| applied.network == network.name();
    network.peers_file.is_some() || state.and_then(|state| state.applied()).is_some_and(had)
}

/// Says that a configuration asks for no routes to other nodes: who expects some
/// should not have to guess. Where another network has some, nobody does. What it had
/// `goes`, unless others may ask for it.
pub(crate) fn without_fabric(
    network: &Configured,
    networks: &Networks,
    goes: &dyn Fn(&str) -> bool,
) -> Option<String> {
    if network.peers_file.is_some() {
        return None;
    }
    let name = network.name();
    let goes = goes(name);
    let had = || !noted_protocols(name, &networks.root).is_empty();
    // Told as such already where it is to be looked after.
    let untold = networks.unknown().filter(|_| networks.unusable.is_empty());
    let unknown = untold.filter(|_| !goes && had());
    let others_have = networks.all.iter().any(|other| other.peers_file.is_some());
    if others_have && !goes && unknown.is_none() {
        return None;
    }
    let mut words =
        format!("network {name} has no peersFile, and with it no routes to other nodes");
    if goes {
        words += "; those of its former configuration go, as with manx apply --undo";
    }
    if let Some(path) = unknown {
        let path = path.display();
        words += &format!("; what its former configuration made stays while {path} cannot be used");
    }
    Some(words)
}

impl Changes {
    /// Notes what could not be compared, each reason once.
    fn fail(&mut self, error: Error) {
        if !self.failed.contains(&error) {
            self.failed.push(error);
        }
    }

    /// Compares a fabric once for all networks that share it: by the first of them that
    /// may have it as it wants it.
    fn compare_fabric(&mut self, networks: &Networks, protocol: u8, mut node: Inquiry<'_>) {
        let root = &networks.root;
        let of_it = networks.all.iter().filter(|one| one.config.fabric.protocol == protocol);
        let of_it = of_it.filter_map(|one| Some((one, one.peers_file.as_deref()?)));
        let bounds: Vec<_> =
            of_it.clone().map(|(one, _)| one.config.fabric.cluster_cidrs.as_deref()).gather();
        let mut found: Option<Pass> = None;
        for (network, path) in of_it {
            let config = &network.config;
            let compared = match &mut found {
                Some(pass) => pass.share(config, path, node.tables),
                // Another one may have what this one is refused.
                None => Pass::of_file_for(config, &bounds, root, node.again(), path)
                    .map(|pass| found = Some(pass)),
            };
            compared.unwrap_or_else(|error| {
                self.refused.push((network.name().to_owned(), error.clone()));
                self.fail(error);
            });
        }
        if let Some(pass) = found {
            self.serve(pass, root);
        }
    }

    /// Compares what networks had that are refused what their files say now, unless the
    /// same is another one's by its file.
    fn go_on_with_last(&mut self, networks: &Networks, mut node: Inquiry<'_>) {
        let root = &networks.root;
        for network in networks.all.iter().filter(|one| one.peers_file.is_some()) {
            let serves = |protocol| self.fabrics.iter().any(|(one, _)| one.protocol() == protocol);
            let last = FabricState::last_of(&network.config, root).protocol();
            if self.pass_of(network).is_some() || serves(last) {
                continue;
            }
            match Pass::of_last(&network.config, root, node.again()) {
                Ok(Some(pass)) => self.serve(pass, root),
                Ok(None) => {}
                Err(error) => self.fail(error),
            }
        }
    }

    fn serve(&mut self, pass: Pass, root: &Root) {
        self.fabrics.push((FabricState::new(root, pass.protocol()), pass));
    }

    /// The comparison that a network shares: of its protocol, else of that which it had.
    pub(crate) fn pass_of(&self, network: &Configured) -> Option<&Pass> {
        let protocol = network.config.fabric.protocol;
        let has = network.peers_file.is_some();
        let passes = self.fabrics.iter().map(|(_, pass)| pass);
        let passes = passes.filter(|pass| has && pass.serves(&network.config));
        passes.min_by_key(|pass| pass.protocol() != protocol)
    }

    /// Leaves out fabrics that were noted since others were `locked`: the next pass sees
    /// to them.
    pub(super) fn keep_locked(&mut self, locked: &BTreeSet<u8>) {
        let of_passes = self.fabrics.iter().map(|(state, _)| state.protocol());
        let of_removals = self.removals.iter().flat_map(|(removal, _)| removal.protocols());
        if let Some(error) = unlocked(of_passes.chain(of_removals), locked) {
            self.fail(error);
        }
        self.fabrics.retain(|(state, _)| locked.contains(&state.protocol()));
        self.removals.retain(|(removal, _)| removal.is_within(locked));
    }

    /// The networks that want routes to other nodes and share no comparison, each with the
    /// reason.
    pub(super) fn unserved(&self, networks: &Networks) -> Vec<(String, String)> {
        let asking = networks.all.iter().filter(|one| one.peers_file.is_some());
        let unserved = asking.filter(|network| self.pass_of(network).is_none());
        let reason = |name: &str| {
            let known = self.refusal_of(name).or(self.failed.first());
            known.map_or_else(|| "its routes were not compared".to_owned(), ToString::to_string)
        };
        unserved.map(|one| (one.name().to_owned(), reason(one.name()))).gather()
    }

    fn find_removals(&mut self, networks: &Networks, host: &mut Socket, tables: Option<&Tables>) {
        let mut done: Vec<u8> = self.fabrics.iter().map(|(state, _)| state.protocol()).gather();
        let asks = |network: &str| networks.asks_for_routes(network);
        for network in &networks.all {
            let found = Removal::of(&network.config, &networks.root, (host, tables), &asks, &done);
            let found = found.and_then(|removal| {
                removal.map(|removal| Ok((removal.tables()?, removal))).transpose()
            });
            match found {
                Ok(Some((tables, removal))) => {
                    done.push_all(removal.protocols());
                    self.removals.push((removal, tables));
                }
                Ok(None) => {}
                Err(error) => self.fail(error),
            }
        }
    }

    /// Why a network is refused what it asks for, if it is.
    pub(crate) fn refusal_of(&self, network: &str) -> Option<&Error> {
        reason(&self.refused, network)
    }

    /// Why nothing is known of a network's table, if so.
    pub(crate) fn unknown_table_of(&self, network: &str) -> Option<&Error> {
        reason(&self.unknown_tables, network)
    }

    /// All changes, as they are told.
    pub(crate) fn told(&self) -> Vec<Told> {
        let told = |change: Change| change.told();
        let fabrics = self.fabrics.iter();
        let removed = self.removals.iter().flat_map(|(removal, tables)| {
            let tables = tables.iter().map(|name| table::removed(name));
            removal.changes().iter().map(Change::told).chain(tables)
        });
        Lines {
            fabrics: fabrics
                .clone()
                .flat_map(|(_, pass)| &pass.plan.changes)
                .map(Change::told)
                .gather(),
            removed: removed.gather(),
            tunnels: fabrics.filter_map(|(_, pass)| pass.tunnel_change()).map(told).gather(),
            repairs: self.repairs.iter().map(Repair::told).gather(),
            tables: {
                let tables = self.tables.iter().filter_map(NetworkTable::change);
                let policies = self.policies.iter().filter_map(PolicyTable::change);
                tables.chain(policies).map(told).gather()
            },
            former: self.former.clone(),
        }
        .in_order()
    }

    /// What is wanting in spite of all changes.
    pub(crate) fn wanting(&self) -> Vec<String> {
        let desired = self.fabrics.iter().map(|(_, pass)| &pass.plan.desired);
        let wanting = desired.flat_map(|desired| {
            desired.not_ready.iter().chain(&desired.excluded).chain(&desired.wanting)
        });
        wanting.cloned().gather()
    }

    /// What an operator should know besides: of the fabrics, and of the tables.
    pub(crate) fn notes(&self) -> [Vec<String>; 2] {
        let desired = self.fabrics.iter().map(|(_, pass)| &pass.plan.desired);
        let fabric = desired.flat_map(|desired| &desired.notes).chain(&self.without);
        let tables = self.tables.iter().filter_map(NetworkTable::note);
        let tables = tables.chain(self.policies.iter().filter_map(PolicyTable::note));
        [fabric.cloned().gather(), tables.cloned().gather()]
    }

    /// Whether this node's own pods have IPv6.
    pub(crate) fn serve_ipv6(&self) -> bool {
        self.fabrics.iter().any(|(_, pass)| pass.applied.serves_ipv6)
    }

    /// What could not be compared: where that is all that there is, nothing is to be
    /// told of the rest.
    ///
    /// # Errors
    /// The first failure, where no network is served.
    pub(crate) fn failures(&self, networks: &Networks) -> Result<&[Error], Error> {
        match self.failed.first() {
            Some(error) if networks.all.len() == 1 && networks.unusable.is_empty() => {
                Err(error.clone())
            }
            _ => Ok(&self.failed),
        }
    }
}

fn reason<'a>(reasons: &'a [(String, Error)], network: &str) -> Option<&'a Error> {
    reasons.iter().find(|(name, _)| name == network).map(|(_, error)| error)
}

/// The networks that a comparison is of.
pub(super) fn served<'a>(
    networks: &'a Networks,
    pass: &Pass,
) -> impl Iterator<Item = &'a str> + use<'a> {
    let asking = networks.all.iter().filter(|one| one.peers_file.is_some());
    let served: Vec<_> = asking.filter(|one| pass.serves(&one.config)).gather();
    served.into_iter().map(Configured::name)
}

/// That somebody else has made a fabric at this moment, whose lock was not taken.
fn unlocked(protocols: impl Iterator<Item = u8>, locked: &BTreeSet<u8>) -> Option<Error> {
    let other = protocols.into_iter().find(|protocol| !locked.contains(protocol))?;
    let msg = "somebody else has applied it at this moment, and it is left alone";
    Some(Error::new(Kind::Busy, Object::fabric(other), msg).next("call again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_locked_is_told() {
        let locked = BTreeSet::from([109, 110]);
        assert_eq!(unlocked([110, 109].into_iter(), &locked), None);
        let error = unlocked([109, 7].into_iter(), &locked).unwrap();
        assert!(error.kind == Kind::Busy && error.to_string().contains("protocol 7"), "{error}");
    }
}
