// SPDX-License-Identifier: Apache-2.0
//! Routes, and which of several to one destination the kernel takes.

use std::{
    cell::LazyCell,
    collections::{HashMap, HashSet},
    fmt,
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::{
    diff::{self, Object, Step},
    managed::{Indexes, Managed, Present, Work},
    told::Kind,
};
use crate::{
    family::{Family, HasFamily},
    list::{Gather, Ordered},
    net::{
        Request,
        route::{self, Found, PROTOCOL_KERNEL},
    },
};

/// The metric that the kernel gives an IPv6 route without one
/// (IP6_RT_PRIO_USER, include/net/ip6_route.h).
const METRIC_IPV6: u32 = 1024;

/// The metric of a route that was made without one.
pub fn default_metric(family: Family) -> u32 {
    match family {
        Family::V4 => 0,
        Family::V6 => METRIC_IPV6,
    }
}

/// The metric of a route as the kernel has it. With destination and table it is the key
/// of a route without a type of service, as all of ours are; the lowest wins.
fn metric(route: &route::Route) -> u32 {
    route.priority.unwrap_or(default_metric(route.destination.family()))
}

/// A route, and the name of the device that it leads through; none where it leads
/// nowhere.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    device: Option<String>,
    route: route::Route,
}

impl Route {
    /// A route through a device.
    pub fn through(device: impl Into<String>, route: route::Route) -> Self {
        Self { device: Some(device.into()), route }.normal()
    }

    /// A route to nowhere: packets to what no longer route leads to are dropped.
    pub fn blackhole(route: route::Route) -> Self {
        let route = route::Route { kind: route::Kind::Blackhole, ..route };
        Self { device: None, route }.normal()
    }

    /// The family's own metric needs no mention, however it was given.
    fn normal(mut self) -> Self {
        let default = default_metric(self.route.destination.family());
        self.route.priority = self.route.priority.filter(|metric| *metric != default);
        self
    }

    /// Where the packets are to go.
    pub fn destination(&self) -> IpNetwork {
        self.route.destination
    }

    /// As the kernel has it.
    pub fn metric(&self) -> u32 {
        metric(&self.route)
    }

    /// The next hop.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.route.gateway
    }

    /// What a packet may have at most, in bytes, where that is told.
    pub fn mtu(&self) -> Option<u32> {
        self.route.mtu
    }

    /// Whether it leads nowhere.
    pub fn is_blackhole(&self) -> bool {
        self.route.kind == route::Kind::Blackhole
    }

    /// Lowers what a packet may have, where that is told.
    pub fn narrow(&mut self, bytes: u32) {
        self.route.mtu = self.route.mtu.map(|_| bytes);
    }

    /// Without the device.
    pub fn plain(&self) -> &route::Route {
        &self.route
    }

    fn place(&self) -> Place {
        (self.route.destination, self.route.table)
    }

    fn request(
        &self,
        indexes: &Indexes,
        make: impl Fn(&route::Route, u32) -> Request,
    ) -> Option<Request> {
        let index = match &self.device {
            Some(device) => *indexes.get(device)?,
            None => 0,
        };
        Some(make(&self.route, index))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = &self.route;
        if self.is_blackhole() {
            return write!(f, "blackhole {} metric {}", route.destination, self.metric());
        }
        write!(f, "{}", route.destination)?;
        if let Some(gateway) = route.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " dev {device}")?;
        }
        if route.onlink {
            write!(f, " onlink")?;
        }
        route.mtu.map_or(Ok(()), |mtu| write!(f, " mtu {mtu}"))
    }
}

/// A route that exists.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldRoute {
    /// As the kernel has it.
    pub found: Found,
    /// The device that it leads through, where that is one.
    pub device: Option<String>,
    /// Made by us, now or when our routes had another protocol.
    pub ours: bool,
    /// Its device is a pod's host link.
    pub on_host_link: bool,
}

impl HeldRoute {
    /// Where the packets are to go.
    pub fn destination(&self) -> IpNetwork {
        self.found.route.destination
    }

    /// As the kernel has it.
    pub fn metric(&self) -> u32 {
        metric(&self.found.route)
    }

    fn place(&self) -> Place {
        (self.found.route.destination, self.found.route.table)
    }

    /// Whether it has nothing that none of ours has: a source or a fixed MTU that
    /// nobody gave it makes it another route.
    pub fn is_plain(&self) -> bool {
        self.found.source.is_none() && !self.found.fixed_mtu
    }
}

