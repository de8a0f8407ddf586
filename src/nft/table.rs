// SPDX-License-Identifier: Apache-2.0
//! A table of nf_tables as data: what is in it, and how nft writes it. Does no
//! I/O and knows no message; [`expression`](super::expression) has the kernel's
//! form of a rule, [`ruleset`](super::ruleset) that of everything else.
//!
//! One description serves to install, to compare and to show. So a new rule is
//! a line where a table is described, and at most a new [`Term`] here.

#![allow(missing_docs, reason = "names that a comment would only repeat")]

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    ops::RangeInclusive,
};

use super::abi::*;
use super::error::Error;
use super::key::{self, Part};
use super::set::{Elements, Set, Verdict};
use super::side::Side;
use crate::family::Family;
use crate::list::Gather;

/// `NFT_NAME_MAXLEN` less the NUL.
pub const NAME_BYTES_MAX: usize = 255;
/// One table of family inet with all that is in it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Table {
    /// Its name: a letter, then letters, digits and `-_./`, at most 255 bytes.
    pub name: String,
    pub comment: String,
    pub sets: Vec<Set>,
    pub chains: Vec<Chain>,
    /// A number that says which rules, chains and sets these are, to stand in their digest's place;
    /// `None` where nobody has numbered them.
    pub number: Option<u64>,
}

/// A chain and its rules.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Chain {
    pub name: &'static str,
    /// Where packets enter; `None` for a chain that rules lead to.
    pub hook: Option<Hook>,
    pub rules: Vec<Rule>,
}

/// Where in the packet's path a chain is asked. Its policy is accept.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Hook {
    pub kind: Kind,
    pub point: Point,
    pub priority: i32,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    Filter,
    Nat,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Point {
    Input,
    Forward,
    Postrouting,
}

/// Conditions, then what happens to a packet that meets them all.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Rule(pub Vec<Term>);

/// A condition or a verdict.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Term {
    /// It came in by a link of the group.
    FromGroup(u32),
    FromGroups(RangeInclusive<u32>),
    /// It leaves by a link of one of the groups.
    ToGroups(RangeInclusive<u32>),
    /// A key is in a set.
    Among(Vec<Part>, Holds, &'static str),
    /// What a map of verdicts has for a key, if it has one.
    Verdict(Vec<Part>, &'static str),
    /// A map has a number for it.
    Has(Part),
    /// Of IPv4, within 127.0.0.0/8.
    Loopback(Side, Holds),
    /// No route back to the source leads through the link that it came in by.
    NoWayBack,
    /// Where it is not told, as in some fragments, neither of both holds; so with the
    /// port and the identifier.
    Protocol(Holds, u8),
    UdpTo(Holds, u16),
    /// The network identifier of a VXLAN packet; behind what says that it is UDP.
    Vni(Holds, u32),
    /// Of IPv6, the first part of a packet, or all of it, with a fragment header.
    FirstFragment,
    IcmpType(Family, u8),
    /// The connection is in one of these states ([`ESTABLISHED`] and its like).
    State(u32),
    /// It answers the first packet of its connection.
    IsReply,
    /// Its mark is this.
    Mark(u32),
    SetMark(u32),
    Count,
    /// What becomes of it, if all that stands before holds.
    End(Verdict),
    /// The source becomes an address of the node, and the port is drawn at
    /// random: when a port is kept, two pods that use the same one towards the
    /// same server race for it, and the loser's first packet is dropped.
    Masquerade,
    /// So many packets a second, and so many more at once.
    Limit(u64, u32),
    /// It is sent to a group of listeners (NFLOG), with these words.
    Log(u16, &'static str),
    /// It ends here, and its sender is told so.
    Reject(Answer),
}

/// How a sender is told that a packet ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Answer {
    /// By a reset, which TCP alone has.
    Reset,
    /// By ICMP, of the packet's family: administratively prohibited.
    Prohibited,
}

/// Whether a condition is that something is in a set, or that it is not.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Holds {
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
        let sets = self.sets.iter();
        number_of(sets.filter_map(|set| Some((set.name, set.content.following()?))))
    }

    /// Whether a rule leads to the chain of that name, or asks the set. The kernel
    /// takes neither away then.
    pub(super) fn has_rule_about(&self, name: &str) -> bool {
        let is_about = |term: &Term| match term {
            Term::End(Verdict::Goto(other) | Verdict::Jump(other)) => *other == name,
            Term::Among(key, _, set) => *set == name || key.iter().any(|part| part.is_about(name)),
            Term::Verdict(key, map) => *map == name || key.iter().any(|part| part.is_about(name)),
            Term::Has(part) => part.is_about(name),
            _ => false,
        };
        self.rules().any(|(_, Rule(terms))| terms.iter().any(is_about))
    }
}

