//! IPv4 parameters of a link, set by rtnetlink: all of them in the message that
//! brings the link up, where /proc/sys takes four system calls for each.
//!
//! They are read back below /proc/sys, for which every one has a [`Sysctl`].

use netlink_packet_core::DefaultNla;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::AfSpecUnspec,
    neighbour_table::{NeighbourTableAttribute, NeighbourTableMessage, NeighbourTableParameter},
};

use super::{Request, link::Link, sysctl::Sysctl};

/// `IFLA_INET_CONF` (include/uapi/linux/if_link.h).
const IFLA_INET_CONF: u16 = 1;
/// The kernel's table of IPv4 neighbours (`arp_tbl`, net/ipv4/arp.c).
const ARP_TABLE: &str = "arp_cache";
/// `struct nlattr`.
const ATTRIBUTE_HEADER_BYTES: u16 = 4;

/// An IPv4 parameter of a link and what it should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Devconf {
    /// Packets that come in by the link are forwarded.
    Forwarding(bool),
    /// The link answers for every address that is reached through another one.
    ProxyArp(bool),
    /// 127.0.0.0/8 may come in and go out by the link.
    RouteLocalnet(bool),
    /// The longest time for which such an answer is put off, in milliseconds.
    ProxyDelay(u64),
}

impl Devconf {
    /// The same as a file below /proc/sys, which counts [`Devconf::ProxyDelay`]
    /// in hundredths of a second and where that one may be missing.
    pub fn sysctl(self, link: &str) -> Sysctl {
        let conf = |name: &str| format!("net/ipv4/conf/{link}/{name}");
        match self {
            Self::Forwarding(on) => Sysctl::new(conf("forwarding"), u8::from(on)),
            Self::ProxyArp(on) => Sysctl::new(conf("proxy_arp"), u8::from(on)),
            Self::RouteLocalnet(on) => Sysctl::new(conf("route_localnet"), u8::from(on)),
            Self::ProxyDelay(delay) => {
                Sysctl::optional(format!("net/ipv4/neigh/{link}/proxy_delay"), delay / 10)
            }
        }
    }

    /// Number (`IPV4_DEVCONF_*`, include/uapi/linux/ip.h) and value; `None` for
    /// what belongs to the table of neighbours.
    fn number_and_value(self) -> Option<(u16, u32)> {
        match self {
            Self::Forwarding(on) => Some((1, on.into())),
            Self::ProxyArp(on) => Some((3, on.into())),
            Self::RouteLocalnet(on) => Some((26, on.into())),
            Self::ProxyDelay(_) => None,
        }
    }
}

/// The part of a link's message that sets them (`inet_set_link_af`,
/// net/ipv4/devinet.c); nothing for nothing.
pub(super) fn attribute(wanted: &[Devconf]) -> Option<AfSpecUnspec> {
    let mut values = Vec::new();
    for (number, value) in wanted.iter().filter_map(|one| one.number_and_value()) {
        push_attribute(&mut values, number, &value.to_ne_bytes());
    }
    let mut conf = Vec::new();
    push_attribute(&mut conf, IFLA_INET_CONF, &values);
    let family = u16::from(u8::from(AddressFamily::Inet));
    (!values.is_empty()).then(|| AfSpecUnspec::Other(DefaultNla::new(family, conf)))
}

/// `value` is a multiple of four bytes long.
fn push_attribute(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX - ATTRIBUTE_HEADER_BYTES);
    buffer.extend((length + ATTRIBUTE_HEADER_BYTES).to_ne_bytes());
    buffer.extend(kind.to_ne_bytes());
    buffer.extend(value);
}

/// The message for what belongs to the table of neighbours.
pub fn neighbour_table(link: &Link, wanted: &[Devconf]) -> Option<Request> {
    let delay = wanted.iter().find_map(|one| match one {
        Devconf::ProxyDelay(delay) => Some(*delay),
        _ => None,
    })?;
    let mut message = NeighbourTableMessage::default();
    message.header.family = AddressFamily::Inet;
    message.attributes = vec![
        NeighbourTableAttribute::Name(ARP_TABLE.to_owned()),
        NeighbourTableAttribute::Parms(vec![
            NeighbourTableParameter::Ifindex(link.index),
            NeighbourTableParameter::ProxyDelay(delay),
        ]),
    ];
    let what = format!("set the proxy delay of {} to {delay} ms", link.name);
    Some(Request::new(RouteNetlinkMessage::SetNeighbourTable(message), 0, what))
}
