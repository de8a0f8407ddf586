// SPDX-License-Identifier: Apache-2.0
//! Packets that ask whether an address answers: echo requests, and UDP to a port where
//! nobody listens. They are made whole, with the source that they are to have, and are
//! never fragmented; the path MTU that the kernel remembers is not heeded.
//!
//! All answers come to one socket, among them the ICMP errors about packets of others.

mod emit;
mod parse;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        AddressFamily, SetSockOpt, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt,
    },
};

use super::Error;
use crate::family::Family;

pub use parse::{Came, Quoted, Why};
#[cfg(fuzzing)]
pub(super) use parse::{ipv4, ipv6};

/// Larger than an answer of which enough is kept, its header included.
const ANSWER_BYTES: usize = 256;
/// Room for the answers to some hundreds of packets.
const BUFFER_BYTES: usize = 1 << 20;

/// The whole packet, in bytes, that a plain `ping` sends.
pub const SMALL: u32 = 104;

#[derive(Clone, Copy)]
struct MtuDiscover;
nix::setsockopt_impl!(
    MtuDiscover,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    libc::c_int,
    sockopt::SetStruct<'_, libc::c_int>
);

#[derive(Clone, Copy)]
struct MtuDiscover6;
nix::setsockopt_impl!(
    MtuDiscover6,
    libc::IPPROTO_IPV6,
    libc::IPV6_MTU_DISCOVER,
    libc::c_int,
    sockopt::SetStruct<'_, libc::c_int>
);

/// What a packet asks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// An echo request.
    Echo {
        /// Whose it is.
        ident: u16,
        /// Which one.
        sequence: u16,
    },
    /// A datagram of UDP.
    Datagram {
        /// From this port, which nobody needs to have.
        from: u16,
        /// To this one.
        port: u16,
    },
}

/// A packet to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Its source, an address of this node.
    pub source: IpAddr,
    /// Its destination.
    pub to: IpAddr,
    /// Its length in bytes with all headers.
    pub bytes: u32,
    /// What it asks.
    pub kind: Kind,
}

/// The sockets of a family: one that sends, and one that hears.
#[derive(Debug)]
pub struct Icmp {
    family: Family,
    // The standard library's type for datagrams does for raw ones too.
    out: UdpSocket,
    heard: UdpSocket,
}

impl Icmp {
    /// Opens them.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`; `EAFNOSUPPORT` for a family that the kernel lacks.
    pub fn open(family: Family) -> Result<Self, Error> {
        let (domain, protocol) = match family {
            Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
            Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let open = |protocol: SockProtocol| socket(domain, SockType::Raw, flags, protocol);
        let opened = || -> nix::Result<Self> {
            let (out, heard) = (open(SockProtocol::Raw)?, open(protocol)?);
            match family {
                Family::V4 => MtuDiscover.set(&out, &libc::IP_PMTUDISC_PROBE)?,
                Family::V6 => MtuDiscover6.set(&out, &libc::IPV6_PMTUDISC_PROBE)?,
            }
            // Without CAP_NET_ADMIN as much of it as the kernel grants.
            setsockopt(&heard, sockopt::RcvBufForce, &BUFFER_BYTES)
                .or_else(|_| setsockopt(&heard, sockopt::RcvBuf, &BUFFER_BYTES))?;
            Ok(Self { family, out: out.into(), heard: heard.into() })
        };
        opened().map_err(|errno| Error::new(format!("open a raw socket of {family}"), errno))
    }

    /// Whose addresses it speaks to.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// What the kernel says; `EPERM` where the node's own firewall drops it.
    pub fn send(&self, packet: &Packet) -> Result<(), Errno> {
        let bytes = emit::packet(packet);
        let sent = self.out.send_to(&bytes, SocketAddr::new(packet.to, 0));
        sent.map(drop).map_err(|error| errno(&error))
    }

    /// What has come, in its order; nothing where there is nothing.
    pub fn receive(&self) -> Option<Came> {
        let mut bytes = [0; ANSWER_BYTES];
        loop {
            // A pending error is about a packet, and not about what came.
            let (length, from) = match self.heard.recv_from(&mut bytes) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_) => continue,
            };
            let came = bytes.get(..length).and_then(|bytes| match self.family {
                Family::V4 => parse::ipv4(bytes),
                Family::V6 => parse::ipv6(from.ip(), bytes),
            });
            if came.is_some() {
                return came;
            }
        }
    }
}

impl AsFd for Icmp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
