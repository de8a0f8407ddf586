//! The elements of single pods: looked at by their keys, and made what they should be,
//! whatever else the table holds.

use std::net::IpAddr;

use nix::errno::Errno;

use super::super::ATTEMPTS;
use super::super::abi::{
    NFT_MSG_GETSETELEM, NFTA_SET_ELEM_LIST_ELEMENTS, NFTA_SET_ELEM_LIST_SET,
    NFTA_SET_ELEM_LIST_TABLE,
};
use super::super::error::Error;
use super::super::message::{generation, request};
use super::super::set::{Content, Elements, Field, Key, Set, Value};
use super::super::snapshot::{generation_of, rules_question};
use super::super::socket::Socket;
use super::super::table::Table;
use super::{Direction, IDENTITY, OWN, Policies, of};
use crate::family::HasFamily;
use crate::netlink::{Request, attribute::Attribute};

/// The class that is allowed nothing. It is the same on all nodes.
pub const CLOSED: u64 = 1;

/// The numbers that a pod has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Assigned {
    /// Its class in each direction, in the order of [`Direction::BOTH`]; `None` where it is
    /// not isolated.
    pub classes: [Option<u64>; 2],
    /// Its identity, where policies name it as a peer.
    pub identity: Option<u64>,
}

/// What was found of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// Its rules are as they were made.
    Sound,
    /// There is no table, or others changed it; the rule set's generation at that moment.
    Unsound(u32),
}

/// An element that a pod may have.
struct Wanted<'a> {
    set: &'a Set,
    key: Key,
    value: Option<&'a Option<Value>>,
}

impl Assigned {
    /// Those of a pod that may speak to nobody but its node.
    pub const CLOSED: Self = Self { classes: [Some(CLOSED); 2], identity: None };
}

impl Policies {
    /// Gives an address these numbers, and no others.
    pub fn assign(&mut self, address: IpAddr, assigned: &Assigned) {
        let put = |map: &mut std::collections::BTreeMap<IpAddr, u64>, number: Option<u64>| {
            match number {
                Some(number) => map.insert(address, number),
                None => map.remove(&address),
            };
        };
        for (way, class) in self.ways.iter_mut().zip(assigned.classes) {
            put(&mut way.classes, class);
        }
        put(&mut self.identities, assigned.identity);
        match assigned.classes {
            [None, None] => self.own.remove(&address),
            _ => self.own.insert(address),
        };
    }

