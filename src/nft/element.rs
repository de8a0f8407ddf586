// SPDX-License-Identifier: Apache-2.0
//! The elements of a set as the kernel has them, sent and read back. Does no I/O.

use std::collections::BTreeMap;

use super::abi::*;
use super::set::{Elements, Key, Ranges, Set, Value, Verdict};
use super::table::Table;
use crate::list::PushAll;
use crate::netlink::attribute::{Attribute, attributes, find, number, string};

/// What a set holds that keeps ranges in order: where one begins or ends.
type Bounds = BTreeMap<(Vec<u8>, Begins), Option<Value>>;

/// Where one range ends another may begin.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Begins {
    No,
    Yes,
}

impl Set {
    /// An element as it is sent, in one piece or as the two ends of a range.
    pub(super) fn element(&self, key: &Key, value: Option<&Value>) -> Vec<Attribute> {
        let last = key.last.as_ref();
        let mut parts = vec![bytes(NFTA_SET_ELEM_KEY, &key.first)];
        if self.ranges == Ranges::Each {
            parts.push_all(last.map(|last| bytes(NFTA_SET_ELEM_KEY_END, last)));
        }
        parts.push_all(value.map(|value| Attribute::nest(NFTA_SET_ELEM_DATA, [value.attribute()])));
        let mut elements = vec![Attribute::nest(NFTA_LIST_ELEM, parts)];
        if self.ranges == Ranges::Last
            && let Some(behind) = next(last.unwrap_or(&key.first))
        {
            let flags = Attribute::number(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            let end = [flags, bytes(NFTA_SET_ELEM_KEY, &behind)];
            elements.push(Attribute::nest(NFTA_LIST_ELEM, end));
        }
        elements
    }

    /// A single key for so many seconds, whatever is usual in the set.
    pub(super) fn passing(key: &Key, seconds: u32) -> Attribute {
        let milliseconds = u64::from(seconds) * 1000;
        let time = Attribute::bytes(NFTA_SET_ELEM_TIMEOUT, milliseconds.to_be_bytes());
        Attribute::nest(NFTA_LIST_ELEM, [bytes(NFTA_SET_ELEM_KEY, &key.first), time])
    }

    /// What the kernel's dump of the set's elements says. A verdict that leads to a chain
    /// that `table` has not is none of ours, and neither is its element.
    pub(super) fn held(&self, table: &Table, objects: &[Vec<u8>]) -> Elements {
        let mut held = Elements::new();
        let mut bounds = Bounds::new();
        for object in objects {
            let list = find(object, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
            for (_, element) in attributes(list) {
                let key = |kind| find(find(element, kind)?, NFTA_DATA_VALUE).map(<[u8]>::to_vec);
                let Some(first) = key(NFTA_SET_ELEM_KEY) else { continue };
                let data = find(element, NFTA_SET_ELEM_DATA);
                let value = data.map(|data| Value::read(table, data).unwrap_or(Value::FOREIGN));
                let flags = find(element, NFTA_SET_ELEM_FLAGS).and_then(number).unwrap_or_default();
                if self.ranges == Ranges::Last {
                    let ends = flags & NFT_SET_ELEM_INTERVAL_END != 0;
                    let begins = if ends { Begins::No } else { Begins::Yes };
                    bounds.insert((first, begins), value);
                } else {
                    let last = key(NFTA_SET_ELEM_KEY_END).unwrap_or_else(|| first.clone());
                    held.insert(Key::between(first, last), value);
                }
            }
        }
        held.extend(ranges(bounds));
        held
    }
}

/// Where each begins and ends; one without an end goes on to the last key.
fn ranges(bounds: Bounds) -> Elements {
    let mut found = Elements::new();
    let mut bounds = bounds.into_iter().peekable();
    while let Some(((first, begins), value)) = bounds.next() {
        if begins == Begins::No {
            continue;
        }
        let end = bounds.next_if(|((_, begins), _)| *begins == Begins::No);
        let last = end.and_then(|((behind, _), _)| previous(&behind));
        let last = last.unwrap_or_else(|| vec![u8::MAX; first.len()]);
        found.insert(Key::between(first, last), value);
    }
    found
}

impl Value {
    /// What no description says.
    const FOREIGN: Self = Self::Verdict(Verdict::Goto("a chain of others"));

    fn attribute(&self) -> Attribute {
        match self {
            Self::Number(number) => Attribute::bytes(NFTA_DATA_VALUE, number.to_be_bytes()),
            Self::Verdict(verdict) => verdict.attribute(),
        }
    }

    fn read(table: &Table, data: &[u8]) -> Option<Self> {
        if let Some(value) = find(data, NFTA_DATA_VALUE) {
            return Some(Self::Number(u64::from_be_bytes(value.try_into().ok()?)));
        }
        let verdict = find(data, NFTA_DATA_VERDICT)?;
        let code = find(verdict, NFTA_VERDICT_CODE).and_then(number)?;
        let named = find(verdict, NFTA_VERDICT_CHAIN).map(string).unwrap_or_default();
        let chain = || table.chains.iter().map(|chain| chain.name).find(|name| *name == named);
        Some(Self::Verdict(match code.cast_signed() {
            0 => Verdict::Drop,
            1 => Verdict::Accept,
            NFT_RETURN => Verdict::Return,
            NFT_JUMP => Verdict::Jump(chain()?),
            NFT_GOTO => Verdict::Goto(chain()?),
            _ => return None,
        }))
    }
}

impl Verdict {
    /// As a datum, of an element or of a rule.
    pub(super) fn attribute(&self) -> Attribute {
        let (code, chain) = match self {
            Self::Accept => (NF_ACCEPT.cast_signed(), None),
            Self::Drop => (NF_DROP.cast_signed(), None),
            Self::Return => (NFT_RETURN, None),
            Self::Jump(chain) => (NFT_JUMP, Some(chain)),
            Self::Goto(chain) => (NFT_GOTO, Some(chain)),
        };
        let mut parts = vec![Attribute::bytes(NFTA_VERDICT_CODE, code.to_be_bytes())];
        parts.push_all(chain.map(|chain| Attribute::string(NFTA_VERDICT_CHAIN, chain)));
        Attribute::nest(NFTA_DATA_VERDICT, parts)
    }
}

fn bytes(kind: u16, value: &[u8]) -> Attribute {
    Attribute::nest(kind, [Attribute::bytes(NFTA_DATA_VALUE, value)])
}

/// The key behind this one; none behind the last.
fn next(key: &[u8]) -> Option<Vec<u8>> {
    stepped(key, u8::MAX, |byte| byte.wrapping_add(1))
}

fn previous(key: &[u8]) -> Option<Vec<u8>> {
    stepped(key, 0, |byte| byte.wrapping_sub(1))
}

/// Steps from the last byte on, and on to the one before where that was `at_end`.
fn stepped(key: &[u8], at_end: u8, step: impl Fn(u8) -> u8) -> Option<Vec<u8>> {
    let mut key = key.to_vec();
    for byte in key.iter_mut().rev() {
        let carry = *byte == at_end;
        *byte = step(*byte);
        if !carry {
            return Some(key);
        }
    }
    None
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests;
