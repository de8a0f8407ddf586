// SPDX-License-Identifier: Apache-2.0
//! What ICMP says. It comes from anybody: whatever is too short says nothing.

use std::net::IpAddr;

use crate::net::raw::ip;

/// What came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Came {
    /// The answer to an echo request.
    Reply {
        /// Who answers.
        from: IpAddr,
        /// Whose request it was.
        ident: u16,
        /// Which one.
        sequence: u16,
    },
    /// Somebody's echo request.
    Request {
        /// Whose.
        from: IpAddr,
    },
    /// A packet did not reach its end.
    Error {
        /// Who says so.
        by: IpAddr,
        /// For which reason.
        why: Why,
        /// The packet.
        about: Quoted,
    },
}

/// Why a packet went no further.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Why {
    /// It is larger than the next link takes, which is this many bytes; 0 where an old
    /// router does not say it.
    TooBig(u32),
    /// There is no route.
    Network,
    /// Nobody has the address.
    Host,
    /// Nobody there knows the protocol.
    Protocol,
    /// Nobody listens at the port.
    Port,
    /// It is not allowed.
    Prohibited,
    /// It went in a circle.
    Loop,
}

/// The beginning of a packet that an error is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quoted {
    /// Its destination.
    pub to: IpAddr,
    /// The protocol in it.
    pub protocol: u8,
    /// The ports of UDP, from and to; ident and sequence of an echo request.
    pub pair: [u16; 2],
}

/// A message with its IP header.
pub(in crate::net) fn ipv4(bytes: &[u8]) -> Option<Came> {
    let (header, message) = split_ipv4(bytes)?;
    let from = ip(header.get(12..16)?)?;
    let [kind, code, _, _, h0, h1, mtu @ ..] = *message.first_chunk::<8>()?;
    let ident = u16::from_be_bytes([h0, h1]);
    let why = match (kind, code) {
        (0, _) => {
            return Some(Came::Reply { from, ident, sequence: u16::from_be_bytes(mtu) });
        }
        (8, _) => return Some(Came::Request { from }),
        (3, 0 | 6 | 11) => Why::Network,
        (3, 1 | 7 | 12) => Why::Host,
        (3, 2) => Why::Protocol,
        (3, 3) => Why::Port,
        (3, 4) => Why::TooBig(u16::from_be_bytes(mtu).into()),
        (3, 9 | 10 | 13) => Why::Prohibited,
        (11, 0) => Why::Loop,
        _ => return None,
    };
    let (header, rest) = split_ipv4(message.get(8..)?)?;
    let to = ip(header.get(16..20)?)?;
    let protocol = *header.get(9)?;
    // That of a larger protocol is of no use, and may be missing.
    let pair = pair(rest, protocol == 1).unwrap_or_default();
    Some(Came::Error { by: from, why, about: Quoted { to, protocol, pair } })
}

fn split_ipv4(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let words = usize::from(bytes.first()? & 0x0f);
    bytes.split_at_checked(words * 4).filter(|(header, _)| header.len() >= 20)
}

/// A message, which comes without its IP header.
pub(in crate::net) fn ipv6(from: IpAddr, message: &[u8]) -> Option<Came> {
    let [kind, code, _, _, word @ ..] = *message.first_chunk::<8>()?;
    let [h0, h1, l0, l1] = word;
    let why = match (kind, code) {
        (129, _) => {
            let (ident, sequence) = (u16::from_be_bytes([h0, h1]), u16::from_be_bytes([l0, l1]));
            return Some(Came::Reply { from, ident, sequence });
        }
        (128, _) => return Some(Came::Request { from }),
        (1, 0 | 2) => Why::Network,
        (1, 1 | 5 | 6) => Why::Prohibited,
        (1, 3) => Why::Host,
        (1, 4) => Why::Port,
        (2, _) => Why::TooBig(u32::from_be_bytes(word)),
        (3, 0) => Why::Loop,
        (4, 1) => Why::Protocol,
        _ => return None,
    };
    let (header, rest) = message.get(8..)?.split_at_checked(40)?;
    let (to, protocol) = (ip(header.get(24..40)?)?, *header.get(6)?);
    let pair = pair(rest, protocol == 58).unwrap_or_default();
    Some(Came::Error { by: from, why, about: Quoted { to, protocol, pair } })
}

fn pair(rest: &[u8], echo: bool) -> Option<[u16; 2]> {
    let rest = if echo { rest.get(4..)? } else { rest };
    let [a, b, c, d] = *rest.first_chunk::<4>()?;
    Some([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
}
