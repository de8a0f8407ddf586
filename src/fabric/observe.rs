// SPDX-License-Identifier: Apache-2.0
//! What the kernel has of the fabric, and the facts of this node by which the
//! desired state is described.

mod diverted;

use std::{
    collections::{HashMap, HashSet, hash_map::Entry as Slot},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::{
    answers::{Answer, Answers},
    desired::{Desired, Facts, Path},
    diff,
    divert::Networks,
    inquiry::Inquiry,
    ledger::Ledger,
    observed::{Observed, Scope},
    peers::Peers,
    settings::Settings,
    uplink::{default_route, uplink},
    ways::Ways,
};
use crate::{
    family::{Family, is_single},
    list::{Gather, Ordered, PushAll},
    net::{
        Error, Socket, Tables, forwarding,
        link::Link,
        route::{self, Found, TABLE_MAIN},
        sysctl,
    },
    object::{
        Forwarding, Held, HeldRoute, Managed, Neighbour, Sysctl,
        link::{Form, HeldTunnel, Owner, is_named, is_tunnel, marked},
    },
    pod::{
        identity::{GROUPS, is_marked},
        mtu::Uplink,
    },
};

/// Collects what the description of the fabric depends on.
///
/// # Errors
/// Of the kernel's answers.
pub fn facts(
    Inquiry { socket, tables, answers }: Inquiry<'_>,
    settings: &Settings,
    peers: &Peers,
    ledger: &Ledger,
) -> Result<Facts, Error> {
    let links = &tables.links;
    let names: HashMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
    let heeding = heeding(settings, peers, tables);
    let addresses = own_addresses(&tables.addresses, &names);
    let nodes: Vec<IpAddr> =
        peers.others.iter().flat_map(|node| node.addresses.iter().copied()).gather();
    let spread = tables.spread();
    let mut paths = HashMap::new();
    let mut used: HashMap<u32, &Link> = HashMap::new();
    let mut routers: HashMap<(u32, IpAddr), bool> = HashMap::new();
    ask(socket, &nodes, answers, tables)?;
    for node in &nodes {
        let Some(Answer { path: Some(found), entry, .. }) = answers.of(*node) else { continue };
        let Some(link) = found.device().and_then(|device| names.get(&device)) else { continue };
        // What the fabric itself has made leads to no node.
        if found.local || marked(link).is_some() || settings.is_tunnel(&link.name) {
            continue;
        }
        // The kernel answers with one path of several. Packets take any.
        let spread_entry = match spread.iter().any(|destination| destination.contains(*node)) {
            true => looked_up(socket, *node, entry)?,
            false => None,
        };
        let route = spread_entry.unwrap_or(found);
        let ends: Vec<&Link> =
            route.devices.iter().filter_map(|device| names.get(device).copied()).gather();
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
                let entry = looked_up(socket, *node, entry)?;
                *unknown.insert(entry.is_some_and(|entry| entry.route.onlink))
            }
        };
        paths.insert(*node, Path { device, narrowest, gateway, onlink });
    }
    let taken = taken(settings, peers, ledger, (tables, &names));
    let mut facts = Facts { addresses, paths, heeding, taken, ..Facts::default() };
    let way = match facts.paths.iter().min_by_key(|(node, path)| (path.narrowest.mtu, **node)) {
        Some((node, _)) => route::lookup(socket, *node)?.map(|found| (*node, found)),
        None => {
            facts.uplink = uplink(socket, &peers.me.addresses, Some(tables))?;
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

/// Asks for the paths that are not known.
fn ask(
    socket: &mut Socket,
    nodes: &[IpAddr],
    answers: &mut Answers,
    tables: &Tables,
) -> Result<(), Error> {
    let unknown = answers.unknown(nodes);
    let paths = route::resolve(socket, &unknown)?;
    answers.learn(unknown, paths);
    answers.learn_routes(Family::BOTH.into_iter().flat_map(|family| tables.routes(family)));
    Ok(())
}

/// The entry of the routing tables for an address, asked for once.
fn looked_up<'a>(
    socket: &mut Socket,
    address: IpAddr,
    entry: &'a mut Option<Box<Option<Found>>>,
) -> Result<Option<&'a Found>, Error> {
    if entry.is_none() {
        *entry = Some(Box::new(route::lookup(socket, address)?));
    }
    Ok(entry.as_ref().and_then(|entry| entry.as_ref().as_ref()))
}

