// SPDX-License-Identifier: Apache-2.0
//! Whether packets arrive: a raw socket in each source sends the first packet of a
//! connection, and a socket that sees all packets is in each destination.
//!
//! Nobody listens and nobody answers: checksums are wrong, so that the pods throw the
//! packets away and conntrack notes none. That all have arrived which do is known by a last
//! one from the node, which may always speak to its pods. One CPU handles them all, and in their order.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cases::Probe;
use crate::cluster::Cluster;
use crate::harness::{DEADLINE, Netns, packet, uninterrupted};

/// For experiments (IANA): what ends a probe.
const LAST: u8 = 253;
/// Probes are numbered from here on by their source ports.
const FIRST_PORT: u16 = 2000;

impl Cluster {
    /// The probes, each with whether it arrived.
    pub fn probe<'a>(&self, world: &Value, probes: &'a [Probe]) -> Vec<(&'a Probe, bool)> {
        let names = names(world);
        let end = |name: &str| name.parse().unwrap_or_else(|_| names[name]);
        let ends: Vec<(IpAddr, IpAddr)> =
            probes.iter().map(|probe| (end(&probe.from), end(&probe.to))).collect();
        let mut listeners = BTreeMap::new();
        for (_, to) in &ends {
            let netns = &self.pod(*to).netns;
            listeners.entry(*to).or_insert_with(|| listener(netns));
        }
        let pods: Vec<[UdpSocket; 2]> = self.pods.iter().map(|pod| senders(&pod.netns)).collect();
        let heard = self.hear(&listeners, || {
            for (number, (probe, (from, to))) in probes.iter().zip(&ends).enumerate() {
                let at = self.pods.iter().position(|pod| pod.addresses.contains(from)).unwrap();
                let (protocol, payload) = first(probe, *to, FIRST_PORT + number as u16);
                let bytes = packet::packet(protocol, *from, *to, &payload);
                of(&pods[at], *to).send_to(&bytes, (*to, 0)).unwrap();
            }
        });
        let arrived = |(number, (probe, (from, to))): (usize, (&'a Probe, &(IpAddr, IpAddr)))| {
            let expected = Heard {
                from: *from,
                protocol: number_of(probe, *to),
                number: FIRST_PORT + number as u16,
            };
            (probe, heard[to].contains(&expected))
        };
        probes.iter().zip(&ends).enumerate().map(arrived).collect()
    }
}

impl Cluster {
    /// What arrives at an address of a pod because of what is done meanwhile.
    pub fn hears(&self, at: IpAddr, act: impl FnOnce() + Send) -> Vec<Heard> {
        let listeners = BTreeMap::from([(at, listener(&self.pod(at).netns))]);
        self.hear(&listeners, act).remove(&at).unwrap()
    }

    fn hear(
        &self,
        listeners: &BTreeMap<IpAddr, UdpSocket>,
        act: impl FnOnce() + Send,
    ) -> BTreeMap<IpAddr, Vec<Heard>> {
        let node = senders(&self.host);
        let sent = || {
            pin();
            act();
            for to in listeners.keys() {
                let from: [IpAddr; 2] = [[169, 254, 1, 1].into(), "fe80::1".parse().unwrap()];
                let from = from[usize::from(to.is_ipv6())];
                let last = packet::packet(LAST, from, *to, b"last");
                of(&node, *to).send_to(&last, (*to, 0)).unwrap();
            }
        };
        std::thread::scope(|scope| scope.spawn(sent).join()).unwrap();
        listeners.iter().map(|(at, socket)| (*at, hear(socket, *at))).collect()
    }
}

/// The first address of each pod of a world.
fn names(world: &Value) -> BTreeMap<String, IpAddr> {
    let pods = world["items"].as_array().unwrap().iter().filter(|item| item["kind"] == "Pod");
    let named = pods.map(|pod| {
        let name = |key: &str| pod["metadata"][key].as_str().unwrap();
        let address = pod["status"]["podIP"].as_str().unwrap().parse().unwrap();
        (format!("{}/{}", name("namespace"), name("name")), address)
    });
    named.collect()
}

