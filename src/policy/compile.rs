// SPDX-License-Identifier: Apache-2.0
//! What the table of one node holds, made of a world.
//!
//! Peers have identities by the scopes that rules of this node's pods name and by the
//! numbers of the ports that such a rule knows by name: pods alike in that are alike to
//! the table, and a pod that no rule means is not in it. Pods that are allowed the same
//! have one class.

use std::{net::IpAddr, sync::Arc};

use super::{
    Assigned, Direction, Name, Peer, Pod, Policies, Policy, Ports, Rule, World,
    class::{ANYBODY, Content, Gathered, Span, Spans},
    live::Owners,
    numbers::{Key, Numbers},
    scope::Scope,
};
use crate::list::{Gather, Ordered, PushAll, Sorted, include};
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
    /// Those that are attached and not known any more, and would be open as if nobody had ever
    /// known them: they are closed.
    pub former: Vec<Known>,
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
    /// The policies of its namespace that isolate it, in the order of [`Direction::BOTH`].
    pub isolated_by: [Vec<String>; 2],
}

impl Known {
    /// A pod that may speak to nobody but its node.
    pub(crate) fn closed(name: Name, uid: String) -> Self {
        Self { name, uid, assigned: Assigned::CLOSED, ..Self::default() }
    }
}

/// What policies mean to a node, in numbers that are keyed like that.
pub fn compile(world: &World, node: &str, key: &Key) -> Compiled {
    let owners = Owners::of(world);
    let local = local(world, &owners, node);
    let isolated = Direction::both(|direction| isolated(world, direction, &local));
    let mut numbers = Numbers::of(key);
    let mut peers = Peers::of(&isolated);
    for (address, pod) in owners.all() {
        peers.add(world, pod, Some(address), &mut numbers);
    }
    // Those to come as well: what is allowed to them is there before they are.
    let mut pods = Vec::new();
    for (pod, _) in &local {
        let identity = peers.add(world, pod, None, &mut numbers);
        let (name, uid) = (pod.name.clone(), pod.uid.clone());
        let assigned = Assigned { identity, ..Assigned::default() };
        pods.push(Known { name, uid, assigned, ..Known::default() });
    }
    let own = isolated.iter().flatten().flat_map(|it| it.addresses);
    let own = Sorted::of(own.map(|own| (*own, ())).gather(), &|_, ()| ());
    let mut directions = 0..;
    let ways = isolated.map(|isolated| {
        let direction = directions.next().unwrap_or_default();
        way(&isolated, &peers, &mut numbers, &mut |it, class| {
            let place = pods.binary_search_by(|known| known.name.cmp(&it.pod.name));
            let Some(known) = place.ok().and_then(|place| pods.get_mut(place)) else { return };
            if let Some(own) = known.assigned.classes.get_mut(direction) {
                *own = Some(class);
            }
            if let Some(by) = known.isolated_by.get_mut(direction) {
                by.push_all(it.policies.iter().map(|(_, policy)| policy.name.name.clone()));
            }
        })
    });
    let table = TABLE.to_owned();
    let identities = Sorted::of(peers.identities, &|held, new| *held = new);
    let policies = Policies { table, identities, own, ways, ..Policies::default() };
    Compiled { policies, pods, former: Vec::new() }
}

/// A pod of this node, and its addresses.
type Local<'a> = (&'a Pod, Vec<IpAddr>);

/// The pods of a node, by their names.
fn local<'a>(world: &'a World, owners: &Owners<'a>, node: &str) -> Vec<Local<'a>> {
    let mut local = Vec::<Local<'_>>::new();
    for (place, pod) in (0..).zip(world.pods.iter().map(AsRef::as_ref)) {
        if *pod.node != *node || !pod.is_subject() {
            continue;
        }
        let own = owners.of_pod(place, pod);
        match local.binary_search_by(|(known, _)| known.name.cmp(&pod.name)) {
            Ok(place) => {
                let found = local.get_mut(place);
                if let Some((_, addresses)) = found {
                    addresses.push_all(own);
                }
            }
            Err(place) => local.insert(place, (pod, own.gather())),
        }
    }
    local
}

