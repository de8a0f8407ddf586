// SPDX-License-Identifier: Apache-2.0
//! Whether a complete list of nodes is believed.
//!
//! Routes are removed because a node is not in the list, and an API server that was just
//! restored, or whose cache is behind, gives lists that are sound and wrong. A list
//! without any node, or without this one, never is the truth for a node that is up; one
//! without most of the nodes, or that leaves most of their pods without routes, may be, and
//! is asked for again before it is believed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ipnetwork::IpNetwork;

use crate::fabric::faults::overlap;

/// How long a list is doubted in which most are gone.
pub(crate) const DOUBT: Duration = Duration::from_secs(60);
/// How long this node's Node may be away, to be registered again, before that is a
/// trouble.
pub(crate) const REGISTERED_AGAIN: Duration = Duration::from_secs(600);
/// So few nodes, or networks of pods, may go at once without a doubt.
const GONE_MIN: usize = 3;

/// What is believed of the cluster.
#[derive(Debug)]
pub(crate) struct Belief {
    own: String,
    /// The other nodes.
    peers: BTreeSet<Box<str>>,
    /// Where their pods are.
    pods: BTreeSet<IpNetwork>,
    doubted: Option<Instant>,
    own_missing: Option<Instant>,
}

/// What is to be done with a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Go by it.
    Believe,
    /// It names no node: go on by the last one.
    Empty,
    /// It does not have this node: go on by the last one. `long` tells that the Node has
    /// been away for longer than it takes to register it again.
    OwnMissing { long: bool },
    /// `gone` of `of` of these are not in it: go on by the last one, and ask for a new list
    /// at this time, one that is not served from a cache.
    Doubt { what: What, gone: usize, of: usize, ask: Instant },
}

/// What is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum What {
    Nodes,
    Pods,
}

impl Belief {
    /// Begins with the nodes of the peers file that is there, and where their pods are.
    pub(crate) fn new<'a>(
        own: &str,
        peers: impl IntoIterator<Item = &'a str>,
        pods: BTreeSet<IpNetwork>,
    ) -> Self {
        let peers = peers.into_iter().filter(|name| *name != own).map(Box::from).collect();
        Self { own: own.to_owned(), peers, pods, doubted: None, own_missing: None }
    }

    /// How many nodes there are, this one included.
    pub(crate) fn nodes(&self) -> usize {
        self.peers.len() + 1
    }

    /// When this node's Node will have been away for too long, if it is away.
    pub(crate) fn own_missing_until(&self) -> Option<Instant> {
        self.own_missing.map(|since| since + REGISTERED_AGAIN)
    }

    /// Notes that this node's Node is in a list that is not judged.
    pub(crate) fn own_is_there(&mut self) {
        self.own_missing = None;
    }

    /// Judges a complete list of nodes by their names, and by which networks of other nodes'
    /// `pods` would be reached. `anew` tells that it was asked for because of a doubt, and not
    /// served from a cache.
    pub(crate) fn judge(
        &mut self,
        names: &BTreeSet<&str>,
        pods: BTreeSet<IpNetwork>,
        anew: bool,
        now: Instant,
    ) -> Verdict {
        if names.is_empty() {
            return Verdict::Empty;
        }
        if !names.contains(self.own.as_str()) {
            let since = *self.own_missing.get_or_insert(now);
            let long = now.saturating_duration_since(since) >= REGISTERED_AGAIN;
            return Verdict::OwnMissing { long };
        }
        self.own_missing = None;
        let nodes_gone = self.peers.iter().filter(|name| !names.contains(&***name)).count();
        let gone = [
            (What::Nodes, nodes_gone, self.peers.len()),
            (What::Pods, unreached(&self.pods, &pods), self.pods.len()),
        ];
        let most = gone.into_iter().find(|(_, gone, of)| *gone > GONE_MIN && *gone > of / 2);
        if let Some((what, gone, of)) = most {
            let since = *self.doubted.get_or_insert(now);
            let is_over = now.saturating_duration_since(since) >= DOUBT;
            if !(anew && is_over) {
                // What was asked for too early is asked for again.
                let ask = (since + DOUBT).max(now);
                return Verdict::Doubt { what, gone, of, ask };
            }
        }
        self.doubted = None;
        let others = names.iter().filter(|name| **name != self.own);
        self.peers = others.map(|name| Box::from(*name)).collect();
        self.pods = pods;
        Verdict::Believe
    }
}

