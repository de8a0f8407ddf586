//! The peers of rules as sets of pods, whatever rule and policy they stand in: what two
//! rules say alike is one scope.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Block, Labels, Peer, Pod, Selector, World};

/// Pods that a rule means.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Scope<'a> {
    /// All pods.
    Every,
    /// Those of one namespace.
    In(&'a str, &'a Selector),
    /// Those of all namespaces with such labels.
    Among(&'a Selector, &'a Selector),
    /// Those with an address in there.
    At(&'a Block),
}

impl<'a> Scope<'a> {
    /// Of a peer in a policy of that namespace.
    pub(super) fn of(peer: &'a Peer, namespace: &'a str) -> Self {
        match peer {
            Peer::Pods { namespaces: None, pods } => Self::In(namespace, pods),
            Peer::Pods { namespaces: Some(namespaces), pods } => Self::Among(namespaces, pods),
            Peer::Block(block) => Self::At(block),
        }
    }

    /// Whether the pod is meant by this address of it.
    pub(super) fn contains(&self, pod: &Pod, address: IpAddr, namespaces: &Namespaces<'_>) -> bool {
        match self {
            Self::Every => true,
            Self::In(namespace, pods) => {
                *namespace == pod.name.namespace && pods.matches(&pod.labels)
            }
            Self::Among(selector, pods) => {
                let labels = namespaces.0.get(pod.name.namespace.as_str());
                pods.matches(&pod.labels) && labels.is_some_and(|labels| selector.matches(labels))
            }
            Self::At(block) => block.contains(address),
        }
    }
}

/// The labels of all namespaces in which there are pods.
pub(super) struct Namespaces<'a>(BTreeMap<&'a str, Labels>);

impl<'a> Namespaces<'a> {
    pub(super) fn of(world: &'a World) -> Self {
        let names = world.pods.iter().map(|pod| pod.name.namespace.as_str());
        let mut found = BTreeMap::new();
        for name in names {
            found.entry(name).or_insert_with(|| world.labels_of(name));
        }
        Self(found)
    }
}
