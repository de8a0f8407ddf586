// SPDX-License-Identifier: Apache-2.0
//! What becomes of packets that no policy allows: they are counted for the pod that is
//! isolated, maybe told of, and dropped or rejected.
//!
//! The count is the kernel's, of the element by which a rule finds the pod, which stays
//! while the pod's class changes. A pod without such an element is held all the same, by
//! the rule behind.

use std::net::IpAddr;

use super::super::counted::{counted, packets_of_chains};
use super::super::error::Error;
use super::super::set::{Content, Elements, Field, Key, Ranges, Set, Type, Verdict};
use super::super::snapshot::elements_question;
use super::super::socket::Socket;
use super::super::table::{Answer, Chain, Holds, Rule, Term};
use super::super::{ATTEMPTS, accepts};
use super::held::{address, family_of};
use super::{Assigned, Direction, Policies, of};
use crate::family::{Family, HasFamily};
use crate::list::{Gather, PushAll};

/// Where denied packets are rejected.
pub(super) const REJECT: &str = "reject";
/// By how many rules.
pub(super) const REJECT_RULES: usize = 2;
/// So many packets a second are told of at most, of each direction and family, and so many
/// more at once.
const LOG_RATE: u64 = 10;
const LOG_BURST: u32 = 20;
const TCP: u8 = 6;

/// How packets are denied that no policy allows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Denial {
    /// They are counted for each pod. Kernels before 5.7 cannot.
    pub counts: bool,
    /// Their senders are told so: by a reset of TCP, or by ICMP.
    pub rejects: bool,
    /// The group of NFLOG that some of them are sent to.
    pub log: Option<u16>,
}

/// What was dropped of a pod's packets in a direction since its rules were made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dropped {
    /// The pod's address.
    pub address: IpAddr,
    /// In which direction it is isolated.
    pub direction: Direction,
    /// How many packets.
    pub packets: u64,
    /// Their length.
    pub bytes: u64,
}

impl Default for Denial {
    /// Packets are dropped.
    fn default() -> Self {
        Self { counts: true, ..Self::PLAIN }
    }
}

impl Denial {
    /// What every kernel can that can anything of this.
    const PLAIN: Self = Self { counts: false, rejects: false, log: None };

    /// What of it is possible by what alone is: everything, where not even [`PLAIN`](Self::PLAIN)
    /// is, for then it is something else that fails.
    fn possible(self, is_possible: &mut dyn FnMut(Self) -> bool) -> Self {
        let plain = Self::PLAIN;
        if !is_possible(plain) {
            return self;
        }
        Self {
            counts: self.counts && is_possible(Self { counts: true, ..plain }),
            rejects: self.rejects && is_possible(Self { rejects: true, ..plain }),
            log: self.log.filter(|group| is_possible(Self { log: Some(*group), ..plain })),
        }
    }

    /// What this one lacks of another, in words.
    pub fn lacks(self, other: Self) -> Vec<&'static str> {
        let all = [
            (self.counts, other.counts, "counted for each pod"),
            (self.rejects, other.rejects, "rejected"),
            (self.log.is_some(), other.log.is_some(), "logged"),
        ];
        all.into_iter().filter(|(has, had, _)| had & !has).map(|(.., word)| word).gather()
    }

    /// What ends a packet.
    fn end(self) -> Term {
        Term::End(if self.rejects { Verdict::Goto(REJECT) } else { Verdict::Drop })
    }

    /// Where a packet ends that is rejected, if any is.
    pub(super) fn reject_chain(self) -> Option<Chain> {
        let reset = Rule(vec![Term::Protocol(Holds::Is, TCP), Term::Reject(Answer::Reset)]);
        let rules = vec![reset, Rule(vec![Term::Reject(Answer::Prohibited)])];
        self.rejects.then_some(Chain { name: REJECT, hook: None, rules })
    }

    /// What becomes of packets of isolated pods that nothing allowed.
    pub(super) fn rules(self, direction: Direction, family: Family) -> Vec<Rule> {
        let is_isolated = || Term::Has(direction.class(family));
        let mut rules = Vec::new();
        if let Some(group) = self.log {
            let log = Term::Log(group, direction.names().log);
            rules.push(Rule(vec![is_isolated(), Term::Limit(LOG_RATE, LOG_BURST), log]));
        }
        if self.counts {
            let pod = vec![direction.pod(family)];
            let counted = Term::Among(pod, Holds::Is, of(family, direction.names().drops));
            rules.push(Rule(vec![is_isolated(), counted, Term::Count, self.end()]));
        }
        rules.push(Rule(vec![is_isolated(), Term::Count, self.end()]));
        rules
    }
}

