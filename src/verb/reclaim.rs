// SPDX-License-Identifier: Apache-2.0
//! What an ADD does that finds no address: dead attachments give theirs back. Many
//! runtimes never ask for a garbage collection, and DELs get lost.

use std::time::Duration;

use super::{Call, Error, file, ipam, kernel, liveness, pod_side, policy};
use crate::{
    net::{Socket, link},
    state::lock,
};

/// How long an ADD without an address waits for the others that are under way.
const RECLAIM_LIMIT: Duration = Duration::from_secs(10);

/// Takes back the leases of this network's attachments that are noted and dead,
/// for an ADD that finds none; returns how many attachments that were. Leases that
/// nobody noted may be another plugin's.
///
/// # Errors
/// Of the kernel's answers and of the store.
pub(super) fn reclaim(call: &Call) -> Result<usize, Error> {
    let journal = call.journal();
    let lock = match lock::exclusive_within(journal.directory(), RECLAIM_LIMIT) {
        Ok(lock) => lock,
        Err(error) => {
            log::warn!("dead attachments are not looked for: {error}");
            return Ok(0);
        }
    };
    let mut host = Socket::open().map_err(kernel)?;
    let links = link::all(&mut host).map_err(kernel)?;
    let mut count = 0;
    for entry in journal.entries() {
        // A DEL that is at it has its lock.
        let free = lock.attachment(&entry.container_id, &entry.ifname, Duration::ZERO).is_ok();
        if free && ipam::stored(&entry) && liveness::of(&mut host, &entry, &links)?.is_gone() {
            pod_side::forget_noted(&entry)?;
            match policy::release_noted(&call.root, &[&entry], false) {
                Ok(()) => {}
                // The other ones will do.
                Err(error) if count > 0 => {
                    log::warn!("{error}");
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            ipam::release_stored(&call.root, &entry)?;
            let forgotten = journal.remove(&entry.container_id, &entry.ifname);
            forgotten.map_err(|error| file("remove the entry", journal.directory(), &error))?;
            count += 1;
        }
    }
    Ok(count)
}
