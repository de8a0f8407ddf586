// SPDX-License-Identifier: Apache-2.0
//! One pass over the fabric: compare, change, note. The verbs and the command
//! line make the same one; they differ in what they say of its outcome.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;

use crate::{
    cni::Document,
    conf::Config,
    fabric::{
        Change, Inquiry, Peers, Plan, Settings,
        apply::Refused,
        digest,
        observed::Scope,
        pools::{Cidrs, Misfit},
        trouble::Trouble,
    },
    family::Family,
    list::{Gather, PushAll},
    net::{Socket, Tables},
    state::Root,
};

use super::{
    super::{Error, Kind, Object, kernel, pools::misfits},
    agreement::{disagreement, require_same_fabric, settings_text, summary},
    applied::{Applied, State},
    cidrs::PodCidrs,
    document::{self, file_version, require_agreement},
    file::{read_peers_by, validated},
    leased::leased,
    state::{FabricState, checked, node_in},
    tunnel::{self, TunnelTable},
};

/// What is to be changed, and what is to be noted then.
#[derive(Debug)]
pub struct Pass {
    /// The configuration, with what the list of peers says of the fabric.
    config: Config,
    /// The changes.
    pub plan: Plan,
    /// What an attachment has to know of it.
    pub applied: Applied,
    /// Who may put packets into the tunnels, where there are any.
    tunnel: Option<TunnelTable>,
    /// Whether there may have been some before.
    had_tunnels: bool,
    /// Whether a table of tunnels is made anew that is as it should be and not known by its seal.
    /// The plugin knows a table by that; otherwise it would make a pass each time it looks.
    /// Others let it be, for they may be of another version than the plugin.
    pub(super) renews_notes: bool,
    /// The file by which a fabric was applied last.
    applied_file: Option<String>,
    /// Route protocols that the network had before, and nobody else has.
    former: Vec<u8>,
    /// The list.
    peers: Peers,
    /// The peers file, and where it is noted what it says of the fabric; none where the last
    /// valid one had to do.
    file: Option<(Vec<u8>, PathBuf)>,
}

/// What came of a pass.
#[derive(Debug)]
pub struct Outcome {
    /// What was noted; its state tells what is wanting.
    pub applied: Applied,
    /// What the kernel refused that all peers need.
    pub refused: Vec<Error>,
    /// What it refused of single peers: part of what is wanting.
    pub of_peers: Vec<String>,
    /// The changes that were not made.
    pub unmade: Vec<Change>,
    /// Why tunnels take packets from everybody, if they do.
    pub unguarded: Option<String>,
    /// What an operator should know besides, and was not told yet.
    pub(super) notes: Vec<String>,
    /// The part of what is wanting that was not told yet.
    pub(super) news: Vec<String>,
}

/// What a pass was made from.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(super) config: Config,
    pub(super) peers: Peers,
    pub(super) plan: Plan,
    /// The peers file, and where it is noted what it says.
    pub(super) file: Option<(Vec<u8>, PathBuf)>,
}

impl Pass {
    /// Compares the node with its configuration and its peers file.
    ///
    /// # Errors
    /// `Configuration` if another network has the fabric of this protocol, `Unavailable` for a
    /// file that is not valid, `Kernel` if the kernel does not answer.
    pub fn of_file(
        config: &Config,
        root: &Root,
        node: Inquiry<'_>,
        path: &Path,
    ) -> Result<Self, Error> {
        require_same_fabric(config, root)?;
        // Before the file is read: a file that is replaced meanwhile must not
        // pass for the one that was applied.
        let version = file_version(path);
        let (peers, bytes) = read_peers_by(path, config, node.tables)?;
        require_agreement(config, &peers.fabric)?;
        // The list may be another one than that by which the configuration was resolved.
        let read = config.under(&peers.fabric);
        if read.fabric.protocol != config.fabric.protocol {
            let msg = "the routeProtocol of the peers file has changed at this moment";
            let object = Object::network(&config.name);
            return Err(Error::new(Kind::Busy, object, msg).next("call again"));
        }
        let file = Some((bytes, document::place(path, root)));
        Self::of(&read, root, node, (peers, version, file))
    }

    /// As [`Self::of_file`], also for networks that share the fabric: with the peers of
    /// all of them, each within its own `bounds`, if there are any.
    ///
    /// # Errors
    /// As for [`Self::of_file`].
    pub fn of_file_for(
        config: &Config,
        bounds: &[Option<&[IpNetwork]>],
        root: &Root,
        node: Inquiry<'_>,
        path: &Path,
    ) -> Result<Self, Error> {
        let own = config.fabric.cluster_cidrs.as_deref();
        if bounds.iter().all(|bounds| *bounds == own) {
            return Self::of_file(config, root, node, path);
        }
        // What is wrong with this node's own pods is its network's affair.
        read_peers_by(path, config, node.tables)?;
        let mut config = config.clone();
        let all: Option<Vec<&[IpNetwork]>> = bounds.iter().copied().collect();
        config.fabric.cluster_cidrs = all.map(|all| all.concat());
        Self::of_file(&config, root, node, path)
    }

