// SPDX-License-Identifier: Apache-2.0
//! The keys of the routes between nodes.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{
    FabricPart,
    fields::Fields,
    keys,
    shape::Shape,
    values::{CrossSubnet, Mode},
};
use crate::family::Family;

/// What a configuration says of the routes between nodes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FabricKeys {
    /// `peersFile`; without it no routes to other nodes are made.
    pub peers_file: Option<String>,
    /// `crossSubnet`.
    pub cross_subnet: CrossSubnet,
    /// `routeProtocol`: the mark of the fabric's routes.
    pub protocol: u8,
    /// `routeMetric`; 0 is the family's default.
    pub metric: u32,
    /// `vxlan.vni`.
    pub vni: u32,
    /// `vxlan.port`.
    pub port: u16,
    /// `vxlan.device`: the device of IPv4.
    pub vxlan_device: String,
    /// `plain` of the peers file: the families that no tunnel carries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plain: Vec<Family>,
    /// `clusterCIDRs`, in which all pod CIDRs have to lie, if given.
    pub cluster_cidrs: Option<Vec<IpNetwork>>,
    /// What the peers file says of all this.
    pub file: FabricPart,
}

impl Default for FabricKeys {
    fn default() -> Self {
        Self::of(&FabricPart::default())
    }
}

impl FabricKeys {
    /// What is given, and defaults for the rest.
    pub(super) fn of(given: &FabricPart) -> Self {
        Self {
            peers_file: None,
            cross_subnet: given.cross_subnet.unwrap_or_else(|| keys::CROSS_SUBNET.shape.absent()),
            protocol: given.protocol.unwrap_or_else(|| keys::ROUTE_PROTOCOL.shape.absent()),
            metric: given.metric.unwrap_or_else(|| keys::ROUTE_METRIC.shape.absent()),
            vni: given.vni.unwrap_or_else(|| keys::VNI.shape.absent()),
            port: given.port.unwrap_or_else(|| keys::PORT.shape.absent()),
            vxlan_device: given.device.clone().unwrap_or_else(|| keys::DEVICE.shape.absent()),
            plain: given.plain.clone(),
            cluster_cidrs: None,
            file: FabricPart::default(),
        }
    }

    /// Reads the keys, filling in defaults.
    pub(super) fn read(given: &FabricPart, fields: &mut Fields<'_>) -> Self {
        Self {
            peers_file: fields.get(&keys::PEERS_FILE),
            cluster_cidrs: fields.get(&keys::CLUSTER_CIDRS),
            ..Self::of(given)
        }
    }

    /// The same where the peers file says this, and all that is given is that.
    pub(super) fn under(&self, file: &FabricPart, given: &FabricPart) -> Self {
        Self {
            peers_file: self.peers_file.clone(),
            cluster_cidrs: self.cluster_cidrs.clone(),
            file: file.clone(),
            ..Self::of(given)
        }
    }
}

impl FabricPart {
    /// What of it makes packets what they are between nodes, with nothing left out.
    #[must_use]
    pub fn way(&self) -> Self {
        let (mode, keys) = self.carried();
        let is_vxlan = mode == Mode::Vxlan;
        Self {
            mode: Some(mode),
            vni: is_vxlan.then_some(keys.vni),
            port: is_vxlan.then_some(keys.port),
            device: is_vxlan.then_some(keys.vxlan_device),
            plain: if mode == Mode::Direct { Vec::new() } else { keys.plain },
            ..Self::default()
        }
    }

    /// The same by the way of `other`, and accepting none besides.
    #[must_use]
    pub fn going_by(&self, other: &Self) -> Self {
        let Self { mode, vni, port, device, plain, .. } = other.way();
        Self { mode, vni, port, device, plain, accepts: None, ..self.clone() }
    }

    fn carried(&self) -> (Mode, FabricKeys) {
        let mode = self.mode.unwrap_or_else(|| keys::MODE.shape.absent());
        (mode, FabricKeys::of(self))
    }

    /// Whether the kernel cannot have the devices of both at once. Where all their keys are the
    /// same they are one device, which serves both.
    pub fn excludes(&self, other: &Self) -> bool {
        let ((mode, own), (others_mode, others)) = (self.carried(), other.carried());
        let same_device = own.vxlan_device == others.vxlan_device;
        let same_packets = (own.vni, own.port) == (others.vni, others.port);
        mode == Mode::Vxlan && others_mode == Mode::Vxlan && same_device != same_packets
    }

    /// The families of which packets travel as they are, whatever the mode.
    pub fn plain(&self) -> &[Family] {
        &self.plain
    }

    /// Whether packets travel as they are.
    pub fn is_direct(&self) -> bool {
        self.carried().0 == Mode::Direct
    }

    /// The mode by which packets of peers may come besides, with its keys.
    pub fn accepted(&self) -> Option<(Mode, FabricKeys)> {
        self.accepts.as_ref().map(|part| part.carried())
    }

    /// What is accepted besides, as [`Self::way`] gives it.
    pub fn accepts(&self) -> Option<&Self> {
        self.accepts.as_deref()
    }

    /// The same where packets may come by the way of `other` besides; none for packets as
    /// they are, which are never refused.
    #[must_use]
    pub fn accepting(&self, other: Option<&Self>) -> Self {
        let other = other.filter(|other| !other.is_direct());
        Self { accepts: other.map(|other| Box::new(other.way())), ..self.clone() }
    }
}
