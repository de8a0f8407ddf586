// SPDX-License-Identifier: Apache-2.0
//! What a class is allowed: for each peer the ports, in the form in which the table holds
//! it. Ranges of ports and networks may overlap in policies, and may not in the sets.

use std::{
    mem::take,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{Block, numbers::NETWORKS};
use crate::{
    family::HasFamily,
    list::{Gather, Ordered, PushAll, Sorted},
    nft::policy::{Grant, Way},
};

/// The peer that stands for anybody.
pub(super) const ANYBODY: u32 = 0;
/// `new` is merged once it is this much longer than `peers`.
const NEW_MAX: usize = 64;

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
    /// Up to which port, as in the table, but for the class.
    peers: Sorted<Grant, u16>,
    /// Grants that are not merged yet, and may be there twice: many rules may say the same.
    new: Vec<(Grant, u16)>,
    pub(super) blocks: Vec<(&'a Block, Spans)>,
}

/// The same in the form of the table.
#[derive(Default, Hash)]
pub(super) struct Content {
    peers: Sorted<Grant, u16>,
    networks: Vec<(IpAddr, IpAddr, u32)>,
}

impl Gathered<'_> {
    pub(super) fn allow(&mut self, peer: u32, span: Span) {
        let grant = Grant { class: 0, protocol: span.protocol, peer, port: span.first };
        match self.peers.get_mut(&grant) {
            // Of spans with one beginning the longest has the others in it.
            Some(last) => *last = span.last.max(*last),
            None => self.new.push((grant, span.last)),
        }
        if self.new.len() > self.peers.len() + NEW_MAX {
            self.merge();
        }
    }

    fn merge(&mut self) {
        let mut all = take(&mut self.peers).into_iter().gather();
        all.append(&mut self.new);
        self.peers = Sorted::of(all, &|held, last| *held = last.max(*held));
    }

    pub(super) fn content(mut self) -> Content {
        let (networks, of_networks) = partition(&self.blocks);
        for (number, spans) in (NETWORKS..).zip(of_networks) {
            spans.into_iter().for_each(|span| self.allow(number, span));
        }
        self.merge();
        let peers = disjoint(&self.peers);
        let is_open = peers.has(&all_of(ANYBODY));
        Content { peers, networks: if is_open { Vec::new() } else { networks } }
    }
}

impl Content {
    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Puts it into a direction of the table, as what a class is allowed.
    pub(super) fn enter(&self, class: u32, way: &mut Way) {
        for (grant, last) in &self.peers {
            way.grants.insert(Grant { class, ..*grant }, *last);
        }
        for (first, last, number) in &self.networks {
            way.networks.insert((class, *first), (*last, *number));
        }
    }
}

/// All ports of a peer, without a class.
fn all_of(peer: u32) -> Grant {
    Grant { class: 0, protocol: Span::ALL.protocol, peer, port: Span::ALL.first }
}

/// For each peer ranges that neither overlap nor touch, and single ports that are in none of
/// them; where all is allowed, nothing else.
fn disjoint(all: &Sorted<Grant, u16>) -> Sorted<Grant, u16> {
    let mut found = Sorted::default();
    let anything = all_of(ANYBODY);
    if all.has(&anything) {
        found.insert(anything, Span::ALL.last);
        return found;
    }
    let is_one = |grant: &Grant, of: &Grant| Grant { port: of.port, ..*grant } == *of;
    let is_more = |grant: &Grant| {
        let whole = all_of(grant.peer);
        *grant == whole || !all.has(&whole)
    };
    let ranges = all.iter().filter(|(grant, last)| grant.port < **last && is_more(grant));
    for (grant, last) in ranges {
        let before = found.last().copied();
        match before {
            Some((before, end))
                if is_one(&before, grant) && grant.port <= end.saturating_add(1) =>
            {
                found.insert(before, end.max(*last));
            }
            _ => {
                found.insert(*grant, *last);
            }
        }
    }
    let single = all.iter().filter(|(grant, last)| grant.port == **last && is_more(grant));
    let is_within = |grant: &Grant| {
        let before = found.up_to(grant);
        before.is_some_and(|(before, end)| is_one(before, grant) && grant.port <= *end)
    };
    let single = single.filter(|(grant, _)| !is_within(grant));
    let single = single.map(|(grant, last)| (*grant, *last)).gather();
    found.extend(single);
    found
}

/// Networks that do not overlap, each with the number of what is allowed there: the
/// place in the second list, counted from [`NETWORKS`] on. Goes once through all places at
/// which a block begins or ends, and knows at each what is allowed by those that are open.
fn partition(blocks: &[(&Block, Spans)]) -> (Vec<(IpAddr, IpAddr, u32)>, Vec<Spans>) {
    let mut edges = Vec::new();
    for (place, (block, _)) in blocks.iter().enumerate() {
        for (first, last) in parts(block) {
            edges.push((first, place));
            edges.push_all(next(last).map(|behind| (behind, place | ENDS)));
        }
    }
    let mut found: Vec<(IpAddr, IpAddr, u32)> = Vec::new();
    let (mut kinds, mut known) = (Vec::<Spans>::new(), Vec::<(Spans, u32)>::new());
    // What is allowed, and by how many of those that are open.
    let mut open: Vec<(Span, usize)> = Vec::new();
    edges.order_by_key(|(at, _)| *at);
    let mut places = edges.chunk_by(|(one, _), (other, _)| one == other).peekable();
    let mut before = None;
    while let Some(edges) = places.next() {
        let Some((first, _)) = edges.first().copied() else { continue };
        // The last address of a family has none behind it at which a block would end.
        if before.replace(first.family()).is_some_and(|family| family != first.family()) {
            open.clear();
        }
        for (_, edge) in edges {
            let spans = blocks.get(edge & !ENDS).map_or(&[][..], |(_, spans)| spans);
            spans.iter().for_each(|span| count(&mut open, *span, edge & ENDS == 0));
        }
        if open.is_empty() {
            continue;
        }
        let end = places.peek().and_then(|edges| edges.first()).map(|(end, _)| *end);
        let last = end.filter(|end| end.family() == first.family()).and_then(previous);
        let last = last.unwrap_or_else(|| first.family().everything().broadcast());
        let spans: Spans = open.iter().map(|(span, _)| *span).gather();
        let number = match known.binary_search_by(|(known, _)| known.cmp(&spans)) {
            Ok(at) => known.get(at).map_or(NETWORKS, |(_, number)| *number),
            Err(at) => {
                let number = NETWORKS + kinds.len() as u32;
                kinds.push(spans.clone());
                known.insert(at, (spans, number));
                number
            }
        };
        match found.last_mut() {
            Some((_, open, same)) if *same == number && next(*open) == Some(first) => {
                *open = last;
            }
            _ => found.push((first, last, number)),
        }
    }
    (found, kinds)
}