    /// Compares the node with its configuration and the last valid peers that
    /// were applied since boot, if there are any: in the fabric that they were applied
    /// in, whatever the file says by now.
    ///
    /// # Errors
    /// As for [`Self::of_file`].
    pub fn of_last(config: &Config, root: &Root, node: Inquiry<'_>) -> Result<Option<Self>, Error> {
        let state = FabricState::last_of(config, root);
        let Some((config, peers)) = state.last(config, node.tables) else { return Ok(None) };
        require_same_fabric(&config, root)?;
        let version = state.applied().map(|applied| applied.file).unwrap_or_default();
        Self::of(&config, root, node, (peers, version, None)).map(Some)
    }

    fn of(
        config: &Config,
        root: &Root,
        node: Inquiry<'_>,
        (peers, version, file): (Peers, String, Option<(Vec<u8>, PathBuf)>),
    ) -> Result<Self, Error> {
        let state = FabricState::new(root, config.fabric.protocol);
        let mut ledger = state.ledger(config);
        let (leased, unseen) = leased(config, root, &peers);
        ledger.leased = leased;
        let before = state.applied().unwrap_or_default();
        let wanted = Settings::of_config(config);
        let mut plan = Plan::make(node, &wanted, &peers, &ledger).map_err(kernel)?;
        plan.desired.notes.push_all(unseen);
        let tunnels = Family::BOTH.into_iter().filter_map(|family| peers.me.tunnel_address(family));
        let tunnel = TunnelTable::of(config, &peers)?;
        let settings = settings_text(config);
        let applied_file = before.was_applied().then(|| before.file.clone());
        let had_tunnels = before.settings != settings;
        let (sharers, asked) = state.sharers_after(&config.name, &summary(config));
        let applied = Applied {
            version: 0,
            protocol: config.fabric.protocol,
            network: config.name.clone(),
            sharers,
            asked,
            summary: summary(config),
            settings,
            peers_file: config.fabric.peers_file.clone(),
            said: Some(peers.fabric.encode()),
            file: version,
            applied: before.was_applied(),
            state: State::InProgress,
            digest: None,
            added: plan.added_before(),
            scope: Scope::of(&plan.desired),
            // The last valid list says nothing of the one that is there.
            refused_file: before.refused_file.filter(|_| file.is_none()),
            told: before.told,
            uplink: plan.uplink().map(|uplink| (uplink.device, uplink.mtu)),
            ways: plan.facts.ways.clone(),
            pod_cidrs: PodCidrs::Known(peers.pod_cidrs().gather()),
            own_cidrs: peers.me.given_pod_cidrs(),
            tunnel_addresses: tunnels.gather(),
            plugin: before.plugin,
            has_peers: peers.others.iter().any(|node| !node.addresses.is_empty()),
            tunnel_listed: tunnel.as_ref().map(TunnelTable::listed),
            peers_inside: peers.inside_own(),
            serves_ipv6: peers.me.pod_cidrs(Family::V6).next().is_some(),
        };
        let former = ledger.protocols;
        let config = config.clone();
        Ok(Self {
            config,
            plan,
            applied,
            tunnel,
            had_tunnels,
            renews_notes: false,
            applied_file,
            former,
            peers,
            file,
        })
    }

    /// The route protocol.
    pub fn protocol(&self) -> u8 {
        self.config.fabric.protocol
    }

    /// Whether a network is noted as one that has this fabric.
    pub fn serves(&self, config: &Config) -> bool {
        self.applied.is_of(&config.name)
    }

    /// Notes that another network shares this fabric. One that is refused what it asks
    /// for keeps what was applied.
    ///
    /// # Errors
    /// `Configuration` if it wants another one; of its own as [`Self::of_file`].
    pub fn share(&mut self, config: &Config, path: &Path, tables: &Tables) -> Result<(), Error> {
        // It may have been resolved by another list.
        let config = &config.under(&self.config.fabric.file);
        let summary = summary(config);
        if summary != self.applied.summary {
            let other = (self.applied.network.as_str(), self.applied.summary.as_str());
            self.applied.sharers.remove(&config.name);
            return Err(disagreement(other, (&config.name, &summary), config.fabric.protocol));
        }
        if let Some((bytes, _)) = &self.file {
            require_agreement(config, &self.config.fabric.file)?;
            if config.fabric.cluster_cidrs != self.config.fabric.cluster_cidrs {
                validated(bytes, path, config, tables)?;
            }
        }
        self.applied.sharers.insert(config.name.clone());
        self.applied.asked.remove(&config.name);
        Ok(())
    }

    /// Whether the file that it was made from is the one that was applied last.
    pub fn is_of_applied_file(&self) -> bool {
        self.applied_file.as_ref() == Some(&self.applied.file)
    }

    /// The table of the tunnels.
    pub fn tunnel(&self) -> Option<&TunnelTable> {
        self.tunnel.as_ref()
    }

