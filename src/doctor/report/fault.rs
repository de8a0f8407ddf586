// SPDX-License-Identifier: Apache-2.0
//! Which nodes do not reach each other: by what leads from one to the other, and by
//! what was measured.

use std::collections::BTreeMap;

use super::{
    cluster::{Cluster, End},
    html::count,
    matrix::Measured,
    probed::Path,
};
use crate::{fabric::standing::State, list::PushAll, text::few::first_of};

/// So many from one node, or to one, are told each for itself.
const OF_ONE_MAX: usize = 3;
/// So many have a number of their own.
const DRAWN_MAX: usize = 12;

/// What is wrong on the way from one node to another.
pub(super) struct Fault {
    pub(super) from: End,
    pub(super) to: End,
    pub(super) text: String,
}

/// All of it.
pub(super) struct Faults {
    /// Those that a drawing may have.
    pub(super) drawn: Vec<Fault>,
    /// The others, in words.
    pub(super) folded: Vec<String>,
}

/// What is wrong from whom to whom.
type Ways = BTreeMap<End, BTreeMap<End, Vec<String>>>;

pub(super) fn faults(cluster: &Cluster) -> Faults {
    let mut by_node = Ways::new();
    let mut known: BTreeMap<End, usize> = BTreeMap::new();
    let mut add = |from: End, to: End, text: String| {
        by_node.entry(from).or_default().entry(to).or_default().push(text);
    };
    for link in cluster.links() {
        let (from, standing) = (End::View(link.from), &link.peer.standing);
        *known.entry(from).or_default() += 1;
        if standing.state != State::Reachable {
            add(from, link.to, format!("{}: {}", standing.state.as_str(), first_of(&standing.why)));
        }
    }
    for (from, measured) in Measured::all(cluster) {
        for (to, paths) in &measured.paths {
            if let Some(text) = words(paths) {
                add(from, *to, text);
            }
        }
    }
    let folded = fold_ends(cluster, &mut by_node);
    let mut all = Faults { drawn: Vec::new(), folded };
    for (from, ways) in by_node {
        if ways.len() <= OF_ONE_MAX && all.drawn.len() + ways.len() <= DRAWN_MAX {
            let drawn = ways.into_iter();
            all.drawn.push_all(drawn.map(|(to, told)| Fault { from, to, text: told.join("; ") }));
        } else if let Some((to, told)) = ways.first_key_value() {
            let (name, to, told) = (cluster.name(from), cluster.name(*to), told.join("; "));
            let of = known.get(&from).copied().unwrap_or_default();
            let (wrong, of) = (ways.len(), count(of, "other node", "other nodes"));
            let words = format!("{name}: something is wrong with {wrong} of its ways to {of}");
            all.folded.push(format!("{words}; the first, to {to}: {told}"));
        }
    }
    all
}

/// Nodes that many do not reach, taken out of what is wrong of those.
fn fold_ends(cluster: &Cluster, by_node: &mut Ways) -> Vec<String> {
    let mut to: BTreeMap<End, Vec<End>> = BTreeMap::new();
    for (from, ways) in &*by_node {
        for end in ways.keys() {
            to.entry(*end).or_default().push(*from);
        }
    }
    let mut told = Vec::new();
    for (end, from) in to.into_iter().filter(|(_, from)| from.len() > OF_ONE_MAX) {
        let mut words = from.iter().filter_map(|from| by_node.get_mut(from)?.remove(&end));
        let first = words.next().unwrap_or_default().join("; ");
        let rest = words.count();
        let (name, by) = (cluster.name(end), from.first().map_or("", |from| cluster.name(*from)));
        told.push(format!(
            "{name}: something is wrong with the ways of {} nodes to it; the first, from {by}: {first}",
            rest + 1
        ));
    }
    by_node.retain(|_, ways| !ways.is_empty());
    told
}

/// What measurements say of a way, where something is wrong with it.
fn words(paths: &[Path]) -> Option<String> {
    paths.iter().find_map(|path| {
        let side = path.side();
        match (path.answers(), path.passed) {
            (false, _) if path.sent > 0 => Some(format!("probe: no answer by the {side} path")),
            (_, Some(passed)) if path.is_narrow() => {
                let needed = path.needed.unwrap_or_default();
                Some(format!("probe: {passed} of {needed} bytes pass by the {side} path"))
            }
            _ => None,
        }
    })
}
