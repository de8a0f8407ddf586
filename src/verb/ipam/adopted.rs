// SPDX-License-Identifier: Apache-2.0
//! Leases of attachments that another plugin made, and that are ours by now.

use std::net::IpAddr;

use serde_json::Value;

use super::{Pool, release_stored, stored};
use crate::{
    cni::{Code, Error},
    ipam::Owner,
    state::{Entry, Root},
    verb::file,
};

/// Gives back what [`lease`] took, for an attachment that went meanwhile.
///
/// # Errors
/// Of the store.
pub fn give_back(root: &Root, entry: &Entry) -> Result<(), Error> {
    if stored(entry) { release_stored(root, entry) } else { Ok(()) }
}

/// Leases addresses to an attachment that has them already; what is leased to it stays.
///
/// # Errors
/// Code 101 for an address that is leased to another one; of the store.
pub fn lease(root: &Root, entry: &Entry, ipam: &Value, addresses: &[IpAddr]) -> Result<(), Error> {
    if addresses.is_empty() {
        return Ok(());
    }
    let pool = Pool::of(root, &entry.network, ipam);
    let store = pool.open()?;
    let failed = |error| file("take a lease", pool.directory(), &error);
    let owner = Owner::new(&entry.container_id, &entry.ifname);
    let held = store.held_by(&owner).map_err(failed)?;
    for address in addresses.iter().filter(|address| !held.contains(address)) {
        if store.is_taken(*address).map_err(failed)? {
            let msg = format!("{address} of {} is leased to another", entry.container_id);
            return Err(Error::new(Code::CONFLICT, msg)
                .details("see: manx ipam show; delete one of the two pods"));
        }
        store.restore(&owner, *address).map_err(failed)?;
    }
    Ok(())
}
