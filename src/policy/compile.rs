//! What the table of one node holds, made of a world.
//!
//! Peers have identities by the scopes that rules of this node's pods name and by the
//! numbers of the ports that such a rule knows by name: pods alike in that are alike to
//! the table, and a pod that no rule means is not in it. Pods that are allowed the same
//! have one class.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{
    Assigned, Direction, Name, Peer, Pod, Policies, Policy, Ports, Rule, World,
    class::{ANYBODY, Content, Gathered, Span, Spans},
    live::owners,
    numbers::Numbers,
    scope::Scope,
};
use crate::nft::policy::{CLOSED, Way};

/// What the table is called.
pub const TABLE: &str = "manx.policy";

/// What policies mean to one node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Compiled {
    /// What its table holds.
    pub policies: Policies,
    /// Its pods, whether they have an address yet or not, by their names.
    pub pods: Vec<Known>,
}

/// A pod of which it is known which policies are about it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Known {
    /// Its name.
    pub name: Name,
    /// As of [`Pod::uid`].
    pub uid: String,
    /// The numbers that an address of it gets. Where a port with a name is open to a network,
    /// it may have another identity by its address.
    pub assigned: Assigned,
}

/// What policies mean to a node.
pub fn compile(world: &World, node: &str) -> Compiled {
    let owners = owners(world);
    let mut local = BTreeMap::<_, (&Pod, Vec<IpAddr>)>::new();
    for (address, pod) in owners.iter().filter(|(_, pod)| pod.node == node) {
        local.entry(&pod.name).or_insert_with(|| (pod, Vec::new())).1.push(*address);
    }
    for pod in world.pods.iter().filter(|pod| pod.node == node && pod.is_subject()) {
        local.entry(&pod.name).or_insert_with(|| (pod, Vec::new()));
    }
    let isolated = Direction::BOTH.map(|direction| isolated(world, direction, &local));
    let mut numbers = Numbers::default();
    let used = scopes_in_use(&isolated);
    let mut peers = Peers::default();
    let located = owners.iter().map(|(address, pod)| (*pod, Some(*address)));
    // Those to come as well: what is allowed to them is there before they are.
    let local_pods = local.values().map(|(pod, _)| (*pod, None));
    let named = peers.add(world, located.chain(local_pods), &used, &mut numbers);
    let known = |(pod, _): &(&Pod, Vec<IpAddr>)| {
        let (name, uid) = (pod.name.clone(), pod.uid.clone());
        let place = named.binary_search_by(|(named, _)| (*named).cmp(&name)).ok();
        let identity = place.and_then(|place| named.get(place)).map(|(_, number)| *number);
        Known { name, uid, assigned: Assigned { identity, ..Assigned::default() } }
    };
    let mut pods: Vec<Known> = local.values().map(known).collect();
    let mut own = BTreeSet::new();
    own.extend(isolated.iter().flatten().flat_map(|it| it.addresses).copied());
    let mut directions = 0..;
    let ways = isolated.map(|isolated| {
        let direction = directions.next().unwrap_or_default();
        way(&isolated, &peers, &mut numbers, &mut |name, class| {
            let place = pods.binary_search_by(|known| known.name.cmp(name));
            let known = place.ok().and_then(|place| pods.get_mut(place));
            let classes = known.map(|known| &mut known.assigned.classes);
            if let Some(own) = classes.and_then(|classes| classes.get_mut(direction)) {
                *own = Some(class);
            }
        })
    });
    let table = TABLE.to_owned();
    let policies = Policies { table, identities: peers.identities, own, ways };
    Compiled { policies, pods }
}

/// A pod of this node, and what isolates it in one direction.
struct Isolated<'a> {
    direction: Direction,
    pod: &'a Pod,
    addresses: &'a [IpAddr],
    /// By their places in the world.
    policies: Vec<(usize, &'a Policy)>,
}

