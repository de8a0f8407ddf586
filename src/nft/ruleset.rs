//! A table as the messages that make it, replace it, or bring its addresses up
//! to date. Does no I/O.

use std::net::IpAddr;

use super::abi::*;
use super::interval::{Element, Family, Intervals};
use super::message::request;
use super::table::{Chain, Content, Hook, IFNAME_BYTES, Kind, Point, Set, Table};
use crate::netlink::{
    Request,
    attribute::{Attribute, attributes, find},
};

/// Elements of one message, or intervals of three elements each: at most 48
/// bytes for one keep it well below the 64 KiB of an attribute.
const PER_MESSAGE: usize = 400;

/// Elements of open sets that a replacement has to keep: the set's name and
/// what the kernel's dumps have of it.
pub(super) type Kept = Vec<(&'static str, Vec<Vec<u8>>)>;

impl Table {
    /// The messages that create everything in a table that does not exist. The
    /// last rule bears the digest of all of them ([`seal`](super::seal)).
    pub(super) fn creation(&self) -> Vec<Request> {
        let mut requests = self.structure(&self.seal().note);
        let held = self.sets.iter().flat_map(|set| match &set.content {
            Content::Constant(intervals) => self.intervals(set, intervals),
            Content::Following(_, addresses) => self.additions(set, addresses),
            Content::Open(_) => Vec::new(),
        });
        // Behind table, chains and sets: a constant set that a rule asks takes no
        // more elements, not in the same transaction either.
        let rules = requests.split_off(1 + self.chains.len() + self.sets.len());
        requests.extend(held.collect::<Vec<_>>());
        requests.extend(rules);
        requests
    }

    /// All but what the sets hold, with a note on the last rule.
    pub(super) fn structure(&self, note: &[u8]) -> Vec<Request> {
        let mut requests = vec![self.table_creation()];
        requests.extend(self.chains.iter().map(|chain| self.chain_creation(chain)));
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
            if place == last && !note.is_empty() {
                attributes.push(Attribute::bytes(NFTA_RULE_USERDATA, note));
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
        requests.extend(self.creation());
        for (name, elements) in kept {
            let elements: Vec<Attribute> =
                elements.iter().flat_map(|object| copies(object)).collect();
            requests.extend(self.change(NFT_MSG_NEWSETELEM, name, &elements));
        }
        requests
    }

    /// The same whether or not there is a table: an existing one survives its
    /// creation, and then there is one to delete.
    pub(super) fn replacement_of_anything(&self) -> Vec<Request> {
        let mut requests = vec![self.table_creation()];
        requests.extend(self.replacement(&Kept::new()));
        requests
    }

    /// The messages that add addresses to a set.
    pub(super) fn additions(&self, set: &Set, addresses: &[IpAddr]) -> Vec<Request> {
        let elements: Vec<Attribute> =
            addresses.iter().map(|address| element(&address_bytes(*address))).collect();
        self.change(NFT_MSG_NEWSETELEM, set.name, &elements)
    }

    /// The messages that take elements out of a set, by their keys.
    pub(super) fn removals(&self, set: &Set, keys: &[Vec<u8>]) -> Vec<Request> {
        let elements: Vec<Attribute> = keys.iter().map(|key| element(key)).collect();
        self.change(NFT_MSG_DELSETELEM, set.name, &elements)
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
        comment.extend(self.comment.bytes().chain([0]));
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
        attributes.extend(chain.hook.into_iter().flat_map(Hook::attributes));
        let object = self.object(&format!("chain {}", chain.name));
        request(NFT_MSG_NEWCHAIN, NLM_F_CREATE, object, attributes)
    }

    fn set_creation(&self, set: &Set, id: u32) -> Request {
        let mut attributes = vec![
            Attribute::string(NFTA_SET_TABLE, &self.name),
            Attribute::string(NFTA_SET_NAME, set.name),
        ];
        attributes.extend(set.attributes());
        attributes.push(Attribute::number(NFTA_SET_ID, id));
        // Tells nft that keys are in network byte order (libnftnl's
        // NFTNL_UDATA_SET_KEYBYTEORDER), so that it lists addresses. A pair has
        // the orders of its parts.
        let order = if matches!(set.content, Content::Open(_)) { 0 } else { 2 };
        attributes.push(Attribute::bytes(NFTA_SET_USERDATA, user_number(0, order)));
        if matches!(set.content, Content::Open(_)) {
            attributes.push(set.fields());
        }
        let object = self.object(&format!("set {}", set.name));
        request(NFT_MSG_NEWSET, NLM_F_CREATE, object, attributes)
    }

    /// What a set holds for ever, in as many messages as it needs.
    fn intervals(&self, set: &Set, intervals: &Intervals) -> Vec<Request> {
        let elements: Vec<Vec<Element>> = intervals.elements().collect();
        let message = |chunk: &[Vec<Element>]| {
            let list = chunk.iter().flat_map(|each| element_list(each)).collect();
            self.elements(NFT_MSG_NEWSETELEM, set.name, list)
        };
        elements.chunks(PER_MESSAGE).map(message).collect()
    }

    pub(super) fn change(&self, kind: u16, set: &str, elements: &[Attribute]) -> Vec<Request> {
        let chunks = elements.chunks(PER_MESSAGE);
        chunks.map(|chunk| self.elements(kind, set, chunk.to_vec())).collect()
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
    pub(super) fn attributes(&self) -> [Attribute; 3] {
        let (flags, key_type, key_bytes) = self.kind();
        [
            Attribute::number(NFTA_SET_FLAGS, flags),
            Attribute::number(NFTA_SET_KEY_TYPE, key_type),
            Attribute::number(NFTA_SET_KEY_LEN, key_bytes),
        ]
    }

    /// The parts of a pair, of which each may be an interval.
    fn fields(&self) -> Attribute {
        let (.., bytes) = self.kind();
        let field =
            |bytes| Attribute::nest(NFTA_LIST_ELEM, [Attribute::number(NFTA_SET_FIELD_LEN, bytes)]);
        let fields = [field(IFNAME_BYTES), field(bytes - IFNAME_BYTES)];
        Attribute::nest(NFTA_SET_DESC, [Attribute::nest(NFTA_SET_DESC_CONCAT, fields)])
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

/// An address as a key.
pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A key as people read it.
pub(super) fn address_text(family: Family, key: &[u8]) -> String {
    let address = match family {
        Family::V4 => <[u8; 4]>::try_from(key).ok().map(IpAddr::from),
        Family::V6 => <[u8; 16]>::try_from(key).ok().map(IpAddr::from),
    };
    address.map_or_else(|| format!("{key:?}"), |address| address.to_string())
}

fn element(key: &[u8]) -> Attribute {
    let value = [Attribute::bytes(NFTA_DATA_VALUE, key)];
    Attribute::nest(NFTA_LIST_ELEM, [Attribute::nest(NFTA_SET_ELEM_KEY, value)])
}

/// The elements of a dump, as they are sent again. Of each the parts that make
/// it: key, end of its interval, flags, and the notes of whoever added it.
fn copies(object: &[u8]) -> Vec<Attribute> {
    let list = find(object, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    let copy = |(_, inner): (u16, &[u8])| {
        let mut parts = Vec::new();
        for kind in [NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_KEY_END] {
            parts.extend(find(inner, kind).map(|part| Attribute::copied(kind, part)));
        }
        for kind in [NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_USERDATA] {
            parts.extend(find(inner, kind).map(|part| Attribute::bytes(kind, part)));
        }
        Attribute::nest(NFTA_LIST_ELEM, parts)
    };
    attributes(list).map(copy).collect()
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
        .collect()
}

/// User data of nft: a type, a length, a number in host byte order.
fn user_number(kind: u8, number: u32) -> Vec<u8> {
    let mut data = vec![kind, 4];
    data.extend(number.to_ne_bytes());
    data
}
