//! The nftables tables of networks that have nothing on this node any more. A
//! runtime calls GC for a network that it has, if at all, and a network whose
//! configuration is gone is in nobody's list.

use std::time::Duration;

use super::{file, kernel, tables};
use crate::{
    cni::{Error, env::valid_network_name},
    net::{Socket, link},
    nft,
    pod::identity::group,
    state::{Journal, Root, lock},
};

/// The networks that have a table and no attachment, and are not `configured`.
///
/// # Errors
/// Code 100 if the kernel does not answer.
pub fn networks(
    root: &Root,
    host: &mut Socket,
    configured: &[String],
) -> Result<Vec<String>, Error> {
    let found = nft::tables(tables::PREFIX).map_err(tables::refused)?;
    let named = found.iter().filter_map(|table| table.strip_prefix(tables::PREFIX));
    let mut named: Vec<String> =
        named.filter(|name| valid_network_name(name)).map(str::to_owned).collect();
    named.retain(|name| !configured.contains(name) && !Journal::new(root, name).has_entries());
    if named.is_empty() {
        return Ok(named);
    }
    // A journal may have been lost with its pods alive.
    let links = link::all(host).map_err(kernel)?;
    named.retain(|name| links.iter().all(|link| link.group != group(name)));
    Ok(named)
}

/// Removes the table of such a network; false if it has an attachment after all, or
/// is about to get one.
///
/// # Errors
/// Code 5 if the network cannot be locked, code 100 if the kernel refuses.
pub fn remove(root: &Root, host: &mut Socket, network: &str) -> Result<bool, Error> {
    let journal = Journal::new(root, network);
    let lock = match lock::exclusive_within(journal.directory(), Duration::ZERO) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Ok(false),
        Err(error) => return Err(file("lock the network", journal.directory(), &error)),
    };
    if networks(root, host, &[])?.iter().all(|former| former != network) {
        return Ok(false);
    }
    let removed = nft::remove(&tables::table(network)).map_err(tables::refused)?;
    lock.retire();
    Ok(removed)
}