impl fmt::Display for HeldRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let route = &self.found.route;
        write!(f, "{route}")?;
        let plain = self.is_plain() && route.advmss.is_none();
        if let (Some(device), Some(_), true) = (&self.device, route.gateway, plain) {
            write!(f, " dev {device}")?;
        }
        write!(f, " proto {}", route.protocol)?;
        if route.onlink {
            write!(f, " onlink")?;
        }
        if let Some(source) = self.found.source {
            write!(f, " src {source}")?;
        }
        if let Some(mtu) = route.mtu {
            write!(f, " mtu {}{mtu}", if self.found.fixed_mtu { "lock " } else { "" })?;
        }
        route.advmss.map_or(Ok(()), |advmss| write!(f, " advmss {advmss}"))
    }
}

impl Object for Route {
    type Held = HeldRoute;
    type Key<'a> = (IpNetwork, u32, u32);

    fn key(&self) -> (IpNetwork, u32, u32) {
        (self.destination(), self.metric(), self.route.table)
    }

    /// Without a type of service, as all of ours are.
    fn key_of(held: &HeldRoute) -> Option<(IpNetwork, u32, u32)> {
        let plain = held.found.route.tos == 0;
        plain.then(|| (held.destination(), held.metric(), held.found.route.table))
    }

    fn is_ours(held: &HeldRoute) -> bool {
        held.ours
    }

    fn is(&self, held: &HeldRoute) -> bool {
        let (own, there) = (&self.route, &held.found.route);
        let same =
            (own.kind, own.protocol, own.advmss) == (there.kind, there.protocol, there.advmss);
        let way = (own.gateway, own.onlink, own.mtu) == (there.gateway, there.onlink, there.mtu);
        let leads = self.is_blackhole() || way && self.device == held.device;
        same && leads && held.is_plain()
    }

    /// It leads to the same next hop, or is the node's own network on a link of the node.
    fn is_served_by(&self, held: &HeldRoute) -> bool {
        let there = &held.found.route;
        if held.ours || held.device.is_none() && there.kind == route::Kind::Unicast {
            return false;
        }
        match (self.is_blackhole(), there.kind) {
            (true, route::Kind::Blackhole) => true,
            (true, route::Kind::Unicast) => {
                there.gateway.is_none() && there.protocol == PROTOCOL_KERNEL
            }
            (false, route::Kind::Unicast) => {
                there.gateway == self.route.gateway && held.device == self.device
            }
            _ => false,
        }
    }
}

impl Present<Route> for HeldRoute {
    fn name(&self) -> String {
        format!("route {}", self.destination())
    }

    fn value(&self) -> String {
        self.to_string()
    }

    fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    fn of_made(object: &Route, indexes: &Indexes) -> Option<Self> {
        let index = object.device.as_ref().and_then(|device| indexes.get(device));
        let found = Found::new(object.route.clone(), index.copied().into_iter().gather());
        let (ours, on_host_link) = (true, false);
        Some(Self { found, device: object.device.clone(), ours, on_host_link })
    }
}

impl Managed for Route {
    const KIND: Kind = Kind::Route;

    fn name(&self) -> String {
        format!("route {}", self.destination())
    }

    fn value(&self) -> String {
        self.to_string()
    }

    fn work(step: &Step<Self>, indexes: &Indexes) -> Work {
        match step {
            Step::Create(wanted) => wanted.request(indexes, route::Route::create).into(),
            Step::Replace(wanted, _) => wanted.request(indexes, route::Route::replace).into(),
            Step::Foreign(..) => Work::Nothing,
            Step::Delete(HeldRoute { found, .. }) => {
                Work::Message(found.route.delete(found.device().unwrap_or_default()))
            }
        }
    }

