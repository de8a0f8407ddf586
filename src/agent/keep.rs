// SPDX-License-Identifier: Apache-2.0
//! Keeps the peers file what the cluster's nodes are.
//!
//! The file is written only where it differs, for each writing is read by everybody who
//! goes by it. What is there stays while the API server is away, while its lists are not
//! believed, and while the disk takes nothing.

mod write;

use std::{
    collections::{BTreeSet, HashSet},
    mem,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnetwork::IpNetwork;

use super::{
    backoff::part_of,
    belief::{Belief, DOUBT, Verdict, What},
    change::Change,
    common::Common,
    noted::{Noted, clock},
    plugin::Installed,
    slip::Slip,
    source::{Source, Told},
    status::Status,
};
use crate::{
    conf::FabricPart,
    fabric::{
        list,
        nodes::{FORM_PLAIN, Record, Refusal, Settings, Settled, form, with_fabric},
    },
    finding::Finding,
    list::{Gather, PushAll},
    state::{Root, file::PEERS_BYTES_MAX, journal, read},
};

/// How soon a file that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// How often to look whether the file is still what was written.
const LOOK: Duration = Duration::from_secs(60);
/// From here on the changes of all nodes to all agents are a load on the API server.
const NODES_MANY: usize = 1500;

/// What the peers file should be, and why.
pub(crate) struct Keeper<S> {
    source: S,
    settings: Settings,
    root: Root,
    path: PathBuf,
    plugin: Arc<Installed>,
    belief: Belief,
    /// Until a list is believed: whether the range of all pods leaves out too much of what the file has.
    slip: Option<Slip>,
    status: Arc<Status>,
    /// The nodes that are believed, with what holds for all of them.
    nodes: Vec<Arc<Record>>,
    common: Option<Arc<Common>>,
    /// What came with the list that is judged.
    offered: Option<Arc<Common>>,
    /// This node's podCIDRs.
    own: Vec<IpNetwork>,
    /// Those that it had before, and pods of it still have addresses of.
    former: Vec<IpNetwork>,
    /// What the file says of the fabric, while that changes.
    change: Change,
    /// Since when.
    noted: Noted,
    /// What the file should be, as soon as that is known.
    wanted: Option<(String, u32)>,
    /// When the first change was heard that the file is to have.
    heard: Option<Instant>,
    /// When to ask for a new list.
    ask: Option<Instant>,
    /// When to try to write again.
    retry: Option<Instant>,
    /// What was logged last: the same is not logged twice in a row.
    said: Said,
}

#[derive(Default)]
struct Said {
    doubt: String,
    unwritten: String,
    skew: String,
    findings: HashSet<Finding>,
    many: bool,
}

/// What a cluster costs that is larger than this way to watch it is meant for.
fn burden(nodes: usize) -> Option<String> {
    (nodes >= NODES_MANY).then(|| {
        format!(
            "{nodes} nodes: the API server sends each change of each Node to the agent on every \
             node, and spends processors on it: docs/kubernetes.md says how many, and what keeps \
             changes few"
        )
    })
}

impl<S: Source> Keeper<S> {
    /// Begins with the nodes of the file that is there.
    pub(crate) fn new(
        source: S,
        settings: Settings,
        root: &Root,
        path: PathBuf,
        status: Arc<Status>,
    ) -> Self {
        let held = read(&path, PEERS_BYTES_MAX).unwrap_or_default();
        let nodes = list::pods(&held);
        let names = nodes.iter().map(|(name, _)| name.as_str());
        let others = nodes.iter().filter(|(name, _)| *name != settings.node);
        let pods = others.flat_map(|(_, cidrs)| cidrs).copied().collect();
        let belief = Belief::new(&settings.node, names, pods);
        let cluster = settings.cluster_cidrs.as_deref().filter(|_| !settings.in_blocks);
        let mut slip = cluster.map(|all| Slip::new(all, &settings.node, &nodes));
        // A rollout does not go on before the list is there.
        if let Some(found) = slip.as_mut().and_then(Slip::by_file) {
            log::warn!("{}: {}", found.id, found.sentence());
            status.troubled(Some(&found));
        }
        let (current, former) = list::pod_cidrs(&held, &settings.node).unwrap_or_default();
        let parsed = |texts: &[String]| texts.iter().filter_map(|text| text.parse().ok()).gather();
        let (own, former) = (parsed(&current), parsed(&former));
        let said = list::fabric(&held).ok().filter(|_| !nodes.is_empty());
        let noted = Noted::beside(&path);
        let change = Change::new(said, noted.read().as_ref(), clock());
        let (nodes, wanted, ask, retry) = (Vec::new(), None, None, None);
        let plugin = Arc::new(Installed::in_directory(root, Path::new("/nonexistent")));
        let (root, said) = (root.clone(), Said::default());
        Self {
            source,
            settings,
            root,
            path,
            plugin,
            belief,
            slip,
            status,
            nodes,
            common: None,
            offered: None,
            own,
            former,
            change,
            noted,
            wanted,
            heard: None,
            ask,
            retry,
            said,
        }
    }

    /// The same with another time for which a former mode is accepted, and where all nodes
    /// hear `at_once` of another one.
    pub(crate) fn accepting_for(mut self, limit: Duration, at_once: bool) -> Self {
        (self.change.limit, self.change.at_once) = (limit, at_once);
        self
    }

    /// The same for this plugin.
    pub(super) fn for_plugin(self, plugin: Arc<Installed>) -> Self {
        Self { plugin, ..self }
    }

    /// How many nodes are known from the file.
    pub(crate) fn nodes(&self) -> usize {
        self.belief.nodes()
    }

    /// This node's podCIDRs by the file.
    pub(crate) fn own(&self) -> &[IpNetwork] {
        &self.own
    }

    /// Waits for what the source tells, and does what follows from it.
    pub(crate) fn step(&mut self) {
        let now = Instant::now();
        let missing = self.belief.own_missing_until().filter(|until| *until > now);
        let due = [self.ask, self.retry, self.change.due(), missing, Some(now + LOOK)];
        let due = due.into_iter().flatten().min();
        let told = self.source.next(due.unwrap_or(now));
        let is_list = matches!(told, Some(Told::Complete { .. }));
        match told {
            Some(Told::Complete { nodes, anew, common }) => {
                self.offered = common;
                let heard = self.source.heard();
                self.heard = self.heard.or(heard);
                self.consider(&nodes, anew, Instant::now());
            }
            Some(Told::Lost(words)) => self.status.lost(&words),
            None => {}
        }
        let now = Instant::now();
        if self.nodes.is_empty() {
            self.go_on(now);
        } else if !is_list && self.is_changing(now) {
            drop(self.believe(now));
        }
        // Where nothing else changes, no list comes.
        if self.belief.own_missing_until().is_some_and(|until| until <= now) {
            let words = self.own_missing(true);
            self.doubt(words);
        }
        if self.ask.take_if(|ask| *ask <= now).is_some() {
            self.source.ask_anew();
        }
        if self.retry.is_none_or(|retry| retry <= now) {
            self.look_at_plugin();
            self.write(now);
        }
        self.noted.keep(&self.change, now);
    }

    fn consider(&mut self, nodes: &[Arc<Record>], anew: bool, now: Instant) {
        let has_own = nodes.iter().any(|node| *node.name == *self.settings.node);
        if let Some(slip) = self.slip.as_mut().filter(|_| has_own) {
            let found = slip.by(nodes);
            self.status.troubled(found.as_ref());
            if let Some(found) = found {
                self.status.listed();
                self.belief.own_is_there();
                return self.doubt(format!("{}: {}", found.id, found.sentence()));
            }
        }
        let names: BTreeSet<&str> = nodes.iter().map(|node| &*node.name).collect();
        let former = self.left_behind(nodes);
        let settled = Settled::of(nodes, &self.settings, &former);
        let pods = settled.as_ref().map(Settled::pods).unwrap_or_default();
        self.status.listed();
        let doubt = match self.belief.judge(&names, pods, anew, now) {
            Verdict::Believe => {
                (self.ask, self.slip) = (None, None);
                (self.nodes, self.common) = (nodes.to_vec(), self.offered.clone());
                self.go_by(settled, former, now)
            }
            Verdict::Empty => {
                "the API server lists no node at all, which is not believed".to_owned()
            }
            Verdict::OwnMissing { long } => self.own_missing(long),
            Verdict::Doubt { what, gone, of, ask } => {
                // All nodes have the same doubt since the same event.
                self.ask.get_or_insert_with(|| ask + part_of(DOUBT));
                let what = match what {
                    What::Nodes => "nodes are gone from the list of the API server",
                    What::Pods => "networks of pods would be reached no more by that list",
                };
                format!("{gone} of {of} {what}: it is asked again before that is believed")
            }
        };
        self.doubt(doubt);
    }

    /// Says why lists are not believed, or that they are again.
    fn doubt(&mut self, doubt: String) {
        if doubt != self.said.doubt {
            match doubt.is_empty() {
                true => log::info!("the list of nodes is believed again"),
                false => log::warn!("{doubt}; the peers file stays as it is"),
            }
            self.said.doubt = doubt;
        }
    }

    /// Goes on by the nodes that are believed, as it is by now; why not, if so.
    fn believe(&mut self, now: Instant) -> String {
        let former = self.left_behind(&self.nodes);
        let settled = Settled::of(&self.nodes, &self.settings, &former);
        self.go_by(settled, former, now)
    }

    fn go_by(
        &mut self,
        settled: Result<Settled, Refusal>,
        former: Vec<IpNetwork>,
        now: Instant,
    ) -> String {
        if let Some(words) = burden(self.nodes.len()).filter(|_| !self.said.many) {
            self.said.many = true;
            log::warn!("{words}");
        }
        let mut settings = self.settings.clone();
        if let Some(common) = &self.common {
            settings.fabric = common.fabric(&settings.fabric);
        }
        settings.fabric = self.fabric_of(&settings.fabric, now);
        match settled.map(|settled| settled.view(&settings)) {
            Ok(mut view) => {
                if let Some(common) = &self.common {
                    view.findings.push_all(common.findings.iter().chain(&common.trouble).cloned());
                    view.own_trouble = view.own_trouble.or_else(|| common.trouble.clone());
                }
                self.status.viewed(&view);
                self.say(view.findings);
                (self.own, self.former) = (view.own_pod_cidrs, former);
                self.wanted = Some((view.text, view.form));
                self.retry = None;
                String::new()
            }
            // Both are judged before.
            Err(Refusal::Empty | Refusal::OwnMissing) => "this node is not listed".to_owned(),
        }
    }

    /// A mode changes by the time, also while nobody tells which nodes there are. What the
    /// cluster says of it is not known before. A configuration with a fault begins no change: a rollout of
    /// it ends, and other nodes do not hear of that mode. One that has begun goes on everywhere.
    fn go_on(&mut self, now: Instant) {
        let Some(said) = self.change.said() else { return };
        let is_under_way = said.accepts().is_some();
        let is_wrong = self.slip.as_ref().is_some_and(Slip::is_wrong);
        if self.change.at_once || is_wrong && !is_under_way {
            return;
        }
        let before = self.change.said().cloned();
        let wanted = self.settings.fabric.clone();
        let fabric = self.fabric_of(&wanted, now);
        if before.as_ref() == Some(&fabric) {
            return;
        }
        let held = read(&self.path, PEERS_BYTES_MAX).unwrap_or_default();
        let held = String::from_utf8(held).unwrap_or_default();
        self.wanted = with_fabric(&held, &fabric).map(|text| (text, form(&fabric)));
    }

    /// What the file is to say of the fabric now, where this is wanted. The steps there may
    /// speak of a family that travels plainly, which a plugin of before cannot read: it would
    /// keep the file of before until they are over.
    fn fabric_of(&mut self, wanted: &FabricPart, now: Instant) -> FabricPart {
        let step = self.change.step(wanted, now);
        let cannot = |part: &FabricPart| form(part) == FORM_PLAIN && !self.plugin.reads(FORM_PLAIN);
        match cannot(&step) && !cannot(wanted) {
            true => self.change.skip(wanted, now),
            false => step,
        }
    }

    /// Whether there is something to be done besides what the API server tells: the pods
    /// of a former podCIDR may be gone.
    fn is_changing(&self, now: Instant) -> bool {
        !self.former.is_empty() || self.change.due().is_some_and(|due| due <= now)
    }

    /// The podCIDRs that this node had, and that pods of it still have addresses of.
    fn left_behind(&self, nodes: &[Arc<Record>]) -> Vec<IpNetwork> {
        // Nobody takes a block with pods from a node, and one may be divided anew.
        if self.settings.in_blocks {
            return Vec::new();
        }
        let own = nodes.iter().find(|node| *node.name == *self.settings.node);
        let now: Vec<IpNetwork> = own
            .into_iter()
            .flat_map(|node| &node.pod_cidrs)
            .filter_map(|text| text.parse().ok())
            .gather();
        let before = self.own.iter().chain(&self.former).copied();
        let mut former: Vec<IpNetwork> = before.filter(|cidr| !now.contains(cidr)).gather();
        if !former.is_empty() {
            let entries = journal::all(&self.root);
            let addresses: Vec<_> = entries.iter().flat_map(|entry| &entry.addresses).gather();
            former.retain(|cidr| addresses.iter().any(|address| cidr.contains(**address)));
        }
        former
    }

    fn own_missing(&mut self, long: bool) -> String {
        let node = &self.settings.node;
        self.status.own_missing(long);
        let hint = match long {
            true => "; if it is to come back, restart its kubelet: see kubectl get nodes",
            false => "",
        };
        format!("the API server has no Node {node}, which is this node{hint}")
    }

    /// Says what is new.
    fn say(&mut self, findings: Vec<Finding>) {
        let findings: HashSet<Finding> = findings.into_iter().collect();
        let before = mem::take(&mut self.said.findings);
        for new in findings.difference(&before) {
            log::warn!("{}: {}: {}", new.id, new.object, new.sentence());
        }
        for gone in before.difference(&findings) {
            log::info!("{}: {}: no more", gone.id, gone.object);
        }
        self.said.findings = findings;
    }
}

#[cfg(test)]
mod tests;
