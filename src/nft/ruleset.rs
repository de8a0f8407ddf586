//! The masquerade rule set as a description, from which both the text and the
//! messages come, and with which the kernel's state is compared. Does no I/O.
//!
//! The source is told by interface group and everything else is constant, so no
//! pod adds anything. Two facts of the kernel shape the rules:
//!
//! * In `postrouting` a rule sees the interface that a packet came in by from
//!   Linux 5.7 on.
//! * A packet of the node itself has none. Then `iifgroup` does not compare as
//!   unequal: it ends the rule (`NFT_BREAK`, net/netfilter/nft_meta.c). So the
//!   group is asked for where it must match. A first rule `iifgroup != G return`
//!   would let the node's own packets fall through to the masquerade.

use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use super::abi::*;
use super::attribute::Attribute;
use super::error::Error;
use super::interval::{Element, Family, Intervals};
use super::message::Request;
use super::{Masquerade, expression, seal};

pub(super) const CHAIN: &str = "postrouting";

/// `NFT_NAME_MAXLEN` less the NUL.
pub const NAME_BYTES_MAX: usize = 255;

/// Intervals of one message: three elements of at most 48 bytes each stay well
/// below the 64 KiB of an attribute.
const INTERVALS_PER_MESSAGE: usize = 400;

/// Never translated, whatever the caller says: a router forwards no link-local
/// traffic (RFC 3927 §2.7, RFC 4291 §2.5.6), and a group is no peer.
const ALWAYS_NEVER: [&str; 5] =
    ["169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8"];

/// One table with all that is in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Ruleset {
    pub(super) table: String,
    comment: String,
    pub(super) sets: [Set; 2],
    pub(super) rules: Vec<Rule>,
}

/// A set of addresses to which nothing is translated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Set {
    pub(super) intervals: Intervals,
}

/// A rule of the chain, in words of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Rule {
    /// Pods see each other's addresses, of whatever network.
    ToHostLinks(RangeInclusive<u32>),
    /// So does everything in the set.
    Never(Family),
    /// The rest leaves with the node's address.
    Masquerade { source_group: u32 },
}

impl Ruleset {
    /// The description of what is wanted, or why it cannot be.
    pub(super) fn new(wanted: &Masquerade) -> Result<Self, Error> {
        check_name(&wanted.table)?;
        if wanted.host_link_groups.is_empty() {
            let why = format!("the range of link groups {:?} is empty", wanted.host_link_groups);
            return Err(Error::Invalid { table: wanted.table.clone(), why });
        }
        Ok(Self::unchecked(wanted))
    }

    /// The same without the checks, for showing.
    pub(super) fn unchecked(wanted: &Masquerade) -> Self {
        let mut never = wanted.never.clone();
        never.extend(ALWAYS_NEVER.iter().filter_map(|text| text.parse::<IpNetwork>().ok()));
        let set = |family| Set { intervals: Intervals::of(family, &never) };
        Self {
            table: wanted.table.clone(),
            comment: format!("manx: masquerade for links of group {}", wanted.source_group),
            sets: [set(Family::V4), set(Family::V6)],
            rules: vec![
                Rule::ToHostLinks(wanted.host_link_groups.clone()),
                Rule::Never(Family::V4),
                Rule::Never(Family::V6),
                Rule::Masquerade { source_group: wanted.source_group },
            ],
        }
    }

    /// The text that `nft -f` takes for the same table.
    pub(super) fn render(&self) -> String {
        let mut text = format!("table inet {} {{\n\tcomment \"{}\"\n", self.table, self.comment);
        for set in &self.sets {
            let elements: Vec<String> = set.intervals.texts().collect();
            text += &format!(
                "\n\tset {} {{\n\t\ttype {}\n\t\tflags constant, interval\n\t\telements = {{ {} }}\n\t}}\n",
                set.name(),
                set.type_name(),
                elements.join(",\n\t\t\t     "),
            );
        }
        text += &format!(
            "\n\tchain {CHAIN} {{\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n"
        );
        for rule in &self.rules {
            text += &format!("\t\t{}\n", rule.text());
        }
        text + "\t}\n}\n"
    }

