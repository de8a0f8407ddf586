//! What the kernel has of the fabric, and the facts of this node by which the
//! desired state is described.

use std::{collections::HashMap, net::IpAddr};

use super::{
    added::Past,
    desired::{Desired, Facts, Forwarding, Path, Target, TunnelNeighbour},
    digest::Scope,
    held::{HeldKind, HeldRoute, HeldTunnel, Owner, marked},
    peers::Peers,
    settings::Settings,
    uplink::uplink,
};
use crate::{
    net::{
        Error, Socket, addr, fdb, forwarding,
        link::{self, Link},
        neigh,
        route::{self, Found, Kind, TABLE_MAIN},
        sysctl::{self, Sysctl},
    },
    pod::identity::{GROUPS, is_marked},
};

/// The metric that the kernel gives an IPv6 route without one
/// (IP6_RT_PRIO_USER, include/net/ip6_route.h).
const METRIC_IPV6: u32 = 1024;

/// What the kernel has.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Tunnel devices that are wanted or ours, by name.
    pub tunnels: HashMap<String, HeldTunnel>,
    /// Indexes of all links, by name.
    pub indexes: HashMap<String, u32>,
    /// All routes of table main with the fabric's metric or its protocol.
    pub routes: Vec<HeldRoute>,
    /// Permanent neighbours of our VXLAN devices.
    pub neighbours: Vec<TunnelNeighbour>,
    /// Permanent forwarding entries of our VXLAN devices.
    pub forwarding: Vec<Forwarding>,
    /// The values of the parameters that are wanted.
    pub sysctls: HashMap<String, String>,
    /// What has to be set before IPv6 forwarding is turned on.
    pub keep_advertised: Vec<Sysctl>,
    /// What earlier passes have left.
    pub past: Past,
}

/// Collects what the description of the fabric depends on.
///
/// # Errors
/// Of the kernel's answers.
pub fn facts(socket: &mut Socket, settings: &Settings, peers: &Peers) -> Result<Facts, Error> {
    let links = link::all(socket)?;
    let names: HashMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
    let addresses = addr::all(socket)?
        .into_iter()
        .filter_map(|(index, address)| Some((address, names.get(&index)?.name.clone())))
        .collect();
    let nodes: Vec<IpAddr> =
        peers.others.iter().flat_map(|node| node.addresses.iter().copied()).collect();
    let paths: HashMap<IpAddr, Path> = route::resolve(socket, &nodes)?
        .into_iter()
        .zip(&nodes)
        .filter_map(|(found, node)| {
            let found = found?;
            let link = names.get(&found.device()?)?;
            // What the fabric itself has made leads to no node.
            if found.local || marked(link).is_some() || settings.is_tunnel(&link.name) {
                return None;
            }
            let mtu = found.route.mtu.map_or(link.mtu, |mtu| mtu.min(link.mtu));
            let path = Path { device: link.name.clone(), mtu, gateway: found.route.gateway };
            Some((*node, path))
        })
        .collect();
    let uplink = match paths.is_empty() {
        true => uplink(socket, &peers.me.addresses)?,
        false => None,
    };
    Ok(Facts { addresses, paths, uplink })
}

/// Reads all that the desired state could differ in.
///
/// # Errors
/// Of the kernel's answers.
pub fn observe(
    socket: &mut Socket,
    settings: &Settings,
    desired: &Desired,
    past: &Past,
) -> Result<Observed, Error> {
    let mut observed = collect(socket, settings, &Scope::of(desired), past, route::all)?;
    if desired.sysctls.iter().any(|wanted| wanted.key == forwarding::IPV6) {
        observed.keep_advertised = forwarding::keep_advertised_routes(socket)?;
    }
    Ok(observed)
}

/// Reads what bears our marks, and the devices and parameters of these names:
/// less than [`observe`], which also finds what stands in our way.
///
/// # Errors
/// Of the kernel's answers.
pub fn observe_own(
    socket: &mut Socket,
    settings: &Settings,
    scope: &Scope,
) -> Result<Observed, Error> {
    let of_protocol =
        |socket: &mut Socket, ipv6| route::of_protocol(socket, ipv6, settings.keys.protocol);
    collect(socket, settings, scope, &Past::default(), of_protocol)
}

