// SPDX-License-Identifier: Apache-2.0
//! How many packets our rules, and elements of our sets, have counted.

use super::{
    abi::*, error::Error, message::request, network::STRANGER, snapshot::ask, socket::Socket,
};
use crate::netlink::attribute::{Attribute, attributes, find, string};

/// How many packets the source check of a table dropped; none where it has none.
///
/// # Errors
/// Of the kernel's answers.
pub fn dropped_sources(table: &str) -> Result<Option<u64>, Error> {
    packets_of_chains(table, &[STRANGER])
}

/// How many packets the rules of these chains of a table have counted; none where there is
/// no such rule.
pub(super) fn packets_of_chains(table: &str, chains: &[&str]) -> Result<Option<u64>, Error> {
    let mut socket = Socket::open()?;
    let mut sum = None;
    for chain in chains {
        let of =
            [Attribute::string(NFTA_RULE_TABLE, table), Attribute::string(NFTA_RULE_CHAIN, chain)];
        let question = request(NFT_MSG_GETRULE, NLM_F_DUMP, format!("counters of {table}"), of);
        let [reply] = ask(&mut socket, [question])?;
        for rule in &reply.objects {
            let expressions = find(rule, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
            let counts = attributes(expressions).filter_map(|(_, one)| counter(one));
            counts.for_each(|[packets, _]| sum = Some(packets.saturating_add(sum.unwrap_or(0))));
        }
    }
    Ok(sum)
}

/// The elements of a set that count, by their keys: packets and bytes.
pub(super) fn counted(object: &[u8]) -> impl Iterator<Item = (&[u8], [u64; 2])> {
    let list = find(object, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    attributes(list).filter_map(|(_, element)| {
        let key = find(find(element, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
        Some((key, counter(find(element, NFTA_SET_ELEM_EXPR)?)?))
    })
}

/// The packets and bytes of an expression that is a counter.
fn counter(expression: &[u8]) -> Option<[u64; 2]> {
    let name = find(expression, NFTA_EXPR_NAME).map(string)?;
    let data = find(expression, NFTA_EXPR_DATA)?;
    let number = |kind| Some(u64::from_be_bytes(find(data, kind)?.try_into().ok()?));
    (name == "counter").then_some([number(NFTA_COUNTER_PACKETS)?, number(NFTA_COUNTER_BYTES)?])
}
