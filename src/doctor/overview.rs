// SPDX-License-Identifier: Apache-2.0
//! How a node stands: what the screen and the JSON of `manx status`, and its part of a
//! report, are made of. A pure function of the snapshot.

use std::fmt;

use super::{Check, Outcome, examine, findings, links::serves, policy};
use crate::{
    conf::CrossSubnet,
    fabric::{
        Plan, Settings,
        standing::{self, Standing, standings},
    },
    family::Family,
    finding::{Finding, Severity},
    list::Gather,
    node::{Attachment, Network, OfFabric, Pool, Range, Snapshot, Surroundings},
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
pub enum State {
    /// Pods may come.
    Ready,
    /// Something is wrong, and does not concern all.
    Degraded,
    /// No pod can start here, or none reaches those of other nodes.
    NotReady,
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::NotReady => "not ready",
        }
    }
}

/// How network policies stand on a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Enforcement {
    /// No network asks for them, and there is no table of theirs.
    Off,
    /// A network asks for them, and nobody has applied any since the node started.
    Awaited,
    /// A network asks for them, and their table is gone or not what it should be.
    Lost,
    /// No network asks for them: they are enforced for the pods that were there when they were
    /// applied, and not for later ones.
    Partly,
    /// A network asks for them, and its pods are under them.
    Enforced,
}

impl Enforcement {
    /// How policies stand on a node.
    pub fn of(snapshot: &Snapshot) -> Self {
        let asks = snapshot.networks.iter().any(|network| network.enforces_policy);
        let Surroundings { enforces_policy: is_there, policies_said: said, .. } =
            snapshot.surroundings;
        let is_lost = !policy::differences(snapshot).is_empty() || policy::is_gone(snapshot);
        match (asks, is_there) {
            (true, _) if said == Some(false) => Self::Awaited,
            (true, _) if is_lost => Self::Lost,
            (true, true) => Self::Enforced,
            (false, true) => Self::Partly,
            (_, false) => Self::Off,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Awaited => "awaited",
            Self::Lost => "lost",
            Self::Partly => "partly",
            Self::Enforced => "enforced",
        }
    }
}

/// A node as one screen has it.
pub struct Overview<'a> {
    /// The node.
    pub snapshot: &'a Snapshot,
    /// How it stands.
    pub state: State,
    /// Why it is not ready; empty where it is.
    pub reason: String,
    /// Its fabrics.
    pub fabrics: Vec<Way<'a>>,
    /// Its attachments.
    pub pods: Vec<Attachment>,
    /// What came of each check.
    pub examined: Vec<(&'static Check, Outcome)>,
    /// What they found, the worst first.
    pub findings: Vec<Finding>,
}

/// How packets reach the pods of other nodes.
pub struct Way<'a> {
    /// What was compared of it.
    pub seen: &'a OfFabric,
    /// The other nodes.
    pub standings: Vec<Standing>,
    /// Where the MTU comes from, of each family that pods have.
    pub sizes: Vec<Size>,
}

/// Where the MTU of a family's packets to other nodes comes from, all in bytes.
#[derive(Clone, Debug)]
pub struct Size {
    /// The family.
    pub family: Family,
    /// The narrowest device towards other nodes.
    pub uplink: Uplink,
    /// What the encapsulation adds.
    pub overhead: u32,
    /// What the configuration or the peers file says.
    pub configured: Option<u32>,
}

impl Size {
    /// What is left of the device's MTU.
    pub fn mtu(&self) -> u32 {
        self.configured.unwrap_or_else(|| self.uplink.mtu.saturating_sub(self.overhead))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, uplink, overhead, configured } = self;
        let (device, whole, mtu) = (&uplink.device, uplink.mtu, self.mtu());
        match configured {
            Some(_) => write!(
                f,
                "{family}: MTU {mtu} is configured; {device} has {whole}, {overhead} are added"
            ),
            None => write!(f, "{family}: MTU {mtu} = {device}'s {whole} - {overhead}"),
        }
    }
}

impl<'a> Overview<'a> {
    /// What is to be said of a node.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let examined = examine(snapshot, None);
        let findings = findings(&examined);
        let compared = &snapshot.compared;
        let dead = snapshot.kernel.without_carrier();
        let dead: Vec<&str> = dead.map(|link| link.name.as_str()).gather();
        let fabrics = compared.fabrics.iter().map(|seen| Way::of(seen, &seen.plan(), &dead));
        let mut overview = Self {
            snapshot,
            state: State::Ready,
            reason: String::new(),
            fabrics: fabrics.gather(),
            pods: Attachment::all_of(snapshot),
            examined,
            findings,
        };
        (overview.state, overview.reason) = overview.judged();
        overview
    }

    fn judged(&self) -> (State, String) {
        let errors = || self.findings.iter().filter(|one| one.severity == Severity::Error);
        if let Some(one) = errors().find(|one| BLOCKING.contains(&one.id)) {
            return (State::NotReady, format!("{}: {}", one.object, one.sentence()));
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
    pub fn node(&self) -> Option<&'a str> {
        let mut fabrics = self.snapshot.compared.fabrics.iter();
        fabrics.next().map(|fabric| fabric.peers.me.name.as_str())
    }

    /// How many attachments are in each state, those that have any.
    pub fn pods_by_state(&self) -> [(&'static str, usize); 4] {
        ["up", "down", "missing", "unnoted"].map(|state| {
            let count = self.pods.iter().filter(|pod| pod.state() == state).count();
            (state, count)
        })
    }

    /// How many findings are so bad.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|one| one.severity == severity).count()
    }
}

