// SPDX-License-Identifier: Apache-2.0
//! Who gets what several Nodes claim: the oldest of them.
//!
//! All in a Node is what its kubelet says, its podCIDRs included where it made the Node;
//! when the Node was made, the API server says. So Nodes are looked at by age, and each has
//! what no older one has: whatever a Node claims that comes later, it changes nothing for
//! those that were there. That an older one may take from younger ones is the price: of an
//! address inside a podCIDR nothing tells which of the two is true. Where the networks of
//! all pods are known there is no such case: podCIDRs are inside them and addresses are
//! not, unless the node that looks has such an address itself.
//!
//! One exception: the address of the node that looks is here, whoever is older.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;

use super::claim::Claim;
use crate::fabric::peers::Node;
use crate::list::{Gather, PushAll};

/// PodCIDRs by where they begin, with who has them. They do not overlap.
type Pods = BTreeMap<IpAddr, (IpNetwork, String)>;

/// What the Nodes have that were looked at, which are older than those that come.
#[derive(Debug)]
pub(super) struct Given {
    pods: Pods,
    /// Those of nodes and those of the ends of their tunnels.
    addresses: BTreeMap<IpAddr, String>,
    /// The name of the node that looks.
    own: String,
    /// Where all pods are and no node is, if that is known.
    networks: Vec<IpNetwork>,
    /// Where the API server is: who has a route to elsewhere hears of no correction.
    spared: Vec<IpAddr>,
}

/// The podCIDR in which an address is.
fn around(pods: &Pods, address: IpAddr) -> Option<&(IpNetwork, String)> {
    let (_, found) = pods.range(..=address).next_back()?;
    found.0.contains(address).then_some(found)
}

impl Given {
    /// The node that looks has its addresses, but for those that its own pods have.
    pub(super) fn new(
        own: Option<&Claim>,
        networks: Option<&[IpNetwork]>,
        spared: &[IpAddr],
    ) -> Self {
        let node = own.map(|claim| &claim.node);
        let inside = |address: &IpAddr| {
            node.is_some_and(|own| is_inside(&own.pod_cidrs, *address).is_some())
        };
        let name = node.map(|own| own.name.clone()).unwrap_or_default();
        let addresses = node.into_iter().flat_map(|own| &own.addresses);
        let addresses = addresses.filter(|address| !inside(address));
        let apart = |networks: &&[IpNetwork]| {
            addresses.clone().all(|address| is_inside(networks, *address).is_none())
        };
        let networks = networks.filter(apart).unwrap_or_default().to_vec();
        Self {
            pods: Pods::new(),
            addresses: addresses.map(|address| (*address, name.clone())).gather_map(),
            own: name,
            networks,
            spared: spared.to_vec(),
        }
    }

    /// Leaves a Node what no older one has, and notes that.
    pub(super) fn settle(&mut self, claim: &mut Claim) {
        let name = claim.node.name.clone();
        let clash = claim.node.pod_cidrs.iter().find_map(|cidr| self.clash(cidr, &name));
        if let Some(words) = clash.filter(|_| claim.is_served()) {
            claim.lose(words);
        }
        if !claim.is_served() {
            return;
        }
        let (ignored, own_pods) = (&mut claim.ignored, &claim.node.pod_cidrs);
        claim.node.addresses.retain(|address| {
            let reason = self.reason_against(*address, &name, own_pods);
            ignored.push_all(
                reason.iter().map(|reason| format!("address {address} does not count: {reason}")),
            );
            reason.is_none()
        });
        claim.settle_families();
        if !claim.is_served() {
            return;
        }
        let mut tunnels = std::mem::take(&mut claim.node.tunnel_addresses);
        tunnels.retain(|address| {
            let reason = self.reason_against_tunnel(*address, &claim.node);
            claim.ignored.push_all(
                reason
                    .iter()
                    .map(|reason| format!("tunnel address {address} does not count: {reason}")),
            );
            reason.is_none()
        });
        claim.node.tunnel_addresses = tunnels;
        let node = &claim.node;
        let addresses = node.addresses.iter().chain(&node.tunnel_addresses);
        self.addresses.extend(addresses.map(|address| (*address, name.clone())));
        let pods = node.pod_cidrs.iter();
        self.pods.extend(pods.map(|cidr| (cidr.network(), (*cidr, name.clone()))));
    }

    /// Why a Node of this name cannot have these pods, if so.
    fn clash(&self, cidr: &IpNetwork, name: &str) -> Option<String> {
        if let Some(spared) = self.spared.iter().find(|address| cidr.contains(**address)) {
            return Some(format!("podCIDR {cidr} contains {spared}, where the API server is"));
        }
        let range = cidr.network()..=cidr.broadcast();
        let inside = self.pods.range(range.clone()).next().map(|(_, found)| found);
        if let Some((other, holder)) = inside.or_else(|| around(&self.pods, cidr.network())) {
            return Some(match other == cidr {
                true => format!("podCIDR {cidr} is that of {holder}, an older Node"),
                false => format!("podCIDR {cidr} overlaps {other} of {holder}, an older Node"),
            });
        }
        let mut addresses = self.addresses.range(range);
        let (address, holder) = addresses.find(|(_, holder)| *holder != name)?;
        Some(match *holder == self.own {
            true => format!("podCIDR {cidr} contains the address of this node"),
            false => format!("podCIDR {cidr} contains {address} of {holder}, an older Node"),
        })
    }

    /// Why an address does not count as that of this node's end of tunnels: all nodes send to
    /// this node what is for it. Without one its pods are reached all the same.
    fn reason_against_tunnel(&self, address: IpAddr, node: &Node) -> Option<String> {
        if self.spared.contains(&address) {
            return Some("the API server is there".to_owned());
        }
        if node.addresses.contains(&address) {
            return Some("it is an address of the node itself".to_owned());
        }
        let pods = around(&self.pods, address).filter(|(_, holder)| *holder != node.name);
        if let Some((cidr, holder)) = pods {
            return Some(format!("it is in podCIDR {cidr} of {holder}"));
        }
        let holder = self.addresses.get(&address).filter(|holder| **holder != node.name)?;
        Some(format!("{holder} has it"))
    }

    /// Why an address does not count as one of the Node of this name with these pods.
    fn reason_against(&self, address: IpAddr, name: &str, pods: &[IpNetwork]) -> Option<String> {
        if let Some(cidr) = is_inside(pods, address) {
            return Some(format!("it is in podCIDR {cidr} of {name}"));
        }
        if let Some((cidr, holder)) = around(&self.pods, address) {
            return Some(format!("it is in podCIDR {cidr} of {holder}"));
        }
        if let Some(network) = is_inside(&self.networks, address) {
            return Some(format!("it is in {network} of clusterCIDRs, where pods are"));
        }
        let holder = self.addresses.get(&address).filter(|holder| *holder != name)?;
        Some(format!("{holder} has it"))
    }
}

fn is_inside(cidrs: &[IpNetwork], address: IpAddr) -> Option<&IpNetwork> {
    cidrs.iter().find(|cidr| cidr.contains(address))
}
