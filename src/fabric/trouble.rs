// SPDX-License-Identifier: Apache-2.0
//! The problems that are left after a pass: of single peers (the node stays ready), or of
//! the node (STATUS answers 50). How they are told is not known here.

use std::collections::HashSet;

use ipnetwork::IpNetwork;

use super::{apply::Refused, desired::Desired, reconcile::Plan};
use crate::{
    family::{Family, HasFamily},
    list::PushAll,
    object::{Change, Forwarding, Managed, Neighbour, Objects, Route},
};

/// What is wanting.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trouble {
    /// In words; those of the whole node first.
    pub reasons: Vec<String>,
    /// It is the whole node's: nothing goes well without what is wanting, or no
    /// peer of a family that the node's pods have can be reached.
    pub of_node: bool,
}

impl Trouble {
    /// What is wanting of a plan beside what the kernel refused of the node.
    pub fn of(plan: &Plan, refused: &Refused) -> Self {
        let desired = &plan.desired;
        let (of_node, of_peers): (Vec<_>, Vec<_>) =
            plan.conflicts().partition(|conflict| conflict.concerns_all());
        let told = |conflict: &&Change| format!("left alone: {}", conflict.told().words());
        let mut reasons = desired.not_ready.clone();
        reasons.push_all(of_node.iter().map(told));
        let mut trouble = Self { of_node: !reasons.is_empty(), reasons };
        trouble.reasons.push_all(desired.excluded.iter().chain(&desired.wanting).cloned());
        trouble.reasons.push_all(of_peers.iter().map(told));
        trouble.reasons.push_all(refused.peers.iter().map(ToString::to_string));
        let mut cut_off = desired.cut_off.clone();
        cut_off.extend(hindered(desired, of_peers.into_iter().chain(&refused.changes)));
        for family in Family::BOTH {
            let mut family =
                desired.remote.iter().filter(|cidr| cidr.family() == family).peekable();
            trouble.of_node |= family.peek().is_some() && family.all(|cidr| cut_off.contains(cidr));
        }
        trouble
    }
}

/// The pods that are not reached without these changes.
fn hindered<'a>(
    desired: &Desired,
    changes: impl Iterator<Item = &'a Change>,
) -> HashSet<IpNetwork> {
    let (mut hindered, mut ends) = (HashSet::new(), HashSet::new());
    let mut macs = HashSet::new();
    for change in changes {
        if let Some(route) = change.wanted::<Route>() {
            hindered.insert(route.destination());
        }
        if let Some(entry) = change.wanted::<Neighbour>() {
            ends.insert((entry.device.as_str(), entry.address));
        }
        if let Some(entry) = change.wanted::<Forwarding>() {
            macs.insert((entry.device.as_str(), entry.mac));
        }
    }
    let Objects { neighbours, routes, .. } = &desired.objects;
    let behind = neighbours.iter().filter(|entry| macs.contains(&(&entry.device, entry.mac)));
    ends.extend(behind.map(|entry| (entry.device.as_str(), entry.address)));
    let through = routes.iter().filter(|route| {
        let hop = route.device().zip(route.gateway());
        hop.is_some_and(|hop| ends.contains(&hop))
    });
    hindered.extend(through.map(|route| route.destination()));
    hindered
}
