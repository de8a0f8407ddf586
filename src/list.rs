// SPDX-License-Identifier: Apache-2.0
//! Lists in little code. What the standard library makes of each kind of iterator that is collected,
//! and of each type that is sorted or kept in a tree, is made for speed, and is long: it
//! would be an eighth of the plugin, which starts anew for each pod, while few lists of a node are
//! long.

mod include;
mod sorted;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    mem::replace,
};

pub use include::{distinct, include};
pub use sorted::Sorted;

/// All that an iterator gives.
pub trait Gather: Iterator + Sized {
    /// In a list, pushed one by one, which has room for four at first; `collect` asks for sizes and
    /// reserves room.
    fn gather(self) -> Vec<Self::Item> {
        let mut all = Vec::new();
        self.for_each(|one| all.push(one));
        all
    }

    /// In a tree without values, each put where it belongs; `collect` sorts a list first.
    fn gather_set(self) -> BTreeSet<Self::Item>
    where
        Self::Item: Ord,
    {
        let mut all = BTreeSet::new();
        self.for_each(|one| {
            all.insert(one);
        });
        all
    }

    /// In a tree, likewise; of several with one key the last stays.
    fn gather_map<K: Ord, V>(self) -> BTreeMap<K, V>
    where
        Self: Iterator<Item = (K, V)>,
    {
        let mut all = BTreeMap::new();
        self.for_each(|(key, value)| {
            all.insert(key, value);
        });
        all
    }
}

impl<I: Iterator> Gather for I {}

/// The same at the end of a list, in place of `extend`.
pub trait PushAll<T> {
    /// Adds all that is left.
    fn push_all(&mut self, all: impl IntoIterator<Item = T>);
}

impl<T> PushAll<T> for Vec<T> {
    fn push_all(&mut self, all: impl IntoIterator<Item = T>) {
        all.into_iter().for_each(|one| self.push(one));
    }
}

/// Lists in order. What is alike stays in the order in which it was.
pub trait Ordered<T> {
    /// As its things are compared.
    fn order(&mut self)
    where
        T: Ord,
    {
        self.order_by(T::cmp);
    }

    /// By what each of them has, for which each comparison asks anew.
    fn order_by_key<K: Ord>(&mut self, key: impl Fn(&T) -> K) {
        self.order_by(|one, other| key(one).cmp(&key(other)));
    }

    /// By that comparison.
    fn order_by(&mut self, compare: impl Fn(&T, &T) -> Ordering);
}

impl<T> Ordered<T> for [T] {
    fn order_by(&mut self, compare: impl Fn(&T, &T) -> Ordering) {
        let mut places = places(self.len(), &|one, other| match (self.get(one), self.get(other)) {
            (Some(one), Some(other)) => compare(one, other),
            _ => Ordering::Equal,
        });
        // The permutation is applied in place, cycle by cycle.
        for start in 0..places.len() {
            let mut at = start;
            while let Some(from) = places.get_mut(at).map(|from| replace(from, at)) {
                if from == start {
                    break;
                }
                self.swap(at, from);
                at = from;
            }
        }
    }
}

/// The permutation that puts a list in order: for each place the one that its element has now. This is
/// the one sort of the plugin.
fn places(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    places.sort_by(|one, other| compare(*one, *other));
    places
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn lists_are_put_in_order_as_the_standard_library_does(given in vec((0..9u8, any::<u8>()), 0..40)) {
            let (mut one, mut other) = (given.clone(), given.clone());
            one.order();
            other.sort();
            prop_assert_eq!(&one, &other);
            let (mut one, mut other) = (given.clone(), given);
            one.order_by_key(|it| it.0);
            other.sort_by_key(|it| it.0);
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn what_an_iterator_gives_is_in_a_list() {
        let mut list = (1..4).filter(|n| *n != 2).gather();
        list.push_all([7, 8]);
        list.push_all(None);
        assert_eq!(list, [1, 3, 7, 8]);
    }
}
