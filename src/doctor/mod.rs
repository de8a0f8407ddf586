// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a node, and why: checks that each look at a [`Snapshot`] and at
//! nothing else.
//!
//! Their ids are an interface: scripts and alerts name them. A check says what it saw,
//! what follows from that, and the command that changes it.

mod cidrs;
mod devices;
pub mod explain;
mod fabric;
mod former;
mod forwarding;
mod links;
mod load;
mod machine;
mod others;
pub mod overview;
mod policy;
mod pools;
pub mod probe;
pub mod report;
mod reverse;
mod rules;
mod shadows;
#[cfg(test)]
mod tests;
pub mod tune;

use std::path::Path;

use crate::{
    finding::{Finding, Severity},
    list::{Gather, Ordered},
    node::{Barrier, Misfit, Network, Snapshot},
    state::Entry,
};

pub use fabric::NO_IPV6;
pub use load::BUDGET;
pub use machine::{MODULES_DISABLED, RELEASE, mangles_checksums};

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
        Outcome::Found(seen.into_iter().map(|seen| finding(self.id, seen)).gather())
    }
}

/// All checks. Of findings that are equally bad, those of a check that stands
/// further up are more likely the cause of the others.
pub const CHECKS: &[Check] = &[
    Check { id: "state-unreadable", examine: others::state_unreadable },
    Check { id: "configuration-invalid", examine: others::configuration_invalid },
    Check { id: "configuration-doubtful", examine: others::configuration_doubtful },
    Check { id: "foreign-cni", examine: others::foreign_cni },
    Check { id: "delegate-missing", examine: others::delegate_missing },
    Check { id: "delegate-version", examine: others::delegate_version },
    Check { id: "node-address-changed", examine: fabric::node_address_changed },
    Check { id: "module-missing", examine: machine::module_missing },
    Check { id: "fabric-stale", examine: fabric::fabric_stale },
    Check { id: "fabric-contradiction", examine: fabric::fabric_contradiction },
    Check { id: "fabric-conflict", examine: fabric::fabric_conflict },
    Check { id: "peer-excluded", examine: fabric::peer_excluded },
    Check { id: "next-hop-unreachable", examine: fabric::next_hop_unreachable },
    Check { id: "ip-forward", examine: forwarding::ip_forward },
    Check { id: "calico-chains", examine: former::calico_chains },
    Check { id: "forward-drop", examine: others::forward_drop },
    Check { id: "accept-ra", examine: links::accept_ra },
    Check { id: "rp-filter", examine: reverse::rp_filter },
    Check { id: "rule-diverts", examine: rules::rule_diverts },
    Check { id: "neighbour-missing", examine: fabric::neighbour_missing },
    Check { id: "route-missing", examine: fabric::route_missing },
    Check { id: "route-shadowed", examine: shadows::route_shadowed },
    Check { id: "mtu-too-large", examine: links::mtu_too_large },
    Check { id: "mtu-mismatch", examine: links::mtu_mismatch },
    Check { id: "tunnel-offload", examine: machine::tunnel_offload },
    Check { id: "pool-overlap", examine: pools::overlap },
    Check { id: "pool-outside-pod-cidr", examine: pools::outside },
    Check { id: "lease-missing", examine: pools::lease_missing },
    Check { id: "lease-leaked", examine: pools::lease_leaked },
    Check { id: "pool-full", examine: pools::full },
    Check { id: "masquerade-lost", examine: others::masquerade_lost },
    Check { id: "source-check-drops", examine: load::source_check_drops },
    Check { id: "sysctl-drift", examine: links::sysctl_drift },
    Check { id: "route-stale", examine: fabric::route_stale },
    Check { id: "version-skew", examine: fabric::version_skew },
    Check { id: "policy-unenforced", examine: policy::policy_unenforced },
    Check { id: "conntrack-full", examine: links::conntrack_full },
    Check { id: "conntrack-drops", examine: load::conntrack_drops },
    Check { id: "backlog-drops", examine: load::backlog_drops },
    Check { id: "cpu-steal", examine: load::cpu_steal },
    Check { id: "softirq-share", examine: load::softirq_share },
    Check { id: "rules-long", examine: load::rules_long },
    Check { id: "link-unmanaged", examine: others::link_unmanaged },
    Check { id: "fabric-remark", examine: fabric::remarks },
    Check { id: "path-mtu", examine: others::needs_traffic },
    Check { id: "protocol-filtered", examine: others::needs_traffic },
    Check { id: "peer-unreachable", examine: others::needs_traffic },
    Check { id: "network-unavailable", examine: others::network_unavailable },
];

fn finding(id: &'static str, seen: Seen) -> Finding {
    let Seen { severity, object, evidence, fix, undo } = seen;
    Finding { fix, undo, ..Finding::new(id, severity, object, evidence) }
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
    wide.into_iter().map(|seen| finding("mtu-too-large", seen)).gather()
}

/// Makes the checks; only the one named where one is.
pub fn examine(snapshot: &Snapshot, only: Option<&str>) -> Vec<(&'static Check, Outcome)> {
    let chosen = CHECKS.iter().filter(|check| only.is_none_or(|only| only == check.id));
    chosen.map(|check| (check, check.examine(snapshot))).gather()
}

/// All findings, the worst first.
pub fn findings(examined: &[(&'static Check, Outcome)]) -> Vec<Finding> {
    let found = |outcome: &Outcome| match outcome {
        Outcome::Found(findings) => findings.clone(),
        Outcome::Fine | Outcome::Skipped(_) => Vec::new(),
    };
    let mut all: Vec<Finding> = examined.iter().flat_map(|(_, outcome)| found(outcome)).gather();
    // Stable: within a severity the order of the checks stays.
    all.order_by_key(|finding| finding.severity);
    all
}
