//! What the screen and the JSON of `manx status` are made of: a pure function of the
//! snapshot.

use crate::{
    cli::attachments::{self, Attachment},
    conf::CrossSubnet,
    doctor::{self, Check, Outcome},
    fabric::{
        Plan, Settings,
        standing::{self, Standing, standings},
    },
    family::Family,
    finding::{Finding, Severity},
    node::{OfFabric, Pool, Range, Snapshot},
    pod::mtu::Uplink,
};

/// Checks whose errors keep pods from this node, or all of its pods from those of others.
const BLOCKING: [&str; 8] = [
    "foreign-cni",
    "configuration-invalid",
    "delegate-missing",
    "delegate-version",
    "node-address-changed",
    "fabric-contradiction",
    "ip-forward",
    "forward-drop",
];

/// How a node stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    Ready,
    /// Something is wrong, and does not concern all.
    Degraded,
    NotReady,
}

impl State {
    /// The word for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::NotReady => "not ready",
        }
    }
}

/// A node as one screen has it.
pub(super) struct Overview<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) state: State,
    /// Why it is not ready; empty where it is.
    pub(super) reason: String,
    pub(super) fabrics: Vec<Way<'a>>,
    pub(super) pods: Vec<Attachment>,
    pub(super) examined: Vec<(&'static Check, Outcome)>,
    /// The worst first.
    pub(super) findings: Vec<Finding>,
}

/// How packets reach the pods of other nodes.
pub(super) struct Way<'a> {
    pub(super) seen: &'a OfFabric,
    pub(super) standings: Vec<Standing>,
    pub(super) sizes: Vec<Size>,
}

/// Where the MTU of a family's packets to other nodes comes from, all in bytes.
pub(super) struct Size {
    pub(super) family: Family,
    pub(super) uplink: Uplink,
    pub(super) overhead: u32,
    /// What the configuration or the peers file says.
    pub(super) configured: Option<u32>,
}

impl Size {
    /// What is left of the device's MTU.
    pub(super) fn mtu(&self) -> u32 {
        self.configured.unwrap_or_else(|| self.uplink.mtu.saturating_sub(self.overhead))
    }
}

impl<'a> Overview<'a> {
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let examined = doctor::examine(snapshot, None);
        let findings = doctor::findings(&examined);
        let compared = &snapshot.compared;
        let fabrics = compared.fabrics.iter().map(|seen| Way::of(seen, &seen.plan()));
        let mut overview = Self {
            snapshot,
            state: State::Ready,
            reason: String::new(),
            fabrics: fabrics.collect(),
            pods: attachments::of_snapshot(snapshot),
            examined,
            findings,
        };
        (overview.state, overview.reason) = overview.judged();
        overview
    }

    fn judged(&self) -> (State, String) {
        let errors = || self.findings.iter().filter(|one| one.severity == Severity::Error);
        if let Some(one) = errors().find(|one| BLOCKING.contains(&one.id)) {
            return (State::NotReady, one.sentence());
        }
        for network in &self.snapshot.networks {
            let not_ready = network.fabric.as_ref().and_then(|fabric| match fabric.applied {
                false => Some("its routes to other nodes were not applied since boot".to_owned()),
                true => fabric.not_ready.first().cloned(),
            });
            let of_pool = || network.pool.as_ref().and_then(|pool| pool.problem.clone());
            if let Some(problem) = not_ready.or_else(of_pool) {
                return (State::NotReady, format!("network {}: {problem}", network.name));
            }
        }
        let state = if errors().next().is_some() { State::Degraded } else { State::Ready };
        (state, String::new())
    }

    /// This node's name in the list of peers.
    pub(super) fn node(&self) -> Option<&'a str> {
        let mut fabrics = self.snapshot.compared.fabrics.iter();
        fabrics.next().map(|fabric| fabric.peers.me.name.as_str())
    }

    /// How many attachments are in each state, those that have any.
    pub(super) fn pods_by_state(&self) -> [(&'static str, usize); 4] {
        ["up", "down", "missing", "unnoted"].map(|state| {
            let count = self.pods.iter().filter(|pod| pod.state() == state).count();
            (state, count)
        })
    }

    pub(super) fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|one| one.severity == severity).count()
    }
}

impl<'a> Way<'a> {
    fn of(seen: &'a OfFabric, plan: &Plan) -> Self {
        let (settings, peers) = (&seen.settings, &seen.peers);
        let served = |family: &Family| peers.me.pod_cidrs(*family).next().is_some();
        let sizes = Family::BOTH.into_iter().filter(served).filter_map(|family| {
            let uplink = plan.facts.narrowest(Some(family))?;
            let (overhead, configured) = (settings.overhead(family), settings.mtu);
            Some(Size { family, uplink, overhead, configured })
        });
        Self { seen, standings: standings(peers, plan), sizes: sizes.collect() }
    }

    pub(super) fn count(&self, state: standing::State) -> usize {
        self.standings.iter().filter(|one| one.state == state).count()
    }

    /// Nodes that are not reachable.
    pub(super) fn wrong(&self) -> impl Iterator<Item = &Standing> {
        self.standings.iter().filter(|one| one.state != standing::State::Reachable)
    }
}

/// The mode's word.
pub(super) fn mode(settings: &Settings) -> &'static str {
    settings.encapsulation().map_or("direct", |one| one.name())
}

/// Towards which nodes packets are carried alone, in the word of the key; none for all.
pub(super) fn cross_subnet(settings: &Settings) -> Option<&'static str> {
    match settings.keys.cross_subnet {
        CrossSubnet::Off => None,
        CrossSubnet::Mask => Some("true"),
        CrossSubnet::Route => Some("route"),
    }
}

/// How many addresses of a range are leased.
pub(super) fn used(pool: &Pool, range: &Range) -> usize {
    pool.leases.iter().filter(|lease| range.contains(lease.address)).count()
}