/// A packet that arrived.
#[derive(Debug, Eq, PartialEq)]
pub struct Heard {
    pub from: IpAddr,
    pub protocol: u8,
    /// The port that it is from, or the number of an echo.
    pub number: u16,
}

fn listener(netns: &Netns) -> UdpSocket {
    let all = netns.enter(|| {
        let (kind, flags) = (SockType::Datagram, SockFlag::SOCK_CLOEXEC);
        socket(AddressFamily::Packet, kind, flags, SockProtocol::EthAll).unwrap()
    });
    // The standard library's type for datagrams does for these too.
    let all = UdpSocket::from(all);
    all.set_read_timeout(Some(DEADLINE)).unwrap();
    all
}

fn senders(netns: &Netns) -> [UdpSocket; 2] {
    netns.enter(|| {
        [AddressFamily::Inet, AddressFamily::Inet6].map(|family| {
            let flags = SockFlag::SOCK_CLOEXEC;
            UdpSocket::from(socket(family, SockType::Raw, flags, SockProtocol::Raw).unwrap())
        })
    })
}

fn of(sockets: &[UdpSocket; 2], address: IpAddr) -> &UdpSocket {
    &sockets[usize::from(address.is_ipv6())]
}

/// Keeps the thread on one of its CPUs, on which its packets are handled.
fn pin() {
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let one = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap()).unwrap();
    let mut set = CpuSet::new();
    set.set(one).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

fn number_of(probe: &Probe, to: IpAddr) -> u8 {
    match probe.protocol.as_str() {
        "TCP" => 6,
        "UDP" => 17,
        "SCTP" => 132,
        "ICMP" if to.is_ipv4() => 1,
        "ICMP" => 58,
        other => panic!("no protocol {other}"),
    }
}

/// The first packet of a connection behind its IP header, with a checksum that is wrong.
fn first(probe: &Probe, to: IpAddr, number: u16) -> (u8, Vec<u8>) {
    let protocol = number_of(probe, to);
    let ports = [number.to_be_bytes(), probe.port.to_be_bytes()].concat();
    let rest: &[u8] = match probe.protocol.as_str() {
        "TCP" => &[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0xba, 0xad, 0, 0],
        "UDP" => &[0, 8, 0xba, 0xad],
        "SCTP" => &[
            0, 0, 0, 0, 0xba, 0xad, 0xba, 0xad, 1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0,
            1, 0, 0, 0, 1,
        ],
        _ => {
            let kind = if to.is_ipv4() { 8 } else { 128 };
            let id = number.to_be_bytes();
            return (protocol, vec![kind, 0, 0xba, 0xad, id[0], id[1], 0, 1]);
        }
    };
    (protocol, [&ports, rest].concat())
}

/// All that arrives before the last.
fn hear(socket: &UdpSocket, at: IpAddr) -> Vec<Heard> {
    let mut heard = Vec::new();
    let mut buffer = [0; 256];
    loop {
        let received = uninterrupted(|| socket.recv(&mut buffer));
        let length = received.expect("the last packet from the node");
        let Some((protocol, from, to, rest)) = parsed(&buffer[..length]) else { continue };
        if to != at {
            continue;
        }
        if protocol == LAST {
            return heard;
        }
        let place = if matches!(protocol, 1 | 58) { 4 } else { 0 };
        if let Some(number) = rest.get(place..place + 2) {
            let number = u16::from_be_bytes([number[0], number[1]]);
            heard.push(Heard { from, protocol, number });
        }
    }
}

fn parsed(bytes: &[u8]) -> Option<(u8, IpAddr, IpAddr, &[u8])> {
    match bytes.first()? >> 4 {
        4 => {
            let at =
                |place| Some(IpAddr::from(<[u8; 4]>::try_from(bytes.get(place..place + 4)?).ok()?));
            Some((*bytes.get(9)?, at(12)?, at(16)?, bytes.get(20..)?))
        }
        6 => {
            let at = |place| {
                Some(IpAddr::from(<[u8; 16]>::try_from(bytes.get(place..place + 16)?).ok()?))
            };
            Some((*bytes.get(6)?, at(8)?, at(24)?, bytes.get(40..)?))
        }
        _ => None,
    }
}
