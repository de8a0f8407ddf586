// SPDX-License-Identifier: Apache-2.0
//! Other networks of the same store. A directory of leases may have two names, by a
//! symbolic link or a bind mount; the networks of both names then have one pool, and
//! what one of them has no other may collect.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use super::Pool;
use crate::list::Gather;
use crate::state::{
    Entry, Journal, journal,
    lock::{self, Guard},
};

/// How long a collection waits for another network that has the same store.
const LIMIT: Duration = Duration::from_secs(1);

impl Pool<'_> {
    /// The journals of the other networks that have this store: those that have its
    /// directory beside ours, and those whose attachments say so.
    fn neighbours(&self) -> Vec<Journal> {
        let identity = |path: &Path| Some(fs::metadata(path).ok()?).map(|it| (it.dev(), it.ino()));
        let Some(own) = identity(self.directory()) else { return Vec::new() };
        let above = self.directory().parent().unwrap_or(Path::new("/"));
        let mut names = journal::networks(self.root());
        names.retain(|name| name != self.network());
        let is_one = |name: &String, journal: &Journal| {
            let of_entry =
                |entry: &Entry| Pool::of(self.root(), name, &entry.ipam).directory().to_owned();
            let noted =
                || journal.entries().iter().any(|entry| identity(&of_entry(entry)) == Some(own));
            identity(&above.join(name)) == Some(own) || noted()
        };
        let journals = names.iter().map(|name| (name, Journal::new(self.root(), name)));
        journals
            .filter(|(name, journal)| is_one(name, journal))
            .map(|(_, journal)| journal)
            .gather()
    }

    /// The attachments of the other networks that have this store.
    pub(super) fn attachments_beside(&self) -> Vec<Entry> {
        self.neighbours().iter().flat_map(Journal::entries).gather()
    }

    /// Keeps ADDs of the other networks out, whose leases come before their entries;
    /// returns their attachments. Two collections that wait for one another do not do
    /// so for long.
    ///
    /// # Errors
    /// `TimedOut` naming the holder of a lock.
    pub(in crate::verb) fn lock_beside(&self) -> io::Result<(Vec<Guard>, Vec<Entry>)> {
        let neighbours = self.neighbours();
        let lock = |other: &Journal| lock::exclusive_within(other.directory(), LIMIT);
        let locks: Result<Vec<Guard>, io::Error> = neighbours.iter().map(lock).collect();
        Ok((locks?, neighbours.iter().flat_map(Journal::entries).gather()))
    }
}
