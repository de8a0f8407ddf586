// SPDX-License-Identifier: Apache-2.0
//! Where the addresses of a network are, and which of its leases nobody has.

use std::{
    fs,
    io::ErrorKind,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{
    has_attachment,
    place::{all_hints, data_dir, sweep},
};
use crate::{
    cni::{Environment, Error, json::member},
    conf::BUILT_IN,
    ipam::{
        Lease, Store,
        store::{self, LOCK},
    },
    list::{Gather, PushAll},
    net::{Socket, link},
    state::{Journal, Root, file::guarded_directory, lock, readable_directory},
    verb::{file, kernel, liveness},
};

/// How long to wait for the store's lock. It is held for about a millisecond by
/// us, for some hundred by a host-local with tens of thousands of leases.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Where the addresses of a network are.
pub(in crate::verb) struct Pool<'a> {
    root: &'a Root,
    network: &'a str,
    directory: PathBuf,
    /// Whether we give its addresses, rather than host-local.
    own: bool,
}

impl<'a> Pool<'a> {
    /// The pool of a network by its IPAM section.
    pub(in crate::verb) fn of(root: &'a Root, network: &'a str, ipam: &Value) -> Self {
        let own = member(ipam, "type").and_then(Value::as_str) == Some(BUILT_IN);
        Self { root, network, directory: data_dir(root, ipam).join(network), own }
    }

    /// The store's directory.
    pub(in crate::verb) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where state lies.
    pub(super) fn root(&self) -> &Root {
        self.root
    }

    /// The network.
    pub(super) fn network(&self) -> &str {
        self.network
    }

    /// Opens the store for this process alone, making it if need be.
    ///
    /// # Errors
    /// Code 11 naming the holder if the lock is not to be had in time, code 5
    /// for what the file system refuses.
    pub(in crate::verb) fn open(&self) -> Result<Store, Error> {
        let failed = |error| file("open the store of leases", &self.directory, &error);
        let data = match guarded_directory(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                readable_directory(&self.directory).map_err(failed)?;
                // Another one of that name may have been removed.
                sweep(self.root);
                guarded_directory(&self.directory)
            }
            outcome => outcome,
        };
        let data = data.map_err(failed)?;
        let lock = lock::foreign(&self.directory.join(LOCK), LOCK_LIMIT)
            .map_err(|error| file("lock the store of leases", &self.directory, &error))?;
        let hints = self.hints_of(&data);
        Store::open(&self.directory, hints.as_deref(), lock, SystemTime::now()).map_err(failed)
    }

    fn hints(&self) -> Option<PathBuf> {
        self.hints_of(&fs::metadata(&self.directory).ok()?)
    }

    /// By what the directory is, not by what it is called: a symbolic link or a
    /// bind mount is another name of the same store.
    fn hints_of(&self, data: &fs::Metadata) -> Option<PathBuf> {
        self.own.then(|| all_hints(self.root).join(store::hints_name(data)))
    }

    /// Whether addresses were given to plugins whose links we do not know.
    pub(in crate::verb) fn is_shared(&self) -> bool {
        self.hints().is_some_and(|hints| store::is_shared(&hints))
    }

    /// The leases from before the boot whose attachments are no more, of the
    /// addresses that `concerns`: no container outlives a boot, and no link has
    /// the address.
    ///
    /// # Errors
    /// Of the store and of the kernel's answers.
    pub(super) fn forgotten(
        &self,
        store: &Store,
        concerns: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Vec<Lease>, Error> {
        let mut old = store.past();
        old.retain(|lease| concerns(lease.address));
        self.unheld(old)
    }

    /// Whether all leases of this attachment are from before the boot, by their
    /// dates, and no link holds one.
    pub(super) fn is_from_before_the_boot(&self, environment: &Environment) -> bool {
        let Environment { container_id, ifname, .. } = environment;
        let mut leases = store::leases(&self.directory);
        leases.retain(|lease| lease.owner.is(container_id, ifname));
        let old = |lease: &Lease| store::is_older_than_boot(&self.directory, lease.address);
        let dead = !leases.is_empty() && leases.iter().all(old);
        dead && self.unheld(leases).is_ok_and(|unheld| !unheld.is_empty())
    }

    /// Those leases that no attachment has.
    fn unheld(&self, mut leases: Vec<Lease>) -> Result<Vec<Lease>, Error> {
        if leases.is_empty() {
            return Ok(leases);
        }
        let mut host = Socket::open().map_err(kernel)?;
        let links = link::all(&mut host).map_err(kernel)?;
        let aliases: Vec<String> = links.into_iter().filter_map(|link| link.alias).gather();
        let mut entries = Journal::new(self.root, self.network).entries();
        entries.push_all(self.attachments_beside());
        let mut problem = None;
        leases.retain(|lease| {
            let routed = liveness::is_routed(&mut host, lease.address).unwrap_or_else(|error| {
                problem = Some(error);
                true
            });
            let aliases = aliases.iter().map(String::as_str);
            !routed && !has_attachment(self.network, &lease.owner, &entries, aliases)
        });
        problem.map_or(Ok(leases), |error| Err(error.into()))
    }
}