/// A number for what sets hold. It means something to this very binary.
pub(super) fn number_of<'a>(sets: impl IntoIterator<Item = (&'static str, &'a Elements)>) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, elements) in sets {
        (name, elements).hash(&mut hasher);
    }
    hasher.finish()
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
    /// Whether nft would not list all that it asks.
    pub(super) fn says_more(&self) -> bool {
        self.0.iter().any(|term| match term {
            Term::Among(key, ..) | Term::Verdict(key, _) => key.iter().any(Part::is_mapped),
            Term::Has(_) => true,
            _ => false,
        })
    }

    /// As nft writes it.
    pub(super) fn text(&self) -> String {
        self.0.iter().map(Term::text).gather().join(" ")
    }
}

impl Term {
    fn text(&self) -> String {
        let range = |groups: &RangeInclusive<u32>| format!("{}-{}", groups.start(), groups.end());
        match self {
            Self::FromGroup(group) => format!("iifgroup {group}"),
            Self::FromGroups(groups) => format!("iifgroup {}", range(groups)),
            Self::ToGroups(groups) => format!("oifgroup {}", range(groups)),
            Self::Among(parts, holds, set) => {
                format!("{}{}@{set}", key::text(parts), holds.word())
            }
            Self::Verdict(parts, map) => format!("{} vmap @{map}", key::text(parts)),
            Self::Has(part) => part.text(),
            Self::Loopback(side, holds) => format!("ip {}{}127.0.0.0/8", side.word(), holds.word()),
            Self::NoWayBack => "fib saddr . iif oif missing".into(),
            Self::Protocol(holds, number) => format!("meta l4proto{}{number}", holds.word()),
            Self::UdpTo(holds, port) => format!("udp dport{}{port}", holds.word()),
            Self::Vni(holds, vni) => format!("@th,96,24{}{vni:#x}", holds.word()),
            Self::FirstFragment => "frag frag-off 0".into(),
            Self::IcmpType(Family::V4, number) => format!("icmp type {number}"),
            Self::IcmpType(Family::V6, number) => format!("icmpv6 type {number}"),
            Self::State(states) => format!("ct state {}", state_names(*states)),
            Self::IsReply => "ct direction reply".into(),
            Self::Mark(mark) => format!("meta mark {mark:#x}"),
            Self::SetMark(mark) => format!("meta mark set {mark:#x}"),
            Self::Count => "counter".into(),
            Self::End(verdict) => verdict.to_string(),
            Self::Masquerade => "masquerade fully-random".into(),
            Self::Limit(rate, burst) => format!("limit rate {rate}/second burst {burst} packets"),
            Self::Log(group, prefix) => format!("log prefix \"{prefix}\" group {group}"),
            Self::Reject(Answer::Reset) => "reject with tcp reset".into(),
            Self::Reject(Answer::Prohibited) => "reject with icmpx admin-prohibited".into(),
        }
    }
}

/// Bits of `ct state` (`NF_CT_STATE_BIT`), with nft's words.
pub const ESTABLISHED: u32 = 2;
pub const RELATED: u32 = 4;
pub const NEW: u32 = 8;
const STATES: [(u32, &str); 3] = [(ESTABLISHED, "established"), (RELATED, "related"), (NEW, "new")];

fn state_names(states: u32) -> String {
    let names = STATES.iter().filter(|(bit, _)| states & bit != 0).map(|(_, name)| *name);
    names.gather().join(",")
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
    let invalid = |why: &str| Err(Error::invalid(table, why));
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
