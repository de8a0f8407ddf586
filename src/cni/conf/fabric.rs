//! The keys of the routes between nodes.

use ipnetwork::IpNetwork;
use serde_json::Value;

use crate::cni::{Code, env::valid_interface_name, fields::Fields};

/// Our own route protocol.
pub const ROUTE_PROTOCOL: u8 = 109;
/// Protocols below are the kernel's and those of `ip route` (RTPROT_STATIC,
/// include/uapi/linux/rtnetlink.h).
const ROUTE_PROTOCOL_MIN: u32 = 5;
/// Calico's VXLAN network identifier, port and device.
pub const VXLAN: (u32, u16, &str) = (4096, 4789, "vxlan.calico");
/// When packets to other nodes are encapsulated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CrossSubnet {
    /// Always.
    Never,
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

impl FabricKeys {
    /// Reads the keys, filling in defaults.
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let mut vxlan = fields.object(&["vxlan"]);
        let (vni, port, device) = VXLAN;
        let keys = Self {
            peers_file: fields
                .string(&["peersFile"])
                .filter(|path| !path.is_empty())
                .map(str::to_owned),
            cross_subnet: cross_subnet(fields),
            protocol: fields
                .number(&["routeProtocol"], ROUTE_PROTOCOL_MIN..=255)
                .and_then(|number| u8::try_from(number).ok())
                .unwrap_or(ROUTE_PROTOCOL),
            metric: fields.number(&["routeMetric"], 0..=u32::MAX).unwrap_or(0),
            vni: vxlan.number(&["vni"], 1..=0x00ff_ffff).unwrap_or(vni),
            port: vxlan
                .number(&["port"], 1..=65535)
                .and_then(|number| u16::try_from(number).ok())
                .unwrap_or(port),
            vxlan_device: vxlan_device(&mut vxlan, device),
            cluster_cidrs: fields.networks(&["clusterCIDRs"]),
        };
        fields.absorb(vxlan);
        keys
    }
}

fn vxlan_device(vxlan: &mut Fields<'_>, default: &str) -> String {
    let name = vxlan.string(&["device"]).unwrap_or(default);
    // The device of IPv6 has three characters more.
    if valid_interface_name(name) && name.len() <= 12 && !name.contains('%') {
        return name.to_owned();
    }
    let reason = "give an interface name of at most 12 bytes";
    vxlan.complain(Code::INVALID_CONFIG, "device", &name.into(), reason);
    default.to_owned()
}

fn cross_subnet(fields: &mut Fields<'_>) -> CrossSubnet {
    let Some((key, value)) = fields.value(&["crossSubnet"]) else { return CrossSubnet::Never };
    match value {
        Value::Bool(false) => CrossSubnet::Never,
        Value::Bool(true) => CrossSubnet::Mask,
        Value::String(text) if text == "route" => CrossSubnet::Route,
        other => {
            let reason = "give false, true or \"route\"";
            fields.complain(Code::INVALID_CONFIG, key, other, reason);
            CrossSubnet::Never
        }
    }
}
