//! What the kernel has of the fabric, and the facts of this node by which the
//! desired state is described.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry as Slot},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::{
    added::{Addition, Past},
    desired::{Desired, Facts, Path, Target},
    digest::Scope,
    held::{HeldKind, HeldRoute, HeldTunnel, Owner, is_named, marked},
    peers::Peers,
    settings::{Settings, default_metric},
    uplink::{default_route, uplink},
    ways::Ways,
};
use crate::{
    net::{
        Error, Socket, addr, fdb, forwarding,
        link::{self, Link},
        neigh,
        route::{self, Found, Kind, TABLE_MAIN},
        sysctl::{self, Sysctl},
    },
    object::{Forwarding, Held, Neighbour},
    pod::{
        identity::{GROUPS, is_marked},
        mtu::Uplink,
    },
};

/// What the kernel has.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Tunnel devices that are wanted or ours, by name.
    pub tunnels: HashMap<String, HeldTunnel>,
    /// Indexes of all links, by name.
    pub indexes: HashMap<String, u32>,
    /// The routes of table main that are ours, and those of others to the same
    /// destinations.
    pub routes: Vec<HeldRoute>,
    /// Permanent neighbours of our VXLAN devices.
    pub neighbours: Vec<Held<Neighbour>>,
    /// Permanent forwarding entries of our VXLAN devices.
    pub forwarding: Vec<Held<Forwarding>>,
    /// The values of the parameters that are wanted.
    pub sysctls: HashMap<String, String>,
    /// What has to be set before IPv6 forwarding is turned on.
    pub keep_advertised: Vec<Sysctl>,
    /// What earlier passes have left.
    pub past: Past,
}

/// All routes of this node, read once for a pass.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    ipv4: Vec<Found>,
    ipv6: Vec<Found>,
}

impl Routes {
    /// Asks the kernel.
    ///
    /// # Errors
    /// Of the kernel's answers.
    pub fn of_kernel(socket: &mut Socket) -> Result<Self, Error> {
        Ok(Self { ipv4: route::all(socket, false)?, ipv6: route::all(socket, true)? })
    }

    fn of_family(&mut self, ipv6: bool) -> Vec<Found> {
        std::mem::take(if ipv6 { &mut self.ipv6 } else { &mut self.ipv4 })
    }

    /// Destinations to which packets are spread over several devices.
    fn spread(&self) -> Vec<IpNetwork> {
        let all = self.ipv4.iter().chain(&self.ipv6);
        all.filter(|found| found.devices.len() > 1).map(|found| found.route.destination).collect()
    }
}

/// Collects what the description of the fabric depends on.
///
/// # Errors
/// Of the kernel's answers.
pub fn facts(
    socket: &mut Socket,
    settings: &Settings,
    peers: &Peers,
    routes: &Routes,
) -> Result<Facts, Error> {
    let links = link::all(socket)?;
    let names: HashMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
    let addresses = addr::all(socket)?
        .into_iter()
        .filter_map(|(index, address)| Some((address, names.get(&index)?.name.clone())))
        .collect();
    let nodes: Vec<IpAddr> =
        peers.others.iter().flat_map(|node| node.addresses.iter().copied()).collect();
    let spread = routes.spread();
    let mut paths = HashMap::new();
    let mut used: HashMap<u32, &Link> = HashMap::new();
    let mut routers: HashMap<(u32, IpAddr), bool> = HashMap::new();
    for (found, node) in route::resolve(socket, &nodes)?.into_iter().zip(&nodes) {
        let Some(found) = found else { continue };
        let Some(link) = found.device().and_then(|device| names.get(&device)) else { continue };
        // What the fabric itself has made leads to no node.
        if found.local || marked(link).is_some() || settings.is_tunnel(&link.name) {
            continue;
        }
        // The kernel answers with one path of several. Packets take any.
        let entry = match spread.iter().any(|destination| destination.contains(*node)) {
            true => route::lookup(socket, *node)?,
            false => None,
        };
        let route = entry.as_ref().unwrap_or(&found);
        let ends: Vec<&Link> =
            route.devices.iter().filter_map(|device| names.get(device).copied()).collect();
        let narrow = ends.iter().copied().min_by_key(|link| link.mtu).unwrap_or(link);
        let mtu = route.route.mtu.map_or(narrow.mtu, |mtu| mtu.min(narrow.mtu));
        let narrowest = Uplink { device: narrow.name.clone(), mtu };
        used.extend(ends.into_iter().map(|link| (link.index, link)));
        let (device, gateway) = (link.name.clone(), found.route.gateway);
        // The FIB entry alone tells, and that of one peer tells it for all behind
        // the same router.
        let onlink = match gateway.map(|router| routers.entry((link.index, router))) {
            None => false,
            Some(Slot::Occupied(known)) => *known.get(),
            Some(Slot::Vacant(unknown)) => {
                let entry = route::lookup(socket, *node)?;
                *unknown.insert(entry.is_some_and(|entry| entry.route.onlink))
            }
        };
        paths.insert(*node, Path { device, narrowest, gateway, onlink });
    }
    let mut facts = Facts { addresses, paths, ..Facts::default() };
    let way = match facts.paths.iter().min_by_key(|(node, path)| (path.narrowest.mtu, **node)) {
        Some((node, _)) => route::lookup(socket, *node)?.map(|found| (*node, found)),
        None => {
            facts.uplink = uplink(socket, &peers.me.addresses)?;
            let by_name = |link: &&Link| {
                facts.uplink.as_ref().is_some_and(|uplink| uplink.device == link.name)
            };
            used.extend(links.iter().find(by_name).map(|link| (link.index, link)));
            default_route(socket)?
        }
    };
    let towards = way.as_ref().map(|(address, found)| (*address, found));
    facts.ways = Ways::through(used.into_values(), towards);
    Ok(facts)
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
    mut routes: Routes,
) -> Result<Observed, Error> {
    let wanted: HashSet<IpNetwork> = desired.routes.iter().map(|route| route.destination).collect();
    let of_family = |_: &mut Socket, ipv6| Ok(routes.of_family(ipv6));
    let scope = Scope::of(desired);
    let mut observed = collect(socket, settings, (&scope, &wanted), past, of_family)?;
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
    let nothing = HashSet::new();
    collect(socket, settings, (scope, &nothing), &Past::default(), of_protocol)
}

