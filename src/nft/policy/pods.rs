// SPDX-License-Identifier: Apache-2.0
//! The elements of single pods: looked at by their keys, and made what they should be,
//! whatever else the table holds.

use std::net::IpAddr;

use nix::errno::Errno;

use super::super::ATTEMPTS;
use super::super::abi::*;
use super::super::error::Error;
use super::super::message::request;
use super::super::outline::Outline;
use super::super::set::{Elements, Field, Key, Set, Value};
use super::super::snapshot::{matches, question, rules_question, table_question};
use super::super::socket::{Reply, Socket};
use super::super::stages::cover_of;
use super::super::table::{Hook, Table};
use super::{Direction, IDENTITY, OWN, Policies, of};
use crate::family::HasFamily;
use crate::list::{Gather, PushAll, Sorted};
use crate::netlink::{
    Request,
    attribute::{Attribute, find, number},
};

/// Elements that are asked for at once: what the answers need has room in the socket.
const AT_ONCE: usize = 64;

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
    /// There is no table, or others changed it, or somebody was killed who replaced it.
    Unsound,
}

/// How closely the rules are looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// How many there are in each chain, and the last of them: that they were flushed, or that
    /// others were put among them. It costs an ADD a quarter of what a dump of them does.
    Counted,
    /// Each of them. An identity that is another by the pod's address is let be.
    Read,
}

/// An element that a pod may have.
struct Wanted<'a> {
    set: &'a Set,
    key: Key,
    value: Option<&'a Option<Value>>,
}

impl Wanted<'_> {
    /// Whether that is what it is to be.
    fn is(&self, held: Option<&Option<Value>>, depth: Depth) -> bool {
        let of_address = depth == Depth::Read && IDENTITY.contains(&self.set.name);
        held == self.value || of_address && (self.value.is_none() || held.is_some())
    }
}

impl Assigned {
    /// Those of a pod that may speak to nobody but its node.
    pub const CLOSED: Self = Self { classes: [Some(CLOSED); 2], identity: None };
}

impl Policies {
    /// Gives an address these numbers, and no others.
    pub fn assign(&mut self, address: IpAddr, assigned: &Assigned) {
        let put = |map: &mut Sorted<IpAddr, u64>, number: Option<u64>| {
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
            _ => self.own.insert(address, ()),
        };
    }

    /// Makes what the kernel's table holds of these addresses what this one has of them, in
    /// one transaction. A table that is not sound is left as it is.
    ///
    /// # Errors
    /// Of the kernel's answers; [`Error::Invalid`].
    pub fn settle(&self, addresses: &[IpAddr], depth: Depth) -> Result<Found, Error> {
        let (table, outline) = self.outlined()?;
        let mut socket = Socket::open()?;
        // What is to be there is added unseen at first. The kernel takes an element that it has
        // as it is, and refuses another value.
        let mut is_seen = depth == Depth::Read;
        for _ in 0..ATTEMPTS {
            let (mut asked, mut unseen) = (elements(&table, addresses), Vec::new());
            if !is_seen {
                (asked, unseen) = asked.into_iter().partition(|wanted| wanted.value.is_none());
            }
            let (found, held) = look(&mut socket, (&table, &outline), &asked, depth)?;
            if found == Found::Unsound {
                return Ok(found);
            }
            let mut requests = Vec::new();
            for (wanted, held) in asked.into_iter().zip(&held) {
                let held = held.get(&wanted.key);
                if wanted.is(held, depth) {
                    continue;
                }
                if held.is_some() {
                    requests.push_all(table.removals(wanted.set, &[&wanted.key]));
                }
                unseen.push(wanted);
            }
            for Wanted { set, key, value } in &unseen {
                let element = value.map(|value| (key, value.as_ref()));
                requests.push_all(element.into_iter().flat_map(|it| table.additions(set, [it])));
            }
            if requests.is_empty() {
                return Ok(Found::Sound);
            }
            match socket.commit(&requests, None) {
                Ok(()) => return Ok(Found::Sound),
                Err(error) if error.is_race() || is_overtaken(&error) => {
                    log::debug!("again: {error}");
                    is_seen = true;
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::contended(&self.table, ATTEMPTS))
    }

    /// What the kernel's table lacks of these addresses, or holds besides, a sentence each.
    ///
    /// # Errors
    /// As for [`settle`](Self::settle).
    pub fn differences(&self, addresses: &[IpAddr]) -> Result<Vec<String>, Error> {
        let (table, outline) = self.outlined()?;
        let elements = elements(&table, addresses);
        let what = (&table, &outline);
        let (found, held) = look(&mut Socket::open()?, what, &elements, Depth::Read)?;
        if found != Found::Sound {
            return Ok(vec![format!("table inet {} is missing, or others changed it", self.table)]);
        }
        let mut differences = Vec::new();
        for (wanted, held) in elements.iter().zip(&held) {
            let Wanted { set, key, value } = wanted;
            let held = held.get(key);
            if wanted.is(held, Depth::Read) {
                continue;
            }
            let name = table.object(&format!("set {}", set.name));
            let text = |value: &Option<Value>| set.element_text(key, value.as_ref());
            differences.push_all(value.map(|value| format!("{name} lacks {}", text(value))));
            differences.push_all(held.map(|held| format!("{name} holds besides {}", text(held))));
        }
        Ok(differences)
    }
}

/// Another one put the element there, or took it away, since it was looked for, or it was not
/// looked for and has another value.
fn is_overtaken(error: &Error) -> bool {
    matches!(error.errno(), Some(Errno::EEXIST | Errno::ENOENT | Errno::EBUSY))
}

/// The elements that pods with these addresses may have, each with what it is to be.
fn elements<'a>(table: &'a Table, addresses: &[IpAddr]) -> Vec<Wanted<'a>> {
    let mut all = Vec::new();
    for address in addresses {
        let family = address.family();
        let names = Direction::both(Direction::names);
        let sets = names.iter().flat_map(|names| [names.class, names.drops]);
        let own = sets.map(|names| of(family, names));
        let single = Key::of(&[Field::Address(*address)]);
        let both = Key::of(&[Field::Address(*address); 2]);
        let own = own.chain([of(family, IDENTITY)]);
        let named = own.map(|name| (name, &single)).chain([(of(family, OWN), &both)]);
        for (name, key) in named {
            let Some(set) = table.sets.iter().find(|set| set.name == name) else { continue };
            let Some(wanted) = set.content.following() else { continue };
            all.push(Wanted { set, key: key.clone(), value: wanted.get(key) });
        }
    }
    all
}

