// SPDX-License-Identifier: Apache-2.0
//! A packet as bytes, with its IP header.

use std::net::IpAddr;

use super::{Kind, Packet};
use crate::list::PushAll;

const ICMP: u8 = 1;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const HOPS: u8 = 64;
/// Don't fragment, in the flags of an IPv4 header.
const DONT_FRAGMENT: u8 = 0x40;
const ECHO: u8 = 8;
const ECHO_V6: u8 = 128;
/// Of ICMP and of UDP alike.
const HEADER_BYTES: usize = 8;

/// The packet; one that is too short for its headers is as long as they are.
pub(super) fn packet(packet: &Packet) -> Vec<u8> {
    let Packet { source, to, bytes, kind } = *packet;
    let ip_bytes = if to.is_ipv4() { 20 } else { 40 };
    let length = usize::try_from(bytes).unwrap_or_default().saturating_sub(ip_bytes);
    let length = length.max(HEADER_BYTES);
    let length_told = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let (protocol, header, checksum_at) = match kind {
        Kind::Echo { ident, sequence } => {
            let kind = if to.is_ipv4() { [ECHO, 0] } else { [ECHO_V6, 0] };
            let header = [kind, [0; 2], ident.to_be_bytes(), sequence.to_be_bytes()];
            (if to.is_ipv4() { ICMP } else { ICMPV6 }, header, 2)
        }
        Kind::Datagram { from, port } => {
            (UDP, [from.to_be_bytes(), port.to_be_bytes(), length_told, [0; 2]], 6)
        }
    };
    let mut payload = header.concat();
    payload.resize(length, 0);
    // ICMP of IPv4 alone has no address in its checksum.
    let pseudo = match protocol {
        ICMP => Vec::new(),
        _ => [&octets(source)[..], &octets(to), &length_told, &[0, protocol]].concat(),
    };
    let sum = match checksum(&[&pseudo, &payload]) {
        // Of UDP that means none.
        0 => u16::MAX,
        sum => sum,
    };
    if let Some(place) = payload.get_mut(checksum_at..checksum_at + 2) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    let mut all = match to {
        IpAddr::V4(_) => {
            // The kernel fills in the length, the identification and the checksum.
            let mut header = vec![0x45, 0, 0, 0, 0, 0, DONT_FRAGMENT, 0, HOPS, protocol, 0, 0];
            header.push_all(octets(source));
            header
        }
        IpAddr::V6(_) => {
            let [high, low] = length_told;
            let mut header = vec![0x60, 0, 0, 0, high, low, protocol, HOPS];
            header.push_all(octets(source));
            header
        }
    };
    all.push_all(octets(to));
    all.push_all(payload);
    all
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The checksum of the internet (RFC 1071) over parts of even length, the last but one.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2)).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum = words.fold(0_u64, |sum, word| sum + u64::from(word));
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
