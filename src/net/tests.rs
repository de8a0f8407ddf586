// SPDX-License-Identifier: Apache-2.0
//! Answers about objects that are cut off, and answers that lie.

mod batches;

use std::{net::IpAddr, thread};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::AddressMessage,
    link::LinkMessage,
    neighbour::NeighbourMessage,
    route::{RouteAttribute, RouteMessage, RouteMetric, RouteNextHop, RouteType},
};
use nix::sched::{CloneFlags, unshare};

use super::{
    Answer, Mac, Reading, Request, Socket, addr,
    link::{self, Link},
    message::encode,
    neigh::{self, Neighbour},
    route::{self, Route},
    tunnel::{self, Vxlan},
};

/// Runs a test in a namespace of its own: those of a program share one.
pub(super) fn alone(test: impl FnOnce(&mut Socket) + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test(&mut Socket::open().unwrap());
    };
    thread::spawn(run).join().unwrap();
}

/// Makes objects of all kinds, with all that is read of them.
fn make_objects(socket: &mut Socket) {
    let local = Some("fd00::1".parse().unwrap());
    let vxlan = Vxlan { vni: 7, port: 8472, local, parent: 0, learning: true, own_socket: false };
    let name = "vxlan0";
    let create = [
        tunnel::create(name, 1450, 7, ("vxlan", Some(Mac([2; 6])), Some(&vxlan))),
        link::set_up(name),
    ];
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
    encode(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE, "create a route")
}

/// What the kernel answers to a dump.
fn bodies(socket: &mut Socket, query: RouteNetlinkMessage) -> Vec<(u16, Vec<u8>)> {
    let request = encode(query, NLM_F_DUMP, "list");
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
