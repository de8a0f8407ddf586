// SPDX-License-Identifier: Apache-2.0
//! Whose an address is.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Pod, World};

/// The pods that policies are about, by their addresses. Of several with one address it is
/// the one that stays, or else the one that came last.
pub(super) struct Owners<'a> {
    world: &'a World,
    /// By their places in it.
    places: BTreeMap<IpAddr, u64>,
    /// Whether any address is of several.
    is_contested: bool,
}

impl<'a> Owners<'a> {
    pub(super) fn of(world: &'a World) -> Self {
        let mut owners = Self { world, places: BTreeMap::new(), is_contested: false };
        for (place, pod) in world.pods.iter().enumerate().filter(|(_, pod)| pod.is_subject()) {
            for address in &pod.addresses {
                let rival = owners.places.insert(*address, place as u64);
                owners.is_contested |= rival.is_some();
                let stays =
                    |rival: &u64| owners.pod(*rival).is_some_and(|it| rank(it) >= rank(pod));
                if let Some(rival) = rival.filter(stays) {
                    owners.places.insert(*address, rival);
                }
            }
        }
        owners
    }

    pub(super) fn find(&self, address: IpAddr) -> Option<&'a Pod> {
        self.pod(*self.places.get(&address)?)
    }

    /// All of them, in the order of the world: those that are alike follow each other there.
    pub(super) fn all(&self) -> impl Iterator<Item = (IpAddr, &'a Pod)> {
        let pods = (0..).zip(self.world.pods.iter().map(AsRef::as_ref));
        pods.flat_map(move |(place, pod)| self.of_pod(place, pod).map(move |own| (own, pod)))
    }

    /// The addresses of the pod at that place in the world.
    pub(super) fn of_pod(&self, place: u64, pod: &'a Pod) -> impl Iterator<Item = IpAddr> {
        let is_alone = !self.is_contested && pod.is_subject();
        let own = pod.addresses.iter().copied();
        own.filter(move |address| is_alone || self.places.get(address) == Some(&place))
    }

    fn pod(&self, place: u64) -> Option<&'a Pod> {
        self.world.pods.get(place as usize).map(AsRef::as_ref)
    }
}

fn rank(pod: &Pod) -> (bool, &str) {
    (!pod.terminating, &pod.created)
}
