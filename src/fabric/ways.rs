//! What the MTU of tunnels and pods was derived from, so that a change of it is
//! noticed at the price of one exchange, whatever the number of peers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::net::{Error, Socket, link::Link, route::Found, way};

/// Of more devices, those with the smallest MTU are looked at.
const LINKS_MAX: usize = 4;

/// The devices that lead to peers, and the route to the peer with the narrowest
/// path.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ways {
    /// Index and MTU in bytes of each device.
    links: Vec<(u32, u32)>,
    /// An address, and the route that the kernel has to it.
    towards: Option<(IpAddr, Entry)>,
}

/// As much of a route as an MTU follows from.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Entry {
    devices: Vec<u32>,
    mtu: Option<u32>,
}

impl Ways {
    /// Ways through these links; `towards` is an address that one of them leads
    /// to, with the route as a look-up gives it.
    pub fn through<'a>(
        links: impl IntoIterator<Item = &'a Link>,
        towards: Option<(IpAddr, &Found)>,
    ) -> Self {
        let mut links: Vec<(u32, u32)> =
            links.into_iter().map(|link| (link.index, link.mtu)).collect();
        links.sort_by_key(|(index, mtu)| (*mtu, *index));
        links.dedup();
        links.truncate(LINKS_MAX);
        Self { links, towards: towards.map(|(address, found)| (address, Entry::of(found))) }
    }

    /// Whether the kernel still has all of it. Where it does not answer, that is
    /// not known.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn hold(&self, socket: &mut Socket) -> Result<bool, Error> {
        let indexes: Vec<u32> = self.links.iter().map(|(index, _)| *index).collect();
        let address = self.towards.as_ref().map(|(address, _)| *address);
        if indexes.is_empty() && address.is_none() {
            return Ok(true);
        }
        let way = way::ask(socket, &indexes, address)?;
        let found = Self::through(&way.links, address.zip(way.route.as_ref()));
        Ok(found == *self)
    }
}

impl Entry {
    fn of(found: &Found) -> Self {
        let mut devices = found.devices.clone();
        devices.sort_unstable();
        Self { devices, mtu: found.route.mtu }
    }
}
