// SPDX-License-Identifier: Apache-2.0
//! What the table of a node lets two say to each other, as a list for people. What it answers
//! for one connection [`allows`](super::allows) finds in the kernel's way.

use std::{fmt, net::IpAddr};

use super::{Direction, Policies, read::protocol_name};
use crate::list::{PushAll, include};

/// Ports of one protocol, from one to another, which is included.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Granted {
    /// The protocol, by its number within IP; 0 stands for all of them, and for all ports.
    pub protocol: u8,
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

impl Granted {
    const ALL: Self = Self { protocol: 0, first: 0, last: u16::MAX };

    /// Whether it is all that there is.
    pub fn is_all(&self) -> bool {
        self.protocol == 0
    }

    /// Whether a connection to a port is within.
    pub fn has(&self, protocol: u8, port: u16) -> bool {
        self.is_all() || (self.protocol == protocol && (self.first..=self.last).contains(&port))
    }
}

impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_all() {
            return f.write_str("anything");
        }
        f.write_str(&protocol_name(self.protocol))?;
        match (self.first, self.last) {
            (0, u16::MAX) => Ok(()),
            (first, last) if first == last => write!(f, " {first}"),
            (first, last) => write!(f, " {first}-{last}"),
        }
    }
}

/// What may begin from a source to a destination as far as a direction is concerned; `None`
/// where no policy isolates the pod at that end.
pub fn granted(
    policies: &Policies,
    direction: Direction,
    (source, destination): (IpAddr, IpAddr),
) -> Option<Vec<Granted>> {
    let way = policies.way(direction);
    let (pod, peer) = match direction {
        Direction::Egress => (source, destination),
        Direction::Ingress => (destination, source),
    };
    let class = *way.classes.get(&pod)? as u32;
    if pod == peer && policies.own.has(&pod) {
        return Some(vec![Granted::ALL]);
    }
    let mut peers = vec![0];
    peers.push_all(policies.identities.get(&peer).map(|value| *value as u32));
    let mut networks = way.networks.iter();
    let is_in = |first: IpAddr, last: IpAddr| {
        first.is_ipv4() == peer.is_ipv4() && first <= peer && peer <= last
    };
    peers.push_all(networks.find_map(|((of, first), (last, number))| {
        (*of == class && is_in(*first, *last)).then_some(*number)
    }));
    let mut all = Vec::new();
    for (grant, last) in &way.grants {
        if grant.class != class || !peers.contains(&grant.peer) {
            continue;
        }
        if grant.protocol == 0 {
            return Some(vec![Granted::ALL]);
        }
        let one = Granted { protocol: grant.protocol, first: grant.port, last: *last };
        include(&mut all, one);
    }
    Some(all)
}
