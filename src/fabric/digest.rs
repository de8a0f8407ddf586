// SPDX-License-Identifier: Apache-2.0
//! Whether the kernel still has what it had, at the price of a few lists: no
//! peer is looked up, and nothing is remembered but a number.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use ipnetwork::IpNetwork;

use super::{
    desired::Desired,
    divert::address_in,
    observe::observe_own,
    observed::{Observed, Scope},
    settings::Settings,
    ways::Sentinel,
};
use crate::{
    family::{Family, HasFamily},
    list::{Gather, PushAll},
    net::{Error, Socket},
    object::{HeldObjects, Managed, Route},
};

/// The digest of what the kernel has now.
///
/// # Errors
/// Of the kernel's answers.
pub fn of_kernel(socket: &mut Socket, settings: &Settings, scope: &Scope) -> Result<u64, Error> {
    Ok(of_observed(&observe_own(socket, settings, scope)?, settings.keys.protocol))
}

/// The digest of what the kernel was seen to have. Routes of others do not
/// count; lists may come in any order. It means something to this very binary.
pub fn of_observed(observed: &Observed, protocol: u8) -> u64 {
    let HeldObjects { sysctls, tunnels, forwarding, neighbours, routes, .. } = &observed.held;
    let routes = routes.iter().filter(|held| held.found.route.protocol == protocol);
    sum(routes.map(|held| (&held.found.route, &held.device, held.is_plain())))
        .wrapping_add(sum(neighbours.iter().map(|held| &held.object)))
        .wrapping_add(sum(forwarding.iter().map(|held| &held.object)))
        .wrapping_add(sum(tunnels))
        .wrapping_add(sum(sysctls.iter().map(|held| (&held.object.key, &held.object.value))))
}

/// So many routes of the fabric are looked at by everybody.
const SENTINELS_MAX: usize = 4;

/// By what the loss of routes shows without a list of them, in a fabric that was made
/// but for these `unmade` destinations: a link that goes down takes all of its routes
/// along, and one without an address those of a family.
pub fn sentinels(desired: &Desired, unmade: &HashSet<IpNetwork>) -> Vec<Sentinel> {
    let mut seen = HashSet::new();
    let of = |route: &Route| {
        let destination = route.destination();
        let device = route.device().filter(|_| !unmade.contains(&destination))?;
        let first = seen.insert((device.to_owned(), destination.family()));
        let address = address_in(&destination, &[]);
        first.then(|| Sentinel::of(address, destination))
    };
    let mut sentinels: Vec<Sentinel> =
        desired.objects.routes.iter().filter_map(of).take(SENTINELS_MAX).gather();
    // Whoever has no route may have one again.
    for family in Family::BOTH {
        let lost = desired.lost.iter().find(|address| address.family() == family);
        sentinels.push_all(lost.map(|address| Sentinel::without(*address)));
    }
    sentinels
}

fn sum(items: impl IntoIterator<Item = impl Hash>) -> u64 {
    let hash = |item| {
        let mut hasher = DefaultHasher::new();
        Hash::hash(&item, &mut hasher);
        hasher.finish()
    };
    items.into_iter().map(hash).fold(0, u64::wrapping_add)
}
