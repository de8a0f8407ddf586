// SPDX-License-Identifier: Apache-2.0
//! The table of network policies: rules that never change, and everything that changes is
//! an element of a map or a set. [`held`] has what the kernel holds; all else is pure.
//!
//! For each direction a pod under policy has a class, and a peer that a policy names has
//! an identity. A connection is allowed if {class . protocol . identity . port} is in a
//! set. What a network allows is found by {class . address}, which leads to an identity
//! that means something to that class alone. A pod without a class is not isolated.
//!
//! [`LOOKUPS`] says in which order the sets are asked. The rules are made of it, and
//! whoever wants to know what the rules would answer goes through the same list.
//!
//! * Only forwarded packets are judged: what the node itself says to its pods passes no
//!   forward hook, and may always pass.
//! * What is established passes. Where conntrack forgets a connection that is no longer
//!   allowed, its server's next packet would be taken for the first of another one, which
//!   may well be allowed. So answers of connections that were cut are in a set as well, and
//!   packets without a connection are looked for there. All of them: a server could open a
//!   connection with the ports of the one that was cut, and the client's packets would be its
//!   answers.
//! * The protocol is part of each key. Of a packet without ports, such as ICMP, the bytes in
//!   that place are something else, and no key has its protocol together with a port.
//! * A rule that reads behind the end of a packet does not match, and the next is asked.
//! * Values of maps have 8 bytes, of which rules use the lower half. The upper half has
//!   more of the digest by which a class or an identity is numbered.

mod denial;
mod follow;
#[cfg(fuzzing)]
pub mod fuzzing;
mod held;
mod outline;
mod pods;
mod rules;
mod saved;

use std::net::IpAddr;

pub use denial::{Denial, Dropped};
pub use follow::Session;
pub use held::Held;
pub use pods::{Assigned, CLOSED, Depth, Found};

use super::error::Error;
use super::set::{Content, Data, Elements, Field, Key, Ranges, Set, Type, Value};
use super::table::{Table, check_name};
use crate::family::{Family, HasFamily};
use crate::list::Sorted;

/// In which direction a pod is isolated.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// What it sends.
    Egress,
    /// What is sent to it.
    Ingress,
}

/// What a table of policies holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policies {
    /// The table's name.
    pub table: String,
    /// The peers that policies name, each with its identity in the lower half.
    pub identities: Sorted<IpAddr, u64>,
    /// Isolated pods of this node: what one sends to itself comes back to it by way of a
    /// service.
    pub own: Sorted<IpAddr, ()>,
    /// What each direction holds, in the order of [`Direction::BOTH`].
    pub ways: [Way; 2],
    /// What becomes of what nothing allows.
    pub denial: Denial,
}

/// What holds for one direction.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Way {
    /// Isolated pods of this node, each with its class in the lower half.
    pub classes: Sorted<IpAddr, u64>,
    /// What is allowed: all ports from that of the grant to this one, which may be the same.
    /// What a class is allowed of a peer does not overlap.
    pub grants: Sorted<Grant, u16>,
    /// The last address of each network that a class knows, by the first one, and its identity.
    pub networks: Sorted<(u32, IpAddr), (IpAddr, u32)>,
}

/// What a class is allowed. Zeros stand for anything.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Grant {
    /// The class.
    pub class: u32,
    /// The protocol, by its number within IP.
    pub protocol: u8,
    /// The peer's identity.
    pub peer: u32,
    /// The port at the destination.
    pub port: u16,
}

/// As whom a lookup takes the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// By the identity of its address.
    Identity,
    /// As anybody.
    Anybody,
    /// By the network that its address is in.
    Network,
}

/// Where a lookup looks for the port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ports {
    /// Among the grants of a single one.
    One,
    /// Nowhere: any port of any protocol.
    All,
    /// Among the ranges.
    Range,
}

/// The lookups in the order in which a direction makes them: those that cost least and
/// match most come first.
pub const LOOKUPS: [(Peer, Ports); 9] = [
    (Peer::Identity, Ports::One),
    (Peer::Identity, Ports::All),
    (Peer::Anybody, Ports::All),
    (Peer::Anybody, Ports::One),
    (Peer::Network, Ports::One),
    (Peer::Network, Ports::All),
    (Peer::Identity, Ports::Range),
    (Peer::Anybody, Ports::Range),
    (Peer::Network, Ports::Range),
];

