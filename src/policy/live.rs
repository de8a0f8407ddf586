//! Whose an address is.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Pod, World};

/// The pods that policies are about, by their addresses. Of several with one address it
/// is the one that stays, or else the one that came last.
pub(super) fn owners(world: &World) -> BTreeMap<IpAddr, &Pod> {
    let mut owners = BTreeMap::<IpAddr, &Pod>::new();
    for pod in world.pods.iter().filter(|pod| pod.is_subject()) {
        for address in &pod.addresses {
            let owner = owners.entry(*address).or_insert(pod);
            if rank(pod) > rank(owner) {
                *owner = pod;
            }
        }
    }
    owners
}

fn rank(pod: &Pod) -> (bool, &str) {
    (!pod.terminating, &pod.created)
}
