// SPDX-License-Identifier: Apache-2.0
//! What many pods have, kept once: the labels and ports of a controller's, and their nodes.

use std::{collections::BTreeSet, sync::Arc};

/// Things of which each is there once, however many have it.
#[derive(Debug)]
pub(crate) struct Shared<T: ?Sized> {
    known: BTreeSet<Arc<T>>,
    /// How many there may be before those that nobody has any more are looked for.
    limit: usize,
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self { known: BTreeSet::new(), limit: 0 }
    }
}

impl<T: Ord + ?Sized> Shared<T> {
    /// The same, shared with all that have it.
    pub(crate) fn share(&mut self, one: Arc<T>) -> Arc<T> {
        if let Some(known) = self.known.get(&one) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.limit {
            self.known.retain(|one| Arc::strong_count(one) > 1);
            self.limit = 2 * self.known.len() + 64;
        }
        self.known.insert(Arc::clone(&one));
        one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Labels;

    #[test]
    fn labels_are_shared_as_long_as_somebody_has_them() {
        let mut shared = Shared::default();
        let labels =
            |number: usize| Arc::new(Labels::from([("app".to_owned(), number.to_string())]));
        let first = shared.share(labels(0));
        assert!(Arc::ptr_eq(&first, &shared.share(labels(0))));
        (1..10_000).for_each(|number| drop(shared.share(labels(number))));
        assert!(shared.known.len() < 200, "{}", shared.known.len());
        assert!(Arc::ptr_eq(&first, &shared.share(labels(0))));
    }
}
