//! How many packets rules of ours have counted.

use super::{
    abi::*, error::Error, message::request, network::STRANGER, snapshot::ask, socket::Socket,
};
use crate::netlink::attribute::{Attribute, attributes, find, string};

/// How many packets the source check of a table dropped; none where it has none.
///
/// # Errors
/// Of the kernel's answers.
pub fn dropped_sources(table: &str) -> Result<Option<u64>, Error> {
    let of =
        [Attribute::string(NFTA_RULE_TABLE, table), Attribute::string(NFTA_RULE_CHAIN, STRANGER)];
    let question = request(NFT_MSG_GETRULE, NLM_F_DUMP, format!("counters of {table}"), of);
    let [reply] = ask(&mut Socket::open()?, [question])?;
    let all = reply.objects.iter().flat_map(|rule| counters(rule));
    Ok(all.reduce(u64::saturating_add))
}

/// The packets of each counter in a rule.
fn counters(rule: &[u8]) -> Vec<u64> {
    let expressions = find(rule, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    let packets = |expression| {
        let name = find(expression, NFTA_EXPR_NAME).map(string)?;
        let number = find(find(expression, NFTA_EXPR_DATA)?, NFTA_COUNTER_PACKETS)?;
        (name == "counter").then_some(u64::from_be_bytes(number.try_into().ok()?))
    };
    attributes(expressions).filter_map(|(_, expression)| packets(expression)).collect()
}
