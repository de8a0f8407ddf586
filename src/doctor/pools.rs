// SPDX-License-Identifier: Apache-2.0
//! Checks of the addresses that a node gives out.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use super::{Answer, Seen};
use crate::{
    family::is_single,
    list::{Gather, PushAll},
    node::{Lease, Misfit, Network, Pool, Range, Snapshot},
    pod::identity::{HostLinks, of_alias},
    text::few::some_of,
};

/// Networks whose leases can be read.
fn pools(snapshot: &Snapshot) -> Result<Vec<(&Network, &Pool)>, String> {
    let all: Vec<_> = snapshot
        .networks
        .iter()
        .filter_map(|network| Some((network, network.pool.as_ref()?)))
        .gather();
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
        seen.push_all(outside.map(|one| misfit(object(), one)));
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
        seen.push_all(of_peer.map(|one| misfit(object(), one)));
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
        let sets: BTreeSet<usize> = pool.ranges.iter().map(|range| range.set).gather_set();
        for set in sets {
            let ranges: Vec<&Range> = pool.ranges.iter().filter(|range| range.set == set).gather();
            let inside = |lease: &&Lease| ranges.iter().any(|range| range.contains(lease.address));
            let used =
                u128::try_from(pool.leases.iter().filter(inside).count()).unwrap_or_default();
            let size: u128 = ranges.iter().map(|range| range.size()).fold(0, u128::saturating_add);
            let left = size.saturating_sub(used);
            if left.saturating_mul(100) > size.saturating_mul(LEFT_FEW) {
                continue;
            }
            let names: Vec<String> = ranges.iter().map(|range| shown(range)).gather();
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

/// What leases are of attachments that are there, by anything that tells.
struct Held {
    /// The interfaces of each container.
    ifnames: HashMap<String, Vec<String>>,
    /// Addresses to which a route of their own leads.
    routed: HashSet<IpAddr>,
}

impl Held {
    fn of(snapshot: &Snapshot) -> Self {
        let links = HostLinks::new(&snapshot.kernel.links);
        let live = snapshot.journal.iter().filter(|entry| links.of(entry).is_some());
        let live = live.map(|entry| (entry.container_id.clone(), entry.ifname.clone()));
        let aliases = snapshot.kernel.links.iter().filter_map(|link| link.alias.as_deref());
        let marked =
            aliases.filter_map(of_alias).map(|marked| (marked.container_id, marked.ifname));
        let mut ifnames: HashMap<String, Vec<String>> = HashMap::new();
        for (container_id, ifname) in live.chain(marked) {
            ifnames.entry(container_id).or_default().push(ifname);
        }
        let of_one = snapshot
            .kernel
            .routes
            .iter()
            .filter(|found| is_single(&found.route.destination) && !found.devices.is_empty());
        Self { ifnames, routed: of_one.map(|found| found.route.destination.ip()).collect() }
    }

    fn has(&self, lease: &Lease) -> bool {
        let is_own = |ifname: &String| lease.ifname.as_ref().is_none_or(|own| own == ifname);
        let own = self.ifnames.get(&lease.container_id);
        self.routed.contains(&lease.address) || own.is_some_and(|own| own.iter().any(is_own))
    }
}

pub(super) fn lease_leaked(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    let all = pools(snapshot)?;
    let held = Held::of(snapshot);
    for (network, pool) in all {
        // Of another plugin's links nothing tells whether they are alive.
        if pool.shared {
            continue;
        }
        let leaked: Vec<String> = pool
            .leases
            .iter()
            .filter(|lease| !held.has(lease))
            .map(|lease| lease.address.to_string())
            .gather();
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

pub(super) fn lease_missing(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    let all = pools(snapshot)?;
    let links = HostLinks::new(&snapshot.kernel.links);
    for (network, pool) in all {
        let leases = pool.leases.iter().map(|lease| (lease.address, lease));
        let leases: HashMap<IpAddr, &Lease> = leases.collect();
        let own = snapshot.journal.iter().filter(|entry| entry.network == network.name);
        let live = own.filter(|entry| links.of(entry).is_some());
        for entry in live {
            let of_pool =
                |address: &&IpAddr| pool.ranges.iter().any(|range| range.contains(**address));
            for address in entry.addresses.iter().filter(of_pool) {
                let lease = leases.get(address);
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

#[cfg(test)]
mod tests {
    use super::{super::tests::work::work, *};
    use crate::{
        net::{
            link::Link,
            route::{Found, Route},
        },
        pod::Identity,
        state::Entry,
    };

    /// A node with so many pods, one lease each, and as many leases of nobody.
    fn node(pods: u32) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let address = |number: u32| IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        let mut pool = Pool::default();
        for index in 1..=pods {
            let entry = Entry {
                network: "net".into(),
                container_id: format!("c{index}"),
                ifname: "eth0".into(),
                addresses: vec![address(index)],
                ..Entry::default()
            };
            let alias = Some(Identity::from(&entry).alias());
            let name = format!("cali{index}");
            snapshot.kernel.links.push(Link { index, name, alias, ..Link::default() });
            let route = Route::new(address(index).into());
            snapshot.kernel.routes.push(Found::new(route, vec![index]));
            for (number, container_id) in
                [(index, entry.container_id.clone()), (pods + index, format!("gone{index}"))]
            {
                let ifname = Some("eth0".into());
                pool.leases.push(Lease { address: address(number), container_id, ifname });
            }
            snapshot.journal.push(entry);
        }
        let first = address(0);
        let range = |last| Range { path: String::new(), set: 0, first, last, size: "0".into() };
        pool.ranges = vec![range(address(2 * pods))];
        let pool = Some(pool);
        snapshot.networks = vec![Network { name: "net".into(), pool, ..Network::default() }];
        snapshot
    }

    /// Leases, attachments, links and routes are as many as pods: of four times as many
    /// pods each check does four times as much, and not sixteen times.
    #[test]
    fn what_a_check_does_grows_as_the_node_does() {
        let (small, large) = (node(1000), node(4000));
        for (check, found) in [(lease_leaked as fn(&Snapshot) -> Answer, 1), (lease_missing, 0)] {
            for node in [&small, &large] {
                assert_eq!(check(node).unwrap().len(), found);
            }
            let of = |node| work(|| drop(check(node)));
            assert!(of(&large) < 9 * of(&small));
        }
    }
}
