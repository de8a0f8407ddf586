// SPDX-License-Identifier: Apache-2.0
//! What of a node is the other plugin's, by kind. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::{
    cache::Cached,
    site::{Former, HOST_LINK, Site},
};
use crate::{
    list::{Gather, PushAll},
    net::{
        link::Link,
        route::{Found, Kind, PROTOCOL_BOOT, PROTOCOL_KERNEL, TABLE_MAIN},
    },
    node::File,
    object::{HeldRoute, link::marked},
    pod::identity::is_marked,
};

/// Felix's own mark on routes, and that of BIRD.
const FELIX: u8 = 80;
const BIRD: u8 = 12;
/// The bridge of flannel's pods.
pub(super) const BRIDGE: &str = "cni0";

/// One row of what was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Row {
    pub(super) kind: &'static str,
    pub(super) object: String,
    pub(super) value: String,
}

impl Row {
    pub(super) fn encode(&self) -> Value {
        json!({"kind": self.kind, "object": self.object, "value": self.value})
    }
}

/// A pod that the other plugin attached, and that lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct OldPod<'a> {
    pub(super) cached: &'a Cached,
    pub(super) link: &'a Link,
}

/// The parameter by which pods behind a bridge find what is not.
pub(super) fn proxy_arp(bridge: &str) -> String {
    format!("net/ipv4/conf/{bridge}/proxy_arp")
}

/// All of it.
#[derive(Clone, Debug)]
pub(super) struct Remains<'a> {
    /// Links of pods that are known, and not yet ours in every respect.
    pub(super) pods: Vec<OldPod<'a>>,
    /// Links of pods of which nothing is noted.
    pub(super) unknown: Vec<&'a Link>,
    /// Links that the notes of several pods lay claim to.
    pub(super) disputed: Vec<&'a Link>,
    /// Those that are ours by now and stay on the bridge.
    pub(super) bridged: usize,
    pub(super) tunnels: Vec<&'a Link>,
    pub(super) bridge: Option<&'a Link>,
    /// Routes to other nodes, and to nowhere.
    pub(super) routes: Vec<&'a Found>,
    pub(super) files: Vec<&'a File>,
}

impl Remains<'_> {
    /// Whether pods of the other plugin are there, ours by now or not.
    pub(super) fn has_pods(&self) -> bool {
        !self.pods.is_empty() || self.bridged > 0
    }

    /// Whether the agent's rules serve pods that stay as they are.
    pub(super) fn needs_rules(&self, site: &Site) -> bool {
        site.former == Former::Flannel && self.bridge.is_some() && self.has_pods()
    }
}

pub(super) fn found(site: &Site) -> Remains<'_> {
    let kernel = &site.snapshot.kernel;
    let former = site.former;
    let bridge = kernel.links.iter().find(|link| link.name == BRIDGE);
    let bridge = bridge.filter(|_| former == Former::Flannel);
    let on_bridge = |address: &IpAddr| {
        let own = kernel
            .addresses
            .iter()
            .filter(|(index, _)| bridge.is_some_and(|it| it.index == *index));
        own.map(|(_, network)| network).any(|network| network.contains(*address))
    };
    let mut claims: Vec<OldPod<'_>> = Vec::new();
    for cached in &site.cached {
        let link = kernel.links.iter().find(|link| Some(link.index) == cached.link);
        let is_former = |link: &&Link| match former {
            Former::Calico => link.name.starts_with(HOST_LINK),
            Former::Flannel => cached.entry.addresses.iter().any(on_bridge),
        };
        claims.push_all(link.filter(is_former).map(|link| OldPod { cached, link }));
    }
    let claimed = |link: &Link| claims.iter().filter(|pod| pod.link.index == link.index).count();
    let is_whole = |pod: &OldPod<'_>| site.is_whole(&pod.cached.entry, pod.link);
    let pods: Vec<OldPod<'_>> =
        claims.iter().filter(|pod| claimed(pod.link) == 1 && !is_whole(pod)).copied().gather();
    let disputed: BTreeMap<u32, &Link> = claims
        .iter()
        .filter(|pod| claimed(pod.link) > 1)
        .map(|pod| (pod.link.index, pod.link))
        .gather_map();
    let is_free =
        |link: &&Link| link.kind.as_deref() == Some("veth") && !is_marked(link.alias.as_deref());
    let free: Vec<&Link> = kernel.links.iter().filter(is_free).gather();
    let journal = &site.snapshot.journal;
    let is_bridged =
        |link: &Link| journal.iter().any(|entry| entry.bridged && entry.host_link == link.name);
    let leads_to_pod = |link: &Link| match former {
        Former::Calico => link.name.starts_with(HOST_LINK),
        Former::Flannel => {
            let ends = site.ends.iter().filter(|end| end.host == link.index);
            ends.flat_map(|end| &end.addresses).any(on_bridge)
        }
    };
    let unknown = free
        .iter()
        .copied()
        .filter(|link| leads_to_pod(link) && claimed(link) == 0 && !is_bridged(link));
    let tunnels: Vec<&Link> =
        kernel.links.iter().filter(|link| former.is_tunnel(&link.name)).gather();
    let routes = kernel.routes.iter().filter(|route| is_route(site, route, &tunnels));
    Remains {
        unknown: unknown.gather(),
        disputed: disputed.into_values().gather(),
        bridged: free.iter().filter(|link| is_bridged(link)).count(),
        routes: routes.gather(),
        bridge,
        files: site.files.iter().filter(|file| is_file(site, file)).gather(),
        pods,
        tunnels,
    }
}

