// SPDX-License-Identifier: Apache-2.0
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

use nix::errno::Errno;

use super::{Request, message::encode, sysctl::Sysctl};
use crate::list::Gather;
use crate::netlink::attribute::{Attribute, emitted};

/// `IFLA_INET_CONF` (include/uapi/linux/if_link.h).
const IFLA_INET_CONF: u16 = 1;
/// The kernel's table of IPv4 neighbours (`arp_tbl`, net/ipv4/arp.c).
const ARP_TABLE: &str = "arp_cache";

/// Whether what comes by a link is forwarded in IPv4. In IPv6 its namesake says whether the
/// node acts as a router on the link, and forbids nothing.
pub fn forwarding(link: &str) -> String {
    format!("net/ipv4/conf/{link}/forwarding")
}

/// An IPv4 parameter of a link and what it should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Devconf {
    /// Packets that come in by the link are forwarded.
    Forwarding(bool),
    /// The link answers for every address that is reached through another one.
    ProxyArp(bool),
    /// Whose address is named when a neighbour is asked for: with 2, one that the
    /// neighbour may answer, whatever the packet's source is.
    ArpAnnounce(u8),
    /// What a router on the link says of better next hops is believed.
    AcceptRedirects(bool),
    /// The longest time for which such an answer is put off, in milliseconds.
    ProxyDelay(u64),
}

impl Devconf {
    /// The same as a file below /proc/sys, which counts [`Devconf::ProxyDelay`]
    /// in hundredths of a second and where that one may be missing.
    pub fn sysctl(self, link: &str) -> Sysctl {
        let conf = |name: &str| format!("net/ipv4/conf/{link}/{name}");
        match self {
            Self::Forwarding(on) => Sysctl::new(forwarding(link), u8::from(on)),
            Self::ProxyArp(on) => Sysctl::new(conf("proxy_arp"), u8::from(on)),
            // Links of manx 0.1 have it not, and serve all the same.
            Self::ArpAnnounce(level) => Sysctl::optional(conf("arp_announce"), level),
            // Links of an earlier version have it as it was: no packet gets so far.
            Self::AcceptRedirects(on) => Sysctl::optional(conf("accept_redirects"), u8::from(on)),
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
            Self::ArpAnnounce(level) => Some((18, level.into())),
            Self::AcceptRedirects(on) => Some((4, on.into())),
            Self::ProxyDelay(_) => None,
        }
    }
}

/// The part of a link's message that sets them (`inet_set_link_af`,
/// net/ipv4/devinet.c); nothing for nothing.
pub(super) fn attribute(wanted: &[Devconf]) -> Option<AfSpecUnspec> {
    let values: Vec<Attribute> = wanted
        .iter()
        .filter_map(|one| one.number_and_value())
        .map(|(number, value)| Attribute::bytes(number, value.to_ne_bytes()))
        .gather();
    let conf = emitted(&[Attribute::bytes(IFLA_INET_CONF, emitted(&values))]);
    let family = u16::from(u8::from(AddressFamily::Inet));
    (!values.is_empty()).then(|| AfSpecUnspec::Other(DefaultNla::new(family, conf)))
}

/// The message for what belongs to the table of neighbours. A kernel that keeps no
/// such table for the link has no delay either.
pub fn neighbour_table(index: u32, name: &str, wanted: &[Devconf]) -> Option<Request> {
    let delay = wanted.iter().find_map(|one| match one {
        Devconf::ProxyDelay(delay) => Some(*delay),
        _ => None,
    })?;
    let mut message = NeighbourTableMessage::default();
    message.header.family = AddressFamily::Inet;
    message.attributes = vec![
        NeighbourTableAttribute::Name(ARP_TABLE.to_owned()),
        NeighbourTableAttribute::Parms(vec![
            NeighbourTableParameter::Ifindex(index),
            NeighbourTableParameter::ProxyDelay(delay),
        ]),
    ];
    let what = format!("set the proxy delay of {name} to {delay} ms");
    let request = encode(RouteNetlinkMessage::SetNeighbourTable(message), 0, what);
    Some(request.tolerate(Errno::ENOENT))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Nla;

    use super::*;

    /// Nested as iproute2's `ip -d link` reads them: numbers of
    /// include/uapi/linux/ip.h, four bytes each.
    #[test]
    fn a_link_is_told_what_it_should_be() {
        let wanted = [
            Devconf::ProxyDelay(0),
            Devconf::ProxyArp(true),
            Devconf::AcceptRedirects(true),
            Devconf::Forwarding(false),
        ];
        let Some(AfSpecUnspec::Other(inet)) = attribute(&wanted) else { panic!("no attribute") };
        let mut value = vec![0; inet.value_len()];
        inet.emit_value(&mut value);
        let value: Vec<u16> =
            value.chunks(2).map(|pair| u16::from_ne_bytes(pair.try_into().unwrap())).collect();
        assert_eq!(inet.kind(), 2);
        let low_first = |value: u32| [value as u16, (value >> 16) as u16];
        let [one, nothing] = [1, 0].map(|value: u32| {
            if cfg!(target_endian = "little") { low_first(value) } else { [0, value as u16] }
        });
        let expected = [&[28, 1], &[8, 3][..], &one, &[8, 4], &one, &[8, 1], &nothing].concat();
        assert_eq!(value, expected);
        assert_eq!(attribute(&[Devconf::ProxyDelay(0)]), None);
    }

    #[test]
    fn each_parameter_has_its_file() {
        for (parameter, file) in [
            (Devconf::Forwarding(true), "net/ipv4/conf/a.b/forwarding=1"),
            (Devconf::ProxyArp(false), "net/ipv4/conf/a.b/proxy_arp=0"),
            (Devconf::ArpAnnounce(2), "net/ipv4/conf/a.b/arp_announce=2"),
            (Devconf::AcceptRedirects(false), "net/ipv4/conf/a.b/accept_redirects=0"),
            (Devconf::ProxyDelay(800), "net/ipv4/neigh/a.b/proxy_delay=80"),
        ] {
            assert_eq!(parameter.sysctl("a.b").to_string(), file);
        }
    }
}
