// SPDX-License-Identifier: Apache-2.0
//! What is on the wire: every packet that passes a namespace.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::harness::Netns;

/// A capture that runs until it is asked for its packets.
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Packet>>,
}

/// The headers of one packet.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Packet {
    pub from: IpAddr,
    pub to: IpAddr,
    /// IP protocol or last IPv6 next header looked at.
    pub protocol: u8,
    /// Destination port of UDP.
    pub udp: Option<u16>,
    /// What a TCP connection's first packet each way announces.
    pub segment_size: Option<u16>,
    pub fragment: bool,
}

impl Capture {
    /// Everything on all links of a namespace from now on.
    pub fn start(netns: &Netns) -> Self {
        let raw = netns.enter(|| {
            let all = SockProtocol::EthAll;
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all).unwrap()
        });
        setsockopt(&raw, sockopt::ReceiveTimeout, &TimeVal::milliseconds(20)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut packets = BTreeSet::new();
            let mut buffer = [0; 128];
            // What came before the stop is taken to the end.
            loop {
                let last = stopped.load(Ordering::Acquire);
                match recv(raw.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    Ok(length) => packets.extend(parse(&buffer[..length])),
                    Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) if !last => {}
                    Err(Errno::EAGAIN) => return packets.into_iter().collect(),
                    Err(errno) => panic!("capture: {errno}"),
                }
            }
        });
        Self { stop, thread }
    }

    /// The packets so far, each kind once.
    pub fn packets(self) -> Vec<Packet> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap()
    }
}

/// How packets between two pods were carried over the wire, in both directions:
/// "plain", "udp 4789", "fragment".
pub fn carried(packets: &[Packet], nodes: [&str; 2], pods: [&str; 2]) -> Vec<String> {
    let [nodes, pods] = [nodes, pods].map(|pair| pair.map(|text| text.parse::<IpAddr>().unwrap()));
    let between = |packet: &Packet, [one, other]: [IpAddr; 2]| {
        [(one, other), (other, one)].contains(&(packet.from, packet.to))
    };
    let mut kinds = BTreeSet::new();
    for packet in packets {
        if packet.fragment {
            kinds.insert("fragment".to_owned());
        }
        if between(packet, pods) {
            kinds.insert("plain".to_owned());
        } else if between(packet, nodes) && packet.udp.is_some() {
            kinds.insert(format!("udp {}", packet.udp.unwrap_or_default()));
        } else if between(packet, nodes) {
            // Neighbours of the same link look for each other.
            const ICMPV6: u8 = 58;
            if packet.protocol != ICMPV6 {
                kinds.insert(format!("protocol {}", packet.protocol));
            }
        }
    }
    kinds.into_iter().collect()
}

fn parse(frame: &[u8]) -> Option<Packet> {
    const IPV4: [u8; 2] = [0x08, 0x00];
    const IPV6: [u8; 2] = [0x86, 0xdd];
    const UDP: u8 = 17;
    const IPV6_FRAGMENT: u8 = 44;
    let packet = frame.get(14..)?;
    let udp = |protocol: u8, offset: usize| {
        let port = packet.get(offset + 2..offset + 4).filter(|_| protocol == UDP)?;
        Some(u16::from_be_bytes([port[0], port[1]]))
    };
    match frame.get(12..14)?.try_into().ok()? {
        IPV4 => {
            let address = |at: usize| -> Option<Ipv4Addr> {
                Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into())
            };
            let (protocol, flags) = (*packet.get(9)?, [*packet.get(6)?, *packet.get(7)?]);
            Some(Packet {
                from: address(12)?.into(),
                to: address(16)?.into(),
                protocol,
                udp: udp(protocol, usize::from(packet[0] & 0xf) * 4),
                segment_size: segment_size(protocol, packet, usize::from(packet[0] & 0xf) * 4),
                // More fragments, or an offset.
                fragment: u16::from_be_bytes(flags) & 0x3fff != 0,
            })
        }
        IPV6 => {
            let address = |at: usize| -> Option<Ipv6Addr> {
                Some(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?.into())
            };
            let protocol = *packet.get(6)?;
            Some(Packet {
                from: address(8)?.into(),
                to: address(24)?.into(),
                protocol,
                udp: udp(protocol, 40),
                segment_size: segment_size(protocol, packet, 40),
                fragment: protocol == IPV6_FRAGMENT,
            })
        }
        _ => None,
    }
}

/// The option of a TCP header at `offset` that tells the maximum segment size
/// (RFC 9293 §3.2); only packets with SYN have it.
fn segment_size(protocol: u8, packet: &[u8], offset: usize) -> Option<u16> {
    const TCP: u8 = 6;
    const PLAIN_HEADER: usize = 20;
    const NOTHING: u8 = 1;
    const SEGMENT_SIZE: u8 = 2;
    let header = packet.get(offset..).filter(|_| protocol == TCP)?;
    let length = usize::from(header.get(12)? >> 4) * 4;
    let mut options = header.get(PLAIN_HEADER..length)?;
    loop {
        match options {
            [NOTHING, rest @ ..] => options = rest,
            [SEGMENT_SIZE, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
            [kind, length, ..] if *kind > 0 => {
                options = options.get(usize::from(*length).max(2)..)?
            }
            _ => return None,
        }
    }
}
