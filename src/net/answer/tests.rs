//! Answers that are cut off, and answers that lie.

use std::{net::IpAddr, thread};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REQUEST, NLMSG_ERROR};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressMessage,
    link::LinkMessage,
    neighbour::NeighbourMessage,
    route::{RouteAttribute, RouteMessage, RouteMetric, RouteNextHop, RouteType},
};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::net::{
    Mac, Socket, addr,
    link::{self, Link},
    neigh::{self, Neighbour},
    route::{self, Route},
    tunnel::{Vxlan, create_vxlan},
};

/// Runs a test in a namespace of its own: those of a program share one.
pub(in crate::net) fn alone(test: impl FnOnce(&mut Socket) + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test(&mut Socket::open().unwrap());
    };
    thread::spawn(run).join().unwrap();
}

/// Makes objects of all kinds, with all that is read of them.
fn make_objects(socket: &mut Socket) {
    let local = Some("fd00::1".parse().unwrap());
    let vxlan = Vxlan { vni: 7, port: 8472, local, parent: 0, learning: true };
    let name = "vxlan0";
    let create = [create_vxlan(name, 1450, Mac([2; 6]), 7, &vxlan), link::set_up(name)];
    socket.apply(&create).unwrap();
    let made = link::by_name(socket, name).unwrap().unwrap();
    let network = |text: &str| -> IpNetwork { text.parse().unwrap() };
    let via = |destination, gateway: &str| {
        let gateway = Some(gateway.parse().unwrap());
        Route { gateway, onlink: true, ..Route::new(network(destination)) }
    };
    let neighbour = |address: &str| {
        Neighbour { address: address.parse().unwrap(), mac: Mac([2; 6]) }.replace(made.index)
    };
    let metrics = Route {
        mtu: Some(1400),
        advmss: Some(1360),
        priority: Some(7),
        table: 300,
        ..via("198.51.100.0/24", "192.0.2.2")
    };
    let requests = [
        link::set_alias(&made, "somebody's"),
        addr::add(made.index, network("192.0.2.1/24")),
        addr::add(made.index, network("2001:db8::1/64")),
        metrics.create(made.index),
        via("198.51.101.0/24", "2001:db8::2").create(made.index),
        via("2001:db8:1::/64", "2001:db8::2").create(made.index),
        several_paths(made.index),
        neighbour("192.0.2.2"),
        neighbour("2001:db8::2"),
    ];
    socket.apply(&requests).unwrap();
}

/// A route of two next hops, whose MTU is fixed and which names a source.
fn several_paths(index: u32) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = 24;
    message.header.table = 254;
    message.header.kind = RouteType::Unicast;
    let hop = |last: u8| {
        let mut hop = RouteNextHop::default();
        hop.interface_index = index;
        hop.attributes.push(RouteAttribute::Gateway(IpAddr::from([192, 0, 2, last]).into()));
        hop
    };
    message.attributes = vec![
        RouteAttribute::Destination(IpAddr::from([198, 51, 102, 0]).into()),
        RouteAttribute::PrefSource(IpAddr::from([192, 0, 2, 1]).into()),
        RouteAttribute::MultiPath(vec![hop(3), hop(4)]),
        RouteAttribute::Metrics(vec![RouteMetric::Lock(1 << 2), RouteMetric::Mtu(1400)]),
    ];
    Request::new(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE, "create a route")
}

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
    alone(|socket| {
        make_objects(socket);
        let links = bodies(socket, RouteNetlinkMessage::GetLink(LinkMessage::default()));
        assert!(read_damaged(links, 16, Link::read) >= 2);
        let query = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        assert!(read_damaged(bodies(socket, query), 8, addr::read) >= 2);
        let query = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        assert!(read_damaged(bodies(socket, query), 12, neigh::read) >= 2);
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let query = RouteNetlinkMessage::GetRoute(message);
            assert!(read_damaged(bodies(socket, query), 12, route::read) >= 3);
        }
    });
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
    // The header of what is refused alone, or all of it, here of an odd length.
    for (capped, repeated) in [(NLM_F_CAPPED, 16), (0, 16), (0, 35)] {
        let mut body = Vec::from((-(Errno::EINVAL as i32)).to_ne_bytes());
        body.extend(u32::to_ne_bytes(if capped == 0 { repeated } else { 4096 }));
        body.resize((4 + repeated as usize).next_multiple_of(4), 0);
        body.extend(b"\x08\0\x02\0\x01\0\0\0\x0c\0\x01\0so what\0");
        let flags = NLM_F_ACK_TLVS | capped;
        let datagram = message(NLMSG_ERROR, flags, &body);
        let query = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let request = Request::new(query, NLM_F_REQUEST, "try");
        let told = |body| Answer { kind: NLMSG_ERROR, flags, sequence: 7, body };
        let error = Answers(&datagram).next().unwrap().error(&request).unwrap();
        assert_eq!(error.to_string(), "try: Invalid argument: so what");
        for length in 0..body.len() {
            let error = told(&body[..length]).error(&request);
            assert_eq!(error.is_some(), length >= 4, "{length}");
            assert_eq!(error.and_then(|error| error.words), None, "{length}");
        }
        assert_eq!(told(&[0; 4]).errno(), None);
        assert_eq!(told(&body).error(&request.clone().tolerate(Errno::EINVAL)), None);
        // Whatever length the kernel would claim.
        let mut body = body.clone();
        body[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        let words = told(&body).error(&request).and_then(|error| error.words);
        assert_eq!(words.is_some(), capped != 0);
    }
}
