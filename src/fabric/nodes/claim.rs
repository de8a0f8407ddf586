// SPDX-License-Identifier: Apache-2.0
//! What one Node claims, and what of it can be so whatever others claim.

use ipnetwork::IpNetwork;

use super::record::{Record, Tunnel};
use crate::{
    cni::cidr,
    fabric::{
        faults::{is_within, overlap, reserved},
        peers::Node,
    },
    family::HasFamily,
    net::Mac,
};

/// What one Node claims.
#[derive(Debug)]
pub(super) struct Claim {
    /// What is left of it.
    pub(super) node: Node,
    /// Why the node is left out. This node is not, but has no pods.
    pub(super) faults: Vec<String>,
    /// What of it does not count, a sentence each.
    pub(super) ignored: Vec<String>,
    /// Nobody gave it one.
    pub(super) has_no_pod_cidr: bool,
    pub(super) is_own: bool,
}

impl Claim {
    pub(super) fn read(record: &Record, own: &str) -> Self {
        let mut claim = Self {
            node: Node {
                name: record.name.to_string(),
                addresses: Vec::new(),
                pod_cidrs: Vec::new(),
                tunnel_addresses: Vec::new(),
                former_pod_cidrs: Vec::new(),
                tunnel_mac: None,
            },
            faults: Vec::new(),
            ignored: Vec::new(),
            has_no_pod_cidr: record.pod_cidrs.is_empty(),
            is_own: &*record.name == own,
        };
        record.addresses.iter().for_each(|text| claim.read_address(text));
        if let Some(tunnel) = &record.tunnel {
            claim.read_tunnel(tunnel);
        }
        for text in &record.pod_cidrs {
            if let Err(words) = claim.read_pod_cidr(text) {
                claim.faults.push(words);
            }
        }
        if !claim.faults.is_empty() {
            claim.node.pod_cidrs.clear();
        }
        claim
    }

    fn read_address(&mut self, text: &str) {
        let address = match cidr::parse_address(text) {
            Ok(address) => address,
            Err(problem) => return self.ignored.push(format!("address does not count: {problem}")),
        };
        if let Some((_, what)) = reserved(&address.into()) {
            self.ignored.push(format!("address {address} does not count ({what})"));
        } else if !self.node.addresses.contains(&address) {
            self.node.addresses.push(address);
        }
    }

    fn read_tunnel(&mut self, tunnel: &Tunnel) {
        for address in &tunnel.addresses {
            if let Some((_, what)) = reserved(&(*address).into()) {
                self.ignored.push(format!("tunnel address {address} does not count ({what})"));
            } else if !self.node.tunnel_addresses.contains(address) {
                self.node.tunnel_addresses.push(*address);
            }
        }
        let Some(text) = &tunnel.mac else { return };
        match text.parse::<Mac>() {
            Ok(mac) if mac.is_unicast() => self.node.tunnel_mac = Some(mac),
            Ok(_) => self.ignored.push(format!("tunnel MAC {text} does not count: not unicast")),
            Err(problem) => self.ignored.push(format!("tunnel MAC does not count: {problem}")),
        }
    }

    fn read_pod_cidr(&mut self, text: &str) -> Result<(), String> {
        let cidr = cidr::parse(text).map_err(|problem| format!("podCIDR {problem}"))?;
        if cidr.ip() != cidr.network() {
            return Err(format!("podCIDR {text} has host bits: {}", cidr.network()));
        }
        if let Some((net, what)) = reserved(&cidr) {
            return Err(format!("podCIDR {cidr} overlaps {net} ({what})"));
        }
        let clash =
            self.node.pod_cidrs.iter().find(|other| **other != cidr && overlap(other, &cidr));
        if let Some(other) = clash {
            return Err(format!("podCIDRs {other} and {cidr} overlap"));
        }
        if !self.node.pod_cidrs.contains(&cidr) {
            self.node.pod_cidrs.push(cidr);
        }
        Ok(())
    }

    /// A node's podCIDRs have to be inside those of the whole cluster, where these are known.
    pub(super) fn keep_to(&mut self, all: &[IpNetwork]) {
        if let Some(cidr) = self.node.pod_cidrs.iter().find(|cidr| !is_within(cidr, all)) {
            let words = format!("podCIDR {cidr} is in none of the clusterCIDRs of agent.json");
            self.lose(words);
        }
    }

    /// Without an address of a family, no packet finds a node's pods of that family, nor its
    /// end of tunnels.
    pub(super) fn settle_families(&mut self) {
        if !self.is_served() {
            return;
        }
        let addresses = &self.node.addresses;
        let served = |cidr: &IpNetwork| addresses.iter().any(|ip| ip.family() == cidr.family());
        self.node.tunnel_addresses.retain(|address| served(&(*address).into()));
        let (kept, lost): (Vec<IpNetwork>, Vec<IpNetwork>) =
            self.node.pod_cidrs.iter().partition(|cidr| served(cidr));
        self.node.pod_cidrs = kept;
        let Some(cidr) = lost.first() else { return };
        let family = cidr.family();
        let words = format!("podCIDR {cidr} has no node: no {family} InternalIP counts");
        match self.node.pod_cidrs.is_empty() {
            true => self.lose(words),
            false => self.ignored.push(words),
        }
    }

    /// Whether the file has it.
    pub(super) fn is_listed(&self) -> bool {
        self.is_own || (self.faults.is_empty() && !self.node.addresses.is_empty())
    }

    pub(super) fn is_served(&self) -> bool {
        self.is_own || self.faults.is_empty()
    }

    pub(super) fn lose(&mut self, words: String) {
        self.faults.push(words);
        self.node.pod_cidrs.clear();
    }
}
