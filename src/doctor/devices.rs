//! The devices that packets of pods come and go by: whether they are up, and whether the node
//! forwards what comes by them.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Answer, Seen, fabric::fabrics, links::serves};
use crate::{
    family::Family,
    net::{
        forwarding,
        link::Link,
        route::{Kind, TABLE_MAIN},
    },
    node::{Network, Snapshot},
    pod::identity::HostLinks,
    state::Entry,
    text::shell::quoted,
};

/// What comes by a device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// Packets of other nodes, in a tunnel.
    Tunnel,
    /// Packets of other nodes, or of everybody else.
    Uplink,
    /// Those of a pod, which is named.
    Pod(String),
}

impl Role {
    /// Whose packets they are.
    fn whose(&self) -> String {
        match self {
            Self::Tunnel => "of other nodes' pods".to_owned(),
            Self::Uplink => "of other nodes and of everybody else".to_owned(),
            Self::Pod(pod) => format!("of {pod}"),
        }
    }
}

/// All of them, in the order of their indexes.
pub(super) fn devices(snapshot: &Snapshot) -> Vec<(&Link, Role)> {
    let kernel = &snapshot.kernel;
    let mut roles: BTreeMap<u32, (&Link, Role)> = BTreeMap::new();
    let by_index: HashMap<u32, &Link> =
        kernel.links.iter().map(|link| (link.index, link)).collect();
    let links = HostLinks::new(&kernel.links);
    let own = snapshot.journal.iter().filter(|entry| !entry.bridged);
    for (entry, link) in own.filter_map(|entry| Some((entry, links.of(entry)?))) {
        roles.insert(link.index, (link, Role::Pod(pod(entry))));
    }
    let protocols: HashSet<u8> =
        fabrics(snapshot).into_iter().map(|(_, fabric)| fabric.protocol).collect();
    let addresses: HashSet<_> =
        fabrics(snapshot).into_iter().flat_map(|(_, fabric)| &fabric.addresses).collect();
    let settings = || snapshot.compared.fabrics.iter().map(|fabric| &fabric.settings);
    let is_tunnel = |link: &Link| settings().any(|settings| settings.is_tunnel(&link.name));
    let of_routes = kernel.routes.iter().filter(|found| {
        let route = &found.route;
        let is_way = protocols.contains(&route.protocol) || route.destination.prefix() == 0;
        is_way && route.table == TABLE_MAIN && route.kind == Kind::Unicast
    });
    let of_addresses = kernel.addresses.iter().filter(|(_, own)| addresses.contains(&own.ip()));
    let indexes = of_routes.flat_map(|found| &found.devices);
    let indexes = indexes.chain(of_addresses.map(|(index, _)| index));
    let named = kernel.links.iter().filter(|link| is_tunnel(link));
    for link in indexes.filter_map(|index| by_index.get(index).copied()).chain(named) {
        let carries = matches!(link.kind.as_deref(), Some("vxlan" | "ipip"));
        let role = if carries { Role::Tunnel } else { Role::Uplink };
        if !link.loopback {
            roles.entry(link.index).or_insert((link, role));
        }
    }
    roles.into_values().collect()
}

/// A pod by its name.
fn pod(entry: &Entry) -> String {
    let named = entry.pod().map(|pod| format!("pod {pod}"));
    named.unwrap_or_else(|| format!("container {}", entry.container_id))
}

/// Links that somebody has set down: their routes are gone with them.
pub(super) fn down(snapshot: &Snapshot) -> Vec<Seen> {
    let down = devices(snapshot).into_iter().filter(|(link, _)| !link.up);
    let told = down.map(|(link, role)| {
        let evidence = format!(
            "it is set down, and the kernel has removed its routes: packets {} go nowhere",
            role.whose()
        );
        let name = quoted(&link.name);
        // A default route is nobody's here.
        let more = if role == Role::Uplink { " # then the routes of others" } else { "" };
        Seen::error(format!("link {}", link.name), evidence)
            .fix(format!("ip link set {name} up; manx apply{more}"))
            .undo(format!("ip link set {name} down"))
    });
    told.collect()
}

/// Whether the node forwards: at all, and what comes by these devices.
pub(super) fn ip_forward(snapshot: &Snapshot) -> Answer {
    let mut seen = Vec::new();
    for family in Family::BOTH {
        let key = forwarding::key(family);
        let serve = |network: &&Network| serves(family, network, snapshot);
        let Some(network) = snapshot.networks.iter().find(serve) else { continue };
        let Some(value) = snapshot.kernel.sysctls.get(key) else { continue };
        if value == "0" {
            seen.push(none_is_forwarded(key, network, snapshot));
        } else if family == Family::V4 {
            // Of IPv6 the kernel asks for all devices alone (ip6_forward, net/ipv6/ip6_output.c).
            seen.extend(not_by_all(snapshot));
        }
    }
    Ok(seen)
}

fn none_is_forwarded(key: &str, network: &Network, snapshot: &Snapshot) -> Seen {
    let dotted = key.replace('/', ".");
    let evidence = format!("{dotted} is 0, and network {} has pods of the family", network.name);
    let live = snapshot.journal.iter().any(|entry| entry.network == network.name);
    // Before there is a pod nothing is lost, and its ADD turns it on.
    let of = if live || !network.manages_forwarding { Seen::error } else { Seen::info };
    of(format!("sysctl {dotted}"), evidence)
        .fix(format!("sysctl -w {dotted}=1"))
        .undo(format!("sysctl -w {dotted}=0"))
}

/// The devices whose own parameter forbids it, which the one of all does not show.
fn not_by_all(snapshot: &Snapshot) -> Vec<Seen> {
    let not = |link: &Link| {
        let key = forwarding::of_link(&link.name);
        snapshot.kernel.sysctls.get(&key).is_some_and(|value| value == "0").then_some(key)
    };
    let told = devices(snapshot).into_iter().filter_map(|(link, role)| {
        let key = not(link)?;
        let evidence = format!(
            "{} is 0: what comes by {} is not forwarded, whatever ip_forward says, so packets {} \
             are dropped",
            key,
            link.name,
            role.whose()
        );
        Some(
            Seen::error(format!("sysctl {key}"), evidence)
                .fix(format!("sysctl -w {}=1", quoted(&key)))
                .undo(format!("sysctl -w {}=0", quoted(&key))),
        )
    });
    told.collect()
}
