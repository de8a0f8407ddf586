// SPDX-License-Identifier: Apache-2.0
//! Which of the addresses that are noted on Nodes are the nodes'.
//!
//! A node's kubelet writes the notes on its own Node, and every node makes a route to where
//! tunnels end. Blocks are what Calico's IPAM says, so they decide: the end of a tunnel has
//! an address of a pool, as Calico gives it one, and inside the block of another node only
//! an address that the block says is that. An address in no block is no pod's: a node
//! without Calico has one of these, which is reserved for it. What is noted on this node's own Node changes
//! nothing for others, and what is wrong with that `needs.rs` tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::{blocks::Block, input::Input, nodes::CalicoNode, pools::Choice};
use crate::{
    family::Family,
    finding::{Finding, Severity},
};

/// What a node suffers whose end of tunnels has an address that is not its own.
pub(super) const UNANSWERED: &str = "what the node itself sends to pods of others gets no answers";

/// What is believed of all nodes.
pub(super) struct Believed<'a> {
    /// By where they begin. They do not overlap.
    blocks: BTreeMap<IpAddr, &'a Block>,
    doubted: BTreeSet<(&'a str, IpAddr)>,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Believed<'a> {
    /// `blocks` are none where pods are in what Nodes themselves say.
    pub(super) fn of(
        input: &Input<'a>,
        blocks: impl IntoIterator<Item = &'a Block>,
        choice: &Choice<'_>,
    ) -> Self {
        let first = |block: &'a Block| Some((block.cidr?.network(), block));
        let blocks = blocks.into_iter().filter_map(first).collect();
        let mut believed = Self { blocks, doubted: BTreeSet::new(), findings: Vec::new() };
        for node in input.nodes.iter().filter(|node| node.name() != input.own) {
            believed.judge(node, choice);
        }
        believed
    }

    fn judge(&mut self, node: &'a CalicoNode, choice: &Choice<'_>) {
        let name = node.name();
        for family in Family::BOTH {
            let address = node.address(family).map(|network| network.ip());
            let holder = address.and_then(|address| Some((address, self.holder(name, address)?)));
            if let Some((address, holder)) = holder {
                self.doubt(name, address, "address", &holder);
            }
            let Some(tunnel) = choice.tunnel(node, family) else { continue };
            let reason = match choice.is_of_tunnels(tunnel) {
                true => self.tunnel_holder(name, tunnel),
                false => Some("it is in no IPPool of that mode".to_owned()),
            };
            if let Some(reason) = reason {
                self.doubt(name, tunnel, "tunnel address", &reason);
            }
        }
    }

    fn doubt(&mut self, name: &'a str, address: IpAddr, what: &str, reason: &str) {
        self.doubted.insert((name, address));
        let words = format!("{what} {address} does not count: {reason}");
        let mut finding =
            Finding::new("address-ignored", Severity::Warning, format!("Node {name}"), words);
        if what != "address" {
            finding.why = UNANSWERED;
        }
        finding.fix = format!(
            "see the annotations of projectcalico.org in kubectl get node {name} -o yaml, and the \
             IPAMBlock and IPPool around that address"
        );
        self.findings.push(finding);
    }

    fn block(&self, address: IpAddr) -> Option<&'a Block> {
        let (_, block) = self.blocks.range(..=address).next_back()?;
        block.cidr.is_some_and(|cidr| cidr.contains(address)).then_some(*block)
    }

    /// The block around an address.
    pub(super) fn around(&self, address: IpAddr) -> Option<IpNetwork> {
        self.block(address)?.cidr
    }

    /// In whose block an address is that is not in one of this node.
    fn holder(&self, name: &str, address: IpAddr) -> Option<String> {
        let block = self.block(address).filter(|block| block.node.as_deref() != Some(name))?;
        Some(match (&block.node, block.cidr) {
            (Some(node), Some(cidr)) => format!("it is in block {cidr} of {node}"),
            _ => "it is in a block of Calico that has no node".to_owned(),
        })
    }

    /// Why an address is not the end of this node's tunnels, by what blocks say.
    pub(super) fn tunnel_holder(&self, name: &str, address: IpAddr) -> Option<String> {
        let block = self.block(address)?;
        match block.borrowed.iter().find(|borrowed| borrowed.address == address) {
            Some(borrowed) if *borrowed.node != *name => {
                Some(format!("{} has it, by Calico's blocks", borrowed.node))
            }
            Some(borrowed) if borrowed.is_tunnel => None,
            _ => self.holder(name, address),
        }
    }

    fn counts(&self, node: &CalicoNode, address: IpAddr) -> bool {
        !self.doubted.contains(&(node.name(), address))
    }

    /// The addresses of a node.
    pub(super) fn addresses(&self, node: &CalicoNode) -> impl Iterator<Item = IpAddr> {
        let addresses = Family::BOTH.into_iter().filter_map(|family| node.address(family));
        addresses.map(|network| network.ip()).filter(|address| self.counts(node, *address))
    }

    /// The addresses of a node's ends of tunnels.
    pub(super) fn tunnels(
        &self,
        node: &CalicoNode,
        choice: &Choice<'_>,
    ) -> impl Iterator<Item = IpAddr> {
        let tunnels = Family::BOTH.into_iter().filter_map(|family| choice.tunnel(node, family));
        tunnels.filter(|address| self.counts(node, *address))
    }
}
