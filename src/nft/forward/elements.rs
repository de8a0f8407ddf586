// SPDX-License-Identifier: Apache-2.0
//! The elements of sets and maps, as the kernel dumps them.

use super::{Pattern, address::beginning};
use crate::{
    family::Family,
    list::{Gather, Ordered, PushAll},
    netlink::attribute::{attributes, find, number, string},
    nft::abi::*,
};

/// Longest name of a device with its NUL (IFNAMSIZ).
pub(super) const NAME_BYTES_MAX: usize = 16;

/// A name ends with a NUL, unless it is the beginning of one.
pub(super) fn pattern(value: &[u8]) -> Pattern {
    Pattern { text: string(value), open: !value.contains(&0) }
}

/// One element of a set or a map.
pub(super) struct Member {
    key: Vec<u8>,
    /// It is the first that an interval does not hold.
    end: bool,
    pub(super) data: Vec<u8>,
}

/// The keys of a set with their data; `None` where they are ends of intervals.
pub(super) fn members(objects: &[Vec<u8>]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let all = all_members(objects);
    let plain = all.iter().all(|member| !member.end);
    plain.then(|| all.into_iter().map(|member| (member.key, member.data)).gather())
}

pub(super) fn all_members(objects: &[Vec<u8>]) -> Vec<Member> {
    let mut members = Vec::new();
    for object in objects {
        let list = find(object, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
        for (_, element) in attributes(list) {
            let key = find(element, NFTA_SET_ELEM_KEY).and_then(|key| find(key, NFTA_DATA_VALUE));
            let data = find(element, NFTA_SET_ELEM_DATA).unwrap_or_default().to_vec();
            let flags = find(element, NFTA_SET_ELEM_FLAGS).and_then(number).unwrap_or_default();
            let end = flags & NFT_SET_ELEM_INTERVAL_END != 0;
            members.push_all(key.map(|key| Member { key: key.to_vec(), end, data }));
        }
    }
    members
}

/// The names of a set with their data, which are intervals where one of them is the
/// beginning of a name; `None` where they are something else.
pub(super) fn named(objects: &[Vec<u8>]) -> Option<Vec<(Pattern, Vec<u8>)>> {
    let mut all = all_members(objects);
    if all.iter().any(|member| member.key.len() > NAME_BYTES_MAX) {
        return None;
    }
    if all.iter().all(|member| !member.end) {
        return Some(all.into_iter().map(|member| (pattern(&member.key), member.data)).gather());
    }
    // Where one interval ends another may begin.
    all.order_by(|one, other| (&one.key, !one.end).cmp(&(&other.key, !other.end)));
    let mut names = Vec::new();
    let mut members = all.into_iter().skip_while(|member| member.end);
    while let Some(first) = members.next() {
        let end = members.next().filter(|member| member.end)?;
        names.push((within(&first.key, &end.key)?, first.data));
    }
    Some(names)
}

/// The addresses of a set; `None` where they are something else.
pub(super) fn ranges(objects: &[Vec<u8>], family: Family) -> Option<Vec<(u128, u128)>> {
    let mut all = all_members(objects);
    let intervals = all.iter().any(|member| member.end);
    all.order_by(|one, other| (&one.key, !one.end).cmp(&(&other.key, !other.end)));
    let mut ranges = Vec::new();
    let mut members = all.into_iter().skip_while(|member| member.end);
    while let Some(first) = members.next() {
        let (from, to) = beginning(&first.key, family)?;
        if !intervals {
            // Keys of a part of an address stand for what begins with them.
            ranges.push((from, to));
            continue;
        }
        // One without an end goes on to the last address, and nothing is said of it.
        let end = members.next().filter(|member| member.end)?;
        ranges.push((from, beginning(&end.key, family)?.0.checked_sub(1)?));
    }
    Some(ranges)
}

/// An interval of names as one name, or as the beginning of some.
fn within(first: &[u8], end: &[u8]) -> Option<Pattern> {
    let text = string(first);
    let follows = |letters: usize| {
        let (head, rest) = first.split_at_checked(letters)?;
        let mut next = head.to_vec();
        *next.last_mut()? = next.last()?.checked_add(1)?;
        next.extend(rest);
        Some(next == end)
    };
    match (follows(first.len())?, follows(text.len())) {
        (true, _) => Some(Pattern { text, open: false }),
        (false, Some(true)) => Some(Pattern { text, open: true }),
        _ => None,
    }
}
