// SPDX-License-Identifier: Apache-2.0
//! The nftables tables of networks that have nothing on this node any more. A
//! runtime calls GC for a network that it has, if at all, and a network whose
//! configuration is gone is in nobody's list.

use std::{io::ErrorKind, time::Duration};

use super::{Error, file, kernel, refused, tables};
use crate::{
    cni::env::valid_network_name,
    list::Gather,
    net::{
        Socket,
        link::{self, Link},
    },
    nft,
    pod::{Identity, identity::group},
    state::{Journal, Root, lock},
};

/// The networks that have a table and no attachment, and are not `configured`; by the
/// node's `links` where they are known.
///
/// # Errors
/// `Kernel` if the kernel does not answer.
pub fn networks(
    root: &Root,
    host: &mut Socket,
    links: Option<&[Link]>,
    configured: &[String],
) -> Result<Vec<String>, Error> {
    let found = nft::tables(tables::PREFIX).map_err(refused)?;
    let named = found.iter().filter_map(|table| table.strip_prefix(tables::PREFIX));
    let mut named: Vec<String> =
        named.filter(|name| valid_network_name(name)).map(str::to_owned).gather();
    named.retain(|name| !configured.contains(name) && !Journal::new(root, name).has_entries());
    if named.is_empty() {
        return Ok(named);
    }
    // A journal may have been lost with its pods alive.
    let read = match links {
        Some(_) => Vec::new(),
        None => link::all(host).map_err(kernel)?,
    };
    let links = links.unwrap_or(&read);
    named.retain(|name| links.iter().all(|link| link.group != group(name)));
    Ok(named)
}

/// Removes the table of such a network; false if it has an attachment after all, or
/// is about to get one.
///
/// # Errors
/// `File` if the network cannot be locked, `Kernel` if the kernel refuses.
pub fn remove(root: &Root, host: &mut Socket, network: &str) -> Result<bool, Error> {
    let journal = Journal::new(root, network);
    let lock = match lock::exclusive_within(journal.directory(), Duration::ZERO) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(false),
        Err(error) => return Err(file("lock the network", journal.directory(), &error)),
    };
    if networks(root, host, None, &[])?.iter().all(|former| former != network) {
        return Ok(false);
    }
    let removed = nft::remove(&tables::table(network)).map_err(refused)?;
    lock.retire();
    Ok(removed)
}

/// Removes the table of a network of which no pod lives, configured or not; false if
/// there was none, `None` if a pod lives or is about to: the table protects others
/// from it, whatever else of the network is taken back.
///
/// # Errors
/// `File` if the network cannot be locked, `Kernel` if the kernel refuses.
pub fn remove_unneeded(
    root: &Root,
    host: &mut Socket,
    network: &str,
) -> Result<Option<bool>, Error> {
    let journal = Journal::new(root, network);
    let lock = match lock::exclusive_within(journal.directory(), Duration::ZERO) {
        Ok(lock) => Some(lock),
        Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(None),
        // A network of such a name has no directory, and no attachments.
        Err(error) if error.kind() == ErrorKind::InvalidFilename => None,
        Err(error) => return Err(file("lock the network", journal.directory(), &error)),
    };
    let aliases = journal.entries().into_iter().map(|entry| Identity::from(&entry).alias());
    let aliases: Vec<String> = aliases.gather();
    let links = link::all(host).map_err(kernel)?;
    let lives = links.iter().any(|link| {
        let noted = |alias: &String| aliases.contains(alias);
        link.group == group(network) || link.alias.as_ref().is_some_and(noted)
    });
    if lives {
        return Ok(None);
    }
    let removed = nft::remove(&tables::table(network)).map_err(refused)?;
    lock.into_iter().for_each(lock::Guard::retire);
    Ok(Some(removed))
}
