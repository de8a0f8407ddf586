// SPDX-License-Identifier: Apache-2.0
//! Networks as the disjoint intervals that a set of nf_tables wants.
//!
//! A set refuses overlapping intervals, and two that touch are one interval to
//! nft. So the union is formed here, before the kernel sees anything.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::family::Family;
use crate::list::{Gather, Ordered};

/// All addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Interval {
    first: u128,
    last: u128,
}

/// One element of an interval set: where an interval starts, or the first
/// address behind one.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Element {
    /// The address in network byte order.
    pub(super) key: Vec<u8>,
    /// No interval goes on here.
    pub(super) end: bool,
}

/// The union of networks of one family: sorted, disjoint, never touching.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Intervals {
    family: Family,
    intervals: Vec<Interval>,
}

impl Intervals {
    /// The union of those networks that are of `family`.
    pub(super) fn of<'a>(
        family: Family,
        networks: impl IntoIterator<Item = &'a IpNetwork>,
    ) -> Self {
        let mut found: Vec<Interval> =
            networks.into_iter().filter_map(|network| interval_of(family, *network)).gather();
        found.order();
        let mut intervals: Vec<Interval> = Vec::with_capacity(found.len());
        for next in found {
            match intervals.last_mut() {
                Some(open) if next.first <= open.last.saturating_add(1) => {
                    open.last = open.last.max(next.last);
                }
                _ => intervals.push(next),
            }
        }
        Self { family, intervals }
    }

    /// The elements that say these intervals, interval by interval, in the form
    /// that nft gives them: an end at zero unless an interval starts there, and
    /// no end for an interval that reaches the last address.
    pub(super) fn elements(&self) -> impl Iterator<Item = Vec<Element>> {
        self.intervals.iter().enumerate().map(|(place, interval)| {
            let mut elements = Vec::with_capacity(3);
            if place == 0 && interval.first != 0 {
                elements.push(self.element(0, true));
            }
            elements.push(self.element(interval.first, false));
            if interval.last != last_address(self.family) {
                elements.push(self.element(interval.last + 1, true));
            }
            elements
        })
    }

    /// The intervals as nft writes them: a prefix where one fits, an address, or
    /// `first-last`.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        self.intervals.iter().map(|interval| self.text(*interval))
    }

    fn text(&self, interval: Interval) -> String {
        let Interval { first, last } = interval;
        let size_minus_one = last - first;
        // A prefix is a power of two of addresses, at a multiple of that power.
        if size_minus_one & size_minus_one.wrapping_add(1) == 0 && first & size_minus_one == 0 {
            let bits = 8 * u32::from(self.family.bytes());
            match bits - size_minus_one.count_ones() {
                length if length == bits => self.address(first),
                length => format!("{}/{length}", self.address(first)),
            }
        } else {
            format!("{}-{}", self.address(first), self.address(last))
        }
    }

    fn address(&self, address: u128) -> String {
        match self.family {
            Family::V4 => Ipv4Addr::from(low_half(address)).to_string(),
            Family::V6 => Ipv6Addr::from(address).to_string(),
        }
    }

    fn element(&self, address: u128, end: bool) -> Element {
        let key = match self.family {
            Family::V4 => low_half(address).to_be_bytes().to_vec(),
            Family::V6 => address.to_be_bytes().to_vec(),
        };
        Element { key, end }
    }
}

fn interval_of(family: Family, network: IpNetwork) -> Option<Interval> {
    let (first, last) = match (family, network) {
        (Family::V4, IpNetwork::V4(network)) => {
            (u128::from(u32::from(network.network())), u128::from(u32::from(network.broadcast())))
        }
        (Family::V6, IpNetwork::V6(network)) => {
            (u128::from(network.network()), u128::from(network.broadcast()))
        }
        _ => return None,
    };
    Some(Interval { first, last })
}

fn last_address(family: Family) -> u128 {
    match family {
        Family::V4 => u128::from(u32::MAX),
        Family::V6 => u128::MAX,
    }
}

