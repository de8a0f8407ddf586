// SPDX-License-Identifier: Apache-2.0
//! What an operator is told of peers: many have the same to be said.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    fabric::{desired::Desired, peers::Peers},
    list::{Gather, PushAll},
    text::few::some_of,
};

/// What is to be said of them.
#[derive(Default)]
pub(super) struct Remarks {
    /// Those without a route.
    pub(super) lost: Vec<(String, IpAddr)>,
    /// Those behind each router.
    pub(super) behind: BTreeMap<IpAddr, Vec<(String, IpAddr)>>,
}

/// How many peers without a route, or left out, have a line each.
const LINES_MAX: usize = 5;

impl Remarks {
    pub(super) fn tell(self, desired: &mut Desired) {
        desired.lost.push_all(self.lost.iter().map(|(_, address)| *address));
        let names = |peers: &[(String, IpAddr)]| -> Vec<String> {
            peers.iter().map(|(name, address)| format!("{name} ({address})")).gather()
        };
        if self.lost.len() > LINES_MAX {
            desired.wanting.push(format!("no route to {}", some_of(&names(&self.lost))));
        } else {
            let line = |(name, address)| format!("{name}: no route to {address}");
            desired.wanting.push_all(self.lost.into_iter().map(line));
        }
        desired.notes.push_all(self.behind.into_iter().map(|(router, peers)| match &peers[..] {
            [(name, address)] => format!(
                "{name}: {address} is behind router {router}, which must know its pod CIDRs"
            ),
            _ => format!(
                "{} are behind router {router}, which must know their pod CIDRs",
                some_of(&names(&peers))
            ),
        }));
    }
}

/// Who of the list is left out. The rest of many is a number.
pub(super) fn excluded(peers: &Peers) -> Vec<String> {
    let mut lines: Vec<String> = peers.excluded.iter().take(LINES_MAX).cloned().gather();
    let more = peers.excluded.len().saturating_sub(LINES_MAX);
    lines.push_all((more > 0).then(|| format!("{more} more nodes of the list are left out")));
    lines
}
