// SPDX-License-Identifier: Apache-2.0
//! The devices that packets of pods come and go by, and whether they are up.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Seen;
use crate::{
    list::Gather,
    net::{
        link::Link,
        route::{Kind, TABLE_MAIN},
    },
    node::Snapshot,
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
    pub(super) fn whose(&self) -> String {
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
    let fabrics = || snapshot.networks.iter().filter_map(|network| network.fabric.as_ref());
    let protocols: HashSet<u8> = fabrics().map(|fabric| fabric.protocol).collect();
    let addresses: HashSet<_> = fabrics().flat_map(|fabric| &fabric.addresses).collect();
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
    roles.into_values().gather()
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
    told.gather()
}