    /// The messages that create everything in a table that does not exist.
    pub(super) fn creation(&self) -> Vec<Request> {
        let mut requests = vec![self.table_creation()];
        let chain_named = [Attribute::string(NFTA_CHAIN_NAME, CHAIN)];
        requests.push(Request::new(
            NFT_MSG_NEWCHAIN,
            NLM_F_CREATE,
            self.object(&format!("chain {CHAIN}")),
            [&[Attribute::string(NFTA_CHAIN_TABLE, &self.table)], &chain_named[..], &chain_kind()]
                .concat(),
        ));
        for (set, id) in self.sets.iter().zip(1..) {
            requests.extend(self.set_creation(set, id));
        }
        for (rule, place) in self.rules.iter().zip(1..) {
            requests.push(Request::new(
                NFT_MSG_NEWRULE,
                NLM_F_CREATE | NLM_F_APPEND,
                self.object(&format!("rule {place} ({})", rule.text())),
                [
                    Attribute::string(NFTA_RULE_TABLE, &self.table),
                    Attribute::string(NFTA_RULE_CHAIN, CHAIN),
                    Attribute::nest(NFTA_RULE_EXPRESSIONS, rule.expressions()),
                ],
            ));
        }
        requests
    }

    /// The messages that put this in the place of a table that exists.
    pub(super) fn replacement(&self) -> Vec<Request> {
        let mut requests = vec![table_deletion(&self.table)];
        requests.extend(self.creation());
        requests
    }

    /// The same whether or not there is a table: an existing one survives its
    /// creation, and then there is one to delete.
    pub(super) fn replacement_of_anything(&self) -> Vec<Request> {
        let mut requests = vec![self.table_creation()];
        requests.extend(self.replacement());
        requests
    }

    /// Attributes that the kernel's table must have.
    pub(super) fn table_kind() -> [Attribute; 1] {
        [Attribute::number(NFTA_TABLE_FLAGS, 0)]
    }

    /// A name for people: an object and its table.
    pub(super) fn object(&self, what: &str) -> String {
        format!("{what} of table inet {}", self.table)
    }

    fn table_creation(&self) -> Request {
        let [flags] = Self::table_kind();
        // The comment is a string within the user data (libnftnl's
        // NFTNL_UDATA_TABLE_COMMENT). Kernels before 5.10 drop it.
        let mut comment = vec![0, u8::try_from(self.comment.len() + 1).unwrap_or(u8::MAX)];
        comment.extend(self.comment.bytes().chain([0]));
        Request::new(
            NFT_MSG_NEWTABLE,
            NLM_F_CREATE,
            format!("table inet {}", self.table),
            [
                Attribute::string(NFTA_TABLE_NAME, &self.table),
                flags,
                Attribute::bytes(NFTA_TABLE_USERDATA, comment),
            ],
        )
    }

    /// The set, then its elements in as many messages as they need.
    fn set_creation(&self, set: &Set, id: u32) -> Vec<Request> {
        let object = self.object(&format!("set {}", set.name()));
        let mut attributes = vec![
            Attribute::string(NFTA_SET_TABLE, &self.table),
            Attribute::string(NFTA_SET_NAME, set.name()),
        ];
        attributes.extend(set.kind());
        attributes.push(Attribute::number(NFTA_SET_ID, id));
        // Tells nft that keys are in network byte order (libnftnl's
        // NFTNL_UDATA_SET_KEYBYTEORDER), so that it lists addresses.
        let notes = [user_number(0, 2), seal::note(&set.intervals)].concat();
        attributes.push(Attribute::bytes(NFTA_SET_USERDATA, notes));
        let mut requests = vec![Request::new(NFT_MSG_NEWSET, NLM_F_CREATE, &*object, attributes)];
        let elements: Vec<Vec<Element>> = set.intervals.elements().collect();
        for chunk in elements.chunks(INTERVALS_PER_MESSAGE) {
            let list: Vec<Attribute> = chunk.iter().flat_map(|each| element_list(each)).collect();
            requests.push(Request::new(
                NFT_MSG_NEWSETELEM,
                NLM_F_CREATE,
                format!("elements of {object}"),
                [
                    Attribute::string(NFTA_SET_ELEM_LIST_TABLE, &self.table),
                    Attribute::string(NFTA_SET_ELEM_LIST_SET, set.name()),
                    Attribute::nest(NFTA_SET_ELEM_LIST_ELEMENTS, list),
                ],
            ));
        }
        requests
    }
}

