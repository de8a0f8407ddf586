// SPDX-License-Identifier: Apache-2.0
//! Sets and maps as data: what their keys consist of, what these lead to, and what is
//! held. Does no I/O; [`element`](super::element) has the kernel's form of what is held.

#![allow(missing_docs, reason = "names that a comment would only repeat")]

use std::{collections::BTreeMap, fmt, net::IpAddr};

use super::abi::*;
use super::constant::Constant;
use crate::family::Family;
use crate::list::{Gather, PushAll};

/// `IFNAMSIZ`: how long an interface name is in a key.
pub(super) const IFNAME_BYTES: usize = 16;
/// What a key has at most: `NFT_DATA_VALUE_MAXLEN`.
const KEY_BYTES: usize = 64;
/// What each part of a key is padded to.
const REGISTER_BYTES: usize = 4;
/// libnftables' `TYPE_INTEGER`.
pub(super) const TYPE_INTEGER: u32 = 4;
/// libnftables shifts the types of a concatenation by its `TYPE_BITS`.
const TYPE_BITS: u32 = 6;
/// Byte orders as nft notes them (`enum byteorder` of libnftables).
const OF_PARTS: u32 = 0;
const OF_HOST: u32 = 1;
pub(super) const OF_NETWORK: u32 = 2;

/// A set that rules ask, or with data a map.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Set {
    pub name: &'static str,
    /// The parts of a key, in their order.
    pub key: Vec<Type>,
    /// What keys lead to, of a map.
    pub data: Option<Data>,
    pub ranges: Ranges,
    pub content: Content,
}

/// What a part of a key is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Type {
    Address(Family),
    /// The name of a link.
    Name,
    /// An interface group.
    Group,
    /// A number of a protocol within IP.
    Protocol,
    /// A port of TCP, UDP or SCTP.
    Port,
    /// A packet's mark.
    Mark,
    /// A number that only our own tables know.
    Number,
}

/// What a key leads to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Data {
    Verdict,
    /// A number of 8 bytes, of which rules use the lower half as a part of a key.
    Number,
}

/// Which parts of a key may be ranges.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ranges {
    None,
    /// The last: the kernel keeps ranges of whole keys, in order (rbtree). They must not
    /// overlap.
    Last,
    /// Each by itself (pipapo). Slower to ask and much slower to change.
    Each,
}

/// So many elements that pass a set has at most: each takes some 120 bytes of the kernel's memory,
/// and what makes them may be others' packets.
pub(super) const PASSING_MAX: u32 = 1 << 16;

/// What a set holds, and who may change it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Networks that never change while the table is there.
    Constant(Constant),
    /// What follows the description: elements come and go one by one.
    Following(Elements),
    /// The same, and the kernel counts for each element the packets that are found by it.
    Counted(Elements),
    /// What others add, which stays when the table is made anew.
    Open,
    /// What is added meanwhile, each element for so many seconds.
    Passing(u32),
}

/// Keys with what they lead to. To collect them, which sorts them first, would take the code
/// of a sort: they are put in one by one.
pub type Elements = BTreeMap<Key, Option<Value>>;

/// A key, or all keys from one to another.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    pub(super) first: Vec<u8>,
    /// Included; `None` for a single key.
    pub(super) last: Option<Vec<u8>>,
}

/// A part of a key as a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Field<'a> {
    Address(IpAddr),
    Name(&'a str),
    Group(u32),
    Protocol(u8),
    Port(u16),
    Mark(u32),
    Number(u32),
}

/// What one key leads to.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Value {
    Verdict(Verdict),
    Number(u64),
}

/// What becomes of a packet.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(&'static str),
    Goto(&'static str),
}

impl Set {
    /// `flags` as the kernel has them.
    pub(super) fn flags(&self) -> u32 {
        let constant = matches!(self.content, Content::Constant(_));
        let ranges = match self.ranges {
            Ranges::None => 0,
            Ranges::Last => NFT_SET_INTERVAL,
            Ranges::Each => NFT_SET_INTERVAL | NFT_SET_CONCAT,
        };
        let flag = |holds, flag| if holds { flag } else { 0 };
        let passing = matches!(self.content, Content::Passing(_));
        let kind = flag(constant, NFT_SET_CONSTANT) | flag(passing, NFT_SET_TIMEOUT);
        kind | ranges | flag(self.data.is_some(), NFT_SET_MAP)
    }