/// Whether a file is the other plugin's; the one that is to serve never is.
fn is_file(site: &Site, file: &File) -> bool {
    let serves = site.ours.as_ref().is_some_and(|ours| ours.listed.as_ref() == Some(&file.path));
    !serves && file.plugins.iter().any(|kind| kind == site.former.name())
}

/// Whether a route is the other plugin's, and not one to a single pod of this node.
fn is_route(site: &Site, found: &Found, tunnels: &[&Link]) -> bool {
    let route = &found.route;
    let leads = matches!(route.kind, Kind::Unicast | Kind::Blackhole);
    if route.table != TABLE_MAIN || found.local || !leads || route.protocol == PROTOCOL_KERNEL {
        return false;
    }
    let links = &site.snapshot.kernel.links;
    let of_pod = |index: &u32| {
        links.iter().any(|link| link.index == *index && link.name.starts_with(HOST_LINK))
    };
    if found.devices.iter().any(of_pod) {
        return false;
    }
    let tunnelled = |index: &u32| tunnels.iter().any(|link| link.index == *index);
    let by_tunnel = route.gateway.is_some() && found.devices.iter().any(tunnelled);
    // A fabric of ours may have the very number.
    let own = site.protocol() == Some(route.protocol);
    match site.former {
        _ if own => false,
        // The node may have a BIRD of its own, to which its default route belongs.
        Former::Calico if route.protocol == BIRD && !by_tunnel => !site.is_around(found),
        Former::Calico => [FELIX, BIRD].contains(&route.protocol) || by_tunnel,
        // Its host-gw backend makes routes that bear no mark.
        Former::Flannel => {
            let of_peer = site.remote_cidrs().contains(&route.destination);
            by_tunnel || (route.protocol == PROTOCOL_BOOT && route.gateway.is_some() && of_peer)
        }
    }
}

impl Site {
    /// The routes' mark of the fabric that is asked for.
    pub(super) fn protocol(&self) -> Option<u8> {
        Some(self.snapshot.networks.first()?.fabric.as_ref()?.protocol)
    }

    /// Where the pods of other nodes are, by the peers file.
    pub(super) fn remote_cidrs(&self) -> Vec<IpNetwork> {
        let fabric = self.snapshot.networks.first().and_then(|network| network.fabric.as_ref());
        fabric.map(|fabric| fabric.remote_cidrs.clone()).unwrap_or_default()
    }

    /// Whether the fabric that is asked for leads to a destination.
    pub(super) fn covers(&self, destination: IpNetwork) -> bool {
        let fabric = self.snapshot.networks.first().and_then(|network| network.fabric.as_ref());
        let Some(fabric) = fabric else { return false };
        let inside = |cidr: &IpNetwork| {
            cidr.prefix() <= destination.prefix() && cidr.contains(destination.ip())
        };
        fabric.own_cidrs.iter().chain(&fabric.remote_cidrs).any(inside)
    }

    /// Whether a route leads to the node's own network, and so is not one to pods.
    fn is_around(&self, found: &Found) -> bool {
        let addresses = self.snapshot.kernel.addresses.iter();
        let own = addresses.map(|(_, network)| network.ip());
        let destination = found.route.destination;
        destination.prefix() == 0
            || found.route.kind == Kind::Unicast
                && own.into_iter().any(|address| destination.contains(address))
    }

