// SPDX-License-Identifier: Apache-2.0
//! Connections that conntrack knows: listed, and forgotten one by one.

use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::NLM_F_DUMP;
use nix::errno::Errno;

use super::{Error, Failed, Request};
use crate::{
    family::HasFamily,
    list::{Gather, PushAll},
    netlink::{
        self, Netfilter,
        attribute::{Attribute, find},
    },
};

/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`
/// (include/uapi/linux/netfilter/nfnetlink_conntrack.h).
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// That of a tuple the source address counts (`CTA_FILTER_F_CTA_IP_SRC`,
/// net/netfilter/nf_conntrack_netlink.c).
const BY_SOURCE: u32 = 1;
/// `struct nfgenmsg`.
const HEADER_BYTES: usize = 4;

/// A connection as a node sees it that forwards it: behind the translation of where it
/// goes, and before that of where it is from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connection {
    /// Who began it. The port is 0 where the protocol has none.
    pub source: SocketAddr,
    /// Who answers.
    pub destination: SocketAddr,
    /// The protocol, by its number within IP.
    pub protocol: u8,
    /// Whether the protocol has ports.
    pub has_ports: bool,
    /// By what the kernel knows it: its first packets, its number, its zone.
    known_by: Vec<Attribute>,
}

/// The connections that are meant.
///
/// # Errors
/// The kernel's refusal; where it cannot list connections, that.
pub fn list(is_meant: &dyn Fn(&Connection) -> bool) -> Result<Vec<Connection>, Error> {
    listed(&[Request::question(GET, NLM_F_DUMP, header(0), "list connections")], is_meant)
}

/// The connections that these addresses, which are in order, take part in, at either end. The kernel
/// chooses them; one that cannot (before 5.8) lists all, and they are chosen here.
///
/// # Errors
/// As for [`list`].
pub fn of(addresses: &[IpAddr]) -> Result<Vec<Connection>, Error> {
    debug_assert!(addresses.is_sorted(), "they are searched for by halves");
    let questions: Vec<Request> = addresses.iter().flat_map(|one| questions(*one)).gather();
    listed(&questions, &|connection| {
        let ends = [connection.source, connection.destination];
        ends.iter().any(|end| addresses.binary_search(&end.ip()).is_ok())
    })
}

fn listed(
    questions: &[Request],
    is_meant: &dyn Fn(&Connection) -> bool,
) -> Result<Vec<Connection>, Error> {
    let mut socket = netlink::Socket::<Netfilter>::open()?;
    let mut connections = Vec::new();
    for question in questions {
        connections.push_all(socket.dump(question, |answer| {
            let connection = answer.body.get(HEADER_BYTES..).and_then(Connection::read);
            Ok(connection.filter(is_meant))
        })?);
    }
    Ok(connections)
}

/// Which connections an address began, and which ones it answers.
fn questions(address: IpAddr) -> [Request; 2] {
    let source = match address {
        IpAddr::V4(v4) => Attribute::bytes(CTA_IP_V4_SRC, v4.octets()),
        IpAddr::V6(v6) => Attribute::bytes(CTA_IP_V6_SRC, v6.octets()),
    };
    let ways = [(CTA_TUPLE_ORIG, CTA_FILTER_ORIG_FLAGS), (CTA_TUPLE_REPLY, CTA_FILTER_REPLY_FLAGS)];
    ways.map(|(tuple, flags)| {
        let mut body = header(address.family().number());
        let addresses = Attribute::nest(CTA_TUPLE_IP, [source.clone()]);
        Attribute::nest(tuple, [addresses]).emit(&mut body);
        let flags = Attribute::bytes(flags, BY_SOURCE.to_ne_bytes());
        Attribute::nest(CTA_FILTER, [flags]).emit(&mut body);
        Request::question(GET, NLM_F_DUMP, body, ("list connections of", address))
    })
}

/// Makes conntrack forget these connections: what comes of them next is taken for the first
/// packet of another one. Returns which it did not.
///
/// # Errors
/// Of opening a socket.
pub fn forget(connections: &[Connection]) -> Result<Vec<Failed>, Error> {
    let requests: Vec<Request> = connections.iter().map(Connection::deletion).gather();
    Ok(netlink::Socket::<Netfilter>::open()?.apply_all(&requests))
}

impl Connection {
    pub(super) fn read(attributes: &[u8]) -> Option<Self> {
        let (first, answer) =
            (find(attributes, CTA_TUPLE_ORIG)?, find(attributes, CTA_TUPLE_REPLY)?);
        let protocol = find(find(first, CTA_TUPLE_PROTO)?, CTA_PROTO_NUM)?;
        let mut known_by = vec![Attribute::copied(CTA_TUPLE_ORIG, first)];
        for kind in [CTA_ID, CTA_ZONE] {
            known_by.push_all(find(attributes, kind).map(|value| Attribute::bytes(kind, value)));
        }
        let (source, destination) = (sender(first)?, sender(answer)?);
        Some(Self {
            source: SocketAddr::new(source.0, source.1.unwrap_or_default()),
            destination: SocketAddr::new(destination.0, destination.1.unwrap_or_default()),
            protocol: *protocol.first()?,
            has_ports: destination.1.is_some(),
            known_by,
        })
    }

    pub(super) fn deletion(&self) -> Request {
        let mut body = header(self.source.ip().family().number());
        self.known_by.iter().for_each(|attribute| attribute.emit(&mut body));
        let what = ("end a connection of", self.source.ip());
        Request::change(DELETE, 0, body, what).tolerate(Errno::ENOENT)
    }
}

/// Who sends packets of this tuple, and from which port.
fn sender(tuple: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let addresses = find(tuple, CTA_TUPLE_IP)?;
    let v4 = find(addresses, CTA_IP_V4_SRC).and_then(|value| <[u8; 4]>::try_from(value).ok());
    let v6 = find(addresses, CTA_IP_V6_SRC).and_then(|value| <[u8; 16]>::try_from(value).ok());
    let address = v4.map(IpAddr::from).or(v6.map(IpAddr::from))?;
    let port = find(find(tuple, CTA_TUPLE_PROTO)?, CTA_PROTO_SRC_PORT);
    Some((address, port.and_then(|value| Some(u16::from_be_bytes(value.try_into().ok()?)))))
}

/// The version and the resource are always zero.
fn header(family: u8) -> Vec<u8> {
    vec![family, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::attribute::emitted;

    #[test]
    fn a_connection_is_read_behind_the_translation_of_its_destination() {
        let tuple = |kind, source: [u8; 4], port: u16| {
            let ip = [Attribute::bytes(CTA_IP_V4_SRC, source)];
            let protocol = [
                Attribute::bytes(CTA_PROTO_NUM, [6]),
                Attribute::bytes(CTA_PROTO_SRC_PORT, port.to_be_bytes()),
            ];
            let parts =
                [Attribute::nest(CTA_TUPLE_IP, ip), Attribute::nest(CTA_TUPLE_PROTO, protocol)];
            Attribute::nest(kind, parts)
        };
        let id = Attribute::bytes(CTA_ID, [1, 2, 3, 4]);
        let bytes = emitted(&[
            tuple(CTA_TUPLE_ORIG, [10, 0, 0, 1], 40000),
            tuple(CTA_TUPLE_REPLY, [10, 0, 0, 2], 80),
            id.clone(),
        ]);
        let read = Connection::read(&bytes).unwrap();
        assert_eq!(read.source, "10.0.0.1:40000".parse().unwrap());
        assert_eq!(read.destination, "10.0.0.2:80".parse().unwrap());
        assert_eq!((read.protocol, read.has_ports, read.known_by.last()), (6, true, Some(&id)));
        for cut in 0..bytes.len() - 12 {
            assert_eq!(Connection::read(&bytes[..cut]), None, "{cut}");
        }
    }
}