/// A policy, and its place in the world.
type Placed<'a> = (usize, &'a Policy);

/// A pod of this node, and what isolates it in one direction.
struct Isolated<'a> {
    direction: Direction,
    pod: &'a Pod,
    addresses: &'a [IpAddr],
    policies: Vec<Placed<'a>>,
}

/// What two pods must have in common to be allowed the same: their policies, by their places
/// in the world, and the ports that these may know by name.
type Alike<'a> = (Vec<usize>, &'a [super::NamedPort]);

fn isolated<'a>(
    world: &'a World,
    direction: Direction,
    local: &'a [Local<'a>],
) -> Vec<Isolated<'a>> {
    let is_one =
        |(one, _): &Local<'_>, (other, _): &Local<'_>| one.name.namespace == other.name.namespace;
    let pods = local.chunk_by(is_one);
    // Each policy looks for the pods of its namespace once.
    let mut namespaces: Vec<(&[Local<'a>], Vec<Placed<'a>>)> =
        pods.map(|pods| (pods, Vec::new())).gather();
    for (place, policy) in world.policies.iter().map(AsRef::as_ref).enumerate() {
        if policy.rules(direction).is_none() {
            continue;
        }
        let own = Some(&policy.name.namespace);
        let at = namespaces.binary_search_by(|(pods, _)| {
            pods.first().map(|(pod, _)| &pod.name.namespace).cmp(&own)
        });
        if let Some((_, policies)) = at.ok().and_then(|at| namespaces.get_mut(at)) {
            policies.push((place, policy));
        }
    }
    let mut found = Vec::new();
    for (pods, within) in &namespaces {
        for (pod, addresses) in *pods {
            let selecting = within.iter().filter(|(_, policy)| policy.selects(pod));
            let policies: Vec<_> = selecting.copied().gather();
            if !policies.is_empty() {
                found.push(Isolated { direction, pod, addresses, policies });
            }
        }
    }
    found
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
    fn clauses(&self) -> Vec<Clause<'a>> {
        let mut clauses = Vec::new();
        for (_, policy) in &self.policies {
            for rule in policy.rules(self.direction).unwrap_or_default() {
                self.add_clauses(rule, &policy.name.namespace, &mut clauses);
            }
        }
        clauses
    }

    fn add_clauses(&self, rule: &'a Rule, namespace: &'a str, clauses: &mut Vec<Clause<'a>>) {
        let (spans, names) = self.ports(rule);
        let mut add = |whom, scope| {
            clauses.push(Clause { whom, spans: spans.clone(), names: Vec::new() });
            // What has a name is a pod.
            let names = names.clone();
            clauses.push(Clause { whom: Whom::Pods(scope), spans: Spans::new(), names });
        };
        let Some(peers) = &rule.peers else { return add(Whom::Anybody, Scope::Every) };
        for peer in peers {
            let whom = match peer {
                Peer::Block(block) => Whom::Block(block),
                Peer::Pods { .. } => Whom::Pods(Scope::of(peer, namespace)),
            };
            add(whom, Scope::of(peer, namespace));
        }
    }

    /// The ports of a rule by their numbers, and those whose numbers the peers know.
    fn ports(&self, rule: &'a Rule) -> (Spans, Vec<(u8, &'a str)>) {
        let (mut spans, mut names) = (Spans::new(), Vec::new());
        let Some(ports) = &rule.ports else { return (vec![Span::ALL], names) };
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
            spans.push(Span { protocol, first, last });
        }
        (spans, names)
    }

    fn kind(&self) -> Alike<'a> {
        let ports = match self.direction {
            Direction::Egress => &[],
            Direction::Ingress => self.pod.ports.as_slice(),
        };
        (self.policies.iter().map(|(place, _)| *place).gather(), ports)
    }
}

