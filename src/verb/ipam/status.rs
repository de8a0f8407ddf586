// SPDX-License-Identifier: Apache-2.0
//! What an ADD would meet in our own pool, for STATUS.
//!
//! A pool that live pods have used up is no reason to call the node unavailable:
//! the runtime would report it as not ready, and its healthy pods would be
//! evicted. It is told, and an ADD fails by itself.

use std::{collections::HashSet, net::IpAddr};

use super::{Pool, builtin::Request, draw};
use crate::{
    cni::{Code, Error},
    finding::{Finding, Severity},
    ipam::{RangeSet, Store},
    list::Gather,
    net::{Socket, link},
    state::{Entry, Journal},
    verb::{Call, file, kernel, liveness, usable::Decide},
};

/// Returns what an operator should know of the pool, although pods can start or
/// healthy ones have all of it.
///
/// # Errors
/// Code 7 as an ADD, code 50 where an ADD would fail and no live attachment has the addresses: the
/// store cannot be used, or all that is in it is nobody's.
pub(in crate::verb) fn status(call: &Call, decide: &mut Decide<'_>) -> Result<Vec<Finding>, Error> {
    let request = Request::read(call)?;
    request.require_fertile()?;
    let Request { sets, .. } = request;
    let pool = Pool::of(&call.root, &call.config.name, call.document.ipam());
    let unavailable = |error: Error| error.code(Code::UNAVAILABLE);
    let store = pool.open().map_err(unavailable)?;
    let failed = |what, error| unavailable(file(what, pool.directory(), &error));
    store.probe().map_err(|error| failed("write a lease", error))?;
    let mut told = Vec::new();
    for (index, set) in sets.iter().enumerate() {
        if draw::has_next(&store, index, set, decide).map_err(unavailable)? {
            continue;
        }
        let of_set = |address| set.range_of(address).is_some();
        if !pool.forgotten(&store, &of_set).map_err(unavailable)?.is_empty() {
            continue;
        }
        let taken = store.addresses().map_err(|error| failed("read the leases", error))?;
        let counts: Vec<String> = sets.iter().map(|set| count(set, &taken)).gather();
        let msg = format!("no free address in {set} of network {}", call.config.name);
        match holders(call, &pool, &store, set)? {
            Holders::SomeDead => {}
            Holders::Live => {
                let object = format!("network {}", call.config.name);
                let evidence = format!("{msg} ({}): all are in use", counts.join("; "));
                told.push(Finding::new("pool-full", Severity::Warning, object, evidence));
            }
            Holders::Nobody => {
                let error = Error::new(Code::UNAVAILABLE, msg);
                let next = "no live pod has them: see manx ipam check";
                return Err(error.details(format!("{}; {next}", counts.join("; "))));
            }
        }
    }
    Ok(told)
}

/// Who has the addresses of a set in which none is free.
enum Holders {
    /// Attachments that are dead have some: an ADD takes those back first.
    SomeDead,
    /// Attachments, of which one at least is alive or may be.
    Live,
    Nobody,
}

fn holders(call: &Call, pool: &Pool<'_>, store: &Store, set: &RangeSet) -> Result<Holders, Error> {
    let mut host = Socket::open().map_err(kernel)?;
    let links = link::all(&mut host).map_err(kernel)?;
    let entries = Journal::new(&call.root, &call.config.name).entries();
    let of_set = |address: &IpAddr| set.range_of(*address).is_some();
    let leases: Vec<_> = store.leases().into_iter().filter(|lease| of_set(&lease.address)).gather();
    let mut live = pool.is_shared() && !leases.is_empty();
    for lease in &leases {
        let is_its = |entry: &&Entry| lease.owner.is(&entry.container_id, &entry.ifname);
        let Some(entry) = entries.iter().find(is_its) else {
            live |= liveness::is_routed(&mut host, lease.address)?;
            continue;
        };
        if liveness::of(&mut host, entry, &links)?.is_gone() {
            return Ok(Holders::SomeDead);
        }
        live = true;
    }
    Ok(if live { Holders::Live } else { Holders::Nobody })
}

fn count(set: &RangeSet, taken: &HashSet<IpAddr>) -> String {
    let used = taken
        .iter()
        .filter(|address| set.range_of(**address).is_some_and(|range| range.gateway() != **address))
        .count();
    let free = set.size().saturating_sub(u128::try_from(used).unwrap_or_default());
    format!("{set}: {free} of {} free", set.size())
}
