// SPDX-License-Identifier: Apache-2.0
//! Where this node is in the network: what a list of peers has to agree with.
//! How it is told is known here, what follows from it is not.

use std::{collections::HashSet, net::IpAddr};

use ipnetwork::IpNetwork;

use crate::{
    family::Family,
    list::{Gather, Ordered, PushAll},
    net::{
        Tables,
        route::{Found, Kind, TABLE_MAIN},
    },
    object::link::is_tunnel,
};

/// This node's addresses and next hops.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// All addresses of this node, with their masks.
    pub addresses: Vec<IpNetwork>,
    /// Those that no tunnel has: what a tunnel has follows from a list of peers,
    /// maybe from an older one.
    pub plain: Vec<IpNetwork>,
    /// Next hops of routes that no fabric has made.
    pub next_hops: Vec<NextHop>,
}

/// A next hop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NextHop {
    /// Its address.
    pub address: IpAddr,
    /// Where the route leads.
    pub destination: IpNetwork,
    /// Length of the longest prefix by which it is on a link; 0 where only the
    /// route itself says so.
    pub reach: u8,
}

impl Site {
    /// Routes of `protocol` are the fabric's own.
    pub fn of(tables: &Tables, protocol: u8) -> Self {
        let tunnels: HashSet<u32> =
            tables.links.iter().filter(|link| is_tunnel(link)).map(|link| link.index).collect();
        let held = &tables.addresses;
        let plain = held.iter().filter(|(index, _)| !tunnels.contains(index));
        let plain = plain.map(|(_, address)| *address).gather();
        let mut site = Self {
            addresses: held.iter().map(|(_, address)| *address).gather(),
            plain,
            next_hops: Vec::new(),
        };
        for family in Family::BOTH {
            let routes = tables.routes(family).iter().filter(|found| {
                let route = &found.route;
                (route.table, route.kind, found.local) == (TABLE_MAIN, Kind::Unicast, false)
                    && route.protocol != protocol
                    && !found.devices.iter().any(|device| tunnels.contains(device))
            });
            let routes: Vec<&Found> = routes.gather();
            site.next_hops.push_all(next_hops(&routes));
        }
        site
    }

    /// Whether an address is this node's.
    pub fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|own| own.ip() == address)
    }
}

/// Each next hop of these routes once; a list of thousands of routes has few.
fn next_hops(routes: &[&Found]) -> Vec<NextHop> {
    let mut seen = HashSet::new();
    let reach = |address: IpAddr| {
        let on_link = routes
            .iter()
            .map(|found| &found.route)
            .filter(|route| route.gateway.is_none() && route.destination.contains(address));
        on_link.map(|route| route.destination.prefix()).max().unwrap_or(0)
    };
    let with_gateway = routes.iter().filter_map(|found| {
        let address = found.route.gateway?;
        Some((address, found.route.destination))
    });
    let mut hops: Vec<NextHop> = with_gateway
        .filter(|(address, _)| !is_link_local(*address))
        .map(|(address, destination)| NextHop { address, destination, reach: 0 })
        .gather();
    // What leads furthest speaks for the others.
    hops.order_by_key(|hop| (hop.address, hop.destination.prefix()));
    hops.retain(|hop| seen.insert(hop.address));
    for hop in &mut hops {
        hop.reach = reach(hop.address);
    }
    hops
}

/// Routers advertise themselves by such an address, which is no pod's.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local())
}
