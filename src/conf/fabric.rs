//! The keys of the routes between nodes.

use ipnetwork::IpNetwork;

use super::{fields::Fields, keys, values::CrossSubnet};

/// What a configuration says of the routes between nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
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
    /// `clusterCIDRs`, in which all pod CIDRs have to lie, if given.
    pub cluster_cidrs: Option<Vec<IpNetwork>>,
}

impl Default for FabricKeys {
    fn default() -> Self {
        Self::read(&mut Fields::new(None, ""))
    }
}

impl FabricKeys {
    /// Reads the keys, filling in defaults.
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let (vni, port, vxlan_device) = fields.within(&keys::VXLAN, |vxlan| {
            (vxlan.get(&keys::VNI), vxlan.get(&keys::PORT), vxlan.get(&keys::DEVICE))
        });
        Self {
            peers_file: fields.get(&keys::PEERS_FILE),
            cross_subnet: fields.get(&keys::CROSS_SUBNET),
            protocol: fields.get(&keys::ROUTE_PROTOCOL),
            metric: fields.get(&keys::ROUTE_METRIC),
            vni,
            port,
            vxlan_device,
            cluster_cidrs: fields.get(&keys::CLUSTER_CIDRS),
        }
    }
}
