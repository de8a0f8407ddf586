// SPDX-License-Identifier: Apache-2.0
//! Whose an address is.

use std::net::IpAddr;

use super::{Pod, World};
use crate::list::Sorted;

/// The pods that policies are about, by their addresses. Of several with one address it is
/// the one that stays, or else the one that came last.
pub(super) struct Owners<'a> {
    world: &'a World,
    /// By their places in it.
    places: Sorted<IpAddr, u64>,
    /// Whether any address is of several.
    is_contested: bool,
}

impl<'a> Owners<'a> {
    pub(super) fn of(world: &'a World) -> Self {
        let mut places = Vec::new();
        for (place, pod) in (0..).zip(&world.pods).filter(|(_, pod)| pod.is_subject()) {
            pod.addresses.iter().for_each(|address| places.push((*address, place)));
        }
        let count = places.len();
        let rank = |place: u64| world.pods.get(place as usize).map(|pod| rank(pod));
        let places = Sorted::of(places, &|held, new| {
            if rank(*held) < rank(new) {
                *held = new;
            }
        });
        Self { world, is_contested: places.len() < count, places }
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
