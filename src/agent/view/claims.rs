//! What Nodes claim, and who gets it: by age, in [`given`]. What is settled afterwards
//! follows from a node's name or from what Calico says.

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::given::{Given, Pods, around};
use crate::{
    agent::record::{Record, Tunnel},
    cni::cidr,
    fabric::{
        faults::{contains, reserved},
        peers::Node,
    },
    family::{Family, HasFamily},
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

/// What all Nodes claim, by age.
pub(super) struct Claims {
    pub(super) list: Vec<Claim>,
}

impl Claims {
    pub(super) fn read<R: Borrow<Record>>(records: &[R], own: &str) -> Self {
        let mut by_age: Vec<&Record> = records.iter().map(Borrow::borrow).collect();
        by_age.sort_by_key(|record| record.age());
        let mut names = HashSet::new();
        by_age.retain(|record| !record.name.is_empty() && names.insert(&record.name));
        Self { list: by_age.into_iter().map(|record| Claim::read(record, own)).collect() }
    }

    /// The place of this node.
    pub(super) fn own(&self) -> Option<usize> {
        self.list.iter().position(|claim| claim.is_own)
    }

    /// Takes from each Node what it cannot have. Pods are not among the `spared` addresses.
    pub(super) fn settle(
        &mut self,
        own: usize,
        cluster_cidrs: Option<&[IpNetwork]>,
        spared: &[IpAddr],
    ) {
        if let Some(all) = cluster_cidrs {
            self.list.iter_mut().for_each(|claim| claim.keep_to(all));
        }
        let mut given = Given::new(self.list.get(own), cluster_cidrs, spared);
        self.list.iter_mut().for_each(|claim| given.settle(claim));
        self.settle_tunnels(own, &given.pods);
        self.settle_macs(own);
    }

    /// This node first: that an address is here the kernel knows, whoever is older.
    fn own_first(&self, own: usize) -> impl Iterator<Item = usize> + use<> {
        std::iter::once(own).chain((0..self.list.len()).filter(move |at| *at != own))
    }

    /// Gives each address of a tunnel to the oldest that claims it. One among the pods of
    /// another node, or that is a node's, leads there.
    fn settle_tunnels(&mut self, own: usize, pods: &Pods) {
        let addresses = self.list.iter().filter(|claim| claim.is_served());
        let addresses = addresses.flat_map(|claim| {
            claim.node.addresses.iter().map(|address| (*address, claim.node.name.clone()))
        });
        let mut given: HashMap<IpAddr, String> = addresses.collect();
        for at in self.own_first(own) {
            let Some(claim) = self.list.get_mut(at).filter(|claim| claim.is_served()) else {
                continue;
            };
            let name = claim.node.name.clone();
            let of_another = |address: &IpAddr| {
                let pods = around(pods, *address).map(|(_, holder)| holder);
                let holder = pods.filter(|holder| **holder != name);
                holder.or_else(|| given.get(address)).map(|holder| (*address, holder.clone()))
            };
            match claim.node.tunnel_addresses.iter().find_map(of_another) {
                Some((address, holder)) => {
                    claim.node.tunnel_addresses.clear();
                    claim.lose(format!("its tunnel address {address} is {holder}'s"));
                }
                None => {
                    given.extend(claim.node.tunnel_addresses.iter().map(|ip| (*ip, name.clone())));
                }
            }
        }
    }

    /// The MAC address of a tunnel's end is made of the node's name, and the reader of the
    /// file takes none twice.
    fn settle_macs(&mut self, own: usize) {
        let mut given: HashMap<_, String> = HashMap::new();
        for at in self.own_first(own) {
            let Some(claim) = self.list.get_mut(at).filter(|claim| claim.is_served()) else {
                continue;
            };
            let node = &claim.node;
            let families = Family::BOTH.into_iter().filter(|one| node.address(*one).is_some());
            let macs: Vec<_> = families.map(|one| (one, node.tunnel_mac(one).0)).collect();
            match macs.iter().find_map(|mac| given.get(mac)) {
                Some(holder) => {
                    let words = format!("its name gives the tunnel MAC that {holder} has");
                    claim.lose(words);
                }
                None => given.extend(macs.into_iter().map(|mac| (mac, node.name.clone()))),
            }
        }
    }
}

impl Claim {
    fn read(record: &Record, own: &str) -> Self {
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
        self.node.tunnel_addresses.clone_from(&tunnel.addresses);
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
            self.node.pod_cidrs.iter().find(|other| {
                **other != cidr && (contains(other, &cidr) || contains(&cidr, other))
            });
        if let Some(other) = clash {
            return Err(format!("podCIDRs {other} and {cidr} overlap"));
        }
        if !self.node.pod_cidrs.contains(&cidr) {
            self.node.pod_cidrs.push(cidr);
        }
        Ok(())
    }

    /// A node's podCIDRs have to be inside those of the whole cluster, where these are known.
    fn keep_to(&mut self, all: &[IpNetwork]) {
        let inside = |cidr: &IpNetwork| all.iter().any(|all| contains(all, cidr));
        if let Some(cidr) = self.node.pod_cidrs.iter().find(|cidr| !inside(cidr)) {
            let words = format!("podCIDR {cidr} is in none of the cluster's");
            self.lose(words);
        }
    }

    /// Without an address of a family, no packet finds a node's pods of that family.
    pub(super) fn settle_families(&mut self) {
        if !self.is_served() {
            return;
        }
        let addresses = &self.node.addresses;
        let served = |cidr: &IpNetwork| addresses.iter().any(|ip| ip.family() == cidr.family());
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
