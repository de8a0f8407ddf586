//! What the kernel has of the fabric, and the facts of this node by which the
//! desired state is described.

use std::{collections::HashMap, fmt, net::IpAddr};

use ipnetwork::IpNetwork;

use super::{
    added::Past,
    desired::{Desired, Facts, Forwarding, Path, Target, TunnelKind, TunnelNeighbour},
    digest::Scope,
    peers::Peers,
    settings::Settings,
    uplink::uplink,
};
use crate::{
    net::{
        Error, Mac, Socket, addr, fdb, forwarding,
        link::{self, Link},
        neigh,
        route::{self, Found, Kind, TABLE_MAIN},
        sysctl::{self, Sysctl},
        tunnel::Vxlan,
    },
    pod::identity::{GROUPS, is_marked},
};

/// The first word of the alias that marks a tunnel device as made by us; the
/// second is the route protocol of the fabric that did.
const TUNNEL_ALIAS: &str = "manx1-fabric";

/// The interface groups (`MAF` and the route protocol) that mark it from its
/// creation on, as the alias cannot: a kill in between would leave a device that
/// nobody owns. The module's own `tunl0` is not of our creation.
const TUNNEL_GROUPS: u32 = 0x4d41_4600;

/// The alias of the tunnel devices of one fabric.
pub fn tunnel_alias(protocol: u8) -> String {
    format!("{TUNNEL_ALIAS} {protocol}")
}

/// The interface group of the tunnel devices of one fabric.
pub fn tunnel_group(protocol: u8) -> u32 {
    TUNNEL_GROUPS | u32::from(protocol)
}

/// The route protocol of the fabric whose mark a link bears.
fn marked(link: &Link) -> Option<u8> {
    let of_alias = |alias: &str| alias.strip_prefix(TUNNEL_ALIAS)?.trim_start().parse().ok();
    let [protocol, rest @ ..] = link.group.to_le_bytes();
    let [_, groups @ ..] = TUNNEL_GROUPS.to_le_bytes();
    link.alias.as_deref().and_then(of_alias).or((rest == groups).then_some(protocol))
}

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

/// Whose a tunnel device is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner {
    /// Made or claimed by this fabric, which decides about it.
    Ours,
    /// Made by this fabric when its routes had another protocol: taken over.
    Former,
    /// That of the fabric of another route protocol: no affair of this one.
    Fabric(u8),
    /// Somebody else's. It may serve as it is, with what is added to it.
    Other,
}

impl Owner {
    /// Whether this fabric decides about the device.
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::Former)
    }
}

/// What a device is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HeldKind {
    /// IP in IP.
    Ipip,
    /// VXLAN.
    Vxlan {
        /// What it was created with.
        vxlan: Vxlan,
        /// Name of the device that outer packets leave by.
        parent: String,
        /// The device's own MAC address.
        mac: Option<Mac>,
    },
    /// Nothing that a fabric could use.
    Other(String),
}

impl HeldKind {
    fn of(link: &Link, names: &HashMap<u32, &Link>) -> Self {
        match (link.kind.as_deref(), &link.vxlan) {
            (Some("ipip"), _) => Self::Ipip,
            (_, Some(vxlan)) => {
                let parent = names.get(&vxlan.parent).map(|link| link.name.clone());
                let parent = parent.unwrap_or_default();
                Self::Vxlan { vxlan: vxlan.clone(), parent, mac: link.mac }
            }
            (other, None) => Self::Other(other.unwrap_or("a hardware device").to_owned()),
        }
    }

    /// Whether it is what is wanted.
    pub fn is(&self, wanted: &TunnelKind) -> bool {
        match (self, wanted) {
            (Self::Ipip, TunnelKind::Ipip) => true,
            (
                Self::Vxlan { vxlan, parent: held_parent, mac: held_mac },
                TunnelKind::Vxlan { vni, port, local, parent, mac },
            ) => {
                let held = (vxlan.vni, vxlan.port, vxlan.local, vxlan.learning);
                held == (*vni, *port, Some(*local), false)
                    && held_parent == parent
                    && *held_mac == Some(*mac)
            }
            _ => false,
        }
    }

    /// Whether the kernel refuses a device of the wanted kind beside it
    /// (`vxlan_vni_in_use`, drivers/net/vxlan).
    pub fn excludes(&self, wanted: &TunnelKind) -> bool {
        match (self, wanted) {
            (Self::Vxlan { vxlan, .. }, TunnelKind::Vxlan { vni, port, local, .. }) => {
                let ipv4 = vxlan.local.is_none_or(|ip| ip.is_ipv4());
                (vxlan.vni, vxlan.port, ipv4) == (*vni, *port, local.is_ipv4())
            }
            _ => false,
        }
    }
}

impl fmt::Display for HeldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipip => write!(f, "ipip"),
            Self::Other(kind) => write!(f, "{kind}"),
            Self::Vxlan { vxlan, parent, mac } => {
                write!(f, "vxlan id {} dstport {}", vxlan.vni, vxlan.port)?;
                if let Some(local) = vxlan.local {
                    write!(f, " local {local}")?;
                }
                write!(f, " dev {parent}")?;
                if let Some(mac) = mac {
                    write!(f, " mac {mac}")?;
                }
                if vxlan.learning { write!(f, " learning") } else { Ok(()) }
            }
        }
    }
}

/// A tunnel device that exists.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeldTunnel {
    /// What it is.
    pub kind: HeldKind,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Whose it is.
    pub owner: Owner,
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
    /// This fabric did, now or when its routes had another protocol.
    pub ours: bool,
    /// It has the fabric's metric and no type of service, and with them the key of
    /// a route of ours.
    pub same_key: bool,
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
