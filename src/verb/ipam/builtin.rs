// SPDX-License-Identifier: Apache-2.0
//! `manx-ipam`: addresses out of host-local's store, without a second process.
//! The same functions serve the plugin itself and whoever delegates to the
//! binary under that name.

use std::{net::IpAddr, path::Path};

use serde_json::Value;

use super::{
    Pool, Refused,
    draw::{Draw, not_available},
};
use crate::{
    cni::{AddResult, Code, Dns, Error, Ip, ValidAttachments},
    conf::IpamKeys,
    ipam::{Owner, Range, RangeSet, Store, store::TakeError},
    list::{Gather, PushAll},
    pod::reserved::reserved_all,
    state::{file::TEXT_BYTES_MAX, read_text},
    verb::{Call, file, usable::Decide},
};

/// Whose link gets the addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::verb) enum Recipient {
    /// One that we make and know.
    OurLink,
    /// A link of the plugin that delegates.
    Delegator,
}

/// What is asked for.
pub(super) struct Request {
    keys: IpamKeys,
    pub(super) sets: Vec<RangeSet>,
}

impl Request {
    /// # Errors
    /// Code 7 with the first thing that makes no sense.
    pub(super) fn read(call: &Call) -> Result<Self, Error> {
        let arguments = &call.environment.args;
        let (keys, complaints) = IpamKeys::read(&call.document, arguments, call.config.version);
        let sets = range_sets(&keys);
        match complaints.into_iter().next() {
            Some(complaint) => Err(complaint.error),
            None => Ok(Self { keys, sets: sets? }),
        }
    }

    /// Pods are not told to try again where they never can: in sets of nothing but
    /// addresses that no pod can have on whichever node.
    ///
    /// # Errors
    /// Code 7 naming such a set.
    pub(super) fn require_fertile(&self) -> Result<(), Error> {
        for set in &self.sets {
            let all = |range: &Range| reserved_all(range.ends().0, range.ends().1);
            let what: Option<Vec<&str>> = set.ranges().iter().map(all).collect();
            if let Some(what) = what.as_ref().and_then(|what| what.first()) {
                let msg =
                    format!("ipam has {set}, where each address is {what}: no pod can have one");
                return Err(Error::new(Code::INVALID_CONFIG, msg)
                    .details("give a range of other addresses"));
            }
        }
        Ok(())
    }
}

/// The sets of a section.
///
/// # Errors
/// Code 7 with the first range or set that makes no sense.
pub fn range_sets(keys: &IpamKeys) -> Result<Vec<RangeSet>, Error> {
    let invalid =
        |msg: String, details: &str| Err(Error::new(Code::INVALID_CONFIG, msg).details(details));
    let mut sets: Vec<RangeSet> = Vec::new();
    for set in &keys.sets {
        let at = set.first().map_or("ipam.ranges", |range| range.path.as_str());
        let mut ranges = Vec::new();
        for keys in set {
            match Range::new(keys.subnet, keys.first, keys.last, keys.gateway) {
                Ok(range) => ranges.push(range),
                Err(flaw) => {
                    let msg = format!("configuration key {}.{}: ", keys.path, flaw.key);
                    return invalid(msg + &flaw.reason, "correct the range");
                }
            }
        }
        match RangeSet::new(ranges) {
            Ok(set) => sets.push(set),
            Err(reason) => return invalid(format!("{at}: {reason}"), "correct the set of ranges"),
        }
    }
    if sets.is_empty() {
        return invalid("ipam has no ranges".to_owned(), "give ranges, or a subnet");
    }
    for (index, one) in sets.iter().enumerate() {
        if let Some(other) = sets.iter().skip(index + 1).find(|other| one.overlaps(other)) {
            let msg = format!("ipam has {one} and {other}, with addresses in common");
            return invalid(msg, "make the two sets disjoint, or drop one");
        }
    }
    Ok(sets)
}

