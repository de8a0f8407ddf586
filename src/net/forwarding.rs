// SPDX-License-Identifier: Apache-2.0
//! Whether a namespace forwards, and what has to be seen to before a node starts
//! to.

use std::{collections::HashSet, path::Path};

use nix::errno::Errno;

use super::{
    Answer, Error, Reading, Request, Socket, addr,
    link::{self, Link},
    route::{self, Found},
    sysctl::{self, Sysctl},
};
use crate::{family::Family, list::Gather, netlink::attribute::Attribute};

/// `RTM_NEWNETCONF`, `RTM_GETNETCONF` (include/uapi/linux/rtnetlink.h).
const RTM_NEWNETCONF: u16 = 80;
const RTM_GETNETCONF: u16 = 82;
/// Its attributes, and all links at once (include/uapi/linux/netconf.h).
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_IFINDEX_ALL: i32 = -1;
/// `struct netconfmsg` and its padding.
const NETCONF_HEADER_BYTES: usize = 4;

/// Forwarding of IPv4, for all links at once.
pub const IPV4: &str = "net/ipv4/ip_forward";
/// Forwarding of IPv6, for all links at once.
pub const IPV6: &str = "net/ipv6/conf/all/forwarding";

/// Of the `wanted` parameters, those that `socket`'s namespace lacks, as far as
/// it is asked: about forwarding of all links. That takes one send for both
/// families, and nobody has to enter the namespace. Whatever it does not answer
/// counts as lacking.
pub fn lacking(socket: &mut Socket, wanted: &[Sysctl]) -> Vec<Sysctl> {
    let requests: Vec<Request> =
        wanted.iter().filter_map(|sysctl| family(&sysctl.key)).map(query).gather();
    let answers = socket.exchange(&requests, read).unwrap_or_else(|error| {
        log::debug!("{error}");
        Vec::new()
    });
    let holds = |sysctl: &Sysctl| {
        let family = family(&sysctl.key).map(Family::number);
        let mut answers = answers.iter();
        answers.any(|(of, value)| Some(*of) == family && value.to_string() == sysctl.value)
    };
    wanted.iter().filter(|sysctl| !holds(sysctl)).cloned().gather()
}

/// The parameter by which a namespace forwards packets of a family.
pub const fn key(family: Family) -> &'static str {
    match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    }
}

fn family(key: &str) -> Option<Family> {
    Family::BOTH.into_iter().find(|family| self::key(*family) == key)
}

fn query(family: Family) -> Request {
    let mut body = vec![family.number(), 0, 0, 0];
    let all = NETCONFA_IFINDEX_ALL.to_ne_bytes();
    Attribute::bytes(NETCONFA_IFINDEX, all).emit(&mut body);
    // A kernel without the family has nobody to answer.
    let what = "ask whether it forwards";
    Request::question(RTM_GETNETCONF, 0, body, what).tolerate(Errno::EOPNOTSUPP)
}

/// Family and value.
pub(super) fn read(answer: &Answer<'_>) -> Reading<(u8, i32)> {
    let Some(family) = answer.body.first().filter(|_| answer.kind == RTM_NEWNETCONF) else {
        return Ok(None);
    };
    for attribute in answer.attributes(NETCONF_HEADER_BYTES) {
        let (kind, value) = attribute?;
        if kind == NETCONFA_FORWARDING {
            let value = value.try_into().map_err(|_| "forwarding has four bytes")?;
            return Ok(Some((*family, i32::from_ne_bytes(value))));
        }
    }
    Ok(None)
}

/// The links that heed router advertisements and have to go on when the node becomes
/// a router, by name. A router heeds none unless told to (`accept_ra` 2;
/// Documentation/networking/ip-sysctl.rst).
///
/// Those by which something was learned that way, those that `have` this node's
/// address, and hardware, by which a router may come to be known. No other: what is
/// behind a bridge, a tunnel or a pod's link would become the node's router by one
/// packet (CVE-2020-13401).
pub fn heeding(links: &[Link], learned: &HashSet<u32>, have: &HashSet<u32>) -> Vec<String> {
    let may = |link: &&Link| {
        let known = learned.contains(&link.index) || have.contains(&link.index);
        !link.loopback && (known || link.kind.is_none() && is_hardware(&link.name))
    };
    // Who turned it off looks after the link by other means.
    let heeds = |link: &&Link| sysctl::read(&accept_ra(&link.name)).is_ok_and(|value| value != "0");
    links.iter().filter(may).filter(heeds).map(|link| link.name.clone()).gather()
}

/// The setting by which a link of a router heeds advertisements. Where it cannot be
/// set the link may be gone.
pub fn heed(link: &str) -> Sysctl {
    Sysctl::optional(accept_ra(link), 2)
}

fn accept_ra(link: &str) -> String {
    format!("net/ipv6/conf/{link}/accept_ra")
}

fn is_hardware(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).join("device").exists()
}

/// The indexes of the links by which something was learned from advertisements,
/// which have an address so, or one of the node's `routes`.
pub fn learned<'a>(
    addresses: impl IntoIterator<Item = u32>,
    routes: impl IntoIterator<Item = &'a Found>,
) -> HashSet<u32> {
    let routes = routes.into_iter().filter(|found| found.is_advertised());
    let by_routes = routes.flat_map(|found| found.devices.iter().copied());
    by_routes.chain(addresses).collect()
}

/// What has to be set before IPv6 forwarding is turned on, for the node to keep what
/// it has from advertisements; nothing where it is on.
///
/// # Errors
/// Of the kernel's answers.
pub fn keep_advertised(socket: &mut Socket) -> Result<Vec<Sysctl>, Error> {
    if sysctl::read(IPV6).is_ok_and(|value| value == "1") {
        return Ok(Vec::new());
    }
    heeding_now(socket)
}

fn heeding_now(socket: &mut Socket) -> Result<Vec<Sysctl>, Error> {
    let routes = route::all(socket, Family::V6)?;
    let (links, advertised) = (link::all(socket)?, addr::advertised(socket)?);
    Ok(heeding_all(&links, &learned(advertised, &routes)))
}

/// The settings of all links that heed advertisements, where no list of nodes names
/// this node's addresses.
pub fn heeding_all(links: &[Link], learned: &HashSet<u32>) -> Vec<Sysctl> {
    heeding(links, learned, &HashSet::new()).iter().map(|link| heed(link)).gather()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// In a namespace of its own.
    fn told() {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut socket = Socket::open().unwrap();
        for (key, value) in [(IPV4, 1), (IPV6, 1), (IPV4, 0), (IPV6, 0)] {
            sysctl::ensure(&Sysctl::new(key, value)).unwrap();
            let other = "net/ipv4/conf/lo/forwarding";
            let wanted = [(IPV4, 0), (other, 1), (IPV6, 1), (IPV4, 1), (IPV6, 0)]
                .map(|(key, value)| Sysctl::new(key, value));
            let expected: Vec<Sysctl> = wanted
                .iter()
                .filter(|one| one.key == other || !sysctl::holds(one))
                .cloned()
                .collect();
            assert_eq!(expected.len(), 3);
            assert_eq!(lacking(&mut socket, &wanted), expected, "{key}={value}");
        }
    }

    #[test]
    fn rtnetlink_tells_what_proc_says() {
        thread::spawn(told).join().unwrap();
    }
}
