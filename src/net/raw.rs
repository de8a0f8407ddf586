// SPDX-License-Identifier: Apache-2.0
//! What routes and neighbours look like in the kernel's answers, of which there are
//! thousands: only what is asked for is taken out, and nothing is allocated.

use std::{net::IpAddr, ops::Range};

use netlink_packet_core::DecodeError;
use nix::libc::{AF_INET, AF_INET6, RTA_GATEWAY};

use super::{Answer, Mac};
use crate::netlink::attribute::Attributes;

/// Of `struct rtmsg` and of `struct ndmsg`.
pub(super) const HEADER_BYTES: usize = 12;
/// Of `struct rtnexthop`.
const NEXT_HOP_BYTES: usize = 8;
/// The next hop of a route, of the other family.
pub(super) const RTA_VIA: u16 = 18;
/// Metrics.
pub(super) const RTAX_LOCK: u16 = 1;
pub(super) const RTAX_MTU: u16 = 2;
pub(super) const RTAX_ADVMSS: u16 = 8;
/// Of a path, and of a route that has one.
pub(super) const RTNH_F_ONLINK: u8 = 4;
/// Where `struct rta_cacheinfo` has the time that is left.
pub(super) const EXPIRES: Range<usize> = 8..12;

/// `struct rtmsg` (include/uapi/linux/rtnetlink.h), but for what nobody reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteHeader {
    pub(super) family: u8,
    pub(super) prefix: u8,
    pub(super) tos: u8,
    pub(super) table: u8,
    pub(super) protocol: u8,
    pub(super) scope: u8,
    pub(super) kind: u8,
    pub(super) flags: u32,
}

impl RouteHeader {
    pub(super) fn of(answer: &Answer<'_>) -> Result<Self, DecodeError> {
        let Some([family, prefix, _, tos, table, protocol, scope, kind, flags @ ..]) =
            answer.body.first_chunk::<HEADER_BYTES>()
        else {
            return Err("a route is shorter than its header".into());
        };
        let (family, prefix, tos) = (*family, *prefix, *tos);
        let (table, protocol, scope, kind) = (*table, *protocol, *scope, *kind);
        let flags = u32::from_ne_bytes(*flags);
        Ok(Self { family, prefix, tos, table, protocol, scope, kind, flags })
    }
}

/// What is read of a neighbour or of a forwarding entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Neighbour {
    pub(super) index: u32,
    /// Bits (`NUD_PERMANENT` and its like).
    pub(super) state: u16,
    pub(super) flags: u8,
    pub(super) address: Option<IpAddr>,
    pub(super) mac: Option<Mac>,
    /// Since it was known to be there, in hundredths of a second.
    pub(super) confirmed: Option<u32>,
}

/// `NUD_PERMANENT`.
pub(super) const PERMANENT: u16 = 0x80;
/// `NUD_NOARP` and `NUD_PROBE`.
pub(super) const NOARP: u16 = 0x40;
pub(super) const PROBE: u16 = 0x10;
/// `NUD_VALID` (include/net/neighbour.h): permanent, noarp, reachable, probe, stale or delay.
pub(super) const VALID: u16 = PERMANENT | NOARP | 0x02 | PROBE | 0x04 | 0x08;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_CACHEINFO: u16 = 3;

impl Neighbour {
    pub(super) fn of(answer: &Answer<'_>) -> Result<Self, DecodeError> {
        let Some([_, _, _, _, i0, i1, i2, i3, s0, s1, flags, _]) =
            answer.body.first_chunk::<HEADER_BYTES>()
        else {
            return Err("a neighbour is shorter than its header".into());
        };
        let (index, state) = ([*i0, *i1, *i2, *i3], [*s0, *s1]);
        let (index, state) = (u32::from_ne_bytes(index), u16::from_ne_bytes(state));
        let (flags, address, mac, confirmed) = (*flags, None, None, None);
        let mut found = Self { index, state, flags, address, mac, confirmed };
        for attribute in answer.attributes(HEADER_BYTES) {
            match attribute? {
                (NDA_DST, value) => found.address = ip(value),
                (NDA_LLADDR, value) => found.mac = value.try_into().ok().map(Mac),
                (NDA_CACHEINFO, value) => {
                    let first = value.first_chunk().copied();
                    found.confirmed = first.map(u32::from_ne_bytes);
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// One path of several.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextHop<'a> {
    pub(super) flags: u8,
    /// How many of the packets it gets, less one.
    pub(super) weight: u8,
    pub(super) index: u32,
    pub(super) attributes: Attributes<'a>,
}

/// The paths in `RTA_MULTIPATH`.
pub(super) struct NextHops<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for NextHops<'a> {
    type Item = Result<NextHop<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.0);
        if bytes.is_empty() {
            return None;
        }
        let read = || {
            let [l0, l1, flags, weight, i0, i1, i2, i3] = *bytes.first_chunk::<NEXT_HOP_BYTES>()?;
            let length = usize::from(u16::from_ne_bytes([l0, l1]));
            let attributes = Attributes(bytes.get(NEXT_HOP_BYTES..length)?);
            let index = u32::from_ne_bytes([i0, i1, i2, i3]);
            Some((length, NextHop { flags, weight, index, attributes }))
        };
        let Some((length, hop)) = read() else {
            return Some(Err("a next hop is longer than what holds it".into()));
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(hop))
    }
}

/// An address by its length, as nothing else tells its family everywhere.
pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    let ipv4 = || <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
    ipv4().or_else(|| <[u8; 16]>::try_from(value).ok().map(IpAddr::from))
}

/// The address of that family which stands for none.
pub(super) fn unspecified(family: u8) -> Option<IpAddr> {
    match i32::from(family) {
        AF_INET => Some([0_u8; 4].into()),
        AF_INET6 => Some([0_u8; 16].into()),
        _ => None,
    }
}

/// A number of the host's byte order.
pub(super) fn number(value: &[u8]) -> Result<u32, DecodeError> {
    let bytes = value.try_into().map_err(|_| DecodeError::from("a number is not of 4 bytes"))?;
    Ok(u32::from_ne_bytes(bytes))
}

/// A next hop; one of the other family says its own first.
pub(super) fn next_hop(kind: u16, value: &[u8]) -> Option<IpAddr> {
    match kind {
        RTA_GATEWAY => ip(value),
        RTA_VIA => ip(value.get(2..)?),
        _ => None,
    }
}
