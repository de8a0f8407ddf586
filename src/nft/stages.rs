// SPDX-License-Identifier: Apache-2.0
//! What the sets of a table hold, brought up to date while packets pass, in an order that
//! lets none pass which neither the former elements nor the new ones let pass: first what
//! is added under numbers that nobody has yet, then all at once who has which number, then
//! what nobody has any more goes. Whoever is killed in between leaves it between the two.
//!
//! Rules are made once. Those of a table that is there are replaced only where somebody
//! damaged them, as the hooks of a table that is replaced miss a packet now and then. A second
//! table says the same meanwhile.

use std::mem::replace;

use nix::errno::Errno;

use super::abi::*;
use super::error::Error;
use super::message::{generation, request};
use super::set::{Elements, Key, Value, changes};
use super::snapshot::{Snapshot, generation_of, table_question};
use super::socket::Socket;
use super::table::Table;
use super::{ATTEMPTS, Ensured, remove, ruleset::table_deletion};
use crate::list::{Gather, PushAll};
use crate::netlink::{Request, attribute::Attribute};

/// Messages of one transaction that does not have to be one: what a socket sends without
/// a larger buffer.
pub(super) const PER_TRANSACTION: usize = 4;

/// Makes the table, or brings what its sets hold up to date; `switches` are the sets that
/// change all at once, and `gates` those of them without whose elements all packets pass.
/// Also returns the rule set's generation: while it is that, nobody has changed anything since.
///
/// # Errors
/// Of the kernel's answers.
pub(super) fn advance(
    mut wanted: Table,
    switches: &[&str],
    gates: &[&str],
) -> Result<(Ensured, u32), Error> {
    // As both have to let a packet pass, one that is left behind by whoever was killed opens
    // nothing until the next one takes it away.
    let cover = cover_of(&wanted.name);
    let done = bring(&mut wanted, switches, gates, Some(&cover))?;
    let held = Socket::open()?.replies(&[table_question(&cover)])?;
    let cover = Table { name: cover, ..Table::default() };
    if held.iter().any(|reply| !reply.absent) {
        open(&cover, gates)?;
        remove(&cover.name)?;
    }
    Ok(done)
}

/// The name of the table that says the same as that one while its rules are replaced.
pub(super) fn cover_of(table: &str) -> String {
    format!("{table}.cover")
}

/// Deletes a table with what may stand in for it; false if there was neither.
///
/// # Errors
/// Of the kernel's answers.
pub(super) fn remove_covered(table: &str) -> Result<bool, Error> {
    let cover = remove(&cover_of(table))?;
    Ok(remove(table)? || cover)
}

