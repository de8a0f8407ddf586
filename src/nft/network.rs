// SPDX-License-Identifier: Apache-2.0
//! The table of one network: whose source becomes the node's (masquerade), and
//! which packets of its pods are not believed (guard). Pure.
//!
//! Pods are told by the interface group of their host links and everything else
//! is constant, so no pod adds anything. Facts of the kernel that shape it:
//!
//! * In `postrouting` a rule sees the interface that a packet came in by from
//!   Linux 5.7 on. A packet of the node itself has none. Then `iifgroup` does not
//!   compare as unequal: it ends the rule (`NFT_BREAK`, net/netfilter/nft_meta.c).
//!   So the group is asked for where it must match. A first rule `iifgroup != G
//!   return` would let the node's own packets fall through to the masquerade.
//! * `fib saddr . iif oif` looks up the way back and passes what has none by
//!   design: duplicate address detection and MLD from `::`, DHCP and IGMP from
//!   0.0.0.0 (`nft_fib_v6_skip_icmpv6`, `nft_fib4_eval`). An address of the node
//!   counts as missing.
//! * The check stands in `forward` and `input`, of which each packet meets one.
//!   There the source is still what the pod sent: what translated it for answers
//!   comes at priority 100 of `input` or in `postrouting`.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use ipnetwork::IpNetwork;

use super::abi::NF_IP_PRI_NAT_SRC;
use super::constant::{Constant, Digest, digest};
use super::error::Error;
use super::key::{Load, Part};
use super::seal::Seal;
use super::set::{Content, Ranges, Set, Type, Verdict};
use super::side::Side;
use super::table::{Chain, Holds, Hook, Kind, Point, Rule, Table, Term, check_name};
use crate::family::Family;
use crate::list::PushAll;

/// Never translated, whatever the caller says: fe80::/10 does not leave its link
/// (RFC 4291 §2.5.6), and a group is no peer. IPv4's link-local networks are:
/// 169.254.169.254 is how a cloud calls its metadata service, and it answers
/// the node alone.
const ALWAYS_NEVER: [&str; 4] = ["224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8"];

/// Before filters of others, which may accept.
pub(super) const EARLY: i32 = -10;
/// After the translation of answers.
const AFTER_NAT: i32 = NF_IP_PRI_NAT_SRC + 10;

/// The chain of sources that do not lead back to their link.
pub(super) const STRANGER: &str = "stranger";

const ICMP_REDIRECT: u8 = 5;
const ICMPV6_ROUTER_ADVERTISEMENT: u8 = 134;
const ICMPV6_REDIRECT: u8 = 137;

/// What is wanted of the pods of one network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Network {
    /// The table's name, such as `manx-NETWORK`.
    pub table: String,
    /// The interface group (`IFLA_GROUP`) of the network's host links.
    pub group: u32,
    /// The interface groups of all host links, of whatever network. Traffic that
    /// leaves by one of them keeps its source.
    pub host_link_groups: RangeInclusive<u32>,
    /// What its pods send elsewhere leaves with the node's address.
    pub masquerade: Option<Masquerade>,
    /// What is not believed of its pods.
    pub guard: Guard,
}

/// Destinations that see the pods' own addresses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Masquerade {
    /// Networks, which may overlap. Multicast and broadcast destinations and
    /// IPv6's link-local ones are added.
    pub never: Vec<IpNetwork>,
    /// Those of the pods of all nodes, of which there may be thousands.
    pub pods: Vec<IpNetwork>,
    /// The pods' next hop, which is no destination beyond the node.
    pub next_hop: Ipv4Addr,
}

/// How closely a network's pods are looked at.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Guard {
    /// Not at all.
    Off,
    /// No loopback addresses, router advertisements or redirects.
    Loopback,
    /// Also no source that does not lead back to the link.
    Sources,
}

