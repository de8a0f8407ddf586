// SPDX-License-Identifier: Apache-2.0
//! Tunnel devices: IP in IP and VXLAN.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NlasIterator, Parseable};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo, LinkMessage},
};
use serde::{Deserialize, Serialize};

use super::{Mac, Reading, Request, message::encode};
use crate::list::PushAll;

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

/// Creates a tunnel device in an interface group: of a kind, with the MAC address and with
/// what a VXLAN device has besides.
pub fn create(
    name: &str,
    mtu: u32,
    group: u32,
    (kind, mac, vxlan): (&str, Option<Mac>, Option<&Vxlan>),
) -> Request {
    let mut info = vec![LinkInfo::Kind(InfoKind::from(kind))];
    info.push_all(vxlan.map(|vxlan| LinkInfo::Data(InfoData::Vxlan(vxlan.describe()))));
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::Mtu(mtu)];
    message.attributes.push_all(mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.push_all([LinkAttribute::Group(group), LinkAttribute::LinkInfo(info)]);
    let what = format!("create {kind} device {name}");
    encode(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, what)
}

impl Vxlan {
    fn describe(&self) -> Vec<InfoVxlan> {
        let mut data = vec![
            InfoVxlan::Id(self.vni),
            InfoVxlan::Link(self.parent),
            InfoVxlan::Port(self.port),
            InfoVxlan::Learning(self.learning),
        ];
        data.push_all(self.local.map(|local| match local {
            IpAddr::V4(ip) => InfoVxlan::Local(ip),
            IpAddr::V6(ip) => InfoVxlan::Local6(ip),
        }));
        data
    }
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