fn collect(
    socket: &mut Socket,
    settings: &Settings,
    (scope, wanted): (&Scope, &HashSet<IpNetwork>),
    past: &Past,
    mut routes: impl FnMut(&mut Socket, bool) -> Result<Vec<Found>, Error>,
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
            Some(protocol) if protocol == settings.keys.protocol && is_named(link) => Owner::Ours,
            Some(protocol) if protocol == settings.keys.protocol => Owner::Unnamed,
            Some(protocol) if past.protocols.contains(&protocol) => Owner::Former,
            Some(protocol) => Owner::Fabric(protocol),
            None => Owner::Other,
        };
        let named = scope.tunnels.contains(&link.name) || past.added.is_on(&link.name);
        if owner.is_ours() || named {
            observe_tunnel(socket, link, owner, &names, &mut observed)?;
        }
    }
    for ipv6 in [false, true] {
        let routes = routes(socket, ipv6)?;
        let held = |found| held(found, settings, (wanted, past), &names);
        observed.routes.extend(routes.into_iter().filter_map(held));
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
        let whole = owner.is_ours();
        let added = observed.past.added.clone();
        let ours = |addition: Addition<'_>| whole || owner == Owner::Other && added.has(addition);
        for entry in neigh::permanent(socket, link.index)? {
            let (device, address) = (link.name.clone(), entry.address);
            let object = Neighbour { device, address, mac: entry.mac };
            let ours = ours(Addition::Neighbour(&object));
            observed.neighbours.push(Held { object, ours });
        }
        for entry in fdb::permanent(socket, link.index)? {
            let (device, mac) = (link.name.clone(), entry.mac);
            let object = Forwarding { device, mac, node: entry.node };
            let ours = ours(Addition::Forwarding(&object));
            observed.forwarding.push(Held { object, ours });
        }
    }
    observed.tunnels.insert(link.name.clone(), tunnel);
    Ok(())
}

/// A route as far as it matters: of table main, and either ours or to a `wanted`
/// destination.
fn held(
    found: Found,
    settings: &Settings,
    (wanted, past): (&HashSet<IpNetwork>, &Past),
    names: &HashMap<u32, &Link>,
) -> Option<HeldRoute> {
    let route = &found.route;
    let metric = route.priority.unwrap_or(default_metric(route.destination.is_ipv6()));
    let ours = route.protocol == settings.keys.protocol || past.protocols.contains(&route.protocol);
    let matters = ours || wanted.contains(&route.destination);
    if route.table != TABLE_MAIN || !matters {
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
        metric,
        target,
        on_host_link,
        device: link.map(|link| link.name.clone()),
        found,
    })
}
