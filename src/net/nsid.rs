// SPDX-License-Identifier: Apache-2.0
//! The numbers that a namespace has for others: the kernel tells by them in which one the
//! other end of a link is.

use std::os::fd::AsRawFd;

use netlink_packet_core::{NLM_F_DUMP, parse_u32};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::LinkMessage,
    nsid::{NsidAttribute, NsidHeader, NsidMessage},
};
use nix::libc::{IFLA_LINK_NETNSID, RTM_NEWLINK};

use super::{Answer, Error, Namespace, Reading, Socket, message::encode};

/// The kernel's answer about a number (include/uapi/linux/rtnetlink.h, net_namespace.h).
const RTM_NEWNSID: u16 = 88;
const NETNSA_NSID: u16 = 1;
/// Sizes of `struct ifinfomsg`, and of `struct rtgenmsg` with its padding.
const OF_LINK: usize = 16;
const OF_NUMBER: usize = 4;
/// There is no number (`NETNSA_NSID_NOT_ASSIGNED`): no link of here leads there.
const NONE: u32 = u32::MAX;

/// The number of a namespace in the socket's, if it has one there.
///
/// # Errors
/// The kernel's refusal.
pub fn of_namespace(socket: &mut Socket, netns: &Namespace) -> Result<Option<u32>, Error> {
    let descriptor = netns.as_raw_fd().cast_unsigned();
    let mut message = NsidMessage::default();
    message.header = NsidHeader { family: AddressFamily::Unspec };
    message.attributes.push(NsidAttribute::Fd(descriptor));
    let request = encode(RouteNetlinkMessage::GetNsId(message), 0, "number of a namespace");
    let found = socket.exchange(&[request], |answer| read(answer, RTM_NEWNSID, number))?;
    Ok(found.into_iter().next().filter(|number| *number != NONE))
}

/// The links of the socket's namespace whose other ends are in other ones: their indexes,
/// and the numbers of those.
///
/// # Errors
/// The kernel's refusal, or `EINTR` if the list never held still.
pub fn of_links(socket: &mut Socket) -> Result<Vec<(u32, u32)>, Error> {
    let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let request = encode(message, NLM_F_DUMP, "list links");
    socket.dump(&request, |answer| read(answer, RTM_NEWLINK, link))
}

fn read<T>(answer: &Answer<'_>, kind: u16, read: impl Fn(&Answer<'_>) -> Reading<T>) -> Reading<T> {
    if answer.kind == kind { read(answer) } else { Ok(None) }
}

pub(super) fn number(answer: &Answer<'_>) -> Reading<u32> {
    attribute(answer, OF_NUMBER, NETNSA_NSID)
}

pub(super) fn link(answer: &Answer<'_>) -> Reading<(u32, u32)> {
    let index = answer.body.get(4..8).map(parse_u32).transpose()?;
    let number = attribute(answer, OF_LINK, IFLA_LINK_NETNSID)?;
    Ok(index.zip(number))
}

fn attribute(answer: &Answer<'_>, offset: usize, wanted: u16) -> Reading<u32> {
    for attribute in answer.attributes(offset) {
        let (kind, value) = attribute?;
        if kind == wanted {
            return Ok(Some(parse_u32(value)?));
        }
    }
    Ok(None)
}
