//! The keys of the routes between nodes.

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{
    fields::Fields,
    keys,
    shape::{Number, Shape},
};
use crate::cni::env::valid_interface_name;

/// Our own route protocol, which nobody else has.
pub const ROUTE_PROTOCOL: u8 = 109;
/// Numbers of others (RTPROT_ in include/uapi/linux/rtnetlink.h): all routes of
/// the fabric's protocol are the fabric's, and go when no peer needs them.
pub(super) const TAKEN: [(u8, &str); 24] = [
    (0, "nobody"),
    (1, "redirects"),
    (2, "the kernel"),
    (3, "the boot"),
    (4, "the administrator"),
    (8, "GateD"),
    (9, "router advertisements"),
    (10, "MRT"),
    (11, "Zebra"),
    (12, "BIRD"),
    (13, "DECnet's daemon"),
    (14, "XORP"),
    (15, "Netsukuku"),
    (16, "DHCP"),
    (17, "the multicast daemon"),
    (18, "keepalived"),
    (42, "Babel"),
    (84, "OVN"),
    (99, "Open/R"),
    (186, "BGP"),
    (187, "IS-IS"),
    (188, "OSPF"),
    (189, "RIP"),
    (192, "EIGRP"),
];
/// When packets to other nodes are encapsulated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CrossSubnet {
    /// All of them, whatever subnet the peer is in.
    Off,
    /// Only towards peers outside this node's subnet, by its address's mask.
    Mask,
    /// Only towards peers that the kernel reaches through a gateway: for
    /// clouds that give nodes a /32.
    Route,
}

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

/// The mark of the fabric's routes: a number that is nobody else's.
pub(super) struct Protocol;

pub(super) const NUMBER: Number<u8> = Number(0..=255, ROUTE_PROTOCOL);

impl Shape for Protocol {
    type Value = u8;

    fn absent(&self) -> u8 {
        NUMBER.absent()
    }

    fn read(&self, value: &Value) -> Result<u8, String> {
        let number = NUMBER.read(value)?;
        match TAKEN.iter().find(|(taken, _)| *taken == number) {
            Some((_, holder)) => {
                let whose = format!("it is that of {holder}, whose routes would be removed");
                Err(format!("{whose}: leave it out"))
            }
            None => Ok(number),
        }
    }
}

/// Whether a name is good for the device of IPv4: that of IPv6 has three characters
/// more.
pub(super) fn is_vxlan_device(name: &str) -> bool {
    let plain = !name.starts_with('-') && !name.contains(|c: char| c == '%' || c.is_control());
    valid_interface_name(name) && name.len() <= 12 && plain
}
