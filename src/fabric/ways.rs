// SPDX-License-Identifier: Apache-2.0
//! What the MTU of tunnels and pods was derived from, and by which the loss of routes
//! shows, so that a change of it is noticed at the price of one exchange, whatever the
//! number of peers.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::list::{Gather, Ordered};
use crate::net::{Error, Socket, link::Link, route::Found, way};

/// Of more devices, those with the smallest MTU are looked at. Their answers have to fit into
/// the receive buffer of one exchange.
const LINKS_MAX: usize = 32;

/// The devices that lead to peers, the route to the peer with the narrowest path, and
/// some routes by which the loss of others shows.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ways {
    /// Index and MTU in bytes of each device.
    links: Vec<(u32, u32)>,
    /// An address, and the route that the kernel has to it.
    towards: Option<(IpAddr, Entry)>,
    /// One route of each device and family: a link that goes down takes all of its
    /// routes along, and one without an address those of a family.
    #[serde(default)]
    sentinels: Vec<Sentinel>,
}

/// An address, and the destination of the route that leads there; none where there was
/// no route.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sentinel {
    address: IpAddr,
    destination: Option<IpNetwork>,
}

/// As much of a route as an MTU follows from.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Entry {
    devices: Vec<u32>,
    mtu: Option<u32>,
}

impl Sentinel {
    /// A route that leads to an address.
    pub fn of(address: IpAddr, destination: IpNetwork) -> Self {
        Self { address, destination: Some(destination) }
    }

    /// An address that no route leads to.
    pub fn without(address: IpAddr) -> Self {
        Self { address, destination: None }
    }
}

impl Ways {
    /// Ways through these links; `towards` is an address that one of them leads
    /// to, with the route as a look-up gives it.
    pub fn through<'a>(
        links: impl IntoIterator<Item = &'a Link>,
        towards: Option<(IpAddr, &Found)>,
    ) -> Self {
        let mut links: Vec<(u32, u32)> =
            links.into_iter().map(|link| (link.index, link.mtu)).gather();
        links.order_by_key(|(index, mtu)| (*mtu, *index));
        links.dedup();
        links.truncate(LINKS_MAX);
        let towards = towards.map(|(address, found)| (address, Entry::of(found)));
        Self { links, towards, sentinels: Vec::new() }
    }

    /// Notes those of the `sentinels` that the kernel agrees with: what a rule leads
    /// elsewhere, or is lost again already, would never do.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn watch(&mut self, host: &mut Socket, sentinels: Vec<Sentinel>) -> Result<(), Error> {
        self.sentinels.clear();
        for sentinel in sentinels {
            let found = way::ask(host, &[], &[sentinel.address])?.routes;
            if found.first().map(|found| found.route.destination) == sentinel.destination {
                self.sentinels.push(sentinel);
            }
        }
        Ok(())
    }

    /// Whether the kernel still has all of it. Where it does not answer, that is
    /// not known.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn hold(&self, socket: &mut Socket) -> Result<bool, Error> {
        let indexes: Vec<u32> = self.links.iter().map(|(index, _)| *index).gather();
        let towards = self.towards.iter().map(|(address, _)| *address);
        let watched = self.sentinels.iter().map(|sentinel| sentinel.address);
        let addresses: Vec<IpAddr> = towards.chain(watched).gather();
        if indexes.is_empty() && addresses.is_empty() {
            return Ok(true);
        }
        let way = way::ask(socket, &indexes, &addresses)?;
        Ok(self.agree(&way.links, &way.routes))
    }

    /// Whether these are the links, and the routes in the order of the addresses.
    fn agree(&self, links: &[Link], routes: &[Found]) -> bool {
        let mut routes = routes.iter();
        let towards = self
            .towards
            .as_ref()
            .is_none_or(|(_, entry)| routes.next().is_some_and(|found| Entry::of(found) == *entry));
        let mut wanted = self.sentinels.iter().filter_map(|sentinel| sentinel.destination);
        let watched = wanted.all(|destination| {
            routes.next().is_some_and(|found| found.route.destination == destination)
        });
        let links = Self::through(links, None).links == self.links;
        towards && watched && links && routes.next().is_none()
    }
}

impl Entry {
    fn of(found: &Found) -> Self {
        let mut devices = found.devices.clone();
        devices.order();
        Self { devices, mtu: found.route.mtu }
    }
}

#[cfg(test)]
mod tests;
