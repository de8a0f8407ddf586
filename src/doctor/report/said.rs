// SPDX-License-Identifier: Apache-2.0
//! Who of a cluster says what.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    cluster::{Cluster, End},
    view::{View, Way},
};
use crate::{
    finding::{Finding, Severity},
    list::{Gather, Ordered},
    text::few::some_of,
};

/// Who says something, by what is said.
pub(super) type Said = BTreeMap<String, Vec<usize>>;

/// A finding with nothing to take back.
pub(super) fn finding(
    (id, severity): (&'static str, Severity),
    object: String,
    evidence: String,
    why: &'static str,
    fix: String,
) -> Finding {
    Finding { id, severity, object, evidence, why, fix, undo: String::new() }
}

/// A few of the nodes at these places.
pub(super) fn names(cluster: &Cluster, places: &[usize]) -> String {
    let names = places.iter().map(|place| cluster.name(End::View(*place)));
    some_of(&names.gather())
}

/// The way of a node whose routes have this protocol.
pub(super) fn way(view: &View, protocol: u8) -> Option<&Way> {
    view.ways.iter().find(|way| way.keys.protocol == protocol)
}

/// Each value with who has it, what most have first.
pub(super) fn told(cluster: &Cluster, said: &Said, word: &str) -> String {
    let mut all: Vec<(&String, &Vec<usize>)> = said.iter().gather();
    all.order_by_key(|(_, places)| Reverse(places.len()));
    let told =
        all.iter().map(|(value, places)| format!("{value} {word} {}", names(cluster, places)));
    told.gather().join("; ")
}
