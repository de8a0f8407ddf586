//! What is wrong with a node, and why: checks that each look at a [`Snapshot`] and at
//! nothing else.
//!
//! Their ids are an interface: scripts and alerts name them. A check says what it saw,
//! what follows from that, and the command that changes it.

mod fabric;
mod links;
mod others;
mod pools;
#[cfg(test)]
mod tests;

use std::path::Path;

use crate::{
    finding::{Finding, Severity},
    node::{Barrier, Misfit, Network, Snapshot},
    state::Entry,
};

/// What came of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// All is well.
    Fine,
    /// It is not.
    Found(Vec<Finding>),
    /// It could not be made, for this reason.
    Skipped(String),
}

/// What a check's function says.
type Answer = Result<Vec<Seen>, String>;

/// A finding without what its check knows.
struct Seen {
    severity: Severity,
    object: String,
    evidence: String,
    fix: String,
    undo: String,
}

impl Seen {
    fn new(severity: Severity, object: impl Into<String>, evidence: impl Into<String>) -> Self {
        let (fix, undo) = (String::new(), String::new());
        Self { severity, object: object.into(), evidence: evidence.into(), fix, undo }
    }

    fn error(object: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(Severity::Error, object, evidence)
    }

    fn warning(object: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(Severity::Warning, object, evidence)
    }

    fn info(object: impl Into<String>, evidence: impl Into<String>) -> Self {
        Self::new(Severity::Info, object, evidence)
    }

    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = fix.into();
        self
    }

    fn undo(mut self, undo: impl Into<String>) -> Self {
        self.undo = undo.into();
        self
    }
}

/// One check.
pub struct Check {
    /// Its name, which does not change.
    pub id: &'static str,
    /// Why what it finds matters.
    pub why: &'static str,
    examine: fn(&Snapshot) -> Answer,
}

impl Check {
    /// Makes the check.
    pub fn examine(&self, snapshot: &Snapshot) -> Outcome {
        let seen = match (self.examine)(snapshot) {
            Ok(seen) if seen.is_empty() => return Outcome::Fine,
            Ok(seen) => seen,
            Err(reason) => return Outcome::Skipped(reason),
        };
        Outcome::Found(seen.into_iter().map(|seen| finding(self.id, seen)).collect())
    }
}

/// All checks. Of findings that are equally bad, those of a check that stands
/// further up are more likely the cause of the others.
pub const CHECKS: &[Check] = &[
    Check {
        id: "state-unreadable",
        why: "what is noted there is not known: an attachment may lack its DEL, a lease its owner",
        examine: others::state_unreadable,
    },
    Check {
        id: "configuration-invalid",
        why: "every ADD of the network fails",
        examine: others::configuration_invalid,
    },
    Check {
        id: "foreign-cni",
        why: "a runtime uses the first configuration of its directory, and gives new pods to the \
              plugin that is named there",
        examine: others::foreign_cni,
    },
    Check {
        id: "delegate-missing",
        why: "every ADD and every DEL of the network fails without it",
        examine: others::delegate_missing,
    },
    Check {
        id: "delegate-version",
        why: "a runtime takes the newest version that the file offers, and every plugin of the list \
              has to speak it",
        examine: others::delegate_version,
    },
    Check {
        id: "node-address-changed",
        why: "the other nodes send this node's pods their packets to that address",
        examine: fabric::node_address_changed,
    },
    Check {
        id: "fabric-stale",
        why: "nodes that came or went since are not known to this one",
        examine: fabric::fabric_stale,
    },
    Check {
        id: "fabric-conflict",
        why: "what somebody else has is left alone, and what needs it is not made",
        examine: fabric::fabric_conflict,
    },
    Check {
        id: "peer-excluded",
        why: "no route leads to the pods of a node that is left out",
        examine: fabric::peer_excluded,
    },
    Check {
        id: "ip-forward",
        why: "without it the kernel drops every packet that is not for the node itself",
        examine: links::ip_forward,
    },
    Check {
        id: "forward-drop",
        why: "pods' packets are forwarded, and such a chain drops what no rule of it accepts",
        examine: others::forward_drop,
    },
    Check {
        id: "accept-ra",
        why: "a node that forwards believes router advertisements only with accept_ra 2: without it \
              the route, and the address, expire",
        examine: links::accept_ra,
    },
    Check {
        id: "neighbour-missing",
        why: "the tunnel does not know which node a peer's pods are behind",
        examine: fabric::neighbour_missing,
    },
    Check {
        id: "route-missing",
        why: "packets to these pods go to the default route, or nowhere",
        examine: fabric::route_missing,
    },
    Check {
        id: "route-shadowed",
        why: "the kernel takes another route to these pods than the fabric's",
        examine: fabric::route_shadowed,
    },
    Check {
        id: "rule-diverts",
        why: "a rule before table main may lead pods' packets elsewhere, whatever routes there are",
        examine: fabric::rule_diverts,
    },
    Check {
        id: "next-hop-unreachable",
        why: "the pods of these nodes cannot be reached from here",
        examine: fabric::next_hop_unreachable,
    },
    Check {
        id: "mtu-too-large",
        why: "larger packets are dropped on the way, and where ICMP is filtered nobody learns of it: \
              connections are made, and hang with the first large answer",
        examine: links::mtu_too_large,
    },
    Check {
        id: "mtu-mismatch",
        why: "the two ends of a path should agree: what one sends at its MTU the other drops, or \
              packets are smaller than they need be",
        examine: links::mtu_mismatch,
    },
    Check {
        id: "pool-overlap",
        why: "the same address may be given to two pods, and one of them gets the other's packets",
        examine: pools::overlap,
    },
    Check {
        id: "pool-outside-pod-cidr",
        why: "no other node has a route to pods with these addresses",
        examine: pools::outside,
    },
    Check {
        id: "pool-full",
        why: "the next pod gets no address and does not start",
        examine: pools::full,
    },
    Check {
        id: "lease-missing",
        why: "the address of a live pod may be given to another one",
        examine: pools::lease_missing,
    },
    Check {
        id: "lease-leaked",
        why: "nobody has the address, and no other pod gets it",
        examine: pools::lease_leaked,
    },
    Check {
        id: "masquerade-lost",
        why: "these rules give pods' packets the node's address, drop what pods send in others' \
              names, and keep what strangers send out of the tunnels",
        examine: others::masquerade_lost,
    },
    Check {
        id: "sysctl-drift",
        why: "a parameter that was set for the pods has another value by now",
        examine: links::sysctl_drift,
    },
    Check {
        id: "route-stale",
        why: "packets to pods that are elsewhere by now follow it",
        examine: fabric::route_stale,
    },
    Check {
        id: "version-skew",
        why: "who wrote the file asks for something that this version does not do",
        examine: fabric::version_skew,
    },
    Check {
        id: "conntrack-full",
        why: "a full table of connections drops the first packet of each new one",
        examine: links::conntrack_full,
    },
    Check {
        id: "link-unmanaged",
        why: "a daemon that manages all links may take addresses and routes off pods' links",
        examine: others::link_unmanaged,
    },
    Check {
        id: "path-mtu",
        why: "packets that are larger than a link on the way takes are lost",
        examine: others::needs_traffic,
    },
    Check {
        id: "protocol-filtered",
        why: "a network between nodes may drop the protocol of the tunnels, or sources that it does \
              not know",
        examine: others::needs_traffic,
    },
    Check {
        id: "peer-unreachable",
        why: "no pod of that node can be reached",
        examine: others::needs_traffic,
    },
];

