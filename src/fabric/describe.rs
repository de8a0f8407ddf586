//! From the configuration, the peers and the facts of this node to the
//! description of its fabric: one pure function, which knows no kernel.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;

use super::{
    desired::{Desired, Facts, Path},
    peers::{Node, Peers},
    settings::{IPIP_DEVICE, Settings},
};
use crate::{
    conf::{CrossSubnet, Mode},
    family::{Family, is_single},
    net::{forwarding, route},
    object::{
        Address, Forwarding, Mark, Neighbour, Route, Setting, Sysctl, Tunnel, Value,
        link::TunnelKind,
    },
    pod::mtu::{FALLBACK, IPV6_MIN, Uplink},
    text::few::some_of,
};

/// How packets of one family reach peers that are not plainly routed to.
enum Wrapping {
    /// They all are.
    None,
    /// Through a tunnel.
    Tunnel(Tunnel),
    /// Not at all, for the tunnel cannot be made. Plain routes would show the
    /// network what should be wrapped.
    Impossible,
}

/// The way to a peer.
struct Hop {
    gateway: IpAddr,
    device: String,
    /// The gateway is on the device's link whatever the routes say.
    onlink: bool,
    /// Path MTU in bytes, for encapsulated routes.
    mtu: Option<u32>,
}

/// What is to be said of peers: many have the same to be said.
#[derive(Default)]
struct Remarks {
    /// Those without a route.
    lost: Vec<(String, IpAddr)>,
    /// Those behind each router.
    behind: BTreeMap<IpAddr, Vec<(String, IpAddr)>>,
}

/// How many peers without a route, or left out, have a line each.
const LINES_MAX: usize = 5;

impl Remarks {
    fn tell(self, desired: &mut Desired) {
        desired.lost.extend(self.lost.iter().map(|(_, address)| *address));
        let names = |peers: &[(String, IpAddr)]| -> Vec<String> {
            peers.iter().map(|(name, address)| format!("{name} ({address})")).collect()
        };
        if self.lost.len() > LINES_MAX {
            desired.wanting.push(format!("no route to {}", some_of(&names(&self.lost))));
        } else {
            let line = |(name, address)| format!("{name}: no route to {address}");
            desired.wanting.extend(self.lost.into_iter().map(line));
        }
        desired.notes.extend(self.behind.into_iter().map(|(router, peers)| match &peers[..] {
            [(name, address)] => format!(
                "{name}: {address} is behind router {router}, which must know its pod CIDRs"
            ),
            _ => format!(
                "{} are behind router {router}, which must know their pod CIDRs",
                some_of(&names(&peers))
            ),
        }));
    }
}

/// Describes the fabric. Pure: the same input gives the same description.
pub fn describe(settings: &Settings, peers: &Peers, facts: &Facts) -> Desired {
    let mut desired = Desired { excluded: excluded(peers), ..Desired::default() };
    for family in Family::BOTH {
        OfFamily { settings, peers, facts, family }.describe(&mut desired);
    }
    desired
}

/// Who of the list is left out. The rest of many is a number.
fn excluded(peers: &Peers) -> Vec<String> {
    let mut lines: Vec<String> = peers.excluded.iter().take(LINES_MAX).cloned().collect();
    let more = peers.excluded.len().saturating_sub(LINES_MAX);
    lines.extend((more > 0).then(|| format!("{more} more nodes of the list are left out")));
    lines
}

/// One address family of the fabric.
struct OfFamily<'a> {
    settings: &'a Settings,
    peers: &'a Peers,
    facts: &'a Facts,
    family: Family,
}