/// Looks at the rules, and at what the table holds of these elements.
fn look(
    socket: &mut Socket,
    (table, Outline { chains, seal }): (&Table, &Outline),
    elements: &[Wanted<'_>],
    depth: Depth,
) -> Result<(Found, Vec<Elements>), Error> {
    let last = chains.last().map(|chain| rule_question(table, chain.name, seal.last()));
    let mut questions = vec![table_question(&cover_of(&table.name)), table_question(&table.name)];
    questions.push_all(chains.iter().map(|it| question(table, NFT_MSG_GETCHAIN, it.name)));
    questions.push_all(last);
    let of_elements = elements.iter().map(|wanted| element_question(table, wanted));
    questions.push_all(of_elements.clone().take(AT_ONCE));
    questions.push_all((depth == Depth::Read).then(|| rules_question(&table.name)));
    let mut replies = socket.replies(&questions)?.into_iter();
    let mut is_sound = replies.next().is_some_and(|cover| cover.absent);
    let is_awake = |reply: Reply| !reply.absent && matches(&reply, &Table::kind());
    is_sound &= replies.next().is_some_and(is_awake);
    for (chain, reply) in chains.iter().zip(replies.by_ref()) {
        let kind = chain.hook.map(Hook::attributes);
        let uses = |object: &Vec<u8>| find(object, NFTA_CHAIN_USE).and_then(number);
        let uses = reply.objects.first().and_then(uses).map(|uses| uses as usize);
        is_sound &= uses == Some(chain.uses);
        is_sound &= kind.is_none_or(|kind| matches(&reply, &kind));
    }
    let last = replies.next().unwrap_or_default();
    is_sound &= last.objects.first().is_some_and(|rule| seal.is_last(rule));
    let mut held: Vec<Reply> = replies.by_ref().take(elements.len().min(AT_ONCE)).gather();
    is_sound &=
        depth == Depth::Counted || replies.next().is_some_and(|rules| seal.holds(&rules.objects));
    let further: Vec<Request> = of_elements.skip(AT_ONCE).gather();
    for questions in further.chunks(AT_ONCE) {
        held.push_all(socket.replies(questions)?);
    }
    let held = elements.iter().zip(&held);
    let held = held.map(|(wanted, reply)| wanted.set.held(table, &reply.objects)).gather();
    Ok((if is_sound { Found::Sound } else { Found::Unsound }, held))
}

fn rule_question(table: &Table, chain: &str, number: u64) -> Request {
    let attributes = [
        Attribute::string(NFTA_RULE_TABLE, &table.name),
        Attribute::string(NFTA_RULE_CHAIN, chain),
        Attribute::bytes(NFTA_RULE_HANDLE, number.to_be_bytes()),
    ];
    request(NFT_MSG_GETRULE, 0, table.object(&format!("rule {number}")), attributes)
}

fn element_question(table: &Table, wanted: &Wanted<'_>) -> Request {
    let set = wanted.set;
    let attributes = [
        Attribute::string(NFTA_SET_ELEM_LIST_TABLE, &table.name),
        Attribute::string(NFTA_SET_ELEM_LIST_SET, set.name),
        Attribute::nest(NFTA_SET_ELEM_LIST_ELEMENTS, set.element(&wanted.key, None)),
    ];
    let object = table.object(&format!("an element of set {}", set.name));
    request(NFT_MSG_GETSETELEM, 0, object, attributes)
}
