// SPDX-License-Identifier: Apache-2.0
//! Routes: making them, and asking the kernel which one it would use.

mod details;

use std::{fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    RouteNetlinkMessage,
    route::{
        RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
        RouteScope, RouteType,
    },
};
use nix::{
    errno::Errno,
    libc::{
        RTA_CACHEINFO, RTA_DST, RTA_GATEWAY, RTA_METRICS, RTA_MULTIPATH, RTA_OIF, RTA_PREFSRC,
        RTA_PRIORITY, RTA_TABLE, RTM_NEWROUTE, RTN_ANYCAST, RTN_BLACKHOLE, RTN_BROADCAST,
        RTN_LOCAL, RTN_PROHIBIT, RTN_THROW, RTN_UNICAST, RTN_UNREACHABLE,
    },
};
use serde::{Deserialize, Serialize};

pub use details::Details;

use super::{
    Answer, Error, Reading, Request, Socket,
    message::{encode, family_of},
    raw::{
        self, EXPIRES, NextHops, RTA_VIA, RTAX_ADVMSS, RTAX_LOCK, RTAX_MTU, RTNH_F_ONLINK, next_hop,
    },
};
use crate::{
    family::{Family, HasFamily},
    list::{Gather, PushAll},
    netlink::{BATCH, attribute::Attributes},
};

/// The table that routes without one go to (RT_TABLE_MAIN).
pub const TABLE_MAIN: u32 = 254;
/// Routes that the kernel makes itself, with an address (RTPROT_KERNEL).
pub const PROTOCOL_KERNEL: u8 = 2;
/// Routes made by hand or at boot (RTPROT_BOOT): what `ip route add` gives and
/// what Calico marks pod routes with.
pub const PROTOCOL_BOOT: u8 = 3;
/// Routes from router advertisements (RTPROT_RA).
pub const PROTOCOL_RA: u8 = 9;
/// Reachable on the link itself (RT_SCOPE_LINK).
pub const SCOPE_LINK: u8 = 253;

/// What a route does with packets.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Sends them on.
    Unicast,
    /// Drops them silently.
    Blackhole,
    /// Drops them and tells the sender that the host cannot be reached.
    Unreachable,
    /// Drops them and tells the sender that it may not reach the host.
    Prohibit,
    /// Looks further in the next table.
    Throw,
}

/// What a look-up answers where there is no route, or one of the kinds
/// unreachable, blackhole and prohibit (`fib_props`, net/ipv4/fib_semantics.c).
/// The last two are those of a kernel without the address family.
const NOWHERE: [Errno; 6] = [
    Errno::ENETUNREACH,
    Errno::EHOSTUNREACH,
    Errno::EINVAL,
    Errno::EACCES,
    Errno::EOPNOTSUPP,
    Errno::EAFNOSUPPORT,
];

/// A route through one device, or to nowhere.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Destination.
    pub destination: IpNetwork,
    /// What becomes of the packets.
    pub kind: Kind,
    /// Next hop; none for a destination on the link. One of the other family
    /// (RTA_VIA) leads to IPv4 addresses as well.
    pub gateway: Option<IpAddr>,
    /// The next hop is taken to be on the link without a route that says so.
    pub onlink: bool,
    /// Type of service, part of the key of an IPv4 route.
    pub tos: u8,
    /// Scope; 0 is universe, [`SCOPE_LINK`] the link. IPv6 ignores it.
    pub scope: u8,
    /// Routing table.
    pub table: u32,
    /// Who made it.
    pub protocol: u8,
    /// Metric; `None` is the family's default: 0, or 1024 for IPv6.
    pub priority: Option<u32>,
    /// Path MTU in bytes.
    pub mtu: Option<u32>,
    /// Advertised TCP segment size in bytes.
    pub advmss: Option<u32>,
}

/// A route as the kernel has it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The route itself.
    pub route: Route,
    /// Indexes of the devices: one, several for a route of several paths, none
    /// for a route to nowhere.
    pub devices: Vec<u32>,
    /// Every next hop: the route's own and those of its paths.
    pub gateways: Vec<IpAddr>,
    /// Packets without a source address get this one.
    pub source: Option<IpAddr>,
    /// No path MTU that is learnt lowers the route's own.
    pub fixed_mtu: bool,
    /// The destination is the node's own (RTN_LOCAL). The table does not tell:
    /// without rules of its own, IPv4 keeps local and main routes in one.
    pub local: bool,
    /// The destination is a broadcast or an anycast address of a subnet that the
    /// node is in. Only [`lookup`] tells of those.
    pub shared: bool,
    /// It goes by itself after some time, unless whoever told of it tells again.
    #[serde(default)]
    pub expires: bool,
    /// What else it has, where it has anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
}

