// SPDX-License-Identifier: Apache-2.0
//! Tells what of links, addresses, routes, rules, neighbours or forwarding has changed, as
//! far as somebody keeps what it was.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::DecodeError;
use nix::libc::{
    AF_BRIDGE, RTA_DST, RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH, RTM_DELROUTE, RTM_NEWADDR,
    RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWROUTE,
};

use super::{Answer, Error, Monitor, raw};
use crate::netlink::Route;

/// RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE,
/// RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE,
/// RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF (include/uapi/linux/rtnetlink.h).
const GROUPS: [u32; 10] = [1, 3, 5, 7, 8, 9, 11, 19, 24, 25];
/// RTNLGRP_NEXTHOP: routes go with their next hop without a word of each. A kernel before
/// 5.3 has neither.
const NEXT_HOPS: u32 = 32;
/// Of `struct ifaddrmsg`.
const ADDRESS_HEADER_BYTES: usize = 8;
const IFA_ADDRESS: u16 = 1;

/// What has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// A route to there, in any table.
    Route(IpNetwork),
    /// A link of that index, or an address that no route can depend on.
    Link(u32),
    /// What is known of a next hop.
    Neighbour {
        /// The index of the link that it is on.
        link: u32,
        /// Its address.
        address: IpAddr,
        /// Whether the kernel takes it for one that answers.
        answers: bool,
    },
    /// A forwarding entry of a link.
    Forwarding(u32),
    /// Anything, or more than could be told.
    Other,
}

/// Subscribes to the changes of the calling thread's namespace.
///
/// # Errors
/// The failing system call.
pub fn subscribe() -> Result<Monitor, Error> {
    let mut monitor = Monitor::open::<Route>(&GROUPS, "changes", |_| true)?;
    monitor.join(NEXT_HOPS);
    Ok(monitor)
}

/// Takes all that has been told.
///
/// # Errors
/// The failing system call.
pub fn read(monitor: &mut Monitor, take: &mut dyn FnMut(Event)) -> Result<(), Error> {
    monitor.read(&mut |answer| {
        let event = answer.map(|answer| event(answer).ok().flatten());
        take(event.flatten().unwrap_or(Event::Other));
    })
}

/// What a message tells, if it is one that is read closely.
pub(super) fn event(answer: &Answer<'_>) -> Result<Option<Event>, DecodeError> {
    Ok(match answer.kind {
        RTM_NEWROUTE | RTM_DELROUTE => route(answer)?.map(Event::Route),
        RTM_NEWLINK | RTM_DELLINK => index(answer).map(Event::Link),
        RTM_NEWADDR | RTM_DELADDR => local_address(answer)?.map(Event::Link),
        RTM_NEWNEIGH | RTM_DELNEIGH if answer.body.first() == Some(&(AF_BRIDGE as u8)) => {
            index(answer).map(Event::Forwarding)
        }
        RTM_NEWNEIGH | RTM_DELNEIGH => {
            let raw::Neighbour { index: link, state, address, .. } = raw::Neighbour::of(answer)?;
            let answers = answer.kind == RTM_NEWNEIGH && state & raw::VALID != 0;
            address.map(|address| Event::Neighbour { link, address, answers })
        }
        _ => None,
    })
}

fn route(answer: &Answer<'_>) -> Result<Option<IpNetwork>, DecodeError> {
    let header = raw::RouteHeader::of(answer)?;
    for attribute in answer.attributes(raw::HEADER_BYTES) {
        if let (RTA_DST, value) = attribute? {
            return Ok(raw::ip(value).and_then(|ip| IpNetwork::new(ip, header.prefix).ok()));
        }
    }
    let Some(unspecified) = raw::unspecified(header.family) else { return Ok(None) };
    Ok(IpNetwork::new(unspecified, header.prefix).ok())
}

/// The link that an address of IPv6 is on which is good there alone: links come and go
/// with one each. With any other the kernel may take routes away that name it as source.
fn local_address(answer: &Answer<'_>) -> Result<Option<u32>, DecodeError> {
    for attribute in answer.attributes(ADDRESS_HEADER_BYTES) {
        if let (IFA_ADDRESS, value) = attribute? {
            let is_local =
                matches!(raw::ip(value), Some(IpAddr::V6(ip)) if ip.is_unicast_link_local());
            return Ok(index(answer).filter(|_| is_local));
        }
    }
    Ok(None)
}

/// Where `struct ifinfomsg`, `struct ifaddrmsg` and `struct ndmsg` all have it.
fn index(answer: &Answer<'_>) -> Option<u32> {
    answer.body.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests;
