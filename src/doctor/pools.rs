//! Checks of the addresses that a node gives out.

use std::{collections::BTreeSet, net::IpAddr};

use super::{Answer, Seen};
use crate::{
    family::is_single,
    node::{Lease, Misfit, Network, Pool, Range, Snapshot},
    pod::identity::host_link_of,
    state::Entry,
    text::few::some_of,
};

/// Networks whose leases can be read.
fn pools(snapshot: &Snapshot) -> Result<Vec<(&Network, &Pool)>, String> {
    let all: Vec<_> = snapshot
        .networks
        .iter()
        .filter_map(|network| Some((network, network.pool.as_ref()?)))
        .collect();
    match all.is_empty() {
        true => Err("no network has its addresses from manx-ipam or host-local".to_owned()),
        false => Ok(all),
    }
}

pub(super) fn outside(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for (network, pool) in pools(snapshot)? {
        let object = || format!("network {}", network.name);
        let outside = pool.misfits.iter().filter(|misfit| !misfit.of_peer);
        seen.extend(outside.map(|one| misfit(object(), one)));
        if let Some(problem) = &pool.problem {
            let fix = "manx validate says where";
            seen.push(Seen::error(object(), problem.clone()).fix(fix));
        }
    }
    Ok(seen)
}

/// A range that is not this node's.
pub(super) fn misfit(object: String, misfit: &Misfit) -> Seen {
    Seen::error(object, misfit.text.clone()).fix(&misfit.fix)
}

pub(super) fn overlap(snapshot: &Snapshot) -> Answer {
    let all = pools(snapshot)?;
    let mut seen = Vec::new();
    for (place, (network, pool)) in all.iter().enumerate() {
        let object = || format!("network {}", network.name);
        let of_peer = pool.misfits.iter().filter(|misfit| misfit.of_peer);
        seen.extend(of_peer.map(|one| misfit(object(), one)));
        // Networks with one store know of each other's leases.
        let others = all.iter().take(place);
        for (other, its) in others.filter(|(_, its)| its.directory != pool.directory) {
            for range in &pool.ranges {
                let Some(with) = its.ranges.iter().find(|one| one.overlaps(range)) else {
                    continue;
                };
                let evidence =
                    format!("{} overlaps {} of network {}", shown(range), shown(with), other.name);
                let fix = "make the ranges of the two networks disjoint, or remove one";
                seen.push(Seen::error(object(), evidence).fix(fix));
            }
        }
    }
    Ok(seen)
}

fn shown(range: &Range) -> String {
    format!("{}-{}", range.first, range.last)
}

/// How many addresses a set has left when that is told, in per cent.
const LEFT_FEW: u128 = 5;

pub(super) fn full(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for (network, pool) in pools(snapshot)? {
        let sets: BTreeSet<usize> = pool.ranges.iter().map(|range| range.set).collect();
        for set in sets {
            let ranges: Vec<&Range> = pool.ranges.iter().filter(|range| range.set == set).collect();
            let inside = |lease: &&Lease| ranges.iter().any(|range| range.contains(lease.address));
            let used =
                u128::try_from(pool.leases.iter().filter(inside).count()).unwrap_or_default();
            let size: u128 = ranges.iter().map(|range| range.size()).fold(0, u128::saturating_add);
            let left = size.saturating_sub(used);
            if left.saturating_mul(100) > size.saturating_mul(LEFT_FEW) {
                continue;
            }
            let names: Vec<String> = ranges.iter().map(|range| shown(range)).collect();
            let evidence = format!("{used} of {size} addresses of {} are leased", some_of(&names));
            let of = if left == 0 { Seen::warning } else { Seen::info };
            seen.push(
                of(format!("network {}", network.name), evidence)
                    .fix("add a range to the set, or remove pods; manx ipam show lists the leases"),
            );
        }
    }
    Ok(seen)
}

/// Whether the host link of an attachment is there.
fn has_link(entry: &Entry, snapshot: &Snapshot) -> bool {
    host_link_of(entry, &snapshot.kernel.links).is_some()
}

/// Whether a route leads to that very address.
fn is_routed(address: IpAddr, snapshot: &Snapshot) -> bool {
    snapshot.kernel.routes.iter().any(|found| {
        let destination = found.route.destination;
        is_single(&destination) && destination.ip() == address && !found.devices.is_empty()
    })
}

pub(super) fn lease_leaked(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for (network, pool) in pools(snapshot)? {
        // Of another plugin's links nothing tells whether they are alive.
        if pool.shared {
            continue;
        }
        let is_held = |lease: &Lease| {
            snapshot.journal.iter().any(|entry| lease.is_of(entry) && has_link(entry, snapshot))
                || is_routed(lease.address, snapshot)
                || snapshot.kernel.links.iter().any(|link| names(link.alias.as_deref(), lease))
        };
        let leaked: Vec<String> = pool
            .leases
            .iter()
            .filter(|lease| !is_held(lease))
            .map(|lease| lease.address.to_string())
            .collect();
        if !leaked.is_empty() {
            let evidence = format!(
                "{} leased, and no attachment, link or route has {}: {}",
                if leaked.len() == 1 {
                    "one address is".to_owned()
                } else {
                    format!("{} addresses are", leaked.len())
                },
                if leaked.len() == 1 { "it" } else { "them" },
                some_of(&leaked)
            );
            seen.push(Seen::warning(format!("network {}", network.name), evidence).fix("manx gc"));
        }
    }
    Ok(seen)
}

/// Whether a link's mark names the attachment of a lease.
fn names(alias: Option<&str>, lease: &Lease) -> bool {
    let Some(identity) = alias.and_then(crate::pod::identity::of_alias) else { return false };
    let same = lease.ifname.as_ref().is_none_or(|ifname| *ifname == identity.ifname);
    same && identity.container_id == lease.container_id
}

pub(super) fn lease_missing(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for (network, pool) in pools(snapshot)? {
        let live = snapshot
            .journal
            .iter()
            .filter(|entry| entry.network == network.name && has_link(entry, snapshot));
        for entry in live {
            let of_pool =
                |address: &&IpAddr| pool.ranges.iter().any(|range| range.contains(**address));
            for address in entry.addresses.iter().filter(of_pool) {
                let lease = pool.leases.iter().find(|lease| lease.address == *address);
                let pod = entry.pod().unwrap_or_else(|| entry.container_id.clone());
                let evidence = match lease {
                    None => format!("{pod} has it, and nobody leased it"),
                    Some(lease) if !lease.is_of(entry) => {
                        format!("{pod} has it, and it is leased to {}", lease.container_id)
                    }
                    Some(_) => continue,
                };
                let fix = match lease {
                    None => "manx ipam check --fix".to_owned(),
                    Some(_) => "remove one of the two pods".to_owned(),
                };
                seen.push(Seen::error(format!("address {address}"), evidence).fix(fix));
            }
        }
    }
    Ok(seen)
}
