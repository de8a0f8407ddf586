// SPDX-License-Identifier: Apache-2.0
//! Against what nft sends for the same text.

use super::*;
use crate::nft::{key::Load, primitive::counter, set::Verdict, side::Side, table::ESTABLISHED};

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
    let rule = Rule(vec![Term::ToGroups(5000..=6000), Term::End(Verdict::Return)]);
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
    let key = vec![Part::Of(Load::Address(Side::Destination, Family::V6))];
    let in_set = Term::Among(key, Holds::Is, "never6");
    let rule = Rule(vec![in_set, Term::End(Verdict::Return)]);
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

const NAMES_IPV4: [&[u8]; 2] = [
    b"\x24\0\x01\x80\x09\0\x01\0meta\0\0\0\0\
        \x14\0\x02\x80\x08\0\x02\0\0\0\0\x0f\x08\0\x01\0\0\0\0\x01",
    b"\x2c\0\x01\x80\x08\0\x01\0cmp\0\x20\0\x02\x80\x08\0\x01\0\0\0\0\x01\
        \x08\0\x02\0\0\0\0\0\x0c\0\x03\x80\x05\0\x01\0\x02\0\0\0",
];

#[test]
fn iifgroup_and_ip_saddr_vmap_verdicts() {
    let group = b"\x24\0\x01\x80\x09\0\x01\0meta\0\0\0\0\
        \x14\0\x02\x80\x08\0\x02\0\0\0\0\x15\x08\0\x01\0\0\0\0\x01";
    let source = b"\x34\0\x01\x80\x0c\0\x01\0payload\0\x24\0\x02\x80\x08\0\x01\0\0\0\0\x09\
        \x08\0\x02\0\0\0\0\x01\x08\0\x03\0\0\0\0\x0c\x08\0\x04\0\0\0\0\x04";
    // Without the set's number within the batch.
    let lookup = b"\x34\0\x01\x80\x0b\0\x01\0lookup\0\0\x24\0\x02\x80\x08\0\x02\0\0\0\0\x01\
        \x08\0\x03\0\0\0\0\0\x0d\0\x01\0verdicts\0\0\0\0";
    let source_address = Load::Address(Side::Source, Family::V4);
    let key = vec![Part::Of(Load::IncomingGroup), Part::Of(source_address)];
    let rule = Rule(vec![Term::Verdict(key, "verdicts")]);
    let [family, is_v4] = NAMES_IPV4;
    assert_bytes(&rule.expressions(), &[family, is_v4, group, source, lookup]);
}

#[test]
fn ct_state_established_ct_direction_reply_return() {
    let compare = |operator: u8, value: &[u8]| {
        let length = value.len().next_multiple_of(4) as u8;
        let mut bytes = b"\0\0\x01\x80\x08\0\x01\0cmp\0\0\0\x02\x80\x08\0\x01\0\0\0\0\x01\
            \x08\0\x02\0\0\0\0\0\x08\0\x03\x80\x04\0\x01\0"
            .to_vec();
        for (at, base) in [(0, 40), (12, 28), (32, 8)] {
            bytes[at] = base + length;
        }
        (bytes[31], bytes[36]) = (operator, 4 + value.len() as u8);
        bytes.extend(value);
        bytes.resize(40 + usize::from(length), 0);
        bytes
    };
    let load = |key: u8| {
        let mut bytes = b"\x20\0\x01\x80\x07\0\x01\0ct\0\0\
            \x14\0\x02\x80\x08\0\x02\0\0\0\0\0\x08\0\x01\0\0\0\0\x01"
            .to_vec();
        bytes[23] = key;
        bytes
    };
    let masked = b"\x44\0\x01\x80\x0c\0\x01\0bitwise\0\x34\0\x02\x80\x08\0\x01\0\0\0\0\x01\
        \x08\0\x02\0\0\0\0\x01\x08\0\x03\0\0\0\0\x04\x0c\0\x04\x80\x08\0\x01\0\x02\0\0\0\
        \x0c\0\x05\x80\x08\0\x01\0\0\0\0\0";
    let rule = Rule(vec![Term::State(ESTABLISHED), Term::IsReply, Term::End(Verdict::Return)]);
    let (state, direction) = (load(0), load(1));
    let (is_any, is_reply) = (compare(1, &[0; 4]), compare(0, &[1]));
    let expected: [&[u8]; 6] = [&state, masked, &is_any, &direction, &is_reply, RETURN];
    assert_bytes(&rule.expressions(), &expected);
}