    /// libnftables' number for the key, and its length. Of ranges of whole keys of
    /// several parts it knows no more than that they are numbers. As one of several parts
    /// it knows no numbers (nft 1.0.6 aborts), so ours are told as addresses: 7 is 0.0.0.7.
    pub(super) fn kind(&self) -> (u32, usize) {
        let bytes = match self.key.as_slice() {
            [single] => single.bytes(),
            parts => parts.iter().map(|part| part.padded()).sum(),
        };
        let number = match (self.key.as_slice(), self.ranges) {
            ([_, _, ..], Ranges::Last) | ([Type::Number], _) => TYPE_INTEGER,
            (parts, _) => parts.iter().fold(0, |all, part| all << TYPE_BITS | part.number()),
        };
        (number, bytes)
    }

    /// The byte order of a key, as nft notes it.
    pub(super) fn byte_order(&self) -> u32 {
        match (self.key.as_slice(), self.ranges) {
            ([single], _) => single.byte_order(),
            (_, Ranges::Last) => OF_NETWORK,
            _ => OF_PARTS,
        }
    }

    /// A key as people read it.
    pub(super) fn text(&self, key: &Key) -> String {
        let first = self.parts(&key.first);
        let Some(last) = key.last.as_ref().map(|last| self.parts(last)) else {
            return first.join(" . ");
        };
        if self.ranges == Ranges::Last {
            return format!("{} - {}", first.join(" . "), last.join(" . "));
        }
        let range = |(first, last): (String, String)| match first == last {
            true => first,
            false => format!("{first}-{last}"),
        };
        first.into_iter().zip(last).map(range).gather().join(" . ")
    }

    /// The parts of a key's bytes.
    fn parts(&self, bytes: &[u8]) -> Vec<String> {
        let mut rest = bytes;
        let part = |part: &Type| {
            let length = if self.key.len() == 1 { part.bytes() } else { part.padded() };
            let (own, others) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = others;
            part.text(own)
        };
        self.key.iter().map(part).gather()
    }

    /// An element as people read it.
    pub(super) fn element_text(&self, key: &Key, value: Option<&Value>) -> String {
        let value = value.map(|value| format!(" : {value}")).unwrap_or_default();
        self.text(key) + &value
    }

    pub(super) fn render(&self) -> String {
        let words: Vec<&str> = self.key.iter().map(|part| part.word()).gather();
        let data = match self.data {
            None => "",
            Some(Data::Verdict) => " : verdict",
            Some(Data::Number) => " : integer",
        };
        let elements: Vec<String> = match &self.content {
            Content::Constant(constant) => constant.intervals.texts().gather(),
            Content::Following(elements) | Content::Counted(elements) => {
                elements.iter().map(|(key, value)| self.element_text(key, value.as_ref())).gather()
            }
            Content::Open | Content::Passing(_) => Vec::new(),
        };
        let noun = if self.data.is_some() { "map" } else { "set" };
        let mut text =
            format!("\n\t{noun} {} {{\n\t\ttype {}{data}\n", self.name, words.join(" . "));
        if let Content::Passing(seconds) = self.content {
            text += &format!("\t\tsize {PASSING_MAX}\n\t\ttimeout {seconds}s\n");
        }
        if let Content::Counted(_) = self.content {
            text += "\t\tcounter\n";
        }
        match (&self.content, self.ranges) {
            (Content::Constant(_), _) => text += "\t\tflags constant, interval\n",
            (_, Ranges::None) => {}
            _ => text += "\t\tflags interval\n",
        }
        if !elements.is_empty() {
            text += &format!("\t\telements = {{ {} }}\n", elements.join(",\n\t\t\t     "));
        }
        text + "\t}\n"
    }
}

impl Content {
    /// What follows the description.
    pub(super) fn following(&self) -> Option<&Elements> {
        match self {
            Self::Following(elements) | Self::Counted(elements) => Some(elements),
            Self::Constant(_) | Self::Open | Self::Passing(_) => None,
        }
    }
}

