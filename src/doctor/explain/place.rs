// SPDX-License-Identifier: Apache-2.0
//! What an address is, seen from this node.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::{
    fabric::peers::Node,
    net::link::Link,
    node::{Network, Snapshot},
    pod::identity::host_link_of,
    state::Entry,
};

/// What an address is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// A pod of this node, and its host link if that is there.
    Pod(&'a Entry, Option<&'a Link>),
    /// This node itself, on that link.
    Here(Option<&'a Link>),
    /// Nobody's, and inside this node's pod CIDRs.
    Nobody(IpNetwork),
    /// A pod of another node, if anybody's.
    PeerPods(&'a Node, IpNetwork),
    /// Another node.
    PeerNode(&'a Node),
    /// None of these.
    Elsewhere,
}

impl<'a> Place<'a> {
    pub(super) fn of(snapshot: &'a Snapshot, address: IpAddr) -> Self {
        let own = snapshot.journal.iter().filter(|entry| entry.addresses.contains(&address));
        let with_link = own.map(|entry| (entry, host_link_of(entry, &snapshot.kernel.links)));
        // One without a link may be an older sandbox of the same pod.
        if let Some((entry, link)) = with_link.max_by_key(|(_, link)| link.is_some()) {
            return Self::Pod(entry, link);
        }
        let mut addresses = snapshot.kernel.addresses.iter();
        if let Some((index, _)) = addresses.find(|(_, own)| own.ip() == address) {
            return Self::Here(snapshot.kernel.link(*index));
        }
        let lists = || snapshot.compared.fabrics.iter().map(|fabric| &fabric.peers);
        let has = |node: &'a Node| node.pod_cidrs.iter().find(|cidr| cidr.contains(address));
        if let Some(cidr) = lists().find_map(|peers| has(&peers.me)) {
            return Self::Nobody(*cidr);
        }
        let mut others = lists().flat_map(|peers| peers.others.iter().chain(&peers.left_out));
        let found = others.find_map(|node| match has(node) {
            _ if node.addresses.contains(&address) => Some(Self::PeerNode(node)),
            cidr => cidr.map(|cidr| Self::PeerPods(node, *cidr)),
        });
        found.unwrap_or(Self::Elsewhere)
    }

    /// In words.
    pub(super) fn told(&self) -> String {
        match self {
            Self::Pod(entry, _) => format!("{} of this node", pod(entry)),
            Self::Here(Some(link)) => format!("this node, by {}", link.name),
            Self::Here(None) => "this node".to_owned(),
            Self::Nobody(cidr) => format!("no pod of this node, inside its {cidr}"),
            Self::PeerPods(node, cidr) => format!("a pod of {} ({cidr})", node.name),
            Self::PeerNode(node) => format!("node {}", node.name),
            Self::Elsewhere => "outside the list of nodes".to_owned(),
        }
    }
}

/// A pod by its name.
pub(super) fn pod(entry: &Entry) -> String {
    entry
        .pod()
        .map_or_else(|| format!("container {}", entry.container_id), |pod| format!("pod {pod}"))
}

/// The network of an attachment.
pub(super) fn network<'a>(entry: &Entry, snapshot: &'a Snapshot) -> Option<&'a Network> {
    snapshot.networks.iter().find(|network| network.name == entry.network)
}
