// SPDX-License-Identifier: Apache-2.0
//! All that policies are about: namespaces, pods, and the policies themselves.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;

use super::{Direction, Labels, Selector};
use crate::{
    list::{Sorted, include},
    text::few::some_of,
};

/// The label that every namespace has, with its name (KEP-2161).
pub(super) const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The namespaces, pods and policies of a cluster. Whoever keeps them as they change shares
/// them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct World {
    /// The labels of namespaces, by their names.
    pub namespaces: Sorted<String, Arc<Labels>>,
    /// All pods.
    pub pods: Vec<Arc<Pod>>,
    /// All policies.
    pub policies: Vec<Arc<Policy>>,
}

/// The name of an object in its namespace.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

/// A pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pod {
    /// Its name.
    pub name: Name,
    /// By what a runtime knows it from others of its name; empty where that is not known.
    pub uid: String,
    /// Its labels, which it shares with others that have the same.
    pub labels: Arc<Labels>,
    /// The node that it runs on; empty before it has one.
    pub node: Arc<str>,
    /// Its addresses, of one family or of both.
    pub addresses: Vec<IpAddr>,
    /// It has the addresses of its node.
    pub on_host_network: bool,
    /// It has ended (`Succeeded` or `Failed`), and another pod may have its address.
    pub finished: bool,
    /// It is about to end.
    pub terminating: bool,
    /// When it was made, as text that sorts.
    pub created: String,
    /// Its ports with names, the first of a name first; those of a controller have the same.
    pub ports: Arc<Vec<NamedPort>>,
}

/// A port of a pod that has a name.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NamedPort {
    /// The name.
    pub name: String,
    /// The protocol, by its number within IP.
    pub protocol: u8,
    /// The number.
    pub port: u16,
}

/// A policy.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// Its name.
    pub name: Name,
    /// The pods of its namespace that it isolates.
    pub pods: Selector,
    /// What they may do, for each direction in which it isolates them, in the order of
    /// [`Direction::BOTH`].
    pub ways: [Option<Vec<Rule>>; 2],
}

/// What is allowed: all ports of all peers that it lists.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rule {
    /// `None` for anybody.
    pub peers: Option<Vec<Peer>>,
    /// `None` for any port of any protocol.
    pub ports: Option<Vec<Port>>,
}

/// Whom a rule is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Peer {
    /// Pods.
    Pods {
        /// Of which namespaces; `None` for that of the policy.
        namespaces: Option<Selector>,
        /// Which of theirs.
        pods: Selector,
    },
    /// Addresses, those of pods as well.
    Block(Block),
}

/// A network without some parts of it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Block {
    /// The network.
    pub network: IpNetwork,
    /// What of it is not meant.
    pub except: Vec<IpNetwork>,
}

/// Which ports a rule is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Port {
    /// The protocol, by its number within IP.
    pub protocol: u8,
    /// Which of its ports.
    pub ports: Ports,
}

/// Which ports of a protocol.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ports {
    /// Each of them.
    All,
    /// From one to another, which is included.
    Numbers(u16, u16),
    /// The one that the pod at the destination has under this name.
    Named(String),
}

/// The first packet of a connection, as a node sees that forwards it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flow {
    /// Who sends it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// The protocol, by its number within IP.
    pub protocol: u8,
    /// The port at the destination; `None` for a protocol without ports.
    pub port: Option<u16>,
}

impl Name {
    /// Of its words, as in `default/web`.
    pub(crate) fn of(words: &str) -> Self {
        let (namespace, name) = words.split_once('/').unwrap_or(("", words));
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl World {
    /// The labels of a namespace, its name among them; `None` where it is not known.
    pub(super) fn labels_of(&self, namespace: &str) -> Option<Labels> {
        let mut labels = Labels::clone(self.namespaces.get(namespace)?);
        if !labels.has(NAME_LABEL) {
            labels.insert(NAME_LABEL.to_owned(), namespace.to_owned());
        }
        Some(labels)
    }

    /// The namespaces that pods are in and of which nothing else is known, in order: no
    /// selector of namespaces means their pods.
    pub fn unknown_namespaces(&self) -> Vec<String> {
        let mut unknown = Vec::new();
        for pod in self.pods.iter().filter(|pod| pod.is_subject()) {
            if !self.namespaces.has(&pod.name.namespace) {
                include(&mut unknown, pod.name.namespace.clone());
            }
        }
        unknown
    }

    /// Says so, where there are such and a policy selects namespaces.
    pub fn note_of_unknown(&self) -> Option<String> {
        let rules = self.policies.iter().flat_map(|policy| policy.ways.iter().flatten().flatten());
        let mut peers = rules.flat_map(|rule| rule.peers.iter().flatten());
        if !peers.any(|peer| matches!(peer, Peer::Pods { namespaces: Some(_), .. })) {
            return None;
        }
        let unknown = self.unknown_namespaces();
        (!unknown.is_empty()).then(|| {
            format!(
                "no namespaceSelector means pods of namespaces that are not given: {}",
                some_of(&unknown)
            )
        })
    }
}

impl Pod {
    /// Whether policies are about it. What a pod on the network of its node does is the
    /// node's doing.
    pub fn is_subject(&self) -> bool {
        !self.finished && !self.on_host_network
    }

    /// The number of the port of that name.
    pub(super) fn port(&self, protocol: u8, name: &str) -> Option<u16> {
        let is = |port: &&NamedPort| port.protocol == protocol && port.name == name;
        self.ports.iter().find(is).map(|port| port.port)
    }
}

impl Policy {
    /// What it allows in a direction; `None` where it does not isolate.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        let [egress, ingress] = &self.ways;
        match direction {
            Direction::Egress => egress.as_deref(),
            Direction::Ingress => ingress.as_deref(),
        }
    }

    /// Whether it is about the pod.
    pub fn selects(&self, pod: &Pod) -> bool {
        self.name.namespace == pod.name.namespace && self.pods.matches(&pod.labels)
    }
}

impl Block {
    /// Whether the address is meant.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.network.contains(address) && !self.except.iter().any(|it| it.contains(address))
    }
}
