// SPDX-License-Identifier: Apache-2.0
//! A table as the messages that make it, replace it, or bring what its sets hold up
//! to date. Does no I/O.

use super::abi::*;
use super::interval::{Element, Intervals};
use super::message::request;
use super::primitive::counter;
use super::set::{
    Content, Data, Key, OF_NETWORK, PASSING_MAX, Ranges, Set, TYPE_INTEGER, Type, Value,
};
use super::table::{Chain, Hook, Kind, Point, Rule, Table};
use crate::list::{Gather, PushAll};
use crate::netlink::{
    Request,
    attribute::{Attribute, attributes, find},
};

/// Keys of one message, or intervals of three elements each: at most 48 bytes for an
/// element keep it well below the 64 KiB of an attribute.
const PER_MESSAGE: usize = 400;
/// The same of long keys, of ranges and of elements with data, of at most 250 bytes for
/// both ends.
const LONG_PER_MESSAGE: usize = 200;
/// Longer keys are long, in bytes.
const SHORT_BYTES: usize = 16;
/// libnftnl's `NFTNL_UDATA_RULE_COMMENT`, and the most that nft takes of one.
const COMMENT: u8 = 0;
const COMMENT_BYTES_MAX: usize = 127;

/// Elements of open sets that a replacement has to keep: the set's name and
/// what the kernel's dumps have of it.
pub(super) type Kept = Vec<(&'static str, Vec<Vec<u8>>)>;

impl Table {
    /// The messages that create everything in a table that does not exist. The
    /// last rule bears what these are known by ([`seal`](super::seal)).
    pub(super) fn creation(&self) -> Vec<Request> {
        let mut requests = self.structure(&self.seal().note);
        let held = self.sets.iter().flat_map(|set| match &set.content {
            Content::Constant(constant) => self.intervals(set, &constant.intervals),
            Content::Following(elements) | Content::Counted(elements) => {
                let all = elements.iter().map(|(key, value)| (key, value.as_ref()));
                self.additions(set, all)
            }
            Content::Open | Content::Passing(_) => Vec::new(),
        });
        // Behind table, chains and sets: a constant set that a rule asks takes no
        // more elements, not in the same transaction either.
        let rules = requests.split_off(1 + self.chains.len() + self.sets.len());
        requests.push_all(held.gather());
        requests.push_all(rules);
        requests
    }

    /// All but what the sets hold, with a note on the last rule.
    pub(super) fn structure(&self, note: &[u8]) -> Vec<Request> {
        let mut requests = vec![self.table_creation()];
        requests.push_all(self.chains.iter().map(|chain| self.chain_creation(chain)));
        for (set, id) in self.sets.iter().zip(1..) {
            requests.push(self.set_creation(set, id));
        }
        let last = self.rules().count();
        for ((chain, rule), place) in self.rules().zip(1..) {
            let mut attributes = vec![
                Attribute::string(NFTA_RULE_TABLE, &self.name),
                Attribute::string(NFTA_RULE_CHAIN, chain.name),
                Attribute::nest(NFTA_RULE_EXPRESSIONS, rule.expressions()),
            ];
            let mut notes = comment(rule);
            notes.extend(if place == last { note } else { &[] });
            if !notes.is_empty() {
                attributes.push(Attribute::bytes(NFTA_RULE_USERDATA, notes));
            }
            let object = format!("rule {place} ({}) of chain {}", rule.text(), chain.name);
            let flags = NLM_F_CREATE | NLM_F_APPEND;
            requests.push(request(NFT_MSG_NEWRULE, flags, self.object(&object), attributes));
        }
        requests
    }

    /// The messages that put this in the place of a table that exists.
    pub(super) fn replacement(&self, kept: &Kept) -> Vec<Request> {
        let mut requests = vec![table_deletion(&self.name)];
        requests.push_all(self.creation());
        for (name, elements) in kept {
            let elements: Vec<Vec<Attribute>> =
                elements.iter().flat_map(|object| copies(object)).map(|it| vec![it]).gather();
            requests.push_all(self.change(NFT_MSG_NEWSETELEM, name, &elements, LONG_PER_MESSAGE));
        }
        requests
    }

    /// The same whether or not there is a table: an existing one survives its
    /// creation, and then there is one to delete.
    pub(super) fn replacement_of_anything(&self) -> Vec<Request> {
        let mut requests = vec![self.table_creation()];
        requests.push_all(self.replacement(&Kept::new()));
        requests
    }

    /// The messages that add elements to a set.
    pub(super) fn additions<'a>(
        &self,
        set: &Set,
        elements: impl IntoIterator<Item = (&'a Key, Option<&'a Value>)>,
    ) -> Vec<Request> {
        let elements: Vec<(&Key, Option<&Value>)> = elements.into_iter().gather();
        self.following(NFT_MSG_NEWSETELEM, set, &elements)
    }

    /// The messages that put single keys into a set for so many seconds.
    pub(super) fn passing(&self, set: &Set, keys: &[Key], seconds: u32) -> Vec<Request> {
        let message = |chunk: &[Key]| {
            let list = chunk.iter().map(|key| Set::passing(key, seconds)).gather();
            self.elements(NFT_MSG_NEWSETELEM, set.name, list)
        };
        keys.chunks(set.per_message()).map(message).gather()
    }

    /// The messages that take elements out of a set, by their keys.
    pub(super) fn removals(&self, set: &Set, keys: &[&Key]) -> Vec<Request> {
        let elements: Vec<(&Key, Option<&Value>)> = keys.iter().map(|key| (*key, None)).gather();
        self.following(NFT_MSG_DELSETELEM, set, &elements)
    }

    /// Elements as attributes take ten times as much memory as in a message: those of one
    /// message are made at a time.
    fn following(&self, kind: u16, set: &Set, elements: &[(&Key, Option<&Value>)]) -> Vec<Request> {
        let message = |chunk: &[(&Key, Option<&Value>)]| {
            let list = chunk.iter().flat_map(|(key, value)| set.element(key, *value)).gather();
            self.elements(kind, set.name, list)
        };
        elements.chunks(set.per_message()).map(message).gather()
    }

    /// Attributes that the kernel's table must have.
    pub(super) fn kind() -> [Attribute; 1] {
        [Attribute::number(NFTA_TABLE_FLAGS, 0)]
    }

    fn table_creation(&self) -> Request {
        let [flags] = Self::kind();
        // The comment is a string within the user data (libnftnl's
        // NFTNL_UDATA_TABLE_COMMENT). Kernels before 5.10 drop it.
        let mut comment = vec![0, u8::try_from(self.comment.len() + 1).unwrap_or(u8::MAX)];
        comment.push_all(self.comment.bytes().chain([0]));
        request(
            NFT_MSG_NEWTABLE,
            NLM_F_CREATE,
            format!("table inet {}", self.name),
            [
                Attribute::string(NFTA_TABLE_NAME, &self.name),
                flags,
                Attribute::bytes(NFTA_TABLE_USERDATA, comment),
            ],
        )
    }

    fn chain_creation(&self, chain: &Chain) -> Request {
        let mut attributes = vec![
            Attribute::string(NFTA_CHAIN_TABLE, &self.name),
            Attribute::string(NFTA_CHAIN_NAME, chain.name),
        ];
        attributes.push_all(chain.hook.into_iter().flat_map(Hook::attributes));
        let object = self.object(&format!("chain {}", chain.name));
        request(NFT_MSG_NEWCHAIN, NLM_F_CREATE, object, attributes)
    }

    fn set_creation(&self, set: &Set, id: u32) -> Request {
        let mut attributes = vec![
            Attribute::string(NFTA_SET_TABLE, &self.name),
            Attribute::string(NFTA_SET_NAME, set.name),
        ];
        attributes.push_all(set.attributes());
        attributes.push(Attribute::number(NFTA_SET_ID, id));
        // Tells nft in which byte order keys are (libnftnl's
        // NFTNL_UDATA_SET_KEYBYTEORDER), so that it lists addresses, and the same of
        // data (NFTNL_UDATA_SET_DATABYTEORDER).
        let mut notes = user_number(0, set.byte_order());
        if set.data == Some(Data::Number) {
            notes.push_all(user_number(1, OF_NETWORK));
        }
        attributes.push(Attribute::bytes(NFTA_SET_USERDATA, notes));
        if set.ranges == Ranges::Each {
            attributes.push(set.fields());
        }
        if let Content::Passing(seconds) = set.content {
            let milliseconds = u64::from(seconds) * 1000;
            attributes.push(Attribute::bytes(NFTA_SET_TIMEOUT, milliseconds.to_be_bytes()));
            let size = Attribute::number(NFTA_SET_DESC_SIZE, PASSING_MAX);
            attributes.push(Attribute::nest(NFTA_SET_DESC, [size]));
        }
        let object = self.object(&format!("set {}", set.name));
        request(NFT_MSG_NEWSET, NLM_F_CREATE, object, attributes)
    }

    /// What a set holds for ever, in as many messages as it needs.
    fn intervals(&self, set: &Set, intervals: &Intervals) -> Vec<Request> {
        let elements: Vec<Vec<Element>> = intervals.elements().gather();
        let message = |chunk: &[Vec<Element>]| {
            let list = chunk.iter().flat_map(|each| element_list(each)).gather();
            self.elements(NFT_MSG_NEWSETELEM, set.name, list)
        };
        elements.chunks(PER_MESSAGE).map(message).gather()
    }

    /// Elements of which each may be several for the kernel.
    pub(super) fn change(
        &self,
        kind: u16,
        set: &str,
        elements: &[Vec<Attribute>],
        per_message: usize,
    ) -> Vec<Request> {
        let chunks = elements.chunks(per_message);
        chunks.map(|chunk| self.elements(kind, set, chunk.concat())).gather()
    }

    fn elements(&self, kind: u16, set: &str, list: Vec<Attribute>) -> Request {
        let flags = if kind == NFT_MSG_NEWSETELEM { NLM_F_CREATE } else { 0 };
        let object = self.object(&format!("elements of set {set}"));
        let attributes = [
            Attribute::string(NFTA_SET_ELEM_LIST_TABLE, &self.name),
            Attribute::string(NFTA_SET_ELEM_LIST_SET, set),
            Attribute::nest(NFTA_SET_ELEM_LIST_ELEMENTS, list),
        ];
        request(kind, flags, object, attributes)
    }
}

