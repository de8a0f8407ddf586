// SPDX-License-Identifier: Apache-2.0
use std::thread;

use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::net::{Socket, addr, link, neigh::Neighbour, route::Route as Plain};

/// What the kernel tells of these changes.
fn told(monitor: &mut Monitor) -> Vec<Event> {
    let mut events = Vec::new();
    read(monitor, &mut |event| events.push(event)).unwrap();
    events
}

#[test]
fn events_tell_what_they_are_about() {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut socket = Socket::open().unwrap();
        let mut monitor = subscribe().unwrap();
        assert_eq!(told(&mut monitor), []);
        let lo = link::by_name(&mut socket, "lo").unwrap().unwrap().index;
        socket.apply(&[link::set_up("lo")]).unwrap();
        let events = told(&mut monitor);
        assert!(events.contains(&Event::Link(lo)), "{events:?}");
        // 127.0.0.1 comes with it.
        assert!(events.contains(&Event::Other), "{events:?}");
        let network: IpNetwork = "10.1.0.0/24".parse().unwrap();
        for (route, expected) in
            [(network, network), ("0.0.0.0/0".parse().unwrap(), "0.0.0.0/0".parse().unwrap())]
        {
            for request in [Plain::new(route).create(lo), Plain::new(route).delete(lo)] {
                socket.apply(&[request]).unwrap();
                assert_eq!(told(&mut monitor), [Event::Route(expected)]);
            }
        }
        let address: IpAddr = "10.1.0.9".parse().unwrap();
        let mac = crate::net::Mac([2, 0, 0, 0, 0, 1]);
        socket.apply(&[Neighbour { address, mac }.replace(lo)]).unwrap();
        // Loopback has one for all addresses.
        let address = [0; 4].into();
        assert_eq!(told(&mut monitor), [Event::Neighbour { link: lo, address, answers: true }]);
        let _ = addr::all(&mut socket).unwrap();
        assert_eq!(told(&mut monitor), []);
    };
    thread::spawn(run).join().unwrap();
}
