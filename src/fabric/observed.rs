// SPDX-License-Identifier: Apache-2.0
//! What the kernel has of a fabric, as data: how it is read is not known here.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{desired::Desired, ledger::Ledger};
use crate::list::Gather;
use crate::object::{HeldObjects, Indexes, LOOSE, link::HeldTunnel, reverse_path};

/// What the kernel has.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// The objects: tunnel devices that are wanted or ours, permanent entries of VXLAN
    /// devices among them, the values of the parameters that are wanted, and of table
    /// main the routes that are ours, and those of others to the same destinations or to
    /// parts of them.
    pub held: HeldObjects,
    /// VXLAN devices of others.
    pub rivals: Vec<HeldTunnel>,
    /// Indexes of all links, by name.
    pub indexes: Indexes,
    /// Addresses of pods, and the links that they are behind.
    pub pods: Vec<(u32, IpAddr)>,
    /// What earlier passes have left.
    pub ledger: Ledger,
}

impl Observed {
    /// The tunnel device of that name.
    pub fn tunnel(&self, name: &str) -> Option<&HeldTunnel> {
        self.held.tunnels.iter().find(|held| held.name == name)
    }
}

/// What a digest is of, beside all that bears our marks.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Scope {
    /// Names of the tunnel devices.
    pub tunnels: Vec<String>,
    /// Keys of parameters, of the node and of tunnel devices.
    pub sysctls: Vec<String>,
}

impl Scope {
    /// What a fabric consists of.
    pub fn of(desired: &Desired) -> Self {
        let of_node = desired.objects.sysctls.iter().map(|sysctl| sysctl.key.clone());
        let loose = desired.objects.settings.iter().filter(|setting| setting.value == LOOSE);
        let loose = loose.map(|setting| reverse_path(&setting.device));
        Self {
            tunnels: desired.objects.tunnels.iter().map(|tunnel| tunnel.name.clone()).gather(),
            sysctls: of_node.chain(loose).gather(),
        }
    }
}
