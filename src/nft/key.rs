// SPDX-License-Identifier: Apache-2.0
//! How a rule puts a key together: each part goes to registers of its own, one behind
//! the other, and a set is asked for all of them.
//!
//! A part may be the number that a map has for something else of the packet. The kernel
//! writes all 8 bytes of it, of which the key needs the lower half, so it is written to
//! begin one register earlier, and what belongs there is loaded afterwards. nft (1.0.6)
//! aborts over a key with a part that a map wrote and nothing else; so where the number
//! goes a few bytes of the packet are loaded first, and nft lists those. What the rule
//! really asks stands in its comment.

#![allow(missing_docs, reason = "names that a comment would only repeat")]

use super::abi::*;
use super::primitive::{expression, immediate, meta, payload, place};
use super::set::Field;
use super::side::Side;
use crate::family::Family;
use crate::list::Gather;
use crate::netlink::attribute::Attribute;

/// One part of a key.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Part {
    /// Something of the packet.
    Of(Load),
    /// What a map has for that. The rule ends where it has nothing.
    Mapped(Vec<Part>, &'static str),
    /// The same number for all packets.
    Number(u32),
}

/// What a packet is asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Load {
    /// The name of the link that it came in by.
    IncomingName,
    /// The interface group of that link.
    IncomingGroup,
    Address(Side, Family),
    Protocol,
    /// Of TCP, UDP and SCTP, in whose headers they stand in the same place.
    Port(Side),
    Mark,
}

/// Registers of 4 bytes.
const REGISTER_BYTES: usize = 4;

impl Part {
    /// How many registers it takes.
    fn registers(&self) -> u32 {
        match self {
            Self::Of(load) => load.bytes().div_ceil(REGISTER_BYTES as u32),
            Self::Mapped(..) | Self::Number(_) => 1,
        }
    }

    /// The first thing of the packet that it is about.
    fn load(&self) -> Option<Load> {
        match self {
            Self::Of(load) => Some(*load),
            Self::Mapped(parts, _) => parts.iter().rev().find_map(Self::load),
            Self::Number(_) => None,
        }
    }

    /// The family of the addresses in it.
    pub(super) fn family(&self) -> Option<Family> {
        match self {
            Self::Of(Load::Address(_, family)) => Some(*family),
            Self::Mapped(parts, _) => parts.iter().find_map(Self::family),
            Self::Of(_) | Self::Number(_) => None,
        }
    }

    pub(super) fn is_mapped(&self) -> bool {
        matches!(self, Self::Mapped(..))
    }

    /// Whether one of the maps that are asked has this name.
    pub(super) fn is_about(&self, name: &str) -> bool {
        match self {
            Self::Mapped(parts, map) => {
                *map == name || parts.iter().any(|part| part.is_about(name))
            }
            Self::Of(_) | Self::Number(_) => false,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Of(load) => load.text(),
            Self::Mapped(parts, map) => format!("({} map @{map})", text(parts)),
            Self::Number(number) => number.to_string(),
        }
    }
}

impl Load {
    fn bytes(self) -> u32 {
        match self {
            Self::IncomingName => 16,
            Self::IncomingGroup | Self::Mark => 4,
            Self::Address(_, family) => u32::from(family.bytes()),
            Self::Protocol => 1,
            Self::Port(_) => 2,
        }
    }

    fn text(self) -> String {
        match self {
            Self::IncomingName => "iifname".into(),
            Self::IncomingGroup => "iifgroup".into(),
            Self::Address(side, family) => format!("{} {}", family.word(), side.word()),
            Self::Protocol => "meta l4proto".into(),
            Self::Port(Side::Source) => "th sport".into(),
            Self::Port(Side::Destination) => "th dport".into(),
            Self::Mark => "meta mark".into(),
        }
    }

    /// Loads the first `bytes` of it.
    fn loaded(self, register: u32, bytes: u32) -> Attribute {
        match self {
            Self::IncomingName => meta(NFT_META_IIFNAME, register),
            Self::IncomingGroup => meta(NFT_META_IIFGROUP, register),
            Self::Protocol => meta(NFT_META_L4PROTO, register),
            Self::Mark => meta(NFT_META_MARK, register),
            Self::Address(side, family) => {
                let (offset, length) = place(side, family);
                payload(NFT_PAYLOAD_NETWORK_HEADER, (offset, length.min(bytes)), register)
            }
            Self::Port(side) => {
                let offset = if side == Side::Source { 0 } else { 2 };
                payload(NFT_PAYLOAD_TRANSPORT_HEADER, (offset, 2), register)
            }
        }
    }
}

/// A key as nft writes it, where it can.
pub(super) fn text(parts: &[Part]) -> String {
    parts.iter().map(Part::text).gather().join(" . ")
}

/// Puts a key together, and says in which register it begins.
pub(super) fn load(parts: &[Part], out: &mut Vec<Attribute>) -> u32 {
    let begin = u32::from(parts.iter().any(Part::is_mapped));
    load_at(parts, begin, out);
    named(begin)
}

/// The same from a register on, of which the one before is overwritten if a part is
/// mapped.
fn load_at(parts: &[Part], begin: u32, out: &mut Vec<Attribute>) {
    let mut end = begin;
    let mut placed = Vec::new();
    for part in parts {
        placed.push((end, part));
        end += part.registers();
    }
    // From the last on: each overwrites the register before its own.
    for (at, part) in placed.iter().rev() {
        let Part::Mapped(of, map) = part else { continue };
        let stand_in = part.load().unwrap_or(Load::Mark);
        out.push(stand_in.loaded(named(*at), REGISTER_BYTES as u32));
        let from = match of.as_slice() {
            [Part::Of(load)] if load.bytes() <= REGISTER_BYTES as u32 => *at,
            _ => {
                let free = end + u32::from(of.iter().any(Part::is_mapped));
                load_at(of, free, out);
                free
            }
        };
        out.push(mapped(map, named(from), named(at.saturating_sub(1))));
    }
    for (at, part) in placed {
        match part {
            Part::Of(load) => out.push(load.loaded(named(at), load.bytes())),
            Part::Number(number) => out.push(constant(*number, named(at))),
            Part::Mapped(..) => {}
        }
    }
}

/// The number of the register of 4 bytes. Where one of 16 bytes begins it has that
/// one's, as the kernel tells it.
fn named(register: u32) -> u32 {
    if register.is_multiple_of(4) { NFT_REG_1 + register / 4 } else { NFT_REG32_00 + register }
}

fn mapped(map: &str, from: u32, to: u32) -> Attribute {
    let [from, to] = [(NFTA_LOOKUP_SREG, from), (NFTA_LOOKUP_DREG, to)]
        .map(|(kind, at)| Attribute::number(kind, at));
    expression("lookup", [from, to, Attribute::string(NFTA_LOOKUP_SET, map)])
}

fn constant(number: u32, register: u32) -> Attribute {
    immediate(register, Attribute::bytes(NFTA_DATA_VALUE, Field::Number(number).bytes()))
}
