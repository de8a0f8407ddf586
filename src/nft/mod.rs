//! The masquerade rule set of a network, in nf_tables over netlink.
//!
//! One table per network (family inet, Linux 5.7) translates what its pods send
//! beyond the cluster to the node's address. The table is constant: an ADD after
//! the first only looks at it, in three messages. No `nft` or `iptables` is
//! executed: one execution costs more than all the rest of an ADD.
//!
//! [`Masquerade`] is the description; [`ensure`], [`differences`] and
//! [`Masquerade::render`] read that one description. A table's name is its mark
//! of ownership: tables of other names are never touched, and one of this name
//! is made as described, whoever changed it.
//!
//! Everything acts on the network namespace of the calling thread. This module
//! knows no CNI, no pods and no links: only numbers of interface groups.

mod abi;
mod attribute;
mod error;
mod expression;
pub mod forward;
mod interval;
mod message;
mod monitor;
mod ruleset;
mod seal;
mod snapshot;
mod socket;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

pub use error::Error;
pub use monitor::Monitor;
pub use ruleset::NAME_BYTES_MAX;

use abi::{NFT_MSG_GETTABLE, NFTA_TABLE_NAME, NLM_F_DUMP};
use message::Request;
use ruleset::{Ruleset, check_name, table_deletion};
use snapshot::Snapshot;
use socket::Socket;

/// So often something is read again or written again because others changed the
/// firewall meanwhile. Each time one of them got on, so a hundred ADDs at once
/// need few; a firewall that changes every millisecond needs the limit.
const ATTEMPTS: u32 = 20;

/// What is masqueraded: everything that comes in by a link of one group, except
/// to other pods and to networks that are named.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Masquerade {
    /// The table's name, such as `manx-NETWORK`: a letter, then letters, digits
    /// and `-_./`, at most 255 bytes.
    pub table: String,
    /// The interface group (`IFLA_GROUP`) of the network's host links.
    pub source_group: u32,
    /// The interface groups of all host links, of whatever network. Traffic that
    /// leaves by one of them keeps its source.
    pub host_link_groups: RangeInclusive<u32>,
    /// Destinations that see the pods' own addresses. They may overlap.
    /// Link-local, multicast and broadcast destinations are added.
    pub never: Vec<IpNetwork>,
}

impl Masquerade {
    /// The table in the language of `nft -f`: the same that [`ensure`] installs.
    pub fn render(&self) -> String {
        Ruleset::unchecked(self).render()
    }
}

/// What [`ensure`] had to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ensured {
    /// Nothing: all was there.
    Unchanged,
    /// There was no table.
    Installed,
    /// There was a table, and something in it differed.
    Repaired,
}

/// Makes the table as described, in one transaction, if it is not. Of many
/// callers at once one writes, and the others find its work. A table whose
/// content differs is replaced; connections that are translated already stay so.
///
/// Replacing (not installing) costs some 15 ms when the socket is closed: the
/// kernel waits until nobody uses the old rules.
pub fn ensure(wanted: &Masquerade) -> Result<Ensured, Error> {
    let ruleset = Ruleset::new(wanted)?;
    let mut socket = Socket::open()?;
    for _ in 0..ATTEMPTS {
        let found = Snapshot::take(&mut socket, &ruleset)?;
        if found.differences.is_empty() {
            return Ok(Ensured::Unchanged);
        }
        let (requests, done) = match found.table_exists {
            true => (ruleset.replacement(), Ensured::Repaired),
            false => (ruleset.creation(), Ensured::Installed),
        };
        // Bound to what was seen, so that of many callers one writes.
        match socket.commit(&requests, Some(found.generation)) {
            Ok(()) => return Ok(done),
            Err(error) if error.is_race() => log::debug!("again: {error}"),
            Err(error) => return Err(error),
        }
    }
    // Somebody else's firewall changes all the time. A replacement is right
    // whatever it finds, it may only be more than was needed.
    socket.commit(&ruleset.replacement_of_anything(), None)?;
    Ok(Ensured::Repaired)
}

/// In which ways the table is not as described; empty if it is. Changes nothing.
pub fn differences(wanted: &Masquerade) -> Result<Vec<String>, Error> {
    let ruleset = Ruleset::new(wanted)?;
    let mut socket = Socket::open()?;
    for _ in 0..ATTEMPTS {
        let found = Snapshot::take(&mut socket, &ruleset)?;
        // What was seen is there, whenever it was seen. What was not may only
        // have been passed over.
        if found.consistent || found.differences.is_empty() {
            return Ok(found.differences);
        }
    }
    Err(Error::Contended { table: wanted.table.clone(), attempts: ATTEMPTS })
}

/// Deletes a table with all that is in it; false if there was none.
pub fn remove(table: &str) -> Result<bool, Error> {
    check_name(table)?;
    let mut socket = Socket::open()?;
    let mut attempt = 1;
    loop {
        match socket.commit(&[table_deletion(table)], None) {
            Ok(()) => return Ok(true),
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(false),
            Err(error) if error.is_race() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Whether the kernel has nf_tables and lets us at it. One message; that it can
/// masquerade shows only in [`ensure`].
pub fn available() -> Result<(), Error> {
    let [reply] = snapshot::ask(&mut Socket::open()?, [Request::generation()])?;
    snapshot::generation_of(&reply).map(drop)
}

/// The tables of family inet whose names begin with `prefix`, sorted.
pub fn tables(prefix: &str) -> Result<Vec<String>, Error> {
    let mut socket = Socket::open()?;
    for _ in 0..ATTEMPTS {
        let generation = Request::generation();
        let dump = Request::new(NFT_MSG_GETTABLE, NLM_F_DUMP, "tables of family inet", []);
        let [generation, tables] = snapshot::ask(&mut socket, [generation, dump])?;
        if !tables.is_of(snapshot::generation_of(&generation)?) {
            continue;
        }
        let names = tables
            .objects
            .iter()
            .filter_map(|table| attribute::find(table, NFTA_TABLE_NAME).map(attribute::string));
        let mut ours: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
        ours.sort_unstable();
        return Ok(ours);
    }
    Err(Error::Contended { table: format!("{prefix}*"), attempts: ATTEMPTS })
}
