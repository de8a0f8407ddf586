// SPDX-License-Identifier: Apache-2.0
//! What was added to tunnel devices of somebody else: such a device serves as it
//! is, and exactly what was added is taken back.
//!
//! Forwarding entries and neighbours bear no mark, so it is remembered in words,
//! which are never read again, only compared.

use crate::list::Gather;
use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::desired::Desired;
use crate::object::{
    Change,
    link::{HeldTunnel, Owner},
};

/// What earlier passes of a network's fabric have left in the kernel.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ledger {
    /// What was added to devices of others.
    pub added: Added,
    /// Route protocols that the network had before its present one: what bears
    /// their mark is taken over.
    pub protocols: Vec<u8>,
    /// Addresses that this node's tunnels should have, and that are leased.
    pub leased: Vec<IpAddr>,
}

/// Addresses, neighbours and forwarding entries on devices of others.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Added(BTreeSet<String>);

impl Added {
    /// Whether this was added by us.
    pub fn has(&self, addition: &str) -> bool {
        self.0.contains(addition)
    }

    /// Whether anything was added to that device.
    pub fn is_on(&self, device: &str) -> bool {
        // No device's name has a space in it (dev_valid_name, net/core/dev.c).
        self.0.iter().any(|text| text.split(' ').next() == Some(device))
    }

    /// Together with what was noted elsewhere.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// With what these changes will add: to be noted before they are made.
    #[must_use]
    pub fn before(&self, changes: &[Change], tunnels: &[HeldTunnel]) -> Self {
        let is_others = |held: &HeldTunnel| held.owner == Owner::Other;
        if !tunnels.iter().any(is_others) {
            return self.clone();
        }
        let others =
            |device: &str| tunnels.iter().any(|held| held.name == device && is_others(held));
        let added = changes.iter().filter_map(Change::addition);
        let added = added.filter(|(device, _)| others(device)).map(|(_, text)| text);
        Self(self.0.iter().cloned().chain(added).gather_set())
    }

    /// Without what is not wanted, once that has been taken back.
    #[must_use]
    pub fn after(&self, desired: &Desired) -> Self {
        if self.0.is_empty() {
            return Self::default();
        }
        let wanted: BTreeSet<String> = desired.objects.additions().gather_set();
        Self(self.0.intersection(&wanted).cloned().gather_set())
    }
}
