// SPDX-License-Identifier: Apache-2.0
//! The device that packets leave the node by, where no peer tells.

use std::{collections::HashMap, net::IpAddr};

use crate::{
    net::{
        Error, Socket, Tables, addr,
        link::{self, Link},
        route::{self, Found},
    },
    pod::{
        identity::{GROUPS, is_marked},
        mtu::Uplink,
    },
};

/// Addresses of documentation, by which to ask for the default route: nothing
/// is sent to them, and nobody routes them on purpose (RFC 5737, RFC 3849).
const PROBES: [&str; 4] = ["198.51.100.1", "203.0.113.1", "2001:db8::1", "2001:db8:ffff::1"];

/// The default route of IPv4, else that of IPv6, and an address that is reached
/// by it.
///
/// # Errors
/// Of the kernel's answers.
pub fn default_route(socket: &mut Socket) -> Result<Option<(IpAddr, Found)>, Error> {
    for probe in PROBES.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
        let found = route::lookup(socket, probe)?;
        let default = found.filter(|found| found.route.destination.prefix() == 0);
        if let Some(default) = default.filter(|found| !found.devices.is_empty()) {
            return Ok(Some((probe, default)));
        }
    }
    Ok(None)
}

/// The narrowest way of the default route, else the device that has one of the
/// `own` addresses, else the smallest that is up and is no pod's; by the kernel's `tables`
/// where they are known.
///
/// # Errors
/// Of the kernel's answers.
pub fn uplink(
    socket: &mut Socket,
    own: &[IpAddr],
    tables: Option<&Tables>,
) -> Result<Option<Uplink>, Error> {
    if let Some((_, default)) = default_route(socket)?
        && let Some(narrowest) = narrowest(socket, std::slice::from_ref(&default))?
    {
        return Ok(Some(narrowest));
    }
    let mut links = match tables {
        Some(tables) => tables.links.clone(),
        None => link::all(socket)?,
    };
    if !own.is_empty() {
        let held = match tables {
            Some(tables) => tables.addresses.clone(),
            None => addr::all(socket)?,
        };
        let has_own = |link: &Link| {
            held.iter().any(|(index, held)| *index == link.index && own.contains(&held.ip()))
        };
        if let Some(link) = links.iter().find(|link| !link.loopback && has_own(link)) {
            return Ok(Some(Uplink { device: link.name.clone(), mtu: link.mtu }));
        }
    }
    links.retain(|link| link.up && !link.loopback && !is_pods(link));
    let smallest = links.into_iter().min_by_key(|link| link.mtu);
    Ok(smallest.map(|link| Uplink { device: link.name, mtu: link.mtu }))
}

/// Of all paths of these routes, the narrowest: a device's MTU, or the route's
/// own where that is smaller. `None` if the devices are gone.
///
/// # Errors
/// Of the kernel's answers.
pub fn narrowest(socket: &mut Socket, routes: &[Found]) -> Result<Option<Uplink>, Error> {
    let mut seen: HashMap<u32, Option<Link>> = HashMap::new();
    let mut narrowest: Option<Uplink> = None;
    for route in routes {
        for device in &route.devices {
            if !seen.contains_key(device) {
                seen.insert(*device, link::by_index(socket, *device)?);
            }
            let Some(link) = seen.get(device).and_then(Option::as_ref) else { continue };
            let mtu = route.route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu));
            if narrowest.as_ref().is_none_or(|narrowest| mtu < narrowest.mtu) {
                narrowest = Some(Uplink { device: link.name.clone(), mtu });
            }
        }
    }
    Ok(narrowest)
}

fn is_pods(link: &Link) -> bool {
    GROUPS.contains(&link.group) || is_marked(link.alias.as_deref())
}