impl Found {
    /// A route through these devices with nothing special.
    pub fn new(route: Route, devices: Vec<u32>) -> Self {
        let gateways = route.gateway.into_iter().gather();
        let (source, fixed_mtu, local, shared, expires) = (None, false, false, false, false);
        let details = None;
        Self { route, devices, gateways, source, fixed_mtu, local, shared, expires, details }
    }

    /// Whether a router's advertisement made it: one to more than the link, or the
    /// prefix of the link, which the kernel notes as its own.
    pub fn is_advertised(&self) -> bool {
        let prefix = self.route.protocol == PROTOCOL_KERNEL && self.expires;
        self.route.destination.is_ipv6() && (self.route.protocol == PROTOCOL_RA || prefix)
    }

    /// Whether packets leave by that device, and by no other.
    pub fn is_through(&self, device: u32) -> bool {
        self.devices == [device]
    }

    /// The device that packets leave by, where that is one.
    pub fn device(&self) -> Option<u32> {
        match self.devices[..] {
            [device] => Some(device),
            _ => None,
        }
    }

    /// Whether packets leave by a device without a router in between.
    pub fn is_connected(&self) -> bool {
        let unicast = self.route.kind == Kind::Unicast && !self.local;
        unicast && self.gateways.is_empty() && !self.devices.is_empty()
    }

    /// IPv6 answers a look-up with the route even where that refuses packets.
    pub(super) fn leads_somewhere(&self) -> bool {
        !matches!(self.route.kind, Kind::Unreachable | Kind::Prohibit | Kind::Throw)
    }
}

impl Route {
    /// A route of table main with nothing special.
    /// Bits of the host in the destination are left out, as the kernel wants it.
    pub fn new(destination: IpNetwork) -> Self {
        let network = IpNetwork::new(destination.network(), destination.prefix());
        let destination = network.unwrap_or(destination);
        Self {
            destination,
            kind: Kind::Unicast,
            gateway: None,
            onlink: false,
            tos: 0,
            scope: 0,
            table: TABLE_MAIN,
            protocol: PROTOCOL_BOOT,
            priority: None,
            mtu: None,
            advmss: None,
        }
    }

    /// Adds the route; one of the same key is refused with `EEXIST`.
    pub fn create(&self, index: u32) -> Request {
        let message = RouteNetlinkMessage::NewRoute(self.describe(index));
        encode(message, NLM_F_CREATE | NLM_F_EXCL, format!("add route {self}"))
    }

    /// Deletes the route of this key, protocol and kind; one that is gone
    /// already is success.
    pub fn delete(&self, index: u32) -> Request {
        let message = RouteNetlinkMessage::DelRoute(self.describe(index));
        encode(message, 0, format!("delete route {self}")).tolerate(Errno::ESRCH)
    }

    /// Adds the route in place of one of the same key, at once.
    pub fn replace(&self, index: u32) -> Request {
        let message = RouteNetlinkMessage::NewRoute(self.describe(index));
        encode(message, NLM_F_CREATE | NLM_F_REPLACE, format!("set route {self}"))
    }

    /// Whether `other` is this route as far as packets are concerned, in
    /// whichever table: chained plugins may move a route to one of their own.
    pub fn agrees(&self, other: &Self) -> bool {
        self.destination == other.destination
            && self.gateway == other.gateway
            && (self.mtu.is_none() || self.mtu == other.mtu)
            && (self.advmss.is_none() || self.advmss == other.advmss)
    }