const IDENTITY: [&str; 2] = ["ident4", "ident6"];
const OWN: [&str; 2] = ["self4", "self6"];
const CUT: [&str; 2] = ["cut4", "cut6"];

/// For so many seconds the answers of a connection that was cut are dropped. TCP gives up what
/// nobody confirms after 15 minutes (tcp_retries2); a server that only looks whether its client
/// is there does so after two hours, for 11 minutes (tcp_keepalive_time, _intvl, _probes).
const CUT_SECONDS: u32 = 8100;
/// The same of protocols whose packets do not tell an answer from a beginning, UDP first: a
/// server that goes on sending would take its client's connection up again, and the client's
/// packets would be answers then, which nobody judges. What begins anew between the same two
/// ports waits for as long as conntrack takes silence for the end of a stream
/// (nf_conntrack_udp_timeout_stream).
const CUT_DATAGRAM_SECONDS: u32 = 120;

/// The names of what is there once for each direction; of what is there for each family,
/// IPv4's first.
struct Names {
    class: [&'static str; 2],
    network: [&'static str; 2],
    chain: [&'static str; 2],
    allowed: [&'static str; 2],
    drops: [&'static str; 2],
    log: &'static str,
    grant: &'static str,
    range: &'static str,
}

const EGRESS: Names = Names {
    class: ["class-out4", "class-out6"],
    network: ["cidr-out4", "cidr-out6"],
    chain: ["egress4", "egress6"],
    allowed: ["egress4-allowed", "egress6-allowed"],
    drops: ["drops-out4", "drops-out6"],
    log: "manx egress: ",
    grant: "allow-out",
    range: "range-out",
};
const INGRESS: Names = Names {
    class: ["class-in4", "class-in6"],
    network: ["cidr-in4", "cidr-in6"],
    chain: ["ingress4", "ingress6"],
    allowed: ["ingress4-allowed", "ingress6-allowed"],
    drops: ["drops-in4", "drops-in6"],
    log: "manx ingress: ",
    grant: "allow-in",
    range: "range-in",
};

impl Direction {
    /// Both, in the order in which a packet meets them.
    pub const BOTH: [Self; 2] = [Self::Egress, Self::Ingress];
    /// Each of them for each family.
    const EACH: [(Self, Family); 4] = [
        (Self::Egress, Family::V4),
        (Self::Egress, Family::V6),
        (Self::Ingress, Family::V4),
        (Self::Ingress, Family::V6),
    ];

    /// What egress has, and what ingress has.
    pub fn both<T>(mut of: impl FnMut(Self) -> T) -> [T; 2] {
        [of(Self::Egress), of(Self::Ingress)]
    }

    /// As Kubernetes calls it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }

    fn names(self) -> &'static Names {
        match self {
            Self::Egress => &EGRESS,
            Self::Ingress => &INGRESS,
        }
    }
}

impl Policies {
    /// What holds for a direction.
    pub fn way(&self, direction: Direction) -> &Way {
        let [egress, ingress] = &self.ways;
        match direction {
            Direction::Egress => egress,
            Direction::Ingress => ingress,
        }
    }

    /// The description, or why there cannot be one.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn describe(&self) -> Result<Table, Error> {
        Ok(Table { chains: self.denial.chains(), ..self.without_rules()? })
    }

    /// The same without its rules.
    fn without_rules(&self) -> Result<Table, Error> {
        check_name(&self.table)?;
        Ok(Table {
            name: self.table.clone(),
            comment: "manx: network policies".to_owned(),
            sets: self.sets(),
            chains: Vec::new(),
            number: Some(self.denial.rules_number()),
        })
    }

    fn sets(&self) -> Vec<Set> {
        let mut sets = Vec::<Set>::new();
        self.each(self.denial.counts, &mut |item| match item {
            Item::Set(set) => sets.push(set),
            Item::Element(first, last, number) => {
                let Some(Content::Following(held)) = sets.last_mut().map(|set| &mut set.content)
                else {
                    return;
                };
                let key = last.map_or_else(|| Key::of(first), |last| Key::range(first, last));
                held.insert(key, number.map(Value::Number));
            }
        });
        sets
    }

    /// Goes through all sets, each with what it holds behind it, if that follows the policies; the
    /// ones that count are among them if they are asked for.
    fn each(&self, counts: bool, see: &mut dyn FnMut(Item<'_>)) {
        for family in Family::BOTH {
            let address = Type::Address(family);
            see(following(of(family, IDENTITY), &[address], Ranges::None));
            numbers(family, &self.identities, see);
            see(following(of(family, OWN), &[address, address], Ranges::None));
            for own in self.own.keys().filter(|address| address.family() == family) {
                see(Item::Element(&[Field::Address(*own); 2], None, None));
            }
            see(Item::Set(cut(family)));
            for direction in Direction::BOTH {
                let (names, way) = (direction.names(), self.way(direction));
                see(following(of(family, names.class), &[address], Ranges::None));
                numbers(family, &way.classes, see);
                let key = [Type::Number, address];
                see(following(of(family, names.network), &key, Ranges::Last));
                way.networks(family, see);
                if counts {
                    see(Item::Set(self.drops(family, direction)));
                }
            }
        }
        let key = [Type::Number, Type::Protocol, Type::Number, Type::Port];
        for direction in Direction::BOTH {
            let (names, way) = (direction.names(), self.way(direction));
            see(following(names.grant, &key, Ranges::None));
            way.grants(true, see);
            see(following(names.range, &key, Ranges::Last));
            way.grants(false, see);
        }
    }
}

impl Way {
    fn networks(&self, family: Family, see: &mut dyn FnMut(Item<'_>)) {
        let own = self.networks.iter().filter(|((_, first), _)| first.family() == family);
        for ((class, first), (last, number)) in own {
            let at = |address| [Field::Number(*class), Field::Address(address)];
            let end = Some(at(*last)).filter(|_| last != first);
            let end = end.as_ref().map(|end| &end[..]);
            see(Item::Element(&at(*first), end, Some(u64::from(*number))));
        }
    }

    /// Those of single ports, or those of ranges.
    fn grants(&self, are_single: bool, see: &mut dyn FnMut(Item<'_>)) {
        for (first, last) in &self.grants {
            let end = Grant { port: *last, ..*first }.fields();
            match (first.port == *last, are_single) {
                (true, true) => see(Item::Element(&first.fields(), None, None)),
                (false, false) => see(Item::Element(&first.fields(), Some(&end), None)),
                _ => {}
            }
        }
    }
}

/// What there is of a table: a set, or what the set before it holds, a key or all keys up to another
/// one, and the number that it leads to.
enum Item<'a> {
    Set(Set),
    Element(&'a [Field<'a>], Option<&'a [Field<'a>]>, Option<u64>),
}

impl Grant {
    fn fields(self) -> [Field<'static>; 4] {
        let Self { class, protocol, peer, port } = self;
        [Field::Number(class), Field::Protocol(protocol), Field::Number(peer), Field::Port(port)]
    }
}

/// The name for a family.
fn of(family: Family, names: [&'static str; 2]) -> &'static str {
    let [v4, v6] = names;
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

/// A set, or a map of numbers where its elements lead to such or could.
fn following(name: &'static str, key: &[Type], ranges: Ranges) -> Item<'static> {
    let is_map = matches!(key, [Type::Address(_)] | [Type::Number, Type::Address(_)]);
    let (data, content) = (is_map.then_some(Data::Number), Content::Following(Elements::new()));
    Item::Set(Set { name, key: key.to_vec(), data, ranges, content })
}

/// Answers of connections that were cut: source, destination, protocol and both ports.
fn cut(family: Family) -> Set {
    let address = Type::Address(family);
    let key = vec![address, address, Type::Protocol, Type::Port, Type::Port];
    let content = Content::Passing(CUT_SECONDS);
    Set { name: of(family, CUT), key, data: None, ranges: Ranges::None, content }
}

fn numbers(family: Family, all: &Sorted<IpAddr, u64>, see: &mut dyn FnMut(Item<'_>)) {
    for (address, number) in all.iter().filter(|(address, _)| address.family() == family) {
        see(Item::Element(&[Field::Address(*address)], None, Some(*number)));
    }
}
