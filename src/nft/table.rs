//! A table of nf_tables as data: what is in it, and how nft writes it. Does no
//! I/O and knows no message; [`expression`](super::expression) has the kernel's
//! form of a rule, [`ruleset`](super::ruleset) that of everything else.
//!
//! One description serves to install, to compare and to show. So a new rule is
//! a line where a table is described, and at most a new [`Term`] here.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    ops::RangeInclusive,
};

use super::abi::*;
use super::error::Error;
use super::interval::{Family, Intervals};
use super::ruleset::address_bytes;

/// `NFT_NAME_MAXLEN` less the NUL.
pub const NAME_BYTES_MAX: usize = 255;
/// libnftables' `TYPE_IPADDR`, `TYPE_IP6ADDR` and `TYPE_IFNAME`.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_IFNAME: u32 = 41;
/// `IFNAMSIZ`: how long an interface name is in a key.
pub(super) const IFNAME_BYTES: u32 = 16;

/// One table of family inet with all that is in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// Its name: a letter, then letters, digits and `-_./`, at most 255 bytes.
    pub name: String,
    pub(super) comment: String,
    pub(super) sets: Vec<Set>,
    pub(super) chains: Vec<Chain>,
    /// A digest of what the constant sets were made from.
    pub(super) constant: Vec<u8>,
}

/// A set that rules ask.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) content: Content,
}

/// What a set holds, and who may change it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Content {
    /// Networks that never change while the table is there.
    Constant(Intervals),
    /// Addresses that follow the description: elements come and go one by one.
    Following(Family, Vec<IpAddr>),
    /// Pairs of a link's name and a network of that family. They are others' to
    /// add, and stay when the table is made anew.
    Open(Family),
}

/// A chain and its rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    /// Where packets enter; `None` for a chain that rules lead to.
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Rule>,
}

/// Where in the packet's path a chain is asked. Its policy is accept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Hook {
    pub(super) kind: Kind,
    pub(super) point: Point,
    pub(super) priority: i32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Filter,
    Nat,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Point {
    Input,
    Forward,
    Postrouting,
}

/// Conditions, then what happens to a packet that meets them all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Rule(pub(super) Vec<Term>);

/// A condition or a verdict.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Term {
    /// It came in by a link of the group.
    FromGroup(u32),
    FromGroups(RangeInclusive<u32>),
    /// It leaves by a link of one of the groups.
    ToGroups(RangeInclusive<u32>),
    Address(Side, Family, Holds, &'static str),
    /// Of IPv4, within 127.0.0.0/8.
    Loopback(Side, Holds),
    /// No route back to the source leads through the link that it came in by.
    NoWayBack,
    /// Name of that link and source are in an open set.
    LinkAndSource(Family, &'static str),
    /// Where it is not told, as in some fragments, neither of both holds; so with the
    /// port and the identifier.
    Protocol(Holds, u8),
    UdpTo(Holds, u16),
    /// The network identifier of a VXLAN packet; behind what says that it is UDP.
    Vni(Holds, u32),
    /// Of IPv6, the first part of a packet, or all of it, with a fragment header.
    FirstFragment,
    IcmpType(Family, u8),
    Count,
    Drop,
    Return,
    Goto(&'static str),
    /// The source becomes an address of the node, and the port is drawn at
    /// random: when a port is kept, two pods that use the same one towards the
    /// same server race for it, and the loser's first packet is dropped.
    Masquerade,
}

/// Which address of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// Whether a condition is that something is in a set, or that it is not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Holds {
    Is,
    IsNot,
}

impl Table {
    /// The table in the language of `nft -f`: the same that is installed.
    pub fn render(&self) -> String {
        let mut text = format!("table inet {} {{\n\tcomment \"{}\"\n", self.name, self.comment);
        for set in &self.sets {
            text += &set.render();
        }
        for chain in &self.chains {
            text += &format!("\n\tchain {} {{\n", chain.name);
            if let Some(hook) = chain.hook {
                text += &format!("\t\t{};\n", hook.text());
            }
            for rule in &chain.rules {
                text += &format!("\t\t{}\n", rule.text());
            }
            text += "\t}\n";
        }
        text + "}\n"
    }

    /// A name for people: an object and its table.
    pub(super) fn object(&self, what: &str) -> String {
        format!("{what} of table inet {}", self.name)
    }

    /// All rules in the order in which the kernel lists them.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&Chain, &Rule)> {
        self.chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| (chain, rule)))
    }

    /// A number for what the sets should hold that follow something, to know it again
    /// without a list.
    pub fn followed(&self) -> u64 {
        let keys = |set: &Set| match &set.content {
            Content::Following(_, addresses) => {
                addresses.iter().map(|it| (set.name, address_bytes(*it))).collect()
            }
            _ => Vec::new(),
        };
        number_of(&self.sets.iter().flat_map(keys).collect())
    }

    /// Whether a rule leads to the chain of that name, or asks the set. The kernel
    /// takes neither away then.
    pub(super) fn has_rule_about(&self, name: &str) -> bool {
        let is_about = |term: &Term| match term {
            Term::Goto(other) | Term::Address(.., other) | Term::LinkAndSource(_, other) => {
                *other == name
            }
            _ => false,
        };
        self.rules().any(|(_, Rule(terms))| terms.iter().any(is_about))
    }
}

