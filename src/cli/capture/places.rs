// SPDX-License-Identifier: Apache-2.0
//! Where a packet of a pod passes on this node, and which packets are asked for there. Pure: what
//! tcpdump is told, and no process.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use crate::{
    list::{Gather, PushAll},
    net::{
        link::Link,
        route::{Found, Kind, TABLE_MAIN},
    },
    node::Kernel,
    object::link::marked,
    pod::identity::{GROUPS, is_marked},
};

/// What a device is to a packet.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Role {
    Pod,
    Tunnel,
    Uplink,
}

/// How packets of pods are put into others.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Carrier {
    Ipip,
    Vxlan { port: u16 },
}

/// A device, and what is looked for on it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) role: Role,
    pub(super) device: String,
    /// What its packets are in, where those are unpacked before they are shown.
    pub(super) carrier: Option<Carrier>,
    /// Which packets are taken there.
    pub(super) taken: String,
    /// Which of them are shown, once they are unpacked.
    pub(super) shown: String,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pod => "pod",
            Self::Tunnel => "tunnel",
            Self::Uplink => "uplink",
        })
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipip => "ipip",
            Self::Vxlan { .. } => "vxlan",
        })
    }
}

impl Place {
    /// The device, with what its packets are in.
    pub(super) fn name(&self) -> String {
        match self.carrier {
            Some(carrier) => format!("{} in {carrier}", self.device),
            None => self.device.clone(),
        }
    }
}

/// All of them, from the pod outwards. `filter` is empty for all that the pod sends and gets.
pub(super) fn places(
    link: &Link,
    addresses: &[IpAddr],
    kernel: &Kernel,
    filter: &str,
) -> Vec<Place> {
    let hosts = either(addresses.iter().map(|address| format!("host {address}")));
    let of_pod = both(filter, &hosts);
    let plain = |role, device: &Link, taken: String| Place {
        role,
        device: device.name.clone(),
        carrier: None,
        taken,
        shown: String::new(),
    };
    let mut all = vec![plain(Role::Pod, link, filter.to_owned())];
    let tunnels: Vec<&Link> = kernel.links.iter().filter(|link| marked(link).is_some()).gather();
    all.push_all(tunnels.iter().map(|tunnel| plain(Role::Tunnel, tunnel, of_pod.clone())));
    let carriers: BTreeSet<Carrier> = tunnels.iter().copied().filter_map(carrier).gather_set();
    for uplink in uplinks(kernel, &tunnels) {
        for carrier in &carriers {
            let taken = both(&carrier.expression(), &carrier.inside(addresses));
            let (carrier, shown) = (Some(*carrier), of_pod.clone());
            all.push(Place { carrier, taken, shown, ..plain(Role::Uplink, uplink, String::new()) });
        }
        // What leaves under the node's own address has the pod's no more.
        let outside = if filter.is_empty() { &hosts } else { filter };
        let others = carriers.iter().map(|carrier| format!("not ({})", carrier.expression()));
        let taken = others.fold(both(outside, ""), |all, other| both(&all, &other));
        all.push(plain(Role::Uplink, uplink, taken));
    }
    all
}

fn carrier(tunnel: &Link) -> Option<Carrier> {
    match (&tunnel.vxlan, tunnel.kind.as_deref()) {
        (Some(vxlan), _) => Some(Carrier::Vxlan { port: vxlan.port }),
        (None, Some("ipip")) => Some(Carrier::Ipip),
        _ => None,
    }
}

/// The devices that packets leave the node by: those below tunnels, and those of default routes
/// and of routes to other nodes' pods.
fn uplinks<'a>(kernel: &'a Kernel, tunnels: &[&Link]) -> Vec<&'a Link> {
    let below = tunnels.iter().filter_map(|tunnel| Some(tunnel.vxlan.as_ref()?.parent));
    let leads_away = |found: &&Found| {
        let route = &found.route;
        let is_away = route.destination.prefix() == 0 || !found.gateways.is_empty();
        is_away && (route.table, route.kind) == (TABLE_MAIN, Kind::Unicast)
    };
    let by_routes = kernel.routes.iter().filter(leads_away).flat_map(|found| &found.devices);
    let devices: BTreeSet<u32> = below.chain(by_routes.copied()).gather_set();
    let is_uplink = |link: &&Link| {
        let ours = GROUPS.contains(&link.group) || is_marked(link.alias.as_deref());
        devices.contains(&link.index) && !link.loopback && !ours && marked(link).is_none()
    };
    kernel.links.iter().filter(is_uplink).gather()
}

impl Carrier {
    fn expression(self) -> String {
        match self {
            Self::Ipip => "ip proto 4".to_owned(),
            Self::Vxlan { port } => format!("udp port {port}"),
        }
    }

    /// That a packet of one of these addresses is inside, as far as the last four bytes of an
    /// address tell: the rest is looked at when it is unpacked.
    fn inside(self, addresses: &[IpAddr]) -> String {
        // Where the inner header is, behind the outer one of each family.
        let outer: &[(&str, usize)] = match self {
            Self::Ipip => &[("ip", 20)],
            // UDP, VXLAN and Ethernet.
            Self::Vxlan { .. } => &[("udp", 8 + 8 + 14), ("ip6", 40 + 8 + 8 + 14)],
        };
        either(outer.iter().flat_map(|(header, at)| {
            addresses.iter().filter_map(move |address| {
                let (word, places) = match address {
                    IpAddr::V4(address) => (u32::from(*address), [12, 16]),
                    IpAddr::V6(_) if self == Self::Ipip => return None,
                    IpAddr::V6(address) => {
                        let [.., a, b, c, d] = address.octets();
                        (u32::from(Ipv4Addr::new(a, b, c, d)), [20, 36])
                    }
                };
                let [source, destination] = places.map(|place| at + place);
                Some(format!(
                    "{header}[{source}:4] = {word:#x} or {header}[{destination}:4] = {word:#x}"
                ))
            })
        }))
    }
}