/// The check of this name.
pub fn check(id: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.id == id)
}

fn finding(id: &'static str, seen: Seen) -> Finding {
    let why = check(id).map_or("", |check| check.why);
    let Seen { severity, object, evidence, fix, undo } = seen;
    Finding { id, severity, object, evidence, why, fix, undo }
}

/// What `forward-drop` says of a chain.
pub fn of_barrier(barrier: &Barrier) -> Finding {
    finding("forward-drop", others::barrier(barrier))
}

/// What `pool-overlap` or `pool-outside-pod-cidr` says of a range.
pub fn of_misfit(misfit: &Misfit) -> Finding {
    let id = if misfit.of_peer { "pool-overlap" } else { "pool-outside-pod-cidr" };
    finding(id, pools::misfit(String::new(), misfit))
}

/// What `peer-excluded` says of a node that is left out.
pub fn of_excluded(peers_file: &Path, told: &str) -> Finding {
    finding("peer-excluded", fabric::excluded(peers_file, told))
}

/// What `version-skew` says of keys that nothing reads.
pub fn of_unread(peers_file: &Path, told: &str) -> Finding {
    finding("version-skew", fabric::unread(peers_file, told))
}

/// What `mtu-too-large` says of a network's pods, each with its MTU.
pub fn of_wide_pods<'a>(
    network: &Network,
    pods: impl IntoIterator<Item = (&'a Entry, u32)>,
) -> Vec<Finding> {
    let wide = links::wide_pods(network, pods);
    wide.into_iter().map(|seen| finding("mtu-too-large", seen)).collect()
}

/// Makes the checks; only the one named where one is.
pub fn examine(snapshot: &Snapshot, only: Option<&str>) -> Vec<(&'static Check, Outcome)> {
    let chosen = CHECKS.iter().filter(|check| only.is_none_or(|only| only == check.id));
    chosen.map(|check| (check, check.examine(snapshot))).collect()
}

/// All findings, the worst first.
pub fn findings(examined: &[(&'static Check, Outcome)]) -> Vec<Finding> {
    let found = |outcome: &Outcome| match outcome {
        Outcome::Found(findings) => findings.clone(),
        Outcome::Fine | Outcome::Skipped(_) => Vec::new(),
    };
    let mut all: Vec<Finding> = examined.iter().flat_map(|(_, outcome)| found(outcome)).collect();
    // Stable: within a severity the order of the checks stays.
    all.sort_by_key(|finding| finding.severity);
    all
}

/// The first few of many, and how many more there are.
fn some_of<T: ToString>(all: &[T]) -> String {
    const NAMED_MAX: usize = 3;
    let mut text = all.iter().take(NAMED_MAX).map(T::to_string).collect::<Vec<_>>().join(", ");
    if let Some(more) = all.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        text += &format!(" and {more} more");
    }
    text
}
