// SPDX-License-Identifier: Apache-2.0
//! What a routing daemon has to know of the mesh, whatever its language. Pure.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use sha1_smol::Sha1;

use crate::{
    fabric::{Desired, Peers, Settings, desired::Facts, peers},
    family::{Family, HasFamily},
    list::{Gather, PushAll},
    object::{Managed, Objects},
};

/// A node's view of the mesh.
#[derive(Debug)]
pub(super) struct Mesh {
    /// This node, fit for a comment.
    pub(super) name: String,
    /// Autonomous system of all nodes.
    pub(super) number: u32,
    /// Router identifier.
    pub(super) router_id: Ipv4Addr,
    /// Route protocol of our blackhole routes.
    pub(super) protocol: u8,
    /// The families in which this node has pods.
    pub(super) families: Vec<OfFamily>,
    /// What an operator should know.
    pub(super) notes: Vec<String>,
}

/// One address family of the mesh.
#[derive(Debug)]
pub(super) struct OfFamily {
    pub(super) family: Family,
    /// This node's address.
    pub(super) address: IpAddr,
    /// The device that has it.
    pub(super) uplink: Option<String>,
    /// This node's pods.
    pub(super) own: Vec<IpNetwork>,
    /// Where pods of others may be.
    pub(super) others: Vec<IpNetwork>,
    pub(super) neighbours: Vec<Neighbour>,
}

/// Another node.
#[derive(Debug)]
pub(super) struct Neighbour {
    /// Its name, fit for a comment.
    pub(super) name: String,
    pub(super) address: IpAddr,
    pub(super) way: Way,
}

/// How packets reach a node's pods.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// It is on the link.
    Link,
    /// Through this router, which has to know the pods as well.
    Router(IpAddr),
    /// Wrapped.
    Tunnel {
        /// Device.
        device: String,
        /// Path MTU in bytes.
        mtu: Option<u32>,
    },
}

impl Mesh {
    /// Gathers it from what the fabric would do without a daemon, so that both
    /// choose the same ways.
    pub(super) fn new(
        number: u32,
        settings: &Settings,
        peers: &Peers,
        facts: &Facts,
        desired: &Desired,
        cluster: &[IpNetwork],
    ) -> Self {
        let families = Family::BOTH
            .into_iter()
            .filter_map(|family| OfFamily::new(family, peers, facts, desired, cluster))
            .gather();
        Self {
            name: printable(&peers.me.name),
            number,
            router_id: router_id(&peers.me),
            protocol: settings.keys.protocol,
            families,
            notes: desired.told().cloned().gather(),
        }
    }
}

impl OfFamily {
    fn new(
        family: Family,
        peers: &Peers,
        facts: &Facts,
        desired: &Desired,
        cluster: &[IpNetwork],
    ) -> Option<Self> {
        let address = peers.me.address(family)?;
        let own: Vec<IpNetwork> = peers.me.pod_cidrs(family).gather();
        if own.is_empty() {
            return None;
        }
        let uplink = facts.addresses.iter().find(|(own, _)| own.ip() == address);
        let cluster = cluster.iter().copied().filter(|cidr| cidr.family() == family);
        let mut others: Vec<IpNetwork> = cluster.gather();
        if others.is_empty() {
            others.push_all(peers.others.iter().flat_map(|node| node.pod_cidrs(family)));
        }
        let neighbours = peers.others.iter().filter_map(|node| {
            let first = node.pod_cidrs(family).next()?;
            let address = node.address(family)?;
            let way = way(desired, first, address);
            Some(Neighbour { name: printable(&node.name), address, way })
        });
        Some(Self {
            family,
            address,
            uplink: uplink.map(|(_, device)| device.clone()),
            own,
            others,
            neighbours: neighbours.gather(),
        })
    }

    /// The neighbours whose pods are behind a tunnel, with device and MTU.
    pub(super) fn wrapped(&self) -> impl Iterator<Item = (&Neighbour, &str, Option<u32>)> {
        self.neighbours.iter().filter_map(|neighbour| match &neighbour.way {
            Way::Tunnel { device, mtu } => Some((neighbour, device.as_str(), *mtu)),
            Way::Link | Way::Router(_) => None,
        })
    }

    /// The neighbours behind routers, and those.
    pub(super) fn routed(&self) -> impl Iterator<Item = (&Neighbour, IpAddr)> {
        self.neighbours.iter().filter_map(|neighbour| match neighbour.way {
            Way::Router(router) => Some((neighbour, router)),
            Way::Link | Way::Tunnel { .. } => None,
        })
    }
}

fn way(desired: &Desired, cidr: IpNetwork, address: IpAddr) -> Way {
    let Objects { routes, tunnels, .. } = &desired.objects;
    let Some(route) = routes.iter().find(|route| route.destination() == cidr) else {
        return Way::Link;
    };
    let tunnel = tunnels.iter().find(|tunnel| route.device() == Some(&tunnel.name));
    match (tunnel, route.gateway()) {
        (Some(tunnel), _) => Way::Tunnel { device: tunnel.name.clone(), mtu: route.mtu() },
        (None, Some(gateway)) if gateway != address => Way::Router(gateway),
        (None, _) => Way::Link,
    }
}

/// The IPv4 address; of a node without one, something that stays the same and
/// is nobody else's (RFC 6286 asks for no more).
fn router_id(me: &peers::Node) -> Ipv4Addr {
    match me.address(Family::V4) {
        Some(IpAddr::V4(address)) => address,
        _ => {
            let mut octets = [0; 4];
            let digest = Sha1::from(&me.name).digest().bytes();
            octets.iter_mut().zip(digest).for_each(|(octet, byte)| *octet = byte);
            Ipv4Addr::from(octets)
        }
    }
}

/// A name that cannot end the comment that it stands in.
fn printable(name: &str) -> String {
    name.escape_default().to_string()
}