/// Allocates an address out of each set, none that `decide` objects to. Leases of
/// the same attachment from before the boot, which no link holds, are taken over.
///
/// # Errors
/// Code 7 for a configuration or a request that makes no sense, code 101 if the
/// attachment has addresses, or if what was asked for cannot be given; code 11 if
/// there is none left. Nothing stays allocated.
pub(in crate::verb) fn add(
    call: &Call,
    decide: &mut Decide<'_>,
    recipient: Recipient,
) -> Result<AddResult, Refused> {
    let request = Request::read(call)?;
    request.require_fertile()?;
    let Request { keys, sets } = request;
    let dns = resolver(&keys)?;
    let pool = Pool::of(&call.root, &call.config.name, call.document.ipam());
    let owner = Owner::new(&call.environment.container_id, &call.environment.ifname);
    let store = pool.open()?;
    let failed = |error| file("take a lease", pool.directory(), &error);
    let Held { inherited, beside } = inherit(&pool, &store, &owner, &sets)?;
    if recipient == Recipient::Delegator {
        store.share();
    }
    let mut draw = Draw { pool: &pool, store: &store, inherited, decide };
    let picks = draw.picks(&sets, &keys.requested)?;
    store.take(&owner, beside, &picks).map_err(|error| match error {
        TakeError::Taken(address) => not_available(address),
        TakeError::Io(error) => failed(error),
    })?;
    let ips = picks.iter().filter_map(|(index, address)| {
        let range = sets.get(*index)?.range_of(*address)?;
        let address = ipnetwork::IpNetwork::new(*address, range.subnet().prefix()).ok()?;
        Some(Ip { address, gateway: Some(range.gateway()), interface: None })
    });
    Ok(AddResult { ips: ips.gather(), routes: keys.routes, dns, ..AddResult::default() })
}

/// What an attachment has before it is given anything.
struct Held {
    /// What it had of these sets before the boot. It is free now.
    inherited: Vec<IpAddr>,
    /// What it has of no set.
    beside: Vec<IpAddr>,
}

/// Frees what the attachment has of these sets from before the boot.
///
/// # Errors
/// Code 101 if it has one that is of this boot, or that a link holds.
fn inherit(
    pool: &Pool<'_>,
    store: &Store,
    owner: &Owner,
    sets: &[RangeSet],
) -> Result<Held, Error> {
    let failed = |error| file("look for a lease", pool.directory(), &error);
    let is_of_a_set = |address: &IpAddr| sets.iter().any(|set| set.range_of(*address).is_some());
    let (mut held, beside): (Vec<_>, Vec<_>) =
        store.held_by(owner).map_err(failed)?.into_iter().partition(is_of_a_set);
    // In the older format, by whichever interface.
    let older = Owner { ifname: None, ..owner.clone() };
    held.push_all(store.held_by(&older).map_err(failed)?.into_iter().filter(is_of_a_set));
    if held.is_empty() {
        return Ok(Held { inherited: held, beside });
    }
    let old = pool.forgotten(store, &|address| held.contains(&address))?;
    let is_old = |address: &&IpAddr| old.iter().any(|lease| lease.address == **address);
    if let Some(address) = held.iter().find(|address| !is_old(address)) {
        let ifname = owner.ifname.as_deref().unwrap_or_default();
        let msg = format!("{ifname} of {} has {address} already", owner.container_id);
        return Err(Error::new(Code::CONFLICT, msg)
            .details("a runtime adds an attachment once; DEL releases the address"));
    }
    for lease in &old {
        store.release_lease(lease).map_err(failed)?;
    }
    log::warn!("{}: leases from before the last boot are taken over", owner.container_id);
    Ok(Held { inherited: held, beside })
}

/// Frees what an attachment holds; returns how many addresses.
///
/// # Errors
/// Of the store.
pub(in crate::verb) fn release(
    pool: &Pool<'_>,
    container_id: &str,
    ifname: &str,
) -> Result<usize, Error> {
    if !pool.directory().exists() {
        return Ok(0);
    }
    let released = pool.open()?.release(container_id, ifname);
    let failed = |error| file("release a lease", pool.directory(), &error);
    released.map(|addresses| addresses.len()).map_err(failed)
}

