// SPDX-License-Identifier: Apache-2.0
//! Whether the range of all pods (`clusterCIDRs`) can be what its author means.
//!
//! The range keeps a Node from claiming anything at all. But where it leaves out the pods of this node, or of
//! most other nodes that are served, it was mistyped, or a second one was forgotten, and going by it
//! takes the network from pods that have one. An agent that waits until it is corrected, and
//! says so, takes nothing from anybody, and lets nobody in.
//!
//! Of a Node that was made again the peers file says nothing: on that node the agent goes by any range. So it
//! does where nodes have blocks of Calico's, which come and go.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use crate::{
    fabric::{faults::is_within, nodes::Record},
    finding::{Finding, Severity},
    list::Gather,
    text::few::some_of,
};

/// A node and its pods' networks.
pub(super) type Pods = (String, Vec<IpNetwork>);

/// A range that may be a slip, and what the peers file had when the agent was started.
#[derive(Debug)]
pub(super) struct Slip {
    all: Vec<IpNetwork>,
    own: String,
    held: Vec<Pods>,
    /// It is wrong by what was known last.
    is_wrong: bool,
}

impl Slip {
    pub(super) fn new(all: &[IpNetwork], own: &str, held: &[Pods]) -> Self {
        let (all, own, held) = (all.to_vec(), own.to_owned(), held.to_vec());
        Self { all, own, held, is_wrong: false }
    }

    /// Whether it is wrong by what was known last.
    pub(super) fn is_wrong(&self) -> bool {
        self.is_wrong
    }

    /// What is wrong, should all nodes have what the file says.
    pub(super) fn by_file(&mut self) -> Option<Finding> {
        let found = self.wrong(&self.held);
        self.is_wrong = found.is_some();
        found
    }

    /// What is wrong, by a list of Nodes that has this one.
    pub(super) fn by(&mut self, nodes: &[impl AsRef<Record>]) -> Option<Finding> {
        let nodes = nodes.iter().map(AsRef::as_ref).map(|node| (&*node.name, node));
        let nodes: BTreeMap<&str, &Record> = nodes.gather_map();
        let claimed = |(name, held): &Pods| {
            let node = nodes.get(name.as_str())?;
            let pod_cidrs = node.pod_cidrs.iter().filter_map(|text| text.parse().ok());
            let claimed: Vec<IpNetwork> = pod_cidrs.gather();
            if claimed.is_empty() && *name == self.own {
                // It is being made again, perhaps as it was.
                return Some((name.clone(), held.clone()));
            }
            let is_as_it_was = held.iter().any(|held| claimed.contains(held));
            is_as_it_was.then(|| (name.clone(), claimed))
        };
        let claimed: Vec<Pods> = self.held.iter().filter_map(claimed).gather();
        let found = self.wrong(&claimed);
        self.is_wrong = found.is_some();
        found
    }

