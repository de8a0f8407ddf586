// SPDX-License-Identifier: Apache-2.0
//! A map that is a list in order.

use std::{borrow::Borrow, mem::take, slice, vec};

use super::{Ordered, PushAll};

/// A sorted vector as a map: a look-up is a binary search, an entry behind all others is appended, and
/// one between others moves those behind it, so that a long map is built of a list, by [`of`](Self::of)
/// or `extend`. Its code is a tenth of a tree's.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Sorted<K, V>(Vec<(K, V)>);

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Sorted<K, V> {
    /// Of entries in any order. Where several have one key, `choose` folds each later value into the
    /// earlier one.
    pub fn of(mut list: Vec<(K, V)>, choose: &dyn Fn(&mut V, V)) -> Self {
        list.order_by(|(one, _), (other, _)| one.cmp(other));
        let mut all = Self::default();
        for (key, value) in list {
            match all.0.last_mut() {
                Some((last, before)) if *last == key => choose(before, value),
                _ => all.0.push((key, value)),
            }
        }
        all.0.shrink_to_fit();
        all
    }

    /// Puts it there in place of what was, if anything.
    pub fn insert(&mut self, key: K, value: V) {
        match self.place(&key) {
            Ok(place) => {
                if let Some((_, held)) = self.0.get_mut(place) {
                    *held = value;
                }
            }
            Err(place) => self.0.insert(place, (key, value)),
        }
    }

    /// Takes it away, if it is there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Ok(place) = self.place(key) {
            self.0.remove(place);
        }
    }

    /// What a key leads to, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key).ok()?;
        self.0.get_mut(place).map(|(_, value)| value)
    }

    /// What a key leads to.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key).ok()?;
        self.0.get(place).map(|(_, value)| value)
    }

    /// Whether it is there.
    pub fn has<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place(key).is_ok()
    }

    /// The entry with the greatest key that is not greater than this one.
    pub fn up_to(&self, key: &K) -> Option<(&K, &V)> {
        let count = match self.place(key) {
            Ok(place) => place + 1,
            Err(place) => place,
        };
        self.0.get(count.checked_sub(1)?).map(|(key, value)| (key, value))
    }

    /// All but what the other one has as well. Both are walked once.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self
    where
        K: Copy,
        V: Copy + PartialEq,
    {
        let (mut own, mut others) = (Self::default(), other.0.iter().peekable());
        for one in &self.0 {
            while others.next_if(|other| other.0 < one.0).is_some() {}
            if others.peek() != Some(&one) {
                own.0.push(*one);
            }
        }
        own
    }

    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        match self.0.last() {
            Some((last, _)) if last.borrow() < key => Err(self.0.len()),
            _ => self.0.binary_search_by(|(one, _)| one.borrow().cmp(key)),
        }
    }
}

impl<K, V> Sorted<K, V> {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The keys of all of them.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last one.
    pub fn last(&self) -> Option<&(K, V)> {
        self.0.last()
    }

    /// All of them, to be changed as a list. Whoever does keeps the order.
    #[cfg(test)]
    pub(crate) fn list(&mut self) -> &mut Vec<(K, V)> {
        &mut self.0
    }
}

impl<'a, K, V> IntoIterator for &'a Sorted<K, V> {
    type Item = &'a (K, V);
    type IntoIter = slice::Iter<'a, (K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<K, V> IntoIterator for Sorted<K, V> {
    type Item = (K, V);
    type IntoIter = vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Ord, V> Extend<(K, V)> for Sorted<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, all: I) {
        let mut list = take(&mut self.0);
        list.push_all(all);
        *self = Self::of(list, &|held, new| *held = new);
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Sorted<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(all: I) -> Self {
        let mut sorted = Self::default();
        sorted.extend(all);
        sorted
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Sorted<K, V> {
    fn from(all: [(K, V); N]) -> Self {
        all.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn it_does_as_a_tree_does(
            given in vec((0..12u8, any::<u8>()), 0..30),
            gone in vec(0..12u8, 0..8),
            key in 0..12u8,
        ) {
            let mut tree: BTreeMap<u8, u8> = given.iter().copied().collect();
            let mut sorted: Sorted<u8, u8> = given.iter().copied().collect();
            prop_assert_eq!(&sorted, &Sorted::of(given, &|held, new| *held = new));
            let whole = sorted.clone();
            for one in &gone {
                tree.remove(one);
                sorted.remove(one);
            }
            prop_assert!(sorted.iter().eq(&tree));
            prop_assert_eq!(sorted.get(&key), tree.get(&key));
            prop_assert_eq!(sorted.has(&key), tree.contains_key(&key));
            prop_assert_eq!(sorted.up_to(&key), tree.range(..=key).next_back());
            prop_assert_eq!(sorted.last().copied(), tree.last_key_value().map(|(k, v)| (*k, *v)));
            let left = whole.without(&sorted);
            prop_assert!(left.keys().all(|key| gone.contains(key) && whole.has(key)));
            prop_assert_eq!(left.len() + sorted.len(), whole.len());
        }
    }
}