    /// What is to be changed of it.
    pub fn tunnel_change(&self) -> Option<Change> {
        self.tunnel().and_then(TunnelTable::change)
    }

    /// The configuration, with what the list of peers says of the fabric.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The list of peers that it was made from, on a node with these tables.
    pub fn peers(&self, tables: &Tables) -> Option<Peers> {
        let (bytes, _) = self.file.as_ref()?;
        checked(bytes, &self.config, tables).ok()
    }

    /// What is wrong with the ranges of a configuration, beside the pods of this
    /// list of peers.
    pub fn misfits(
        &self,
        state: &FabricState,
        document: &Document,
        config: &Config,
    ) -> Vec<Misfit> {
        let node = |cidr| {
            let of_file = self.file.as_ref().map(|(list, _)| node_in(list, cidr));
            let named = of_file.unwrap_or_else(|| state.node_of(cidr));
            named.unwrap_or_else(|| "another node".to_owned())
        };
        let (own, all) = (&self.applied.own_cidrs, || self.applied.pod_cidrs());
        misfits(document, config, &Cidrs { own, all: &all, node: &node })
    }

    /// Makes the changes and notes what came of them. A change that is begun is
    /// noted first: whatever interrupts it, the next ADD or STATUS goes on.
    ///
    /// # Errors
    /// `File` for state that could not be written.
    pub fn carry_out(&self, state: &FabricState, host: &mut Socket) -> Result<Outcome, Error> {
        let Self { config, plan, tunnel, had_tunnels, former, file, .. } = self;
        let mut applied = self.applied.clone();
        let list = file.as_ref().map(|(list, place)| {
            document::note(place, &applied.file, &config.fabric.file);
            list.as_slice()
        });
        let changes = plan.feasible().next().is_some();
        if changes {
            state.note(&applied, list)?;
        }
        // Before the routes: what they bring is taken from the first packet on.
        let unguarded = tunnel.as_ref().and_then(|tunnel| tunnel.restore(self.renews_notes));
        let refused = plan.carry_out(host);
        if tunnel.is_none() && *had_tunnels {
            tunnel::remove(config.fabric.protocol)?;
        }
        // One that stayed would drop what comes from peers that come later.
        former.iter().try_for_each(|protocol| tunnel::remove(*protocol).map(drop))?;
        let Trouble { reasons, of_node } = Trouble::of(plan, &refused);
        let Refused { node, peers: refused, unmade, .. } = refused;
        let of_peers: Vec<String> = refused.iter().map(ToString::to_string).gather();
        let is_news = |text: &&String| !applied.told.contains(text);
        let notes = plan.desired.notes.iter().chain(&unguarded);
        let notes: Vec<String> = notes.filter(is_news).cloned().gather();
        let news: Vec<String> = reasons.iter().filter(is_news).cloned().gather();
        let told = plan.desired.notes.iter().chain(&unguarded).chain(&reasons);
        applied.told = told.cloned().gather();
        applied.state = match (node.is_empty(), reasons.is_empty(), of_node) {
            (false, ..) => State::InProgress,
            (true, true, _) => State::Ready,
            (true, false, true) => State::NotReady(reasons),
            (true, false, false) => State::Degraded(reasons),
        };
        if node.is_empty() && refused.is_empty() {
            applied.added = plan.added_after();
            state.forget_former(config)?;
        }
        // Of what the kernel was seen to have, not of what it was told.
        // Where another's route serves, what is ours does not tell when it goes.
        applied.digest = (!changes && !plan.borrows)
            .then(|| digest::of_observed(&plan.observed, config.fabric.protocol));
        let lacking: HashSet<IpNetwork> =
            plan.conflicts().chain(&unmade).filter_map(Change::destination).collect();
        let watched = applied.ways.watch(host, digest::sentinels(&plan.desired, &lacking));
        watched.unwrap_or_else(|error| log::debug!("the routes to peers: {error}"));
        state.note(&applied, list)?;
        let refused = node.into_iter().map(kernel).gather();
        Ok(Outcome { applied, refused, of_peers, unmade, unguarded, notes, news })
    }

    /// What it was made from.
    pub(crate) fn into_rest(self) -> Rest {
        let Self { config, peers, plan, file, .. } = self;
        Rest { config, peers, plan, file }
    }
}

impl Outcome {
    /// What all peers need and do not have.
    pub fn error(&self) -> Option<Error> {
        Error::join(self.refused.clone())
    }

    /// What stands in the way of all, if so.
    pub fn hindrance(&self) -> Option<String> {
        match &self.applied.state {
            State::Ready | State::Degraded(_) => None,
            State::NotReady(reasons) => Some(reasons.join("; ")),
            State::InProgress => self.error().map(|error| error.to_string()),
        }
    }

    /// What is wanting, for all or for some.
    pub fn wanting(&self) -> &[String] {
        match &self.applied.state {
            State::NotReady(reasons) | State::Degraded(reasons) => reasons,
            State::InProgress | State::Ready => &[],
        }
    }
}
