// SPDX-License-Identifier: Apache-2.0
//! What a configuration says of the fabric.

use super::encapsulation::{self, Encapsulation};
use crate::{
    conf::{Config, FabricKeys, Mode},
    family::Family,
    object::route::default_metric,
};
use serde::{Deserialize, Serialize};

/// The fabric's part of a configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Settings {
    /// How packets reach other nodes.
    pub mode: Mode,
    /// The keys that are about nothing else.
    pub keys: FabricKeys,
    /// MTU of pod traffic between nodes in bytes; `None` to derive it.
    pub mtu: Option<u32>,
    /// Bytes that the encapsulation adds; `None` for the mode's own.
    pub overhead: Option<u32>,
    /// Whether the node's forwarding is ours to turn on.
    pub manage_forwarding: bool,
}

/// The metric of a route to nowhere, behind every other route of its prefix:
/// another plugin's bridge with this node's pods works whether it was there
/// before or comes later.
pub const METRIC_LAST: u32 = u32::MAX;

impl Settings {
    /// The settings of a configuration.
    pub fn of_config(config: &Config) -> Self {
        Self {
            mode: config.mode,
            keys: config.fabric.clone(),
            mtu: config.fabric.file.mtu().or(config.mtu),
            overhead: config.overhead,
            manage_forwarding: config.manage_forwarding,
        }
    }

    /// The defaults of a mode.
    pub fn of_mode(mode: Mode) -> Self {
        Self {
            mode,
            keys: FabricKeys::default(),
            mtu: None,
            overhead: None,
            manage_forwarding: true,
        }
    }

    /// How packets are carried; `None` where they travel as they are.
    pub fn encapsulation(&self) -> Option<&'static dyn Encapsulation> {
        encapsulation::of(self.mode)
    }

    /// What carries packets of a family; `None` where they travel as they are.
    pub fn carrying(&self, family: Family) -> Option<&'static dyn Encapsulation> {
        self.encapsulation().filter(|_| !self.keys.plain.contains(&family))
    }

    /// Whether a device of this name is one of the mode's tunnels.
    pub fn is_tunnel(&self, name: &str) -> bool {
        Family::BOTH.into_iter().any(|family| self.is_tunnel_of(name, family))
    }

    /// The same of a tunnel that carries packets of a family.
    pub fn is_tunnel_of(&self, name: &str, family: Family) -> bool {
        let ways = [(self.mode, &self.keys)].into_iter();
        let accepted = self.keys.file.accepted();
        let ways = ways.chain(accepted.iter().map(|(mode, keys)| (*mode, keys)));
        ways.filter_map(|(mode, keys)| Some((encapsulation::of(mode)?, keys)))
            .any(|(one, keys)| one.device(family, keys).is_ok_and(|own| own == name))
    }

    /// The metric of a route of ours, as the kernel has it.
    pub fn metric(&self, blackhole: bool, family: Family) -> u32 {
        match (blackhole, self.keys.metric) {
            (true, _) => METRIC_LAST,
            (false, 0) => default_metric(family),
            (false, metric) => metric,
        }
    }

    /// Bytes that are added to a packet of a family between nodes: those configured,
    /// else the mode's own.
    pub fn overhead(&self, family: Family) -> u32 {
        match self.keys.plain.contains(&family) {
            true => 0,
            false => self.overhead.unwrap_or(overhead_of(self.mode, family)),
        }
    }

    /// The same of pods that have addresses of this family, and of IPv4 in any case.
    pub fn overhead_of_pods(&self, family: Family) -> u32 {
        self.overhead(family).max(self.overhead(Family::V4))
    }
}

/// Bytes that a mode adds to a packet of a family.
pub fn overhead_of(mode: Mode, family: Family) -> u32 {
    encapsulation::of(mode).map_or(0, |one| one.overhead(family))
}