/// How many of these networks are not there any more, nor parts of them, nor what they are
/// part of.
fn unreached(before: &BTreeSet<IpNetwork>, now: &BTreeSet<IpNetwork>) -> usize {
    let is_gone = |cidr: &&IpNetwork| !now.iter().any(|other| overlap(other, cidr));
    before.difference(now).filter(is_gone).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("node-{number}")).collect()
    }

    fn judge(belief: &mut Belief, names: &[String], anew: bool, now: Instant) -> Verdict {
        belief.judge(&names.iter().map(String::as_str).collect(), BTreeSet::new(), anew, now)
    }

    #[test]
    fn a_list_without_any_node_is_never_believed() {
        let now = Instant::now();
        for known in [0, 1, 100] {
            let mut belief =
                Belief::new("node-0", names(known).iter().map(String::as_str), BTreeSet::new());
            for days in [0, 1, 100] {
                let now = now + SECOND * 86_400 * days;
                assert_eq!(judge(&mut belief, &[], true, now), Verdict::Empty);
            }
            assert_eq!(judge(&mut belief, &names(known.max(1)), false, now), Verdict::Believe);
        }
    }

    #[test]
    fn this_nodes_node_may_be_away_for_ten_minutes() {
        let now = Instant::now();
        let all = names(10);
        let mut belief = Belief::new("node-0", all.iter().map(String::as_str), BTreeSet::new());
        for (seconds, long) in [(0, false), (599, false), (600, true), (6000, true)] {
            let verdict = judge(&mut belief, &all[1..], true, now + SECOND * seconds);
            assert_eq!(verdict, Verdict::OwnMissing { long }, "after {seconds} s");
        }
        assert_eq!(judge(&mut belief, &all, false, now + SECOND * 6001), Verdict::Believe);
        let verdict = judge(&mut belief, &all[1..], false, now + SECOND * 6002);
        assert_eq!(verdict, Verdict::OwnMissing { long: false }, "the time begins anew");
    }

    #[test]
    fn nodes_go_at_once_but_for_more_than_half_and_more_than_three() {
        let now = Instant::now();
        for (known, left, believed) in [
            (11, 6, true), // of ten peers five are gone
            (11, 5, false),
            (4, 1, true), // three
            (5, 1, false),
            (8, 4, false),
            (9, 5, true),
            (1, 1, true),
        ] {
            let mut belief =
                Belief::new("node-0", names(known).iter().map(String::as_str), BTreeSet::new());
            let verdict = judge(&mut belief, &names(left), false, now);
            assert_eq!(verdict == Verdict::Believe, believed, "{left} of {known}: {verdict:?}");
        }
    }

    #[test]
    fn half_a_cluster_is_believed_to_be_gone_when_a_new_list_says_so_after_a_minute() {
        let now = Instant::now();
        let mut belief =
            Belief::new("node-0", names(101).iter().map(String::as_str), BTreeSet::new());
        let ask = now + DOUBT;
        let doubt = Verdict::Doubt { what: What::Nodes, gone: 80, of: 100, ask };
        assert_eq!(judge(&mut belief, &names(21), false, now), doubt);
        assert_eq!(judge(&mut belief, &names(21), true, now + SECOND * 30), doubt, "too early");
        // The old list, or an event after it, is no new evidence.
        let late = now + SECOND * 70;
        let again = Verdict::Doubt { what: What::Nodes, gone: 80, of: 100, ask: late };
        assert_eq!(judge(&mut belief, &names(21), false, late), again);
        assert_eq!(judge(&mut belief, &names(21), true, late), Verdict::Believe);
        assert_eq!(judge(&mut belief, &names(20), false, late), Verdict::Believe, "one more");
    }

    #[test]
    fn a_doubt_ends_when_the_nodes_are_back() {
        let now = Instant::now();
        let mut belief =
            Belief::new("node-0", names(101).iter().map(String::as_str), BTreeSet::new());
        assert_ne!(judge(&mut belief, &names(21), false, now), Verdict::Believe);
        let later = now + SECOND * 100;
        assert_eq!(judge(&mut belief, &names(101), false, later), Verdict::Believe);
        let doubt = Verdict::Doubt { what: What::Nodes, gone: 80, of: 100, ask: later + DOUBT };
        assert_eq!(judge(&mut belief, &names(21), true, later), doubt, "the time begins anew");
    }

    /// The names are all there, and what they claim leaves most of them out.
    #[test]
    fn pods_that_would_be_reached_no_more_are_doubted_as_nodes_are() {
        let pods = |numbers: std::ops::Range<u8>| -> BTreeSet<IpNetwork> {
            numbers.map(|number| format!("10.0.{number}.0/24").parse().unwrap()).collect()
        };
        let (now, names) = (Instant::now(), names(11));
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let mut belief = Belief::new("node-0", names.iter().copied(), pods(0..10));
        let doubt = Verdict::Doubt { what: What::Pods, gone: 6, of: 10, ask: now + DOUBT };
        assert_eq!(belief.judge(&names, pods(6..10), false, now), doubt);
        assert_eq!(belief.judge(&names, pods(5..10), false, now), Verdict::Believe, "half");
        let later = now + SECOND * 10;
        assert_ne!(belief.judge(&names, pods(9..10), true, later), Verdict::Believe);
        // A doubt of both takes no longer than one.
        let (few, late) = (BTreeSet::from(["node-0"]), later + DOUBT);
        assert_eq!(belief.judge(&few, pods(9..10), true, late), Verdict::Believe);
        assert_eq!(belief.judge(&few, pods(20..30), false, late), Verdict::Believe, "more");
    }
}
