// SPDX-License-Identifier: Apache-2.0
//! Numbers for classes and identities, made of what these are: what is the same has the
//! same number in every run, and what changes has another, so that a table never has to
//! change what a number means while pods have it.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::nft::policy::CLOSED;

/// Identities of networks begin here, those of pods end before.
pub(super) const NETWORKS: u32 = 1 << 30;
/// The first number that is free to be drawn.
const FIRST: u32 = CLOSED as u32 + 1;

/// Which number has which digest, in order.
#[derive(Default)]
pub(super) struct Numbers(Vec<(u32, u64)>);

impl Numbers {
    /// The number of some content, with more of its digest above it. Where two would have
    /// one number, the second gets the next that is free.
    pub(super) fn number(&mut self, content: &impl Hash) -> u64 {
        // Without a key that would differ from run to run.
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let digest = hasher.finish();
        let mut number = FIRST + digest as u32 % (NETWORKS - FIRST);
        loop {
            match self.0.binary_search_by_key(&number, |(number, _)| *number) {
                Ok(place) if self.0.get(place).is_some_and(|(_, other)| *other != digest) => {}
                Ok(_) => break,
                Err(place) => {
                    self.0.insert(place, (number, digest));
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
    use super::*;

    #[test]
    fn numbers_are_of_the_content_and_never_those_of_others() {
        let (mut one, mut other) = (Numbers::default(), Numbers::default());
        let first = one.number(&"content");
        assert_eq!(one.number(&"content"), first);
        other.number(&"something else");
        assert_eq!(other.number(&"content"), first);
        let low = |value: u64| value as u32;
        assert!((FIRST..NETWORKS).contains(&low(first)));
        // Where the place is taken the next is free.
        let mut crowded = Numbers(vec![(low(first), 0)]);
        assert_eq!(low(crowded.number(&"content")), low(first) + 1);
        assert_eq!(low(crowded.number(&"content")), low(first) + 1);
    }
}