    /// Makes what the kernel's table holds of these addresses what this one has of them, in
    /// one transaction. A table that is not sound is left as it is.
    ///
    /// # Errors
    /// Of the kernel's answers; [`Error::Invalid`].
    pub fn settle(&self, addresses: &[IpAddr]) -> Result<Found, Error> {
        let table = self.describe()?;
        let mut socket = Socket::open()?;
        for _ in 0..ATTEMPTS {
            let (found, held) = look(&mut socket, &table, addresses)?;
            if found != Found::Sound {
                return Ok(found);
            }
            let (mut requests, mut additions) = (Vec::new(), Vec::new());
            for (wanted, held) in elements(&table, addresses).iter().zip(&held) {
                let held = held.get(&wanted.key);
                if held == wanted.value {
                    continue;
                }
                if held.is_some() {
                    requests.extend(table.removals(wanted.set, &[&wanted.key]));
                }
                if let Some(value) = wanted.value {
                    let element = [(&wanted.key, value.as_ref())];
                    additions.extend(table.additions(wanted.set, element));
                }
            }
            requests.extend(additions);
            if requests.is_empty() {
                return Ok(Found::Sound);
            }
            match socket.commit(&requests, None) {
                Ok(()) => return Ok(Found::Sound),
                Err(error) if error.is_race() || is_overtaken(&error) => {
                    log::debug!("again: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Contended { table: self.table.clone(), attempts: ATTEMPTS })
    }

    /// What the kernel's table lacks of these addresses, or holds besides, a sentence each.
    /// The identity of a pod may be another by its address: that there is one is enough.
    ///
    /// # Errors
    /// As for [`settle`](Self::settle).
    pub fn differences(&self, addresses: &[IpAddr]) -> Result<Vec<String>, Error> {
        let table = self.describe()?;
        let (found, held) = look(&mut Socket::open()?, &table, addresses)?;
        if found != Found::Sound {
            return Ok(vec![format!("table inet {} is missing, or others changed it", self.table)]);
        }
        let mut differences = Vec::new();
        for (wanted, held) in elements(&table, addresses).iter().zip(&held) {
            let Wanted { set, key, value } = wanted;
            let held = held.get(key);
            let is_enough = IDENTITY.contains(&set.name) && (value.is_none() || held.is_some());
            if held == *value || is_enough {
                continue;
            }
            let name = table.object(&format!("set {}", set.name));
            let text = |value: &Option<Value>| set.element_text(key, value.as_ref());
            differences.extend(value.map(|value| format!("{name} lacks {}", text(value))));
            differences.extend(held.map(|held| format!("{name} holds besides {}", text(held))));
        }
        Ok(differences)
    }

    /// Makes the whole table anew, in one transaction; false if others changed the rule set
    /// since that generation.
    ///
    /// # Errors
    /// Of the kernel's answers; [`Error::Invalid`].
    pub fn install(&self, generation: u32) -> Result<bool, Error> {
        let requests = self.describe()?.replacement_of_anything();
        match Socket::open()?.commit(&requests, Some(generation)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_race() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Another one put the element there, or took it away, since it was looked for.
fn is_overtaken(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EEXIST | Errno::ENOENT))
}

/// The elements that pods with these addresses may have, each with what it is to be.
fn elements<'a>(table: &'a Table, addresses: &[IpAddr]) -> Vec<Wanted<'a>> {
    let mut all = Vec::new();
    for address in addresses {
        let family = address.family();
        let classes = Direction::BOTH.map(|direction| of(family, direction.names().class));
        let single = Key::of(&[Field::Address(*address)]);
        let both = Key::of(&[Field::Address(*address); 2]);
        let names = classes.into_iter().chain([of(family, IDENTITY)]);
        let named = names.map(|name| (name, &single)).chain([(of(family, OWN), &both)]);
        for (name, key) in named {
            let Some(set) = table.sets.iter().find(|set| set.name == name) else { continue };
            let Content::Following(wanted) = &set.content else { continue };
            all.push(Wanted { set, key: key.clone(), value: wanted.get(key) });
        }
    }
    all
}

/// Looks at the rules, and at what the table holds of these elements.
fn look(
    socket: &mut Socket,
    table: &Table,
    addresses: &[IpAddr],
) -> Result<(Found, Vec<Elements>), Error> {
    let elements = elements(table, addresses);
    let mut questions = vec![generation()];
    questions.extend(elements.iter().map(|wanted| question(table, wanted)));
    questions.push(rules_question(&table.name));
    let mut replies = socket.replies(&questions)?.into_iter();
    let generation = generation_of(&replies.next().unwrap_or_default())?;
    let rules = replies.next_back().unwrap_or_default();
    let held = elements.iter().zip(replies);
    let held = held.map(|(wanted, reply)| wanted.set.held(table, &reply.objects)).collect();
    let is_sound = table.seal().holds(&rules.objects);
    Ok((if is_sound { Found::Sound } else { Found::Unsound(generation) }, held))
}

fn question(table: &Table, wanted: &Wanted<'_>) -> Request {
    let set = wanted.set;
    let attributes = [
        Attribute::string(NFTA_SET_ELEM_LIST_TABLE, &table.name),
        Attribute::string(NFTA_SET_ELEM_LIST_SET, set.name),
        Attribute::nest(NFTA_SET_ELEM_LIST_ELEMENTS, set.element(&wanted.key, None)),
    ];
    let object = table.object(&format!("an element of set {}", set.name));
    request(NFT_MSG_GETSETELEM, 0, object, attributes)
}
