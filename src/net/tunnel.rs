//! Tunnel devices: IP in IP and VXLAN.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NlasIterator, Parseable};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage},
};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{Mac, Reading, Request, message::encode};

/// A VXLAN device of the point-to-multipoint kind. Ours learns nothing, its
/// entries are all given.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Vxlan {
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// This end's outer address; none where the kernel chooses it.
    pub local: Option<IpAddr>,
    /// Index of the device that outer packets leave by.
    pub parent: u32,
    /// It learns from what it receives which node a MAC address is behind.
    pub learning: bool,
    /// It reads packets in a way of its own (metadata, group policy, GPE), and while it
    /// is up no device that does not has its port.
    #[serde(default)]
    pub own_socket: bool,
}

/// Creates the IPIP device of that name. Where it is the module's own device
/// (`tunl0`), loading the module, which this request does, makes it, and then
/// it exists already.
pub fn create_ipip(name: &str, mtu: u32, group: u32) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::Group(group),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::IpIp)]),
    ];
    let what = format!("create ipip device {name}");
    encode(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, what)
        .tolerate(Errno::EEXIST)
}

/// Creates a VXLAN device in an interface group.
pub fn create_vxlan(name: &str, mtu: u32, mac: Mac, group: u32, vxlan: &Vxlan) -> Request {
    let mut data = vec![
        InfoVxlan::Id(vxlan.vni),
        InfoVxlan::Link(vxlan.parent),
        InfoVxlan::Port(vxlan.port),
        InfoVxlan::Learning(vxlan.learning),
    ];
    data.extend(vxlan.local.map(|local| match local {
        IpAddr::V4(ip) => InfoVxlan::Local(ip),
        IpAddr::V6(ip) => InfoVxlan::Local6(ip),
    }));
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::Group(group),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ]),
    ];
    let what = format!("create vxlan device {name}");
    encode(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, what)
}

/// Reads what a VXLAN device was created with (IFLA_INFO_DATA).
pub(super) fn read_vxlan(data: &[u8]) -> Reading<Vxlan> {
    let (mut vni, mut port) = (None, None);
    let (mut local, mut parent, mut learning, mut own_socket) = (None, 0, false, false);
    for info in NlasIterator::new(data) {
        match InfoVxlan::parse(&info?)? {
            InfoVxlan::Id(found) => vni = Some(found),
            InfoVxlan::Port(found) => port = Some(found),
            InfoVxlan::Local(ip) => local = Some(IpAddr::from(ip)),
            InfoVxlan::Local6(ip) => local = Some(IpAddr::from(ip)),
            InfoVxlan::Link(found) => parent = found,
            InfoVxlan::Learning(found) => learning = found,
            InfoVxlan::CollectMetadata(true) | InfoVxlan::Gbp | InfoVxlan::Gpe => own_socket = true,
            _ => {}
        }
    }
    let known = vni.zip(port);
    Ok(known.map(|(vni, port)| Vxlan { vni, port, local, parent, learning, own_socket }))
}
