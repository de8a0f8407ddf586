// SPDX-License-Identifier: Apache-2.0
//! Addresses of links.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Parseable};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
};
use nix::{errno::Errno, libc::RTM_NEWADDR};

use super::{
    Answer, Error, Reading, Request, Socket,
    message::{encode, family_of},
};
use crate::family::HasFamily;
use crate::list::{Gather, PushAll};

/// Adds an address. One of IPv6 is usable at once: on a link with two ends
/// there is nobody to ask whether it is taken (`IFA_F_NODAD`).
pub fn add(index: u32, address: IpNetwork) -> Request {
    let mut message = describe(index, address);
    if address.is_ipv6() {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    } else {
        message.attributes.push(AddressAttribute::Local(address.ip()));
    }
    let request = encode(
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_EXCL,
        format!("add address {address}"),
    );
    // The kernel generates this one itself for a link that somebody else, such as
    // a network daemon in the pod, has brought up first.
    let may_be_there = matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    if may_be_there { request.tolerate(Errno::EEXIST) } else { request }
}

/// Removes an address; one that is gone already is success.
pub fn delete(index: u32, address: IpNetwork) -> Request {
    let message = RouteNetlinkMessage::DelAddress(describe(index, address));
    encode(message, 0, format!("delete address {address}")).tolerate(Errno::EADDRNOTAVAIL)
}

/// The addresses of a link.
///
/// # Errors
/// The kernel's refusal; `ENODEV` for a link that is not there.
pub fn of_link(socket: &mut Socket, index: u32) -> Result<Vec<IpNetwork>, Error> {
    let mut message = AddressMessage::default();
    message.header.index = index;
    let what = format!("list the addresses of link number {index}");
    let request = encode(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP, what);
    let found = socket.dump(&request, read)?;
    Ok(found.into_iter().filter(|(link, _)| *link == index).map(|(_, address)| address).gather())
}

/// The addresses of all links, with the links' indexes.
///
/// # Errors
/// The kernel's refusal, or `EINTR` if the list never held still.
pub fn all(socket: &mut Socket) -> Result<Vec<(u32, IpNetwork)>, Error> {
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    socket.dump(&encode(message, NLM_F_DUMP, "list addresses"), read)
}

/// Addresses with the indexes of their links.
pub type Indexed = Vec<(u32, IpNetwork)>;

/// As [`all`], and with the indexes of the links that have an address by a router's
/// advertisement.
///
/// # Errors
/// As for [`all`].
pub fn table(socket: &mut Socket) -> Result<(Indexed, Vec<u32>), Error> {
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let request = encode(message, NLM_F_DUMP, "list addresses");
    let (mut addresses, mut advertised) = (Vec::new(), Vec::new());
    for message in socket.dump(&request, parsed)? {
        advertised.push_all(is_advertised(&message).then_some(message.header.index));
        addresses.push_all(network(&message).map(|network| (message.header.index, network)));
    }
    Ok((addresses, advertised))
}

/// The indexes of the links that have an address by a router's advertisement.
///
/// # Errors
/// As for [`all`].
pub fn advertised(socket: &mut Socket) -> Result<Vec<u32>, Error> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    let message = RouteNetlinkMessage::GetAddress(message);
    let request = encode(message, NLM_F_DUMP, "list addresses");
    let found = socket.dump(&request, parsed)?;
    let advertised = found.iter().filter(|message| is_advertised(message));
    Ok(advertised.map(|message| message.header.index).gather())
}

pub(super) fn parsed(answer: &Answer<'_>) -> Reading<AddressMessage> {
    if answer.kind != RTM_NEWADDR {
        return Ok(None);
    }
    Ok(Some(AddressMessage::parse(answer.body)?))
}

/// The kernel makes temporary addresses from one that was advertised
/// (`IFA_F_MANAGETEMPADDR`), and it is not there for ever.
pub(super) fn is_advertised(message: &AddressMessage) -> bool {
    let flagged = message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Flags(flags) => {
            flags.contains(AddressFlags::Managetempaddr) && !flags.contains(AddressFlags::Permanent)
        }
        _ => false,
    });
    flagged && message.header.family == AddressFamily::Inet6
}

fn describe(index: u32, address: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family_of(address.family());
    message.header.prefix_len = address.prefix();
    message.header.index = index;
    message.header.scope = match address.ip() {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => AddressScope::Link,
        _ => AddressScope::Universe,
    };
    message.attributes.push(AddressAttribute::Address(address.ip()));
    message
}

/// An address with the index of its link.
pub(super) fn read(answer: &Answer<'_>) -> Reading<(u32, IpNetwork)> {
    let Some(message) = parsed(answer)? else { return Ok(None) };
    Ok(network(&message).map(|network| (message.header.index, network)))
}

/// `IFA_LOCAL` is the address itself where `IFA_ADDRESS` is a peer's.
fn network(message: &AddressMessage) -> Option<IpNetwork> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(ip) => Some(*ip),
        _ => None,
    });
    local.or(address).and_then(|ip| IpNetwork::new(ip, message.header.prefix_len).ok())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// In a namespace of its own.
    fn add_twice() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut socket = Socket::open().unwrap();
        for (address, again) in [
            ("fe80::1/64", Ok(())),
            ("fd00::1/128", Err(Errno::EEXIST)),
            ("10.0.0.1/32", Err(Errno::EEXIST)),
        ] {
            let request = add(1, address.parse().unwrap());
            socket.apply(std::slice::from_ref(&request)).unwrap();
            let outcome = socket.apply(&[request]).map_err(|error| error.errno);
            assert_eq!(outcome, again, "{address}");
        }
    }

    #[test]
    fn a_link_local_address_may_have_been_generated_before() {
        thread::spawn(add_twice).join().unwrap();
    }
}
