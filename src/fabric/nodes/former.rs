// SPDX-License-Identifier: Apache-2.0
//! PodCIDRs that this node had and pods of it still have addresses of.
//!
//! A podCIDR cannot be changed: the Node was deleted and made again. Other nodes know the
//! new one alone. What can be done here is to keep what leads to the pods on this node,
//! until they are made anew.

use ipnetwork::IpNetwork;

use super::claim::Claim;
use crate::{fabric::faults::overlap, family::HasFamily, list::Gather};

/// Gives this node those of its `former` podCIDRs that are nobody else's by now. Each is
/// given back, with the node that is in its way.
pub(super) fn settle(
    claims: &mut [Claim],
    own: usize,
    former: &[IpNetwork],
) -> Vec<(IpNetwork, Option<String>)> {
    let listed: Vec<&Claim> = claims.iter().filter(|claim| claim.is_listed()).gather();
    let settled = former.iter().map(|cidr| {
        let holder = listed.iter().find(|claim| is_in_the_way(claim, cidr));
        (*cidr, holder.map(|claim| claim.node.name.clone()))
    });
    let settled: Vec<(IpNetwork, Option<String>)> = settled.gather();
    if let Some(claim) = claims.get_mut(own) {
        let kept = settled.iter().filter(|(_, holder)| holder.is_none());
        claim.node.former_pod_cidrs = kept.map(|(cidr, _)| *cidr).gather();
    }
    settled
}

/// Whether a node has pods or an address there; this one also where it has no address of
/// the family any more.
fn is_in_the_way(claim: &Claim, cidr: &IpNetwork) -> bool {
    let node = &claim.node;
    let overlaps = |other: &IpNetwork| overlap(other, cidr);
    node.pod_cidrs.iter().any(overlaps)
        || node.addresses.iter().any(|address| cidr.contains(*address))
        || (claim.is_own && node.address(cidr.family()).is_none())
}
