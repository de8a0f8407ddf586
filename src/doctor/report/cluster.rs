// SPDX-License-Identifier: Apache-2.0
//! The nodes of several bundles as one cluster: who is who, and who is known by others
//! alone.

use std::{collections::HashMap, net::IpAddr};

use ipnetwork::IpNetwork;

use super::{
    probed::Probed,
    view::{Peer, View, Way},
};
use crate::fabric::standing::{Standing, State};
use crate::list::{Gather, Ordered};

/// A node of the cluster, by its place.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum End {
    /// One that gave a bundle.
    View(usize),
    /// One that others know.
    Other(usize),
}

/// All nodes.
pub struct Cluster {
    pub(super) views: Vec<View>,
    pub(super) others: Vec<Other>,
    pub(super) probes: Vec<Probed>,
    names: HashMap<String, End>,
    addresses: HashMap<IpAddr, End>,
    /// What all names end with.
    pub(super) domain: String,
}

/// A node that gave no bundle.
pub(super) struct Other {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) pod_cidrs: Vec<IpNetwork>,
    /// How many of the nodes that know it have what leads to it.
    pub(super) reachable: usize,
    /// How many lack something of that.
    pub(super) degraded: usize,
}

/// What a node has of another one.
pub(super) struct Link<'a> {
    pub(super) from: usize,
    pub(super) to: End,
    pub(super) way: &'a Way,
    pub(super) peer: &'a Peer,
}

impl Cluster {
    /// The cluster of these nodes, with what was measured between them.
    pub fn of(views: Vec<View>, probes: Vec<Probed>) -> Self {
        let (names, addresses) = (HashMap::new(), HashMap::new());
        let others = Vec::new();
        let mut cluster = Self { views, others, probes, names, addresses, domain: String::new() };
        for (place, view) in cluster.views.iter().enumerate() {
            let end = End::View(place);
            cluster.names.entry(view.name.clone()).or_insert(end);
            for address in view.own_addresses() {
                cluster.addresses.entry(address).or_insert(end);
            }
        }
        cluster.add_others();
        cluster.name_the_nameless();
        let names: Vec<&str> = cluster.ends().map(|end| cluster.name(end)).gather();
        cluster.domain = domain(&names).to_owned();
        cluster
    }

    /// A node without a list is called as the others call it.
    fn name_the_nameless(&mut self) {
        let named = |link: &Link<'_>| (link.to, link.peer.standing.name.clone());
        let given: HashMap<End, String> = self.links().map(|link| named(&link)).collect();
        for (place, view) in self.views.iter_mut().enumerate().filter(|(_, view)| !view.is_named) {
            if let Some(name) = given.get(&End::View(place)) {
                view.name.clone_from(name);
            }
        }
    }

    fn add_others(&mut self) {
        let (mut others, mut names, mut addresses) = (
            std::mem::take(&mut self.others),
            std::mem::take(&mut self.names),
            std::mem::take(&mut self.addresses),
        );
        let peers = self.views.iter().flat_map(|view| &view.ways).flat_map(|way| &way.peers);
        for Standing { name, addresses: own, pod_cidrs, state, .. } in
            peers.map(|peer| &peer.standing)
        {
            let known = names.get(name).or_else(|| own.iter().find_map(|ip| addresses.get(ip)));
            let place = match known {
                Some(End::View(_)) => continue,
                Some(End::Other(place)) => *place,
                None => {
                    let end = End::Other(others.len());
                    names.insert(name.clone(), end);
                    for address in own {
                        addresses.entry(*address).or_insert(end);
                    }
                    others.push(Other {
                        name: name.clone(),
                        addresses: own.clone(),
                        pod_cidrs: pod_cidrs.clone(),
                        reachable: 0,
                        degraded: 0,
                    });
                    others.len() - 1
                }
            };
            let Some(other) = others.get_mut(place) else { continue };
            match state {
                State::Reachable => other.reachable += 1,
                State::Degraded | State::Excluded => other.degraded += 1,
            }
        }
        (self.others, self.names, self.addresses) = (others, names, addresses);
    }

    /// Who that is, by the name or else by an address.
    pub(super) fn find(&self, name: &str, addresses: &[IpAddr]) -> Option<End> {
        let by_address = || addresses.iter().find_map(|address| self.addresses.get(address));
        self.names.get(name).or_else(by_address).copied()
    }

    pub(super) fn name(&self, end: End) -> &str {
        match end {
            End::View(place) => self.views.get(place).map(|view| view.name.as_str()),
            End::Other(place) => self.others.get(place).map(|other| other.name.as_str()),
        }
        .unwrap_or_default()
    }

    /// The name without what all end with.
    pub(super) fn short(&self, end: End) -> &str {
        let name = self.name(end);
        name.strip_suffix(&self.domain).unwrap_or(name)
    }

    /// What the nodes have of each other.
    pub(super) fn links(&self) -> impl Iterator<Item = Link<'_>> {
        self.views.iter().enumerate().flat_map(move |(from, view)| {
            view.ways.iter().flat_map(move |way| {
                way.peers.iter().filter_map(move |peer| {
                    let to = self.find(&peer.standing.name, &peer.standing.addresses)?;
                    (to != End::View(from)).then_some(Link { from, to, way, peer })
                })
            })
        })
    }

    /// All nodes, those first that gave a bundle.
    pub(super) fn ends(&self) -> impl Iterator<Item = End> {
        let others = (0..self.others.len()).map(End::Other);
        (0..self.views.len()).map(End::View).chain(others)
    }

    /// Two files that are of one node.
    pub fn twice(&self) -> Option<(&str, &str)> {
        let mut seen: HashMap<(&str, Vec<IpAddr>), &str> = HashMap::new();
        self.views.iter().find_map(|view| {
            let mut addresses = view.own_addresses();
            addresses.order();
            let file = seen.insert((&view.name, addresses), &view.file)?;
            Some((file, view.file.as_str()))
        })
    }

    /// A file of measurements whose node is not known.
    pub fn unknown_probe(&self) -> Option<&str> {
        let unknown = self.probes.iter().find(|probed| self.prober(probed).is_none());
        unknown.map(|probed| probed.file.as_str())
    }

    /// Who measured that.
    pub(super) fn prober(&self, probed: &Probed) -> Option<End> {
        self.find(probed.node.as_deref().unwrap_or_default(), &probed.sources)
    }
}

/// What all names end with, from a dot on.
fn domain<'a>(names: &[&'a str]) -> &'a str {
    let (Some(first), true) = (names.first(), names.len() > 1) else { return "" };
    let dots = first.match_indices('.').map(|(at, _)| first.get(at..).unwrap_or_default());
    let of_all = |end: &&str| {
        names.iter().all(|name| name.strip_suffix(end).is_some_and(|host| !host.is_empty()))
    };
    dots.into_iter().find(of_all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_names_end_with_is_told_once() {
        assert_eq!(domain(&["a.x.org", "b.x.org", "c.y.x.org"]), ".x.org");
        assert_eq!(domain(&["a.x.org", "b.org"]), ".org");
        for names in [&["a.x.org"][..], &["a", "b"], &["a.x", "b.y"], &[".x", "b.x"], &[]] {
            assert_eq!(domain(names), "", "{names:?}");
        }
    }
}
