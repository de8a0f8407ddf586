// SPDX-License-Identifier: Apache-2.0
//! Further sources that the link of a pod may send from, by elements of the network's
//! table: an operator adds them, or the pod asks for them by an annotation where its
//! configuration lets it. They go with the link, else they would be there for another one
//! of its name.
//!
//! Few networks have any, and of an operator's nobody tells us. Whether one has is noted beside its
//! attachments, by STATUS once in a while and by each pass of apply, so that DEL and GC
//! ask a file and not the kernel.

use std::{fs, path::Path, time::Duration};

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::{Error, file, refused, table::name};
use crate::{
    list::Gather,
    net::{Socket, link},
    nft::{self, Guard, Network, Table},
    pod::identity::{GROUPS, group, host_link_of},
    state::{Journal, Root, replace},
};

/// The note in the directory of the network; empty where nothing is allowed.
const NOTE: &str = ".allowed";
/// How long STATUS believes it, and how old a network is before STATUS looks first.
const GOOD: Duration = Duration::from_secs(60);

/// Looks, and notes what is found, where the network has attachments.
///
/// # Errors
/// `Kernel` if nf_tables does not answer, `File` if nothing can be written.
pub fn note(root: &Root, network: &str) -> Result<(), Error> {
    let journal = Journal::new(root, network);
    if !journal.has_entries() {
        return Ok(());
    }
    write(&journal, nft::holds_pairs(&table(network)?).map_err(refused)?)
}

fn write(journal: &Journal, found: bool) -> Result<(), Error> {
    let path = journal.directory().join(NOTE);
    let noted: &[u8] = if found { b"some" } else { b"" };
    replace(&path, noted).map_err(|error| file("write", &path, &error))
}

/// Lets a link send from what its pod asked for. Where the network's table has no check of
/// sources there is nothing to be let.
///
/// # Errors
/// As [`note`].
pub(crate) fn give(
    journal: &Journal,
    network: &str,
    link: &str,
    sources: &[IpNetwork],
) -> Result<(), Error> {
    if sources.is_empty() {
        return Ok(());
    }
    // First, so that a kill in between leaves nothing that nobody takes away.
    write(journal, true)?;
    let pairs: Vec<_> = sources.iter().map(|source| (link, *source)).gather();
    match nft::add_pairs(&table(network)?, &pairs) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
        done => done.map_err(refused),
    }
}

/// Gives the links that are there what a flushed table has lost of it.
///
/// # Errors
/// As [`note`].
pub(crate) fn restore(root: &Root, network: &str, host: &mut Socket) -> Result<(), Error> {
    let journal = Journal::new(root, network);
    for entry in journal.entries().iter().filter(|entry| !entry.sources.is_empty()) {
        // A link of that name may be another attachment's by now.
        let found = link::by_name(host, &entry.host_link).ok().flatten();
        if found.is_some_and(|link| host_link_of(entry, &[link]).is_some()) {
            give(&journal, network, &entry.host_link, &entry.sources)?;
        }
    }
    Ok(())
}

/// As [`note`], where that was not done for a while.
///
/// # Errors
/// As [`note`].
pub(crate) fn note_if_old(root: &Root, network: &str) -> Result<(), Error> {
    let journal = Journal::new(root, network);
    // The lock's file is as old as the directory.
    let age = age(&journal.directory().join(NOTE)).or(age(&journal.directory().join(".lock")));
    if age.is_some_and(|age| age < GOOD) { Ok(()) } else { note(root, network) }
}

/// How old a file is; a clock that was set back makes it old.
fn age(path: &Path) -> Option<Duration> {
    let written = fs::metadata(path).and_then(|data| data.modified()).ok()?;
    Some(written.elapsed().unwrap_or(Duration::MAX))
}

/// Takes away what is allowed to those of these links that are gone, where anything is
/// noted.
pub(crate) fn forget(host: &mut Socket, journal: &Journal, network: &str, links: &[&str]) {
    if !is_noted(journal) {
        return;
    }
    let is_gone = |name: &&str| link::by_name(host, name).is_ok_and(|link| link.is_none());
    let links: Vec<&str> = links.iter().copied().filter(is_gone).gather();
    if links.is_empty() {
        return;
    }
    if let Err(error) = take(network, &links) {
        let links = links.join(", ");
        log::warn!("what was allowed to {links} stays in the table of network {network}: {error}");
    }
}

/// Takes away what is allowed to a link that another one of its name is to replace.
///
/// # Errors
/// As [`note`]: the other one would be allowed it.
pub(crate) fn forget_replaced(journal: &Journal, network: &str, link: &str) -> Result<(), Error> {
    if is_noted(journal) { take(network, &[link]) } else { Ok(()) }
}

fn is_noted(journal: &Journal) -> bool {
    fs::metadata(journal.directory().join(NOTE)).is_ok_and(|note| note.len() > 0)
}

fn take(network: &str, links: &[&str]) -> Result<(), Error> {
    nft::remove_pairs(&table(network)?, links).map_err(refused)
}

/// The table that has the sets, whatever else is in it.
fn table(network: &str) -> Result<Table, Error> {
    let network = Network {
        table: name(network),
        group: group(network),
        host_link_groups: GROUPS,
        masquerade: None,
        guard: Guard::Sources,
    };
    network.describe().map_err(refused)
}