/// A port that a pod has under a name: protocol, name, number.
type Resolved<'a> = (u8, &'a str, u16);

/// A scope that rules name.
struct Used<'a> {
    scope: Scope<'a>,
    /// The ports that they know by name, with their protocols.
    names: Vec<(u8, &'a str)>,
    /// The identities of the pods in it, with the numbers of these ports.
    members: Vec<(u32, Vec<Resolved<'a>>)>,
}

/// The identities of peers, and which of them a scope has.
#[derive(Default)]
struct Peers<'a> {
    identities: Vec<(IpAddr, u64)>,
    /// Those that are members already, in order.
    known: Vec<u32>,
    /// In the order of the scopes.
    used: Vec<Used<'a>>,
    /// Which of them may mean pods of a namespace: what it is selected by is asked once.
    covering: Vec<(&'a str, Vec<usize>)>,
    /// Who was added last, whatever its address is, and its identity: pods of a controller
    /// follow each other, and share their labels and ports.
    last: Option<(&'a Pod, Option<u64>)>,
}

impl<'a> Peers<'a> {
    /// Those that rules of these pods name.
    fn of(isolated: &[Vec<Isolated<'a>>; 2]) -> Self {
        let (mut all, mut seen) = (Vec::new(), Vec::new());
        for pod in isolated.iter().flatten() {
            let kind = (pod.direction, pod.kind());
            if !include(&mut seen, kind) {
                continue;
            }
            for clause in pod.clauses() {
                if let Whom::Pods(scope) = clause.whom
                    && !(clause.spans.is_empty() && clause.names.is_empty())
                {
                    include(&mut all, (scope, None));
                    for name in clause.names {
                        include(&mut all, (scope, Some(name)));
                    }
                }
            }
        }
        let used = all.chunk_by(|(one, _), (other, _)| one == other).filter_map(|all| {
            let (scope, _) = *all.first()?;
            let names = all.iter().filter_map(|(_, name)| *name).gather();
            Some(Used { scope, names, members: Vec::new() })
        });
        Self { used: used.gather(), ..Self::default() }
    }

    /// Adds a pod by its address, and returns its identity: without one, that which it has
    /// whatever its address will be.
    fn add(
        &mut self,
        world: &World,
        pod: &'a Pod,
        address: Option<IpAddr>,
        numbers: &mut Numbers,
    ) -> Option<u64> {
        let alike = self.last.filter(|(last, _)| {
            Arc::ptr_eq(&last.labels, &pod.labels)
                && Arc::ptr_eq(&last.ports, &pod.ports)
                && last.name.namespace == pod.name.namespace
        });
        if let (Some((_, identity)), Some(address)) = (alike, address) {
            self.identities.push_all(identity.map(|identity| (address, identity)));
            return identity;
        }
        let namespace = pod.name.namespace.as_str();
        let place = match self.covering.binary_search_by_key(&namespace, |(name, _)| *name) {
            Ok(place) => place,
            Err(place) => {
                let labels = world.labels_of(namespace);
                let used = self.used.iter().enumerate();
                let covers = used.filter(|(_, used)| used.scope.covers(namespace, labels.as_ref()));
                let covers = covers.map(|(place, _)| place).gather();
                self.covering.insert(place, (namespace, covers));
                place
            }
        };
        let identity = self.identity(pod, address, place, numbers);
        self.last = self.is_by_labels(place).then_some((pod, identity));
        identity
    }

    /// Whether no scope that covers the namespace at that place asks for addresses.
    fn is_by_labels(&self, namespace: usize) -> bool {
        let covering = self.covering.get(namespace).map_or(&[][..], |(_, covering)| covering);
        let mut used = covering.iter().filter_map(|place| self.used.get(*place));
        !used.any(|used| matches!(used.scope, Scope::At(_)))
    }

    /// The identity of a pod, which is a member then of those scopes that mean it; of its
    /// namespace that is told at that place.
    fn identity(
        &mut self,
        pod: &Pod,
        address: Option<IpAddr>,
        namespace: usize,
        numbers: &mut Numbers,
    ) -> Option<u64> {
        let mut within: Vec<(usize, Vec<Resolved<'a>>)> = Vec::new();
        let covering = self.covering.get(namespace);
        for place in covering.map_or(&[][..], |(_, covering)| covering) {
            let Some(used) = self.used.get(*place) else { continue };
            if used.scope.meets(pod, address) {
                let resolve = |(protocol, name): &(u8, &'a str)| {
                    Some((*protocol, *name, pod.port(*protocol, name)?))
                };
                within.push((*place, used.names.iter().filter_map(resolve).gather()));
            }
        }
        if within.is_empty() {
            return None;
        }
        let scope = |(place, resolved): &(usize, Vec<Resolved<'a>>)| {
            Some((self.used.get(*place)?.scope, resolved.clone()))
        };
        let scopes: Vec<(Scope<'a>, Vec<Resolved<'a>>)> = within.iter().filter_map(scope).gather();
        let identity = numbers.number(&scopes);
        self.identities.push_all(address.map(|address| (address, identity)));
        if include(&mut self.known, identity as u32) {
            for (place, resolved) in within {
                if let Some(used) = self.used.get_mut(place) {
                    used.members.push((identity as u32, resolved));
                }
            }
        }
        Some(identity)
    }

    fn members(&self, scope: &Scope<'_>) -> &[(u32, Vec<Resolved<'a>>)] {
        let place = self.used.binary_search_by(|used| used.scope.cmp(scope)).ok();
        place.and_then(|place| self.used.get(place)).map_or(&[], |used| &used.members)
    }
}

fn way(
    isolated: &[Isolated<'_>],
    peers: &Peers<'_>,
    numbers: &mut Numbers,
    assign: &mut dyn FnMut(&Isolated<'_>, u64),
) -> Way {
    let (mut way, mut contents, mut entered) = (Way::default(), Vec::new(), Vec::new());
    let mut classes: Vec<(Alike<'_>, u64)> = Vec::new();
    for pod in isolated {
        let kind = pod.kind();
        let class = match classes.binary_search_by(|(known, _)| known.cmp(&kind)) {
            Ok(place) => classes.get(place).map_or(CLOSED, |(_, class)| *class),
            Err(place) => {
                let content = content(pod, peers);
                let class = if content.is_empty() { CLOSED } else { numbers.number(&content) };
                contents.push((class as u32, content));
                classes.insert(place, (kind, class));
                class
            }
        };
        assign(pod, class);
        entered.push_all(pod.addresses.iter().map(|address| (*address, class)));
    }
    way.classes = Sorted::of(entered, &|held, new| *held = new);
    // In the order of the classes what they are allowed is put at the end.
    contents.order_by_key(|(class, _)| *class);
    contents.iter().for_each(|(class, content)| content.enter(*class, &mut way));
    way
}

fn content(pod: &Isolated<'_>, peers: &Peers<'_>) -> Content {
    let mut gathered = Gathered::default();
    for clause in pod.clauses() {
        let Clause { whom, spans, names } = clause;
        match whom {
            Whom::Anybody => spans.iter().for_each(|span| gathered.allow(ANYBODY, *span)),
            Whom::Block(_) if spans.is_empty() => {}
            Whom::Block(block) => gathered.blocks.push((block, spans)),
            Whom::Pods(scope) => {
                for (identity, resolved) in peers.members(&scope) {
                    let meant =
                        |(protocol, name, _): &&Resolved<'_>| names.contains(&(*protocol, *name));
                    let named = resolved.iter().filter(meant).map(|(protocol, _, port)| Span {
                        protocol: *protocol,
                        first: *port,
                        last: *port,
                    });
                    let all = spans.iter().copied().chain(named);
                    all.for_each(|span| gathered.allow(*identity, span));
                }
            }
        }
    }
    gathered.content()
}
