//! Labels that many pods have, kept once: those of a controller differ in few pods.

use std::{collections::BTreeSet, sync::Arc};

use super::Labels;

/// Labels of which each is there once, however many have them.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    known: BTreeSet<Arc<Labels>>,
    /// How many there may be before those that nobody has any more are looked for.
    limit: usize,
}

impl Shared {
    /// The same labels, shared with all that have them.
    pub(crate) fn share(&mut self, labels: Labels) -> Arc<Labels> {
        if let Some(known) = self.known.get(&labels) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.limit {
            self.known.retain(|labels| Arc::strong_count(labels) > 1);
            self.limit = 2 * self.known.len() + 64;
        }
        let labels = Arc::new(labels);
        self.known.insert(Arc::clone(&labels));
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_shared_as_long_as_somebody_has_them() {
        let mut shared = Shared::default();
        let labels = |number: usize| Labels::from([("app".to_owned(), number.to_string())]);
        let first = shared.share(labels(0));
        assert!(Arc::ptr_eq(&first, &shared.share(labels(0))));
        (1..10_000).for_each(|number| drop(shared.share(labels(number))));
        assert!(shared.known.len() < 200, "{}", shared.known.len());
        assert!(Arc::ptr_eq(&first, &shared.share(labels(0))));
    }
}