    fn describe(&self, index: u32) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family_of(self.destination.family()),
            destination_prefix_length: self.destination.prefix(),
            table: u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC),
            protocol: RouteProtocol::from(self.protocol),
            scope: RouteScope::from(self.scope),
            tos: self.tos,
            kind: match self.kind {
                Kind::Unicast => RouteType::Unicast,
                Kind::Blackhole => RouteType::BlackHole,
                Kind::Unreachable => RouteType::Unreachable,
                Kind::Prohibit => RouteType::Prohibit,
                Kind::Throw => RouteType::Throw,
            },
            ..RouteHeader::default()
        };
        if self.onlink {
            message.header.flags |= RouteFlags::Onlink;
        }
        let attributes = &mut message.attributes;
        if self.destination.prefix() > 0 {
            attributes.push(RouteAttribute::Destination(self.destination.ip().into()));
        }
        let same_family = |ip: &IpAddr| ip.family() == self.destination.family();
        attributes.push_all(self.gateway.map(|ip| match same_family(&ip) {
            true => RouteAttribute::Gateway(ip.into()),
            false => RouteAttribute::Via(ip.into()),
        }));
        attributes.push_all((index != 0).then_some(RouteAttribute::Oif(index)));
        attributes.push(RouteAttribute::Table(self.table));
        attributes.push_all(self.priority.map(RouteAttribute::Priority));
        let metrics: Vec<_> = (self.mtu.map(RouteMetric::Mtu).into_iter())
            .chain(self.advmss.map(RouteMetric::Advmss))
            .gather();
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Unicast => "",
            Kind::Blackhole => "blackhole ",
            Kind::Unreachable => "unreachable ",
            Kind::Prohibit => "prohibit ",
            Kind::Throw => "throw ",
        })?;
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            let family = if gateway.family() == self.destination.family() { "" } else { "inet6 " };
            write!(f, " via {family}{gateway}")?;
        }
        if self.tos != 0 {
            write!(f, " tos {:#04x}", self.tos)?;
        }
        if self.table != TABLE_MAIN {
            write!(f, " table {}", self.table)?;
        }
        if let Some(priority) = self.priority {
            write!(f, " metric {priority}")?;
        }
        Ok(())
    }
}

/// The route that the kernel uses for `address` (the FIB entry itself, not the
/// resolved path), or `None` where there is none.
///
/// # Errors
/// Anything the kernel answers but that the address leads nowhere.
pub fn lookup(socket: &mut Socket, address: IpAddr) -> Result<Option<Found>, Error> {
    let found = socket.exchange(&[question(address)], read_any)?;
    Ok(found.into_iter().find(Found::leads_somewhere))
}

/// Asks for the FIB entry of an address; no answer where there is none.
pub(super) fn question(address: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(address.family());
    message.header.destination_prefix_length = address.family().bits();
    message.header.flags = RouteFlags::FibMatch;
    message.attributes.push(RouteAttribute::Destination(address.into()));
    let what = ("look up the route to", address);
    let request = encode(RouteNetlinkMessage::GetRoute(message), 0, what);
    request.tolerate_all(&NOWHERE)
}

/// All routes of one family, of every table.
///
/// # Errors
/// The kernel's refusal, or `EINTR` if the list never held still.
pub fn all(socket: &mut Socket, family: Family) -> Result<Vec<Found>, Error> {
    dump(socket, family, RouteProtocol::Unspec)
}

/// The routes of one family that `protocol` made.
///
/// # Errors
/// As for [`all`].
pub fn of_protocol(socket: &mut Socket, family: Family, protocol: u8) -> Result<Vec<Found>, Error> {
    dump(socket, family, RouteProtocol::from(protocol))
}

fn dump(socket: &mut Socket, family: Family, protocol: RouteProtocol) -> Result<Vec<Found>, Error> {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(family);
    message.header.protocol = protocol;
    let request = encode(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, "list routes");
    socket.dump(&request, read)
}

/// How the kernel would send to each of `addresses`: the resolved path, with
/// its next hop, in one exchange. An address without a route gives none.
///
/// Its MTU is the route's own. The resolved path has the one that the node has
/// learnt (RFC 1191, RFC 8201) in its place, for ten minutes, if it has: then
/// the FIB is asked as well.
///
/// # Errors
/// Anything the kernel answers but "unreachable".
pub fn resolve(socket: &mut Socket, addresses: &[IpAddr]) -> Result<Vec<Option<Found>>, Error> {
    let mut found = resolve_from(socket, None, addresses)?;
    for (address, path) in addresses.iter().zip(&mut found) {
        if let Some(path) = path.as_mut().filter(|path| path.route.mtu.is_some()) {
            path.route.mtu = lookup(socket, *address)?.and_then(|entry| entry.route.mtu);
        }
    }
    Ok(found)
}

/// The same of packets that come `from` a source by a device, and are forwarded; of the
/// node's own where there is none.
///
/// # Errors
/// As for [`resolve`]; `EXDEV` where the source does not come by that device.
pub fn resolve_from(
    socket: &mut Socket,
    from: Option<(u32, IpAddr)>,
    addresses: &[IpAddr],
) -> Result<Vec<Option<Found>>, Error> {
    let ask = |address: &IpAddr| {
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(address.family());
        message.header.destination_prefix_length = address.family().bits();
        message.attributes.push(RouteAttribute::Destination((*address).into()));
        if address.is_ipv4() {
            // Else it says table main, whichever it was; IPv6 knows no such flag.
            message.header.flags |= RouteFlags::LookupTable;
        }
        if let Some((device, source)) = from {
            message.header.source_prefix_length = message.header.destination_prefix_length;
            message.attributes.push(RouteAttribute::Source(source.into()));
            message.attributes.push(RouteAttribute::Iif(device));
        }
        let what = ("look up the route to", *address);
        let request = encode(RouteNetlinkMessage::GetRoute(message), 0, what);
        request.tolerate_all(&NOWHERE)
    };
    let mut found = Vec::with_capacity(addresses.len());
    for chunk in addresses.chunks(BATCH) {
        let requests: Vec<Request> = chunk.iter().map(ask).gather();
        let before = found.len();
        found.resize_with(before + chunk.len(), || None);
        socket.ask(&requests, &mut |place, answer| {
            let path = read(answer)?.filter(Found::leads_somewhere);
            if let (Some(free), Some(path)) = (found.get_mut(before + place), path) {
                *free = Some(path);
            }
            Ok(())
        })?;
    }
    Ok(found)
}

