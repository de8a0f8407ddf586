// SPDX-License-Identifier: Apache-2.0
//! Single expressions, of which those of a key and those of a rule are put together.

use super::abi::*;
use super::side::Side;
use crate::family::Family;
use crate::netlink::attribute::Attribute;

/// Where an address stands in its header, and how long it is.
pub(super) fn place(side: Side, family: Family) -> (u32, u32) {
    match (side, family) {
        (Side::Source, Family::V4) => (12, 4),
        (Side::Destination, Family::V4) => (16, 4),
        (Side::Source, Family::V6) => (8, 16),
        (Side::Destination, Family::V6) => (24, 16),
    }
}

pub(super) fn payload(base: u32, (offset, length): (u32, u32), register: u32) -> Attribute {
    expression(
        "payload",
        [
            Attribute::number(NFTA_PAYLOAD_DREG, register),
            Attribute::number(NFTA_PAYLOAD_BASE, base),
            Attribute::number(NFTA_PAYLOAD_OFFSET, offset),
            Attribute::number(NFTA_PAYLOAD_LEN, length),
        ],
    )
}

pub(super) fn meta(key: u32, register: u32) -> Attribute {
    let into = Attribute::number(NFTA_META_DREG, register);
    expression("meta", [Attribute::number(NFTA_META_KEY, key), into])
}

/// Something that is the same for all packets.
pub(super) fn immediate(register: u32, datum: Attribute) -> Attribute {
    expression(
        "immediate",
        [
            Attribute::number(NFTA_IMMEDIATE_DREG, register),
            Attribute::nest(NFTA_IMMEDIATE_DATA, [datum]),
        ],
    )
}

/// A counter that begins with nothing, in an attribute of that kind.
pub(super) fn counter(kind: u16) -> Attribute {
    let name = Attribute::string(NFTA_EXPR_NAME, "counter");
    Attribute::nest(kind, [name, Attribute::open(NFTA_EXPR_DATA)])
}

pub(super) fn expression(name: &str, data: impl Into<Vec<Attribute>>) -> Attribute {
    let name = Attribute::string(NFTA_EXPR_NAME, name);
    Attribute::nest(NFTA_LIST_ELEM, [name, Attribute::nest(NFTA_EXPR_DATA, data)])
}
