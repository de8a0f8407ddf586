//! Whose an address is.

use std::net::IpAddr;

use super::{Pod, World};

/// The pods that policies are about, with their addresses, in the order of these. Of several
/// with one address it is the one that stays, or else the one that came last.
pub(super) struct Owners<'a>(pub(super) Vec<(IpAddr, &'a Pod)>);

impl<'a> Owners<'a> {
    pub(super) fn of(world: &'a World) -> Self {
        let mut all = Vec::new();
        for (place, pod) in world.pods.iter().map(AsRef::as_ref).enumerate() {
            if !pod.is_subject() {
                continue;
            }
            all.extend(pod.addresses.iter().map(|address| (*address, place, pod)));
        }
        all.sort_unstable_by(|(one, at, pod), (other, place, rival)| {
            let before = one.cmp(other).then_with(|| rank(rival).cmp(&rank(pod)));
            before.then_with(|| at.cmp(place))
        });
        all.dedup_by_key(|(address, ..)| *address);
        Self(all.into_iter().map(|(address, _, pod)| (address, pod)).collect())
    }

    pub(super) fn find(&self, address: IpAddr) -> Option<&'a Pod> {
        let place = self.0.binary_search_by(|(known, _)| known.cmp(&address)).ok()?;
        self.0.get(place).map(|(_, pod)| *pod)
    }
}

fn rank(pod: &Pod) -> (bool, &str) {
    (!pod.terminating, &pod.created)
}
