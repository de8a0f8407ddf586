// SPDX-License-Identifier: Apache-2.0
//! How each other node of the list stands: whether all is there that leads to its pods.
//! No packet is sent for that, so nothing is said of the way in between.

use std::{collections::HashMap, net::IpAddr};

use ipnetwork::IpNetwork;

use super::{
    peers::{Node, Peers},
    reconcile::Plan,
};
use crate::{
    family::Family,
    list::{Gather, PushAll},
    object::{Action, Change, Forwarding, Managed, Neighbour, Route},
};

/// What an excluded node is told by.
const LEFT_OUT: &str = " is left out: ";

/// Whether a node's pods are reached, as far as this node alone can tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// All is there that leads to them.
    Reachable,
    /// Something of it is missing, or is somebody else's.
    Degraded,
    /// The node is left out of the list.
    Excluded,
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reachable => "reachable",
            Self::Degraded => "degraded",
            Self::Excluded => "excluded",
        }
    }
}

/// Another node of the list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where its pods are.
    pub pod_cidrs: Vec<IpNetwork>,
    /// The device by which packets to its pods leave.
    pub device: Option<String>,
    /// How it stands.
    pub state: State,
    /// Why it is not reachable, a sentence each.
    pub why: Vec<String>,
}

impl Standing {
    fn of(node: &Node, state: State, why: Vec<String>) -> Self {
        let Node { name, addresses, pod_cidrs, .. } = node;
        let (name, device) = (name.clone(), None);
        Self {
            name,
            addresses: addresses.clone(),
            pod_cidrs: pod_cidrs.clone(),
            device,
            state,
            why,
        }
    }
}

/// All other nodes by a plan that was made for them: those that are served in the order of
/// the list, then those that are left out. `dead` are links without a carrier.
pub fn standings(peers: &Peers, plan: &Plan, dead: &[&str]) -> Vec<Standing> {
    let (wrong, desired) = (Wrong::of(plan), &plan.desired);
    let routes = desired.objects.routes.iter().map(|route| (route.destination(), route));
    let routes: HashMap<IpNetwork, &Route> = routes.collect();
    let served = peers.others.iter().map(|node| {
        let addresses = Family::BOTH.into_iter().filter_map(|family| node.address(family));
        let lost = addresses.filter(|address| desired.lost.contains(address));
        let mut why: Vec<String> =
            lost.map(|address| format!("no route leads to {address}")).gather();
        why.push_all(wrong.with(node).map(String::clone));
        why.push_all(node.addresses.iter().find_map(|address| {
            let device = plan.facts.paths.get(address)?.device.as_str();
            dead.contains(&device)
                .then(|| format!("{device}, which leads to {address}, has no carrier"))
        }));
        // What all lack, where there is nothing of its own.
        if why.is_empty() && node.pod_cidrs.iter().any(|cidr| desired.cut_off.contains(cidr)) {
            why.push_all(desired.not_ready.iter().cloned());
        }
        let state = if why.is_empty() { State::Reachable } else { State::Degraded };
        let route = node.pod_cidrs.iter().find_map(|cidr| routes.get(cidr));
        let device = route.and_then(|route| route.device()).map(str::to_owned);
        Standing { device, ..Standing::of(node, state, why) }
    });
    let told = peers.excluded.iter().chain(&peers.here);
    let left_out = told.map(|sentence| {
        let (name, why) = sentence.split_once(LEFT_OUT).unwrap_or(("", sentence));
        let why = vec![why.to_owned()];
        match peers.left_out.iter().find(|node| node.name == name) {
            Some(node) => Standing::of(node, State::Excluded, why),
            None => Standing {
                name: name.to_owned(),
                addresses: Vec::new(),
                pod_cidrs: Vec::new(),
                device: None,
                state: State::Excluded,
                why,
            },
        }
    });
    served.chain(left_out).gather()
}

/// What a plan would change or cannot, by what of a node it concerns.
struct Wrong {
    routes: HashMap<IpNetwork, String>,
    /// By the address of a tunnel's end.
    neighbours: HashMap<IpAddr, String>,
    /// By the node's address.
    forwarding: HashMap<IpAddr, String>,
}

