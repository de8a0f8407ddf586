// SPDX-License-Identifier: Apache-2.0
//! Addresses and attachments of this node's networks, counted when somebody asks.

use std::{collections::BTreeMap, fmt, path::Path};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{
    family::{Family, HasFamily},
    list::Gather,
    node::configured::{Configured, Networks},
    state::{Journal, Root, journal},
    verb::{self, Stock},
};

/// Reads leases and journal, and changes nothing.
#[derive(Debug)]
pub(super) struct Stocks {
    pub(super) root: Root,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct Addresses {
    network: String,
    family: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct Network {
    network: String,
}

/// How many addresses of a family are used, and how many there are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Use {
    used: usize,
    all: u128,
}

fn uses(stock: &Stock) -> BTreeMap<&'static str, Use> {
    let mut uses: BTreeMap<&'static str, Use> = BTreeMap::new();
    for range in stock.sets.iter().flat_map(|set| set.ranges()) {
        let of_family = uses.entry(word(range.subnet().family())).or_default();
        let leased = stock.leases.iter().filter(|lease| range.contains(lease.address));
        of_family.used += leased.count();
        of_family.all = of_family.all.saturating_add(range.size());
    }
    uses
}

fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

/// A store whose place is not there at all is hidden from this process, which says
/// nothing of what is in it.
fn is_seen(directory: &Path) -> bool {
    directory.is_dir() || directory.parent().is_some_and(Path::is_dir)
}

impl Stocks {
    fn addresses(&self, network: &Configured) -> Vec<(Addresses, f64)> {
        let mut document = network.document.clone();
        let stock = verb::stock(&self.root, &mut document, &network.config);
        let Some(stock) = stock.ok().filter(|stock| is_seen(&stock.directory)) else {
            return Vec::new();
        };
        let samples = uses(&stock).into_iter().flat_map(|(family, Use { used, all })| {
            let free = all.saturating_sub(used as u128) as f64;
            [("used", used as f64), ("free", free)].map(|(state, count)| {
                (Addresses { network: network.name().to_owned(), family, state }, count)
            })
        });
        samples.gather()
    }

    fn attachments(&self) -> Vec<(Network, f64)> {
        let networks = journal::networks(&self.root).into_iter();
        let counts = networks.map(|network| {
            let count = Journal::new(&self.root, &network).entries().len();
            (Network { network }, count as f64)
        });
        counts.gather()
    }
}

impl Collector for Stocks {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let networks = Networks::read(&self.root, None).map(|networks| networks.all);
        let networks = networks.unwrap_or_default();
        let addresses = networks.iter().flat_map(|network| self.addresses(network)).gather();
        let help = "Addresses of the node's networks: leased, and not leased";
        write(&mut encoder, "manx_ipam_addresses", help, addresses)?;
        let help = "Attachments of pods on this node";
        write(&mut encoder, "manx_attachments", help, self.attachments())
    }
}

fn write<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &'static str,
    help: &'static str,
    samples: Vec<(L, f64)>,
) -> fmt::Result {
    if samples.is_empty() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::{Lease, Owner, Range, RangeSet};

    #[test]
    fn addresses_are_counted_by_family() {
        let set = |subnet: &str| {
            let range = Range::new(subnet.parse().unwrap(), None, None, None).unwrap();
            RangeSet::new(vec![range]).unwrap()
        };
        let lease = |address: &str| Lease {
            address: address.parse().unwrap(),
            owner: Owner::new("c", "eth0"),
        };
        let stock = Stock {
            directory: "/nonexistent".into(),
            sets: vec![set("10.244.1.0/29"), set("10.244.2.0/29"), set("fd00:1::/64")],
            leases: ["10.244.1.2", "10.244.2.3", "10.9.9.9"].map(lease).to_vec(),
            shared: false,
        };
        let uses = uses(&stock);
        assert_eq!((uses["ipv4"].used, uses["ipv6"].used), (2, 0));
        assert!(uses["ipv4"].all < 16 && uses["ipv6"].all > 1 << 63, "{uses:?}");
    }

    #[test]
    fn a_store_that_is_hidden_is_not_empty() {
        assert!(is_seen(Path::new("/tmp/not-there-yet")));
        assert!(!is_seen(Path::new("/nonexistent/networks/manx")));
    }
}
