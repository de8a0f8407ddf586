//! The table of a fabric with tunnels: who may put packets into it. Pure.
//!
//! A tunnel of the kernel takes a packet from whoever sends it. So one of our
//! network identifier, or of protocol 4, is accepted from the peers alone. That
//! is not enough: behind another node's masquerade a pod comes as a peer. So
//! what host links send towards a tunnel is dropped on the pod's own node,
//! whether to this node or to another.

use std::{net::IpAddr, ops::RangeInclusive};

use super::error::Error;
use super::interval::Family;
use super::network::EARLY;
use super::table::{
    Chain, Content, Holds, Hook, Kind, Point, Rule, Set, Side, Table, Term, check_name,
};

/// IP in IP (IANA).
const PROTOCOL_IPIP: u8 = 4;

/// What is wanted of a fabric.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tunnel {
    /// The table's name.
    pub table: String,
    /// The interface groups of all host links.
    pub host_link_groups: RangeInclusive<u32>,
    /// How packets are carried.
    pub carrier: Carrier,
    /// Addresses of all other nodes. Where the list has none, another program (a BGP
    /// daemon) knows them, and packets are taken from everybody but pods.
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
            let ipv6 = matches!(family, Family::V6);
            let mut some: Vec<IpAddr> =
                all.iter().copied().filter(|address| address.is_ipv6() == ipv6).collect();
            some.sort_unstable();
            some.dedup();
            Set { name, content: Content::Following(family, some) }
        };
        let mut sets =
            vec![set("peers4", Family::V4, &self.peers), set("peers6", Family::V6, &self.peers)];
        if !self.peers.is_empty() {
            sets.extend([set("own4", Family::V4, &self.own), set("own6", Family::V6, &self.own)]);
        }
        let chains = vec![self.outward(), self.forward(), self.input()];
        let comment = "manx: tunnels between nodes".to_owned();
        Ok(Table { name: self.table.clone(), comment, sets, chains })
    }

    /// The packets of a tunnel, by their outer header.
    fn carried(&self) -> Vec<Term> {
        let port = match self.carrier {
            Carrier::Ipip => None,
            Carrier::Vxlan { port, .. } => Some(Term::UdpTo(port)),
        };
        port.into_iter().chain([Term::Protocol(PROTOCOL_IPIP)]).collect()
    }

    /// Few packets go on from here: what is asked of all is only the protocol.
    fn forward(&self) -> Chain {
        let leads = |term| Rule(vec![term, Term::Goto("outward")]);
        Chain {
            name: "forward",
            hook: Some(Hook { kind: Kind::Filter, point: Point::Forward, priority: EARLY }),
            rules: self.carried().into_iter().map(leads).collect(),
        }
    }

    fn outward(&self) -> Chain {
        let rule = |family, set| {
            Rule(vec![
                Term::FromGroups(self.host_link_groups.clone()),
                Term::Address(Side::Destination, family, Holds::Is, set),
                Term::Drop,
            ])
        };
        let rules = vec![rule(Family::V4, "peers4"), rule(Family::V6, "peers6")];
        Chain { name: "outward", hook: None, rules }
    }

    fn input(&self) -> Chain {
        let from_pods = self.carried().into_iter().map(|term| {
            Rule(vec![term, Term::FromGroups(self.host_link_groups.clone()), Term::Drop])
        });
        let strangers = |terms: &[Term], family, peers, own| {
            let unless = |side, set| {
                let stranger = [Term::Address(side, family, Holds::IsNot, set), Term::Drop];
                Rule([terms, &stranger].concat())
            };
            [unless(Side::Source, peers), unless(Side::Destination, own)]
        };
        let mut rules: Vec<Rule> = from_pods.collect();
        match self.carrier {
            _ if self.peers.is_empty() => {}
            Carrier::Ipip => {
                let ours = [Term::Protocol(PROTOCOL_IPIP)];
                rules.extend(strangers(&ours, Family::V4, "peers4", "own4"));
            }
            Carrier::Vxlan { port, vni } => {
                let ours = [Term::UdpTo(port), Term::Vni(vni)];
                rules.extend(strangers(&ours, Family::V4, "peers4", "own4"));
                rules.extend(strangers(&ours, Family::V6, "peers6", "own6"));
            }
        }
        Chain {
            name: "input",
            hook: Some(Hook { kind: Kind::Filter, point: Point::Input, priority: EARLY }),
            rules,
        }
    }
}