impl Wrong {
    fn of(plan: &Plan) -> Self {
        let (mut routes, mut neighbours, mut forwarding) =
            (HashMap::new(), HashMap::new(), HashMap::new());
        for change in plan.changes.iter().filter(|change| !change.removes()) {
            if let Some(destination) = change.destination() {
                routes.entry(destination).or_insert_with(|| said(change));
            } else if let Some(entry) = change.wanted::<Neighbour>() {
                neighbours.insert(entry.address, said(change));
            } else if let Some(entry) = change.wanted::<Forwarding>() {
                forwarding.insert(entry.node, said(change));
            }
        }
        Self { routes, neighbours, forwarding }
    }

    fn with<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a String> {
        let of_routes = node.pod_cidrs.iter().filter_map(|cidr| self.routes.get(cidr));
        let ends = Family::BOTH.into_iter().filter_map(|family| node.tunnel_address(family));
        let of_ends = ends.filter_map(|end| self.neighbours.get(&end));
        let of_nodes = node.addresses.iter().filter_map(|own| self.forwarding.get(own));
        of_routes.chain(of_ends).chain(of_nodes)
    }
}

fn said(change: &Change) -> String {
    let told = change.told();
    match told.action {
        Action::Create => format!("{} is missing", told.object),
        Action::Replace | Action::Delete | Action::Conflict => told.words(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        conf::Mode,
        fabric::{Settings, desired::Facts, desired::Path, observed::Observed},
        pod::mtu::Uplink,
    };

    const LIST: &str = r#"{"self": "a", "nodes": [
        {"name": "a", "addresses": ["192.0.2.1"], "podCIDRs": ["10.1.0.0/24"]},
        {"name": "b", "addresses": ["192.0.2.2"], "podCIDRs": ["10.2.0.0/24"]},
        {"name": "c", "addresses": ["192.0.2.3"], "podCIDRs": ["10.3.0.0/24"]},
        {"name": "d", "addresses": ["192.0.2.4"], "podCIDRs": ["10.2.0.128/25"]},
        {"name": "e", "addresses": ["192.0.2.5"], "podCIDRs": []}]}"#;

    /// Direct routes to b alone, and no way to c.
    fn plan(peers: &Peers) -> Plan {
        let uplink = Uplink { device: "eth0".to_owned(), mtu: 1500 };
        let (device, narrowest) = (uplink.device.clone(), uplink);
        let path = Path { device, narrowest, gateway: None, onlink: false };
        let paths = ["192.0.2.2", "192.0.2.5"].map(|ip| (ip.parse().unwrap(), path.clone()));
        let own = ("192.0.2.1/24".parse().unwrap(), "eth0".to_owned());
        let facts = Facts { addresses: vec![own], paths: paths.into(), ..Facts::default() };
        Plan::again(&Settings::of_mode(Mode::Direct), peers, facts, Observed::default())
    }

    #[test]
    fn each_node_stands_as_its_routes_do() {
        let peers = Peers::parse(LIST.as_bytes(), &|_| false).unwrap();
        let mut plan = plan(&peers);
        let stand = |plan: &Plan| -> Vec<(String, State, String)> {
            let all = standings(&peers, plan, &[]).into_iter();
            all.map(|one| (one.name, one.state, one.why.join("; "))).collect()
        };
        let missing = stand(&plan);
        assert_eq!(
            missing[0],
            ("b".into(), State::Degraded, "route 10.2.0.0/24 is missing".into())
        );
        assert_eq!(missing[1].2, "no route leads to 192.0.2.3");
        assert_eq!(standings(&peers, &plan, &[])[0].device.as_deref(), Some("eth0"));
        plan.changes.clear();
        let made = stand(&plan);
        let states: Vec<(&str, State)> =
            made.iter().map(|(name, state, _)| (name.as_str(), *state)).collect();
        let (ready, degraded, excluded) = (State::Reachable, State::Degraded, State::Excluded);
        assert_eq!(states, [("b", ready), ("c", degraded), ("e", ready), ("d", excluded)]);
        let dead = &standings(&peers, &plan, &["eth1", "eth0"])[0];
        assert_eq!(dead.state, State::Degraded);
        assert_eq!(dead.why, ["eth0, which leads to 192.0.2.2, has no carrier"]);
        assert!(made[3].2.contains("overlaps b's 10.2.0.0/24"), "{made:?}");
    }
}
