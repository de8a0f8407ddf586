// SPDX-License-Identifier: Apache-2.0
//! Finding out what is in a store: after others have been there, after a kill,
//! and after a boot.

use std::{
    collections::HashMap, fs, io, net::IpAddr, os::unix::fs::MetadataExt, path::Path,
    time::SystemTime,
};

use super::{Store, TEMPORARY, leases};
use crate::ipam::{
    Lease, Owner, boot,
    hints::{Hints, Note, ignore_missing},
    lease,
};
use crate::list::{Gather, Ordered};

impl Store {
    /// Reads every lease and notes whose it is. Takes back what ADDs of ours
    /// that were killed had taken of several addresses, and removes what was
    /// being written. So does it with files that name nobody: a host-local that
    /// was killed leaves them, and the lock that it wrote under is ours now.
    pub(super) fn rebuild(&self) -> io::Result<()> {
        let mut killed = Vec::new();
        self.hint(|hints| {
            killed = hints.clear()?;
            hints.remember(&self.directory)
        });
        let mut owners: HashMap<Owner, Vec<IpAddr>> = HashMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(TEMPORARY) {
                ignore_missing(fs::remove_file(self.directory.join(&*name)))?;
            }
            let Some(address) = lease::address(&name) else { continue };
            match lease::owner(&self.path(address)) {
                Ok(Some(owner)) => owners.entry(owner).or_default().push(address),
                Ok(None) => ignore_missing(fs::remove_file(self.path(address)))?,
                // Not a file, or not readable: nobody's, and not to be given.
                Err(_) => {}
            }
        }
        if self.hints().is_some_and(|hints| !hints.knows_the_past()) {
            let found = owners.values().flatten().copied();
            let began = boot::began();
            let past: Vec<IpAddr> =
                found.filter(|address| is_older(&self.path(*address), began)).gather();
            self.hint(|hints| hints.write_past(&past));
        }
        // Its own note stays until what a killed ADD took is free again.
        for (owner, mut addresses) in owners {
            addresses.order();
            let of_killed =
                |hints: &Hints| killed.iter().any(|(path, _)| hints.path(&owner) == *path);
            if !self.hints().is_some_and(of_killed) {
                self.note(&owner, Note { addresses, taking: None });
            }
        }
        for (path, note) in killed {
            self.take_back(&path, &note)?;
        }
        self.seal();
        Ok(())
    }

    /// Frees what a killed ADD took, by the inode of its file: somebody else may
    /// have given the addresses since, even to the same owner. What its owner
    /// holds besides is noted.
    fn take_back(&self, path: &Path, note: &Note) -> io::Result<()> {
        for address in &note.addresses {
            let lease = self.path(*address);
            if fs::symlink_metadata(&lease).is_ok_and(|data| Some(data.ino()) == note.taking) {
                ignore_missing(fs::remove_file(lease))?;
            }
        }
        let mut owners: HashMap<Owner, Vec<IpAddr>> = HashMap::new();
        for lease in leases(&self.directory) {
            if self.hints().is_some_and(|hints| hints.path(&lease.owner) == path) {
                owners.entry(lease.owner).or_default().push(lease.address);
            }
        }
        self.hint(|_| ignore_missing(fs::remove_file(path)));
        for (owner, addresses) in owners {
            self.note(&owner, Note { addresses, taking: None });
        }
        Ok(())
    }

    /// The leases that were here when the store was first opened in this boot and
    /// are older than it. The date alone would not do: clocks are set.
    pub fn past(&self) -> Vec<Lease> {
        let mut past = self.hints().and_then(Hints::past).unwrap_or_default();
        let began = boot::began();
        past.retain(|address| is_older(&self.path(*address), began));
        past.order();
        let lease = |address| {
            let owner = lease::owner(&self.path(address)).ok()??;
            Some(Lease { address, owner })
        };
        past.into_iter().filter_map(lease).gather()
    }
}

/// Whether a lease was written before that, by its date.
fn is_older(lease: &Path, than: Option<SystemTime>) -> bool {
    let dated = fs::symlink_metadata(lease).and_then(|data| data.modified());
    dated.ok().zip(than).is_some_and(|(dated, than)| dated < than)
}

/// Whether a lease of a store is dated before the boot. Clocks are set: by itself
/// this proves nothing.
pub fn is_older_than_boot(store: &Path, address: IpAddr) -> bool {
    is_older(&store.join(address.to_string()), boot::began())
}
