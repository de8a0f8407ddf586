//! What a class is allowed: for each peer the ports, in the form in which the table holds
//! it. Ranges of ports and networks may overlap in policies, and may not in the sets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Block, numbers::NETWORKS, sorted::include};
use crate::{
    family::HasFamily,
    nft::policy::{Grant, Way},
};

/// The peer that stands for anybody.
pub(super) const ANYBODY: u32 = 0;

/// Ports of one protocol, from one to another, which is included.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Span {
    pub(super) protocol: u8,
    pub(super) first: u16,
    pub(super) last: u16,
}

impl Span {
    /// All ports of all protocols, and what has no ports.
    pub(super) const ALL: Self = Self { protocol: 0, first: 0, last: 0 };
}

/// What is allowed of a peer.
pub(super) type Spans = Vec<Span>;

/// What a class is allowed, as it is gathered from rules.
#[derive(Default)]
pub(super) struct Gathered<'a> {
    /// Each with its peer.
    pub(super) peers: Vec<(u32, Span)>,
    pub(super) blocks: Vec<(&'a Block, Spans)>,
}

/// The same in the form of the table.
#[derive(Default, Hash)]
pub(super) struct Content {
    peers: Vec<(u32, Span)>,
    networks: Vec<(IpAddr, IpAddr, u32)>,
}

impl Gathered<'_> {
    pub(super) fn content(self) -> Content {
        let mut peers = self.peers;
        let anything = (ANYBODY, Span::ALL);
        if peers.contains(&anything) {
            return Content { peers: vec![anything], networks: Vec::new() };
        }
        let (networks, of_networks) = partition(&self.blocks);
        for (number, spans) in (NETWORKS..).zip(of_networks) {
            peers.extend(spans.into_iter().map(|span| (number, span)));
        }
        peers.sort_unstable();
        peers.dedup();
        let of_one = peers.chunk_by(|one, other| one.0 == other.0);
        Content { peers: of_one.flat_map(disjoint).collect(), networks }
    }
}

impl Content {
    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Puts it into a direction of the table, as what a class is allowed.
    pub(super) fn enter(&self, class: u32, way: &mut Way) {
        for (peer, span) in &self.peers {
            let grant = Grant { class, protocol: span.protocol, peer: *peer, port: span.first };
            way.grants.insert(grant, span.last);
        }
        for (first, last, number) in &self.networks {
            way.networks.insert((class, *first), (*last, *number));
        }
    }
}

/// What one peer is allowed, which is in order: ranges that neither overlap nor touch, and
/// single ports that are in none of them.
fn disjoint(spans: &[(u32, Span)]) -> Vec<(u32, Span)> {
    let Some((peer, _)) = spans.first() else { return Vec::new() };
    if spans.contains(&(*peer, Span::ALL)) {
        return vec![(*peer, Span::ALL)];
    }
    let mut ranges: Vec<(u32, Span)> = Vec::new();
    for (peer, span) in spans.iter().filter(|(_, span)| span.first < span.last) {
        match ranges.last_mut() {
            Some((_, open))
                if open.protocol == span.protocol && span.first <= open.last.saturating_add(1) =>
            {
                open.last = open.last.max(span.last);
            }
            _ => ranges.push((*peer, *span)),
        }
    }
    let is_in = |single: &Span| {
        ranges.iter().any(|(_, range)| {
            range.protocol == single.protocol && (range.first..=range.last).contains(&single.first)
        })
    };
    let single = spans.iter().filter(|(_, span)| span.first == span.last && !is_in(span));
    let single: Vec<(u32, Span)> = single.copied().collect();
    ranges.extend(single);
    ranges
}

