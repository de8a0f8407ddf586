// SPDX-License-Identifier: Apache-2.0
//! Whether the node forwards packets of pods.

use super::{Answer, Seen, devices::devices, links::serves};
use crate::{
    family::Family,
    list::{Gather, PushAll},
    net::{devconf, forwarding, link::Link},
    node::{Network, Snapshot},
    text::shell::quoted,
};

/// Whether the node forwards: at all, and what comes by these devices.
pub(super) fn ip_forward(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for family in Family::BOTH {
        let key = forwarding::key(family);
        let serve = |network: &&Network| serves(family, network, snapshot);
        let Some(network) = snapshot.networks.iter().find(serve) else { continue };
        let Some(value) = snapshot.kernel.sysctls.get(key) else { continue };
        if value == "0" {
            seen.push(none_is_forwarded(key, network, snapshot));
        } else if family == Family::V4 {
            // Of IPv6 the kernel asks for all devices alone (ip6_forward, net/ipv6/ip6_output.c).
            seen.push_all(not_by_all(snapshot));
        }
    }
    Ok(seen)
}

fn none_is_forwarded(key: &str, network: &Network, snapshot: &Snapshot) -> Seen {
    let dotted = key.replace('/', ".");
    let evidence = format!("{dotted} is 0, and network {} has pods of the family", network.name);
    let live = snapshot.journal.iter().any(|entry| entry.network == network.name);
    // Before there is a pod nothing is lost, and its ADD turns it on.
    let of = if live || !network.manages_forwarding { Seen::error } else { Seen::info };
    of(format!("sysctl {dotted}"), evidence)
        .fix(format!("sysctl -w {dotted}=1"))
        .undo(format!("sysctl -w {dotted}=0"))
}

/// The devices whose own parameter forbids it, which the one of all does not show.
fn not_by_all(snapshot: &Snapshot) -> Vec<Seen> {
    let not = |link: &Link| {
        let key = devconf::forwarding(&link.name);
        snapshot.kernel.sysctls.get(&key).is_some_and(|value| value == "0").then_some(key)
    };
    let told = devices(snapshot).into_iter().filter_map(|(link, role)| {
        let key = not(link)?;
        let evidence = format!(
            "{} is 0: what comes by {} is not forwarded, whatever ip_forward says, so packets {} \
             are dropped",
            key,
            link.name,
            role.whose()
        );
        Some(
            Seen::error(format!("sysctl {key}"), evidence)
                .fix(format!("sysctl -w {}=1", quoted(&key)))
                .undo(format!("sysctl -w {}=0", quoted(&key))),
        )
    });
    told.gather()
}