impl Set {
    /// The set's name in its table.
    pub(super) fn name(&self) -> &'static str {
        match self.intervals.family() {
            Family::V4 => "never4",
            Family::V6 => "never6",
        }
    }

    /// Attributes that the kernel's set must have. The key's type is nft's own
    /// number for addresses (libnftables' TYPE_IPADDR, TYPE_IP6ADDR).
    pub(super) fn kind(&self) -> [Attribute; 3] {
        let family = self.intervals.family();
        let key_type = match family {
            Family::V4 => 7,
            Family::V6 => 8,
        };
        [
            Attribute::number(NFTA_SET_FLAGS, NFT_SET_CONSTANT | NFT_SET_INTERVAL),
            Attribute::number(NFTA_SET_KEY_TYPE, key_type),
            Attribute::number(NFTA_SET_KEY_LEN, u32::from(family.address_bytes())),
        ]
    }

    fn type_name(&self) -> &'static str {
        match self.intervals.family() {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        }
    }
}

impl Rule {
    /// The rule as nft writes it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::ToHostLinks(groups) => {
                format!("oifgroup {}-{} return", groups.start(), groups.end())
            }
            Self::Never(Family::V4) => "ip daddr @never4 return".into(),
            Self::Never(Family::V6) => "ip6 daddr @never6 return".into(),
            Self::Masquerade { source_group } => {
                format!("iifgroup {source_group} masquerade fully-random")
            }
        }
    }

    /// The rule as nf_tables runs it.
    pub(super) fn expressions(&self) -> Vec<Attribute> {
        match self {
            Self::ToHostLinks(groups) => expression::to_groups(groups),
            Self::Never(Family::V4) => expression::to_set(NFPROTO_IPV4, "never4", (16, 4)),
            Self::Never(Family::V6) => expression::to_set(NFPROTO_IPV6, "never6", (24, 16)),
            Self::Masquerade { source_group } => expression::masquerade_from(*source_group),
        }
    }
}

/// The message that deletes a table with all that is in it.
pub(super) fn table_deletion(table: &str) -> Request {
    let named = [Attribute::string(NFTA_TABLE_NAME, table)];
    Request::new(NFT_MSG_DELTABLE, 0, format!("table inet {table}"), named)
}

/// Attributes that the kernel's chain must have.
pub(super) fn chain_kind() -> [Attribute; 3] {
    [
        Attribute::string(NFTA_CHAIN_TYPE, "nat"),
        Attribute::number(NFTA_CHAIN_POLICY, NF_ACCEPT),
        Attribute::nest(
            NFTA_CHAIN_HOOK,
            [
                Attribute::number(NFTA_HOOK_HOOKNUM, NF_INET_POST_ROUTING),
                Attribute::number(NFTA_HOOK_PRIORITY, NF_IP_PRI_NAT_SRC),
            ],
        ),
    ]
}

/// A name must be one word to nft, or nobody can say it on a command line.
pub(super) fn check_name(table: &str) -> Result<(), Error> {
    let invalid = |why: &str| Err(Error::Invalid { table: table.into(), why: why.into() });
    if table.len() > NAME_BYTES_MAX {
        return invalid("the name is longer than the 255 bytes that nf_tables keeps");
    }
    if !table.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return invalid("the name does not begin with a letter");
    }
    if !table.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c)) {
        return invalid("the name has other characters than letters, digits and - _ . /");
    }
    Ok(())
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
