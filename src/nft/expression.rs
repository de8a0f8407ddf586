//! The expressions of which rules consist, in the form in which nft sends them for
//! the same text, so that nft lists our rules as its own.

use std::ops::RangeInclusive;

use super::abi::*;
use super::interval::Family;
use super::table::{Holds, Rule, Side, Term};
use crate::netlink::attribute::Attribute;

/// Protocol numbers (IANA).
const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// The fragment header of IPv6.
const FRAGMENT: u8 = 44;
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
            Term::Address(side, family, holds, set) => {
                self.family(*family);
                self.push([address(*side, *family, NFT_REG_1), lookup(set, *holds)]);
            }
            Term::Loopback(side, holds) => {
                self.family(Family::V4);
                let (offset, _) = place(*side, Family::V4);
                self.push([payload(NFT_PAYLOAD_NETWORK_HEADER, (offset, 1), NFT_REG_1)]);
                self.push([compare(operator(*holds), [LOOPBACK])]);
            }
            Term::NoWayBack => self.push([fib(), compare(NFT_CMP_EQ, [0; 4])]),
            Term::LinkAndSource(family, set) => {
                self.family(*family);
                self.push([meta(NFT_META_IIFNAME, NFT_REG_1)]);
                self.push([address(Side::Source, *family, NFT_REG_2), lookup(set, Holds::Is)]);
            }
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
            Term::Count => {
                let name = Attribute::string(NFTA_EXPR_NAME, "counter");
                let numbers = Attribute::open(NFTA_EXPR_DATA);
                self.push([Attribute::nest(NFTA_LIST_ELEM, [name, numbers])]);
            }
            Term::Drop => self.push([verdict(NF_DROP.cast_signed(), None)]),
            Term::Return => self.push([verdict(NFT_RETURN, None)]),
            Term::Goto(chain) => self.push([verdict(NFT_GOTO, Some(chain))]),
            Term::Masquerade => {
                let flags = Attribute::number(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
                self.push([expression("masq", [flags])]);
            }
        }
    }

    fn push<const N: usize>(&mut self, expressions: [Attribute; N]) {
        self.expressions.extend(expressions);
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
    let value =
        |kind, bytes: [u8; 2]| Attribute::nest(kind, [Attribute::bytes(NFTA_DATA_VALUE, bytes)]);
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
        expression(
            "bitwise",
            [
                Attribute::number(NFTA_BITWISE_SREG, NFT_REG_1),
                Attribute::number(NFTA_BITWISE_DREG, NFT_REG_1),
                Attribute::number(NFTA_BITWISE_LEN, 2),
                value(NFTA_BITWISE_MASK, [0xff, 0xf8]),
                value(NFTA_BITWISE_XOR, [0; 2]),
            ],
        ),
    ]
}

fn operator(holds: Holds) -> u32 {
    match holds {
        Holds::Is => NFT_CMP_EQ,
        Holds::IsNot => NFT_CMP_NEQ,
    }
}

/// Where an address stands in its header, and how long it is.
fn place(side: Side, family: Family) -> (u32, u32) {
    match (side, family) {
        (Side::Source, Family::V4) => (12, 4),
        (Side::Destination, Family::V4) => (16, 4),
        (Side::Source, Family::V6) => (8, 16),
        (Side::Destination, Family::V6) => (24, 16),
    }
}

fn address(side: Side, family: Family, register: u32) -> Attribute {
    payload(NFT_PAYLOAD_NETWORK_HEADER, place(side, family), register)
}

