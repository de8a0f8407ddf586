// SPDX-License-Identifier: Apache-2.0
//! What the table of a node answers, found as the kernel finds it.

use super::{Direction, Flow, Policies};
use crate::nft::policy::{Grant, LOOKUPS, Peer, Ports};

/// Whether a packet passes that is the first of a connection and is forwarded.
pub fn allows(policies: &Policies, flow: &Flow) -> bool {
    Direction::BOTH.into_iter().all(|direction| allows_in(policies, direction, flow))
}

fn allows_in(policies: &Policies, direction: Direction, flow: &Flow) -> bool {
    let way = policies.way(direction);
    let (pod, peer) = match direction {
        Direction::Egress => (flow.source, flow.destination),
        Direction::Ingress => (flow.destination, flow.source),
    };
    let port = flow.port.unwrap_or_default();
    let Some(class) = way.classes.get(&pod).map(|value| *value as u32) else { return true };
    let identity = policies.identities.get(&peer).map(|value| *value as u32);
    let network = || {
        let below = way.networks.up_to(&(class, peer))?;
        let ((of, first), (last, number)) = below;
        let is_same = *of == class && first.is_ipv4() == peer.is_ipv4();
        (is_same && peer <= *last).then_some(*number)
    };
    let found = LOOKUPS.into_iter().any(|(as_whom, ports)| {
        let peer = match as_whom {
            Peer::Identity => identity,
            Peer::Anybody => Some(0),
            Peer::Network => network(),
        };
        let Some(peer) = peer else { return false };
        let grant = Grant { class, protocol: flow.protocol, peer, port };
        let single = |grant: &Grant| way.grants.get(grant) == Some(&grant.port);
        match ports {
            Ports::One => single(&grant),
            Ports::All => single(&Grant { protocol: 0, port: 0, ..grant }),
            Ports::Range => {
                let below = way.grants.up_to(&grant);
                below.is_some_and(|(first, last)| {
                    let is_range = first.port < *last && port <= *last;
                    is_range && Grant { port, ..*first } == grant
                })
            }
        }
    });
    found || (pod == peer && policies.own.has(&pod))
}