/// Networks that do not overlap, each with the number of what is allowed there: the
/// place in the second list, counted from [`NETWORKS`] on.
fn partition(blocks: &[(&Block, Spans)]) -> (Vec<(IpAddr, IpAddr, u32)>, Vec<Spans>) {
    let mut starts = Vec::new();
    for (block, _) in blocks {
        for network in std::iter::once(&block.network).chain(&block.except) {
            include(&mut starts, network.network());
            if let Some(behind) = next(network.broadcast()) {
                include(&mut starts, behind);
            }
        }
    }
    let mut found: Vec<(IpAddr, IpAddr, u32)> = Vec::new();
    let mut kinds: Vec<Spans> = Vec::new();
    let mut behind = starts.iter().skip(1);
    for first in &starts {
        let end = behind.next().filter(|end| end.family() == first.family());
        let last = end.and_then(|end| previous(*end));
        let last = last.unwrap_or_else(|| first.family().everything().broadcast());
        let within = blocks.iter().filter(|(block, _)| block.contains(*first));
        let mut spans = Spans::new();
        for span in within.flat_map(|(_, spans)| spans) {
            include(&mut spans, *span);
        }
        if spans.is_empty() {
            continue;
        }
        let place = kinds.iter().position(|kind| *kind == spans).unwrap_or_else(|| {
            kinds.push(spans);
            kinds.len() - 1
        });
        let number = NETWORKS + place as u32;
        match found.last_mut() {
            Some((_, open, same)) if *same == number && next(*open) == Some(*first) => {
                *open = last;
            }
            _ => found.push((*first, last, number)),
        }
    }
    (found, kinds)
}

/// The address behind this one; none behind the last of a family.
fn next(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address).checked_add(1)?).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address).checked_add(1)?).into(),
    })
}

fn previous(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address).checked_sub(1)?).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address).checked_sub(1)?).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(protocol: u8, first: u16, last: u16) -> Span {
        Span { protocol, first, last }
    }

    #[test]
    fn ranges_of_ports_are_joined_and_single_ports_kept() {
        for (given, expected) in [
            (vec![(6, 80, 80), (6, 81, 81)], vec![(6, 80, 80), (6, 81, 81)]),
            (vec![(6, 80, 90), (6, 85, 85), (6, 91, 91)], vec![(6, 80, 90), (6, 91, 91)]),
            (vec![(6, 80, 90), (6, 85, 99), (6, 100, 101)], vec![(6, 80, 101)]),
            (vec![(6, 80, 90), (17, 85, 99)], vec![(6, 80, 90), (17, 85, 99)]),
            (vec![(6, 0, 65535), (6, 1, 2), (6, 9, 9)], vec![(6, 0, 65535)]),
            (vec![(0, 0, 0), (6, 1, 2), (6, 9, 9)], vec![(0, 0, 0)]),
        ] {
            let spans = |all: Vec<(u8, u16, u16)>| -> Vec<(u32, Span)> {
                let one = |(protocol, first, last)| (7, span(protocol, first, last));
                all.into_iter().map(one).collect()
            };
            let mut found = disjoint(&spans(given));
            found.sort_unstable();
            assert_eq!(found, spans(expected));
        }
    }

    #[test]
    fn networks_that_overlap_are_cut() {
        let block = |network: &str, except: &[&str]| Block {
            network: network.parse().unwrap(),
            except: except.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let (web, dns) = (vec![span(6, 80, 80)], vec![span(17, 53, 53)]);
        let all = block("0.0.0.0/0", &["10.0.0.0/8"]);
        let some = block("10.1.0.0/16", &["10.1.1.0/24"]);
        let more = block("10.1.0.0/16", &[]);
        let last = block("ff00::/8", &[]);
        let blocks =
            [(&all, web.clone()), (&some, web.clone()), (&more, dns.clone()), (&last, web.clone())];
        let (networks, kinds) = partition(&blocks);
        let told: Vec<String> = networks
            .iter()
            .map(|(first, last, number)| format!("{first}-{last} {}", number - NETWORKS))
            .collect();
        assert_eq!(
            told,
            [
                "0.0.0.0-9.255.255.255 0",
                "10.1.0.0-10.1.0.255 1",
                "10.1.1.0-10.1.1.255 2",
                "10.1.2.0-10.1.255.255 1",
                "11.0.0.0-255.255.255.255 0",
                "ff00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 0",
            ]
        );
        assert_eq!(kinds, [web.clone(), [web, dns.clone()].concat(), dns]);
    }
}