impl OfFamily<'_> {
    fn describe(&self, desired: &mut Desired) {
        let own = &self.peers.me;
        if own.address(self.family).is_none() {
            return;
        }
        let blackholes = own.pod_cidrs(self.family).filter(|cidr| !is_single(cidr));
        desired.objects.routes.extend(blackholes.map(|destination| self.route(destination, None)));
        let serves = own.pod_cidrs(self.family).next().is_some();
        // A node that is alone in its list has its routes from a routing daemon,
        // which needs the device to put them on.
        let others = &self.peers.others;
        let anyone = match others.is_empty() {
            true => serves,
            false => others.iter().any(|peer| peer.pod_cidrs(self.family).next().is_some()),
        };
        if serves && self.settings.manage_forwarding {
            // First: a router that begins to forward forgets what it was advertised.
            let heeding = self.facts.heeding.iter().filter(|_| self.family == Family::V6);
            desired.objects.sysctls.extend(heeding.map(|link| forwarding::heed(link)));
            desired.objects.sysctls.push(Sysctl::new(forwarding::key(self.family), 1));
        }
        let wrapping = if anyone { self.wrapping(desired) } else { Wrapping::None };
        let mut remarks = Remarks::default();
        for peer in others {
            self.towards(peer, &wrapping, desired, &mut remarks);
            if serves && peer.address(self.family).is_some() {
                desired.remote.extend(peer.pod_cidrs(self.family));
            }
        }
        remarks.tell(desired);
        if let Wrapping::Tunnel(tunnel) = wrapping {
            let set = |value| Setting { device: tunnel.name.clone(), value };
            let mark = Value::Mark(Mark::Ours(tunnel.protocol));
            desired
                .objects
                .settings
                .extend([mark, Value::Mtu(tunnel.mtu), Value::Up(true)].map(set));
            desired.objects.tunnels.push(tunnel);
        }
    }

    /// This node's tunnel device, in the modes that have one.
    fn wrapping(&self, desired: &mut Desired) -> Wrapping {
        let me = &self.peers.me;
        let (name, kind) = match self.settings.mode {
            Mode::Direct => return Wrapping::None,
            Mode::Ipip if self.family == Family::V6 => {
                let why = "IP in IP carries IPv4 only: IPv6 pods are reached by plain routes";
                desired.notes.push(why.to_owned());
                return Wrapping::None;
            }
            Mode::Ipip => (IPIP_DEVICE.to_owned(), TunnelKind::Ipip),
            Mode::Vxlan => {
                let found = me.address(self.family).map(|local| (local, self.device_of(local)));
                let (local, parent) = match found {
                    Some((local, Some(parent))) => (local, parent),
                    Some((local, None)) => {
                        let why = format!("{}: no device of this machine has {local}", me.name);
                        desired.not_ready.push(why);
                        return Wrapping::Impossible;
                    }
                    None => return Wrapping::Impossible,
                };
                let kind = TunnelKind::Vxlan {
                    vni: self.settings.keys.vni,
                    port: self.settings.keys.port,
                    local,
                    parent,
                    mac: me.tunnel_mac(self.family),
                };
                (self.settings.vxlan_device(self.family), kind)
            }
        };
        let (address, taken) = self.own_tunnel_address(&name, desired);
        let mtu = self.mtu(desired);
        if self.family == Family::V6 && mtu < IPV6_MIN {
            let why = format!(
                "{name}: IPv6 does not go through a tunnel of {mtu} bytes; it needs {IPV6_MIN}, \
                 and the encapsulation {} more",
                self.settings.overhead(self.family)
            );
            // Peers that need no tunnel do without.
            let whose = match self.peers.others.is_empty() {
                true => &mut desired.not_ready,
                false => &mut desired.wanting,
            };
            whose.push(why);
            return Wrapping::Impossible;
        }
        let on_it = |address| Address { device: name.clone(), address };
        desired.objects.addresses.extend(address.map(on_it));
        desired.taken.extend(taken.map(on_it));
        Wrapping::Tunnel(Tunnel { name, mtu, protocol: self.settings.keys.protocol, kind })
    }

    /// The address of this node's tunnel device; else one that it may not have, for a
    /// pod has it.
    fn own_tunnel_address(
        &self,
        name: &str,
        desired: &mut Desired,
    ) -> (Option<IpNetwork>, Option<IpNetwork>) {
        let me = &self.peers.me;
        let Some(address) = me.tunnel_address(self.family) else {
            desired.notes.push(format!(
                "{}: neither podCIDRs nor tunnelAddresses give {name} an address, so what this \
                 node itself sends to pods bears that of another device",
                me.name
            ));
            return (None, None);
        };
        let Some(holder) = self.facts.taken.get(&address) else {
            return (Some(address.into()), None);
        };
        desired.wanting.push(format!(
            "{}: {name} cannot have the address {address}, which is {holder}: give the node \
             another one in tunnelAddresses, on every node",
            me.name
        ));
        (None, Some(address.into()))
    }

    /// The MTU of encapsulated traffic: that of the narrowest way to any peer less
    /// the overhead, or a smaller one that is configured.
    fn mtu(&self, desired: &mut Desired) -> u32 {
        let overhead = self.settings.overhead(self.family);
        let narrowest = self.facts.narrowest(Some(self.family));
        let Some(Uplink { device, mtu: limit }) = narrowest else {
            return self.settings.mtu.unwrap_or(FALLBACK.saturating_sub(overhead));
        };
        let fitting = limit.saturating_sub(overhead);
        match self.settings.mtu {
            Some(mtu) if mtu > fitting => {
                desired.notes.push(format!(
                    "mtu {mtu} is above {fitting} ({device}'s {limit} less {overhead} of \
                     overhead), which tunnel and routes have instead"
                ));
                fitting
            }
            Some(mtu) => mtu,
            None => fitting,
        }
    }

    fn device_of(&self, address: IpAddr) -> Option<String> {
        let own = self.facts.addresses.iter().find(|(own, _)| own.ip() == address);
        own.map(|(_, device)| device.clone())
    }

    /// Routes to one peer's pods, and what its tunnel end needs.
    fn towards(
        &self,
        peer: &Node,
        wrapping: &Wrapping,
        desired: &mut Desired,
        remarks: &mut Remarks,
    ) {
        let mut cidrs: Vec<IpNetwork> = peer.pod_cidrs(self.family).collect();
        let Some(address) = peer.address(self.family) else { return };
        if let Wrapping::Tunnel(_) = wrapping {
            // What the node itself sends comes from there.
            cidrs.extend(
                peer.tunnel_outside(self.family)
                    .filter(|_| self.encapsulates(address, self.facts.paths.get(&address))),
            );
        }
        if cidrs.is_empty() {
            return;
        }
        let path = self.facts.paths.get(&address);
        if path.is_none() {
            // A tunnel's route is made all the same: packets fare as the way there.
            remarks.lost.push((peer.name.clone(), address));
        }
        let hop = match wrapping {
            Wrapping::Tunnel(tunnel) if self.encapsulates(address, path) => {
                self.through(tunnel, peer, address, desired)
            }
            Wrapping::Impossible if self.encapsulates(address, path) => None,
            _ => self.plainly(peer, address, path, remarks),
        };
        if path.is_none() || hop.is_none() {
            desired.cut_off.extend(peer.pod_cidrs(self.family));
        }
        let Some(hop) = hop else { return };
        let route = |destination| self.route(destination, Some(&hop));
        desired.objects.routes.extend(cidrs.into_iter().map(route));
    }

    /// A route to peers' pods, or to nowhere: this node's own pods have longer routes,
    /// and a gone pod's address must not leave by the default route.
    fn route(&self, destination: IpNetwork, hop: Option<&Hop>) -> Route {
        let route = route::Route {
            protocol: self.settings.keys.protocol,
            priority: Some(self.settings.metric(hop.is_none(), self.family)),
            ..route::Route::new(destination)
        };
        match hop {
            None => Route::blackhole(route),
            Some(Hop { gateway, device, onlink, mtu }) => {
                let (gateway, onlink, mtu) = (Some(*gateway), *onlink, *mtu);
                Route::through(device, route::Route { gateway, onlink, mtu, ..route })
            }
        }
    }

    /// Whether packets to a peer are wrapped.
    fn encapsulates(&self, address: IpAddr, path: Option<&Path>) -> bool {
        match self.settings.keys.cross_subnet {
            CrossSubnet::Off => true,
            CrossSubnet::Mask => {
                let own = self.peers.me.address(self.family);
                let subnet = self.facts.addresses.iter().find(|(net, _)| Some(net.ip()) == own);
                !subnet.is_some_and(|(net, _)| net.contains(address))
            }
            CrossSubnet::Route => path.is_none_or(|path| path.gateway.is_some()),
        }
    }

    fn through(
        &self,
        tunnel: &Tunnel,
        peer: &Node,
        address: IpAddr,
        desired: &mut Desired,
    ) -> Option<Hop> {
        let device = tunnel.name.clone();
        let mtu = Some(tunnel.mtu);
        if matches!(tunnel.kind, TunnelKind::Ipip) {
            return Some(Hop { gateway: address, device, onlink: true, mtu });
        }
        let gateway = peer.tunnel_address(self.family)?;
        let mac = peer.tunnel_mac(self.family);
        let neighbour = Neighbour { device: device.clone(), address: gateway, mac };
        desired.objects.neighbours.push(neighbour);
        desired.objects.forwarding.push(Forwarding { device: device.clone(), mac, node: address });
        Some(Hop { gateway, device, onlink: true, mtu })
    }

    /// A plain route: to the peer itself where it is on the link, else through
    /// the router that leads to it, which then has to know the pods as well.
    fn plainly(
        &self,
        peer: &Node,
        address: IpAddr,
        path: Option<&Path>,
        remarks: &mut Remarks,
    ) -> Option<Hop> {
        let path = path?;
        let device = path.device.clone();
        let Some(router) = path.gateway else {
            return Some(Hop { gateway: address, device, onlink: true, mtu: None });
        };
        remarks.behind.entry(router).or_default().push((peer.name.clone(), address));
        Some(Hop { gateway: router, device, onlink: path.onlink, mtu: None })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn peers() -> Peers {
        let text = r#"{"self": "a", "nodes": [
            {"name": "a", "addresses": ["192.0.2.1", "2001:db8::1"],
             "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]},
            {"name": "b", "addresses": ["192.0.2.2", "2001:db8::2"],
             "podCIDRs": ["10.2.0.0/24", "fd00:2::/64"]},
            {"name": "c", "addresses": ["198.51.100.3"], "podCIDRs": ["10.3.0.0/24"]}]}"#;
        Peers::parse(text.as_bytes(), &|_| false).unwrap()
    }

    fn facts() -> Facts {
        let path = |gateway: Option<&str>| Path {
            device: "eth0".into(),
            narrowest: Uplink { device: "eth0".into(), mtu: 1500 },
            gateway: gateway.map(|text| text.parse().unwrap()),
            onlink: false,
        };
        Facts {
            addresses: vec![
                ("192.0.2.1/24".parse().unwrap(), "eth0".into()),
                ("2001:db8::1/64".parse().unwrap(), "eth0".into()),
            ],
            paths: HashMap::from([
                ("192.0.2.2".parse().unwrap(), path(None)),
                ("2001:db8::2".parse().unwrap(), path(None)),
                ("198.51.100.3".parse().unwrap(), path(Some("192.0.2.254"))),
            ]),
            ..Facts::default()
        }
    }

    fn lines(settings: &Settings) -> Vec<String> {
        let desired = describe(settings, &peers(), &facts());
        desired.objects.routes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn direct_routes_go_to_the_node_or_to_its_router() {
        let desired = describe(&Settings::of_mode(Mode::Direct), &peers(), &facts());
        assert_eq!(
            lines(&Settings::of_mode(Mode::Direct)),
            [
                "blackhole 10.1.0.0/24 metric 4294967295",
                "10.2.0.0/24 via 192.0.2.2 dev eth0 onlink",
                "10.3.0.0/24 via 192.0.2.254 dev eth0",
                "blackhole fd00:1::/64 metric 4294967295",
                "fd00:2::/64 via 2001:db8::2 dev eth0 onlink",
            ]
        );
        assert_eq!(desired.objects.tunnels, []);
        assert!(desired.notes[0].contains("192.0.2.254"), "{:?}", desired.notes);
    }

    #[test]
    fn ipip_routes_are_calicos() {
        let settings = Settings::of_mode(Mode::Ipip);
        assert_eq!(
            lines(&settings)[..3],
            [
                "blackhole 10.1.0.0/24 metric 4294967295",
                "10.2.0.0/24 via 192.0.2.2 dev tunl0 onlink mtu 1480",
                "10.3.0.0/24 via 198.51.100.3 dev tunl0 onlink mtu 1480",
            ]
        );
        let desired = describe(&settings, &peers(), &facts());
        assert_eq!(desired.objects.tunnels.len(), 1);
        let address = "10.1.0.0/32".parse().unwrap();
        assert_eq!(desired.objects.addresses, [Address { device: "tunl0".into(), address }]);
    }

    #[test]
    fn cross_subnet_wraps_only_what_leaves_the_subnet() {
        for cross_subnet in [CrossSubnet::Mask, CrossSubnet::Route] {
            let mut settings = Settings::of_mode(Mode::Ipip);
            settings.keys.cross_subnet = cross_subnet;
            assert_eq!(
                lines(&settings)[1..3],
                [
                    "10.2.0.0/24 via 192.0.2.2 dev eth0 onlink",
                    "10.3.0.0/24 via 198.51.100.3 dev tunl0 onlink mtu 1480",
                ]
            );
        }
    }

    #[test]
    fn vxlan_has_a_neighbour_and_a_forwarding_entry_for_each_peer() {
        let desired = describe(&Settings::of_mode(Mode::Vxlan), &peers(), &facts());
        let names: Vec<_> =
            desired.objects.tunnels.iter().map(|tunnel| tunnel.name.as_str()).collect();
        assert_eq!(names, ["vxlan.calico", "vxlan-v6.calico"]);
        assert_eq!((desired.objects.tunnels[0].mtu, desired.objects.tunnels[1].mtu), (1450, 1430));
        assert_eq!((desired.objects.neighbours.len(), desired.objects.forwarding.len()), (3, 3));
        let line = desired.objects.routes[1].to_string();
        assert_eq!(line, "10.2.0.0/24 via 10.2.0.0 dev vxlan.calico onlink mtu 1450");
    }

    #[test]
    fn a_peer_without_a_route_is_told_and_left_out() {
        let mut facts = facts();
        facts.paths.clear();
        let desired = describe(&Settings::of_mode(Mode::Direct), &peers(), &facts);
        assert!(desired.objects.routes.iter().all(Route::is_blackhole));
        assert!(desired.wanting.iter().any(|note| note.contains("no route to 192.0.2.2")));
        let cut_off = desired.remote.iter().filter(|cidr| desired.cut_off.contains(cidr));
        assert_eq!(cut_off.count(), 3, "the pods of b in both families, and those of c");
    }
}
