// SPDX-License-Identifier: Apache-2.0
//! Where a packet goes: the rule and the route that decide, the next hop, what carries it
//! there, and how large it may be.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{
    place::{self, Place},
    walk::Walk,
};
use crate::{
    fabric::Settings,
    family::{HasFamily, is_single},
    list::{Gather, PushAll},
    net::{
        link::Link,
        route::{Found, Kind, PROTOCOL_BOOT, PROTOCOL_KERNEL, PROTOCOL_RA, TABLE_MAIN},
        rule::Rule,
    },
    node::Snapshot,
    object::{
        self, Action,
        fib::{self, Answer, Packet},
    },
    state::Entry,
    text::few::some_of,
};

/// The way of a packet from here.
#[derive(Default)]
pub(super) struct Way<'a> {
    pub(super) route: Option<&'a Found>,
    /// The name of the device that it leaves by; empty for none.
    pub(super) device: String,
    /// The links that it may leave by.
    pub(super) links: Vec<&'a Link>,
    pub(super) gateway: Option<IpAddr>,
    /// It is for this node itself.
    pub(super) is_local: bool,
    /// Where its carrier goes, and by which route.
    outer: Option<(IpAddr, Option<&'a Found>)>,
}

/// What the kernel says of a packet.
pub(super) fn look_up(
    snapshot: &Snapshot,
    source: Option<IpAddr>,
    destination: IpAddr,
) -> Answer<'_> {
    let kernel = &snapshot.kernel;
    fib::lookup(&kernel.rules, &kernel.routes, Packet { source, destination })
}

/// A route with its device.
pub(super) fn told(found: &Found, snapshot: &Snapshot) -> String {
    let devices = snapshot.kernel.devices(found);
    let mut text =
        if found.local { format!("local {}", found.route) } else { found.route.to_string() };
    if found.gateways.len() > 1 {
        text = format!("{text} via {}", some_of(&found.gateways));
    }
    if !devices.is_empty() {
        text = format!("{text} dev {}", devices.join(", "));
    }
    match found.route.mtu {
        Some(mtu) => format!("{text} mtu {mtu}"),
        None => text,
    }
}