impl Set {
    /// Attributes that the kernel's set must have.
    pub(super) fn attributes(&self) -> Vec<Attribute> {
        let (key_type, key_bytes) = self.kind();
        let mut attributes = vec![
            Attribute::number(NFTA_SET_FLAGS, self.flags()),
            Attribute::number(NFTA_SET_KEY_TYPE, key_type),
            Attribute::number(NFTA_SET_KEY_LEN, key_bytes as u32),
        ];
        match self.data {
            None => {}
            Some(Data::Verdict) => {
                attributes.push(Attribute::number(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT));
            }
            Some(Data::Number) => attributes.push_all([
                Attribute::number(NFTA_SET_DATA_TYPE, TYPE_INTEGER),
                Attribute::number(NFTA_SET_DATA_LEN, u64::BITS / 8),
            ]),
        }
        if let Content::Counted(_) = self.content {
            attributes.push(counter(NFTA_SET_EXPR));
        }
        attributes
    }

    /// The parts of a key, of which each may be a range.
    fn fields(&self) -> Attribute {
        let field = |part: &Type| {
            let length = Attribute::number(NFTA_SET_FIELD_LEN, part.padded() as u32);
            Attribute::nest(NFTA_LIST_ELEM, [length])
        };
        let fields: Vec<Attribute> = self.key.iter().map(field).gather();
        Attribute::nest(NFTA_SET_DESC, [Attribute::nest(NFTA_SET_DESC_CONCAT, fields)])
    }