/// A number for keys of sets. It means something to this very binary.
pub(super) fn number_of(keys: &BTreeSet<(&'static str, Vec<u8>)>) -> u64 {
    let mut hasher = DefaultHasher::new();
    keys.hash(&mut hasher);
    hasher.finish()
}

impl Set {
    /// `flags`, key type and key length as the kernel has them.
    pub(super) fn kind(&self) -> (u32, u32, u32) {
        let family = self.family();
        let (kind, bytes) = match family {
            Family::V4 => (TYPE_IPV4, 4),
            Family::V6 => (TYPE_IPV6, 16),
        };
        match self.content {
            Content::Constant(_) => (NFT_SET_CONSTANT | NFT_SET_INTERVAL, kind, bytes),
            Content::Following(..) => (0, kind, bytes),
            // libnftables shifts the types of a pair by its `TYPE_BITS`.
            Content::Open(_) => {
                let flags = NFT_SET_INTERVAL | NFT_SET_CONCAT;
                (flags, TYPE_IFNAME << 6 | kind, IFNAME_BYTES + bytes)
            }
        }
    }

    pub(super) fn family(&self) -> Family {
        match &self.content {
            Content::Constant(intervals) => intervals.family(),
            Content::Following(family, _) | Content::Open(family) => *family,
        }
    }

    fn render(&self) -> String {
        let address = match self.family() {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        };
        let (kind, flags, elements) = match &self.content {
            Content::Constant(intervals) => {
                (address.to_owned(), "constant, interval", intervals.texts().collect())
            }
            Content::Following(_, addresses) => {
                (address.to_owned(), "", addresses.iter().map(ToString::to_string).collect())
            }
            Content::Open(_) => (format!("ifname . {address}"), "interval", Vec::new()),
        };
        let mut text = format!("\n\tset {} {{\n\t\ttype {kind}\n", self.name);
        if !flags.is_empty() {
            text += &format!("\t\tflags {flags}\n");
        }
        if !elements.is_empty() {
            text += &format!("\t\telements = {{ {} }}\n", elements.join(",\n\t\t\t     "));
        }
        text + "\t}\n"
    }
}

impl Hook {
    /// As nft writes it.
    pub(super) fn text(self) -> String {
        let kind = match self.kind {
            Kind::Filter => "filter",
            Kind::Nat => "nat",
        };
        let point = match self.point {
            Point::Input => "input",
            Point::Forward => "forward",
            Point::Postrouting => "postrouting",
        };
        let priority = match (self.kind, self.priority) {
            (Kind::Nat, NF_IP_PRI_NAT_SRC) => "srcnat".to_owned(),
            (_, before @ -10..0) => format!("filter - {}", before.unsigned_abs()),
            (_, number) => number.to_string(),
        };
        format!("type {kind} hook {point} priority {priority}; policy accept")
    }
}

impl Rule {
    /// As nft writes it.
    pub(super) fn text(&self) -> String {
        self.0.iter().map(Term::text).collect::<Vec<_>>().join(" ")
    }
}

impl Term {
    fn text(&self) -> String {
        let range = |groups: &RangeInclusive<u32>| format!("{}-{}", groups.start(), groups.end());
        match self {
            Self::FromGroup(group) => format!("iifgroup {group}"),
            Self::FromGroups(groups) => format!("iifgroup {}", range(groups)),
            Self::ToGroups(groups) => format!("oifgroup {}", range(groups)),
            Self::Address(side, family, holds, set) => {
                format!("{} {}{}@{set}", family.word(), side.word(), holds.word())
            }
            Self::Loopback(side, holds) => format!("ip {}{}127.0.0.0/8", side.word(), holds.word()),
            Self::NoWayBack => "fib saddr . iif oif missing".into(),
            Self::LinkAndSource(family, set) => format!("iifname . {} saddr @{set}", family.word()),
            Self::Protocol(holds, number) => format!("meta l4proto{}{number}", holds.word()),
            Self::UdpTo(holds, port) => format!("udp dport{}{port}", holds.word()),
            Self::Vni(holds, vni) => format!("@th,96,24{}{vni:#x}", holds.word()),
            Self::FirstFragment => "frag frag-off 0".into(),
            Self::IcmpType(Family::V4, number) => format!("icmp type {number}"),
            Self::IcmpType(Family::V6, number) => format!("icmpv6 type {number}"),
            Self::Count => "counter".into(),
            Self::Drop => "drop".into(),
            Self::Return => "return".into(),
            Self::Goto(chain) => format!("goto {chain}"),
            Self::Masquerade => "masquerade fully-random".into(),
        }
    }
}

impl Family {
    fn word(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::Source => "saddr",
            Self::Destination => "daddr",
        }
    }
}

impl Holds {
    fn word(self) -> &'static str {
        match self {
            Self::Is => " ",
            Self::IsNot => " != ",
        }
    }
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
