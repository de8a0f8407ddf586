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
//! What constant sets hold is told by a digest of the networks that they were made
//! from. So whoever has noted that digest knows the table again without the list.
//!
//! A table that somebody saved and restored has no digest and is read. One whose
//! digest is another, and which holds the same all the same, is made anew once: the
//! list was another, or an earlier version made it.

use sha1_smol::Sha1;

use super::abi::*;
use super::set::Content;
use super::table::Table;
use crate::netlink::attribute::find;

/// Our type among the notes that nft keeps on a rule (libnftnl numbers its own
/// from zero and passes over those that it does not know).
const DIGEST: u8 = b'm';
/// Of SHA-1.
const DIGEST_BYTES: u8 = 20;
/// Of how constant sets are made from networks: another one where that changes, so that
/// tables that were made in the former way are made anew.
const FORM: u8 = 1;

/// What a table is known by that is as it was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seal {
    /// The table's name.
    pub(super) table: String,
    /// How many rules it has.
    pub(super) rules: usize,
    /// How many objects were made before the first of them.
    before: usize,
    /// What the last of them bears: type, length, digest of all that is constant.
    pub(super) note: Vec<u8>,
}

impl Table {
    /// What it is known by.
    pub fn seal(&self) -> Seal {
        let mut bytes = Vec::new();
        self.structure(&[]).iter().for_each(|request| request.emit(0, 0, &mut bytes));
        bytes.push(FORM);
        for set in &self.sets {
            if let Content::Constant(constant) = &set.content {
                bytes.extend(&constant.made_from);
            }
        }
        let digest = Sha1::from(&bytes).digest().bytes();
        Seal {
            table: self.name.clone(),
            rules: self.rules().count(),
            before: self.chains.len() + self.sets.len(),
            note: [&[DIGEST, DIGEST_BYTES], &digest[..]].concat(),
        }
    }
}

impl Seal {
    /// Whether these are the rules that the table was made with, all of them and no
    /// others, and the table is the one that is wanted.
    pub(super) fn holds(&self, rules: &[Vec<u8>]) -> bool {
        let numbered = rules
            .iter()
            .zip(self.before as u64 + 1..)
            .all(|(rule, number)| handle(rule, NFTA_RULE_HANDLE) == Some(number));
        rules.len() == self.rules && numbered && noted(rules).is_some_and(|it| it == self.note)
    }

    /// Whether the last of these rules bears the note of another table of ours.
    pub(super) fn differs(&self, rules: &[Vec<u8>]) -> bool {
        noted(rules).is_some_and(|note| note != self.note)
    }
}

/// Our note on the last of these rules.
fn noted(rules: &[Vec<u8>]) -> Option<&[u8]> {
    let mut notes = find(rules.last()?, NFTA_RULE_USERDATA)?;
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
