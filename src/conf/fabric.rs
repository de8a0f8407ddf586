//! The keys of the routes between nodes.

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::fields::Fields;
use crate::cni::{Code, env::valid_interface_name};

/// Our own route protocol, which nobody else has.
pub const ROUTE_PROTOCOL: u8 = 109;
/// Numbers of others (RTPROT_ in include/uapi/linux/rtnetlink.h): all routes of
/// the fabric's protocol are the fabric's, and go when no peer needs them.
const TAKEN: [(u8, &str); 24] = [
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
        Self {
            peers_file: None,
            cross_subnet: CrossSubnet::Off,
            protocol: ROUTE_PROTOCOL,
            metric: 0,
            vni: 4096,
            port: 4789,
            // With the two above, Calico's.
            vxlan_device: "vxlan.calico".to_owned(),
            cluster_cidrs: None,
        }
    }
}

impl FabricKeys {
    /// Reads the keys, filling in defaults.
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let mut vxlan = fields.object(&["vxlan"]);
        let default = Self::default();
        let keys = Self {
            peers_file: fields
                .string(&["peersFile"])
                .filter(|path| !path.is_empty())
                .map(str::to_owned),
            cross_subnet: cross_subnet(fields).unwrap_or(default.cross_subnet),
            protocol: protocol(fields).unwrap_or(default.protocol),
            metric: fields.number(&["routeMetric"], 0..=u32::MAX).unwrap_or(default.metric),
            vni: vxlan.number(&["vni"], 1..=0x00ff_ffff).unwrap_or(default.vni),
            port: vxlan
                .number(&["port"], 1..=65535)
                .and_then(|number| u16::try_from(number).ok())
                .unwrap_or(default.port),
            vxlan_device: vxlan_device(&mut vxlan).unwrap_or(default.vxlan_device),
            cluster_cidrs: fields.networks(&["clusterCIDRs"]),
        };
        fields.absorb(vxlan);
        keys
    }
}

fn protocol(fields: &mut Fields<'_>) -> Option<u8> {
    let number = fields.number(&["routeProtocol"], 0..=255)?;
    let number = u8::try_from(number).ok()?;
    let Some((_, holder)) = TAKEN.iter().find(|(taken, _)| *taken == number) else {
        return Some(number);
    };
    let reason = format!("it is that of {holder}, whose routes would be removed: leave it out");
    fields.complain(Code::INVALID_CONFIG, "routeProtocol", &number.into(), &reason);
    None
}

fn vxlan_device(vxlan: &mut Fields<'_>) -> Option<String> {
    let name = vxlan.string(&["device"])?;
    // The device of IPv6 has three characters more.
    let plain = !name.starts_with('-') && !name.contains(|c: char| c == '%' || c.is_control());
    if valid_interface_name(name) && name.len() <= 12 && plain {
        return Some(name.to_owned());
    }
    let reason = "give an interface name of at most 12 bytes that does not begin with '-'";
    vxlan.complain(Code::INVALID_CONFIG, "device", &name.into(), reason);
    None
}

fn cross_subnet(fields: &mut Fields<'_>) -> Option<CrossSubnet> {
    let (key, value) = fields.value(&["crossSubnet"])?;
    match value {
        Value::Bool(false) => Some(CrossSubnet::Off),
        Value::Bool(true) => Some(CrossSubnet::Mask),
        Value::String(text) if text == "route" => Some(CrossSubnet::Route),
        other => {
            let reason = "give false, true or \"route\"";
            fields.complain(Code::INVALID_CONFIG, key, other, reason);
            None
        }
    }
}
