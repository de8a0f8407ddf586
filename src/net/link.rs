// SPDX-License-Identifier: Apache-2.0
//! Links: the veth pair of an attachment, and what the kernel says of one.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{DecodeError, Emitable, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, parse_u32};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
        LinkExtentMask, LinkFlags, LinkHeader, LinkMessage,
    },
};
use nix::{
    errno::Errno,
    libc::{
        IFLA_ADDRESS, IFLA_GROUP, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND,
        IFLA_LINK, IFLA_LINKINFO, IFLA_MTU, RTM_NEWLINK,
    },
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use serde::{Deserialize, Serialize};

use super::{
    Answer, Error, Mac, Reading, Request, Socket,
    devconf::{self, Devconf},
    message::encode,
    tunnel::{Vxlan, read_vxlan},
};
use crate::list::{Gather, PushAll};
use crate::netlink::attribute::{Attributes, string};

/// The longest alias that the kernel keeps, in bytes (IFALIASZ less its NUL).
pub const ALIAS_BYTES_MAX: usize = 255;

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Interface index in its namespace.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `IFLA_IFALIAS`.
    pub alias: Option<String>,
    /// `IFLA_GROUP`; 0 is the default group.
    pub group: u32,
    /// MTU in bytes.
    pub mtu: u32,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// Administratively up.
    pub up: bool,
    /// It is up, and has no carrier (IFF_UP without IFF_LOWER_UP): packets are dropped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_carrier: bool,
    /// A loopback device.
    pub loopback: bool,
    /// `IFLA_INFO_KIND`: `veth`, `vxlan`, `ipip`; none for hardware.
    pub kind: Option<String>,
    /// Index of the other end or of the lower device, in that one's namespace.
    pub peer_index: Option<u32>,
    /// What a VXLAN device was created with.
    pub vxlan: Option<Vxlan>,
}

/// One end of a pair that is to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VethEnd {
    /// Interface name.
    pub name: String,
    /// Ethernet address.
    pub mac: Mac,
    /// MTU in bytes; the kernel does not copy it from one end to the other.
    pub mtu: u32,
    /// Interface group; 0 for none.
    pub group: u32,
    /// Transmit and receive queues.
    pub queues: u32,
}

/// Creates a pair with the host's end in the socket's namespace and the pod's
/// directly in its own. Creating here and moving there would cost a grace period.
///
/// The pod's end has to be the peer: before Linux 6.14 the kernel looks the name
/// of the link that a message is about up in the socket's namespace, even if the
/// link is to be in another one (`__rtnl_newlink` of net/core/rtnetlink.c), and
/// answers that the pod's `eth0` exists wherever the node has an `eth0`.
///
/// Both ends come up down: the peer may not carry IFF_UP (veth_open of
/// drivers/net/veth.c wants both).
fn create_veth(host: &VethEnd, pod: &VethEnd, netns: BorrowedFd<'_>) -> Request {
    let end = |end: &VethEnd| {
        [
            LinkAttribute::Address(end.mac.0.to_vec()),
            LinkAttribute::Mtu(end.mtu),
            LinkAttribute::Group(end.group),
            LinkAttribute::NumTxQueues(end.queues),
            LinkAttribute::NumRxQueues(end.queues),
        ]
    };
    let mut peer = LinkMessage::default();
    peer.attributes.push(LinkAttribute::IfName(pod.name.clone()));
    peer.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    peer.attributes.push_all(end(pod));
    let mut message = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(host.name.clone())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    message.attributes.push_all(end(host));
    encode(
        RouteNetlinkMessage::NewLink(message),
        NLM_F_CREATE | NLM_F_EXCL,
        format!("create veth {} with its other end {} in the pod", host.name, pod.name),
    )
}

