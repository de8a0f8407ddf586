// SPDX-License-Identifier: Apache-2.0
//! Addresses that rules ask for, as ranges of numbers.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::Truth;
use crate::family::{Family, HasFamily};
use crate::list::Gather;

/// Both ends of a network as numbers.
pub(super) fn ends(network: &IpNetwork) -> (u128, u128) {
    (number(network.network()), number(network.broadcast()))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The addresses of a family that begin with these bytes.
pub(super) fn beginning(bytes: &[u8], family: Family) -> Option<(u128, u128)> {
    let whole = usize::from(family.bytes());
    let missing = 8 * u32::try_from(whole.checked_sub(bytes.len())?).ok()?;
    let value = bytes.iter().fold(0, |value: u128, byte| value << 8 | u128::from(*byte));
    let rest = 1_u128.checked_shl(missing)? - 1;
    Some((value << missing, value << missing | rest))
}

/// Whether addresses elsewhere are in the ranges: none where the ranges are of this node's
/// pods, or nobody knows.
pub(super) fn hold_elsewhere(ranges: &[(u128, u128)], pods: &[IpNetwork], family: Family) -> Truth {
    let of_family: Vec<_> = pods.iter().filter(|pods| pods.family() == family).map(ends).gather();
    let is_own =
        |range: &(u128, u128)| of_family.iter().any(|pods| pods.0 <= range.0 && range.1 <= pods.1);
    if ranges.iter().all(is_own) { Truth::No } else { Truth::Maybe }
}

/// Whether pods' addresses are in the ranges: all, none, or some, or nobody knows.
pub(super) fn hold(ranges: &[(u128, u128)], pods: &[IpNetwork], family: Family) -> Truth {
    let mut of_family = pods.iter().filter(|pods| pods.family() == family).map(ends).peekable();
    if of_family.peek().is_none() {
        return Truth::Maybe;
    }
    let (mut all, mut none) = (true, true);
    for (first, last) in of_family {
        all &= ranges.iter().any(|range| range.0 <= first && last <= range.1);
        none &= ranges.iter().all(|range| last < range.0 || range.1 < first);
    }
    match (all, none) {
        (true, _) => Truth::Yes,
        (_, true) => Truth::No,
        _ => Truth::Maybe,
    }
}
