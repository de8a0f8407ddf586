// SPDX-License-Identifier: Apache-2.0
//! A list of networks that is asked once for each of many routes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::family::{Family, HasFamily};
use crate::list::{Gather, distinct};

/// Networks, sorted: a question takes a search and not a walk.
#[derive(Debug, Default)]
pub(super) struct Cidrs {
    sorted: Vec<IpNetwork>,
    /// The lengths that there are, of each family.
    lengths: Vec<(Family, u8)>,
}

impl Cidrs {
    pub(super) fn new<'a>(all: impl IntoIterator<Item = &'a IpNetwork>) -> Self {
        let sorted: Vec<IpNetwork> = all.into_iter().map(|net| first(net.ip(), net)).gather();
        let sorted = distinct(sorted);
        let lengths: Vec<_> = sorted.iter().map(|net| (net.family(), net.prefix())).gather();
        let lengths = distinct(lengths);
        Self { sorted, lengths }
    }

    /// The widest that has all of a network.
    pub(super) fn containing(&self, network: &IpNetwork) -> Option<IpNetwork> {
        let wider = self
            .lengths
            .iter()
            .filter(|(family, length)| *family == network.family() && *length <= network.prefix());
        wider.into_iter().find_map(|(_, length)| {
            let wanted = first(network.ip(), &IpNetwork::new(network.ip(), *length).ok()?);
            self.sorted.binary_search(&wanted).is_ok().then_some(wanted)
        })
    }

    /// Whether one of them has an address in common with a network.
    pub(super) fn overlap(&self, network: &IpNetwork) -> bool {
        self.containing(network).is_some() || self.within(network).next().is_some()
    }

    /// Those that lie in a network.
    pub(super) fn within<'a>(
        &'a self,
        network: &'a IpNetwork,
    ) -> impl Iterator<Item = &'a IpNetwork> {
        let wanted = first(network.ip(), network);
        let begin = self.sorted.partition_point(|net| *net < wanted);
        self.sorted
            .iter()
            .skip(begin)
            .take_while(|net| net.family() == network.family() && network.contains(net.ip()))
    }
}

/// The network of an address that is as long as another one, without host bits.
fn first(ip: IpAddr, of: &IpNetwork) -> IpNetwork {
    let network = IpNetwork::new(ip, of.prefix()).unwrap_or(*of);
    IpNetwork::new(network.network(), network.prefix()).unwrap_or(network)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network() -> impl Strategy<Value = IpNetwork> {
        let four = (any::<[u8; 2]>(), 0..=32u8)
            .prop_map(|([a, b], length)| IpNetwork::new([10, 0, a & 3, b].into(), length));
        let six = (any::<u8>(), 0..=128u8).prop_map(|(a, length)| {
            IpNetwork::new([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(a)].into(), length)
        });
        prop_oneof![four, six].prop_map(Result::unwrap)
    }

    fn has(one: &IpNetwork, other: &IpNetwork) -> bool {
        one.family() == other.family() && one.prefix() <= other.prefix() && one.contains(other.ip())
    }

    proptest! {
        #[test]
        fn each_question_is_answered_as_by_a_walk(
            all in proptest::collection::vec(network(), 0..12),
            asked in network(),
        ) {
            let cidrs = Cidrs::new(&all);
            let wide = all.iter().filter(|one| has(one, &asked)).map(IpNetwork::prefix).min();
            prop_assert_eq!(cidrs.containing(&asked).map(|net| net.prefix()), wide);
            let overlaps = all.iter().any(|one| has(one, &asked) || has(&asked, one));
            prop_assert_eq!(cidrs.overlap(&asked), overlaps);
            let mut within: Vec<_> = all.iter().filter(|one| has(&asked, one)).collect();
            within.sort_unstable_by_key(|net| first(net.ip(), net));
            within.dedup_by_key(|net| first(net.ip(), net));
            prop_assert_eq!(cidrs.within(&asked).count(), within.len());
        }
    }
}
