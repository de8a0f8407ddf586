// SPDX-License-Identifier: Apache-2.0
//! The table of a fabric with tunnels: who may put packets into it. Pure.
//!
//! A tunnel of the kernel takes a packet from whoever sends it. So one of our
//! network identifier, or of protocol 4, is accepted from the peers alone. That
//! is not enough: behind another node's masquerade a pod comes as a peer. So
//! what host links send towards a tunnel is dropped on the pod's own node,
//! whether to this node or to another.

use std::{net::IpAddr, ops::RangeInclusive};

use super::error::Error;
use super::key::{Load, Part};
use super::network::EARLY;
use super::set::{Content, Elements, Field, Key, Ranges, Set, Type, Verdict};
use super::side::Side;
use super::table::{Chain, Holds, Hook, Kind, Point, Rule, Table, Term, check_name};
use crate::family::{Family, HasFamily};
use crate::list::{Gather, PushAll};

/// IP in IP (IANA).
const PROTOCOL_IPIP: u8 = 4;
/// UDP (IANA).
const PROTOCOL_UDP: u8 = 17;

/// What is wanted of a fabric.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tunnel {
    /// The table's name.
    pub table: String,
    /// The interface groups of all host links.
    pub host_link_groups: RangeInclusive<u32>,
    /// How packets are carried, and may be besides while that changes.
    pub carriers: Vec<Carrier>,
    /// Addresses of all other nodes. Of IP in IP another program (a BGP daemon) knows
    /// them where the list has none, and packets are taken from everybody but pods.
    /// Of VXLAN nobody else does: without peers no packet is taken.
    pub peers: Vec<IpAddr>,
    /// Addresses of this node that peers send to. A tunnel of the kernel listens on
    /// all that the node has, and another node's pods are kept from these alone.
    pub own: Vec<IpAddr>,
}

/// What a tunnel's packets are told by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Carrier {
    /// IP in IP.
    Ipip,
    /// VXLAN; others may use the port with another network identifier.
    Vxlan {
        /// UDP port.
        port: u16,
        /// Network identifier.
        vni: u32,
    },
}

