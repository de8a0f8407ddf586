// SPDX-License-Identifier: Apache-2.0
//! Numbers for classes and identities, made of what these are: what is the same has the
//! same number in every run on a node, and what changes has another, so that a table never
//! has to change what a number means while pods have it.
//!
//! They are keyed by a secret of the node. Whoever may write policies and labels could look
//! for two that have one number otherwise, and be taken for whom others let in.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::nft::policy::CLOSED;

/// Identities of networks begin here, those of pods end before.
pub(super) const NETWORKS: u32 = 1 << 30;
/// The first number that is free to be drawn.
const FIRST: u32 = CLOSED as u32 + 1;

/// A node's secret, by which its numbers are keyed.
pub type Key = [u8; 16];

/// Which number has which digest, in order.
pub(super) struct Numbers {
    key: Key,
    known: Vec<(u32, u64)>,
}

impl Numbers {
    pub(super) fn of(key: &Key) -> Self {
        Self { key: *key, known: Vec::new() }
    }

    /// The number of some content, with more of its digest above it. Where two would have
    /// one number, the second gets the next that is free.
    pub(super) fn number(&mut self, content: &impl Hash) -> u64 {
        // Its own key is the same everywhere, where any other would differ from run to run.
        let mut hasher = DefaultHasher::new();
        self.key.hash(&mut hasher);
        content.hash(&mut hasher);
        let digest = hasher.finish();
        let mut number = FIRST + digest as u32 % (NETWORKS - FIRST);
        loop {
            match self.known.binary_search_by_key(&number, |(number, _)| *number) {
                Ok(place) if self.known.get(place).is_some_and(|(_, other)| *other != digest) => {}
                Ok(_) => break,
                Err(place) => {
                    self.known.insert(place, (number, digest));
                    break;
                }
            }
            number = if number + 1 == NETWORKS { FIRST } else { number + 1 };
        }
        (digest >> u32::BITS << u32::BITS) | u64::from(number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const KEY: Key = [7; 16];

    #[test]
    fn numbers_are_of_the_content_and_never_those_of_others() {
        let (mut one, mut other) = (Numbers::of(&KEY), Numbers::of(&KEY));
        let first = one.number(&"content");
        assert_eq!(one.number(&"content"), first);
        other.number(&"something else");
        assert_eq!(other.number(&"content"), first);
        let low = |value: u64| value as u32;
        assert!((FIRST..NETWORKS).contains(&low(first)));
        // Where the place is taken the next is free.
        let mut crowded = Numbers { key: KEY, known: vec![(low(first), 0)] };
        assert_eq!(low(crowded.number(&"content")), low(first) + 1);
        assert_eq!(low(crowded.number(&"content")), low(first) + 1);
    }

    /// What has one number by one key, which anybody finds who knows it, has two by another.
    #[test]
    fn who_knows_no_key_finds_no_two_that_have_one_number() {
        let number = |key: u8, content: u32| Numbers::of(&[key; 16]).number(&content) as u32;
        let (mut known, mut found) = (BTreeMap::new(), Vec::new());
        for content in 0..200_000 {
            found.extend(known.insert(number(1, content), content).map(|other| (other, content)));
        }
        assert!(found.len() > 5, "{}", found.len());
        for (one, other) in found {
            assert_eq!(number(1, one), number(1, other));
            assert_ne!(number(2, one), number(2, other), "{one} {other}");
        }
    }
}
