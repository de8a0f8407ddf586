// SPDX-License-Identifier: Apache-2.0
//! Packets as a hostile pod makes them: with whatever source it likes.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::{DEADLINE, Netns, uninterrupted};

const UDP: u8 = 17;
/// The port that forged datagrams say they are from.
const FORGED_PORT: u16 = 53;

/// A datagram from any source, with its IP header.
pub fn datagram(source: IpAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let mut udp = [FORGED_PORT, to.port(), 8 + data.len() as u16, 0].map(u16::to_be_bytes).concat();
    udp.extend(data);
    if source.is_ipv6() {
        let length = (udp.len() as u32).to_be_bytes();
        let pseudo =
            [&octets(source)[..], &octets(to.ip()), &length, &[0, 0, 0, UDP], &udp].concat();
        udp[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    }
    packet(UDP, source, to.ip(), &udp)
}

/// A packet of any protocol.
pub fn packet(protocol: u8, source: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    if source.is_ipv6() {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend((payload.len() as u16).to_be_bytes());
        header.extend([protocol, 64]);
        return [&header[..], &octets(source), &octets(to), payload].concat();
    }
    let length = (20 + payload.len() as u16).to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, protocol, 0, 0];
    header.extend(octets(source));
    header.extend(octets(to));
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [&header[..], payload].concat()
}

/// The inner part of a VXLAN datagram: its header and an Ethernet frame.
pub fn vxlan(vni: u32, mac: &str, packet: &[u8]) -> Vec<u8> {
    let mac = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
    let mut bytes = vec![8, 0, 0, 0];
    bytes.extend((vni << 8).to_be_bytes());
    bytes.extend(mac);
    bytes.extend([0x66, 1, 2, 3, 4, 5, 8, 0]);
    bytes.extend(packet);
    bytes
}

/// Sends a packet as it is, from inside a namespace.
pub fn send(from: &Netns, to: IpAddr, packet: &[u8]) {
    from.enter(|| {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
            .expect("a raw socket");
        // The standard library's type for datagrams does for raw ones too.
        UdpSocket::from(raw).send_to(packet, (to, 0)).expect("send a raw packet");
    });
}

/// A socket that hears what comes to an address, at any port.
pub fn listen(at: &Netns, address: &str) -> UdpSocket {
    listen_on(at, address, 0)
}

/// The same at a port.
pub fn listen_on(at: &Netns, address: &str, port: u16) -> UdpSocket {
    let address: IpAddr = address.parse().unwrap();
    let socket = at.enter(|| UdpSocket::bind((address, port)).expect("bind a socket"));
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Everything that a socket hears until something says that it is the last.
pub fn heard(socket: &UdpSocket) -> Vec<(String, IpAddr)> {
    let mut heard = Vec::new();
    loop {
        let mut buffer = [0; 256];
        let received = uninterrupted(|| socket.recv_from(&mut buffer));
        let (length, from) = received.expect("hear the last datagram");
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text == LAST {
            return heard;
        }
        heard.push((text, from.ip()));
    }
}

/// What ends [`heard`].
pub const LAST: &str = "last";

/// Sends an honest datagram, which ends [`heard`]: packets of one way do not
/// overtake each other.
pub fn send_last(from: &Netns, to: SocketAddr) {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = from.enter(|| UdpSocket::bind((any, 0)).expect("bind a socket"));
    socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.send_to(LAST.as_bytes(), to).expect("send the last datagram");
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
