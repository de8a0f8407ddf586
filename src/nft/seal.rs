//! Whether the contents of the sets are known without being read, which would
//! cost more the more nodes there are. Nothing is stored for it but in the
//! kernel: each set carries a digest of what it was made with, and these are
//! the kernel's own rules that keep it true.
//!
//! * A set that is constant and that a rule asks cannot be changed (`EBUSY`,
//!   net/netfilter/nf_tables_api.c, `nf_tables_newsetelem`).
//! * Whatever is made in a table takes the next number of that table, and no
//!   number is given twice (`nf_tables_alloc_handle`). We make a chain, the sets
//!   and the rules, in one transaction, so their numbers follow each other.
//!   Where they still do, each set has been in a rule's hands ever since.
//!
//! A table that somebody saved and restored has no digests and is read.

use sha1_smol::Sha1;

use super::abi::*;
use super::attribute::find;
use super::interval::Intervals;
use super::ruleset::{Ruleset, Set};
use super::socket::Reply;

/// Our type among the notes that nft keeps on a set (libnftnl numbers its own
/// from zero and passes over those that it does not know).
const DIGEST: u8 = b'm';

/// The note to go with a set: type, length, digest.
pub(super) fn note(intervals: &Intervals) -> Vec<u8> {
    let mut digest = Sha1::new();
    for element in intervals.elements().flatten() {
        digest.update(&[u8::from(element.end)]);
        digest.update(element.key.as_ref());
    }
    let digest = digest.digest().bytes();
    let length = u8::try_from(digest.len()).unwrap_or(u8::MAX);
    [&[DIGEST, length], &digest[..]].concat()
}

/// Whether nobody can have changed the sets since they were made as wanted.
/// Chain and rules have been compared already.
pub(super) fn holds(wanted: &Ruleset, chain: &Reply, sets: &[Reply; 2], rules: &Reply) -> bool {
    let noted = wanted.sets.iter().zip(sets).all(|(set, found)| is_noted(set, found));
    let numbers = std::iter::once((chain, NFTA_CHAIN_HANDLE))
        .chain(sets.iter().map(|set| (set, NFTA_SET_HANDLE)))
        .chain([(rules, NFTA_RULE_HANDLE)])
        .flat_map(|(reply, kind)| reply.objects.iter().map(move |object| handle(object, kind)));
    let numbers: Option<Vec<u64>> = numbers.collect();
    noted && numbers.is_some_and(|numbers| numbers.is_sorted_by(|one, next| one + 1 == *next))
}

fn is_noted(set: &Set, found: &Reply) -> bool {
    let note = note(&set.intervals);
    let notes = found.objects.first().and_then(|object| find(object, NFTA_SET_USERDATA));
    notes.is_some_and(|notes| notes.ends_with(&note))
}

/// The number of an object in its table.
pub(super) fn handle(object: &[u8], kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(find(object, kind)?.try_into().ok()?))
}
