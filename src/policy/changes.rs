//! What becomes of a table, told by pods and policies.

use std::collections::BTreeSet;

use super::{Direction, Policies, World, live::owners};
use crate::{
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
        told.extend(of_pods(world, direction, before, after));
    }
    let peers = |of: &Policies| of.identities.clone().into_iter().collect();
    told.extend(counted("peers that policies name", &peers(held), &peers(wanted)));
    for direction in Direction::BOTH {
        let (before, after) = (held.way(direction), wanted.way(direction));
        let name = format!("what {} allows", direction.word());
        let entries = |way: &Way| {
            let grants = way.grants.iter().map(|grant| (*grant, grant.port));
            grants.chain(way.ranges.iter().map(|(grant, last)| (*grant, *last))).collect()
        };
        told.extend(counted(&name, &entries(before), &entries(after)));
        let networks = |way: &Way| way.networks.clone().into_iter().collect();
        let name = format!("networks of {}", direction.word());
        told.extend(counted(&name, &networks(before), &networks(after)));
    }
    told
}

fn of_pods(world: &World, direction: Direction, before: &Way, after: &Way) -> Vec<Told> {
    let owners = owners(world);
    let mut told = Vec::new();
    let addresses: BTreeSet<_> = before.classes.keys().chain(after.classes.keys()).collect();
    for address in addresses {
        let (old, new) = (before.classes.get(address), after.classes.get(address));
        let (action, before, after) = match (old, new) {
            (old, new) if old == new => continue,
            (None, _) => (Action::Create, None, true),
            (Some(_), None) => (Action::Delete, Some("isolated".to_owned()), false),
            (Some(_), Some(_)) => (Action::Replace, Some("allowed other peers".to_owned()), true),
        };
        let pod = owners.get(address);
        let name = pod.map_or_else(String::new, |pod| format!("{} ", pod.name));
        let policies = world.policies.iter().filter(|policy| {
            pod.is_some_and(|pod| policy.rules(direction).is_some() && policy.selects(pod))
        });
        let policies: Vec<String> = policies.map(|policy| policy.name.to_string()).collect();
        let object = format!("{} of pod {name}{address}", direction.word());
        let after = after.then(|| match pod {
            Some(_) => format!("isolated by {}", some_of(&policies)),
            None => "closed, as nobody knows its pod".to_owned(),
        });
        told.push(Told { kind: Kind::Table, action, object, before, after });
    }
    told
}

/// How many come and how many go, if any do.
fn counted<T: Ord>(name: &str, before: &BTreeSet<T>, after: &BTreeSet<T>) -> Option<Told> {
    let gone = before.difference(after).count();
    let new = after.difference(before).count();
    let action = match (gone, new) {
        (0, 0) => return None,
        (0, _) if before.is_empty() => Action::Create,
        (_, 0) if after.is_empty() => Action::Delete,
        _ => Action::Replace,
    };
    let counts = |(of, changed): (usize, usize), word: &str| {
        (of > 0).then(|| format!("{of}, of which {changed} {word}"))
    };
    let before = counts((before.len(), gone), "go");
    let after = counts((after.len(), new), "are new");
    Some(Told { kind: Kind::Table, action, object: name.to_owned(), before, after })
}