impl Policies {
    /// What counts for each pod.
    pub(super) fn drops(&self, family: Family, direction: Direction) -> Set {
        let mut elements = Elements::new();
        let pods = self.way(direction).classes.keys();
        for address in pods.filter(|address| address.family() == family) {
            elements.insert(Key::of(&[Field::Address(*address)]), None);
        }
        let (name, key) = (of(family, direction.names().drops), vec![Type::Address(family)]);
        let content = Content::Counted(elements);
        Set { name, key, data: None, ranges: Ranges::None, content }
    }

    /// As much of the way in which packets are to be denied as the kernel takes. Changes
    /// nothing.
    pub fn possible_denial(&self) -> Denial {
        self.denial.possible(&mut |denial| {
            let table = format!("{}.try", self.table);
            let mut policies = Self { table, denial, ..Self::default() };
            policies.assign([127, 0, 0, 1].into(), &Assigned::CLOSED);
            policies.describe().is_ok_and(|table| accepts(&table).is_ok())
        })
    }

    /// What was dropped of each pod's packets, as the kernel's table counts it; none where
    /// there is no such table, or it does not count.
    ///
    /// # Errors
    /// Of the kernel's answers; [`Error::Invalid`].
    pub fn dropped(&self) -> Result<Vec<Dropped>, Error> {
        let table = self.without_rules()?;
        let mut socket = Socket::open()?;
        let mut all = Vec::new();
        for (direction, family) in Direction::EACH {
            let name = of(family, direction.names().drops);
            let Some(set) = table.sets.iter().find(|set| set.name == name) else { continue };
            let mut objects = Vec::new();
            for _ in 0..ATTEMPTS {
                let replies = socket.replies(&[elements_question(&table, set)])?;
                let is_torn = replies.iter().any(|reply| reply.is_torn());
                objects = replies.into_iter().flat_map(|reply| reply.objects).gather();
                if !is_torn {
                    break;
                }
            }
            for (key, [packets, bytes]) in objects.iter().flat_map(|object| counted(object)) {
                let address = address(family_of(name), key);
                let of = |address| Dropped { address, direction, packets, bytes };
                all.push_all(address.map(of));
            }
        }
        Ok(all)
    }

    /// How many packets were denied in each direction, in the order of
    /// [`Direction::BOTH`], since the rules were made; none where there is no such table.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn denied(&self) -> Result<[Option<u64>; 2], Error> {
        let [egress, ingress] = Direction::both(|direction| direction.names().chain);
        let of = |chains: [&str; 2]| packets_of_chains(&self.table, &chains);
        Ok([of(egress)?, of(ingress)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Denial = Denial { counts: true, rejects: true, log: Some(5) };

    #[test]
    fn what_a_kernel_does_not_take_is_left_out() {
        let possible = |takes: &dyn Fn(Denial) -> bool| ALL.possible(&mut |one| takes(one));
        assert_eq!(possible(&|_| true), ALL);
        assert_eq!(possible(&|one| !one.counts), Denial { counts: false, ..ALL });
        assert_eq!(possible(&|one| !one.rejects), Denial { rejects: false, ..ALL });
        assert_eq!(possible(&|one| one.log.is_none()), Denial { log: None, ..ALL });
        assert_eq!(possible(&|one| one == Denial::PLAIN), Denial::PLAIN);
        // Nobody may change anything, say.
        assert_eq!(possible(&|_| false), ALL);
        let mut asked = Vec::new();
        let default = Denial::default();
        assert_eq!(default.possible(&mut |one| (asked.push(one), true).1), default);
        assert_eq!(asked, [Denial::PLAIN, default], "what is not wanted is not asked for");
    }

    #[test]
    fn what_is_left_out_is_told() {
        assert_eq!(Denial::PLAIN.lacks(ALL), ["counted for each pod", "rejected", "logged"]);
        assert_eq!(ALL.lacks(Denial::PLAIN), [""; 0]);
    }
}