/// Gives back what our own store has for the attachment; returns how many
/// addresses.
pub(super) fn release_own(call: &Call, ipam: &Value) -> Result<usize, Error> {
    let pool = Pool::of(&call.root, &call.config.name, ipam);
    release(&pool, &call.environment.container_id, &call.environment.ifname)
}

/// Compares the addresses of prevResult with the leases: as far as they are of
/// the sets, they are the same.
///
/// # Errors
/// Code 102 naming the address and its holder.
pub(in crate::verb) fn check(call: &Call) -> Result<(), Error> {
    let Request { sets, .. } = Request::read(call)?;
    let previous = call.config.previous.as_ref().ok_or_else(|| {
        Error::new(Code::INVALID_CONFIG, "CHECK without prevResult")
            .details("the runtime gives the result of the ADD")
    })?;
    let previous = AddResult::decode(previous, call.config.version)?;
    let pool = Pool::of(&call.root, &call.config.name, call.document.ipam());
    let owner = Owner::new(&call.environment.container_id, &call.environment.ifname);
    let store = pool.open()?;
    let held =
        store.held_by(&owner).map_err(|error| file("read a lease", pool.directory(), &error))?;
    let differs = |msg: String| {
        Err(Error::new(Code::CHECK_FAILED, msg).details(format!(
            "see: manx ipam check; the leases are in {}",
            pool.directory().display()
        )))
    };
    if held.is_empty() {
        return differs(format!("{} has no lease", owner.container_id));
    }
    for set in &sets {
        let of_set = |address: &IpAddr| set.range_of(*address).is_some();
        let told: Vec<IpAddr> =
            previous.ips.iter().map(|ip| ip.address.ip()).filter(of_set).gather();
        // A set that came later has neither.
        if let Some(address) = told.iter().find(|address| !held.contains(address)) {
            return differs(format!("{address} is not leased to {}", owner.container_id));
        }
        let mut held = held.iter().filter(|address| of_set(address));
        if let Some(address) = held.find(|address| !told.contains(address)) {
            return differs(format!("{address} is leased and not in prevResult"));
        }
    }
    Ok(())
}

/// Frees the leases of attachments that are not in the runtime's list.
///
/// # Errors
/// Of the list and of the store.
pub(in crate::verb) fn gc(call: &Call) -> Result<usize, Error> {
    let ValidAttachments::Only(valid) = call.document.valid_attachments()? else { return Ok(0) };
    let pool = Pool::of(&call.root, &call.config.name, call.document.ipam());
    if !pool.directory().exists() {
        return Ok(0);
    }
    let store = pool.open()?;
    let failed = |error| file("release a lease", pool.directory(), &error);
    let mut released = 0;
    let beside = pool.attachments_beside();
    for lease in store.leases() {
        if beside.iter().any(|entry| lease.owner.is(&entry.container_id, &entry.ifname)) {
            continue;
        }
        if !valid.iter().any(|(container_id, ifname)| lease.owner.is(container_id, ifname)) {
            store.release_lease(&lease).map_err(failed)?;
            released += 1;
        }
    }
    Ok(released)
}

/// The resolver settings of the file that the section names.
///
/// # Errors
/// Code 7 where it cannot be read.
pub fn resolver(keys: &IpamKeys) -> Result<Dns, Error> {
    let Some(path) = &keys.resolv_conf else { return Ok(Dns::default()) };
    let text = read_text(Path::new(path), TEXT_BYTES_MAX);
    text.map(|text| Dns::of_resolv_conf(&text)).map_err(|error| {
        Error::new(Code::INVALID_CONFIG, format!("ipam.resolvConf: read {path}: {error}"))
            .details("name a file such as /etc/resolv.conf, or leave the key out")
    })
}
