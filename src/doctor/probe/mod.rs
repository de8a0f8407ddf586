// SPDX-License-Identifier: Apache-2.0
//! What packets to other nodes tell: which are sent, and what follows from the answers.
//! Pure: packets and their times are the caller's.
//!
//! A node has two paths in each family. The outer one leads to its own address; the inner
//! one to an address where its pods are, through the tunnel where there is one. Each pod that
//! was named is the end of one more inner path.

mod ladder;
mod round;
#[cfg(test)]
mod tests;
mod verdict;
mod walk;

use std::net::IpAddr;

use crate::{family::Family, net::icmp::Why};

pub use ladder::Sizes;
pub use verdict::findings;
pub use walk::{Seen, Shot, Step, Walk};

/// The checks that are made by packets.
pub const CHECKS: [&str; 3] = ["peer-unreachable", "protocol-filtered", "path-mtu"];

/// By what an address is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// An echo request.
    Echo,
    /// A datagram of UDP to this port.
    Datagram(u16),
}

/// What carries the packets of pods between nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Carrier {
    /// IP protocol 4.
    Ipip,
    /// UDP to this port.
    Vxlan(u16),
}

/// A path to another node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Path {
    /// The family of its packets.
    pub family: Family,
    /// Whether it leads to where pods are, and not to the node's own address.
    pub inner: bool,
    /// Whether the other end is a pod that was named, and not the node's end of a tunnel.
    pub pod: bool,
    /// The other end.
    pub address: IpAddr,
    /// This end.
    pub source: IpAddr,
    /// The device that packets leave by, and its index.
    pub device: (String, u32),
    /// Where they are sent on that link.
    pub next_hop: IpAddr,
    /// What carries them, where something does.
    pub carrier: Option<Carrier>,
    /// The outer path's ends, this one and that one: the tunnel's packets go there.
    pub outer: (IpAddr, IpAddr),
    /// The largest packet that may leave here, in bytes.
    pub limit: u32,
    /// The largest packet that is sent for pods.
    pub needed: u32,
    /// What a tunnel makes of it beyond the packet of the pod.
    pub overhead: u32,
    /// Whether an answer is expected: not of a tunnel's address that packets travel to
    /// as they are.
    pub expected: bool,
}

impl Path {
    fn carrier_port(&self) -> Option<u16> {
        match self.carrier {
            Some(Carrier::Vxlan(port)) => Some(port),
            _ => None,
        }
    }

    /// The ends between which a packet goes: what asks for a tunnel's own port is no
    /// packet of the tunnel.
    pub fn ends(&self, method: Method) -> (IpAddr, IpAddr) {
        match method {
            Method::Datagram(port) if self.inner && self.carrier_port() == Some(port) => self.outer,
            _ => (self.source, self.address),
        }
    }

    /// Whether a packet of this protocol, of UDP to this port, is one of its tunnel.
    pub fn is_carried_by(&self, protocol: u8, port: u16) -> bool {
        match self.carrier {
            Some(Carrier::Ipip) => protocol == 4,
            Some(Carrier::Vxlan(own)) => protocol == 17 && port == own,
            None => false,
        }
    }

    /// Whether packets of both take the same way to the node.
    pub fn is_beside(&self, other: &Self) -> bool {
        (self.inner, self.family, &self.carrier, &self.device)
            == (other.inner, other.family, &other.carrier, &other.device)
    }

    /// Its name in tables.
    pub fn side(&self) -> &'static str {
        if self.inner { "inner" } else { "outer" }
    }
}

/// Who refused a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// Why.
    pub why: Why,
    /// Who says so.
    pub by: IpAddr,
    /// Whether it was a packet of the tunnel, and not one of ours.
    pub of_carrier: bool,
}

/// A path and what was seen of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// The path.
    pub path: Path,
    /// What was seen.
    pub seen: Seen,
    /// Whether the next hop has said where it is on its link while it was probed; none where
    /// that is not known.
    pub neighbour: Option<bool>,
    /// The path MTU that the kernel remembers, where that is below what leaves here.
    pub remembered: Option<u32>,
}

impl Found {
    /// Whether anything came back.
    pub fn answers(&self) -> bool {
        self.seen.received > 0 || self.seen.datagrams == Some(true)
    }

    /// What was found of its sizes, by echo requests where those are answered.
    pub fn sizes(&self) -> Option<&Sizes> {
        self.seen.echo.as_ref().or(self.seen.datagram.as_ref())
    }
}

/// A node that was probed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// What was seen of its paths.
    pub paths: Vec<Found>,
    /// Paths that were not probed.
    pub skipped: Vec<Skipped>,
}

/// A path that was not probed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Skipped {
    /// The family of its packets.
    pub family: Family,
    /// Whether it is the inner one.
    pub inner: bool,
    /// Why, in words.
    pub reason: String,
    /// There has to be one, and this node has none: not that nobody is known to answer.
    pub is_cut: bool,
}
