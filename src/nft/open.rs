// SPDX-License-Identifier: Apache-2.0
//! What the open sets of a table hold, which no description says: pairs of a link's name
//! and a network. Whether there are any, new ones, and those of a link that is gone.

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::Error;
use super::abi::*;
use super::set::{Content, Field, IFNAME_BYTES, Key, Type};
use super::snapshot::elements_question;
use super::socket::Socket;
use super::table::Table;
use crate::family::HasFamily;
use crate::list::{Gather, PushAll};
use crate::netlink::attribute::{Attribute, attributes, find};

/// Whether an open set of the table holds anything; without a table none does.
///
/// # Errors
/// Of the kernel's answers.
pub fn holds_pairs(table: &Table) -> Result<bool, Error> {
    let pairs = none_without_tables(read(table))?;
    Ok(pairs.iter().any(|(_, pairs)| !pairs.is_empty()))
}

/// Puts pairs into the open sets of the table, beside what is there.
///
/// # Errors
/// Of the kernel's answers; where the table has no such sets, that.
pub fn add_pairs(table: &Table, pairs: &[(&str, IpNetwork)]) -> Result<(), Error> {
    let mut requests = Vec::new();
    for set in table.sets.iter().filter(|set| matches!(set.content, Content::Open)) {
        let is_of_set = |network: &IpNetwork| set.key.contains(&Type::Address(network.family()));
        let key = |(link, network): &(&str, IpNetwork)| {
            let end = |address| [Field::Name(link), Field::Address(address)];
            Key::range(&end(network.network()), &end(network.broadcast()))
        };
        let keys: Vec<Key> =
            pairs.iter().filter(|(_, network)| is_of_set(network)).map(key).gather();
        if !keys.is_empty() {
            requests.push_all(table.additions(set, keys.iter().map(|key| (key, None))));
        }
    }
    Socket::open()?.commit(&requests, None)
}

/// Takes the pairs of these links out of the open sets of the table.
///
/// # Errors
/// Of the kernel's answers.
pub fn remove_pairs(table: &Table, links: &[&str]) -> Result<(), Error> {
    let mut socket = match Socket::open().map_err(Error::from) {
        Err(error) if error.is_without_tables() => return Ok(()),
        opened => opened?,
    };
    for (set, pairs) in none_without_tables(read(table))? {
        for pair in pairs.into_iter().filter(|pair| pair.is_of_one(links)) {
            // One by one: another may take one of them away meanwhile.
            let gone = table.change(NFT_MSG_DELSETELEM, set, &[vec![pair.element()]], 1);
            match socket.commit(&gone, None) {
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                done => done?,
            }
        }
    }
    Ok(())
}

/// From one key to another; a single pair may have no second one.
pub(super) struct Pair {
    first: Vec<u8>,
    last: Option<Vec<u8>>,
}

impl Pair {
    /// Whether it is about one of these links, and no other.
    fn is_of_one(&self, links: &[&str]) -> bool {
        let name = |key: &[u8]| key.get(..IFNAME_BYTES).map(<[u8]>::to_vec);
        let first = name(&self.first);
        let last = self.last.as_ref().map_or_else(|| first.clone(), |last| name(last));
        let mut wanted = links.iter().map(|link| {
            let mut name = link.as_bytes().to_vec();
            name.resize(IFNAME_BYTES, 0);
            name
        });
        first == last && wanted.any(|wanted| first.as_ref() == Some(&wanted))
    }

    fn element(&self) -> Attribute {
        let key =
            |kind, bytes: &[u8]| Attribute::nest(kind, [Attribute::bytes(NFTA_DATA_VALUE, bytes)]);
        let mut parts = vec![key(NFTA_SET_ELEM_KEY, &self.first)];
        parts.push_all(self.last.as_ref().map(|last| key(NFTA_SET_ELEM_KEY_END, last)));
        Attribute::nest(NFTA_LIST_ELEM, parts)
    }
}

/// All pairs of all open sets.
fn read(table: &Table) -> Result<Vec<(&'static str, Vec<Pair>)>, Error> {
    let mut socket = Socket::open()?;
    let mut found = Vec::new();
    for set in table.sets.iter().filter(|set| matches!(set.content, Content::Open)) {
        let replies = socket.replies(&[elements_question(table, set)])?;
        let objects = replies.iter().flat_map(|reply| &reply.objects);
        found.push((set.name, objects.flat_map(|object| pairs_of(object)).gather()));
    }
    Ok(found)
}

pub(super) fn pairs_of(object: &[u8]) -> impl Iterator<Item = Pair> {
    let list = find(object, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    attributes(list).filter_map(|(_, element)| {
        let key = |kind| find(find(element, kind)?, NFTA_DATA_VALUE).map(<[u8]>::to_vec);
        Some(Pair { first: key(NFTA_SET_ELEM_KEY)?, last: key(NFTA_SET_ELEM_KEY_END) })
    })
}

fn none_without_tables<T: Default>(outcome: Result<T, Error>) -> Result<T, Error> {
    match outcome {
        Err(error) if error.is_without_tables() => Ok(T::default()),
        outcome => outcome,
    }
}
