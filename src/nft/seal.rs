//! Whether a table is as it was made, without reading all of it: the contents of
//! sets would cost more the more nodes there are. Nothing is stored for it but
//! in the kernel: the last rule carries a digest of what the table was made
//! with, and these are the kernel's own rules that keep it true.
//!
//! * A rule cannot be changed in place, nor moved to another chain.
//! * A set that is constant and that a rule asks cannot be changed, and a chain
//!   that a rule leads to cannot be deleted (`EBUSY`, net/netfilter/
//!   nf_tables_api.c, `nf_tables_newsetelem`, `nf_tables_delchain`).
//! * Whatever is made in a table takes the next number of that table, from one
//!   on, and no number is given twice (`nf_tables_alloc_handle`). We make chains,
//!   sets and rules in one transaction. Where the rules still have the numbers
//!   that they got then, nothing was made in between, and none was lost.
//!
//! Left are the flags of the table, the policy of a chain, and addresses that
//! may change: whoever wants to know these asks for them.
//!
//! A table that somebody saved and restored has no digest and is read.

use sha1_smol::Sha1;

use super::abi::*;
use super::table::{Content, Table};
use crate::netlink::attribute::find;

/// Our type among the notes that nft keeps on a rule (libnftnl numbers its own
/// from zero and passes over those that it does not know).
const DIGEST: u8 = b'm';

/// The note to go with a table: type, length, digest of all that is constant.
pub(super) fn note(table: &Table) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.structure(&[]).iter().for_each(|request| request.emit(0, 0, &mut bytes));
    let mut digest = Sha1::from(&bytes);
    for set in &table.sets {
        // Element by element: there may be thousands.
        if let Content::Constant(intervals) = &set.content {
            for element in intervals.elements().flatten() {
                digest.update(&[u8::from(element.end)]);
                digest.update(&element.key);
            }
        }
    }
    let digest = digest.digest().bytes();
    let length = u8::try_from(digest.len()).unwrap_or(u8::MAX);
    [&[DIGEST, length], &digest[..]].concat()
}

/// Whether these are the rules that the table was made with, all of them and no
/// others, and the table is the one that is wanted.
pub(super) fn holds(wanted: &Table, rules: &[Vec<u8>]) -> bool {
    let before = (wanted.chains.len() + wanted.sets.len()) as u64;
    let count = wanted.rules().count();
    let numbered = rules
        .iter()
        .zip(before + 1..)
        .all(|(rule, number)| handle(rule, NFTA_RULE_HANDLE) == Some(number));
    let noted = rules.last().and_then(|rule| find(rule, NFTA_RULE_USERDATA));
    rules.len() == count && numbered && noted.is_some_and(|noted| noted.ends_with(&note(wanted)))
}

/// The number of an object in its table.
pub(super) fn handle(object: &[u8], kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(find(object, kind)?.try_into().ok()?))
}
