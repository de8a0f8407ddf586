// SPDX-License-Identifier: Apache-2.0
//! Permanent neighbour entries.

use std::{net::IpAddr, time::Duration};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::RouteType,
};
use nix::{errno::Errno, libc::RTM_NEWNEIGH};
use serde::{Deserialize, Serialize};

use super::{Answer, Error, Mac, Reading, Request, Socket, message::encode, raw};

/// An entry that is never asked for on the wire.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Neighbour {
    /// The next hop.
    pub address: IpAddr,
    /// Where it is reached.
    pub mac: Mac,
}

impl Neighbour {
    /// Sets the entry, whatever was learnt before.
    pub fn replace(&self, index: u32) -> Request {
        let mut message = describe(index, self.address);
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(self.mac.0.to_vec()));
        encode(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            format!("set neighbour {} to {}", self.address, self.mac),
        )
    }
}

/// What the kernel knows of a next hop.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Known {
    /// Where it is reached, if that has been found out.
    pub mac: Option<Mac>,
    /// The entry is not asked for on the wire.
    pub permanent: bool,
    /// It is being asked for, where it was, and has not answered.
    pub is_asked: bool,
    /// How long ago it answered last, or something else showed that it is there.
    pub confirmed: Option<Duration>,
    /// Its flags (`NTF_*`).
    pub flags: u8,
}

impl Known {
    /// Asks on the wire whether it is still where it was: what the kernel knows may be long
    /// past. One that answers stays as it is; one that does not is forgotten after some
    /// seconds, as by any packet that is sent there.
    pub fn ask(&self, index: u32, address: IpAddr) -> Option<Request> {
        let mac = self.mac.filter(|_| !self.permanent)?;
        let mut message = describe(index, address);
        message.header.state = NeighbourState::Probe;
        message.header.kind = RouteType::Unicast;
        // Else they would be taken away.
        message.header.flags = NeighbourFlags::from_bits_retain(self.flags);
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        let what = format!("ask for neighbour {address}");
        let request = encode(RouteNetlinkMessage::NewNeighbour(message), NLM_F_REPLACE, what);
        Some(request.tolerate(Errno::ENOENT).tolerate(Errno::EPERM))
    }
}

/// The kernel's entry for `address` on a link, if there is one.
///
/// # Errors
/// Anything the kernel answers but "no such entry".
pub fn lookup(socket: &mut Socket, index: u32, address: IpAddr) -> Result<Option<Known>, Error> {
    let message = RouteNetlinkMessage::GetNeighbour(describe(index, address));
    let request = encode(message, 0, format!("look up neighbour {address}"));
    match socket.exchange(&[request], read) {
        Err(error) if error.is_absent() => Ok(None),
        entries => Ok(entries?.into_iter().next()),
    }
}

pub(super) fn read(answer: &Answer<'_>) -> Reading<Known> {
    if answer.kind != RTM_NEWNEIGH {
        return Ok(None);
    }
    let entry = raw::Neighbour::of(answer)?;
    let confirmed = entry.confirmed.map(|ticks| Duration::from_millis(u64::from(ticks) * 10));
    Ok(Some(Known {
        mac: entry.mac,
        permanent: entry.state & (raw::PERMANENT | raw::NOARP) != 0,
        is_asked: entry.state == raw::PROBE,
        confirmed,
        flags: entry.flags,
    }))
}

/// The permanent entries of a link, of both families.
///
/// # Errors
/// The kernel's refusal, or `EINTR` if the list never held still.
pub fn permanent(socket: &mut Socket, index: u32) -> Result<Vec<Neighbour>, Error> {
    let mut message = NeighbourMessage::default();
    message.attributes.push(NeighbourAttribute::IfIndex(index));
    let request = encode(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP, "list neighbours");
    socket.dump(&request, |answer| match answer.kind {
        RTM_NEWNEIGH => Ok(permanent_of(&raw::Neighbour::of(answer)?, index)),
        _ => Ok(None),
    })
}

/// The permanent entries of all links, each with the index of its link.
///
/// # Errors
/// As for [`permanent`].
pub fn all(socket: &mut Socket) -> Result<Vec<(u32, Neighbour)>, Error> {
    let message = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
    let request = encode(message, NLM_F_DUMP, "list neighbours");
    socket.dump(&request, |answer| match answer.kind {
        RTM_NEWNEIGH => {
            let entry = raw::Neighbour::of(answer)?;
            Ok(permanent_of(&entry, entry.index).map(|found| (entry.index, found)))
        }
        _ => Ok(None),
    })
}

pub(super) fn permanent_of(entry: &raw::Neighbour, index: u32) -> Option<Neighbour> {
    if entry.index != index || entry.state != raw::PERMANENT {
        return None;
    }
    Some(Neighbour { address: entry.address?, mac: entry.mac? })
}

/// Removes an entry; one that is gone already is success.
pub fn delete(index: u32, address: IpAddr) -> Request {
    let message = RouteNetlinkMessage::DelNeighbour(describe(index, address));
    encode(message, 0, format!("delete neighbour {address}")).tolerate(Errno::ENOENT)
}

fn describe(index: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = index;
    let (family, destination) = match address {
        IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
    };
    message.header.family = family;
    message.attributes.push(NeighbourAttribute::Destination(destination));
    message
}