fn collect(
    socket: &mut Socket,
    settings: &Settings,
    scope: &Scope,
    past: &Past,
    routes: impl Fn(&mut Socket, bool) -> Result<Vec<Found>, Error>,
) -> Result<Observed, Error> {
    let links = link::all(socket)?;
    let names: HashMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
    let mut observed = Observed {
        indexes: links.iter().map(|link| (link.name.clone(), link.index)).collect(),
        past: past.clone(),
        ..Observed::default()
    };
    for link in &links {
        let owner = match marked(link) {
            Some(protocol) if protocol == settings.keys.protocol => Owner::Ours,
            Some(protocol) if past.protocols.contains(&protocol) => Owner::Former,
            Some(protocol) => Owner::Fabric(protocol),
            None => Owner::Other,
        };
        let wanted = scope.tunnels.contains(&link.name) || past.added.is_on(&link.name);
        if owner.is_ours() || wanted {
            observe_tunnel(socket, link, owner, &names, &mut observed)?;
        }
    }
    for ipv6 in [false, true] {
        let routes = routes(socket, ipv6)?;
        observed
            .routes
            .extend(routes.into_iter().filter_map(|found| held(found, settings, past, &names)));
    }
    for key in &scope.sysctls {
        if let Ok(value) = sysctl::read(key) {
            observed.sysctls.insert(key.clone(), value);
        }
    }
    Ok(observed)
}

fn observe_tunnel(
    socket: &mut Socket,
    link: &Link,
    owner: Owner,
    names: &HashMap<u32, &Link>,
    observed: &mut Observed,
) -> Result<(), Error> {
    let tunnel = HeldTunnel {
        kind: HeldKind::of(link, names),
        mtu: link.mtu,
        up: link.up,
        owner,
        addresses: addr::of_link(socket, link.index)?,
    };
    if link.vxlan.is_some() {
        let device = &link.name;
        observed.neighbours.extend(neigh::permanent(socket, link.index)?.into_iter().map(
            |entry| TunnelNeighbour {
                device: device.clone(),
                address: entry.address,
                mac: entry.mac,
            },
        ));
        observed.forwarding.extend(
            fdb::permanent(socket, link.index)?.into_iter().map(|entry| Forwarding {
                device: device.clone(),
                mac: entry.mac,
                node: entry.node,
            }),
        );
    }
    observed.tunnels.insert(link.name.clone(), tunnel);
    Ok(())
}

/// A route as far as it matters: of table main, and either with the fabric's
/// metric, for others have another key, or ours from when that was another.
fn held(
    found: Found,
    settings: &Settings,
    past: &Past,
    names: &HashMap<u32, &Link>,
) -> Option<HeldRoute> {
    let route = &found.route;
    let ipv6 = route.destination.is_ipv6();
    let default = if ipv6 { METRIC_IPV6 } else { 0 };
    let wanted = if settings.keys.metric == 0 { default } else { settings.keys.metric };
    let same_key = route.priority.unwrap_or(default) == wanted && route.tos == 0;
    let ours = route.protocol == settings.keys.protocol || past.protocols.contains(&route.protocol);
    if route.table != TABLE_MAIN || !(same_key || ours) {
        return None;
    }
    let link = found.device().and_then(|device| names.get(&device));
    // A source or a segment size that nobody gave it makes it another route.
    let special = found.source.is_some() || found.fixed_mtu || route.advmss.is_some();
    let target = match (route.kind, route.gateway, link) {
        _ if special => None,
        (Kind::Blackhole, ..) => Some(Target::Blackhole),
        (Kind::Unicast, Some(gateway), Some(link)) => Some(Target::Node {
            gateway,
            device: link.name.clone(),
            onlink: route.onlink,
            mtu: route.mtu,
        }),
        _ => None,
    };
    let on_host_link =
        link.is_some_and(|link| GROUPS.contains(&link.group) || is_marked(link.alias.as_deref()));
    Some(HeldRoute {
        destination: route.destination,
        protocol: route.protocol,
        ours,
        same_key,
        target,
        on_host_link,
        found,
    })
}
