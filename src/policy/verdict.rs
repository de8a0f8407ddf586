// SPDX-License-Identifier: Apache-2.0
//! What the policies say of one connection, and which of them say it.

use std::net::IpAddr;

use super::{Direction, Flow, Name, Pod, Policy, Ports, Rule, World, live::Owners, scope::Scope};
use crate::list::Gather;
use crate::text::few::some_of;

/// What the policies say of a connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// For each direction in the order of [`Direction::BOTH`]; `None` where no policy
    /// isolates the pod, or there is none.
    pub ways: [Option<Judgement>; 2],
    /// Why it is allowed whatever the policies say.
    pub exempt: Option<&'static str>,
}

/// What the policies say that isolate a pod in one direction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Judgement {
    /// The pod.
    pub pod: Name,
    /// The policies that isolate it.
    pub isolated_by: Vec<Name>,
    /// Those of them that allow the connection.
    pub allowed_by: Vec<Name>,
}

impl Verdict {
    /// Whether the connection is allowed.
    pub fn is_allowed(&self) -> bool {
        self.exempt.is_some() || self.denied().is_empty()
    }

    /// The directions in which it is denied.
    pub fn denied(&self) -> Vec<(Direction, &Judgement)> {
        let ways = Direction::BOTH.into_iter().zip(&self.ways);
        let judged = ways.filter_map(|(direction, way)| Some((direction, way.as_ref()?)));
        judged.filter(|(_, way)| way.allowed_by.is_empty()).gather()
    }
}

impl Verdict {
    /// What the policies say, a sentence for each direction.
    pub fn sentences(&self) -> Vec<String> {
        if let Some(reason) = self.exempt {
            return vec![format!("allowed: {reason}")];
        }
        let ways = Direction::BOTH.into_iter().zip(&self.ways);
        ways.map(|(direction, way)| match way {
            None => format!("{}: no policy isolates the pod", direction.word()),
            Some(way) => format!("{} of pod {}: {}", direction.word(), way.pod, way.words()),
        })
        .gather()
    }
}

impl Judgement {
    fn words(&self) -> String {
        if self.allowed_by.is_empty() {
            let policies = some_of(&self.isolated_by);
            return format!("denied: isolated by {policies}, of which none allows it");
        }
        format!("allowed by {}", some_of(&self.allowed_by))
    }
}

impl World {
    /// What the policies say of a connection.
    pub fn verdict(&self, flow: &Flow) -> Verdict {
        let owners = Owners::of(self);
        let [source, destination] =
            [flow.source, flow.destination].map(|address| owners.find(address));
        let exempt = match (source, destination) {
            (Some(_), Some(_)) if flow.source == flow.destination => {
                Some("a pod may always speak to itself")
            }
            (Some(pod), None) if self.is_node_of(pod, flow.destination) => {
                Some("a pod and its own node may always speak")
            }
            (None, Some(pod)) if self.is_node_of(pod, flow.source) => {
                Some("a pod and its own node may always speak")
            }
            _ => None,
        };
        let judged = |direction| {
            let (pod, peer) = match direction {
                Direction::Egress => (source, destination),
                Direction::Ingress => (destination, source),
            };
            self.judge(direction, pod?, peer, flow)
        };
        Verdict { ways: Direction::both(judged), exempt }
    }

    /// The addresses of a pod by its namespace and name, as in `default/web`.
    pub fn addresses_of(&self, name: &str) -> Option<&[IpAddr]> {
        let pods = self.pods.iter().filter(|pod| !pod.addresses.is_empty());
        let mut named = pods.filter(|pod| pod.name.to_string() == name);
        named.next().map(|pod| pod.addresses.as_slice())
    }

    fn judge(
        &self,
        direction: Direction,
        pod: &Pod,
        peer: Option<&Pod>,
        flow: &Flow,
    ) -> Option<Judgement> {
        let isolating = |policy: &&Policy| policy.rules(direction).is_some() && policy.selects(pod);
        let isolating: Vec<&Policy> =
            self.policies.iter().map(AsRef::as_ref).filter(isolating).gather();
        if isolating.is_empty() {
            return None;
        }
        let address = match direction {
            Direction::Egress => flow.destination,
            Direction::Ingress => flow.source,
        };
        let labels = peer.and_then(|peer| self.labels_of(&peer.name.namespace));
        let target = if direction == Direction::Egress { peer } else { Some(pod) };
        let allows = |policy: &&&Policy| {
            let rules = policy.rules(direction).unwrap_or_default();
            rules.iter().any(|rule| {
                let means = |it| match Scope::of(it, &policy.name.namespace) {
                    Scope::At(block) => block.contains(address),
                    scope => peer.is_some_and(|peer| {
                        scope.covers(&peer.name.namespace, labels.as_ref())
                            && scope.meets(peer, Some(address))
                    }),
                };
                rule.peers.as_ref().is_none_or(|peers| peers.iter().any(means))
                    && is_to_port(rule, flow, target)
            })
        };
        let names = |policies: Vec<&&Policy>| {
            policies.into_iter().map(|policy| policy.name.clone()).gather()
        };
        Some(Judgement {
            pod: pod.name.clone(),
            allowed_by: names(isolating.iter().filter(allows).gather()),
            isolated_by: names(isolating.iter().gather()),
        })
    }

    /// Whether it is an address of the node that the pod runs on, as far as pods tell.
    fn is_node_of(&self, pod: &Pod, address: IpAddr) -> bool {
        let on_node = |other: &&Pod| other.on_host_network && other.node == pod.node;
        let mut others = self.pods.iter().map(AsRef::as_ref).filter(on_node);
        !pod.node.is_empty() && others.any(|other| other.addresses.contains(&address))
    }
}

/// Whether the rule is about the port; `target` is the pod at the destination.
fn is_to_port(rule: &Rule, flow: &Flow, target: Option<&Pod>) -> bool {
    let Some(ports) = &rule.ports else { return true };
    ports.iter().any(|port| {
        let number = flow.port.filter(|_| port.protocol == flow.protocol);
        number.is_some_and(|number| match &port.ports {
            Ports::All => true,
            Ports::Numbers(first, last) => (*first..=*last).contains(&number),
            Ports::Named(name) => {
                target.and_then(|pod| pod.port(port.protocol, name)) == Some(number)
            }
        })
    })
}