#[test]
fn meta_mark_set_9() {
    let nine = b"\x2c\0\x01\x80\x0e\0\x01\0immediate\0\0\0\
        \x18\0\x02\x80\x08\0\x01\0\0\0\0\x01\x0c\0\x02\x80\x08\0\x01\0\x09\0\0\0";
    let set = b"\x24\0\x01\x80\x09\0\x01\0meta\0\0\0\0\
        \x14\0\x02\x80\x08\0\x02\0\0\0\0\x03\x08\0\x03\0\0\0\0\x01";
    assert_bytes(&Rule(vec![Term::SetMark(9)]).expressions(), &[nine, set]);
}

#[test]
fn limit_rate_10_per_second_burst_20_packets_log_prefix_group_5() {
    let limit = b"\x44\0\x01\x80\x0a\0\x01\0limit\0\0\0\
        \x34\0\x02\x80\x0c\0\x01\0\0\0\0\0\0\0\0\x0a\x0c\0\x02\0\0\0\0\0\0\0\0\x01\
        \x08\0\x03\0\0\0\0\x14\x08\0\x04\0\0\0\0\0\x08\0\x05\0\0\0\0\0";
    let log = b"\x2c\0\x01\x80\x08\0\x01\0log\0\
        \x20\0\x02\x80\x12\0\x02\0manx egress: \0\0\0\x06\0\x01\0\0\x05\0\0";
    let rule = Rule(vec![Term::Limit(10, 20), Term::Log(5, "manx egress: ")]);
    assert_bytes(&rule.expressions(), &[limit, log]);
}

#[test]
fn meta_l4proto_6_reject_with_tcp_reset_and_reject_with_icmpx_admin_prohibited() {
    let meta = b"\x24\0\x01\x80\x09\0\x01\0meta\0\0\0\0\
        \x14\0\x02\x80\x08\0\x02\0\0\0\0\x10\x08\0\x01\0\0\0\0\x01";
    let is_tcp = b"\x2c\0\x01\x80\x08\0\x01\0cmp\0\x20\0\x02\x80\x08\0\x01\0\0\0\0\x01\
        \x08\0\x02\0\0\0\0\0\x0c\0\x03\x80\x05\0\x01\0\x06\0\0\0";
    // nft adds a code of 0.
    let reset = b"\x1c\0\x01\x80\x0b\0\x01\0reject\0\0\
        \x0c\0\x02\x80\x08\0\x01\0\0\0\0\x01";
    let rule = Rule(vec![Term::Protocol(Holds::Is, 6), Term::Reject(Answer::Reset)]);
    assert_bytes(&rule.expressions(), &[meta, is_tcp, reset]);
    let prohibited = b"\x24\0\x01\x80\x0b\0\x01\0reject\0\0\
        \x14\0\x02\x80\x08\0\x01\0\0\0\0\x02\x05\0\x02\0\x03\0\0\0";
    assert_bytes(&Rule(vec![Term::Reject(Answer::Prohibited)]).expressions(), &[prohibited]);
}

/// As nft sends it of a set with `counter`.
#[test]
fn counter_of_each_element() {
    let expected = b"\x14\0\x11\x80\x0c\0\x01\0counter\0\x04\0\x02\x80";
    assert_bytes(&[counter(NFTA_SET_EXPR)], &[expected]);
}
