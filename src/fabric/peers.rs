// SPDX-License-Identifier: Apache-2.0
//! The nodes of a cluster, as a peers file has them (`read.rs`).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use sha1_smol::Sha1;

use serde::{Deserialize, Serialize};

use crate::{
    conf::FabricPart,
    family::{Family, HasFamily},
    list::Gather,
    net::Mac,
};

/// First byte of a VXLAN device's MAC address (Calico's choice).
const TUNNEL_MAC_FIRST: u8 = 0x66;

/// The nodes of a cluster, of which one is this.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peers {
    /// This node.
    pub me: Node,
    /// All other nodes, in the order of the file.
    pub others: Vec<Node>,
    /// Other nodes that have what this one has, an address or a network: none
    /// of their routes can be made. Their pods are pods all the same.
    pub left_out: Vec<Node>,
    /// Who of the list is left out for what is wrong with it, a sentence each.
    pub excluded: Vec<String>,
    /// Who is left out because its address is this machine's, a sentence each.
    pub here: Vec<String>,
    /// What an operator should know of the list on this node.
    pub notes: Vec<String>,
    /// Keys of the file that nothing reads, as a sentence.
    pub unread: Option<String>,
    /// What the file says of how packets reach other nodes.
    #[serde(skip)]
    pub fabric: FabricPart,
}

/// A node as its peers see it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Node name.
    pub name: String,
    /// Addresses by which other nodes reach it, at most one of each family counts.
    pub addresses: Vec<IpAddr>,
    /// Where its pods are.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Those of them that new pods get no address of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former_pod_cidrs: Vec<IpNetwork>,
    /// Addresses of its tunnel devices where they are not the usual ones.
    pub tunnel_addresses: Vec<IpAddr>,
    /// MAC address of its VXLAN devices where it is not the usual one.
    pub tunnel_mac: Option<Mac>,
}

impl Node {
    /// The address of one family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.family() == family)
    }

    /// The pod CIDRs of one family.
    pub fn pod_cidrs(&self, family: Family) -> impl Iterator<Item = IpNetwork> + '_ {
        self.pod_cidrs.iter().copied().filter(move |cidr| cidr.family() == family)
    }

    /// The pod CIDRs that new pods get their addresses of.
    pub fn given_pod_cidrs(&self) -> Vec<IpNetwork> {
        let is_given = |cidr: &&IpNetwork| !self.former_pod_cidrs.contains(cidr);
        self.pod_cidrs.iter().filter(is_given).copied().gather()
    }

    /// The address of its tunnel device: the one given, else the first of its
    /// first pod CIDR.
    pub fn tunnel_address(&self, family: Family) -> Option<IpAddr> {
        let given = self.tunnel_addresses.iter().find(|address| address.family() == family);
        given.copied().or_else(|| self.pod_cidrs(family).next().map(|cidr| cidr.network()))
    }

    /// The address of its tunnel device, where none of its pods are.
    pub fn tunnel_outside(&self, family: Family) -> Option<IpNetwork> {
        let address = self.tunnel_address(family)?;
        let inside = self.pod_cidrs(family).any(|cidr| cidr.contains(address));
        (!inside).then(|| address.into())
    }

    /// Its addresses and those of its tunnel devices.
    pub(super) fn all_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let tunnels = Family::BOTH.into_iter().filter_map(|family| self.tunnel_address(family));
        self.addresses.iter().chain(&self.tunnel_addresses).copied().chain(tunnels)
    }

    /// The MAC address of its VXLAN device, derived from the node's name as
    /// Calico's agent derives it.
    pub fn tunnel_mac(&self, family: Family) -> Mac {
        self.tunnel_mac.unwrap_or_else(|| {
            let suffix = match family {
                Family::V4 => "",
                Family::V6 => "-v6",
            };
            let mut octets = [TUNNEL_MAC_FIRST; 6];
            let mut digest = Sha1::from(&self.name);
            digest.update(suffix.as_bytes());
            let digest = digest.digest().bytes();
            for (octet, byte) in octets.iter_mut().skip(1).zip(digest) {
                *octet = byte;
            }
            Mac(octets)
        })
    }
}

impl Peers {
    /// The addresses of other nodes and of their tunnels that lie where this
    /// node's pods are.
    pub fn inside_own(&self) -> Vec<IpAddr> {
        let others = self.others.iter().chain(&self.left_out);
        let addresses = others.flat_map(Node::all_addresses);
        addresses.filter(|ip| self.me.pod_cidrs.iter().any(|cidr| cidr.contains(*ip))).gather()
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.me).chain(&self.others).chain(&self.left_out)
    }

    /// The pod CIDRs of all nodes.
    pub fn pod_cidrs(&self) -> impl Iterator<Item = IpNetwork> + '_ {
        self.nodes().flat_map(|node| node.pod_cidrs.iter().copied())
    }
}
