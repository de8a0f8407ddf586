// SPDX-License-Identifier: Apache-2.0
//! The rules of the table of network policies. They depend on how packets are denied, and on
//! nothing else: what changes with policies and pods are elements.

use super::super::key::{Load, Part};
use super::super::set::Verdict;
use super::super::side::Side;
use super::super::table::{Chain, ESTABLISHED, Holds, Hook, Kind, Point, RELATED, Rule, Term};
use super::{CUT, Denial, Direction, IDENTITY, LOOKUPS, OWN, Peer, Ports, of};
use crate::family::Family;
use crate::list::{Gather, PushAll};

/// What is asked before anything else: a pod that a policy names, at a port of its own.
const FIRST: (Peer, Ports) = (Peer::Identity, Ports::One);

/// Where packets come in.
pub(super) const ENTRY: &str = "forward";
pub(super) const HOOK: Hook = Hook { kind: Kind::Filter, point: Point::Forward, priority: 0 };
/// Where packets are judged in the second direction.
pub(super) const INGRESS_ENTRY: &str = "ingress";

impl Direction {
    /// Which address of a packet is the isolated pod's.
    fn pods(self) -> Side {
        match self {
            Self::Egress => Side::Source,
            Self::Ingress => Side::Destination,
        }
    }

    fn peers(self) -> Side {
        match self {
            Self::Egress => Side::Destination,
            Self::Ingress => Side::Source,
        }
    }

    /// What becomes of an allowed packet: it is judged in the other direction, or is
    /// through.
    fn allowed(self) -> Verdict {
        match self {
            Self::Egress => Verdict::Goto(INGRESS_ENTRY),
            Self::Ingress => Verdict::Accept,
        }
    }

    pub(super) fn pod(self, family: Family) -> Part {
        Part::Of(Load::Address(self.pods(), family))
    }

    fn peer(self, family: Family) -> Part {
        Part::Of(Load::Address(self.peers(), family))
    }

    pub(super) fn class(self, family: Family) -> Part {
        Part::Mapped(vec![self.pod(family)], of(family, self.names().class))
    }

    /// For each family what most allowed packets pass by, and behind it what leads isolated
    /// pods to where everything is asked. So that such a packet pays for no other lookup.
    fn entry(self) -> impl Iterator<Item = Rule> {
        let of_family = move |family| {
            let (peer, ports) = FIRST;
            let chain = of(family, self.names().chain);
            let lead = vec![Term::Has(self.class(family)), Term::End(Verdict::Jump(chain))];
            [self.lookup(family, peer, ports), Rule(lead)]
        };
        Family::BOTH.into_iter().flat_map(of_family)
    }

    /// The chain of one family: whoever is isolated gets no further than what is allowed. It is
    /// asked twice: a packet whose class was read before a change and its peer's identity
    /// behind it may be known by neither world, and the second time it is by the new one. Who has lost
    /// its class meanwhile is no longer isolated.
    fn chain(self, family: Family, denial: Denial) -> Chain {
        let ask = Rule(vec![Term::End(Verdict::Jump(of(family, self.names().allowed)))]);
        let mut rules = vec![ask.clone(), ask];
        rules.push_all(denial.rules(self, family));
        Chain { name: of(family, self.names().chain), hook: None, rules }
    }

    /// What is allowed, of one family.
    fn lookups(self, family: Family) -> Chain {
        let names = self.names();
        let mut rules: Vec<Rule> =
            LOOKUPS.into_iter().map(|(peer, ports)| self.lookup(family, peer, ports)).gather();
        rules.push(self.allow(vec![self.pod(family), self.peer(family)], of(family, OWN)));
        Chain { name: of(family, names.allowed), hook: None, rules }
    }

    fn lookup(self, family: Family, peer: Peer, ports: Ports) -> Rule {
        let names = self.names();
        let set = if ports == Ports::Range { names.range } else { names.grant };
        self.allow(self.key(family, peer, ports), set)
    }

    /// What has that key in the set is allowed.
    fn allow(self, key: Vec<Part>, set: &'static str) -> Rule {
        Rule(vec![Term::Among(key, Holds::Is, set), Term::End(self.allowed())])
    }

    fn key(self, family: Family, peer: Peer, ports: Ports) -> Vec<Part> {
        let any = Part::Number(0);
        let (protocol, port) = match ports {
            Ports::All => (any.clone(), any.clone()),
            Ports::One | Ports::Range => {
                (Part::Of(Load::Protocol), Part::Of(Load::Port(Side::Destination)))
            }
        };
        let network = of(family, self.names().network);
        let peer = match peer {
            Peer::Identity => Part::Mapped(vec![self.peer(family)], of(family, IDENTITY)),
            Peer::Anybody => any,
            Peer::Network => Part::Mapped(vec![self.class(family), self.peer(family)], network),
        };
        vec![self.class(family), protocol, peer, port]
    }
}

impl Denial {
    /// All rules where packets are denied in this way.
    pub(super) fn chains(self) -> Vec<Chain> {
        let mut chains = Vec::from_iter(self.reject_chain());
        let mut entry =
            vec![Rule(vec![Term::State(ESTABLISHED | RELATED), Term::End(Verdict::Accept)])];
        for family in Family::BOTH {
            let key = vec![
                Part::Of(Load::Address(Side::Source, family)),
                Part::Of(Load::Address(Side::Destination, family)),
                Part::Of(Load::Protocol),
                Part::Of(Load::Port(Side::Source)),
                Part::Of(Load::Port(Side::Destination)),
            ];
            let is_cut = Term::Among(key, Holds::Is, of(family, CUT));
            entry.push(Rule(vec![is_cut, Term::End(Verdict::Drop)]));
        }
        for (direction, family) in Direction::EACH {
            let judged = direction.chain(family, self);
            chains.push_all([direction.lookups(family), judged]);
        }
        entry.push_all(Direction::Egress.entry());
        entry.push(Rule(vec![Term::End(Verdict::Goto(INGRESS_ENTRY))]));
        let mut ingress: Vec<Rule> = Direction::Ingress.entry().gather();
        ingress.push(Rule(vec![Term::End(Verdict::Accept)]));
        chains.push(Chain { name: INGRESS_ENTRY, hook: None, rules: ingress });
        chains.push(Chain { name: ENTRY, hook: Some(HOOK), rules: entry });
        chains
    }
}