fn either(all: impl Iterator<Item = String>) -> String {
    all.gather().join(" or ")
}

fn both(one: &str, other: &str) -> String {
    match (one, other) {
        ("", one) | (one, "") => one.to_owned(),
        _ => format!("({one}) and ({other})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{route::Route, tunnel::Vxlan};

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.to_owned(), ..Link::default() }
    }

    fn kernel(tunnels: Vec<Link>) -> Kernel {
        let route = |destination: &str, device, gateway: Option<&str>| {
            let route = Route::new(destination.parse().unwrap());
            let gateways = gateway.map(|gateway| gateway.parse().unwrap()).into_iter().collect();
            Found { gateways, ..Found::new(route, vec![device]) }
        };
        let own = Link { alias: Some("manx1 net c1 eth0".to_owned()), ..link(5, "cali1") };
        let lo = Link { loopback: true, ..link(1, "lo") };
        let links = [lo, link(2, "eth0"), link(3, "eth1"), link(4, "docker0"), own];
        Kernel {
            links: links.into_iter().chain(tunnels).collect(),
            routes: vec![
                route("0.0.0.0/0", 2, Some("192.0.2.1")),
                route("10.244.1.2/32", 5, None),
                route("172.17.0.0/16", 4, None),
                route("10.244.2.0/24", 9, Some("10.244.2.0")),
            ],
            ..Kernel::default()
        }
    }

    fn told(places: &[Place]) -> Vec<(String, &str, &str)> {
        places
            .iter()
            .map(|one| (format!("{} {}", one.role, one.name()), &*one.taken, &*one.shown))
            .collect()
    }

    #[test]
    fn without_a_tunnel_there_are_the_pod_and_the_uplinks() {
        let kernel = kernel(Vec::new());
        let pod = kernel.links[4].clone();
        let address = ["10.244.1.2".parse().unwrap()];
        assert_eq!(
            told(&places(&pod, &address, &kernel, "")),
            [("pod cali1".to_owned(), "", ""), ("uplink eth0".to_owned(), "host 10.244.1.2", "")]
        );
        assert_eq!(
            told(&places(&pod, &address, &kernel, "icmp")),
            [("pod cali1".to_owned(), "icmp", ""), ("uplink eth0".to_owned(), "icmp", "")]
        );
    }

    #[test]
    fn what_is_in_a_tunnel_is_looked_for_on_its_device_and_inside_what_carries_it() {
        let vxlan = Vxlan {
            vni: 4096,
            port: 4789,
            local: None,
            parent: 3,
            learning: false,
            own_socket: false,
        };
        let vxlan = Link {
            vxlan: Some(vxlan),
            alias: Some("manx1-fabric 109".to_owned()),
            ..link(9, "vxlan.calico")
        };
        let kernel = kernel(vec![vxlan]);
        let addresses = ["10.244.1.2".parse().unwrap(), "fd00:244:1::2".parse().unwrap()];
        let inside = "udp[42:4] = 0xaf40102 or udp[46:4] = 0xaf40102 or udp[50:4] = 0x2 or udp[66:4] = 0x2 \
                      or ip6[82:4] = 0xaf40102 or ip6[86:4] = 0xaf40102 or ip6[90:4] = 0x2 or ip6[106:4] = 0x2";
        let carried = format!("(udp port 4789) and ({inside})");
        let of_pod = "(icmp) and (host 10.244.1.2 or host fd00:244:1::2)";
        let plain = "(icmp) and (not (udp port 4789))";
        let expected = [
            ("pod cali1".to_owned(), "icmp", ""),
            ("tunnel vxlan.calico".to_owned(), of_pod, ""),
            ("uplink eth0 in vxlan".to_owned(), &carried, of_pod),
            ("uplink eth0".to_owned(), plain, ""),
            ("uplink eth1 in vxlan".to_owned(), &carried, of_pod),
            ("uplink eth1".to_owned(), plain, ""),
        ];
        assert_eq!(told(&places(&kernel.links[4], &addresses, &kernel, "icmp")), expected);
    }

    #[test]
    fn ipip_has_the_inner_header_behind_the_outer_one() {
        let tunnel = Link {
            kind: Some("ipip".to_owned()),
            alias: Some("manx1-fabric".to_owned()),
            ..link(9, "tunl0")
        };
        let kernel = kernel(vec![tunnel]);
        let addresses = ["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let all = places(&kernel.links[4], &addresses, &kernel, "");
        assert_eq!(all[2].name(), "eth0 in ipip");
        assert_eq!(all[2].taken, "(ip proto 4) and (ip[32:4] = 0xaf40102 or ip[36:4] = 0xaf40102)");
        assert_eq!(all[3].taken, "(host 10.244.1.2 or host fd00::2) and (not (ip proto 4))");
    }
}
