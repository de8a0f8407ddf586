// SPDX-License-Identifier: Apache-2.0
//! What changes on this node where a few nodes of a list are others: the same changes that
//! a comparison of all would find, at a price that does not grow with the list. Pure.
//!
//! It stands on a comparison that found nothing to do. Whatever is not plainly a matter of
//! these nodes alone is left to the next comparison of all: [`Settled`] and [`Amendment`]
//! then say that there is nothing to be said.

use std::{mem, net::IpAddr};

use ipnetwork::IpNetwork;

use super::{
    clash::{self, Bounds},
    describe::describe,
    desired::{Desired, Facts},
    faults::{self, Entry, contains},
    ledger::Added,
    peers::{Node, Peers},
    reconcile::Plan,
    settings::Settings,
    site::Site,
    text::Splice,
};
use crate::{
    conf::FabricPart,
    family::Family,
    list::{Gather, Ordered, PushAll},
    object::{
        self, Action, Change, HeldObjects, HeldRoute, Indexes, Objects,
        link::{HeldTunnel, Owner},
    },
};

/// A fabric that has nothing to change, as far as it matters to a change of a few nodes.
#[derive(Debug)]
pub struct Settled {
    settings: Settings,
    me: Node,
    facts: Facts,
    site: Site,
    cluster_cidrs: Option<Vec<IpNetwork>>,
    indexes: Indexes,
    all: All,
}

/// What the nodes of a list have, in order.
#[derive(Debug)]
struct All {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    /// No two overlap.
    pod_cidrs: Vec<IpNetwork>,
    macs: Vec<(Family, [u8; 6])>,
}

/// Nodes that take the place of others, each beside this node as if there were no more.
#[derive(Debug)]
pub struct Amendment {
    before: Peers,
    /// For the facts to be found that they need.
    pub after: Peers,
}

impl Settled {
    /// Of a plan without changes, for these peers; `None` where anything is out of the
    /// ordinary.
    pub fn of(
        settings: Settings,
        peers: &Peers,
        plan: Plan,
        site: Site,
        cluster_cidrs: Option<Vec<IpNetwork>>,
    ) -> Option<Self> {
        let Plan { facts, desired, observed, changes, borrows } = plan;
        let made = changes.is_empty() && !borrows && observed.held.lookups.is_empty();
        let ours = |tunnel: &HeldTunnel| tunnel.owner == Owner::Ours;
        let ours = observed.held.tunnels.iter().all(ours);
        let ledger = &observed.ledger;
        let alone = ledger.added == Added::default() && ledger.protocols.is_empty();
        let left_out = [&peers.excluded, &peers.here].iter().any(|lines| !lines.is_empty());
        let listed = !left_out && peers.left_out.is_empty() && peers.unread.is_none();
        // Else a node of that address or name might be this one.
        let known = peers.me.name.parse::<IpAddr>().is_err()
            && peers.me.addresses.iter().any(|address| site.has(*address));
        if !(made && ours && alone && listed && known && is_whole(&desired)) {
            return None;
        }
        let (me, all, indexes) = (peers.me.clone(), All::of(peers), observed.indexes);
        Some(Self { settings, me, facts, site, cluster_cidrs, indexes, all })
    }

    /// What the fabric is made by.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The indexes of all links.
    pub fn indexes(&self) -> &Indexes {
        &self.indexes
    }

