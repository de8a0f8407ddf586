// SPDX-License-Identifier: Apache-2.0
//! The expressions of which rules consist, in the form in which nft sends them for
//! the same text, so that nft lists our rules as its own.

use std::ops::RangeInclusive;

use super::abi::*;
use super::key::{self, Part};
use super::primitive::{counter, expression, immediate, meta, payload, place};
use super::table::{Answer, Holds, Rule, Term};
use crate::family::Family;
use crate::list::PushAll;
use crate::netlink::attribute::Attribute;

/// Protocol numbers (IANA).
const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// The fragment header of IPv6.
const FRAGMENT: u8 = 44;
/// A connection's answers (`enum ip_conntrack_dir`).
const IP_CT_DIR_REPLY: u8 = 1;
/// First byte of an address in 127.0.0.0/8.
const LOOPBACK: u8 = 127;

impl Rule {
    /// The rule as nf_tables runs it. What several terms need, such as the
    /// family, is asked once.
    pub(super) fn expressions(&self) -> Vec<Attribute> {
        let mut list = List::default();
        self.0.iter().for_each(|term| list.add(term));
        list.expressions
    }
}

#[derive(Default)]
struct List {
    expressions: Vec<Attribute>,
    family: Option<Family>,
    protocol: Option<u8>,
}