    /// Routes of one key are compared as objects are. Besides, one of somebody else with a
    /// lower metric decides where packets go, whatever ours says: it is in the way, or
    /// does as well.
    fn diff(wanted: &[&Self], held: &[&HeldRoute]) -> Vec<Step<Self>> {
        let best = best_of_others(held);
        let before = |wanted: &Self| {
            best.get(&wanted.place()).copied().filter(|one| one.metric() < wanted.metric())
        };
        let serves = |wanted: &Self| before(wanted).is_some_and(|one| wanted.is_served_by(one));
        // Rarely asked for.
        let ours = LazyCell::new(|| {
            let ours = held.iter().filter(|held| held.ours).map(|held| held.place());
            ours.collect::<HashSet<_>>()
        });
        let has_one = |wanted: &Self| ours.contains(&wanted.place());
        let in_the_way = wanted.iter().filter(|wanted| !serves(wanted));
        let in_the_way = in_the_way.filter_map(|wanted| Some((*wanted, before(wanted)?)));
        let foreign =
            |(wanted, other): (&Self, &HeldRoute)| Step::Foreign(wanted.clone(), other.clone());
        let mut changes: Vec<Step<Self>> = in_the_way.map(foreign).gather();
        // Where we have one it stays: it takes over when the other one goes.
        let needed = wanted.iter().copied().filter(|wanted| !serves(wanted) || has_one(wanted));
        let mut steps = diff::diff(needed, held.iter().copied());
        steps.retain(|step| match step {
            Step::Foreign(wanted, _) => before(wanted).is_none(),
            Step::Delete(held) => !held.on_host_link,
            Step::Create(_) | Step::Replace(..) => true,
        });
        // In an order that does not depend on the kernel's list.
        steps.order_by_key(|step| match step {
            Step::Delete(held) => Some((held.destination(), held.metric())),
            _ => None,
        });
        changes.append(&mut steps);
        changes
    }

    fn lack(step: &Step<Self>, whose: &str) -> String {
        let Some(Self { device, route }) = step.wanted() else { return Self::told(step).words() };
        let device = device.as_deref().unwrap_or("no device");
        format!("{whose} route {route} is missing on {device}")
    }

    fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    fn concerns_all(&self) -> bool {
        self.is_blackhole()
    }

    fn leads_to(&self) -> Option<IpNetwork> {
        Some(self.route.destination)
    }

    /// The way to a route that the kernel refused for its next hop: the peer's
    /// tunnel address, which IPv6 looks up in spite of `onlink` and finds by the
    /// very route that is to be replaced, or by a wider one of somebody else, on
    /// another device (`ip6_route_check_nh_onlink`, net/ipv6/route.c). A route to
    /// that address alone shows it the right device for as long as it looks. One
    /// that a kill leaves is of our protocol, and the next pass removes it.
    fn detour(
        step: &Step<Self>,
        (refused, errno): (&Request, Errno),
        indexes: &Indexes,
    ) -> Vec<Request> {
        let (Step::Create(wanted) | Step::Replace(wanted, _)) = step else { return Vec::new() };
        // Only a route into a tunnel tells an MTU.
        let tunnelled = wanted.route.onlink && wanted.route.mtu.is_some();
        let gateway = wanted.route.gateway.filter(|gateway| gateway.is_ipv6() && tunnelled);
        let device = wanted.device.as_ref().and_then(|device| indexes.get(device));
        let (Some(gateway), Some(index), Errno::EINVAL) = (gateway, device, errno) else {
            return Vec::new();
        };
        let mut sign = route::Route::new(gateway.into());
        sign.protocol = wanted.route.protocol;
        // Of another key than the route itself, should that be to this address alone.
        sign.priority = Some(if wanted.metric() == 1 { 2 } else { 1 });
        vec![sign.create(*index).tolerate(Errno::EEXIST), refused.clone(), sign.delete(*index)]
    }
}

/// A destination and a table.
type Place = (IpNetwork, u32);

/// The route to each destination that the kernel takes of those of others: the one of
/// the lowest metric, and of several such the first in its list.
fn best_of_others<'a>(held: &[&'a HeldRoute]) -> HashMap<Place, &'a HeldRoute> {
    let mut best: HashMap<Place, &HeldRoute> = HashMap::new();
    for one in held.iter().filter(|held| !held.ours && held.found.route.tos == 0) {
        let known = best.entry(one.place()).or_insert(one);
        if one.metric() < known.metric() {
            *known = one;
        }
    }
    best
}

/// The routes of others that serve in place of ours, where we have none.
pub fn adopted<'a>(wanted: &[Route], held: &'a [HeldRoute]) -> Vec<&'a HeldRoute> {
    let held: Vec<&HeldRoute> = held.iter().gather();
    let best = best_of_others(&held);
    let ours = LazyCell::new(|| {
        let ours = held.iter().filter(|held| held.ours);
        ours.filter_map(|held| Route::key_of(held)).collect::<HashSet<_>>()
    });
    let of = |wanted: &Route| {
        let one = best.get(&wanted.place()).copied();
        let one = one.filter(|one| one.metric() <= wanted.metric() && wanted.is_served_by(one))?;
        (!ours.contains(&wanted.key())).then_some(one)
    };
    wanted.iter().filter_map(of).gather()
}
