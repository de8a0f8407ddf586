// SPDX-License-Identifier: Apache-2.0
//! Our tables in nf_tables, over netlink.
//!
//! A [`Network`] has a table of family inet (Linux 5.7) that translates what its
//! pods send beyond the cluster to the node's address, and drops what pods have
//! no business to send. A fabric with tunnels has another ([`Tunnel`]). They are
//! constant: an ADD after the first only looks, in one message. No `nft` or
//! `iptables` is executed: one execution costs more than all the rest of an ADD.
//!
//! [`Table`] is the description, of sets, maps, chains and rules as values;
//! [`ensure`], [`differences`] and [`Table::render`] read that one description. What
//! its sets and maps hold may follow the description element by element ([`set`]); rules
//! and chains are never changed while only that differs. A table's name is its mark of
//! ownership: tables of other names are never touched, and one of this name is
//! made as described, whoever changed it.
//!
//! Everything acts on the network namespace of the calling thread. This module
//! knows no CNI, no pods and no links: only numbers of interface groups.

mod abi;
mod constant;
mod counted;
mod element;
mod error;
mod expression;
pub mod forward;
#[cfg(fuzzing)]
pub mod fuzzing;
mod interval;
pub mod key;
mod message;
mod monitor;
mod network;
mod open;
mod outline;
pub mod policy;
mod primitive;
mod ruleset;
mod seal;
pub mod set;
pub mod side;
mod snapshot;
mod socket;
mod stages;
pub mod table;
#[cfg(test)]
mod tests;
mod tunnel;

use nix::errno::Errno;

pub use crate::netlink::Monitor;
pub use constant::{Digest, digest};
pub use counted::dropped_sources;
pub use error::Error;
pub use monitor::subscribe;
pub use network::{Guard, Masquerade, Network};
pub use open::{add_pairs, holds_pairs, remove_pairs};
pub use seal::Seal;
pub use table::{NAME_BYTES_MAX, Table};
pub use tunnel::{Carrier, Tunnel};

use abi::{NFT_MSG_GETTABLE, NFTA_TABLE_NAME, NLM_F_DUMP};
use message::{generation, request};
use ruleset::table_deletion;
use set::Content;
use snapshot::Snapshot;
use socket::Socket;
use table::check_name;

use crate::list::{Gather, Ordered};
use crate::netlink::{
    Request,
    attribute::{find, string},
};

/// So often something is read again or written again because others changed the
/// firewall meanwhile. Each time one of them got on, so a hundred ADDs at once
/// need few; a firewall that changes every millisecond needs the limit.
const ATTEMPTS: u32 = 20;

/// What [`ensure`] had to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ensured {
    /// Nothing: all was there. If it was not known by its seal, it was made anew for that where
    /// the kernel let us.
    Unchanged,
    /// There was no table.
    Installed,
    /// There was a table, and something in it differed.
    Repaired,
}

/// Whether the table is as it was made by [`ensure`], by one message. What
/// nothing but a deliberate change of a detail makes, it does not see: another
/// policy of a chain, a dormant table, an address of a set that follows something.
///
/// # Errors
/// Of the kernel's answer.
pub fn is_intact(seal: &Seal) -> Result<bool, Error> {
    snapshot::is_sealed(seal)
}

/// Whether the sets that follow something hold what this number is of
/// ([`Table::followed`]), by one message each.
///
/// # Errors
/// Of the kernel's answer.
pub fn is_followed(wanted: &Table, number: u64) -> Result<bool, Error> {
    snapshot::followed(wanted).map(|found| found == number)
}

/// Makes the table as described, in one transaction, if it is not. Of many
/// callers at once one writes, and the others find its work. A table whose
/// content differs is replaced, unless only elements differ that follow
/// something: they are added and removed. Connections that are translated
/// already stay so.
///
/// Replacing (not installing) costs some 15 ms when the socket is closed: the
/// kernel waits until nobody uses the old rules.
///
/// # Errors
/// Of the kernel's answers.
pub fn ensure(wanted: &Table) -> Result<Ensured, Error> {
    ensure_by(wanted, Socket::commit)
}

