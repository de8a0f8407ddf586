// SPDX-License-Identifier: Apache-2.0
//! What the rules of network policies are known by: all that they depend on is how packets are
//! denied.

use super::super::error::Error;
use super::super::outline::{ChainOutline, Outline};
use super::super::table::Table;
use super::denial::{REJECT, REJECT_RULES};
use super::rules::{ENTRY, HOOK, INGRESS_ENTRY};
use super::{Denial, Direction, LOOKUPS, Policies, of};
use crate::family::Family;

/// Of all rules, chains and sets that can be: another one where what the kernel is sent for any
/// of them changes, so that a table that was made in the former way is made anew.
const RULES_VERSION: u32 = 1;
/// The bits below it: a group of NFLOG, and whether there is one.
const LOGS: u64 = 1 << 16;
const REJECTS: u64 = 1 << 17;
const COUNTS: u64 = 1 << 18;

/// So often each direction is asked in the chain of a family before a packet is denied.
const ASKED: usize = 2;
/// Rules of each direction and family: what a class is allowed, and a pod of itself.
const ALLOWED: usize = LOOKUPS.len() + 1;
const FAMILIES: usize = Family::BOTH.len();
/// Rules by which each direction begins, of each family.
const BEGINNING: usize = 2;

impl Denial {
    /// A number for the rules of this way to deny packets; any other way has another number.
    pub(super) fn rules_number(self) -> u64 {
        let Self { counts, rejects, log } = self;
        let flag = |holds, flag| if holds { flag } else { 0 };
        let log = log.map_or(0, |group| LOGS | u64::from(group));
        u64::from(RULES_VERSION) << u32::BITS | flag(counts, COUNTS) | flag(rejects, REJECTS) | log
    }

    /// Rules by which a packet ends that nothing allows, of each direction and family.
    fn ends(self) -> usize {
        1 + usize::from(self.counts)
    }

    /// The chains, in the order of [`Denial::chains`].
    fn outlines(self) -> Vec<ChainOutline> {
        let chain = |name, rules, led_to| ChainOutline {
            name,
            hook: (name == ENTRY).then_some(HOOK),
            rules,
            uses: rules + led_to,
        };
        let mut chains = Vec::with_capacity(11);
        if self.rejects {
            chains.push(chain(REJECT, REJECT_RULES, Direction::EACH.len() * self.ends()));
        }
        for (direction, family) in Direction::EACH {
            let names = direction.names();
            let judged = ASKED + usize::from(self.log.is_some()) + self.ends();
            chains.push(chain(of(family, names.allowed), ALLOWED, ASKED));
            chains.push(chain(of(family, names.chain), judged, 1));
        }
        // All that egress allows goes on to ingress, and so does what it does not isolate.
        let beginning = FAMILIES * BEGINNING;
        chains.push(chain(INGRESS_ENTRY, beginning + 1, FAMILIES * (1 + ALLOWED) + 1));
        // What is established, and what was cut.
        chains.push(chain(ENTRY, 1 + FAMILIES + beginning + 1, 0));
        chains
    }
}

impl Policies {
    /// The table without its rules, and what these are known by.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub(super) fn outlined(&self) -> Result<(Table, Outline), Error> {
        let table = self.without_rules()?;
        let outline = Outline::of(&table, self.denial.outlines());
        Ok((table, outline))
    }
}

#[cfg(test)]
mod tests {
    use sha1_smol::Sha1;

    use super::super::super::set::Verdict;
    use super::super::super::table::{Chain, Rule, Term};
    use super::*;

    fn each() -> impl Iterator<Item = Policies> {
        let kinds = [false, true].into_iter().flat_map(|counts| {
            [false, true].into_iter().flat_map(move |rejects| {
                [None, Some(0), Some(5)].map(|log| Denial { counts, rejects, log })
            })
        });
        kinds.map(|denial| Policies { table: "manx.policy".into(), denial, ..Policies::default() })
    }

    /// How often rules lead to a chain.
    fn leads(table: &Table, chain: &Chain) -> usize {
        let is_one = |term: &&Term| match term {
            Term::End(Verdict::Goto(other) | Verdict::Jump(other)) => *other == chain.name,
            _ => false,
        };
        table.rules().map(|(_, Rule(terms))| terms.iter().filter(is_one).count()).sum()
    }

    #[test]
    fn an_outline_is_that_of_the_rules() {
        for policies in each() {
            let described = policies.describe().unwrap();
            let (table, outline) = policies.outlined().unwrap();
            let chains = described.chains.iter().map(|chain| ChainOutline {
                name: chain.name,
                hook: chain.hook,
                rules: chain.rules.len(),
                uses: chain.rules.len() + leads(&described, chain),
            });
            assert_eq!(outline.chains, chains.collect::<Vec<_>>());
            assert_eq!(outline.seal, described.seal());
            assert_eq!(Table { chains: Vec::new(), ..described }, table);
        }
    }

    #[test]
    fn what_denies_in_another_way_has_another_number() {
        let numbers: Vec<u64> = each().map(|it| it.denial.rules_number()).collect();
        for (place, number) in numbers.iter().enumerate() {
            assert!(!numbers.iter().skip(place + 1).any(|other| other == number), "{number:x}");
        }
    }

    /// Nobody would know otherwise that rules are others than those of a table that is there.
    #[test]
    #[cfg(target_endian = "little")]
    fn what_is_sent_is_that_of_the_version() {
        let mut sent = Vec::new();
        for policies in each() {
            let table = policies.describe().unwrap();
            table.structure(&[]).iter().for_each(|request| request.emit(0, 0, &mut sent));
        }
        let digest = Sha1::from(&sent).digest().to_string();
        assert_eq!(
            (RULES_VERSION, &*digest),
            (1, "5db23a6135bcc5963c32fb8e5461d0eaf905e3b2"),
            "raise RULES_VERSION, and put both here"
        );
    }
}