impl List {
    fn add(&mut self, term: &Term) {
        match term {
            Term::FromGroup(group) => {
                self.push([meta(NFT_META_IIFGROUP, NFT_REG_1)]);
                self.push([compare(NFT_CMP_EQ, group.to_ne_bytes())]);
            }
            Term::FromGroups(groups) => self.push(in_groups(NFT_META_IIFGROUP, groups)),
            Term::ToGroups(groups) => self.push(in_groups(NFT_META_OIFGROUP, groups)),
            Term::Among(parts, holds, set) => {
                let key = self.key(parts);
                self.push([lookup(key, set, *holds)]);
            }
            Term::Verdict(parts, map) => {
                let key = self.key(parts);
                self.push([verdict_of(key, map)]);
            }
            Term::Has(part) => drop(self.key(std::slice::from_ref(part))),
            Term::Loopback(side, holds) => {
                self.family(Family::V4);
                let (offset, _) = place(*side, Family::V4);
                self.push([payload(NFT_PAYLOAD_NETWORK_HEADER, (offset, 1), NFT_REG_1)]);
                self.push([compare(operator(*holds), [LOOPBACK])]);
            }
            Term::NoWayBack => self.push([fib(), compare(NFT_CMP_EQ, [0; 4])]),
            Term::Protocol(Holds::Is, number) => self.protocol(*number),
            Term::Protocol(Holds::IsNot, number) => {
                self.push([meta(NFT_META_L4PROTO, NFT_REG_1), compare(NFT_CMP_NEQ, [*number])]);
            }
            Term::UdpTo(holds, port) => {
                self.protocol(UDP);
                self.transport(2, *holds, port.to_be_bytes().to_vec());
            }
            // Behind the UDP header, one byte of flags and three that are reserved.
            Term::Vni(holds, vni) => {
                let [_, vni @ ..] = vni.to_be_bytes();
                self.transport(12, *holds, vni.to_vec());
            }
            Term::FirstFragment => {
                self.family(Family::V6);
                self.push(fragment_offset());
                self.push([compare(NFT_CMP_EQ, [0; 2])]);
            }
            Term::IcmpType(family, number) => {
                self.family(*family);
                self.protocol(if *family == Family::V4 { ICMP } else { ICMPV6 });
                self.transport(0, Holds::Is, vec![*number]);
            }
            Term::Count => self.push([counter(NFTA_LIST_ELEM)]),
            Term::State(states) => {
                self.push([conntrack(NFT_CT_STATE), masked(&states.to_ne_bytes())]);
                self.push([compare(NFT_CMP_NEQ, [0; 4])]);
            }
            Term::IsReply => {
                self.push([conntrack(NFT_CT_DIRECTION), compare(NFT_CMP_EQ, [IP_CT_DIR_REPLY])]);
            }
            Term::Mark(mark) => {
                self.push([meta(NFT_META_MARK, NFT_REG_1)]);
                self.push([compare(NFT_CMP_EQ, mark.to_ne_bytes())]);
            }
            Term::SetMark(mark) => {
                let value = Attribute::bytes(NFTA_DATA_VALUE, mark.to_ne_bytes());
                self.push([immediate(NFT_REG_1, value), set_meta(NFT_META_MARK, NFT_REG_1)]);
            }
            Term::End(verdict) => self.push([immediate(NFT_REG_VERDICT, verdict.attribute())]),
            Term::Masquerade => {
                let flags = Attribute::number(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
                self.push([expression("masq", [flags])]);
            }
            Term::Limit(rate, burst) => {
                let long = |kind, number: u64| Attribute::bytes(kind, number.to_be_bytes());
                let mut parts = vec![long(NFTA_LIMIT_RATE, *rate), long(NFTA_LIMIT_UNIT, 1)];
                let more =
                    [(NFTA_LIMIT_BURST, *burst), (NFTA_LIMIT_TYPE, 0), (NFTA_LIMIT_FLAGS, 0)];
                parts.push_all(more.map(|(kind, number)| Attribute::number(kind, number)));
                self.push([expression("limit", parts)]);
            }
            Term::Log(group, prefix) => {
                let prefix = Attribute::string(NFTA_LOG_PREFIX, prefix);
                let group = Attribute::bytes(NFTA_LOG_GROUP, group.to_be_bytes());
                self.push([expression("log", [prefix, group])]);
            }
            Term::Reject(answer) => {
                // nft sends a code with a reset as well, which the kernel does not keep.
                let (kind, code) = match answer {
                    Answer::Reset => (NFT_REJECT_TCP_RST, None),
                    Answer::Prohibited => {
                        (NFT_REJECT_ICMPX_UNREACH, Some(NFT_REJECT_ICMPX_ADMIN_PROHIBITED))
                    }
                };
                let mut parts = vec![Attribute::number(NFTA_REJECT_TYPE, kind)];
                parts.push_all(code.map(|code| Attribute::bytes(NFTA_REJECT_ICMP_CODE, [code])));
                self.push([expression("reject", parts)]);
            }
        }
    }

    /// Loads a key, and says in which register it begins.
    fn key(&mut self, parts: &[Part]) -> u32 {
        if let Some(family) = parts.iter().find_map(Part::family) {
            self.family(family);
        }
        key::load(parts, &mut self.expressions)
    }

    fn push<const N: usize>(&mut self, expressions: [Attribute; N]) {
        self.expressions.push_all(expressions);
    }

    fn family(&mut self, family: Family) {
        if self.family.replace(family) != Some(family) {
            let number = match family {
                Family::V4 => NFPROTO_IPV4,
                Family::V6 => NFPROTO_IPV6,
            };
            self.push([meta(NFT_META_NFPROTO, NFT_REG_1), compare(NFT_CMP_EQ, [number])]);
        }
    }

    fn protocol(&mut self, number: u8) {
        if self.protocol.replace(number) != Some(number) {
            self.push([meta(NFT_META_L4PROTO, NFT_REG_1), compare(NFT_CMP_EQ, [number])]);
        }
    }

    /// Bytes behind the network header.
    fn transport(&mut self, offset: u32, holds: Holds, bytes: Vec<u8>) {
        let length = bytes.len() as u32;
        let load = payload(NFT_PAYLOAD_TRANSPORT_HEADER, (offset, length), NFT_REG_1);
        self.push([load, compare(operator(holds), bytes)]);
    }
}

/// A group is a number of the host's byte order; a range is compared byte by
/// byte, so it needs the network's.
fn in_groups(key: u32, groups: &RangeInclusive<u32>) -> [Attribute; 4] {
    [
        meta(key, NFT_REG_1),
        expression(
            "byteorder",
            [
                Attribute::number(NFTA_BYTEORDER_SREG, NFT_REG_1),
                Attribute::number(NFTA_BYTEORDER_DREG, NFT_REG_1),
                Attribute::number(NFTA_BYTEORDER_OP, NFT_BYTEORDER_HTON),
                Attribute::number(NFTA_BYTEORDER_LEN, 4),
                Attribute::number(NFTA_BYTEORDER_SIZE, 4),
            ],
        ),
        compare(NFT_CMP_GTE, groups.start().to_be_bytes()),
        compare(NFT_CMP_LTE, groups.end().to_be_bytes()),
    ]
}

/// The offset in the fragment header of IPv6, without the bits that follow it.
fn fragment_offset() -> [Attribute; 2] {
    [
        expression(
            "exthdr",
            [
                Attribute::number(NFTA_EXTHDR_DREG, NFT_REG_1),
                Attribute::bytes(NFTA_EXTHDR_TYPE, [FRAGMENT]),
                Attribute::number(NFTA_EXTHDR_OFFSET, 2),
                Attribute::number(NFTA_EXTHDR_LEN, 2),
            ],
        ),
        masked(&[0xff, 0xf8]),
    ]
}

/// What these bits leave of the register.
fn masked(bits: &[u8]) -> Attribute {
    let value =
        |kind, bytes: Vec<u8>| Attribute::nest(kind, [Attribute::bytes(NFTA_DATA_VALUE, bytes)]);
    expression(
        "bitwise",
        [
            Attribute::number(NFTA_BITWISE_SREG, NFT_REG_1),
            Attribute::number(NFTA_BITWISE_DREG, NFT_REG_1),
            Attribute::number(NFTA_BITWISE_LEN, bits.len() as u32),
            value(NFTA_BITWISE_MASK, bits.to_vec()),
            value(NFTA_BITWISE_XOR, vec![0; bits.len()]),
        ],
    )
}

fn conntrack(key: u32) -> Attribute {
    let into = Attribute::number(NFTA_CT_DREG, NFT_REG_1);
    expression("ct", [Attribute::number(NFTA_CT_KEY, key), into])
}

fn operator(holds: Holds) -> u32 {
    match holds {
        Holds::Is => NFT_CMP_EQ,
        Holds::IsNot => NFT_CMP_NEQ,
    }
}

/// nft adds the set's number within the batch, which only a set without a name
/// needs.
fn lookup(key: u32, set: &str, holds: Holds) -> Attribute {
    let mut data =
        vec![Attribute::number(NFTA_LOOKUP_SREG, key), Attribute::string(NFTA_LOOKUP_SET, set)];
    if holds == Holds::IsNot {
        data.push(Attribute::number(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV));
    }
    expression("lookup", data)
}

fn verdict_of(key: u32, map: &str) -> Attribute {
    expression(
        "lookup",
        [
            Attribute::number(NFTA_LOOKUP_SREG, key),
            Attribute::number(NFTA_LOOKUP_DREG, NFT_REG_VERDICT),
            Attribute::string(NFTA_LOOKUP_SET, map),
        ],
    )
}

/// `fib saddr . iif oif`, as one or zero.
fn fib() -> Attribute {
    expression(
        "fib",
        [
            Attribute::number(NFTA_FIB_FLAGS, FIB_SADDR_IIF_PRESENT),
            Attribute::number(NFTA_FIB_RESULT, NFT_FIB_RESULT_OIF),
            Attribute::number(NFTA_FIB_DREG, NFT_REG_1),
        ],
    )
}

fn compare(operator: u32, with: impl Into<Vec<u8>>) -> Attribute {
    expression(
        "cmp",
        [
            Attribute::number(NFTA_CMP_SREG, NFT_REG_1),
            Attribute::number(NFTA_CMP_OP, operator),
            Attribute::nest(NFTA_CMP_DATA, [Attribute::bytes(NFTA_DATA_VALUE, with)]),
        ],
    )
}

fn set_meta(key: u32, register: u32) -> Attribute {
    let from = Attribute::number(NFTA_META_SREG, register);
    expression("meta", [Attribute::number(NFTA_META_KEY, key), from])
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests;