/// IPv4 addresses live in the low 32 bits, by construction.
fn low_half(address: u128) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use ipnetwork::{Ipv4Network, Ipv6Network};
    use proptest::prelude::*;

    use super::*;

    fn texts(family: Family, networks: &[&str]) -> Vec<String> {
        let networks: Vec<IpNetwork> = networks.iter().map(|text| text.parse().unwrap()).collect();
        Intervals::of(family, &networks).texts().collect()
    }

    #[test]
    fn overlapping_touching_and_foreign_networks() {
        let networks =
            ["10.1.2.3/8", "11.0.0.0/8", "10.64.0.0/10", "192.0.2.1/32", "fe80::/10", "12.0.0.0/9"];
        assert_eq!(texts(Family::V4, &networks), ["10.0.0.0-12.127.255.255", "192.0.2.1"]);
        assert_eq!(texts(Family::V6, &networks), ["fe80::/10"]);
        assert_eq!(texts(Family::V4, &["10.0.0.0/8", "11.0.0.0/8"]), ["10.0.0.0/7"]);
        assert_eq!(texts(Family::V4, &["11.0.0.0/8", "12.0.0.0/8"]), ["11.0.0.0-12.255.255.255"]);
    }

    #[test]
    fn the_ends_of_the_address_space() {
        assert_eq!(texts(Family::V4, &["0.0.0.0/0", "255.255.255.255/32"]), ["0.0.0.0/0"]);
        assert_eq!(texts(Family::V6, &["::/1", "8000::/1"]), ["::/0"]);
        assert_eq!(texts(Family::V4, &["224.0.0.0/4", "240.0.0.0/4"]), ["224.0.0.0/3"]);
        let whole: Vec<IpNetwork> = vec!["::/0".parse().unwrap()];
        let elements: Vec<_> = Intervals::of(Family::V6, &whole).elements().flatten().collect();
        assert_eq!(elements, [Element { key: vec![0; 16], end: false }]);
    }

    /// Few distinct high bits, so that networks meet often.
    fn network() -> impl Strategy<Value = IpNetwork> {
        let v4 = (0u32..64, 26u8..=32).prop_map(|(low, prefix)| {
            let high = if low % 5 == 0 { 0xffff_ffc0 } else { 0 };
            IpNetwork::V4(Ipv4Network::new((high | low).into(), prefix).unwrap())
        });
        let v6 = (0u128..64, 122u8..=128).prop_map(|(low, prefix)| {
            let high = if low % 5 == 0 { !63u128 } else { 0 };
            IpNetwork::V6(Ipv6Network::new((high | low).into(), prefix).unwrap())
        });
        prop_oneof![v4, v6]
    }

    /// What the kernel does with the elements: the last one at or below decides.
    fn set_holds(elements: &[Element], key: &[u8]) -> bool {
        let below = elements.iter().filter(|element| element.key.as_slice() <= key).max();
        below.is_some_and(|element| !element.end)
    }

    proptest! {
        #[test]
        fn elements_cover_exactly_the_union(
            networks in proptest::collection::vec(network(), 0..12),
        ) {
            for family in [Family::V4, Family::V6] {
                let merged = Intervals::of(family, &networks);
                let elements: Vec<Element> = merged.elements().flatten().collect();
                prop_assert!(elements.is_sorted_by(|a, b| a.key < b.key));
                for low in 0u128..64 {
                    for address in [low, (last_address(family) & !63) | low] {
                        let ip = merged.address(address).parse().unwrap();
                        let within = networks.iter().any(|network| network.contains(ip));
                        let key = merged.element(address, false).key;
                        prop_assert_eq!(set_holds(&elements, &key), within, "{}", ip);
                    }
                }
            }
        }

        #[test]
        fn no_two_intervals_touch(networks in proptest::collection::vec(network(), 0..12)) {
            let merged = Intervals::of(Family::V4, &networks).intervals;
            prop_assert!(merged.windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
        }
    }
}
