// SPDX-License-Identifier: Apache-2.0
//! A fabric that its network does not ask for any more: its routes, entries and
//! tunnels go, and the table of the tunnels.

use std::{collections::BTreeSet, iter, sync::atomic::Ordering};

use serde_json::Map;

use super::{
    super::{Error, Kind, Object, file, kernel, refused},
    applied::Applied,
    patience::{HAS_WAITED, patience},
    state::{FabricState, lock_all},
    tunnel,
};
use crate::{
    cni::{Document, Version},
    conf::{Config, ROUTE_PROTOCOL},
    fabric::{Change, Ledger, Plan, Settings, apply::Refused, observed::Observed},
    list::Gather,
    net::{Socket, Tables, link},
    nft,
    object::link::marked,
    state::Root,
};

/// What there is to remove.
#[derive(Debug)]
pub struct Removal {
    config: Config,
    /// The fabrics, of one route protocol each. There is at least one.
    states: (FabricState, Vec<FabricState>),
    plan: Plan,
}

impl Removal {
    /// The fabrics that a network had and does not ask for; `None` if there are none,
    /// or another network that had it too still `asks` for it. Those of the protocols that
    /// are `done` are somebody else's affair.
    ///
    /// # Errors
    /// `Kernel` if the kernel does not answer.
    pub fn of(
        config: &Config,
        root: &Root,
        (host, tables): (&mut Socket, Option<&Tables>),
        asks: &dyn Fn(&str) -> bool,
        done: &[u8],
    ) -> Result<Option<Self>, Error> {
        if config.fabric.peers_file.is_some() {
            return Ok(None);
        }
        let name = &config.name;
        let goes = |applied: &Applied| applied.names(name) && !applied.others(name).any(asks);
        let gone = FabricState::noted(root).into_iter().filter(|(_, applied)| goes(applied));
        let mut gone = gone.filter(|(state, _)| !done.contains(&state.protocol()));
        let Some(first) = gone.next() else { return Ok(None) };
        Self::plan(config, (host, tables), first, gone.gather()).map(Some)
    }

    /// The fabric of a configuration, and those that its network alone had before.
    ///
    /// # Errors
    /// As for [`Self::of`].
    pub fn whole(config: &Config, root: &Root, host: &mut Socket) -> Result<Self, Error> {
        let state = fabric_of(config, root)?;
        let applied = state.read()?.unwrap_or_default();
        let former = state.others().filter(|(_, applied)| applied.is_only(&config.name)).gather();
        Self::plan(config, (host, None), (state, applied), former)
    }

    /// All that this node has of the fabric of a route protocol, whoever asked for it. What
    /// its network had under other protocols is theirs.
    ///
    /// # Errors
    /// As for [`Self::of`]; `File` where what was applied cannot be read.
    pub fn of_protocol(protocol: u8, root: &Root, host: &mut Socket) -> Result<Self, Error> {
        let state = FabricState::new(root, protocol);
        let applied = state.read()?.unwrap_or_default();
        Self::plan(&nobodys(), (host, None), (state, applied), Vec::new())
    }

    fn plan(
        config: &Config,
        (host, tables): (&mut Socket, Option<&Tables>),
        (first, applied): (FabricState, Applied),
        rest: Vec<(FabricState, Applied)>,
    ) -> Result<Self, Error> {
        let mut settings = Settings::of_config(config);
        settings.keys.protocol = first.protocol();
        let mut ledger = Ledger::default();
        ledger.added.extend(applied.added);
        let mut states = Vec::new();
        for (state, applied) in rest {
            ledger.protocols.push(state.protocol());
            ledger.added.extend(applied.added);
            states.push(state);
        }
        let plan = Plan::undo(host, &settings, &ledger, tables).map_err(kernel)?;
        Ok(Self { config: config.clone(), states: (first, states), plan })
    }

    fn states(&self) -> impl Iterator<Item = &FabricState> {
        iter::once(&self.states.0).chain(&self.states.1)
    }

    /// Whether it is what this network had.
    pub fn is_of(&self, network: &str) -> bool {
        self.config.name == network
    }

    /// The route protocols.
    pub fn protocols(&self) -> Vec<u8> {
        self.states().map(FabricState::protocol).gather()
    }

    /// Whether it is of these route protocols alone.
    pub fn is_within(&self, protocols: &BTreeSet<u8>) -> bool {
        self.states().all(|state| protocols.contains(&state.protocol()))
    }

    /// What there is of it.
    pub fn observed(&self) -> &Observed {
        &self.plan.observed
    }

    /// The changes.
    pub fn changes(&self) -> &[Change] {
        &self.plan.changes
    }

    /// The tables of the tunnels that there are.
    ///
    /// # Errors
    /// `Kernel` with what nf_tables refused.
    pub fn tables(&self) -> Result<Vec<String>, Error> {
        let mut found = nft::tables(tunnel::PREFIX).map_err(refused)?;
        let own: Vec<String> = self.states().map(|one| tunnel::name(one.protocol())).gather();
        found.retain(|table| own.contains(table));
        Ok(found)
    }

