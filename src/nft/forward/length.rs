// SPDX-License-Identifier: Apache-2.0
//! How many rules a packet may meet from a base chain on: each of its rules, those of a
//! chain that every packet is sent to, and of the chains that only some are sent to those
//! of the longest, for a packet that one of many such rules is for goes there alone.

use std::collections::{HashMap, HashSet};

use super::{Rule, Verdict};

/// Jumps go no deeper (NFT_JUMP_STACK_SIZE, include/net/netfilter/nf_tables.h).
const DEPTH_MAX: usize = 16;

/// A base chain and what lies behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Length {
    /// The chain with its table.
    pub chain: String,
    /// How many rules a packet may meet.
    pub rules: u64,
    /// The longest chain among those.
    pub longest: String,
    /// How many of the rules it has.
    pub of_longest: u64,
}

/// What is counted of a chain.
#[derive(Debug, Default)]
pub(super) struct Counted {
    rules: u64,
    /// Chains that all packets are sent to.
    always: HashSet<String>,
    /// Those that some are.
    sometimes: HashSet<String>,
}

/// The chains of one table.
#[derive(Debug, Default)]
pub(super) struct Chains {
    all: HashMap<String, Counted>,
    known: HashMap<String, (u64, Longest)>,
}

/// A chain's name and how many rules it has.
type Longest = (u64, String);

impl Counted {
    pub(super) fn add(&mut self, rules: &[Rule]) {
        self.rules += 1;
        for rule in rules {
            if let Verdict::Jump(to) | Verdict::Goto(to) = &rule.verdict {
                let sent =
                    if rule.tests.is_empty() { &mut self.always } else { &mut self.sometimes };
                sent.insert(to.clone());
            }
        }
    }
}

impl Chains {
    pub(super) fn chain(&mut self, name: &str) -> &mut Counted {
        self.all.entry(name.to_owned()).or_default()
    }

    /// Of one of them.
    pub(super) fn length(&mut self, table: &str, chain: &str) -> Length {
        let (rules, (of_longest, longest)) = self.walk(chain, 0);
        Length { chain: format!("chain {chain} of {table}"), rules, longest, of_longest }
    }

    fn walk(&mut self, name: &str, depth: usize) -> (u64, Longest) {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let Some(counted) = self.all.remove(name).filter(|_| depth <= DEPTH_MAX) else {
            return (0, (0, String::new()));
        };
        let mut rules = counted.rules;
        let mut longest = (counted.rules, name.to_owned());
        for to in &counted.always {
            let (more, of) = self.walk(to, depth + 1);
            rules = rules.saturating_add(more);
            longest = longest.max(of);
        }
        let mut most = (0, (0, String::new()));
        for to in &counted.sometimes {
            most = most.max(self.walk(to, depth + 1));
        }
        let (more, of) = most;
        let walked = (rules.saturating_add(more), longest.max(of));
        self.known.insert(name.to_owned(), walked.clone());
        walked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        family::Family,
        nft::forward::{Test, lengths_of_save},
    };

    fn jump(to: &str, some: bool) -> Rule {
        let tests = if some { vec![Test::Unknown] } else { Vec::new() };
        Rule { number: 1, tests, verdict: Verdict::Jump(to.to_owned()) }
    }

    #[test]
    fn of_chains_for_some_packets_the_longest_counts_once() {
        let mut chains = Chains::default();
        for (chain, to, some) in [
            ("base", "all", false),
            ("base", "one", true),
            ("base", "two", true),
            ("all", "none", true),
            ("one", "deep", false),
            ("two", "gone", false),
            ("deep", "base", true),
        ] {
            chains.chain(chain).add(&[jump(to, some)]);
        }
        chains.chain("deep").add(&[]);
        let length = chains.length("table ip t", "base");
        // Three of its own, one of `all`, one of `one` with two of `deep`.
        assert_eq!((length.rules, length.longest.as_str(), length.of_longest), (7, "base", 3));
        assert_eq!(chains.length("table ip t", "gone").rules, 0);
    }

    #[test]
    fn what_kube_proxy_writes_is_counted_by_services() {
        let mut text = "*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n\
                        -A PREROUTING -m comment --comment \"kubernetes\" -j KUBE-SERVICES\n"
            .to_owned();
        for number in 0..1500 {
            text += &format!(
                "-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-{number}\n\
                 -A KUBE-SVC-{number} -j KUBE-SEP-{number}\n-A KUBE-SEP-{number} -p tcp -j DNAT\n"
            );
        }
        let lengths = lengths_of_save(&text, Family::V4);
        let [one] = &lengths[..] else { panic!("{lengths:?}") };
        assert_eq!(one.chain, "chain PREROUTING of table ip nat (iptables-legacy)");
        assert_eq!((one.rules, one.longest.as_str()), (1503, "KUBE-SERVICES"));
        assert_eq!(one.of_longest, 1500);
        assert!(lengths_of_save("", Family::V6).is_empty());
    }
}