    /// What is wrong with the range by which these nodes would be served.
    fn wrong(&self, nodes: &[Pods]) -> Option<Finding> {
        let is_outside = |cidr: &&IpNetwork| !is_within(cidr, &self.all);
        let is_left_out = |(_, cidrs): &&Pods| cidrs.iter().any(|cidr| is_outside(&cidr));
        let with_pods: Vec<&Pods> = nodes.iter().filter(|(_, cidrs)| !cidrs.is_empty()).gather();
        let me = with_pods.iter().find(|(name, _)| *name == self.own)?;
        // By nodes, for one may claim several networks. Where there is one other node, nothing tells whether
        // the range is wrong or that node.
        let others = with_pods.iter().filter(|(name, _)| *name != self.own);
        let left_out = others.filter(|pods| is_left_out(pods)).count();
        let is_most = left_out > 1 && left_out > (with_pods.len() - 1) / 2;
        let whose = match (is_left_out(me), is_most) {
            (true, _) => "this node",
            (false, true) => "most other nodes",
            (false, false) => return None,
        };
        let outside = with_pods.iter().filter(|pods| is_left_out(pods));
        let names: Vec<String> = outside
            .map(|(name, cidrs)| {
                let outside: Vec<&IpNetwork> = cidrs.iter().filter(is_outside).gather();
                format!("{name} ({})", some_of(&outside))
            })
            .gather();
        let evidence = format!(
            "clusterCIDRs leave out {}: pods of {whose} would lose their network",
            some_of(&names)
        );
        let mut finding =
            Finding::new("cluster-cidrs-wrong", Severity::Error, "agent.json", evidence);
        finding.fix = "name each range that pods were given on purpose (kubectl get nodes -o \
                       jsonpath='{..podCIDRs}'), and delete a Node that has another"
            .to_owned();
        Some(finding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(all: &str, nodes: &[(&str, &[&str])]) -> String {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let nodes: Vec<Pods> =
            nodes.iter().map(|(name, cidrs)| ((*name).to_owned(), nets(cidrs))).collect();
        let mut slip = Slip::new(&[all.parse().unwrap()], "own", &nodes);
        slip.by_file().map(|one| one.evidence).unwrap_or_default()
    }

    #[test]
    fn a_range_is_wrong_that_leaves_out_this_node_or_most_others() {
        let own: (&str, &[&str]) = ("own", &["10.0.1.0/24"]);
        let others: [(&str, &[&str]); 5] = [
            ("a", &["10.0.2.0/24"]),
            ("b", &["10.0.3.0/24"]),
            ("c", &["10.1.4.0/24", "10.1.5.0/24", "10.1.6.0/24"]),
            ("d", &[]),
            ("e", &["10.1.7.0/24"]),
        ];
        let with =
            |own, others: &[(&'static str, &'static [&'static str])]| [&[own], others].concat();
        assert_eq!(told("10.0.0.0/15", &with(own, &others)), "");
        // A node that should have none of what it claims.
        assert_eq!(told("10.0.0.0/16", &with(own, &others[..4])), "");
        assert_eq!(told("10.0.0.0/16", &with(own, &others[2..4])), "");
        // Half of the others that have pods are no reason; more than half are one.
        assert_eq!(told("10.0.0.0/16", &with(own, &others)), "");
        assert_eq!(
            told("10.0.0.0/16", &with(own, &others[1..])),
            "clusterCIDRs leave out c (10.1.4.0/24, 10.1.5.0/24, 10.1.6.0/24), e (10.1.7.0/24): pods of most \
             other nodes would lose their network"
        );
        // This node.
        assert_eq!(
            told("10.0.0.0/16", &[("own", &["10.1.1.0/24"]), others[0], others[1]]),
            "clusterCIDRs leave out own (10.1.1.0/24): pods of this node would lose their network"
        );
        // The range of the other family is forgotten.
        assert_eq!(
            told("10.0.0.0/16", &[("own", &["10.0.1.0/24", "fd00:1::/64"]), others[0]]),
            "clusterCIDRs leave out own (fd00:1::/64): pods of this node would lose their network"
        );
        // One that is new, or was made again.
        assert_eq!(told("10.1.0.0/16", &with(("own", &[]), &others[..2])), "");
        assert_eq!(told("10.1.0.0/16", &others), "");
        assert_eq!(told("10.1.0.0/16", &[]), "");
    }

    fn node(name: &str, pod_cidrs: &[&str]) -> std::sync::Arc<Record> {
        let pod_cidrs = pod_cidrs.iter().map(|text| Box::from(*text)).collect();
        let (uid, created, addresses, tunnel) = ("".into(), "".into(), Vec::new(), None);
        std::sync::Arc::new(Record {
            name: name.into(),
            uid,
            created,
            addresses,
            pod_cidrs,
            tunnel,
        })
    }

    #[test]
    fn what_nodes_claim_by_now_counts() {
        let net = |text: &str| text.parse::<IpNetwork>().unwrap();
        let held = |name: &str, text: &str| (name.to_owned(), vec![net(text)]);
        let file = [
            held("own", "10.0.1.0/24"),
            held("a", "10.1.2.0/24"),
            held("b", "10.1.3.0/24"),
            held("c", "10.0.4.0/24"),
        ];
        let (a, b) = (node("a", &["10.1.2.0/24"]), node("b", &["10.1.3.0/24"]));
        let within = |all: &str| Slip::new(&[net(all)], "own", &file);
        // Most others, for as long as they are.
        let mut slip = within("10.0.0.0/16");
        let own = node("own", &["10.0.1.0/24"]);
        assert!(
            slip.by(&[own.clone(), node("c", &["10.0.4.0/24"]), a.clone(), b.clone()]).is_some()
        );
        let list = [own.clone(), node("c", &["10.0.4.0/24"]), node("a", &["10.0.2.0/24"]), b];
        assert!(slip.by(&list).is_none() && !slip.is_wrong());
        // A Node that has no podCIDR yet, and one that has another.
        let mut slip = within("10.9.0.0/16");
        assert!(slip.by(&[node("own", &[])]).is_some());
        assert!(slip.by(&[node("own", &["10.9.1.0/24"])]).is_none());
        assert!(slip.by(&[node("a", &["10.1.2.0/24"])]).is_none());
        // What the file does not have, for no node has an address of that family.
        let mut slip = within("10.0.0.0/16");
        assert!(slip.by(&[node("own", &["10.0.1.0/24", "fd00:1::/64"])]).is_some());
    }
}
