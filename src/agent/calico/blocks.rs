// SPDX-License-Identifier: Apache-2.0
//! Calico's blocks of addresses: whose they are, and what of them others have.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::super::watched::{Kind, Metadata, Sent};
use crate::{cni::cidr, family::is_single, list::Gather};

/// IPAMBlocks.
#[derive(Debug)]
pub(crate) struct Blocks;

/// A block, as far as anything here depends on it: a pod more or less changes nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Block {
    /// None where it is no network, or on its way out.
    pub(crate) cidr: Option<IpNetwork>,
    /// Whose it is, if anybody's.
    pub(crate) node: Option<Box<str>>,
    /// Addresses that other nodes have.
    pub(crate) borrowed: Vec<Borrowed>,
}

/// An address of a block that is not with the block's node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Borrowed {
    pub(crate) address: IpAddr,
    /// Who has it.
    pub(crate) node: Box<str>,
    /// It is the end of that node's tunnels, and no pod's.
    pub(crate) is_tunnel: bool,
}

/// What Calico writes of the ends of tunnels.
const TUNNELS: [&str; 3] = ["ipipTunnelAddress", "vxlanTunnelAddress", "vxlanV6TunnelAddress"];

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Object {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    cidr: String,
    affinity: Option<String>,
    /// For each address of the block, in order: the index of its entry in `attributes`.
    allocations: Option<Vec<Option<usize>>>,
    attributes: Option<Vec<Attributes>>,
    deleted: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Attributes {
    secondary: Option<BTreeMap<String, String>>,
}

impl Sent for Object {
    fn key(&self) -> Box<str> {
        self.metadata.name.clone()
    }

    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Kind for Blocks {
    type Object = Object;
    type Value = Block;
    const NAME: &'static str = "IPAMBlocks";
    const RESOURCE: &'static str = "ipamblocks of Calico";

    fn value(object: Object) -> Block {
        let spec = object.spec;
        let network = cidr::parse(&spec.cidr).ok().filter(|_| spec.deleted != Some(true));
        let Some(network) = network else {
            return Block { cidr: None, node: None, borrowed: Vec::new() };
        };
        let node = spec.affinity.as_deref().and_then(|affinity| affinity.strip_prefix("host:"));
        let attributes = spec.attributes.unwrap_or_default();
        let holder = |which: usize| {
            let secondary = attributes.get(which)?.secondary.as_ref()?;
            let kind = secondary.get("type").map(String::as_str).unwrap_or_default();
            let holder = secondary.get("node").filter(|holder| !holder.is_empty())?;
            Some((holder.as_str(), TUNNELS.contains(&kind)))
        };
        let allocations = spec.allocations.into_iter().flatten().enumerate();
        let borrowed = allocations.filter_map(|(place, which)| {
            let (holder, is_tunnel) = holder(which?).filter(|(holder, _)| Some(*holder) != node)?;
            let address = nth(&network, place)?;
            Some(Borrowed { address, node: holder.into(), is_tunnel })
        });
        let borrowed = borrowed.gather();
        Block { cidr: Some(network), node: node.map(Box::from), borrowed }
    }
}

/// The address at a place in a network.
pub(super) fn nth(network: &IpNetwork, place: usize) -> Option<IpAddr> {
    let address = match network.network() {
        IpAddr::V4(first) => {
            let address = first.to_bits().checked_add(u32::try_from(place).ok()?)?;
            IpAddr::V4(address.into())
        }
        IpAddr::V6(first) => {
            let address = first.to_bits().checked_add(u128::try_from(place).ok()?)?;
            IpAddr::V6(address.into())
        }
    };
    network.contains(address).then_some(address)
}

/// A network without some addresses, as few networks as it takes: no two nodes' pods
/// overlap in a peers file.
pub(super) fn without(network: IpNetwork, addresses: &[IpAddr]) -> Vec<IpNetwork> {
    let inside: Vec<IpAddr> =
        addresses.iter().copied().filter(|address| network.contains(*address)).gather();
    if inside.is_empty() {
        return vec![network];
    }
    if is_single(&network) {
        return Vec::new();
    }
    let prefix = network.prefix() + 1;
    let half = |address: IpAddr| IpNetwork::new(address, prefix).ok();
    // A broadcast address lies in the upper half.
    let upper = half(network.broadcast()).and_then(|upper| half(upper.network()));
    let halves = [half(network.network()), upper].into_iter().flatten();
    halves.flat_map(|half| without(half, &inside)).gather()
}