/// Marks the place of a block that ends there.
const ENDS: usize = 1 << (usize::BITS - 1);

/// What a block means, from one address to another, which is included.
fn parts(block: &Block) -> Vec<(IpAddr, IpAddr)> {
    let (first, last) = (block.network.network(), block.network.broadcast());
    let holes = block.except.iter().map(|hole| (hole.network(), hole.broadcast()));
    let is_within = |hole: &(IpAddr, IpAddr)| {
        hole.0.family() == first.family() && hole.0 <= last && hole.1 >= first
    };
    let mut holes = holes.filter(is_within).gather();
    holes.order_by_key(|(hole, _)| *hole);
    let (mut parts, mut begin) = (Vec::new(), Some(first));
    for (hole, end) in holes {
        let Some(start) = begin else { break };
        if hole > start {
            parts.push_all(previous(hole).map(|last| (start, last)));
        }
        if end >= start {
            begin = next(end);
        }
    }
    parts.push_all(begin.filter(|begin| *begin <= last).map(|begin| (begin, last)));
    parts
}

/// Counts one more that allows it, or one less.
fn count(open: &mut Vec<(Span, usize)>, span: Span, begins: bool) {
    match (open.binary_search_by_key(&span, |(span, _)| *span), begins) {
        (Err(at), true) => open.insert(at, (span, 1)),
        (Err(_), false) => {}
        (Ok(at), _) => {
            let Some((_, count)) = open.get_mut(at) else { return };
            *count = if begins { *count + 1 } else { *count - 1 };
            if *count == 0 {
                open.remove(at);
            }
        }
    }
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
    use ipnetwork::IpNetwork;
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::list::include;

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
            let mut gathered = Gathered::default();
            let spans = |all: Vec<(u8, u16, u16)>| -> Vec<Span> {
                all.into_iter().map(|(protocol, first, last)| span(protocol, first, last)).collect()
            };
            // Another peer's are its own.
            gathered.allow(6, span(6, 81, 99));
            spans(given).into_iter().for_each(|span| gathered.allow(7, span));
            gathered.allow(8, span(6, 80, 99));
            let content = gathered.content();
            let own = content.peers.iter().filter(|(grant, _)| grant.peer == 7);
            let found = own.map(|(grant, last)| span(grant.protocol, grant.port, *last));
            assert_eq!(found.collect::<Vec<_>>(), spans(expected));
            assert_eq!(
                content.peers.len(),
                2 + content.peers.keys().filter(|it| it.peer == 7).count()
            );
        }
        let mut gathered = Gathered::default();
        gathered.allow(7, span(6, 80, 80));
        gathered.allow(ANYBODY, Span::ALL);
        assert_eq!(gathered.content().peers, [(all_of(ANYBODY), 0)].into());
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

    /// The same in the plainest way: each block is asked at each place.
    fn plain(blocks: &[(&Block, Spans)]) -> (Vec<(IpAddr, IpAddr, u32)>, Vec<Spans>) {
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

    /// Networks that begin and end at the same places, in both families, their ends included.
    fn network() -> impl Strategy<Value = IpNetwork> {
        let v4 = (select(vec![0u32, 0x0a00_0000, 0xffff_ff00]), 0u32..16, 0u8..=32);
        let v4 = v4.prop_map(|(base, last, length)| {
            let address = Ipv4Addr::from(base | last << 4 | last);
            IpNetwork::new(address.into(), if length < 20 { length % 3 } else { length }).unwrap()
        });
        let v6 = (select(vec![0u128, 0xfd00 << 112, u128::MAX - 15]), 0u128..16, 0u8..=128);
        let v6 = v6.prop_map(|(base, last, length)| {
            let address = Ipv6Addr::from(base | last);
            IpNetwork::new(address.into(), if length < 120 { length % 3 } else { length }).unwrap()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn networks_are_cut_as_in_the_plainest_way(
            given in vec((network(), vec(network(), 0..5), vec((0..3u8, 80..83u16), 0..3)), 0..12)
        ) {
            let given: Vec<(Block, Spans)> = given
                .into_iter()
                .map(|(network, except, spans)| {
                    let spans = spans.into_iter().map(|(protocol, port)| span(protocol, port, port));
                    (Block { network, except }, spans.collect())
                })
                .collect();
            let blocks: Vec<(&Block, Spans)> =
                given.iter().map(|(block, spans)| (block, spans.clone())).collect();
            prop_assert_eq!(partition(&blocks), plain(&blocks));
        }
    }
}