fn isolated<'a>(
    world: &'a World,
    direction: Direction,
    local: &'a BTreeMap<&Name, (&'a Pod, Vec<IpAddr>)>,
) -> Vec<Isolated<'a>> {
    let mut by_namespace = BTreeMap::<&str, Vec<(usize, &Policy)>>::new();
    for (place, policy) in world.policies.iter().enumerate() {
        if policy.rules(direction).is_some() {
            by_namespace.entry(&policy.name.namespace).or_default().push((place, policy));
        }
    }
    let policies = |pod: &Pod| {
        let candidates = by_namespace.get(pod.name.namespace.as_str()).into_iter().flatten();
        candidates.filter(|(_, policy)| policy.selects(pod)).copied().collect::<Vec<_>>()
    };
    let pods = local.values().map(|(pod, addresses)| Isolated {
        direction,
        pod,
        addresses,
        policies: policies(pod),
    });
    pods.filter(|it| !it.policies.is_empty()).collect()
}

/// Whom a clause is about.
enum Whom<'a> {
    Anybody,
    Pods(Scope<'a>),
    Block(&'a super::Block),
}

/// A rule's ports for one of its peers.
struct Clause<'a> {
    whom: Whom<'a>,
    spans: Spans,
    /// Ports that each peer knows by name, with their protocols.
    names: Vec<(u8, &'a str)>,
}

impl<'a> Isolated<'a> {
    fn clauses(&self) -> impl Iterator<Item = Clause<'a>> {
        self.policies.iter().flat_map(|(_, policy)| {
            let rules = policy.rules(self.direction).unwrap_or_default();
            rules.iter().flat_map(|rule| self.clauses_of(rule, &policy.name.namespace))
        })
    }

    fn clauses_of(&self, rule: &'a Rule, namespace: &'a str) -> Vec<Clause<'a>> {
        let (spans, names) = self.ports(rule);
        let plain = |whom| Clause { whom, spans: spans.clone(), names: Vec::new() };
        // What has a name is a pod.
        let named =
            |scope| Clause { whom: Whom::Pods(scope), spans: Spans::new(), names: names.clone() };
        let Some(peers) = &rule.peers else {
            return vec![plain(Whom::Anybody), named(Scope::Every)];
        };
        let clauses = peers.iter().flat_map(|peer| {
            let whom = match peer {
                Peer::Block(block) => Whom::Block(block),
                Peer::Pods { .. } => Whom::Pods(Scope::of(peer, namespace)),
            };
            [plain(whom), named(Scope::of(peer, namespace))]
        });
        clauses.collect()
    }

    /// The ports of a rule by their numbers, and those whose numbers the peers know.
    fn ports(&self, rule: &'a Rule) -> (Spans, Vec<(u8, &'a str)>) {
        let (mut spans, mut names) = (Spans::new(), Vec::new());
        let Some(ports) = &rule.ports else { return (Spans::from([Span::ALL]), names) };
        for port in ports {
            let protocol = port.protocol;
            let (first, last) = match &port.ports {
                Ports::All => (0, u16::MAX),
                Ports::Numbers(first, last) => (*first, *last),
                Ports::Named(name) if self.direction == Direction::Egress => {
                    names.push((protocol, name.as_str()));
                    continue;
                }
                Ports::Named(name) => match self.pod.port(protocol, name) {
                    Some(number) => (number, number),
                    None => continue,
                },
            };
            spans.insert(Span { protocol, first, last });
        }
        (spans, names)
    }

    /// What two pods must have in common to be allowed the same.
    fn kind(&self) -> (Vec<usize>, &'a [super::NamedPort]) {
        let ports = match self.direction {
            Direction::Egress => &[],
            Direction::Ingress => self.pod.ports.as_slice(),
        };
        (self.policies.iter().map(|(place, _)| *place).collect(), ports)
    }
}

/// The scopes that rules name, each with the ports that they know by name.
type Used<'a> = BTreeMap<Scope<'a>, BTreeSet<(u8, &'a str)>>;

fn scopes_in_use<'a>(isolated: &[Vec<Isolated<'a>>; 2]) -> Used<'a> {
    let mut used = Used::new();
    let mut seen = BTreeSet::new();
    for pod in isolated.iter().flatten() {
        if !seen.insert((pod.direction, pod.kind())) {
            continue;
        }
        for clause in pod.clauses() {
            if let Whom::Pods(scope) = clause.whom
                && !(clause.spans.is_empty() && clause.names.is_empty())
            {
                used.entry(scope).or_default().extend(clause.names);
            }
        }
    }
    used
}

