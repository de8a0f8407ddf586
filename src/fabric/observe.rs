//! What the kernel has of the fabric, and the facts of this node by which the
//! desired state is described.

use std::{collections::HashMap, fmt, net::IpAddr};

use ipnetwork::IpNetwork;

use super::{
    desired::{Desired, Facts, Forwarding, Path, Target, TunnelKind, TunnelNeighbour},
    digest::Scope,
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

/// The alias that marks a tunnel device as made by us.
pub const TUNNEL_ALIAS: &str = "manx1-fabric";

/// The interface group (`MANX`) that marks it from its creation on, as the alias
/// cannot: a kill in between would leave a device that nobody owns. The module's
/// own `tunl0` is not of our creation and has only the alias.
pub const TUNNEL_GROUP: u32 = 0x4d41_4e58;

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
}

/// A tunnel device that exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeldTunnel {
    /// What it is, as far as it is one that the fabric could have made.
    pub kind: TunnelKind,
    /// What it is, in words.
    pub description: String,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Bears our mark.
    pub ours: bool,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
}

/// A route that exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeldRoute {
    /// Destination.
    pub destination: IpNetwork,
    /// Who made it.
    pub protocol: u8,
    /// It has the fabric's metric, and with it the key of a route of ours.
    pub same_metric: bool,
    /// Where it leads, as far as the fabric could have made it so.
    pub target: Option<Target>,
    /// Its device is a pod's host link.
    pub on_host_link: bool,
    /// The route as the kernel has it, and its device's index.
    pub found: Found,
}

impl fmt::Display for HeldRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.found.route)?;
        if let Some(Target::Node { device, .. }) = &self.target {
            write!(f, " dev {device}")?;
        }
        write!(f, " proto {}", self.protocol)
    }
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
            if found.local || settings.is_tunnel(&link.name) {
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
) -> Result<Observed, Error> {
    let mut observed = collect(socket, settings, &Scope::of(desired), route::all)?;
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
    collect(socket, settings, scope, of_protocol)
}

fn collect(
    socket: &mut Socket,
    settings: &Settings,
    scope: &Scope,
    routes: impl Fn(&mut Socket, bool) -> Result<Vec<Found>, Error>,
) -> Result<Observed, Error> {
    let links = link::all(socket)?;
    let names: HashMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
    let mut observed = Observed {
        indexes: links.iter().map(|link| (link.name.clone(), link.index)).collect(),
        ..Observed::default()
    };
    for link in &links {
        let ours = link.group == TUNNEL_GROUP || link.alias.as_deref() == Some(TUNNEL_ALIAS);
        let wanted = scope.tunnels.contains(&link.name);
        if ours || wanted {
            observe_tunnel(socket, link, ours, &names, &mut observed)?;
        }
    }
    for ipv6 in [false, true] {
        let routes = routes(socket, ipv6)?;
        observed
            .routes
            .extend(routes.into_iter().filter_map(|found| held(found, settings, &names)));
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
    ours: bool,
    names: &HashMap<u32, &Link>,
    observed: &mut Observed,
) -> Result<(), Error> {
    let vxlan = link.vxlan.as_ref().zip(link.mac);
    let kind = vxlan.map_or(TunnelKind::Ipip, |(vxlan, mac)| TunnelKind::Vxlan {
        vni: vxlan.vni,
        port: vxlan.port,
        local: vxlan.local,
        parent: names.get(&vxlan.parent).map_or_else(String::new, |link| link.name.clone()),
        mac,
    });
    let description = match link.kind.as_deref() {
        Some("vxlan" | "ipip") => kind.to_string(),
        other => other.unwrap_or("a hardware device").to_owned(),
    };
    let tunnel = HeldTunnel {
        kind,
        description,
        mtu: link.mtu,
        up: link.up,
        ours,
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
fn held(found: Found, settings: &Settings, names: &HashMap<u32, &Link>) -> Option<HeldRoute> {
    let route = &found.route;
    let ipv6 = route.destination.is_ipv6();
    let default = if ipv6 { METRIC_IPV6 } else { 0 };
    let wanted = if settings.keys.metric == 0 { default } else { settings.keys.metric };
    let same_metric = route.priority.unwrap_or(default) == wanted;
    if route.table != TABLE_MAIN || !(same_metric || route.protocol == settings.keys.protocol) {
        return None;
    }
    let link = found.device().and_then(|device| names.get(&device));
    let target = match (route.kind, route.gateway, link) {
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
        same_metric,
        target,
        on_host_link,
        found,
    })
}