impl<'a> Walk<'a> {
    /// Finds the way, and tells it.
    pub(super) fn way(&mut self) -> Way<'a> {
        let (snapshot, destination) = (self.snapshot, self.question.destination);
        let answer = look_up(snapshot, Some(self.question.source), destination);
        let mut by = answer.rule.map_or_else(String::new, of_rule);
        if let Some(maker) = answer.route.and_then(|found| maker(found, snapshot)) {
            by = if by.is_empty() { maker } else { format!("{by}; {maker}") };
        }
        let doubts = answer.doubtful.iter().map(|rule| rule.priority.to_string());
        let doubts: Vec<String> = doubts.gather();
        let doubt = match doubts.is_empty() {
            true => String::new(),
            false => format!(
                "; rules before that ask for more than addresses (a mark, a device) and may lead \
                 elsewhere: {}",
                some_of(&doubts)
            ),
        };
        self.note("destination", format!("{destination} is {}", self.destination.told()), "");
        let Some(found) = answer.route else {
            let text = match answer.rule {
                Some(rule) => format!("rule {} drops it", rule.priority),
                None => format!("no route leads to {destination}"),
            };
            let check = if answer.rule.is_some() { "rule-diverts" } else { "route-missing" };
            self.note("route", format!("none{doubt}"), by);
            self.drop(text, self.is_ours().then_some(check));
            return Way::default();
        };
        self.note("route", format!("{}{doubt}", told(found, snapshot)), by);
        self.judge_route(found);
        let links: Vec<&Link> =
            found.devices.iter().filter_map(|index| snapshot.kernel.link(*index)).gather();
        let device = snapshot.kernel.devices(found).join(" or ");
        let (gateway, is_local) = (found.gateways.first().copied(), found.local);
        let mut way = Way { route: Some(found), device, links, gateway, is_local, outer: None };
        if answer.leads_somewhere() {
            self.next_hop(&mut way);
        }
        way
    }

    /// Whether the destination is one that the fabric leads to.
    fn is_ours(&self) -> bool {
        matches!(self.destination, Place::PeerPods(..) | Place::Pod(..) | Place::Nobody(_))
    }

    /// Whether the fabric's route to pods of another node is still to be made: the packet takes
    /// whatever leads elsewhere.
    fn lacks_route(&self, cidr: &IpNetwork) -> bool {
        let object = format!("route {cidr}");
        let fabrics = self.snapshot.networks.iter().filter_map(|network| network.fabric.as_ref());
        fabrics.flat_map(|fabric| &fabric.changes).any(|change| {
            change.kind == object::Kind::Route
                && change.action == Action::Create
                && change.object == object
        })
    }

    /// What the route itself does to the packet.
    fn judge_route(&mut self, found: &Found) {
        let route = &found.route;
        let why = match (route.kind, &self.destination) {
            (Kind::Unicast, Place::Pod(entry, link)) => {
                let by_link = link.is_some_and(|link| found.devices.contains(&link.index));
                let pod = place::pod(entry);
                match link {
                    None => self.drop(format!("the host link of {pod} is gone"), None),
                    Some(link) if !link.up => {
                        self.drop(format!("{} of {pod} is down", link.name), None);
                    }
                    Some(link) if link.no_carrier => self.drop(
                        format!("the other end of {}, which is in {pod}, is down", link.name),
                        None,
                    ),
                    Some(link) if !by_link && !entry.bridged => self.drop(
                        format!("the route does not lead to {} of {pod}", link.name),
                        Some("route-missing"),
                    ),
                    Some(_) => {}
                }
                return;
            }
            (Kind::Unicast, Place::PeerPods(node, cidr)) if self.lacks_route(cidr) => {
                let text = format!("{route} is not the way to {cidr} of {}", node.name);
                return self.drop(text, Some("route-missing"));
            }
            (Kind::Unicast | Kind::Throw, _) => return,
            (_, Place::Nobody(_)) => "no pod of this node has the address".to_owned(),
            (kind, _) => format!("a route of kind {kind:?} leads there").to_ascii_lowercase(),
        };
        let check = match self.destination {
            Place::Nobody(_) => None,
            _ => self.is_ours().then_some("route-missing"),
        };
        self.drop(why, check);
    }

    /// The next hop, and for a tunnel the node that the carrier goes to.
    fn next_hop(&mut self, way: &mut Way<'a>) {
        if way.is_local {
            return self.note("next hop", "none: it is for this node", "");
        }
        let tunnel = way.links.iter().copied().find(|link| is_carrier(link));
        let hop = match way.gateway {
            Some(gateway) => format!("{gateway} on {}", way.device),
            None => format!("{} on the link of {}", self.question.destination, way.device),
        };
        let Some(tunnel) = tunnel else {
            if !matches!(self.destination, Place::Pod(..)) {
                self.carrier_of(&way.links);
            }
            let text = match self.destination {
                Place::Pod(..) => format!("{} leads into the pod", way.device),
                _ => hop,
            };
            return self.note("next hop", text, "");
        };
        let gateway = way.gateway.unwrap_or(self.question.destination);
        let node = match &tunnel.vxlan {
            None => Some(gateway),
            Some(_) => self.behind(tunnel, gateway),
        };
        let Some(node) = node else { return };
        let answer = look_up(self.snapshot, local_of(tunnel), node);
        let kind = tunnel.kind.as_deref().unwrap_or_default();
        let text = format!("carried by {kind} of {} to {node}", tunnel.name);
        let found = answer.route.filter(|_| answer.leads_somewhere());
        let by = found.map_or_else(String::new, |found| told(found, self.snapshot));
        self.note("carrier", text, by);
        match found {
            None => self.drop(format!("no route leads to {node}"), Some("next-hop-unreachable")),
            Some(found) => {
                let by = found.devices.iter().filter_map(|index| self.snapshot.kernel.link(*index));
                self.carrier_of(&by.gather());
            }
        }
        way.outer = Some((node, found));
    }

    /// Whether a packet gets out of these links, where one of them is taken.
    fn carrier_of(&mut self, links: &[&Link]) {
        let is_dead = |link: &&Link| link.no_carrier || !link.up;
        if let Some(link) = links.iter().find(|link| links.iter().all(is_dead) && is_dead(link)) {
            let what = if link.up { "has no carrier" } else { "is down" };
            self.drop(format!("{} {what}", link.name), Some("next-hop-unreachable"));
        }
    }

    /// The node that a VXLAN device has behind a next hop.
    fn behind(&mut self, tunnel: &Link, gateway: IpAddr) -> Option<IpAddr> {
        let kernel = &self.snapshot.kernel;
        let name = &tunnel.name;
        let of = |(index, entry): &(u32, crate::net::neigh::Neighbour)| {
            (*index == tunnel.index && entry.address == gateway).then_some(entry.mac)
        };
        let Some(mac) = kernel.neighbours.iter().find_map(of) else {
            self.note("next hop", format!("{gateway} has no permanent neighbour on {name}"), "");
            self.drop(format!("{name} does not know {gateway}"), Some("neighbour-missing"));
            return None;
        };
        let of = |(index, entry): &(u32, crate::net::fdb::Entry)| {
            (*index == tunnel.index && entry.mac == mac).then_some(entry.node)
        };
        let node = kernel.forwarding.iter().find_map(of);
        let by = format!("neighbour {gateway} dev {name}, fdb {mac} dev {name}");
        match node {
            Some(node) => self.note("next hop", format!("{gateway} is {mac}, behind {node}"), by),
            None => {
                self.note("next hop", format!("{gateway} is {mac}, behind nobody"), by);
                self.drop(
                    format!("{name} does not know where {mac} is"),
                    Some("neighbour-missing"),
                );
            }
        }
        node
    }

    /// How large a packet may be on this way.
    pub(super) fn sizes(&mut self, way: &Way<'a>) {
        let mut sizes: Vec<(String, u32)> = Vec::new();
        if let Place::Pod(_, Some(link)) = self.source {
            sizes.push((link.name.clone(), link.mtu));
        }
        let devices = way.links.iter().filter(|_| !way.is_local);
        sizes.push_all(devices.map(|link| (link.name.clone(), link.mtu)));
        sizes
            .push_all(way.route.and_then(|found| Some(("the route".to_owned(), found.route.mtu?))));
        let Some((_, least)) = sizes.iter().min_by_key(|(_, mtu)| *mtu).cloned() else { return };
        let told: Vec<String> = sizes.iter().map(|(name, mtu)| format!("{name} {mtu}")).gather();
        let outer = way.outer.as_ref().and_then(|(_, found)| *found);
        let Some(settings) = self.carried_by(way) else {
            return self.note("mtu", format!("{least} bytes"), told.join(", "));
        };
        let overhead = settings.overhead(self.question.destination.family());
        let outer_links = outer.iter().flat_map(|found| &found.devices);
        let outer_mtus = outer_links.filter_map(|index| self.snapshot.kernel.link(*index));
        let carried = outer_mtus.min_by_key(|link| link.mtu);
        let Some(carrier) = carried else {
            return self.note("mtu", format!("{least} bytes"), told.join(", "));
        };
        let fits = carrier.mtu.saturating_sub(overhead);
        let by = format!("{}, {} {} - {overhead}", told.join(", "), carrier.name, carrier.mtu);
        if fits < least {
            let text = format!("{fits} bytes; larger ones are lost or cut: {least} are let in");
            return self.note("mtu", text, format!("{by}; mtu-too-large"));
        }
        self.note("mtu", format!("{least} bytes"), by);
    }

    /// What carries the packet, if that is a fabric's.
    fn carried_by(&self, way: &Way<'_>) -> Option<&'a Settings> {
        way.outer.as_ref()?;
        let mut all = self.snapshot.compared.fabrics.iter().map(|fabric| &fabric.settings);
        let is_tunnel =
            |settings: &&Settings| way.links.iter().any(|link| settings.is_tunnel(&link.name));
        all.find(is_tunnel)
    }
}

