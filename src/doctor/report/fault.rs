//! Which nodes do not reach each other: by what leads from one to the other, and by
//! what was measured.

use std::collections::BTreeMap;

use super::{
    cluster::{Cluster, End},
    html::count,
    matrix::Measured,
    probed::Path,
};
use crate::{fabric::standing::State, text::few::first_of};

/// So many of one node are told each for itself.
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
#[derive(Default)]
pub(super) struct Faults {
    /// Those that a drawing may have.
    pub(super) drawn: Vec<Fault>,
    /// The others, in words.
    pub(super) folded: Vec<String>,
}

pub(super) fn faults(cluster: &Cluster) -> Faults {
    let mut by_node: BTreeMap<End, Vec<Fault>> = BTreeMap::new();
    let mut known: BTreeMap<End, usize> = BTreeMap::new();
    for link in cluster.links() {
        let (from, to, standing) = (End::View(link.from), link.to, &link.peer.standing);
        *known.entry(from).or_default() += 1;
        if standing.state != State::Reachable {
            let text = format!("{}: {}", standing.state.as_str(), first_of(&standing.why));
            by_node.entry(from).or_default().push(Fault { from, to, text });
        }
    }
    for (from, measured) in Measured::all(cluster) {
        for (to, paths) in &measured.paths {
            if let Some(text) = words(paths) {
                by_node.entry(from).or_default().push(Fault { from, to: *to, text });
            }
        }
    }
    let mut all = Faults::default();
    for (end, mut faults) in by_node {
        // Towards those first of which more is known.
        faults.sort_by_key(|fault| fault.to);
        if faults.len() <= OF_ONE_MAX && all.drawn.len() + faults.len() <= DRAWN_MAX {
            all.drawn.append(&mut faults);
        } else if let Some(first) = faults.first() {
            let (name, to) = (cluster.name(end), cluster.name(first.to));
            let of = known.get(&end).copied().unwrap_or_default();
            let (wrong, of) = (faults.len(), count(of, "node", "nodes"));
            all.folded.push(format!(
                "{name}: {wrong} faults on its ways to {of}; the first, to {to}: {}",
                first.text
            ));
        }
    }
    all
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