impl Network {
    /// The description, or why there cannot be one.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn describe(&self) -> Result<Table, Error> {
        let pods = self.masquerade.as_ref().map(|it| it.pods.as_slice()).unwrap_or_default();
        self.with(pods, &digest(pods))
    }

    /// How the table is known again where the pods' networks are those of this digest.
    /// [`Masquerade::pods`] is not looked at.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn seal(&self, pods: &Digest) -> Result<Seal, Error> {
        Ok(self.with(&[], pods)?.seal())
    }

    fn with(&self, pods: &[IpNetwork], of_pods: &Digest) -> Result<Table, Error> {
        check_name(&self.table)?;
        if self.host_link_groups.is_empty() {
            let why = format!("the range of link groups {:?} is empty", self.host_link_groups);
            return Err(Error::invalid(&self.table, why));
        }
        let (mut sets, mut chains) = (Vec::new(), Vec::new());
        if self.guard == Guard::Sources {
            chains.push(stranger());
            sets.push_all([allowed("allowed4", Family::V4), allowed("allowed6", Family::V6)]);
        }
        if self.guard != Guard::Off {
            chains.push_all([self.to_node(), self.forward(), self.input(), self.loopback()]);
        }
        if let Some(masquerade) = &self.masquerade {
            let mut never = masquerade.never.clone();
            never.push(IpNetwork::from(std::net::IpAddr::from(masquerade.next_hop)));
            never.push_all(ALWAYS_NEVER.iter().filter_map(|text| text.parse::<IpNetwork>().ok()));
            let set = |name, family| Set {
                name,
                key: vec![Type::Address(family)],
                data: None,
                ranges: Ranges::Last,
                content: Content::Constant(Constant::of(family, &never, (pods, of_pods))),
            };
            sets.push_all([set("never4", Family::V4), set("never6", Family::V6)]);
            chains.push(self.postrouting());
        }
        let comment = format!("manx: links of group {}", self.group);
        Ok(Table { name: self.table.clone(), comment, sets, chains, number: None })
    }

    /// The rule that every forwarded packet of a pod meets: the fewer terms the
    /// better.
    fn forward(&self) -> Chain {
        let mut terms = vec![Term::FromGroup(self.group)];
        terms.push_all(match self.guard {
            Guard::Sources => [Term::NoWayBack, Term::End(Verdict::Goto(STRANGER))],
            _ => [Term::Loopback(Side::Source, Holds::Is), Term::End(Verdict::Drop)],
        });
        Chain {
            name: "forward",
            hook: Some(Hook { kind: Kind::Filter, point: Point::Forward, priority: EARLY }),
            rules: vec![Rule(terms)],
        }
    }

    /// What pods say to the node itself. One question to all other packets.
    fn input(&self) -> Chain {
        Chain {
            name: "input",
            hook: Some(Hook { kind: Kind::Filter, point: Point::Input, priority: EARLY }),
            rules: vec![Rule(vec![
                Term::FromGroup(self.group),
                Term::End(Verdict::Goto("to_node")),
            ])],
        }
    }

    fn to_node(&self) -> Chain {
        let drop = |term| Rule(vec![term, Term::End(Verdict::Drop)]);
        let mut rules = vec![
            drop(Term::IcmpType(Family::V4, ICMP_REDIRECT)),
            drop(Term::IcmpType(Family::V6, ICMPV6_ROUTER_ADVERTISEMENT)),
            drop(Term::IcmpType(Family::V6, ICMPV6_REDIRECT)),
        ];
        rules.push(match self.guard {
            Guard::Sources => Rule(vec![Term::NoWayBack, Term::End(Verdict::Goto(STRANGER))]),
            _ => drop(Term::Loopback(Side::Source, Holds::Is)),
        });
        Chain { name: "to_node", hook: None, rules }
    }

    /// Where a chained plugin has set route_localnet, a pod could reach what
    /// listens on 127.0.0.1. An answer to the node that came by 127.0.0.1 and a
    /// port of the node is towards it too. Its source was translated by now.
    fn loopback(&self) -> Chain {
        let rule = Rule(vec![
            Term::FromGroup(self.group),
            Term::Loopback(Side::Destination, Holds::Is),
            Term::Loopback(Side::Source, Holds::IsNot),
            Term::End(Verdict::Drop),
        ]);
        Chain {
            name: "loopback",
            hook: Some(Hook { kind: Kind::Filter, point: Point::Input, priority: AFTER_NAT }),
            rules: vec![rule],
        }
    }

    fn postrouting(&self) -> Chain {
        let never = |family, set| {
            let key = vec![Part::Of(Load::Address(Side::Destination, family))];
            Rule(vec![Term::Among(key, Holds::Is, set), Term::End(Verdict::Return)])
        };
        Chain {
            name: "postrouting",
            hook: Some(Hook {
                kind: Kind::Nat,
                point: Point::Postrouting,
                priority: NF_IP_PRI_NAT_SRC,
            }),
            rules: vec![
                Rule(vec![
                    Term::ToGroups(self.host_link_groups.clone()),
                    Term::End(Verdict::Return),
                ]),
                never(Family::V4, "never4"),
                never(Family::V6, "never6"),
                Rule(vec![Term::FromGroup(self.group), Term::Masquerade]),
            ],
        }
    }
}

/// Pairs of a link and a network, of which others add.
fn allowed(name: &'static str, family: Family) -> Set {
    let key = vec![Type::Name, Type::Address(family)];
    Set { name, key, data: None, ranges: Ranges::Each, content: Content::Open }
}

/// Sources that do not lead back to their link: only those that somebody added
/// may pass, and no loopback address by any means.
fn stranger() -> Chain {
    let allowed = |family, set| {
        let source = Part::Of(Load::Address(Side::Source, family));
        let key = vec![Part::Of(Load::IncomingName), source];
        Rule(vec![Term::Among(key, Holds::Is, set), Term::End(Verdict::Return)])
    };
    Chain {
        name: STRANGER,
        hook: None,
        rules: vec![
            Rule(vec![Term::Loopback(Side::Source, Holds::Is), Term::End(Verdict::Drop)]),
            allowed(Family::V4, "allowed4"),
            allowed(Family::V6, "allowed6"),
            Rule(vec![Term::Count, Term::End(Verdict::Drop)]),
        ],
    }
}
