//! What was added to tunnel devices of somebody else: such a device serves as it
//! is, and exactly what was added is taken back.
//!
//! Forwarding entries and neighbours bear no mark, so it is remembered in words,
//! which are never read again, only compared.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{change::Change, desired::Desired, held::Owner, observe::Observed};
use crate::object::{Forwarding, Neighbour};

/// What earlier passes of a network's fabric have left in the kernel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Past {
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

/// One thing on a device.
#[derive(Clone, Copy, Debug)]
pub enum Addition<'a> {
    /// An address of the device.
    Address(&'a str, IpNetwork),
    /// A permanent neighbour.
    Neighbour(&'a Neighbour),
    /// A forwarding entry.
    Forwarding(&'a Forwarding),
}

impl fmt::Display for Addition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(device, address) => write!(f, "{device} address {address}"),
            Self::Neighbour(entry) => {
                write!(f, "{} neighbour {} {}", entry.device, entry.address, entry.mac)
            }
            Self::Forwarding(entry) => {
                write!(f, "{} fdb {} {}", entry.device, entry.mac, entry.node)
            }
        }
    }
}

impl Added {
    /// Whether this was added by us.
    pub fn has(&self, addition: Addition<'_>) -> bool {
        !self.0.is_empty() && self.0.contains(&addition.to_string())
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
    pub fn before(&self, changes: &[Change], observed: &Observed) -> Self {
        let others = |device: &str| {
            observed.tunnels.get(device).is_some_and(|held| held.owner == Owner::Other)
        };
        let added = changes.iter().filter_map(|change| match change {
            Change::AddAddress(device, address) if others(device) => {
                Some(Addition::Address(device, *address).to_string())
            }
            Change::SetNeighbour(entry) if others(&entry.device) => {
                Some(Addition::Neighbour(entry).to_string())
            }
            Change::SetForwarding(entry) if others(&entry.device) => {
                Some(Addition::Forwarding(entry).to_string())
            }
            _ => None,
        });
        Self(self.0.iter().cloned().chain(added).collect())
    }

    /// Without what is not wanted, once that has been taken back.
    #[must_use]
    pub fn after(&self, desired: &Desired) -> Self {
        if self.0.is_empty() {
            return Self::default();
        }
        let addresses = desired.tunnels.iter().filter_map(|tunnel| {
            Some(Addition::Address(&tunnel.name, tunnel.address?).to_string())
        });
        let wanted: BTreeSet<String> = addresses
            .chain(desired.neighbours.iter().map(|entry| Addition::Neighbour(entry).to_string()))
            .chain(desired.forwarding.iter().map(|entry| Addition::Forwarding(entry).to_string()))
            .collect();
        Self(self.0.intersection(&wanted).cloned().collect())
    }
}