/// A port that a pod has under a name: protocol, name, number.
type Resolved<'a> = (u8, &'a str, u16);

/// The identities of peers, and which of them a scope has.
#[derive(Default)]
struct Peers<'a> {
    identities: BTreeMap<IpAddr, u64>,
    members: BTreeMap<Scope<'a>, BTreeMap<u32, Vec<Resolved<'a>>>>,
}

impl<'a> Peers<'a> {
    /// Adds pods by their addresses. One without any gets the identity that it has whatever
    /// its address will be, which is returned.
    fn add<'b>(
        &mut self,
        world: &'b World,
        pods: impl Iterator<Item = (&'b Pod, Option<IpAddr>)>,
        used: &Used<'a>,
        numbers: &mut Numbers,
    ) -> Vec<(&'b Name, u64)> {
        let mut by_name = Vec::new();
        // What namespaces are selected by is asked once for each of them.
        let mut covering = BTreeMap::new();
        for (pod, address) in pods {
            let namespace = pod.name.namespace.as_str();
            let covering: &Vec<_> = covering.entry(namespace).or_insert_with(|| {
                let labels = world.labels_of(namespace);
                used.iter().filter(|(scope, _)| scope.covers(namespace, &labels)).collect()
            });
            let within = covering.iter().filter(|(scope, _)| scope.meets(pod, address));
            let resolved = |names: &BTreeSet<(u8, &'a str)>| {
                let named = names.iter().filter_map(|(protocol, name)| {
                    Some((*protocol, *name, pod.port(*protocol, name)?))
                });
                named.collect::<Vec<_>>()
            };
            let scopes: Vec<(Scope<'a>, Vec<Resolved<'a>>)> =
                within.map(|(scope, names)| (**scope, resolved(names))).collect();
            if scopes.is_empty() {
                continue;
            }
            let identity = numbers.number(&scopes);
            match address {
                Some(address) => drop(self.identities.insert(address, identity)),
                None => by_name.push((&pod.name, identity)),
            }
            for (scope, resolved) in scopes {
                self.members.entry(scope).or_default().insert(identity as u32, resolved);
            }
        }
        by_name
    }
}

fn way(
    isolated: &[Isolated<'_>],
    peers: &Peers<'_>,
    numbers: &mut Numbers,
    assign: &mut dyn FnMut(&Name, u64),
) -> Way {
    let mut way = Way::default();
    let mut classes = BTreeMap::new();
    for pod in isolated {
        let class = *classes.entry(pod.kind()).or_insert_with(|| {
            let content = content(pod, peers);
            let class = if content.is_empty() { CLOSED } else { numbers.number(&content) };
            content.enter(class as u32, &mut way);
            class
        });
        assign(&pod.pod.name, class);
        way.classes.extend(pod.addresses.iter().map(|address| (*address, class)));
    }
    way
}

fn content(pod: &Isolated<'_>, peers: &Peers<'_>) -> Content {
    let mut gathered = Gathered::default();
    for clause in pod.clauses() {
        match clause.whom {
            Whom::Anybody => gathered.peers.entry(ANYBODY).or_default().extend(clause.spans),
            Whom::Block(_) if clause.spans.is_empty() => {}
            Whom::Block(block) => gathered.blocks.push((block, clause.spans)),
            Whom::Pods(scope) => {
                for (identity, resolved) in peers.members.get(&scope).into_iter().flatten() {
                    let named = resolved
                        .iter()
                        .filter(|(protocol, name, _)| clause.names.contains(&(*protocol, *name)));
                    let named = named.map(|(protocol, _, port)| Span {
                        protocol: *protocol,
                        first: *port,
                        last: *port,
                    });
                    let spans = gathered.peers.entry(*identity).or_default();
                    spans.extend(named.chain(clause.spans.iter().copied()));
                }
            }
        }
    }
    gathered.content()
}