fn payload(base: u32, (offset, length): (u32, u32), register: u32) -> Attribute {
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

/// nft adds the set's number within the batch, which only a set without a name
/// needs.
fn lookup(set: &str, holds: Holds) -> Attribute {
    let mut data = vec![
        Attribute::number(NFTA_LOOKUP_SREG, NFT_REG_1),
        Attribute::string(NFTA_LOOKUP_SET, set),
    ];
    if holds == Holds::IsNot {
        data.push(Attribute::number(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV));
    }
    expression("lookup", data)
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

fn meta(key: u32, register: u32) -> Attribute {
    let into = Attribute::number(NFTA_META_DREG, register);
    expression("meta", [Attribute::number(NFTA_META_KEY, key), into])
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

fn verdict(code: i32, chain: Option<&str>) -> Attribute {
    let mut verdict = vec![Attribute::bytes(NFTA_VERDICT_CODE, code.to_be_bytes())];
    verdict.extend(chain.map(|chain| Attribute::string(NFTA_VERDICT_CHAIN, chain)));
    let verdict = Attribute::nest(NFTA_DATA_VERDICT, verdict);
    expression(
        "immediate",
        [
            Attribute::number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT),
            Attribute::nest(NFTA_IMMEDIATE_DATA, [verdict]),
        ],
    )
}

fn expression(name: &str, data: impl Into<Vec<Attribute>>) -> Attribute {
    let name = Attribute::string(NFTA_EXPR_NAME, name);
    Attribute::nest(NFTA_LIST_ELEM, [name, Attribute::nest(NFTA_EXPR_DATA, data)])
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    /// Expected is what nft 1.0.6 sends for the text that names the test.
    fn assert_bytes(expressions: &[Attribute], expected: &[&[u8]]) {
        for (expression, expected) in expressions.iter().zip(expected) {
            let mut bytes = Vec::new();
            expression.emit(&mut bytes);
            assert_eq!(bytes, *expected, "{expression:?}");
        }
        assert_eq!(expressions.len(), expected.len());
    }

    const RETURN: &[u8] = b"\x30\0\x01\x80\x0e\0\x01\0immediate\0\0\0\
        \x1c\0\x02\x80\x08\0\x01\0\0\0\0\0\x10\0\x02\x80\x0c\0\x02\x80\x08\0\x01\0\xff\xff\xff\xfb";

    #[test]
    fn oifgroup_5000_to_6000_return() {
        let meta = b"\x24\0\x01\x80\x09\0\x01\0meta\0\0\0\0\
            \x14\0\x02\x80\x08\0\x02\0\0\0\0\x16\x08\0\x01\0\0\0\0\x01";
        let byteorder = b"\x40\0\x01\x80\x0e\0\x01\0byteorder\0\0\0\
            \x2c\0\x02\x80\x08\0\x01\0\0\0\0\x01\x08\0\x02\0\0\0\0\x01\x08\0\x03\0\0\0\0\x01\
            \x08\0\x04\0\0\0\0\x04\x08\0\x05\0\0\0\0\x04";
        let from = b"\x2c\0\x01\x80\x08\0\x01\0cmp\0\x20\0\x02\x80\x08\0\x01\0\0\0\0\x01\
            \x08\0\x02\0\0\0\0\x05\x0c\0\x03\x80\x08\0\x01\0\0\0\x13\x88";
        let to = b"\x2c\0\x01\x80\x08\0\x01\0cmp\0\x20\0\x02\x80\x08\0\x01\0\0\0\0\x01\
            \x08\0\x02\0\0\0\0\x03\x0c\0\x03\x80\x08\0\x01\0\0\0\x17\x70";
        let rule = Rule(vec![Term::ToGroups(5000..=6000), Term::Return]);
        assert_bytes(&rule.expressions(), &[meta, byteorder, from, to, RETURN]);
    }

    #[test]
    fn ip6_daddr_in_never6_return() {
        let meta = b"\x24\0\x01\x80\x09\0\x01\0meta\0\0\0\0\
            \x14\0\x02\x80\x08\0\x02\0\0\0\0\x0f\x08\0\x01\0\0\0\0\x01";
        let is_v6 = b"\x2c\0\x01\x80\x08\0\x01\0cmp\0\x20\0\x02\x80\x08\0\x01\0\0\0\0\x01\
            \x08\0\x02\0\0\0\0\0\x0c\0\x03\x80\x05\0\x01\0\x0a\0\0\0";
        let payload = b"\x34\0\x01\x80\x0c\0\x01\0payload\0\x24\0\x02\x80\x08\0\x01\0\0\0\0\x01\
            \x08\0\x02\0\0\0\0\x01\x08\0\x03\0\0\0\0\x18\x08\0\x04\0\0\0\0\x10";
        // nft adds the set's number within the batch, which only a set without a
        // name needs.
        let lookup = b"\x28\0\x01\x80\x0b\0\x01\0lookup\0\0\x18\0\x02\x80\x08\0\x02\0\0\0\0\x01\
            \x0b\0\x01\0never6\0\0";
        let in_set = Term::Address(Side::Destination, Family::V6, Holds::Is, "never6");
        let rule = Rule(vec![in_set, Term::Return]);
        assert_bytes(&rule.expressions(), &[meta, is_v6, payload, lookup, RETURN]);
    }

    #[test]
    fn iifgroup_1000_masquerade_fully_random() {
        let meta = b"\x24\0\x01\x80\x09\0\x01\0meta\0\0\0\0\
            \x14\0\x02\x80\x08\0\x02\0\0\0\0\x15\x08\0\x01\0\0\0\0\x01";
        let is_group = b"\x2c\0\x01\x80\x08\0\x01\0cmp\0\x20\0\x02\x80\x08\0\x01\0\0\0\0\x01\
            \x08\0\x02\0\0\0\0\0\x0c\0\x03\x80\x08\0\x01\0\xe8\x03\0\0";
        let masquerade = b"\x1c\0\x01\x80\x09\0\x01\0masq\0\0\0\0\
            \x0c\0\x02\x80\x08\0\x01\0\0\0\0\x10";
        let rule = Rule(vec![Term::FromGroup(1000), Term::Masquerade]);
        assert_bytes(&rule.expressions(), &[meta, is_group, masquerade]);
    }
}