/// Lets all packets pass that come to the table from now on, if there is one. Where a table
/// goes, a packet that is half through its rules no longer finds what it is allowed.
fn open(table: &Table, gates: &[&str]) -> Result<(), Error> {
    let empty = |gate: &&str| {
        let object = table.object(&format!("set {gate}"));
        let named = [
            Attribute::string(NFTA_SET_ELEM_LIST_TABLE, &table.name),
            Attribute::string(NFTA_SET_ELEM_LIST_SET, gate),
        ];
        request(NFT_MSG_DELSETELEM, 0, object, named)
    };
    let requests: Vec<Request> = gates.iter().map(empty).gather();
    match Socket::open()?.commit(&requests, None) {
        Err(error) if error.errno() != Some(Errno::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// The same; while damaged rules are replaced, the other table says what these do.
fn bring(
    wanted: &mut Table,
    switches: &[&str],
    gates: &[&str],
    cover: Option<&str>,
) -> Result<(Ensured, u32), Error> {
    let mut socket = Socket::open()?;
    let (mut done, mut at_once, mut uncovered) = (Ensured::Unchanged, false, cover);
    for _ in 0..ATTEMPTS {
        let found = Snapshot::take(&mut socket, wanted)?;
        // Whoever asks by the seal would not know it again. Nobody asks for a cover by it, and one
        // that is left may be all that judges.
        let is_sound = found.only_elements || found.only_seal && cover.is_none();
        // What is in a set of intervals is found a moment after its transaction: rules come
        // first, then what they allow, then who is held to it.
        let structure = || wanted.structure(&wanted.seal().note);
        let outcome = if !found.table_exists {
            done = Ensured::Installed;
            socket.commit(&structure(), Some(found.generation))
        } else if is_sound && found.differences.is_empty() {
            return Ok((done, found.generation));
        } else if !is_sound && let Some(cover) = uncovered.take() {
            // Where one was killed behind this, its cover is all that judges, and is kept.
            let bare = replace(&mut wanted.name, cover.to_owned());
            bring(wanted, switches, gates, None)?;
            wanted.name = bare;
            open(wanted, gates)?;
            continue;
        } else if !is_sound {
            done = done.or(Ensured::Repaired);
            let mut requests = vec![table_deletion(&wanted.name)];
            requests.push_all(structure());
            socket.commit(&requests, Some(found.generation))
        } else {
            done = done.or(Ensured::Repaired);
            let stages = match at_once {
                true => vec![found.updates(wanted)],
                false => stages(wanted, switches, &found.held),
            };
            let committed = stages.iter().try_for_each(|requests| socket.commit(requests, None));
            // Each transaction is one generation. If there were no others since the look began,
            // the table is as described, and nobody has to look again.
            let after = found.generation.wrapping_add(stages.len() as u32);
            if committed.is_ok() && current(&mut socket)? == after {
                return Ok((done, after));
            }
            committed
        };
        match outcome {
            Ok(()) => {}
            Err(error) if error.is_race() => log::debug!("again: {error}"),
            // Somebody put elements there that ours would overlap.
            Err(error) if is_in_the_way(&error) && !at_once => at_once = true,
            Err(error) => return Err(error),
        }
    }
    Err(Error::contended(&wanted.name, ATTEMPTS))
}

/// The rule set's generation.
pub(super) fn current(socket: &mut Socket) -> Result<u32, Error> {
    let replies = socket.replies(&[generation()])?;
    generation_of(&replies.into_iter().next().unwrap_or_default())
}

/// Makes of a table that is known to hold something as of a generation the one that is wanted,
/// both told by what only one of them has. Returns the generation afterwards; `None` if others
/// changed something since then: whoever wants to go on has to look.
///
/// # Errors
/// Of the kernel's answers.
pub(super) fn follow(
    socket: &mut Socket,
    wanted: &Table,
    switches: &[&str],
    held: &[(&'static str, Elements)],
    mut generation: u32,
) -> Result<Option<u32>, Error> {
    for requests in stages(wanted, switches, held) {
        match socket.commit(&requests, Some(generation)) {
            Ok(()) => generation = generation.wrapping_add(1),
            Err(error) if error.is_race() || is_in_the_way(&error) => {
                log::debug!("others changed nf_tables: {error}");
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(generation))
}

fn is_in_the_way(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EEXIST | Errno::ENOENT))
}

impl Ensured {
    fn or(self, other: Self) -> Self {
        if self == Self::Unchanged { other } else { self }
    }
}

/// The transactions that lead from what is held to what is wanted. What both have needs not be
/// in either.
pub(super) fn stages(
    wanted: &Table,
    switches: &[&str],
    held: &[(&'static str, Elements)],
) -> Vec<Vec<Request>> {
    let nothing = Elements::new();
    let (mut before, mut switch, mut after) = (Vec::new(), Vec::new(), Vec::new());
    for set in &wanted.sets {
        let Some(elements) = set.content.following() else { continue };
        let held = held.iter().find(|(name, _)| *name == set.name);
        let held = held.map_or(&nothing, |(_, held)| held);
        let (gone, new) = changes(held, elements);
        let (mut removals, mut additions) = (gone, new);
        if !switches.contains(&set.name) {
            let is_held = |(key, _): &(&Key, Option<&Value>)| held.contains_key(*key);
            let added: Vec<_> = additions.extract_if(.., |it| !is_held(it)).gather();
            let left: Vec<&Key> =
                removals.extract_if(.., |key| !elements.contains_key(*key)).gather();
            before.push_all(wanted.additions(set, added));
            after.push_all(wanted.removals(set, &left));
        }
        switch.push_all(wanted.removals(set, &removals));
        switch.push_all(wanted.additions(set, additions));
    }
    let parts =
        |requests: &[Request]| requests.chunks(PER_TRANSACTION).map(<[Request]>::to_vec).gather();
    let mut stages = parts(&before);
    stages.push_all((!switch.is_empty()).then_some(switch));
    stages.push_all(parts(&after));
    stages
}