    /// Judges nodes of a list by themselves; `None` unless they are sound beside all others.
    pub fn admit(&self, splice: Splice) -> Option<Amendment> {
        let Splice { before, after } = splice;
        let sound = |entries: &[Entry]| entries.iter().all(|(_, problems)| problems.is_empty());
        if !sound(&before) || !sound(&after) {
            return None;
        }
        let nodes = |entries: Vec<Entry>| entries.into_iter().map(|(node, _)| node);
        let before: Vec<Node> = nodes(before).gather();
        // A list without `self`, or that names this node by an address, may mean such a one.
        let might_be_me = |(node, _): &Entry| {
            node.name.parse::<IpAddr>().is_ok()
                || node.addresses.iter().any(|address| self.site.has(*address))
        };
        if after.iter().any(might_be_me) {
            return None;
        }
        if before.iter().any(|node| node.name == self.me.name) {
            return None;
        }
        if before.iter().chain(after.iter().map(|(node, _)| node)).any(is_tunnel_alone) {
            return None;
        }
        let mut entries = vec![(self.me.clone(), Vec::new())];
        entries.push_all(after);
        let count = entries.len() - 1;
        let admitted = faults::admit(entries, 0).ok()?;
        let mut after = alone(admitted.me, admitted.others);
        // What is outside is told by the pass that comes behind.
        let bounds = self.cluster_cidrs.as_deref().map(|cidrs| Bounds { network: "", cidrs });
        clash::settle(&mut after, &self.site, bounds).ok()?;
        let takes_place = |node: &Node| self.all.admits(node, &before);
        let is_sound = after.others.len() == count && after.others.iter().all(takes_place);
        // Beside pods that are there no more, a next hop might cut another node off.
        let gone = before.iter().flat_map(|node| &node.pod_cidrs);
        let mut gone = gone.filter(|cidr| !after.pod_cidrs().any(|stays| contains(&stays, cidr)));
        let bare =
            gone.any(|cidr| self.site.next_hops.iter().any(|hop| contains(cidr, &hop.destination)));
        let before = alone(self.me.clone(), before);
        (is_sound && !bare).then_some(Amendment { before, after })
    }

    /// The changes, by the facts of what is there `after`wards; others have these routes.
    /// `None` where more than the nodes' own routes and entries may change.
    pub fn changes(
        self,
        amendment: &Amendment,
        after: Facts,
        others: Vec<HeldRoute>,
    ) -> Option<Vec<Change>> {
        let Self { settings, mut facts, indexes, .. } = self;
        let of_node =
            |facts: &Facts| (facts.addresses.clone(), facts.heeding.clone(), facts.taken.clone());
        if of_node(&facts) != of_node(&after) {
            return None;
        }
        let former = describe(&settings, &amendment.before, &facts);
        let narrowest = |facts: &Facts| {
            [None, Some(Family::V4), Some(Family::V6)].map(|of| facts.narrowest(of))
        };
        let limits = narrowest(&facts);
        for node in &amendment.before.others {
            node.addresses.iter().for_each(|address| drop(facts.paths.remove(address)));
        }
        facts.paths.extend(after.paths);
        if narrowest(&facts) != limits {
            return None;
        }
        let desired = describe(&settings, &amendment.after, &facts);
        if !is_whole(&desired) || !is_whole(&former) {
            return None;
        }
        let (former, of_node) = divided(former.objects);
        let (wanted, of_node_after) = divided(desired.objects);
        if of_node != of_node_after {
            return None;
        }
        let mut held: HeldObjects = former.as_held(&indexes);
        let concerned = |held: &HeldRoute| {
            wanted.routes.iter().any(|route| route.destination() == held.destination())
        };
        held.routes.push_all(others.into_iter().filter(concerned));
        let changes = object::difference(&wanted, &held);
        let feasible = changes.iter().all(|change| change.action() != Action::Conflict);
        feasible.then_some(changes)
    }
}

/// Whether it has an address of a tunnel, and no pods: described beside this node as if there were
/// no more, nobody would have pods, and there would be no tunnel to lead there by.
fn is_tunnel_alone(node: &Node) -> bool {
    let is_alone =
        |family| node.pod_cidrs(family).next().is_none() && node.tunnel_outside(family).is_some();
    Family::BOTH.into_iter().any(is_alone)
}

