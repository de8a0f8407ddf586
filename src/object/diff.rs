// SPDX-License-Identifier: Apache-2.0
//! The difference between what should be and what is, for every kind of object alike.
//! Pure: whose an object is, and when one of somebody else does as well, its kind says.

use std::{collections::HashMap, fmt::Debug, hash::Hash, iter};

use serde::{Deserialize, Serialize};

use crate::list::{Gather, PushAll};

/// An object that the kernel has.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Held<T> {
    /// The object.
    pub object: T,
    /// Whether it is ours to change.
    pub ours: bool,
}

/// A kind of object, as it should be.
pub trait Object: Clone + Debug + Eq + 'static {
    /// As the kernel has it, with whose it is.
    type Held: Clone + Debug + Eq + 'static;
    /// What the kernel tells objects apart by.
    type Key<'a>: Eq + Hash
    where
        Self: 'a;

    /// The key.
    fn key(&self) -> Self::Key<'_>;

    /// The key of what is held; `None` for what no object of ours could have the key
    /// of, such as a route for a type of service.
    fn key_of(held: &Self::Held) -> Option<Self::Key<'_>>;

    /// Whether it is ours to change.
    fn is_ours(held: &Self::Held) -> bool;

    /// Whether `held` is this very object, made by us.
    fn is(&self, held: &Self::Held) -> bool;

    /// Whether `held`, which is somebody else's, does what this one would.
    fn is_served_by(&self, held: &Self::Held) -> bool;
}

/// A kind of which the kernel has one for each key, and two are either the same or not.
pub trait Entry: Clone + Debug + Eq + 'static {
    /// As of [`Object`].
    type Key<'a>: Eq + Hash
    where
        Self: 'a;

    /// The key.
    fn entry_key(&self) -> Self::Key<'_>;
}

impl<E: Entry> Object for E {
    type Held = Held<Self>;
    type Key<'a>
        = E::Key<'a>
    where
        Self: 'a;

    fn key(&self) -> Self::Key<'_> {
        self.entry_key()
    }

    fn key_of(held: &Held<Self>) -> Option<Self::Key<'_>> {
        Some(held.object.entry_key())
    }

    fn is_ours(held: &Held<Self>) -> bool {
        held.ours
    }

    fn is(&self, held: &Held<Self>) -> bool {
        held.object == *self
    }

    fn is_served_by(&self, held: &Held<Self>) -> bool {
        held.object == *self
    }
}

/// What is to be done about one object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step<O: Object> {
    /// Make it: nothing has its key.
    Create(O),
    /// Put it in the place of one of ours.
    Replace(O, O::Held),
    /// Nothing: somebody else has its key.
    Foreign(O, O::Held),
    /// Remove one of ours.
    Delete(O::Held),
}

impl<O: Object> Step<O> {
    /// The object that there should be.
    pub fn wanted(&self) -> Option<&O> {
        match self {
            Self::Create(wanted) | Self::Replace(wanted, _) | Self::Foreign(wanted, _) => {
                Some(wanted)
            }
            Self::Delete(_) => None,
        }
    }
}

/// What makes `held` what is `desired`: first what is to be made, in the order of the
/// description, then what is to go, in the order of the kernel's list.
///
/// Several held objects may have one key, as routes do. The kernel uses the first of
/// them, which is the one that it replaces; so the order of those of one key counts,
/// and no other.
pub fn diff<'a, O: Object>(
    desired: impl IntoIterator<Item = &'a O>,
    held: impl IntoIterator<Item = &'a O::Held>,
) -> Vec<Step<O>> {
    let held: Vec<&O::Held> = held.into_iter().gather();
    // One pass over what may be thousands of either: the first of each key, and behind each
    // the next of the same.
    let mut first_of: HashMap<O::Key<'a>, usize> = HashMap::with_capacity(held.len());
    let mut next_of: Vec<Option<usize>> = vec![None; held.len()];
    for ((place, one), next) in held.iter().enumerate().zip(&mut next_of).rev() {
        if let Some(key) = O::key_of(one) {
            *next = first_of.insert(key, place);
        }
    }
    let mut steps = Vec::new();
    let mut is_kept = vec![false; held.len()];
    for wanted in desired {
        let first = first_of.get(&wanted.key()).copied();
        let places = iter::successors(first, |place| next_of.get(*place).copied().flatten());
        let same = places.filter_map(|place| Some((place, *held.get(place)?)));
        if let Some(kept) = keep(wanted, same, &mut steps).and_then(|kept| is_kept.get_mut(kept)) {
            *kept = true;
        }
    }
    let surplus = held.into_iter().zip(is_kept);
    let surplus = surplus.filter(|(one, is_kept)| O::is_ours(one) && !is_kept);
    steps.push_all(surplus.map(|(one, _)| Step::Delete(one.clone())));
    steps
}

/// What makes the first of those with one key the wanted one; returns the place of the
/// one that stays for it.
fn keep<'a, O: Object>(
    wanted: &O,
    same: impl Iterator<Item = (usize, &'a O::Held)> + Clone,
    steps: &mut Vec<Step<O>>,
) -> Option<usize> {
    let Some((first_place, first)) = same.clone().next() else {
        steps.push(Step::Create(wanted.clone()));
        return None;
    };
    // The kernel refuses to put an object in another's place that it has already: there
    // it is enough to remove those in front of it.
    let there = same.clone().find(|(_, one)| wanted.is(one)).map(|(place, _)| place);
    if !O::is_ours(first) {
        if !wanted.is_served_by(first) {
            steps.push(Step::Foreign(wanted.clone(), first.clone()));
        }
        return there;
    }
    there.or_else(|| {
        steps.push(Step::Replace(wanted.clone(), first.clone()));
        Some(first_place)
    })
}

#[cfg(test)]
mod tests;
