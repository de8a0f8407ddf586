// SPDX-License-Identifier: Apache-2.0
//! What a constant set holds, and by what it is known without a look at it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use sha1_smol::Sha1;

use super::interval::Intervals;
use crate::family::Family;
use crate::list::{Gather, PushAll, distinct};

/// Tells one list of networks from another.
pub type Digest = [u8; 20];

/// The union of lists of networks, as a set of one family holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Constant {
    pub(super) intervals: Intervals,
    /// The digests of the lists, one behind the other.
    pub(super) made_from: Vec<u8>,
}

impl Constant {
    /// Of a list, and of another whose digest is known.
    pub(super) fn of(
        family: Family,
        networks: &[IpNetwork],
        (more, of_more): (&[IpNetwork], &Digest),
    ) -> Self {
        let intervals = Intervals::of(family, networks.iter().chain(more));
        Self { intervals, made_from: [digest(networks), *of_more].concat() }
    }
}

/// A digest of networks, whatever their order.
pub fn digest(networks: &[IpNetwork]) -> Digest {
    let sorted: Vec<&IpNetwork> = networks.iter().gather();
    let sorted = distinct(sorted);
    let mut bytes = Vec::with_capacity(sorted.len() * 18);
    for network in sorted {
        match network.network() {
            IpAddr::V4(address) => bytes.push_all([&[4], &address.octets()[..]].concat()),
            IpAddr::V6(address) => bytes.push_all([&[6], &address.octets()[..]].concat()),
        }
        bytes.push(network.prefix());
    }
    Sha1::from(&bytes).digest().bytes()
}
