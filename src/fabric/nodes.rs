// SPDX-License-Identifier: Apache-2.0
//! Which nodes of a cluster are served, and how: the peers file's text.
//!
//! A peers file is one node's mistake away from being wrong for all, and everything in a
//! Node but its podCIDRs is written by that very node. So what a Node says is checked
//! here, by rules that are the same on all nodes: the older Node keeps what two of them
//! claim, and a Node that cannot be served is left out and named. What is read of a Node
//! is in [`object`]; nothing else here knows Kubernetes' types, and nothing a file or a
//! clock.

mod claim;
mod claims;
mod former;
mod given;
pub mod object;
pub mod record;

use std::{borrow::Borrow, collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use claim::Claim;
use claims::Claims;

pub use record::{Record, Tunnel};

use super::list;
use crate::{
    conf::FabricPart,
    finding::{Finding, Severity},
    list::{Gather, Ordered, PushAll},
};

/// The form of a file that has more than its readers knew at first.
const FORM: u32 = 2;
/// That of one by which a family travels plainly beside one that is carried.
pub const FORM_PLAIN: u32 = 3;

/// What whoever asks says of this node and of all.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this node's Node; empty where the file is for all nodes.
    pub node: String,
    /// What the file says of the fabric.
    pub fabric: FabricPart,
    /// Where all pods are, if that is known.
    pub cluster_cidrs: Option<Vec<IpNetwork>>,
    /// A node's pods are in blocks that it takes as it needs them, and it has none before.
    pub in_blocks: bool,
    /// Where the API server is asked, as far as that is said by addresses.
    pub spared: Vec<IpAddr>,
}

/// The nodes that are served, and those that are not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct View {
    /// The peers file.
    pub text: String,
    /// Its form: whoever knows that reads it.
    pub form: u32,
    /// This node's pods. None of them where `own_trouble` says why.
    pub own_pod_cidrs: Vec<IpNetwork>,
    /// What it had before, and pods of it still have addresses of.
    pub former_pod_cidrs: Vec<IpNetwork>,
    /// Why this node cannot have pods.
    pub own_trouble: Option<Finding>,
    /// How many nodes the file has with pods, this one included.
    pub used: usize,
    /// Nodes that have no podCIDR or no address yet.
    pub incomplete: Vec<String>,
    /// Nodes that are left out, each with the reason.
    pub quarantined: Vec<(String, String)>,
    /// What an operator should know, this node's trouble and quarantined nodes included.
    pub findings: Vec<Finding>,
}

/// Why a list of nodes gives no peers file. What is there stays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// A cluster in which this runs has a node.
    Empty,
    /// The list does not have this node.
    OwnMissing,
}

/// Nodes of which it is settled what each of them gets.
#[derive(Debug)]
pub struct Settled {
    claims: Vec<Claim>,
    /// The place of this node, unless it is for all of them.
    own: Option<usize>,
    /// The podCIDRs that this node had, each with the node that has it by now.
    former: Vec<(IpNetwork, Option<String>)>,
}

impl Settled {
    /// Judges a complete list of the cluster's Nodes. `former` are podCIDRs that this node
    /// had and pods of it have addresses of.
    ///
    /// # Errors
    /// Where the list cannot be this cluster's.
    pub fn of<R: Borrow<Record>>(
        records: &[R],
        settings: &Settings,
        former: &[IpNetwork],
    ) -> Result<Self, Refusal> {
        if records.is_empty() {
            return Err(Refusal::Empty);
        }
        let mut claims = Claims::read(records, &settings.node);
        let own = claims.own().ok_or(Refusal::OwnMissing)?;
        claims.settle(Some(own), settings.cluster_cidrs.as_deref(), &settings.spared);
        let former = former::settle(&mut claims.list, own, former);
        Ok(Self { claims: claims.list, own: Some(own), former })
    }

