//! The kernel's tables, each read once for all who compare something with them.

use ipnetwork::IpNetwork;

use super::{
    Error, Socket, addr,
    link::{self, Link},
    route::{self, Found},
};
use crate::family::Family;

/// What a node has.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses with their masks, and the indexes of their links.
    pub addresses: Vec<(u32, IpNetwork)>,
    /// All routes of every table: of IPv4, of IPv6.
    routes: [Vec<Found>; 2],
}

impl Tables {
    /// Asks the kernel.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn of_kernel(socket: &mut Socket) -> Result<Self, Error> {
        Ok(Self {
            links: link::all(socket)?,
            addresses: addr::all(socket)?,
            routes: [route::all(socket, Family::V4)?, route::all(socket, Family::V6)?],
        })
    }

    /// Less of it: the routes that `protocol` made, and the addresses of the links that
    /// are `wanted`.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn of_protocol(
        socket: &mut Socket,
        protocol: u8,
        wanted: impl Fn(&Link) -> bool,
    ) -> Result<Self, Error> {
        let links = link::all(socket)?;
        let mut addresses = Vec::new();
        for link in links.iter().filter(|link| wanted(link)) {
            let own = addr::of_link(socket, link.index)?.into_iter();
            addresses.extend(own.map(|address| (link.index, address)));
        }
        let mut routes = |family| route::of_protocol(socket, family, protocol);
        let routes = [routes(Family::V4)?, routes(Family::V6)?];
        Ok(Self { links, addresses, routes })
    }

    /// All routes of one family.
    pub fn routes(&self, family: Family) -> &[Found] {
        let [ipv4, ipv6] = &self.routes;
        match family {
            Family::V4 => ipv4,
            Family::V6 => ipv6,
        }
    }

    /// The addresses of a link.
    pub fn addresses_of(&self, index: u32) -> Vec<IpNetwork> {
        let own = self.addresses.iter().filter(|(of, _)| *of == index);
        own.map(|(_, address)| *address).collect()
    }

    /// Destinations to which packets are spread over several devices.
    pub fn spread(&self) -> Vec<IpNetwork> {
        let all = self.routes.iter().flatten();
        all.filter(|found| found.devices.len() > 1).map(|found| found.route.destination).collect()
    }
}