/// Who has the addresses that this node's tunnels should have: a pod, of whichever
/// plugin, or a lease.
fn taken(
    settings: &Settings,
    peers: &Peers,
    ledger: &Ledger,
    (tables, names): (&Tables, &HashMap<u32, &Link>),
) -> HashMap<IpAddr, String> {
    let mut taken = HashMap::new();
    if settings.encapsulation().is_none() && settings.keys.file.accepted().is_none() {
        return taken;
    }
    for family in Family::BOTH {
        let Some(address) = peers.me.tunnel_address(family) else { continue };
        let leads = |found: &&Found| {
            found.route.destination == IpNetwork::from(address) && found.is_connected()
        };
        let links = tables.routes(family).iter().filter(leads).filter_map(Found::device);
        let link = links.filter_map(|index| names.get(&index)).find(|link| !is_tunnel(link));
        let holder = match link {
            Some(link) => Some(format!("that of a pod behind {}", link.name)),
            None => ledger.leased.contains(&address).then(|| "leased to a pod".to_owned()),
        };
        taken.extend(holder.map(|holder| (address, holder)));
    }
    taken
}

/// The node's addresses and their devices: of several with one address, first that
/// which has a network besides. Loopback is no way to anybody.
fn own_addresses(
    held: &[(u32, IpNetwork)],
    names: &HashMap<u32, &Link>,
) -> Vec<(IpNetwork, String)> {
    let named = held.iter().filter_map(|(index, address)| {
        let link = names.get(index)?;
        let device = if link.loopback { String::new() } else { link.name.clone() };
        Some((*address, device))
    });
    let mut addresses: Vec<(IpNetwork, String)> = named.gather();
    addresses.order_by_key(|(address, device)| (device.is_empty(), is_single(address)));
    addresses
}

/// The links that go on heeding advertisements when this node becomes a router of
/// IPv6: asked only of a node that does.
fn heeding(settings: &Settings, peers: &Peers, tables: &Tables) -> Vec<String> {
    if !settings.manage_forwarding || peers.me.pod_cidrs(Family::V6).next().is_none() {
        return Vec::new();
    }
    let own = |address: &IpNetwork| peers.me.addresses.contains(&address.ip());
    let have = tables.addresses.iter();
    let have = have.filter(|(_, address)| address.is_ipv6() && own(address));
    let have = have.map(|(index, _)| *index).collect();
    let learned = forwarding::learned(tables.advertised.iter().copied(), tables.routes(Family::V6));
    forwarding::heeding(&tables.links, &learned, &have)
}

/// Reads all that the desired state could differ in.
///
/// # Errors
/// Of the kernel's answers.
pub fn observe(
    socket: &mut Socket,
    settings: &Settings,
    desired: &Desired,
    ledger: &Ledger,
    tables: &Tables,
) -> Result<Observed, Error> {
    let routes = &desired.objects.routes;
    let destinations = routes.iter().map(|route| route.destination()).collect();
    let wanted = Wanted { destinations, peers: Networks::of_peers(routes) };
    let scope = Scope::of(desired);
    let mut observed = collect(settings, (&scope, &wanted), ledger, tables);
    let (tunnels, sysctls) = (&observed.held.tunnels, &observed.held.sysctls);
    let settings = diff::settings(desired, tunnels, sysctls, settings.keys.protocol);
    let addresses = diff::addresses(desired, tunnels, ledger);
    (observed.held.settings, observed.held.addresses) = (settings, addresses);
    observed.held.lookups = diverted::look(socket, desired, &observed, tables)?;
    Ok(observed)
}

/// The pod that a route leads to, if it does.
fn pod(found: &Found, names: &HashMap<u32, &Link>) -> Option<(u32, IpAddr)> {
    let (link, destination) = (found.device()?, found.route.destination);
    let one = is_single(&destination) && !found.local;
    (one && names.get(&link).is_some_and(|link| is_host_link(link)))
        .then_some((link, destination.ip()))
}

fn is_host_link(link: &Link) -> bool {
    GROUPS.contains(&link.group) || is_marked(link.alias.as_deref())
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
    let concerns = |link: &Link| marked(link).is_some() || scope.tunnels.contains(&link.name);
    let tables = Tables::of_protocol(socket, settings.keys.protocol, concerns)?;
    Ok(collect(settings, (scope, &Wanted::default()), &Ledger::default(), &tables))
}