/// Makes the pair: `before` it (such as the removal of a link whose name is
/// taken over), the pair itself, and the host link as the kernel then has it.
///
/// The alias that names its owner is the caller's next request. It cannot be
/// part of the creating message, which ignores it, nor of the same send: the
/// kernel goes on behind a request that it refused, and a name that is taken
/// would get our mark on another's link.
///
/// # Errors
/// The first request that failed. No pair of ours is there then.
pub fn make_veth(
    socket: &mut Socket,
    before: Vec<Request>,
    pair: (&VethEnd, &VethEnd),
    netns: BorrowedFd<'_>,
) -> Result<Link, Error> {
    let (host, pod) = pair;
    let mut requests = before;
    requests.push(create_veth(host, pod, netns));
    requests.push(described(0, Some(LinkAttribute::IfName(host.name.clone())), &host.name));
    let links = socket.exchange(&requests, Link::read)?;
    links
        .into_iter()
        .next()
        .ok_or_else(|| Error::new(format!("look up link {}", host.name), Errno::ENODEV))
}

/// Names the owner of a link.
pub fn set_alias(link: &Link, alias: &str) -> Request {
    let message = LinkUnspec::new_with_index(link.index).alias(alias).build();
    let what = format!("set the alias of {}", link.name);
    encode(RouteNetlinkMessage::SetLink(message), 0, what)
}

/// Names the owner of a link, sets its IPv4 parameters and brings it up: in this
/// order (`do_setlink`, net/core/rtnetlink.c), but for the parameters, which come
/// last. It goes by the index, for the name may have been another's.
///
/// Of a pod `with_ipv6`, the kernel generates no link-local address, for which it would
/// wait a second or two; one is given explicitly instead. That comes behind the
/// up, and so is for links whose other end is down: without a carrier there is
/// nothing to generate an address for yet.
pub fn commission(link: &Link, alias: &str, devconf: &[Devconf], with_ipv6: bool) -> Request {
    let generated = with_ipv6.then(no_generated_address);
    let families: Vec<AfSpecUnspec> =
        devconf::attribute(devconf).into_iter().chain(generated).gather();
    let mut message = LinkUnspec::new_with_index(link.index).alias(alias).up();
    if !families.is_empty() {
        message = message.append_extra_attribute(LinkAttribute::AfSpecUnspec(families));
    }
    let what = format!("mark {} and bring it up", link.name);
    encode(RouteNetlinkMessage::SetLink(message.build()), 0, what)
}

/// Gives a link that exists an alias and a group.
pub fn set_mark(index: u32, name: &str, alias: &str, group: u32) -> Request {
    let message = LinkUnspec::new_with_index(index).alias(alias).link_group(group).build();
    let what = format!("mark {name} as {alias}");
    encode(RouteNetlinkMessage::SetLink(message), 0, what)
}

/// Keeps the kernel from generating a link-local address when the link comes up.
pub fn without_generated_address(name: &str) -> Request {
    let message = LinkUnspec::new_with_name(name)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![no_generated_address()]))
        .build();
    let what = format!("turn off address generation of {name}");
    encode(RouteNetlinkMessage::SetLink(message), 0, what)
}

fn no_generated_address() -> AfSpecUnspec {
    AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)])
}

/// Sets the MTU of a link, in bytes.
pub fn set_mtu(name: &str, mtu: u32) -> Request {
    let message = LinkUnspec::new_with_name(name).mtu(mtu).build();
    encode(RouteNetlinkMessage::SetLink(message), 0, format!("set the MTU of {name} to {mtu}"))
}

/// Brings a link up.
pub fn set_up(name: &str) -> Request {
    let message = LinkUnspec::new_with_name(name).up().build();
    encode(RouteNetlinkMessage::SetLink(message), 0, format!("bring up {name}"))
}

/// Puts a link into a group.
pub fn set_group(index: u32, name: &str, group: u32) -> Request {
    let message = LinkUnspec::new_with_index(index).link_group(group).build();
    encode(RouteNetlinkMessage::SetLink(message), 0, format!("set the group of {name}"))
}

