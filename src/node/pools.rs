// SPDX-License-Identifier: Apache-2.0
//! The ranges that a configuration gives addresses from, beside the pod CIDRs of
//! the peers file.

use crate::{
    cni::{Args, Document},
    conf::{Config, IpamKeys, has_store},
    fabric::pools::{Cidrs, Misfit, Place},
    ipam::Range,
    list::Gather,
};

/// The ranges of an IPAM section, where its plugin is one that reads them, and
/// where they are written.
pub(crate) fn places(keys: &IpamKeys, config: &Config) -> Vec<Place> {
    let ranges = keys.sets.iter().flatten().filter(|_| has_store(&config.ipam_type));
    let place = |keys: &crate::conf::RangeKeys| {
        // What is no range, its plugin refuses.
        let range = Range::new(keys.subnet, keys.first, keys.last, keys.gateway).ok()?;
        Some((keys.path.clone(), range))
    };
    ranges.filter_map(place).gather()
}

/// What is wrong with the ranges of a configuration.
pub fn misfits(document: &Document, config: &Config, cidrs: &Cidrs<'_>) -> Vec<Misfit> {
    let (keys, _) = IpamKeys::read(document, &Args::default(), config.version);
    cidrs.misfits(&places(&keys, config))
}