    /// The same for no node in particular, in the order of their names. Those that have no
    /// podCIDR are not in the file.
    ///
    /// # Errors
    /// Where there is none.
    pub fn of_cluster<R: Borrow<Record>>(records: &[R]) -> Result<Self, Refusal> {
        if records.is_empty() {
            return Err(Refusal::Empty);
        }
        let mut claims = Claims::read(records, "");
        claims.settle(None, None, &[]);
        claims.list.order_by(|one, other| one.node.name.cmp(&other.node.name));
        Ok(Self { claims: claims.list, own: None, former: Vec::new() })
    }

    /// Where the pods of other nodes are that get their traffic.
    pub fn pods(&self) -> BTreeSet<IpNetwork> {
        let others = self.claims.iter().filter(|claim| !claim.is_own && claim.is_served());
        others.flat_map(|claim| &claim.node.pod_cidrs).copied().gather_set()
    }

    /// The peers file of it.
    pub fn view(self, settings: &Settings) -> View {
        let mut view = View::compose(self.claims, self.own, settings);
        let name = &settings.node;
        let former = self.former.iter();
        view.findings.push_all(former.map(|(cidr, holder)| changed(name, cidr, holder)));
        view
    }
}

impl View {
    fn compose(claims: Vec<Claim>, own: Option<usize>, settings: &Settings) -> Self {
        let (mut used, mut incomplete, mut quarantined) = (0, Vec::new(), Vec::new());
        let (mut findings, mut items) = (Vec::new(), Vec::new());
        let (mut own_trouble, mut own_pod_cidrs, mut former_pod_cidrs) =
            (None, Vec::new(), Vec::new());
        for (at, claim) in claims.into_iter().enumerate() {
            let name = &claim.node.name;
            findings.push_all(claim.ignored.iter().map(|words| ignored(name, words)));
            let is_own = own == Some(at);
            if is_own {
                own_trouble = trouble(&claim, settings);
                findings.push_all(own_trouble.clone());
                own_pod_cidrs.clone_from(&claim.node.pod_cidrs);
                former_pod_cidrs.clone_from(&claim.node.former_pod_cidrs);
            } else if !claim.faults.is_empty() {
                let reason = claim.faults.join("; ");
                findings.push(left_out(name, &reason));
                quarantined.push((name.clone(), reason));
                continue;
            }
            let has_pods = !claim.node.pod_cidrs.is_empty();
            match !has_pods {
                true => incomplete.push(name.clone()),
                false => used += 1,
            }
            if is_own {
                // Before all others: it is found by its name, which may be another's address.
                items.insert(0, item(&claim));
            } else if claim.is_listed() && (has_pods || own.is_some()) {
                items.push(item(&claim));
            }
        }
        let text = text(settings, &items);
        let form = form(&settings.fabric).max(if former_pod_cidrs.is_empty() { 1 } else { FORM });
        Self {
            text,
            form,
            own_pod_cidrs,
            former_pod_cidrs,
            own_trouble,
            used,
            incomplete,
            quarantined,
            findings,
        }
    }
}

/// Why this node cannot have pods, if so.
fn trouble(own: &Claim, settings: &Settings) -> Option<Finding> {
    let name = &own.node.name;
    let missing = || {
        (own.has_no_pod_cidr && !settings.in_blocks).then(|| {
            "it has no podCIDR: kube-controller-manager runs without --allocate-node-cidrs, or its \
             range is used up"
                .to_owned()
        })
    };
    let reason = match own.faults.is_empty() {
        true => missing()?,
        false => own.faults.join("; "),
    };
    let mut finding = Finding::new("pod-cidr-missing", Severity::Error, node(name), reason);
    finding.fix = format!(
        "see kubectl get node {name} -o yaml (spec.podCIDRs, status.addresses), and the \
         clusterCIDRs of agent.json"
    );
    Some(finding)
}