/// The same by whoever carries out requests, of one generation or of any.
fn ensure_by(
    wanted: &Table,
    mut commit: impl FnMut(&mut Socket, &[Request], Option<u32>) -> Result<(), Error>,
) -> Result<Ensured, Error> {
    let mut socket = Socket::open()?;
    let mut is_right = false;
    for _ in 0..ATTEMPTS {
        let found = Snapshot::take(&mut socket, wanted)?;
        is_right = found.differences.is_empty();
        if is_right && !found.only_seal {
            return Ok(Ensured::Unchanged);
        }
        let (requests, done) = match found.table_exists {
            _ if is_right => (wanted.replacement(&found.kept), Ensured::Unchanged),
            true if found.only_elements => (found.updates(wanted), Ensured::Repaired),
            true => (wanted.replacement(&found.kept), Ensured::Repaired),
            false => (wanted.creation(), Ensured::Installed),
        };
        // Bound to what was seen, so that of many callers one writes.
        match commit(&mut socket, &requests, Some(found.generation)) {
            Ok(()) => return Ok(done),
            Err(error) if error.is_race() => log::debug!("again: {error}"),
            Err(error) if is_right => {
                log::debug!("table inet {} stays as it is: {error}", wanted.name);
                return Ok(done);
            }
            Err(error) => return Err(error),
        }
    }
    if is_right {
        return Ok(Ensured::Unchanged);
    }
    // Somebody else's firewall changes all the time. A replacement is right
    // whatever it finds, it may only be more than was needed.
    commit(&mut socket, &wanted.replacement_of_anything(), None)?;
    Ok(Ensured::Repaired)
}

/// Puts what the sets of a description hold that follow something into those of the
/// kernel, beside what is there.
///
/// # Errors
/// Of the kernel's answers; where there is no such table, that.
pub fn include(wanted: &Table) -> Result<(), Error> {
    let requests = wanted.sets.iter().flat_map(|set| match &set.content {
        Content::Following(elements) | Content::Counted(elements) => {
            let elements = elements.iter().map(|(key, value)| (key, value.as_ref()));
            wanted.additions(set, elements)
        }
        Content::Constant(_) | Content::Open | Content::Passing(_) => Vec::new(),
    });
    Socket::open()?.commit(&requests.collect::<Vec<_>>(), None)
}

/// In which ways the table is not as described; empty if it is. Changes nothing.
///
/// # Errors
/// Of the kernel's answers.
pub fn differences(wanted: &Table) -> Result<Vec<String>, Error> {
    let mut socket = Socket::open()?;
    for _ in 0..ATTEMPTS {
        let found = Snapshot::take(&mut socket, wanted)?;
        // What was seen is there, whenever it was seen. What was not may only
        // have been passed over.
        if found.consistent || found.differences.is_empty() {
            return Ok(found.differences);
        }
    }
    Err(Error::contended(&wanted.name, ATTEMPTS))
}

/// Whether the kernel would take such a table. Changes nothing.
///
/// # Errors
/// What it would refuse.
pub fn accepts(wanted: &Table) -> Result<(), Error> {
    Socket::open()?.try_out(&wanted.replacement_of_anything())
}

/// Deletes a table with all that is in it; false if there was none, as where the
/// kernel has no nf_tables.
///
/// # Errors
/// Of the kernel's answers.
pub fn remove(table: &str) -> Result<bool, Error> {
    check_name(table)?;
    let mut socket = match Socket::open().map_err(Error::from) {
        Err(error) if error.is_without_tables() => return Ok(false),
        opened => opened?,
    };
    let mut attempt = 1;
    loop {
        match socket.commit(&[table_deletion(table)], None) {
            Ok(()) => return Ok(true),
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(false),
            Err(error) if error.is_without_tables() => return Ok(false),
            Err(error) if error.is_race() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Whether the kernel has nf_tables and lets us at it. One message; that it can
/// masquerade shows only in [`ensure`].
pub fn available() -> Result<(), Error> {
    let [reply] = snapshot::ask(&mut Socket::open()?, [generation()])?;
    snapshot::generation_of(&reply).map(drop)
}

/// The tables of family inet whose names begin with `prefix`, sorted; none where
/// the kernel has no nf_tables.
///
/// # Errors
/// Of the kernel's answers.
pub fn tables(prefix: &str) -> Result<Vec<String>, Error> {
    match look_for_tables(prefix) {
        Err(error) if error.is_without_tables() => Ok(Vec::new()),
        outcome => outcome,
    }
}

fn look_for_tables(prefix: &str) -> Result<Vec<String>, Error> {
    let mut socket = Socket::open()?;
    for _ in 0..ATTEMPTS {
        let dump = request(NFT_MSG_GETTABLE, NLM_F_DUMP, "tables of family inet", []);
        let [generation, tables] = snapshot::ask(&mut socket, [generation(), dump])?;
        if !tables.is_of(snapshot::generation_of(&generation)?) {
            continue;
        }
        let names =
            tables.objects.iter().filter_map(|table| find(table, NFTA_TABLE_NAME).map(string));
        let mut ours: Vec<String> = names.filter(|name| name.starts_with(prefix)).gather();
        ours.order();
        return Ok(ours);
    }
    Err(Error::contended(format!("{prefix}*"), ATTEMPTS))
}
