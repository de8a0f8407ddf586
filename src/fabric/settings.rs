//! What a configuration says of the fabric.

use crate::{
    conf::{Config, FabricKeys, Mode},
    family::Family,
    object::route::default_metric,
};
use serde::Serialize;

/// The fabric's part of a configuration.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
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

/// Calico's device of the IPIP module's own making.
pub const IPIP_DEVICE: &str = "tunl0";

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

    /// The VXLAN device of a family: Calico's `vxlan.calico` and
    /// `vxlan-v6.calico`, flannel's `flannel.1` and `flannel-v6.1`.
    pub fn vxlan_device(&self, family: Family) -> String {
        if family == Family::V4 {
            return self.keys.vxlan_device.clone();
        }
        match self.keys.vxlan_device.split_once('.') {
            Some((stem, tail)) => format!("{stem}-v6.{tail}"),
            None => format!("{}-v6", self.keys.vxlan_device),
        }
    }

    /// Whether a device of this name is one of the mode's tunnels.
    pub fn is_tunnel(&self, name: &str) -> bool {
        match self.mode {
            Mode::Direct => false,
            Mode::Ipip => name == IPIP_DEVICE,
            Mode::Vxlan => Family::BOTH.into_iter().any(|family| self.vxlan_device(family) == name),
        }
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
        self.overhead.unwrap_or(overhead_of(self.mode, family))
    }
}

/// Bytes that the encapsulation adds to a packet: 20 for IP in IP; 14, 8, 8 and 20
/// for VXLAN, 20 more where IPv6 pods are carried over IPv6 (RFC 7348).
pub fn overhead_of(mode: Mode, family: Family) -> u32 {
    match mode {
        Mode::Direct => 0,
        Mode::Ipip => 20,
        Mode::Vxlan => match family {
            Family::V4 => 50,
            Family::V6 => 70,
        },
    }
}
