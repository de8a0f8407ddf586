// SPDX-License-Identifier: Apache-2.0
//! The table of policies as the kernel has it: read back, and brought up to date.

use std::net::{IpAddr, SocketAddr};

use super::super::Ensured;
use super::super::error::Error;
use super::super::message::generation;
use super::super::set::{Elements, Field, Key, Value};
use super::super::snapshot::{Snapshot, ask, elements_question, generation_of, table_question};
use super::super::socket::Socket;
use super::super::stages::{PER_TRANSACTION, advance, remove_covered};
use super::{
    CUT, CUT_DATAGRAM_SECONDS, CUT_SECONDS, Direction, Grant, IDENTITY, OWN, Policies, Way, of,
};
use crate::family::{Family, HasFamily};
use crate::list::{Gather, PushAll};

/// Of these protocols a connection has a beginning that none of its later packets looks like.
const TCP: u8 = 6;
const SCTP: u8 = 132;

/// A look at the table of the kernel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// What it holds; `None` where there is no such table.
    pub policies: Option<Policies>,
    /// The rules are as they were made.
    pub is_sound: bool,
    /// In which ways it is not as described.
    pub differences: Vec<String>,
}

impl Policies {
    /// A look at the kernel's table of this name, beside what this one has.
    ///
    /// # Errors
    /// Of the kernel's answers; [`Error::Invalid`].
    pub fn look(&self) -> Result<Held, Error> {
        let found = Snapshot::take(&mut Socket::open()?, &self.describe()?)?;
        let is_sound = found.only_elements || found.only_seal;
        let policies = found.table_exists.then(|| self.read(&found.held));
        Ok(Held { policies, is_sound, differences: found.differences })
    }