    /// Makes the changes and forgets what was applied; what is left is remembered,
    /// so that it can be tried again.
    ///
    /// # Errors
    /// `File` for state that could not be written, `Kernel` with what nf_tables
    /// refused.
    pub fn carry_out(&self, host: &mut Socket) -> Result<Refused, Error> {
        self.states().try_for_each(FabricState::unsettle)?;
        let taken = self.plan.carry_out(host);
        self.states().try_for_each(|state| tunnel::remove(state.protocol()).map(drop))?;
        if taken.node.is_empty() && taken.peers.is_empty() {
            self.states.0.forget_former(&self.config)?;
            for state in self.states() {
                let forgotten = state.forget();
                forgotten
                    .map_err(|error| file("forget the fabric", &state.path("json"), &error))?;
            }
        }
        Ok(taken)
    }
}

/// The configuration of no network: none has such a name.
fn nobodys() -> Config {
    let document = Document { object: Map::new(), name: ".".to_owned(), bytes: Vec::new() };
    Config::read(&document, Version::NEWEST).0
}

/// The route protocols of which this node has or may have something: those that are noted,
/// those whose devices bear their mark, and the usual one.
///
/// # Errors
/// `Kernel` if the kernel does not list the links.
pub fn protocols_here(root: &Root, host: &mut Socket) -> Result<BTreeSet<u8>, Error> {
    let links = link::all(host).map_err(kernel)?;
    let marked = links.iter().filter_map(marked);
    Ok(marked.chain(FabricState::new(root, 0).protocols()).chain([ROUTE_PROTOCOL]).gather_set())
}

/// The fabric that a configuration asks for; without a peers file, which may have named
/// its route protocol, one that its network applied last.
///
/// # Errors
/// `File` where a noted state cannot be read: it may be this network's.
pub fn fabric_of(config: &Config, root: &Root) -> Result<FabricState, Error> {
    let own = FabricState::new(root, config.fabric.protocol);
    if config.fabric.peers_file.is_some() {
        return Ok(own);
    }
    let noted = FabricState::noted(root).into_iter();
    let noted = noted.filter(|(_, applied)| applied.network == config.name);
    let noted = noted.map(|(state, _)| state);
    if let Some(state) = noted.min_by_key(|state| state.protocol() != own.protocol()) {
        return Ok(state);
    }
    match FabricState::unreadable(root).pop() {
        None => Ok(own),
        Some((path, cause)) => {
            let object = Object::path("what was applied,", &path);
            Err(Error::new(Kind::File, object, cause).next(
                "with peersFile and routeProtocol as they were, manx apply --undo takes it back",
            ))
        }
    }
}

/// The route protocols of the fabrics that a network had, maybe with others, in the order
/// in which everybody locks them.
pub fn noted_protocols(network: &str, root: &Root) -> BTreeSet<u8> {
    let noted = FabricState::noted(root).into_iter();
    noted
        .filter(|(_, applied)| applied.names(network))
        .map(|(state, _)| state.protocol())
        .gather_set()
}

/// Removes what a network without a peers file had of fabrics, by itself. What cannot
/// be removed keeps no pod from starting.
pub(super) fn abandon(config: &Config, root: &Root, host: &mut Socket) {
    let noted = FabricState::noted(root).into_iter();
    let noted = noted.filter(|(_, applied)| applied.is_only(&config.name));
    if noted.count() > 0 {
        // It leaves those that it shares.
        remove_all(&noted_protocols(&config.name, root), config, root, host);
    }
}

/// Removes those of the protocols in `own`. By itself: where there is nothing to remove,
/// the pages of its large frame are not touched.
#[inline(never)]
fn remove_all(own: &BTreeSet<u8>, config: &Config, root: &Root, host: &mut Socket) {
    let mut remove = || -> Result<Option<Refused>, Error> {
        let _locks = lock_all(own, root, patience())?;
        let removal = Removal::of(config, root, (host, None), &|_| true, &[])?;
        // One that was noted since is not locked.
        let removal = removal.filter(|removal| removal.is_within(own));
        removal.map(|removal| removal.carry_out(host)).transpose()
    };
    let told = match remove() {
        Ok(None) => return,
        Ok(Some(taken)) => {
            Error::join(taken.node.into_iter().chain(taken.peers).map(kernel).gather())
        }
        // Somebody is about it.
        Err(error) if error.kind == Kind::Busy => {
            HAS_WAITED.store(true, Ordering::Relaxed);
            return;
        }
        Err(error) => Some(error),
    };
    match told {
        None => log::info!("{} has no peersFile any more: its routes are removed", config.name),
        Some(error) => log::warn!("routes of the former configuration are left: {error}"),
    }
}