fn is_carrier(link: &Link) -> bool {
    crate::object::link::is_tunnel(link)
}

fn local_of(tunnel: &Link) -> Option<IpAddr> {
    tunnel.vxlan.as_ref()?.local
}

fn of_rule(rule: &Rule) -> String {
    match rule.refuses {
        true => format!("rule {}: from {}", rule.priority, rule.source),
        false => format!("rule {rule}"),
    }
}

/// Who made a route, and by which file.
fn maker(found: &Found, snapshot: &Snapshot) -> Option<String> {
    let route = &found.route;
    let fabrics = snapshot.compared.fabrics.iter();
    let mut own = fabrics.filter(|fabric| fabric.settings.keys.protocol == route.protocol);
    if let Some(fabric) = own.next() {
        let file = fabric.settings.keys.peers_file.as_deref().unwrap_or("the list of peers");
        return Some(format!("made by manx, protocol {}, by {file}", route.protocol));
    }
    let to = route.destination;
    let mut holders = snapshot.journal.iter().filter(|entry| entry.addresses.contains(&to.ip()));
    let leads_to = |entry: &Entry| {
        let mut links = snapshot.kernel.links.iter();
        links.any(|link| *link.name == *entry.host_link && found.devices == [link.index])
    };
    if is_single(&to) && holders.any(leads_to) && route.protocol == PROTOCOL_BOOT {
        return Some("made by manx for this pod".to_owned());
    }
    let name = match route.protocol {
        PROTOCOL_KERNEL => "the kernel, with an address",
        PROTOCOL_BOOT => "hand or a plugin (boot)",
        4 => "hand or a daemon (static)",
        PROTOCOL_RA => "a router's advertisement",
        12 => "BIRD",
        16 => "DHCP",
        80 => "Calico",
        186 => "BGP",
        _ => return Some(format!("made by protocol {}", route.protocol)),
    };
    let table = if route.table == TABLE_MAIN { "" } else { ", of another table than main" };
    Some(format!("made by {name}{}", if found.local { "" } else { table }))
}