impl Type {
    /// libnftables' number (`enum datatypes`).
    fn number(self) -> u32 {
        match self {
            Self::Address(Family::V4) | Self::Number => 7,
            Self::Address(Family::V6) => 8,
            Self::Name => 41,
            Self::Group => 35,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Mark => 19,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Address(Family::V4) => "ipv4_addr",
            Self::Address(Family::V6) => "ipv6_addr",
            Self::Name => "ifname",
            Self::Group => "devgroup",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
            Self::Mark => "mark",
            Self::Number => "integer",
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Address(family) => usize::from(family.bytes()),
            Self::Name => IFNAME_BYTES,
            Self::Group | Self::Mark | Self::Number => 4,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// As a part of several.
    pub(super) fn padded(self) -> usize {
        self.bytes().next_multiple_of(REGISTER_BYTES)
    }

    fn byte_order(self) -> u32 {
        match self {
            Self::Address(_) | Self::Protocol | Self::Port | Self::Number => OF_NETWORK,
            Self::Name | Self::Group | Self::Mark => OF_HOST,
        }
    }

    /// A value as people read it.
    fn text(self, bytes: &[u8]) -> String {
        let text = || {
            let number = || bytes.get(..4)?.try_into().ok();
            Some(match self {
                Self::Address(Family::V4) => {
                    IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()
                }
                Self::Address(Family::V6) => {
                    IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()
                }
                Self::Name => {
                    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                    format!("{:?}", String::from_utf8_lossy(name))
                }
                Self::Group | Self::Mark => u32::from_ne_bytes(number()?).to_string(),
                Self::Protocol => bytes.first()?.to_string(),
                Self::Port => u16::from_be_bytes(bytes.get(..2)?.try_into().ok()?).to_string(),
                Self::Number => u32::from_be_bytes(number()?).to_string(),
            })
        };
        text().unwrap_or_else(|| format!("{bytes:?}"))
    }
}

impl Field<'_> {
    pub(super) fn bytes(self) -> Vec<u8> {
        joined(&[self])
    }

    fn emit(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Address(IpAddr::V4(address)) => bytes.push_all(address.octets()),
            Self::Address(IpAddr::V6(address)) => bytes.push_all(address.octets()),
            Self::Name(name) => {
                bytes.extend(name.as_bytes());
                bytes.resize(bytes.len() - name.len() + IFNAME_BYTES, 0);
            }
            Self::Group(number) | Self::Mark(number) => bytes.push_all(number.to_ne_bytes()),
            Self::Protocol(number) => bytes.push(number),
            Self::Port(number) => bytes.push_all(number.to_be_bytes()),
            Self::Number(number) => bytes.push_all(number.to_be_bytes()),
        }
    }
}

impl Key {
    /// The key of these parts.
    pub fn of(fields: &[Field<'_>]) -> Self {
        Self { first: joined(fields), last: None }
    }

    /// All from one to another, which is included.
    pub fn range(first: &[Field<'_>], last: &[Field<'_>]) -> Self {
        Self::between(joined(first), joined(last))
    }

    pub(super) fn between(first: Vec<u8>, last: Vec<u8>) -> Self {
        let last = (last != first).then_some(last);
        Self { first, last }
    }
}

/// The bytes of a key: parts of several are padded.
fn joined(fields: &[Field<'_>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(KEY_BYTES);
    join(fields, &mut bytes);
    bytes.shrink_to_fit();
    bytes
}

/// The same, in place of what is there.
pub(super) fn join(fields: &[Field<'_>], bytes: &mut Vec<u8>) {
    bytes.clear();
    for field in fields {
        field.emit(bytes);
        if fields.len() > 1 {
            bytes.resize(bytes.len().next_multiple_of(REGISTER_BYTES), 0);
        }
    }
}

/// What takes away and what adds, so that `held` becomes `wanted`.
pub(super) fn changes<'a>(
    held: &'a Elements,
    wanted: &'a Elements,
) -> (Vec<&'a Key>, Vec<(&'a Key, Option<&'a Value>)>) {
    let gone = held.iter().filter(|(key, value)| wanted.get(*key) != Some(*value));
    let new = wanted.iter().filter(|(key, value)| held.get(*key) != Some(*value));
    (gone.map(|(key, _)| key).gather(), new.map(|(key, value)| (key, value.as_ref())).gather())
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}
