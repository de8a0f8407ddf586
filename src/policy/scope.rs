// SPDX-License-Identifier: Apache-2.0
//! The peers of rules as sets of pods, whatever rule and policy they stand in: what two
//! rules say alike is one scope.

use std::net::IpAddr;

use super::{Block, Labels, Peer, Pod, Selector};

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

    /// Whether pods of a namespace with such labels may be meant; `None` where nobody has told
    /// of that namespace, as pods and namespaces are told of apart. No selector of namespaces
    /// means it then: what is not known of it would satisfy `NotIn` and `DoesNotExist`. Nor
    /// does the empty one, which asks for nothing: of a namespace that nobody lists it is not
    /// known either that it is one, and who waits a moment is sooner let in than out again.
    pub(super) fn covers(&self, namespace: &str, labels: Option<&Labels>) -> bool {
        match self {
            Self::Every | Self::At(_) => true,
            Self::In(own, _) => *own == namespace,
            Self::Among(selector, _) => labels.is_some_and(|labels| selector.matches(labels)),
        }
    }

    /// Whether a pod of a namespace that is covered is meant, by this address of it; without
    /// one, whatever its address is.
    pub(super) fn meets(&self, pod: &Pod, address: Option<IpAddr>) -> bool {
        match self {
            Self::Every => true,
            Self::In(_, pods) | Self::Among(_, pods) => pods.matches(&pod.labels),
            Self::At(block) => address.is_some_and(|address| block.contains(address)),
        }
    }
}
