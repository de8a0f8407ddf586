// SPDX-License-Identifier: Apache-2.0
//! Forwarding entries of VXLAN devices: which node a MAC address is behind.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};
use nix::{errno::Errno, libc::RTM_NEWNEIGH};
use serde::{Deserialize, Serialize};

use super::{Error, Mac, Request, Socket, message::encode, raw};

/// A permanent entry.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The inner destination.
    pub mac: Mac,
    /// The outer destination.
    pub node: IpAddr,
}

impl Entry {
    /// Sets the entry, whatever the MAC address was behind before.
    pub fn replace(&self, index: u32) -> Request {
        let message = RouteNetlinkMessage::NewNeighbour(self.describe(index));
        let what = format!("set forwarding entry {} to {}", self.mac, self.node);
        encode(message, NLM_F_CREATE | NLM_F_REPLACE, what)
    }

    /// Removes the entry; one that is gone already is success.
    pub fn delete(&self, index: u32) -> Request {
        let message = RouteNetlinkMessage::DelNeighbour(self.describe(index));
        let what = format!("delete forwarding entry {} to {}", self.mac, self.node);
        encode(message, 0, what).tolerate(Errno::ENOENT)
    }

    fn describe(&self, index: u32) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = NeighbourFlags::Own;
        let node = match self.node {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        };
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(self.mac.0.to_vec()));
        message.attributes.push(NeighbourAttribute::Destination(node));
        message
    }
}

/// The permanent entries of a VXLAN device.
///
/// # Errors
/// The kernel's refusal, or `EINTR` if the list never held still.
pub fn permanent(socket: &mut Socket, index: u32) -> Result<Vec<Entry>, Error> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    let what = "list forwarding entries";
    let request = encode(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP, what);
    socket.dump(&request, |answer| match answer.kind {
        RTM_NEWNEIGH => Ok(permanent_of(&raw::Neighbour::of(answer)?, index)),
        _ => Ok(None),
    })
}

/// The permanent entries of all devices that lead to a node, each with the index of its
/// device.
///
/// # Errors
/// As for [`permanent`].
pub fn all(socket: &mut Socket) -> Result<Vec<(u32, Entry)>, Error> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    let what = "list forwarding entries";
    let request = encode(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP, what);
    socket.dump(&request, |answer| match answer.kind {
        RTM_NEWNEIGH => {
            let entry = raw::Neighbour::of(answer)?;
            Ok(permanent_of(&entry, entry.index).map(|found| (entry.index, found)))
        }
        _ => Ok(None),
    })
}

pub(super) fn permanent_of(entry: &raw::Neighbour, index: u32) -> Option<Entry> {
    // One bit of several: `bridge fdb` sets another beside it.
    let permanent = entry.state & raw::PERMANENT != 0;
    if entry.index != index || !permanent {
        return None;
    }
    Some(Entry { mac: entry.mac?, node: entry.address? })
}
