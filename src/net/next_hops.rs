// SPDX-License-Identifier: Apache-2.0
//! The addresses that the node sends to by way of: the next hops of its routes,
//! of every path of those, and of next-hop objects.

use std::{collections::HashSet, net::IpAddr};

use netlink_packet_core::NLM_F_DUMP;

use super::{Answer, Error, Reading, Request, Socket, route};
use crate::family::Family;

/// Types of messages and of attributes (include/uapi/linux/rtnetlink.h and
/// nexthop.h).
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
const NHA_GATEWAY: u16 = 6;
/// `struct nhmsg`.
const HEADER_BYTES: usize = 8;

/// All next hops of both families.
///
/// # Errors
/// The kernel's refusal, or `EINTR` if a list never held still.
pub fn all(socket: &mut Socket) -> Result<HashSet<IpAddr>, Error> {
    let mut found = HashSet::new();
    for family in Family::BOTH {
        let routes = route::all(socket, family)?;
        found.extend(routes.into_iter().flat_map(|route| route.gateways));
    }
    found.extend(objects(socket)?);
    Ok(found)
}

/// Where `nexthop_compat_mode` is 0, a route names its object's number alone.
fn objects(socket: &mut Socket) -> Result<Vec<IpAddr>, Error> {
    let header = vec![0; HEADER_BYTES];
    let request = Request::question(RTM_GETNEXTHOP, NLM_F_DUMP, header, "list next hops");
    match socket.dump(&request, read) {
        // A kernel before 5.3 has none.
        Err(error) if error.errno == nix::errno::Errno::EOPNOTSUPP => Ok(Vec::new()),
        outcome => outcome,
    }
}

pub(super) fn read(answer: &Answer<'_>) -> Reading<IpAddr> {
    if answer.kind != RTM_NEWNEXTHOP {
        return Ok(None);
    }
    for attribute in answer.attributes(HEADER_BYTES) {
        let (kind, value) = attribute?;
        if kind == NHA_GATEWAY {
            let ipv4 = <[u8; 4]>::try_from(value).ok().map(IpAddr::from);
            return Ok(ipv4.or(<[u8; 16]>::try_from(value).ok().map(IpAddr::from)));
        }
    }
    Ok(None)
}
