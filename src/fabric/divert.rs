// SPDX-License-Identifier: Apache-2.0
//! What takes packets to a peer's pods elsewhere although the route to them is there: a
//! longer prefix inside of theirs, or a policy rule that leads to another table.
//!
//! Both are looked for among all routes and rules. Whether one does, the kernel knows
//! best: it is asked about an address inside of each such prefix, and where there are
//! rules about one more of each peer's. Pure; how it is asked is not known here.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;

use super::faults::contains;
use crate::{
    family::HasFamily,
    list::{Gather, PushAll},
    net::{
        route::{Found, Kind, TABLE_MAIN},
        rule::Rule,
    },
    object::{Diversion, HeldRoute, Managed, Route, diff::Object},
};

/// Networks that do not overlap, by their first addresses.
#[derive(Clone, Debug, Default)]
pub struct Networks(BTreeMap<IpAddr, IpNetwork>);

impl Networks {
    /// These networks.
    pub fn of(networks: impl IntoIterator<Item = IpNetwork>) -> Self {
        Self(networks.into_iter().map(|network| (network.network(), network)).gather_map())
    }

    /// The pods of all peers that have a route.
    pub fn of_peers<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Self {
        let led = |route: &&Route| !route.is_blackhole();
        Self::of(routes.into_iter().filter(led).map(Route::destination))
    }

    /// The one that all of `inner` is in.
    pub fn around(&self, inner: &IpNetwork) -> Option<IpNetwork> {
        let (_, outer) = self.0.range(..=inner.network()).next_back()?;
        contains(outer, inner).then_some(*outer)
    }
}

/// What to ask of a route that is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// The address.
    pub address: IpAddr,
    wanted: Route,
    /// The longer prefix.
    by: Option<HeldRoute>,
}

/// Whether a rule is none of those that the kernel begins with: local, main, default.
pub fn is_of_somebody(rule: &Rule) -> bool {
    const KERNELS: [(u32, u32); 3] = [(0, 255), (32_766, TABLE_MAIN), (32_767, 253)];
    !KERNELS.contains(&(rule.priority, rule.table)) || rule.source.prefix() != 0
}

/// What to ask, where `rules` of others are there or not.
pub fn questions(wanted: &[&Route], routes: &[HeldRoute], rules: bool) -> Vec<Question> {
    let peers = Networks::of_peers(wanted.iter().copied());
    let mut inside: HashMap<IpNetwork, Vec<&HeldRoute>> = HashMap::new();
    for route in routes {
        let plain = route.found.route.tos == 0 && route.found.route.kind != Kind::Throw;
        let foreign = !route.ours && !route.on_host_link && !route.found.local;
        let outer = peers.around(&route.destination()).filter(|_| plain && foreign);
        if let Some(outer) = outer.filter(|outer| *outer != route.destination()) {
            inside.entry(outer).or_default().push(route);
        }
    }
    if inside.is_empty() && !rules {
        return Vec::new();
    }
    // What is still to be made leads nowhere yet.
    let key = |route: &HeldRoute| (route.destination(), route.metric());
    let held: HashMap<_, _> =
        routes.iter().filter(|route| route.ours).map(|route| (key(route), route)).collect();
    let mut questions = Vec::new();
    for wanted in wanted.iter().filter(|route| !route.is_blackhole()) {
        let longer = inside.get(&wanted.destination()).map(Vec::as_slice).unwrap_or_default();
        questions.push_all(longer.iter().map(|route| Question {
            address: address_in(&route.destination(), &[]),
            wanted: (*wanted).clone(),
            by: Some((*route).clone()),
        }));
        let made = held.get(&(wanted.destination(), wanted.metric()));
        if rules && made.is_some_and(|route| wanted.is(route)) {
            let but: Vec<IpNetwork> = longer.iter().map(|route| route.destination()).gather();
            let address = address_in(&wanted.destination(), &but);
            questions.push(Question { address, wanted: (*wanted).clone(), by: None });
        }
    }
    questions
}

/// What leads elsewhere by these answers, one for each question. Where there are none,
/// a longer prefix does.
pub fn judge(
    questions: Vec<Question>,
    answers: Option<Vec<Option<Found>>>,
    indexes: &HashMap<String, u32>,
) -> Vec<Diversion> {
    let mut answers = answers.map(Vec::into_iter);
    let mut diversions = Vec::new();
    for Question { address, wanted, by } in questions {
        let told = by.as_ref().map(ToString::to_string);
        let by = match answers.as_mut().map(|answers| answers.next().flatten()) {
            None => told,
            Some(Some(found)) if leads(&found, &wanted, indexes) => None,
            Some(Some(found)) => told.or_else(|| Some(by_rule(address, &found, indexes))),
            Some(None) => told.or_else(|| Some(format!("a policy rule: {address} leads nowhere"))),
        };
        diversions.push_all(by.map(|by| Diversion { wanted, by }));
    }
    diversions
}

fn leads(found: &Found, wanted: &Route, indexes: &HashMap<String, u32>) -> bool {
    let Some(device) = wanted.device() else { return false };
    found.route.gateway == wanted.gateway() && found.device() == indexes.get(device).copied()
}

fn by_rule(address: IpAddr, found: &Found, indexes: &HashMap<String, u32>) -> String {
    let mut words = format!("a policy rule: {address}");
    if let Some(gateway) = found.route.gateway {
        words += &format!(" via {gateway}");
    }
    let device = indexes.iter().find(|(_, index)| found.device() == Some(**index));
    if let Some((name, _)) = device {
        words += &format!(" dev {name}");
    }
    words + &format!(" table {}", found.route.table)
}

/// An address in a network, in none of these parts of it where there is one: neither its
/// first nor its last, which may be no host's.
pub fn address_in(network: &IpNetwork, but: &[IpNetwork]) -> IpAddr {
    let full = u32::from(network.family().bits());
    let bits = full - u32::from(network.prefix()).min(full);
    let size = 1_u128.checked_shl(bits).unwrap_or(u128::MAX);
    let half = size / 2;
    let offsets = [half, size / 4, size - size / 4, 1, size.saturating_sub(2)];
    let at = |offset: u128| match network.network() {
        IpAddr::V4(ip) => {
            let offset = u32::try_from(offset.min(size - 1)).unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits().saturating_add(offset)))
        }
        IpAddr::V6(ip) => {
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits().saturating_add(offset.min(size - 1))))
        }
    };
    let free = |address: &IpAddr| !but.iter().any(|part| part.contains(*address));
    offsets.into_iter().map(at).find(free).unwrap_or_else(|| at(half))
}

#[cfg(test)]
mod tests;