/// Whether nothing is wanting, and nobody left out.
fn is_whole(desired: &Desired) -> bool {
    let Desired { wanting, lost, excluded, not_ready, cut_off, taken, .. } = desired;
    let lines = [wanting, excluded, not_ready].iter().all(|lines| lines.is_empty());
    lines && lost.is_empty() && cut_off.is_empty() && taken.is_empty()
}

/// Without what belongs to the node, which comes beside.
fn divided(mut objects: Objects) -> (Objects, Objects) {
    let own = Objects {
        forwarding: mem::take(&mut objects.forwarding),
        neighbours: mem::take(&mut objects.neighbours),
        routes: mem::take(&mut objects.routes),
        ..Objects::default()
    };
    (own, objects)
}

/// A list of these nodes alone.
fn alone(me: Node, others: Vec<Node>) -> Peers {
    let fabric = FabricPart::default();
    let (left_out, excluded, here, notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    Peers { me, others, left_out, excluded, here, notes, unread: None, fabric }
}

impl All {
    fn of(peers: &Peers) -> Self {
        let mut names: Vec<String> = peers.nodes().map(|node| node.name.clone()).gather();
        let mut addresses: Vec<IpAddr> = peers.nodes().flat_map(Node::all_addresses).gather();
        let mut pod_cidrs: Vec<IpNetwork> = peers.pod_cidrs().gather();
        let mut macs: Vec<(Family, [u8; 6])> = peers.nodes().flat_map(macs).gather();
        names.order();
        addresses.order();
        pod_cidrs.order_by_key(IpNetwork::network);
        macs.order();
        Self { names, addresses, pod_cidrs, macs }
    }

    /// Whether a node has nothing that another one has, but for those whose place it takes.
    fn admits(&self, node: &Node, before: &[Node]) -> bool {
        let was = |is: &dyn Fn(&Node) -> bool| before.iter().any(is);
        let has_address =
            |address: &IpAddr| was(&|former| former.all_addresses().any(|other| other == *address));
        let has_cidr = |cidr: &IpNetwork| was(&|former| former.pod_cidrs.contains(cidr));
        let name = self.names.binary_search(&node.name).is_err()
            || was(&|former| former.name == node.name);
        // Of what overlaps a network all but the first begins in it.
        let overlapping = |network: &IpNetwork| {
            let (first, last) = (network.network(), network.broadcast());
            let begin = self.pod_cidrs.partition_point(|cidr| cidr.network() < first);
            let end = self.pod_cidrs.partition_point(|cidr| cidr.network() <= last);
            let around = self.pod_cidrs.get(..begin).and_then(<[_]>::last);
            let around = around.filter(|cidr| cidr.contains(first));
            around.into_iter().chain(self.pod_cidrs.get(begin..end).unwrap_or_default())
        };
        let within = |network: &IpNetwork| {
            let begin = self.addresses.partition_point(|address| *address < network.network());
            let end = self.addresses.partition_point(|address| *address <= network.broadcast());
            self.addresses.get(begin..end).unwrap_or_default().iter()
        };
        let pods = node
            .pod_cidrs
            .iter()
            .all(|cidr| overlapping(cidr).all(&has_cidr) && within(cidr).all(&has_address));
        let addresses = node.all_addresses().all(|address| {
            let free = self.addresses.binary_search(&address).is_err() || has_address(&address);
            free && overlapping(&address.into()).all(&has_cidr)
        });
        let macs = macs(node).all(|mac| {
            self.macs.binary_search(&mac).is_err()
                || was(&|former| self::macs(former).any(|other| other == mac))
        });
        name && pods && addresses && macs
    }
}

/// By which its ends of tunnels are known.
fn macs(node: &Node) -> impl Iterator<Item = (Family, [u8; 6])> + '_ {
    let families = Family::BOTH.into_iter().filter(|family| node.address(*family).is_some());
    families.map(|family| (family, node.tunnel_mac(family).0))
}

#[cfg(test)]
mod tests;