    fn per_message(&self) -> usize {
        let (_, bytes) = self.kind();
        let short = bytes <= SHORT_BYTES && self.data.is_none() && self.ranges == Ranges::None;
        if short { PER_MESSAGE } else { LONG_PER_MESSAGE }
    }
}

impl Hook {
    /// Attributes that the kernel's chain must have.
    pub(super) fn attributes(self) -> [Attribute; 3] {
        let kind = match self.kind {
            Kind::Filter => "filter",
            Kind::Nat => "nat",
        };
        let number = match self.point {
            Point::Input => NF_INET_LOCAL_IN,
            Point::Forward => NF_INET_FORWARD,
            Point::Postrouting => NF_INET_POST_ROUTING,
        };
        [
            Attribute::string(NFTA_CHAIN_TYPE, kind),
            Attribute::number(NFTA_CHAIN_POLICY, NF_ACCEPT),
            Attribute::nest(
                NFTA_CHAIN_HOOK,
                [
                    Attribute::number(NFTA_HOOK_HOOKNUM, number),
                    Attribute::bytes(NFTA_HOOK_PRIORITY, self.priority.to_be_bytes()),
                ],
            ),
        ]
    }
}

/// The message that deletes a table with all that is in it.
pub(super) fn table_deletion(table: &str) -> Request {
    let named = [Attribute::string(NFTA_TABLE_NAME, table)];
    request(NFT_MSG_DELTABLE, 0, format!("table inet {table}"), named)
}