/// Brings a link down and takes its alias and its group away.
pub fn release(name: &str) -> Request {
    let message = LinkUnspec::new_with_name(name).down().alias("").link_group(0).build();
    encode(RouteNetlinkMessage::SetLink(message), 0, format!("give up {name}"))
}

/// Deletes a link by its index, and with a veth its other end; a link that is
/// gone already is success.
pub fn delete(index: u32, name: &str) -> Request {
    let message = LinkUnspec::new_with_index(index).build();
    encode(RouteNetlinkMessage::DelLink(message), 0, format!("delete link {name}"))
        .tolerate(Errno::ENODEV)
}

/// The link of that name, or `None`.
///
/// # Errors
/// Anything the kernel answers but `ENODEV`.
pub fn by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let attribute = LinkAttribute::IfName(name.to_owned());
    query(socket, described(0, Some(attribute), name))
}

/// The link of that index, or `None`.
///
/// # Errors
/// Anything the kernel answers but `ENODEV`.
pub fn by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>, Error> {
    query(socket, question(index))
}

/// Asks for the link of that index.
pub(super) fn question(index: u32) -> Request {
    described(index, None, &format!("number {index}"))
}

/// All links of the namespace.
///
/// # Errors
/// The kernel's refusal, or `EINTR` if the list never held still.
pub fn all(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    let request = encode(RouteNetlinkMessage::GetLink(without_stats()), NLM_F_DUMP, "list links");
    socket.dump(&request, Link::read)
}

fn query(socket: &mut Socket, request: Request) -> Result<Option<Link>, Error> {
    match socket.exchange(&[request], Link::read) {
        Ok(links) => Ok(links.into_iter().next()),
        Err(error) if error.errno == Errno::ENODEV => Ok(None),
        Err(error) => Err(error),
    }
}

fn described(index: u32, attribute: Option<LinkAttribute>, name: &str) -> Request {
    let mut message = without_stats();
    message.header.index = index;
    message.attributes.push_all(attribute);
    encode(RouteNetlinkMessage::GetLink(message), 0, format!("look up link {name}"))
}

/// Counters are most of what a link's description weighs, and nobody here
/// reads them.
fn without_stats() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Unspec;
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

impl Link {
    pub(super) fn read(answer: &Answer<'_>) -> Reading<Self> {
        if answer.kind != RTM_NEWLINK {
            return Ok(None);
        }
        let header = LinkHeader::parse(answer.body)?;
        let mut link = Self::without_attributes(&header);
        for attribute in answer.attributes(header.buffer_len()) {
            let (kind, value) = attribute?;
            match kind {
                IFLA_IFNAME => link.name = string(value),
                IFLA_IFALIAS => link.alias = Some(string(value)),
                IFLA_GROUP => link.group = parse_u32(value)?,
                IFLA_MTU => link.mtu = parse_u32(value)?,
                IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac),
                IFLA_LINK => link.peer_index = Some(parse_u32(value)?),
                IFLA_LINKINFO => link.read_info(value)?,
                _ => {}
            }
        }
        Ok(Some(link))
    }

    fn without_attributes(header: &LinkHeader) -> Self {
        Self {
            index: header.index,
            name: String::new(),
            alias: None,
            group: 0,
            mtu: 0,
            mac: None,
            up: header.flags.contains(LinkFlags::Up),
            no_carrier: header.flags.contains(LinkFlags::Up)
                && !header.flags.contains(LinkFlags::LowerUp),
            loopback: header.flags.contains(LinkFlags::Loopback),
            kind: None,
            peer_index: None,
            vxlan: None,
        }
    }

    /// The kernel tells the kind before what is peculiar to it.
    fn read_info(&mut self, infos: &[u8]) -> Result<(), DecodeError> {
        for info in Attributes(infos) {
            let (kind, value) = info?;
            match kind {
                IFLA_INFO_KIND => self.kind = Some(string(value)),
                IFLA_INFO_DATA if self.kind.as_deref() == Some("vxlan") => {
                    self.vxlan = read_vxlan(value)?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