    /// Deletes the table of that name, and one that was left while its rules were replaced;
    /// false if there was neither.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn remove(table: &str) -> Result<bool, Error> {
        remove_covered(table)
    }

    /// Makes the table, or brings it up to date while packets pass.
    ///
    /// # Errors
    /// Of the kernel's answers; [`Error::Invalid`].
    pub fn enforce(&self) -> Result<Ensured, Error> {
        self.bring_up().map(|(done, _)| done)
    }

    /// The same, with the rule set's generation: while it is that, nobody has changed anything
    /// since, and the table holds this.
    ///
    /// # Errors
    /// Of the kernel's answers; [`Error::Invalid`].
    pub fn bring_up(&self) -> Result<(Ensured, u32), Error> {
        advance(self.describe()?, &switches(), &gates())
    }

    /// Makes the table with all that it holds where there is none, in one transaction; else as
    /// [`bring_up`](Self::bring_up) does.
    ///
    /// # Errors
    /// Of the kernel's answers; [`Error::Invalid`].
    pub fn make(&self) -> Result<(Ensured, u32), Error> {
        let (table, mut socket) = (self.describe()?, Socket::open()?);
        let [generation, held] = ask(&mut socket, [generation(), table_question(&self.table)])?;
        if held.absent {
            let generation = generation_of(&generation)?;
            match socket.commit(&table.creation(), Some(generation)) {
                Err(error) if error.is_race() => log::debug!("again: {error}"),
                done => return done.map(|()| (Ensured::Installed, generation.wrapping_add(1))),
            }
        }
        self.bring_up()
    }

    /// The addresses of the pods that the kernel's table isolates; none where there is no
    /// such table.
    ///
    /// # Errors
    /// Of the kernel's answers; [`Error::Invalid`].
    pub fn isolated(&self) -> Result<Vec<IpAddr>, Error> {
        let table = self.without_rules()?;
        let mut socket = Socket::open()?;
        let mut isolated = Vec::new();
        for set in table.sets.iter().filter(|set| OWN.contains(&set.name)) {
            let replies = socket.replies(&[elements_question(&table, set)])?;
            let objects = replies.iter().flat_map(|reply| &reply.objects);
            let held = set.held(&table, &objects.cloned().gather());
            let family = family_of(set.name);
            isolated.push_all(held.keys().filter_map(|key| address(family, &key.first)));
        }
        Ok(isolated)
    }

    /// Drops for a while what answers these connections, each from its source to its
    /// destination by a protocol.
    ///
    /// # Errors
    /// Of the kernel's answers; [`Error::Invalid`].
    pub fn cut(&self, connections: &[(SocketAddr, SocketAddr, u8)]) -> Result<(), Error> {
        let table = self.without_rules()?;
        let mut requests = Vec::new();
        for family in Family::BOTH {
            let Some(set) = table.sets.iter().find(|set| set.name == of(family, CUT)) else {
                continue;
            };
            let own = connections.iter().filter(|(source, ..)| source.ip().family() == family);
            let (mut by_set, mut keys) = (Vec::new(), Vec::new());
            for (source, destination, protocol) in own {
                let key = Key::of(&[
                    Field::Address(destination.ip()),
                    Field::Address(source.ip()),
                    Field::Protocol(*protocol),
                    Field::Port(destination.port()),
                    Field::Port(source.port()),
                ]);
                if matches!(*protocol, TCP | SCTP) { by_set.push(key) } else { keys.push(key) }
            }
            requests.push_all(table.passing(set, &by_set, CUT_SECONDS));
            requests.push_all(table.passing(set, &keys, CUT_DATAGRAM_SECONDS));
        }
        let mut socket = Socket::open()?;
        requests.chunks(PER_TRANSACTION).try_for_each(|part| socket.commit(part, None))
    }

    /// What sets of such a table hold. What is no element of ours is passed over.
    pub(super) fn read(&self, held: &[(&'static str, Elements)]) -> Self {
        let (table, denial) = (self.table.clone(), self.denial);
        let mut read = Self { table, denial, ..Self::default() };
        for (name, elements) in held {
            if OWN.contains(name) {
                let own = elements.keys().filter_map(|key| address(family_of(name), &key.first));
                read.own.extend(own.map(|own| (own, ())));
            }
            if IDENTITY.contains(name) {
                read.identities.extend(numbers(name, elements));
            }
            for (direction, way) in Direction::BOTH.into_iter().zip(&mut read.ways) {
                way.read(direction, name, elements);
            }
        }
        read
    }
}

impl Way {
    fn read(&mut self, direction: Direction, name: &'static str, elements: &Elements) {
        let names = direction.names();
        if names.class.contains(&name) {
            self.classes.extend(numbers(name, elements));
        } else if names.network.contains(&name) {
            self.networks.extend(elements.iter().filter_map(|(key, value)| {
                let Some(Value::Number(number)) = value else { return None };
                let (class, first) = key.first.split_first_chunk()?;
                let (_, last) = key.last.as_ref().unwrap_or(&key.first).split_first_chunk::<4>()?;
                let family = family_of(name);
                let ends = (address(family, first)?, address(family, last)?);
                Some(((u32::from_be_bytes(*class), ends.0), (ends.1, *number as u32)))
            }));
        } else if names.grant == name || names.range == name {
            self.grants.extend(elements.keys().filter_map(range));
        }
    }
}

fn range(key: &Key) -> Option<(Grant, u16)> {
    let last = key.last.as_ref().unwrap_or(&key.first);
    Some((Grant::read(&key.first)?, Grant::read(last)?.port))
}

impl Grant {
    /// Of the bytes of a key, of which each part is padded to four.
    fn read(key: &[u8]) -> Option<Self> {
        let (class, rest) = key.split_first_chunk()?;
        let (&[protocol, ..], rest) = rest.split_first_chunk::<4>()?;
        let (peer, rest) = rest.split_first_chunk()?;
        let (port, _) = rest.split_first_chunk()?;
        let (class, peer) = (u32::from_be_bytes(*class), u32::from_be_bytes(*peer));
        Some(Self { class, protocol, peer, port: u16::from_be_bytes(*port) })
    }
}

fn numbers(name: &str, elements: &Elements) -> impl Iterator<Item = (IpAddr, u64)> {
    let family = family_of(name);
    elements.iter().filter_map(move |(key, value)| {
        let Some(Value::Number(number)) = value else { return None };
        Some((address(family, &key.first)?, *number))
    })
}

/// The sets without whose elements all packets pass.
pub(super) fn gates() -> Vec<&'static str> {
    Direction::both(|direction| direction.names().class).concat()
}

/// The sets that change all at once.
pub(super) fn switches() -> Vec<&'static str> {
    let mut switches = gates();
    switches.push_all(IDENTITY);
    switches
}

/// The family that a set's name ends with.
pub(super) fn family_of(name: &str) -> Family {
    if name.ends_with('6') { Family::V6 } else { Family::V4 }
}

/// The address that begins with these bytes.
pub(super) fn address(family: Family, bytes: &[u8]) -> Option<IpAddr> {
    Some(match family {
        Family::V4 => IpAddr::from(*bytes.first_chunk::<4>()?),
        Family::V6 => IpAddr::from(*bytes.first_chunk::<16>()?),
    })
}