fn changed(name: &str, cidr: &IpNetwork, holder: &Option<String>) -> Finding {
    let what = match holder {
        None => "routes to it stay here, and other nodes have none".to_owned(),
        Some(holder) => format!("it clashes with what {holder} has by now, and is not kept"),
    };
    let evidence = format!("pods still have addresses of {cidr}, a former podCIDR: {what}");
    let mut finding = Finding::new("pod-cidr-changed", Severity::Error, node(name), evidence);
    finding.fix = format!(
        "kubectl drain {name} --ignore-daemonsets, delete the pods of DaemonSets that have such \
         an address, then kubectl uncordon {name}"
    );
    finding
}

fn left_out(name: &str, reason: &str) -> Finding {
    let mut finding = Finding::new("peer-excluded", Severity::Warning, node(name), reason);
    finding.fix = format!(
        "see kubectl get node {name} -o yaml and the clusterCIDRs of agent.json; a Node that is \
         deleted gets another podCIDR when its kubelet starts again"
    );
    finding
}

fn ignored(name: &str, words: &str) -> Finding {
    let mut finding = Finding::new("address-ignored", Severity::Warning, node(name), words);
    finding.fix = format!("see kubectl get node {name} -o yaml, and the --node-ip of its kubelet");
    finding
}

fn node(name: &str) -> String {
    format!("Node {name}")
}

/// A line of the file.
fn item(claim: &Claim) -> String {
    let node = &claim.node;
    let texts = |list: &mut dyn Iterator<Item = String>| list.map(Value::from).collect::<Value>();
    let addresses = texts(&mut node.addresses.iter().map(ToString::to_string));
    let pod_cidrs = texts(&mut node.pod_cidrs.iter().map(ToString::to_string));
    let mut item = json!({"name": node.name, "addresses": addresses, "podCIDRs": pod_cidrs});
    if let Some(item) = item.as_object_mut().filter(|_| !node.tunnel_addresses.is_empty()) {
        let tunnels = texts(&mut node.tunnel_addresses.iter().map(ToString::to_string));
        item.insert("tunnelAddresses".to_owned(), tunnels);
    }
    if let (Some(item), Some(mac)) = (item.as_object_mut(), node.tunnel_mac) {
        item.insert("tunnelMAC".to_owned(), mac.to_string().into());
    }
    if let Some(item) = item.as_object_mut().filter(|_| !node.former_pod_cidrs.is_empty()) {
        let former = texts(&mut node.former_pod_cidrs.iter().map(ToString::to_string));
        item.insert("formerPodCIDRs".to_owned(), former);
    }
    item.to_string()
}

/// One node to a line, so that the difference of two files shows the nodes that differ.
fn text(settings: &Settings, items: &[String]) -> String {
    let mut text = match settings.node.as_str() {
        "" => "{".to_owned(),
        node => format!("{{\"self\": {},\n", Value::from(node)),
    };
    text.push_str(&said_of(&settings.fabric));
    text.push_str(&format!("\"nodes\": [\n{}\n]}}\n", items.join(",\n")));
    text
}

fn said_of(fabric: &FabricPart) -> String {
    match fabric.is_empty() {
        true => String::new(),
        false => format!("\"fabric\": {},\n", fabric.encode()),
    }
}

/// The form of a file that is there.
pub fn form_of(held: &[u8]) -> u32 {
    list::fabric(held).map_or(1, |fabric| form(&fabric))
}

/// The form of a file that says this of the fabric.
pub fn form(fabric: &FabricPart) -> u32 {
    let accepted = fabric.accepts().map(FabricPart::plain).unwrap_or_default();
    match fabric.plain().is_empty() && accepted.is_empty() {
        true if fabric.is_empty() => 1,
        true => FORM,
        false => FORM_PLAIN,
    }
}

/// A file of before that says this of the fabric; nothing of one that was not made here.
pub fn with_fabric(text: &str, fabric: &FabricPart) -> Option<String> {
    let (own, rest) = text.split_once('\n')?;
    let nodes = match rest.starts_with("\"fabric\": ") {
        true => rest.split_once('\n')?.1,
        false => rest,
    };
    let is_made_here = own.starts_with("{\"self\": ") && nodes.starts_with("\"nodes\": [\n");
    is_made_here.then(|| format!("{own}\n{}{nodes}", said_of(fabric)))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