/// Of a rule of which nft does not list all, what it asks.
fn comment(rule: &Rule) -> Vec<u8> {
    if !rule.says_more() {
        return Vec::new();
    }
    let mut text = rule.text().into_bytes();
    text.truncate(COMMENT_BYTES_MAX);
    text.push(0);
    [&[COMMENT, text.len() as u8], text.as_slice()].concat()
}

/// The elements of a dump, as they are sent again. Of each the parts that make
/// it: key, end of its interval, flags, and the notes of whoever added it.
fn copies(object: &[u8]) -> Vec<Attribute> {
    let list = find(object, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    let copy = |(_, inner): (u16, &[u8])| {
        let mut parts = Vec::new();
        for kind in [NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_KEY_END] {
            parts.push_all(find(inner, kind).map(|part| Attribute::copied(kind, part)));
        }
        for kind in [NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_USERDATA] {
            parts.push_all(find(inner, kind).map(|part| Attribute::bytes(kind, part)));
        }
        Attribute::nest(NFTA_LIST_ELEM, parts)
    };
    attributes(list).map(copy).gather()
}

/// An interval's elements as attributes. One without an end goes on to the last
/// address, and nft wants to be told (libnftnl's NFTNL_UDATA_SET_ELEM_FLAGS).
fn element_list(elements: &[Element]) -> Vec<Attribute> {
    let open = elements.last().is_some_and(|element| !element.end);
    elements
        .iter()
        .map(|element| {
            let value = [Attribute::bytes(NFTA_DATA_VALUE, &*element.key)];
            let key = Attribute::nest(NFTA_SET_ELEM_KEY, value);
            let attributes = match element.end {
                true => {
                    vec![Attribute::number(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END), key]
                }
                false if open => {
                    vec![key, Attribute::bytes(NFTA_SET_ELEM_USERDATA, user_number(1, 1))]
                }
                false => vec![key],
            };
            Attribute::nest(NFTA_LIST_ELEM, attributes)
        })
        .gather()
}

/// User data of nft: a type, a length, a number in host byte order.
fn user_number(kind: u8, number: u32) -> Vec<u8> {
    let mut data = vec![kind, 4];
    data.push_all(number.to_ne_bytes());
    data
}