fn collect(
    settings: &Settings,
    (scope, wanted): (&Scope, &Wanted),
    ledger: &Ledger,
    tables: &Tables,
) -> Observed {
    let links = &tables.links;
    let names: HashMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
    let mut observed = Observed {
        indexes: links.iter().map(|link| (link.name.clone(), link.index)).collect(),
        ledger: ledger.clone(),
        ..Observed::default()
    };
    for link in links {
        let owner = match marked(link) {
            Some(protocol) if protocol == settings.keys.protocol && is_named(link) => Owner::Ours,
            Some(protocol) if protocol == settings.keys.protocol => Owner::Unnamed,
            Some(protocol) if ledger.protocols.contains(&protocol) => Owner::Former,
            Some(protocol) => Owner::Fabric(protocol),
            None => Owner::Other,
        };
        let named = scope.tunnels.contains(&link.name) || ledger.added.is_on(&link.name);
        if owner.is_ours() || named {
            observe_tunnel((link, owner), (tables, &names), &mut observed);
        }
        if link.vxlan.is_some() && !owner.is_ours() && !scope.tunnels.contains(&link.name) {
            let (form, mtu, up) = (Form::of(link, &names), link.mtu, link.up);
            let name = link.name.clone();
            let rival = HeldTunnel { name, form, mtu, up, owner, addresses: Vec::new() };
            observed.rivals.push(rival);
        }
    }
    for family in Family::BOTH {
        let routes = tables.routes(family);
        observed.pods.push_all(routes.iter().filter_map(|found| pod(found, &names)));
        let held = |found: &Found| held(found, settings, (wanted, ledger), &names);
        observed.held.routes.push_all(routes.iter().filter_map(held));
    }
    for key in &scope.sysctls {
        if let Ok(value) = sysctl::read(key) {
            let object = Sysctl::new(key.clone(), value);
            observed.held.sysctls.push(Held { object, ours: true });
        }
    }
    observed
}

fn observe_tunnel(
    (link, owner): (&Link, Owner),
    (tables, names): (&Tables, &HashMap<u32, &Link>),
    observed: &mut Observed,
) {
    let tunnel = HeldTunnel {
        name: link.name.clone(),
        form: Form::of(link, names),
        mtu: link.mtu,
        up: link.up,
        owner,
        addresses: tables.addresses_of(link.index),
    };
    if link.vxlan.is_some() {
        let whole = owner.is_ours();
        let added = observed.ledger.added.clone();
        // Told only where it may matter: there may be thousands.
        let given = |text: &dyn Fn() -> Option<String>| text().is_some_and(|text| added.has(&text));
        let ours =
            |text: &dyn Fn() -> Option<String>| whole || owner == Owner::Other && given(text);
        let own = |index: &u32| *index == link.index;
        for (_, entry) in tables.neighbours.iter().filter(|(index, _)| own(index)) {
            let (device, address) = (link.name.clone(), entry.address);
            let object = Neighbour { device, address, mac: entry.mac };
            let ours = ours(&|| object.addition());
            observed.held.neighbours.push(Held { object, ours });
        }
        for (_, entry) in tables.forwarding.iter().filter(|(index, _)| own(index)) {
            let (device, mac) = (link.name.clone(), entry.mac);
            let object = Forwarding { device, mac, node: entry.node };
            let ours = ours(&|| object.addition());
            observed.held.forwarding.push(Held { object, ours });
        }
    }
    observed.held.tunnels.push(tunnel);
}

/// The destinations that are wanted, and those of them where peers' pods are.
#[derive(Default)]
struct Wanted {
    destinations: HashSet<IpNetwork>,
    peers: Networks,
}

impl Wanted {
    /// Whether routes to there are of interest.
    fn has(&self, destination: &IpNetwork) -> bool {
        self.destinations.contains(destination) || self.peers.around(destination).is_some()
    }
}

/// The routes of table main that no fabric of this protocol has made.
pub fn of_others(tables: &Tables, protocol: u8) -> Vec<HeldRoute> {
    let names: HashMap<u32, &Link> = tables.links.iter().map(|link| (link.index, link)).collect();
    let all = Family::BOTH.into_iter().flat_map(|family| tables.routes(family));
    let others = all.filter(|found| found.route.protocol != protocol);
    let others = others.filter(|found| found.route.table == TABLE_MAIN);
    others.map(|found| held_route(found, false, &names)).gather()
}

/// A route as far as it matters: of table main, and either ours or to a `wanted`
/// destination.
fn held(
    found: &Found,
    settings: &Settings,
    (wanted, ledger): (&Wanted, &Ledger),
    names: &HashMap<u32, &Link>,
) -> Option<HeldRoute> {
    let route = &found.route;
    let ours =
        route.protocol == settings.keys.protocol || ledger.protocols.contains(&route.protocol);
    let matters = ours || wanted.has(&route.destination);
    if route.table != TABLE_MAIN || !matters {
        return None;
    }
    Some(held_route(found, ours, names))
}

fn held_route(found: &Found, ours: bool, names: &HashMap<u32, &Link>) -> HeldRoute {
    let link = found.device().and_then(|device| names.get(&device));
    let on_host_link = link.is_some_and(|link| is_host_link(link));
    let device = link.map(|link| link.name.clone());
    HeldRoute { found: found.clone(), device, ours, on_host_link }
}