pub(super) fn read(answer: &Answer<'_>) -> Reading<Found> {
    Ok(read_any(answer)?.filter(|found| !found.shared))
}

fn read_any(answer: &Answer<'_>) -> Reading<Found> {
    match answer.kind {
        RTM_NEWROUTE => found(answer),
        _ => Ok(None),
    }
}

/// `None` for kinds of routes that nobody here makes.
fn found(answer: &Answer<'_>) -> Reading<Found> {
    let header = raw::RouteHeader::of(answer)?;
    let kind = match header.kind {
        RTN_BLACKHOLE => Kind::Blackhole,
        RTN_UNREACHABLE => Kind::Unreachable,
        RTN_PROHIBIT => Kind::Prohibit,
        RTN_THROW => Kind::Throw,
        // A look-up of a local address answers with its kind.
        RTN_UNICAST | RTN_LOCAL | RTN_BROADCAST | RTN_ANYCAST => Kind::Unicast,
        _ => return Ok(None),
    };
    let Some(unspecified) = raw::unspecified(header.family) else { return Ok(None) };
    let Ok(default) = IpNetwork::new(unspecified, header.prefix) else { return Ok(None) };
    let mut found = Found::new(Route::new(default), Vec::new());
    found.local = header.kind == RTN_LOCAL;
    found.shared = matches!(header.kind, RTN_BROADCAST | RTN_ANYCAST);
    let (mut details, mut onlinks) = (Details::default(), 0);
    let route = &mut found.route;
    route.kind = kind;
    (route.tos, route.scope) = (header.tos, header.scope);
    (route.protocol, route.table) = (header.protocol, header.table.into());
    route.onlink = header.flags & u32::from(RTNH_F_ONLINK) != 0;
    for attribute in answer.attributes(raw::HEADER_BYTES) {
        let (kind, value) = attribute?;
        match kind {
            RTA_DST => {
                let network = raw::ip(value).map(|address| IpNetwork::new(address, header.prefix));
                let Some(Ok(network)) = network else { return Ok(None) };
                route.destination = network;
            }
            RTA_GATEWAY | RTA_VIA => {
                route.gateway = next_hop(kind, value);
                found.gateways.push_all(route.gateway);
            }
            RTA_PREFSRC => found.source = raw::ip(value),
            RTA_CACHEINFO => found.expires = value.get(EXPIRES).is_some_and(|it| it != [0; 4]),
            RTA_OIF => found.devices.push(raw::number(value)?),
            RTA_MULTIPATH => {
                for hop in NextHops(value) {
                    let hop = hop?;
                    found.devices.push(hop.index);
                    let is_onlink = hop.flags & RTNH_F_ONLINK != 0;
                    route.onlink |= is_onlink;
                    onlinks += usize::from(is_onlink);
                    details.take_hop(&hop);
                    for attribute in hop.attributes {
                        let (kind, value) = attribute?;
                        found.gateways.push_all(next_hop(kind, value));
                        details.hidden |= ![RTA_GATEWAY, RTA_VIA].contains(&kind);
                    }
                }
            }
            RTA_TABLE => route.table = raw::number(value)?,
            RTA_PRIORITY => route.priority = Some(raw::number(value)?),
            RTA_METRICS => {
                for metric in Attributes(value) {
                    let (kind, value) = metric?;
                    match kind {
                        RTAX_MTU => route.mtu = Some(raw::number(value)?),
                        RTAX_ADVMSS => route.advmss = Some(raw::number(value)?),
                        RTAX_LOCK => found.fixed_mtu = raw::number(value)? & (1 << RTAX_MTU) != 0,
                        _ => {}
                    }
                    details.take_metric(kind, value)?;
                }
            }
            _ => details.take(kind, value)?,
        }
    }
    details.conclude(onlinks);
    found.details = details.noted();
    Ok(Some(found))
}