impl<'a> Way<'a> {
    fn of(seen: &'a OfFabric, plan: &Plan, dead: &[&str]) -> Self {
        let (settings, peers) = (&seen.settings, &seen.peers);
        let served = |family: &Family| peers.me.pod_cidrs(*family).next().is_some();
        let sizes = Family::BOTH.into_iter().filter(served).filter_map(|family| {
            let uplink = plan.facts.narrowest(Some(family))?;
            let (overhead, configured) = (settings.overhead(family), settings.mtu);
            Some(Size { family, uplink, overhead, configured })
        });
        Self { seen, standings: standings(peers, plan, dead), sizes: sizes.gather() }
    }

    /// How many other nodes stand so.
    pub fn count(&self, state: standing::State) -> usize {
        self.standings.iter().filter(|one| one.state == state).count()
    }

    /// Nodes that are not reachable.
    pub fn wrong(&self) -> impl Iterator<Item = &Standing> {
        self.standings.iter().filter(|one| one.state != standing::State::Reachable)
    }
}

/// The mode's word.
pub fn mode(settings: &Settings) -> &'static str {
    settings.encapsulation().map_or("direct", |one| one.name())
}

/// Towards which nodes packets are carried alone, in the word of the key; none for all.
pub fn cross_subnet(settings: &Settings) -> Option<&'static str> {
    match settings.keys.cross_subnet {
        CrossSubnet::Off => None,
        CrossSubnet::Mask => Some("true"),
        CrossSubnet::Route => Some("route"),
    }
}

/// The MTU that a network's pods get, in words; none where it cannot be told.
pub fn mtu_of_pods(network: &Network, snapshot: &Snapshot) -> Option<String> {
    let (pods, (ipv4, ipv6)) = (format!("pods of network {}", network.name), network.mtu?);
    let fits = match Family::BOTH.map(|family| serves(family, network, snapshot)) {
        [_, true] => ipv6.to_string(),
        [false, false] if ipv4 != ipv6 => format!("{ipv4}, or {ipv6} with an IPv6 address"),
        _ => ipv4.to_string(),
    };
    Some(match network.configured_mtu {
        Some(mtu) => format!("{pods} get {mtu}, as configured; what fits is {fits}"),
        None => format!("{pods} get {fits}"),
    })
}

/// How many addresses of a range are leased.
pub fn used(pool: &Pool, range: &Range) -> usize {
    pool.leases.iter().filter(|lease| range.contains(lease.address)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        node::OfTable,
        object::{HeldTable, Table},
        policy::TABLE,
        state::Entry,
    };

    #[test]
    fn the_mtu_of_pods_is_that_of_their_addresses() {
        let told = |configured_mtu, ranges: &[&str]| {
            let range = |first: &&str| Range {
                path: String::new(),
                set: 0,
                first: first.parse().unwrap(),
                last: first.parse().unwrap(),
                size: String::new(),
            };
            let pool = Pool { ranges: ranges.iter().map(range).collect(), ..Pool::default() };
            let (name, mtu, pool) = ("net".to_owned(), Some((1450, 1430)), Some(pool));
            let network = Network { name, mtu, configured_mtu, pool, ..Network::default() };
            mtu_of_pods(&network, &Snapshot::default()).unwrap()
        };
        assert_eq!(told(None, &["10.0.0.1"]), "pods of network net get 1450");
        assert_eq!(told(None, &["10.0.0.1", "fd00::1"]), "pods of network net get 1430");
        assert_eq!(
            told(Some(1400), &["10.0.0.1"]),
            "pods of network net get 1400, as configured; what fits is 1450"
        );
        // Addresses are another plugin's.
        assert_eq!(told(None, &[]), "pods of network net get 1450, or 1430 with an IPv6 address");
        assert_eq!(mtu_of_pods(&Network::default(), &Snapshot::default()), None);
    }

    #[test]
    fn policies_stand_in_five_ways() {
        let stands = |asks: &[bool], is_there, said, differences: &[&str]| {
            let mut snapshot = Snapshot::default();
            let network = |asks: &bool| Network { enforces_policy: *asks, ..Network::default() };
            snapshot.networks = asks.iter().map(network).collect();
            snapshot.surroundings.enforces_policy = is_there;
            snapshot.surroundings.policies_said = said;
            let differences = differences.iter().map(|&words| words.to_owned()).collect();
            let wanted =
                Table { name: TABLE.to_owned(), purpose: String::new(), description: None };
            let held = HeldTable { name: TABLE.to_owned(), differences };
            snapshot.journal = vec![Entry::default()];
            snapshot.compared.tables =
                vec![OfTable { network: String::new(), wanted, held, note: None }];
            Enforcement::of(&snapshot).as_str()
        };
        for (expected, asks, is_there, said, differences) in [
            ("off", &[false][..], false, Some(false), &[][..]),
            ("off", &[], false, None, &[]),
            ("awaited", &[true], false, Some(false), &[]),
            ("awaited", &[true], true, Some(false), &[]),
            // What makes the table again would close the pods.
            ("awaited", &[true], false, Some(false), &["no table"]),
            ("lost", &[true], false, Some(true), &[]),
            ("lost", &[true], true, Some(true), &["chain forward: 2 rules instead of 3"]),
            ("partly", &[false], true, Some(true), &[]),
            ("partly", &[], true, Some(true), &[]),
            ("enforced", &[true], true, Some(true), &[]),
            // The other one has no need of them.
            ("enforced", &[true, false], true, Some(true), &[]),
        ] {
            let found = stands(asks, is_there, said, differences);
            assert_eq!(found, expected, "{asks:?} {is_there} {said:?} {differences:?}");
        }
    }
}
