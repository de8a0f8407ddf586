// SPDX-License-Identifier: Apache-2.0
//! Whether the firewall of this node lets pods' packets pass the hooks of what is
//! forwarded: prerouting, forward and postrouting.
//!
//! Docker, firewalld, ufw and hand-written rule sets drop what is forwarded
//! unless a rule accepts it, each base chain by itself. Here the rules are read
//! for the ways that pods' packets take. Where a
//! rule asks for something that differs from pod to pod, such as an address, the
//! answer is that it may accept, and nothing is claimed.
//!
//! This file and [`walk`] are pure. [`kernel`] reads nf_tables, which includes
//! what iptables-nft makes; [`save`] reads the text of `iptables-legacy-save`.

mod address;
mod elements;
#[cfg(fuzzing)]
pub mod fuzzing;
mod kernel;
mod length;
mod lookup;
mod save;
mod state;
#[cfg(test)]
mod tests;
mod walk;
mod xtables;

use std::{collections::HashMap, fmt, ops::RangeInclusive};

use ipnetwork::IpNetwork;

pub use kernel::Ruleset;
pub use length::Length;
pub use save::{lengths_of_save, of_save};

use crate::family::Family;

/// The protocols (IANA) without which a way is not open: a rule for one of them, or for
/// another, opens none by itself.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The links that a question is about.
#[derive(Clone, Debug)]
pub struct Links<'a> {
    /// First letters of the names of host links.
    pub prefix: &'a str,
    /// Their interface groups.
    pub groups: RangeInclusive<u32>,
    /// Devices by which packets of other nodes come.
    pub others: &'a [String],
    /// Those of them that are tunnels, each with the family of the packets that it carries.
    pub tunnels: &'a [(String, Family)],
    /// Where this node's pods are, as far as that is known.
    pub pods: &'a [IpNetwork],
    /// The names of all links by index.
    pub names: &'a HashMap<u32, String>,
    /// Whether a table is ours, by its name: what it drops is none of this.
    pub is_ours: fn(&str) -> bool,
}

impl Links<'_> {
    /// Whether packets of a family may come by one of the other devices.
    fn carries(&self, device: &str, packets: Family) -> bool {
        let mut families = self.tunnels.iter().filter(|(name, _)| name == device).peekable();
        families.peek().is_none() || families.any(|(_, family)| *family == packets)
    }
}

/// A hook that forwarded packets pass.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Point {
    /// Before it is known where they go.
    Prerouting,
    /// Between links.
    Forward,
    /// Where they leave.
    Postrouting,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prerouting => "prerouting",
            Self::Forward => "forward",
            Self::Postrouting => "postrouting",
        })
    }
}

/// One of the ways that pods' packets take.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Way {
    /// From one pod of this node to another.
    Between,
    /// From a pod of this node to elsewhere.
    Out,
    /// What a pod of this node is answered from elsewhere.
    Answers,
    /// From elsewhere to a pod of this node.
    In,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Between, Self::Out, Self::Answers, Self::In];

    /// Whether packets come in by a host link, or leave by one.
    fn is_host_link(self, incoming: bool) -> bool {
        match self {
            Self::Between => true,
            Self::Out => incoming,
            Self::Answers | Self::In => !incoming,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Between => "between pods of this node",
            Self::Out => "from pods to elsewhere",
            Self::Answers => "that answer pods",
            Self::In => "from elsewhere to pods",
        })
    }
}

/// Who made a table, as far as that tells what to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Maker {
    /// iptables, with Docker's own chain for such rules.
    Docker {
        /// The older backend.
        legacy: bool,
    },
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
    /// iptables, of the backend nf_tables or of the older one.
    Iptables {
        /// The older one.
        legacy: bool,
    },
    /// Somebody who speaks nf_tables.
    Nft,
}

/// A base chain that drops pods' packets, or may.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Barrier {
    /// Of which packets.
    pub packets: Family,
    /// The family of its table: `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// Its hook.
    pub point: Point,
    /// Who made it.
    pub maker: Maker,
    /// The link that it is about, where the others are open: a host link, or one by which
    /// packets of other nodes come.
    pub device: Option<String>,
    /// What drops them: the policy, or a rule.
    pub by: String,
    /// The ways that are closed for certain.
    pub closed: Vec<Way>,
    /// Those that a rule may open, and the first such rule.
    pub doubtful: Vec<(Way, String)>,
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, chain, by, .. } = self;
        let legacy = match self.maker {
            Maker::Iptables { legacy: true } | Maker::Docker { legacy: true } => {
                " (iptables-legacy)"
            }
            _ => "",
        };
        write!(f, "chain {chain} of table {family} {table}{legacy} drops by {by}")
    }
}

/// How sure a thing is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Truth {
    Yes,
    No,
    Maybe,
}

impl Truth {
    fn of(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }

    fn unless(self, negated: bool) -> Self {
        match (self, negated) {
            (Self::Yes, true) => Self::No,
            (Self::No, true) => Self::Yes,
            (truth, _) => truth,
        }
    }
}

/// A device's name, or the beginning of one.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Pattern {
    text: String,
    /// More may follow.
    open: bool,
}

impl Pattern {
    fn has(&self, name: &str) -> bool {
        name == self.text || self.open && name.starts_with(&self.text)
    }
}

/// What a rule asks of a packet.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Test {
    /// Something that is not understood, or that differs from packet to packet.
    Unknown,
    /// The connection is new, or is established.
    State { new: bool, established: bool },
    /// A device has one of these names.
    Name { incoming: bool, patterns: Vec<Pattern>, negated: bool },
    /// A device has this interface group.
    Group { incoming: bool, number: u32, negated: bool },
    /// The packet's family.
    Family { family: Family, negated: bool },
    /// What is within IP has one of these numbers.
    Protocol { numbers: Vec<u8>, negated: bool },
    /// An address is in one of these ranges, whose ends are in them.
    Address { source: bool, family: Family, ranges: Vec<(u128, u128)>, negated: bool },
    /// The packet's mark is such; whether that holds where nobody has set one.
    Mark { holds: bool },
}

/// What becomes of a packet that a rule matches.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Verdict {
    Accept,
    Drop,
    Jump(String),
    Goto(String),
    Return,
    /// The packet gets a mark, and then it is the next rule's turn.
    Mark,
    /// The next rule's turn.
    Continue,
}

/// One rule.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Rule {
    /// The how manieth of its chain.
    number: usize,
    tests: Vec<Test>,
    verdict: Verdict,
}

/// A base chain, before it was walked.
#[derive(Clone, Debug)]
struct Base {
    family: &'static str,
    table: String,
    chain: String,
    point: Point,
    /// Before the kernel knows of which connection a packet is.
    early: bool,
    drops: bool,
}

impl Base {
    /// The families of the packets that it sees.
    fn families(&self) -> &'static [Family] {
        match self.family {
            "ip" => &[Family::V4],
            "ip6" => &[Family::V6],
            _ => &Family::BOTH,
        }
    }
}
