// SPDX-License-Identifier: Apache-2.0
//! What becomes of a table, told by pods and policies.

use super::{Direction, Policies, World, live::Owners};
use crate::{
    list::{Gather, PushAll, Sorted, distinct},
    nft::policy::Way,
    object::{Action, Kind, Told},
    text::few::some_of,
};

/// Tells what makes of the table that is held the one that is wanted. What it holds is
/// told of each pod; of peers and of what classes are allowed, only how many.
pub fn changes(world: &World, held: &Policies, wanted: &Policies) -> Vec<Told> {
    let mut told = Vec::new();
    for direction in Direction::BOTH {
        let (before, after) = (held.way(direction), wanted.way(direction));
        told.push_all(of_pods(world, direction, before, after));
    }
    let counts = Counts::of(&held.identities, &wanted.identities);
    told.push_all(counts.told("peers that policies name".to_owned()));
    for direction in Direction::BOTH {
        let (before, after) = (held.way(direction), wanted.way(direction));
        let counts = Counts::of(&before.grants, &after.grants);
        told.push_all(counts.told(format!("what {} allows", direction.word())));
        let counts = Counts::of(&before.networks, &after.networks);
        told.push_all(counts.told(format!("networks of {}", direction.word())));
    }
    told
}

fn of_pods(world: &World, direction: Direction, before: &Way, after: &Way) -> Vec<Told> {
    let owners = Owners::of(world);
    let mut told = Vec::new();
    let addresses = before.classes.keys().chain(after.classes.keys()).copied();
    let addresses = distinct(addresses.gather());
    for address in &addresses {
        let (old, new) = (before.classes.get(address), after.classes.get(address));
        let (action, before, after) = match (old, new) {
            (old, new) if old == new => continue,
            (None, _) => (Action::Create, None, true),
            (Some(_), None) => (Action::Delete, Some("isolated".to_owned()), false),
            (Some(_), Some(_)) => (Action::Replace, Some("allowed other peers".to_owned()), true),
        };
        let pod = owners.find(*address);
        let name = pod.map_or_else(String::new, |pod| format!("{} ", pod.name));
        let policies = world.policies.iter().filter(|policy| {
            pod.is_some_and(|pod| policy.rules(direction).is_some() && policy.selects(pod))
        });
        let policies: Vec<String> = policies.map(|policy| policy.name.to_string()).gather();
        let object = format!("{} of pod {name}{address}", direction.word());
        let after = after.then(|| match pod {
            Some(_) => format!("isolated by {}", some_of(&policies)),
            None => "closed, as nobody knows its pod".to_owned(),
        });
        told.push(Told { kind: Kind::Table, action, object, before, after });
    }
    told
}

/// How many there are before and after, and how many of them go or come.
struct Counts {
    before: (usize, usize),
    after: (usize, usize),
}

impl Counts {
    fn of<K: Copy + Ord, V: Copy + PartialEq>(before: &Sorted<K, V>, after: &Sorted<K, V>) -> Self {
        let (gone, new) = (before.without(after), after.without(before));
        Self { before: (before.len(), gone.len()), after: (after.len(), new.len()) }
    }

    fn told(&self, object: String) -> Option<Told> {
        let action = match (self.before, self.after) {
            ((_, 0), (_, 0)) => return None,
            ((0, _), _) => Action::Create,
            (_, (0, _)) => Action::Delete,
            _ => Action::Replace,
        };
        let counts = |(of, changed): (usize, usize), word: &str| {
            (of > 0).then(|| format!("{of}, of which {changed} {word}"))
        };
        let (before, after) = (counts(self.before, "go"), counts(self.after, "are new"));
        Some(Told { kind: Kind::Table, action, object, before, after })
    }
}
