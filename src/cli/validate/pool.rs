// SPDX-License-Identifier: Apache-2.0
//! The address ranges of a configuration: whether each makes sense, and whether
//! two have addresses in common.

use ipnetwork::IpNetwork;

use super::finding::{Findings, member};
use crate::{
    conf::RangeKeys,
    family::{Family, HasFamily},
    finding::Severity,
    ipam::Range,
    list::PushAll,
};

/// A range of addresses that an IPAM plugin hands out of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pool {
    /// Where it stands: `plugins[0].ipam.ranges[0][0]`.
    pub(crate) path: String,
    pub(crate) range: Range,
}

impl Pool {
    /// Its subnet.
    pub(crate) fn subnet(&self) -> IpNetwork {
        self.range.subnet()
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.range.overlaps(&other.range)
    }
}

/// The pools that make sense of the sets of a plugin's section at `path`.
pub(crate) fn read(sets: &[Vec<RangeKeys>], path: &str, findings: &mut Findings) -> Vec<Pool> {
    let mut pools = Vec::new();
    for set in sets {
        let mut of_set = Vec::new();
        for keys in set {
            let path = member(path, &keys.path);
            match Range::new(keys.subnet, keys.first, keys.last, keys.gateway) {
                Ok(range) => of_set.push(Pool { path, range }),
                Err(flaw) => {
                    findings.error(&member(&path, flaw.key), flaw.reason, "correct the range");
                }
            }
        }
        let has = |family| of_set.iter().any(|pool: &Pool| pool.subnet().family() == family);
        if let (Some(pool), true) = (of_set.first(), Family::BOTH.into_iter().all(has)) {
            let message = "one set of ranges holds both IPv4 and IPv6: a set is one address";
            let path = pool.path.rsplit_once('[').map_or(pool.path.as_str(), |(set, _)| set);
            findings.error(path, message, "give each family a list of its own in ranges");
        }
        pools.push_all(of_set);
    }
    pools
}

/// Ranges of one file that have addresses in common.
pub(crate) fn overlaps(pools: &[Pool], findings: &mut Findings) {
    for (index, one) in pools.iter().enumerate() {
        for other in pools.iter().skip(index + 1).filter(|other| one.overlaps(other)) {
            let message = format!("{} overlaps {} at {}", other.subnet(), one.subnet(), one.path);
            let fix = "make the two ranges disjoint, or drop one";
            findings.add(("pool-overlap", Severity::Error), &other.path, message, fix);
        }
    }
}
