// SPDX-License-Identifier: Apache-2.0
//! From the configuration, the peers and the facts of this node to the
//! description of its fabric: one pure function, which knows no kernel.

mod remarks;
#[cfg(test)]
mod tests;
mod wrapping;

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{
    desired::{Desired, Facts, Path},
    encapsulation::Peer,
    peers::{Node, Peers},
    settings::Settings,
};
use crate::{
    conf::CrossSubnet,
    family::{Family, is_single},
    list::Gather,
    net::{forwarding, route},
    object::{LOOSE, Mark, Route, Setting, Sysctl, Tunnel, Value},
};
use remarks::{Remarks, excluded};
use wrapping::{OfFamily, Wrapping};

/// The way to a peer.
struct Hop {
    gateway: IpAddr,
    device: String,
    /// The gateway is on the device's link whatever the routes say.
    onlink: bool,
    /// Path MTU in bytes, for encapsulated routes.
    mtu: Option<u32>,
}

/// Describes the fabric. Pure: the same input gives the same description.
pub fn describe(settings: &Settings, peers: &Peers, facts: &Facts) -> Desired {
    let mut desired = Desired { excluded: excluded(peers), ..Desired::default() };
    for family in Family::BOTH {
        OfFamily { settings, peers, facts, family }.describe(&mut desired);
    }
    desired
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
        let own = match wrapping {
            Wrapping::Tunnel(_, tunnel) => Some(tunnel),
            Wrapping::None | Wrapping::Impossible => None,
        };
        let is_own = |other: &Tunnel| own.as_ref().is_some_and(|own| own.name == other.name);
        // A node whose own packets go by the one way gets those of others by the other. A
        // device that goes on keeps this afterwards: what it had before is not known.
        let takes_both = self.family == Family::V4 && self.settings.keys.file.accepted().is_some();
        let accepted = self.accepted().filter(|(other, _)| anyone && !is_own(other));
        let (accepted, address) = accepted.unzip();
        desired.objects.addresses.extend(address.flatten());
        for tunnel in own.into_iter().chain(accepted) {
            let set = |value| Setting { device: tunnel.name.clone(), value };
            let mark = Value::Mark(Mark::Ours(tunnel.protocol));
            let loose = takes_both.then_some(LOOSE);
            let settings = [mark, Value::Mtu(tunnel.mtu), Value::Up(true)].into_iter().chain(loose);
            desired.objects.settings.extend(settings.map(set));
            desired.objects.tunnels.push(tunnel);
        }
    }

    /// Routes to one peer's pods, and what its tunnel end needs.
    fn towards(
        &self,
        peer: &Node,
        wrapping: &Wrapping,
        desired: &mut Desired,
        remarks: &mut Remarks,
    ) {
        let mut cidrs: Vec<IpNetwork> = peer.pod_cidrs(self.family).gather();
        let Some(address) = peer.address(self.family) else { return };
        if let Wrapping::Tunnel(..) = wrapping {
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
            Wrapping::Tunnel(encapsulation, tunnel) if self.encapsulates(address, path) => {
                let peer = Peer { node: peer, address, family: self.family };
                let gateway = encapsulation.entries(&tunnel.name, &peer, &mut desired.objects);
                let (device, mtu) = (tunnel.name.clone(), Some(tunnel.mtu));
                gateway.map(|gateway| Hop { gateway, device, onlink: true, mtu })
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
