//! Answers that are cut off, and answers that lie.

use std::{process::Command, thread};

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage, address::AddressMessage, link::LinkMessage,
    neighbour::NeighbourMessage, route::RouteMessage,
};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::net::{Socket, addr, link::Link, neigh, route};

/// Objects of all kinds, with all that is read of them.
const OBJECTS: &str = "
    ip link set lo up
    ip link add veth0 alias host type veth peer name veth1
    ip link set veth0 up
    ip link set veth1 up
    ip link add vxlan0 type vxlan id 7 dstport 8472 local fd00::1 dev veth0
    ip address add 192.0.2.1/24 dev veth0
    ip address add 192.0.2.9 peer 192.0.2.10 dev veth0
    ip address add 2001:db8::1/64 dev veth0 nodad
    ip route add 198.51.100.0/24 via 192.0.2.2 src 192.0.2.1 mtu lock 1400 advmss 1360
    ip route add 198.51.101.0/24 via inet6 2001:db8::2 dev veth0 metric 7 table 300
    ip route add 198.51.102.0/24 nexthop via 192.0.2.3 nexthop via 192.0.2.4
    ip route add blackhole 198.51.103.0/24
    ip -6 route add 2001:db8:1::/64 via 2001:db8::2 mtu 1400
    ip neighbour add 192.0.2.2 lladdr 02:00:00:00:00:01 dev veth0 nud permanent
    ip neighbour add 2001:db8::2 lladdr 02:00:00:00:00:01 dev veth0 nud permanent";

/// What the kernel answers to a dump.
fn bodies(socket: &mut Socket, query: RouteNetlinkMessage) -> Vec<(u16, Vec<u8>)> {
    let request = Request::new(query, 0, "list");
    let keep = |answer: &Answer<'_>| Ok(Some((answer.kind, answer.body.to_vec())));
    let bodies = socket.dump(&request, keep).unwrap();
    assert!(bodies.len() > 1, "{request:?}");
    bodies
}

/// Reads each answer whole, cut off after every byte, and with every byte
/// changed; gives how many were understood whole.
fn read_damaged<T>(
    bodies: Vec<(u16, Vec<u8>)>,
    header_bytes: usize,
    read: impl Fn(&Answer<'_>) -> Reading<T>,
) -> usize {
    let mut understood = 0;
    for (kind, whole) in bodies {
        let answer = |body: &[u8]| read(&Answer { kind, flags: 0, sequence: 0, body });
        understood += usize::from(answer(&whole).unwrap().is_some());
        for length in 0..whole.len() {
            let cut_off = answer(&whole[..length]);
            assert!(length >= header_bytes || cut_off.is_err(), "{length} bytes of {whole:?}");
        }
        let mut damaged = whole.clone();
        for at in 0..whole.len() {
            for value in [0, 1, 3, 4, 5, 0x7f, 0xff, !whole[at]] {
                damaged[at] = value;
                let _ = answer(&damaged);
            }
            damaged[at] = whole[at];
        }
    }
    understood
}

#[test]
fn no_answer_is_read_past_its_end() {
    let test = || {
        // The tests of a program share one namespace.
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for line in OBJECTS.lines().filter(|line| !line.is_empty()) {
            let output = Command::new("sh").args(["-ec", line]).output().unwrap();
            assert!(output.status.success(), "{line}: {output:?}");
        }
        let mut socket = Socket::open().unwrap();
        let links = bodies(&mut socket, RouteNetlinkMessage::GetLink(LinkMessage::default()));
        assert_eq!(read_damaged(links, 16, Link::read), 4);
        let query = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        assert!(read_damaged(bodies(&mut socket, query), 8, addr::read) > 4);
        let query = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        assert!(read_damaged(bodies(&mut socket, query), 12, neigh::read) >= 2);
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let query = RouteNetlinkMessage::GetRoute(message);
            assert!(read_damaged(bodies(&mut socket, query), 12, route::read) > 4);
        }
    };
    thread::spawn(test).join().unwrap();
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
    let mut bytes = Vec::from(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(7_u32.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn a_datagram_ends_with_its_last_whole_message() {
    let mut datagram = message(16, 0, b"abc");
    let first = datagram.len();
    datagram.extend(message(20, 2, b"defg"));
    let told = |datagram: &[u8]| -> Vec<(u16, Vec<u8>)> {
        Answers(datagram).map(|answer| (answer.kind, answer.body.to_vec())).collect()
    };
    let both = [(16, b"abc".to_vec()), (20, b"defg".to_vec())];
    assert_eq!(told(&datagram), both);
    for length in 0..datagram.len() {
        // The padding of the last message need not be there.
        let whole = usize::from(length >= first - 1);
        assert_eq!(told(&datagram[..length]), both[..whole], "{length}");
    }
    // No header at all, a length that is less than a header's, one that is too much.
    for length in [0_u32, 15, 4096, u32::MAX] {
        datagram[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(told(&datagram), [], "{length}");
    }
}

#[test]
fn a_refusal_is_told_in_the_kernels_words_however_much_of_them_came() {
    let mut body = Vec::from((-(Errno::EINVAL as i32)).to_ne_bytes());
    body.extend([0; HEADER_BYTES]);
    body.extend(b"\x08\0\x02\0\x01\0\0\0\x0c\0\x01\0so what\0");
    let datagram = message(NLMSG_ERROR, NLM_F_ACK_TLVS, &body);
    let query = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let request = Request::new(query, NLM_F_REQUEST, "try");
    let told = |body| Answer { kind: NLMSG_ERROR, flags: NLM_F_ACK_TLVS, sequence: 7, body };
    let error = Answers(&datagram).next().unwrap().error(&request).unwrap();
    assert_eq!(error.to_string(), "try: Invalid argument: so what");
    for length in 0..body.len() {
        let error = told(&body[..length]).error(&request);
        assert_eq!(error.is_some(), length >= 4, "{length}");
        assert_eq!(error.and_then(|error| error.words), None, "{length}");
    }
    assert_eq!(told(&body).error(&request.tolerate(Errno::EINVAL)), None);
    assert_eq!(told(&[0; 4]).errno(), None);
}
