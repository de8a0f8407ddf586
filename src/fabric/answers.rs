// SPDX-License-Identifier: Apache-2.0
//! What the kernel answered of the ways to peers, kept from one comparison to the next, so
//! that thousands of peers are asked about once. Pure: who asks, and who hears of events,
//! is not known here.
//!
//! An answer holds until an event says that it may be another one. A route decides about
//! the addresses in its destination and no others, in whichever table it is; a link about
//! those of the routes through it, which IPv4 takes away with the link without a word of
//! each. What is not told so closely drops all.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use crate::list::Gather;
use crate::net::{Event, route::Found};

/// Answers about the ways to addresses.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    known: BTreeMap<IpAddr, Answer>,
    /// The routes that lead to any of them.
    routes: Vec<Route>,
    /// The neighbours of which the last event said that they answer, by their links: as far as
    /// such routes lead by them.
    answering: BTreeSet<(u32, IpAddr)>,
    /// The links whose neighbours and forwarding entries are compared, once that is known.
    tunnels: Option<BTreeSet<u32>>,
    /// Which comparison this is, that of all fabrics being one.
    comparison: u64,
    /// How many addresses it wants to know of.
    wanted: usize,
}

/// As much of a route as events tell of.
#[derive(Clone, Debug)]
struct Route {
    destination: IpNetwork,
    devices: Vec<u32>,
    gateways: Vec<IpAddr>,
}

/// What is known of one address.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The path that packets take, if there is one.
    pub path: Option<Found>,
    /// The entry of the routing tables, where that was asked for.
    pub entry: Option<Box<Option<Found>>>,
    /// The last comparison that wanted it.
    comparison: u64,
}

impl Answers {
    /// Begins a comparison. What the last one did not want of the most that is known is of no
    /// use any more.
    pub fn begin(&mut self) {
        if self.known.len() > 2 * self.wanted {
            self.known.retain(|_, answer| answer.comparison == self.comparison);
        }
        self.comparison += 1;
        self.wanted = 0;
    }

    /// Those of these addresses of which nothing is known, to be asked about.
    pub fn unknown(&mut self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        self.wanted += addresses.len();
        let mut unknown = Vec::new();
        for address in addresses {
            match self.known.get_mut(address) {
                Some(answer) => answer.comparison = self.comparison,
                None => unknown.push(*address),
            }
        }
        unknown
    }

    /// Notes the paths to addresses.
    pub fn learn(&mut self, addresses: Vec<IpAddr>, paths: Vec<Option<Found>>) {
        let comparison = self.comparison;
        let answers = paths.into_iter().map(|path| Answer { path, entry: None, comparison });
        let answers = addresses.into_iter().zip(answers);
        // Thousands at once are put in order faster than one by one.
        match self.known.is_empty() {
            true => self.known = answers.collect(),
            false => self.known.extend(answers),
        }
    }

    /// Notes which of all routes these answers come from.
    pub fn learn_routes<'a>(&mut self, all: impl Iterator<Item = &'a Found>) {
        let known = &self.known;
        let leads = |found: &&Found| is_any_in(known, &found.route.destination);
        self.routes = all.filter(leads).map(Route::of).gather();
    }

    /// Notes the links whose neighbours and forwarding entries are compared.
    pub fn learn_tunnels(&mut self, links: impl Iterator<Item = u32>) {
        self.tunnels = Some(links.gather_set());
    }

    /// What is known of an address.
    pub fn of(&mut self, address: IpAddr) -> Option<&mut Answer> {
        self.known.get_mut(&address)
    }

    /// Drops what may be another answer by now. Whether the event is of anything that is
    /// compared: the kernel tells of each neighbour on any link whenever it is asked for again.
    pub fn forget(&mut self, event: &Event) -> bool {
        match event {
            Event::Forwarding(link) => return self.is_tunnel(*link),
            Event::Route(destination) => self.forget_within(destination),
            Event::Link(index) => {
                let through = self.routes.iter().filter(|route| route.devices.contains(index));
                let lost: Vec<IpNetwork> = through.map(|route| route.destination).gather();
                lost.iter().for_each(|destination| self.forget_within(destination));
            }
            Event::Neighbour { link, address, answers } => {
                let is_compared = self.is_tunnel(*link) && !address.is_multicast();
                return self.forget_behind((*link, *address), *answers) || is_compared;
            }
            Event::Other => {
                self.known.clear();
                self.answering.clear();
            }
        }
        true
    }

    fn is_tunnel(&self, link: u32) -> bool {
        self.tunnels.as_ref().is_none_or(|tunnels| tunnels.contains(&link))
    }

    /// Of several paths the kernel prefers one whose router answers. Of IPv6 it may as well go
    /// back to a wider route (`fib6_table_lookup`, net/ipv6/route.c). That a router still answers
    /// changes nothing. True where there are such routes.
    fn forget_behind(&mut self, router: (u32, IpAddr), answers: bool) -> bool {
        // Whether any route leads by it now or not: one may again before it answers.
        if !answers {
            self.answering.remove(&router);
        }
        let leads = |route: &&Route| route.gateways.contains(&router.1);
        let mut through: Vec<IpNetwork> =
            self.routes.iter().filter(leads).map(|route| route.destination).gather();
        through.retain(|to| to.is_ipv6() || self.paths(to) > 1);
        if through.is_empty() || answers && !self.answering.insert(router) {
            return false;
        }
        through.iter().for_each(|destination| self.forget_within(destination));
        true
    }

    /// How many paths there are to a destination, in all tables.
    fn paths(&self, destination: &IpNetwork) -> usize {
        let same = self.routes.iter().filter(|route| route.destination == *destination);
        same.map(|route| route.gateways.len().max(route.devices.len())).sum()
    }

    fn forget_within(&mut self, destination: &IpNetwork) {
        let within = destination.network()..=destination.broadcast();
        let lost: Vec<IpAddr> = self.known.range(within).map(|(address, _)| *address).gather();
        lost.iter().for_each(|address| drop(self.known.remove(address)));
    }
}

impl Route {
    fn of(found: &Found) -> Self {
        let Found { devices, gateways, .. } = found;
        let destination = found.route.destination;
        Self { destination, devices: devices.clone(), gateways: gateways.clone() }
    }
}

fn is_any_in(known: &BTreeMap<IpAddr, Answer>, destination: &IpNetwork) -> bool {
    // Of most routes, those to pods, that is soon told.
    let (Some((first, _)), Some((last, _))) = (known.first_key_value(), known.last_key_value())
    else {
        return false;
    };
    if destination.broadcast() < *first || destination.network() > *last {
        return false;
    }
    known.range(destination.network()..=destination.broadcast()).next().is_some()
}

#[cfg(test)]
mod tests;