    /// A route as it is told elsewhere.
    pub(super) fn words(&self, found: &Found) -> String {
        let device = self.snapshot.kernel.devices(found).first().map(|name| (*name).to_owned());
        HeldRoute { found: found.clone(), device, ours: false, on_host_link: false }.to_string()
    }
}

/// All of it as rows, in the order in which one would look.
pub(super) fn rows(site: &Site, found: &Remains<'_>) -> Vec<Row> {
    let row = |kind, object: String, value: String| Row { kind, object, value };
    let mut rows = Vec::new();
    for (pid, name) in &site.agents {
        rows.push(row("process", name.clone(), format!("pid {pid}")));
    }
    for file in &found.files {
        let network = file.network.as_deref().unwrap_or("-");
        rows.push(row("file", file.path.display().to_string(), format!("network {network}")));
    }
    let others = found.tunnels.iter().filter(|link| marked(link).is_none());
    for link in others.chain(&found.bridge) {
        let own = site.snapshot.kernel.addresses.iter().filter(|(index, _)| *index == link.index);
        let addresses: Vec<String> = own.map(|(_, address)| address.to_string()).gather();
        let vxlan = link.vxlan.as_ref();
        let vxlan = vxlan.map(|it| format!(" vni {} port {}", it.vni, it.port)).unwrap_or_default();
        let kind = link.kind.as_deref().unwrap_or("link");
        rows.push(row(
            "device",
            link.name.clone(),
            format!("{kind}{vxlan} mtu {} {}", link.mtu, addresses.join(",")).trim_end().to_owned(),
        ));
    }
    rows.push_all(
        found
            .routes
            .iter()
            .map(|route| row("route", route.route.destination.to_string(), site.words(route))),
    );
    for pod in &found.pods {
        let entry = &pod.cached.entry;
        let addresses: Vec<String> = entry.addresses.iter().map(ToString::to_string).gather();
        let name = entry.pod().unwrap_or_else(|| entry.container_id.clone());
        rows.push(row("pod", pod.link.name.clone(), format!("{name} {}", addresses.join(","))));
    }
    rows.push_all(
        found
            .unknown
            .iter()
            .map(|link| row("pod", link.name.clone(), "no runtime has noted whose".to_owned())),
    );
    for rules in &site.firewall.rules {
        for left in &rules.left {
            rows.push(row(
                "chains",
                format!("{} {} {}", rules.backend.name(), rules.family.word(), left.table),
                told(left.chains.len(), left.rules, left.hooks()),
            ));
        }
    }
    rows.push_all(site.firewall.tables.iter().map(|(family, name)| {
        row("chains", format!("nftables {family} {name}"), "a table".to_owned())
    }));
    rows.push_all(
        site.programs.iter().map(|program| row("program", program.clone(), "eBPF".to_owned())),
    );
    rows.push_all(
        site.diverting().map(|rule| row("rule", rule.to_string(), "WireGuard".to_owned())),
    );
    rows.push_all(leases(site, found));
    if let Ok(node) = &site.node
        && let Some(reason) = &node.unavailable
    {
        let cordoned = if node.cordoned { ", cordoned" } else { "" };
        rows.push(row(
            "node",
            node.name.clone(),
            format!("NetworkUnavailable: {reason}{cordoned}"),
        ));
    }
    rows
}

fn told(chains: usize, rules: usize, hooks: usize) -> String {
    format!("chains: {chains}, rules in them: {rules}, rules in chains of others: {hooks}")
}

/// How many addresses the pods have, by the network in which they were given.
fn leases(site: &Site, found: &Remains<'_>) -> Vec<Row> {
    let mut networks: Vec<&str> =
        found.files.iter().filter_map(|file| file.network.as_deref()).gather();
    networks.dedup();
    let count = |network: &str| {
        let own = site
            .cached
            .iter()
            .filter(|cached| cached.link.is_some() && cached.entry.network == network);
        own.map(|cached| cached.entry.addresses.len()).sum::<usize>()
    };
    let row = |network: &str| Row {
        kind: "leases",
        object: format!("network {network}"),
        value: format!("addresses of pods that live: {}", count(network)),
    };
    networks.into_iter().filter(|network| count(network) > 0).map(row).gather()
}
