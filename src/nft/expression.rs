//! The expressions of which the rules consist. Each function gives one rule's
//! list in the form in which nft sends it for the same text, so that nft lists
//! our rules as its own.

use std::ops::RangeInclusive;

use super::abi::*;
use super::attribute::Attribute;

/// `oifgroup FIRST-LAST return`. Groups are numbers of the host's byte order; a
/// range is compared byte by byte, so it needs the network's.
pub(super) fn to_groups(groups: &RangeInclusive<u32>) -> Vec<Attribute> {
    vec![
        meta(NFT_META_OIFGROUP),
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
        give_back(),
    ]
}

/// `ip daddr @SET return`, for the family `protocol` whose destination address
/// stands at `offset` of the header and is `length` bytes long.
pub(super) fn to_set(protocol: u8, set: &str, (offset, length): (u32, u32)) -> Vec<Attribute> {
    vec![
        meta(NFT_META_NFPROTO),
        compare(NFT_CMP_EQ, [protocol]),
        expression(
            "payload",
            [
                Attribute::number(NFTA_PAYLOAD_DREG, NFT_REG_1),
                Attribute::number(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER),
                Attribute::number(NFTA_PAYLOAD_OFFSET, offset),
                Attribute::number(NFTA_PAYLOAD_LEN, length),
            ],
        ),
        expression(
            "lookup",
            [
                Attribute::number(NFTA_LOOKUP_SREG, NFT_REG_1),
                Attribute::string(NFTA_LOOKUP_SET, set),
            ],
        ),
        give_back(),
    ]
}

/// `iifgroup GROUP masquerade fully-random`.
///
/// Ports are drawn at random: when a port is kept, two pods that use the same one
/// towards the same server race for it, and the loser's first packet is dropped.
/// kube-proxy, flannel and Calico came to the same.
pub(super) fn masquerade_from(group: u32) -> Vec<Attribute> {
    vec![
        meta(NFT_META_IIFGROUP),
        compare(NFT_CMP_EQ, group.to_ne_bytes()),
        expression("masq", [Attribute::number(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY)]),
    ]
}

fn meta(key: u32) -> Attribute {
    let into = Attribute::number(NFTA_META_DREG, NFT_REG_1);
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

/// The verdict `return`: the chain's policy, accept, without translation.
fn give_back() -> Attribute {
    let code = Attribute::bytes(NFTA_VERDICT_CODE, NFT_RETURN.to_be_bytes());
    let verdict = Attribute::nest(NFTA_DATA_VERDICT, [code]);
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
        assert_bytes(&to_groups(&(5000..=6000)), &[meta, byteorder, from, to, RETURN]);
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
        let expressions = to_set(NFPROTO_IPV6, "never6", (24, 16));
        assert_bytes(&expressions, &[meta, is_v6, payload, lookup, RETURN]);
    }

    #[test]
    fn iifgroup_1000_masquerade_fully_random() {
        let meta = b"\x24\0\x01\x80\x09\0\x01\0meta\0\0\0\0\
            \x14\0\x02\x80\x08\0\x02\0\0\0\0\x15\x08\0\x01\0\0\0\0\x01";
        let is_group = b"\x2c\0\x01\x80\x08\0\x01\0cmp\0\x20\0\x02\x80\x08\0\x01\0\0\0\0\x01\
            \x08\0\x02\0\0\0\0\0\x0c\0\x03\x80\x08\0\x01\0\xe8\x03\0\0";
        let masquerade = b"\x1c\0\x01\x80\x09\0\x01\0masq\0\0\0\0\
            \x0c\0\x02\x80\x08\0\x01\0\0\0\0\x10";
        assert_bytes(&masquerade_from(1000), &[meta, is_group, masquerade]);
    }
}
