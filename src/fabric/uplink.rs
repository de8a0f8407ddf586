//! The device that packets leave the node by, where no peer tells.

use std::net::IpAddr;

use crate::{
    net::{
        Error, Socket, addr,
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

/// The device of the default route, else the one that has one of the `own`
/// addresses, else the smallest that is up and is no pod's.
///
/// # Errors
/// Of the kernel's answers.
pub fn uplink(socket: &mut Socket, own: &[IpAddr]) -> Result<Option<Uplink>, Error> {
    for probe in PROBES.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
        let default = route::lookup(socket, probe)?;
        let Some(default) = default.filter(|found| found.route.destination.prefix() == 0) else {
            continue;
        };
        let narrowest = narrowest(socket, &default)?;
        if narrowest.is_some() {
            return Ok(narrowest);
        }
    }
    let mut links = link::all(socket)?;
    if !own.is_empty() {
        let held = addr::all(socket)?;
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

/// Of the paths of a route, the narrowest; `None` if their devices are gone.
///
/// # Errors
/// Of the kernel's answers.
pub fn narrowest(socket: &mut Socket, route: &Found) -> Result<Option<Uplink>, Error> {
    let mut narrowest: Option<Uplink> = None;
    for device in &route.devices {
        let Some(link) = link::by_index(socket, *device)? else { continue };
        if narrowest.as_ref().is_none_or(|narrowest| link.mtu < narrowest.mtu) {
            narrowest = Some(Uplink { device: link.name, mtu: link.mtu });
        }
    }
    Ok(narrowest)
}

fn is_pods(link: &Link) -> bool {
    GROUPS.contains(&link.group) || is_marked(link.alias.as_deref())
}
