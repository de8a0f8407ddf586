//! Whether a namespace forwards, and what has to be seen to before a node starts
//! to.

use netlink_packet_route::AddressFamily;
use nix::errno::Errno;

use super::{
    Answer, Error, Reading, Request, Socket, link,
    route::{self, PROTOCOL_RA},
    sysctl::{self, Sysctl},
};
use crate::netlink::attribute::Attribute;

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
        wanted.iter().filter_map(|sysctl| family(&sysctl.key)).map(query).collect();
    let answers = socket.exchange(&requests, read).unwrap_or_else(|error| {
        log::debug!("{error}");
        Vec::new()
    });
    let holds = |sysctl: &Sysctl| {
        let family = family(&sysctl.key).map(u8::from);
        let mut answers = answers.iter();
        answers.any(|(of, value)| Some(*of) == family && value.to_string() == sysctl.value)
    };
    wanted.iter().filter(|sysctl| !holds(sysctl)).cloned().collect()
}

fn family(key: &str) -> Option<AddressFamily> {
    match key {
        IPV4 => Some(AddressFamily::Inet),
        IPV6 => Some(AddressFamily::Inet6),
        _ => None,
    }
}

fn query(family: AddressFamily) -> Request {
    let mut body = vec![u8::from(family), 0, 0, 0];
    let all = NETCONFA_IFINDEX_ALL.to_ne_bytes();
    Attribute::bytes(NETCONFA_IFINDEX, all).emit(&mut body);
    // A kernel without the family has nobody to answer.
    let what = "ask whether it forwards";
    Request::question(RTM_GETNETCONF, 0, body, what).tolerate(Errno::EOPNOTSUPP)
}

/// Family and value.
fn read(answer: &Answer<'_>) -> Reading<(u8, i32)> {
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

/// The settings that keep a node's default route when it becomes a router: a
/// router heeds no advertisements unless told to (`accept_ra` 2;
/// Documentation/networking/ip-sysctl.rst). To be made before IPv6 forwarding
/// is turned on; none where it is on.
///
/// # Errors
/// Of the kernel's answers.
pub fn keep_advertised_routes(socket: &mut Socket) -> Result<Vec<Sysctl>, Error> {
    if sysctl::read(IPV6).is_ok_and(|value| value == "1") {
        return Ok(Vec::new());
    }
    let advertised = route::of_protocol(socket, true, PROTOCOL_RA)?;
    let mut devices: Vec<u32> = (advertised.iter())
        .filter(|found| found.route.destination.prefix() == 0)
        .flat_map(|found| found.devices.clone())
        .collect();
    devices.sort_unstable();
    devices.dedup();
    let mut wanted = Vec::new();
    for device in devices {
        let Some(link) = link::by_index(socket, device)? else { continue };
        let key = format!("net/ipv6/conf/{}/accept_ra", link.name);
        if sysctl::read(&key).is_ok_and(|value| value == "1") {
            wanted.push(Sysctl::new(key, 2));
        }
    }
    Ok(wanted)
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
            Sysctl::new(key, value).ensure().unwrap();
            let other = "net/ipv4/conf/lo/forwarding";
            let wanted = [(IPV4, 0), (other, 1), (IPV6, 1), (IPV4, 1), (IPV6, 0)]
                .map(|(key, value)| Sysctl::new(key, value));
            let expected: Vec<Sysctl> =
                wanted.iter().filter(|one| one.key == other || !one.holds()).cloned().collect();
            assert_eq!(expected.len(), 3);
            assert_eq!(lacking(&mut socket, &wanted), expected, "{key}={value}");
        }
    }

    #[test]
    fn rtnetlink_tells_what_proc_says() {
        thread::spawn(told).join().unwrap();
    }
}
