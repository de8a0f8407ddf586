// SPDX-License-Identifier: Apache-2.0
//! Whether a table is as it was made, without reading all of it: the contents of
//! sets would cost more the more nodes there are. Nothing is stored for it but
//! in the kernel: the last rule carries a number for what the table was made
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
//! The digest is of the description. One of the messages, which say the same, made
//! two thirds of the instructions of an ADD. What constant sets hold is told by a
//! digest of the networks that they were made from. So whoever has noted that digest
//! knows the table again without the list.
//!
//! The rules of network policies depend on so little that a number says which they are, and
//! such a table bears that number in place of a digest ([`outline`](super::outline)).
//!
//! A table that holds the same and is not known by its seal is made anew once: somebody saved
//! and restored it, an earlier version made it, or the list was another one.

use std::hash::{Hash, Hasher};

use super::abi::*;
use super::set::{Content, Set};
use super::table::Table;
use crate::netlink::attribute::find;

/// Our type among the notes that nft keeps on a rule (libnftnl numbers its own
/// from zero and passes over those that it does not know).
const DIGEST: u8 = b'm';
/// Of a number, which is to tell our tables from one another, not from a forged one.
const DIGEST_BYTES: u8 = 8;
/// Of what the kernel is sent for a description, and of how constant sets are made from
/// networks: another one where that changes, so that tables that were made in the former
/// way are made anew. Rules that have a number (`RULES_VERSION` in `policy/outline.rs`) are not
/// told by it.
pub(super) const FORM: u8 = 2;

/// What a table is known by that is as it was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seal {
    /// The table's name.
    pub(super) table: String,
    /// How many rules it has.
    pub(super) rules: usize,
    /// How many objects were made before the first of them.
    before: usize,
    /// What the last of them bears: type, length, number of all that is constant.
    pub(super) note: Vec<u8>,
}

impl Table {
    /// What it is known by.
    pub fn seal(&self) -> Seal {
        Seal::of(self, self.chains.len(), self.rules().count())
    }

    /// A number for all that is constant.
    fn digest(&self) -> u64 {
        let Self { name, comment, sets, chains, number: _ } = self;
        let mut hasher = Fnv::default();
        (FORM, name, comment, chains, sets.len()).hash(&mut hasher);
        for Set { name, key, data, ranges, content } in sets {
            let made_from = match content {
                Content::Constant(constant) => Some(&constant.made_from),
                _ => None,
            };
            (name, key, data, ranges, made_from).hash(&mut hasher);
            if let Content::Counted(_) = content {
                "counter".hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

/// FNV-1a of 64 bits: the same in every build, and for pieces of a few bytes a quarter of
/// the work of the standard library's.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        let with = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.0 = bytes.iter().fold(self.0, with);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Seal {
    /// That of a table with so many chains and so many rules.
    pub(super) fn of(table: &Table, chains: usize, rules: usize) -> Self {
        let number = table.number.unwrap_or_else(|| table.digest());
        Self {
            table: table.name.clone(),
            rules,
            before: chains + table.sets.len(),
            note: [&[DIGEST, DIGEST_BYTES], &number.to_be_bytes()[..]].concat(),
        }
    }

    /// Whether these are the rules that the table was made with, all of them and no
    /// others, and the table is the one that is wanted.
    pub(super) fn holds(&self, rules: &[Vec<u8>]) -> bool {
        let numbered = rules
            .iter()
            .zip(self.before as u64 + 1..)
            .all(|(rule, number)| handle(rule, NFTA_RULE_HANDLE) == Some(number));
        rules.len() == self.rules && numbered && rules.last().is_some_and(|last| self.is_last(last))
    }

    /// Whether this is the last rule that the table was made with.
    pub(super) fn is_last(&self, rule: &[u8]) -> bool {
        let is_it = handle(rule, NFTA_RULE_HANDLE) == Some(self.last());
        is_it && noted(rule).is_some_and(|note| note == self.note)
    }

    /// The number of the last rule.
    pub(super) fn last(&self) -> u64 {
        (self.before + self.rules) as u64
    }
}

/// Our note on a rule.
fn noted(rule: &[u8]) -> Option<&[u8]> {
    let mut notes = find(rule, NFTA_RULE_USERDATA)?;
    while let [kind, length, rest @ ..] = notes {
        let whole = 2 + usize::from(*length);
        if *kind == DIGEST {
            return notes.get(..whole);
        }
        notes = rest.get(usize::from(*length)..)?;
    }
    None
}

/// The number of an object in its table.
pub(super) fn handle(object: &[u8], kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(find(object, kind)?.try_into().ok()?))
}
