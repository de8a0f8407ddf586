// SPDX-License-Identifier: Apache-2.0
//! The kernel's tables, each read once for all who compare something with them.

use ipnetwork::IpNetwork;

use super::{
    Error, Socket, addr, fdb,
    link::{self, Link},
    neigh,
    route::{self, Found},
    rule::{self, Rule},
};
use crate::family::Family;
use crate::list::{Gather, PushAll};

/// What a node has.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses with their masks, and the indexes of their links.
    pub addresses: Vec<(u32, IpNetwork)>,
    /// The indexes of the links that have an address by a router's advertisement.
    pub advertised: Vec<u32>,
    /// All routes of every table: of IPv4, of IPv6.
    routes: [Vec<Found>; 2],
    /// All rules: of IPv4, of IPv6.
    rules: [Vec<Rule>; 2],
    /// The permanent neighbours of VXLAN devices, with the devices' indexes.
    pub neighbours: Vec<(u32, neigh::Neighbour)>,
    /// Their permanent forwarding entries.
    pub forwarding: Vec<(u32, fdb::Entry)>,
}

impl Tables {
    /// Asks the kernel.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn of_kernel(socket: &mut Socket) -> Result<Self, Error> {
        let links = link::all(socket)?;
        let (addresses, advertised) = addr::table(socket)?;
        let routes = [route::all(socket, Family::V4)?, route::all(socket, Family::V6)?];
        let rules = [rule::all(socket, Family::V4)?, rule::all(socket, Family::V6)?];
        let mut tables = Self { links, addresses, advertised, routes, rules, ..Self::default() };
        let vxlan = |index: u32| {
            tables.links.iter().any(|link| link.index == index && link.vxlan.is_some())
        };
        if tables.links.iter().any(|link| link.vxlan.is_some()) {
            let (mut neighbours, mut forwarding) = (neigh::all(socket)?, fdb::all(socket)?);
            neighbours.retain(|(index, _)| vxlan(*index));
            forwarding.retain(|(index, _)| vxlan(*index));
            (tables.neighbours, tables.forwarding) = (neighbours, forwarding);
        }
        Ok(tables)
    }

    /// Less of it: the routes that `protocol` made, and what the links have that are
    /// `wanted`.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn of_protocol(
        socket: &mut Socket,
        protocol: u8,
        wanted: impl Fn(&Link) -> bool,
    ) -> Result<Self, Error> {
        let links = link::all(socket)?;
        let mut tables = Self::default();
        for link in links.iter().filter(|link| wanted(link)) {
            let own = addr::of_link(socket, link.index)?.into_iter();
            tables.addresses.push_all(own.map(|address| (link.index, address)));
            if link.vxlan.is_some() {
                let entries = neigh::permanent(socket, link.index)?.into_iter();
                tables.neighbours.push_all(entries.map(|entry| (link.index, entry)));
                let entries = fdb::permanent(socket, link.index)?.into_iter();
                tables.forwarding.push_all(entries.map(|entry| (link.index, entry)));
            }
        }
        let mut routes = |family| route::of_protocol(socket, family, protocol);
        let routes = [routes(Family::V4)?, routes(Family::V6)?];
        Ok(Self { links, routes, ..tables })
    }

    /// All routes of one family.
    pub fn routes(&self, family: Family) -> &[Found] {
        let [ipv4, ipv6] = &self.routes;
        match family {
            Family::V4 => ipv4,
            Family::V6 => ipv6,
        }
    }

    /// All rules of one family.
    pub fn rules(&self, family: Family) -> &[Rule] {
        let [ipv4, ipv6] = &self.rules;
        match family {
            Family::V4 => ipv4,
            Family::V6 => ipv6,
        }
    }

    /// What others have: without the routes that `protocol` made, and what VXLAN devices
    /// have.
    #[must_use]
    pub fn of_others(mut self, protocol: u8) -> Self {
        for routes in &mut self.routes {
            routes.retain(|found| found.route.protocol != protocol);
            routes.shrink_to_fit();
        }
        Self { neighbours: Vec::new(), forwarding: Vec::new(), ..self }
    }

    /// The addresses of a link.
    pub fn addresses_of(&self, index: u32) -> Vec<IpNetwork> {
        let own = self.addresses.iter().filter(|(of, _)| *of == index);
        own.map(|(_, address)| *address).gather()
    }

    /// Destinations to which packets are spread over several devices.
    pub fn spread(&self) -> Vec<IpNetwork> {
        let all = self.routes.iter().flatten();
        all.filter(|found| found.devices.len() > 1).map(|found| found.route.destination).gather()
    }
}