impl Tunnel {
    /// The description, or why there cannot be one.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn describe(&self) -> Result<Table, Error> {
        check_name(&self.table)?;
        let set = |name, family, all: &[IpAddr]| {
            let mut some = Elements::new();
            for address in all.iter().filter(|address| address.family() == family) {
                some.insert(Key::of(&[Field::Address(*address)]), None);
            }
            Set {
                name,
                key: vec![Type::Address(family)],
                data: None,
                ranges: Ranges::None,
                content: Content::Following(some),
            }
        };
        let mut sets =
            vec![set("peers4", Family::V4, &self.peers), set("peers6", Family::V6, &self.peers)];
        if self.carriers.iter().any(|carrier| self.knows_peers(*carrier)) {
            sets.push_all([set("own4", Family::V4, &self.own), set("own6", Family::V6, &self.own)]);
        }
        let mut chains = vec![self.outward(), self.forward()];
        if self.vxlans().next().is_some() {
            chains.push(self.fragments());
        }
        chains.push(self.input());
        let comment = "manx: tunnels between nodes".to_owned();
        Ok(Table { name: self.table.clone(), comment, sets, chains, number: None })
    }

    fn knows_peers(&self, carrier: Carrier) -> bool {
        !self.peers.is_empty() || matches!(carrier, Carrier::Vxlan { .. })
    }

    /// Port and network identifier of each.
    fn vxlans(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        self.carriers.iter().filter_map(|carrier| match carrier {
            Carrier::Vxlan { port, vni } => Some((*port, *vni)),
            Carrier::Ipip => None,
        })
    }

    /// The packets of a tunnel, by their outer header.
    fn carried(&self) -> Vec<Term> {
        let mut ports: Vec<u16> = self.vxlans().map(|(port, _)| port).gather();
        ports.dedup();
        let ports = ports.into_iter().map(|port| Term::UdpTo(Holds::Is, port));
        ports.chain([Term::Protocol(Holds::Is, PROTOCOL_IPIP)]).gather()
    }

    /// Few packets go on from here: what is asked of all is only the protocol.
    fn forward(&self) -> Chain {
        let leads = |term| Rule(vec![term, Term::End(Verdict::Goto("outward"))]);
        Chain {
            name: "forward",
            hook: Some(Hook { kind: Kind::Filter, point: Point::Forward, priority: EARLY }),
            rules: self.carried().into_iter().map(leads).gather(),
        }
    }

    fn outward(&self) -> Chain {
        let rule = |family, set| {
            Rule(vec![
                Term::FromGroups(self.host_link_groups.clone()),
                Term::Among(address(Side::Destination, family), Holds::Is, set),
                Term::End(Verdict::Drop),
            ])
        };
        let rules = vec![rule(Family::V4, "peers4"), rule(Family::V6, "peers6")];
        Chain { name: "outward", hook: None, rules }
    }

    fn input(&self) -> Chain {
        let from_pods = self.carried().into_iter().map(|term| {
            Rule(vec![
                term,
                Term::FromGroups(self.host_link_groups.clone()),
                Term::End(Verdict::Drop),
            ])
        });
        let strangers = |terms: &[Term], family: Family, end: Term| {
            let (peers, own) = match family {
                Family::V4 => ("peers4", "own4"),
                Family::V6 => ("peers6", "own6"),
            };
            [(Side::Source, peers), (Side::Destination, own)].map(|(side, set)| {
                let stranger = Term::Among(address(side, family), Holds::IsNot, set);
                Rule([terms, &[stranger, end.clone()]].concat())
            })
        };
        let drop = || Term::End(Verdict::Drop);
        let mut rules: Vec<Rule> = from_pods.gather();
        for carrier in self.carriers.iter().filter(|carrier| self.knows_peers(**carrier)) {
            match *carrier {
                Carrier::Ipip => {
                    let ours = [Term::Protocol(Holds::Is, PROTOCOL_IPIP)];
                    rules.push_all(strangers(&ours, Family::V4, drop()));
                }
                Carrier::Vxlan { port, vni } => {
                    let ours = [Term::UdpTo(Holds::Is, port), Term::Vni(Holds::Is, vni)];
                    rules.push_all(strangers(&ours, Family::V4, drop()));
                    rules.push_all(strangers(&ours, Family::V6, drop()));
                }
            }
        }
        if self.vxlans().next().is_some() {
            let end = Term::End(Verdict::Goto("fragments"));
            rules.push_all(strangers(&[Term::FirstFragment], Family::V6, end));
        }
        Chain {
            name: "input",
            hook: Some(Hook { kind: Kind::Filter, point: Point::Input, priority: EARLY }),
            rules,
        }
    }

    /// Fragments of IPv6 are put together behind the hook input, where no conntrack does it
    /// before. The first may end ahead of the network identifier, or even of the port: then
    /// what asks for it does not hold, whichever way it asks. So strangers' first fragments
    /// go on where they tell that they are not ours, and are dropped otherwise. Without its
    /// first fragment no packet comes of the others.
    fn fragments(&self) -> Chain {
        let end = |terms: Vec<Term>| Rule([terms, vec![Term::End(Verdict::Return)]].concat());
        let mut ports: Vec<u16> = self.vxlans().map(|(port, _)| port).gather();
        ports.dedup();
        let to_others = ports.into_iter().map(|port| Term::UdpTo(Holds::IsNot, port));
        let of_others = self.vxlans().map(|(_, vni)| Term::Vni(Holds::IsNot, vni));
        let udp = [Term::Protocol(Holds::Is, PROTOCOL_UDP)].into_iter();
        let rules = vec![
            end(vec![Term::Protocol(Holds::IsNot, PROTOCOL_UDP)]),
            end(to_others.gather()),
            end(udp.chain(of_others).gather()),
            Rule(vec![Term::End(Verdict::Drop)]),
        ];
        Chain { name: "fragments", hook: None, rules }
    }
}

fn address(side: Side, family: Family) -> Vec<Part> {
    vec![Part::Of(Load::Address(side, family))]
}
