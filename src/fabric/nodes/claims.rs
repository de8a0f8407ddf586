// SPDX-License-Identifier: Apache-2.0
//! What Nodes claim, and who gets it: by age, in [`given`]. What is settled afterwards
//! follows from a node's name, or is a MAC address that Calico noted.

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::{claim::Claim, given::Given, record::Record};
use crate::family::Family;
use crate::list::{Gather, Ordered};

/// What all Nodes claim, by age.
pub(super) struct Claims {
    pub(super) list: Vec<Claim>,
}

impl Claims {
    pub(super) fn read<R: Borrow<Record>>(records: &[R], own: &str) -> Self {
        let mut by_age: Vec<&Record> = records.iter().map(Borrow::borrow).gather();
        by_age.order_by_key(|record| record.age());
        let mut names = HashSet::new();
        by_age.retain(|record| !record.name.is_empty() && names.insert(&record.name));
        Self { list: by_age.into_iter().map(|record| Claim::read(record, own)).gather() }
    }

    /// The place of this node.
    pub(super) fn own(&self) -> Option<usize> {
        self.list.iter().position(|claim| claim.is_own)
    }

    /// Takes from each Node what it cannot have. Pods are not among the `spared` addresses.
    pub(super) fn settle(
        &mut self,
        own: Option<usize>,
        cluster_cidrs: Option<&[IpNetwork]>,
        spared: &[IpAddr],
    ) {
        if let Some(all) = cluster_cidrs {
            self.list.iter_mut().for_each(|claim| claim.keep_to(all));
        }
        let mut given = Given::new(own.and_then(|own| self.list.get(own)), cluster_cidrs, spared);
        self.list.iter_mut().for_each(|claim| given.settle(claim));
        self.settle_macs(own);
    }

    /// This node first: that an address is here the kernel knows, whoever is older.
    fn own_first(&self, own: Option<usize>) -> impl Iterator<Item = usize> + use<> {
        own.into_iter().chain((0..self.list.len()).filter(move |at| Some(*at) != own))
    }

    /// The MAC address of a tunnel's end is made of the node's name, and the reader of the
    /// file takes none twice.
    fn settle_macs(&mut self, own: Option<usize>) {
        let mut given: HashMap<_, String> = HashMap::new();
        for at in self.own_first(own) {
            let Some(claim) = self.list.get_mut(at).filter(|claim| claim.is_served()) else {
                continue;
            };
            let node = &claim.node;
            let families = Family::BOTH.into_iter().filter(|one| node.address(*one).is_some());
            let macs: Vec<_> = families.map(|one| (one, node.tunnel_mac(one).0)).gather();
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
