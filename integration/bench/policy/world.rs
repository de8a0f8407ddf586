// SPDX-License-Identifier: Apache-2.0
//! A cluster made up for the benchmark: what Kubernetes would say of it, and who is selected by
//! what, which Calico's layout needs.
//!
//! 100 namespaces; a tenth as many apps as pods; of the policies seven of ten are of ingress
//! alone, the others allow DNS and the outside too; each twentieth selects all of its namespace.
//! Two pods in a namespace of their own have five policies each, of which the one in the middle
//! allows what is measured.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// The name of the node whose pods are local.
pub const NODE: &str = "bench";
/// What the two pods may send to each other, and what they may not.
pub const FRESH: u16 = 7007;
pub const TALKING: u16 = 7008;
pub const DENIED: u16 = 7009;

/// Of iperf3.
const STREAM: u16 = 5201;

const NAMESPACES: usize = 100;
/// Of the two pods that are there.
const PAIR: usize = NAMESPACES;
/// What is outside is none of these.
pub const PRIVATE: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Size {
    /// Pods of the cluster.
    pub addresses: usize,
    pub policies: usize,
    /// Pods of this node, the two beside.
    pub local: usize,
}

/// What changes between two measurements.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Change {
    /// One more pod of this node.
    pub joined: bool,
    /// One policy allows other ports.
    pub ports: bool,
    /// No policy is about the two pods.
    pub open: bool,
}

pub struct Pod {
    pub namespace: usize,
    pub app: usize,
    pub name: String,
    pub address: String,
    pub is_local: bool,
}

/// Pods by their namespace and, where that is said, their app.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Selector {
    pub namespace: usize,
    pub app: Option<usize>,
}

pub enum Peer {
    Pods(Selector),
    Outside,
}

pub struct Rule {
    pub peer: Peer,
    pub protocol: &'static str,
    pub ports: Vec<u16>,
}

pub struct Policy {
    pub name: String,
    pub subject: Selector,
    pub ingress: Vec<Rule>,
    /// None where it says nothing of that direction.
    pub egress: Option<Vec<Rule>>,
}

pub struct World {
    pub pods: Vec<Pod>,
    pub policies: Vec<Policy>,
}

impl Selector {
    pub fn selects(self, pod: &Pod) -> bool {
        self.namespace == pod.namespace && self.app.is_none_or(|app| app == pod.app)
    }

    fn encode(self) -> Value {
        match self.app {
            Some(app) => json!({"matchLabels": {"app": app.to_string()}}),
            None => json!({}),
        }
    }
}

/// The policy that changes, which selects one pod of this node in each size.
pub const CHANGES: usize = 1;

/// The address of the pod that joins.
pub const JOINS: &str = "10.88.1.1";

impl World {
    pub fn new(size: Size, pair: &[String; 2], change: Change) -> Self {
        let apps = size.addresses / 10 / NAMESPACES;
        let of = |number: usize| {
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + number as u32);
            let (namespace, app) = (number % NAMESPACES, number / NAMESPACES % apps);
            let is_local = number < size.local;
            let name = format!("pod-{number}");
            Pod { namespace, app, name, address: address.to_string(), is_local }
        };
        let mut pods: Vec<Pod> = (0..size.addresses).map(of).collect();
        let more = pair.iter().map(|address| (PAIR, address.as_str()));
        for (namespace, address) in more.chain(change.joined.then_some((0, JOINS))) {
            let (name, address) = (format!("at-{address}"), address.to_owned());
            pods.push(Pod { namespace, app: 0, name, address, is_local: true });
        }
        let mut policies: Vec<Policy> =
            (0..size.policies).map(|number| policy(number, apps, change.ports)).collect();
        policies.extend((0..5).filter(|_| !change.open).map(of_the_pair));
        Self { pods, policies }
    }

    /// As kubectl prints it.
    pub fn encode(&self) -> Value {
        let namespace = |number: usize| {
            let name = name(number);
            json!({"kind": "Namespace", "metadata": {"name": name,
                   "labels": {"kubernetes.io/metadata.name": name}}})
        };
        let pod = |pod: &Pod| {
            let node = if pod.is_local { NODE } else { "elsewhere" };
            json!({"kind": "Pod",
                   "metadata": {"namespace": name(pod.namespace), "name": pod.name, "uid": pod.name,
                                "labels": {"app": pod.app.to_string()}},
                   "spec": {"nodeName": node},
                   "status": {"phase": "Running", "podIP": pod.address,
                              "podIPs": [{"ip": pod.address}]}})
        };
        let namespaces = (0..=PAIR).map(namespace);
        let items: Vec<Value> = namespaces
            .chain(self.pods.iter().map(pod))
            .chain(self.policies.iter().map(Policy::encode))
            .collect();
        json!({"apiVersion": "v1", "kind": "List", "items": items})
    }
}

fn name(namespace: usize) -> String {
    format!("ns-{namespace}")
}

fn policy(number: usize, apps: usize, other_ports: bool) -> Policy {
    let (namespace, app) = (number % NAMESPACES, number / NAMESPACES % apps);
    let app = (!number.is_multiple_of(20)).then_some(app);
    let first =
        8000 + (number % 50) as u16 + if other_ports && number == CHANGES { 100 } else { 0 };
    let tcp = |peer, ports: &[u16]| Rule { peer, protocol: "TCP", ports: ports.into() };
    let near = Selector { namespace, app: Some((number + 1) % apps) };
    let far = Selector { namespace: (namespace + 7) % NAMESPACES, app: Some(number % apps) };
    let ports: Vec<u16> = (first..first + 4).collect();
    let ingress = [near, far].map(|peer| tcp(Peer::Pods(peer), &ports)).into();
    let egress = (number / NAMESPACES + number).is_multiple_of(3).then(|| {
        let dns = Selector { namespace: 0, app: None };
        vec![
            Rule { peer: Peer::Pods(dns), protocol: "UDP", ports: vec![53] },
            tcp(Peer::Outside, &[443]),
            tcp(Peer::Pods(near), &ports),
        ]
    });
    Policy {
        name: format!("policy-{number}"),
        subject: Selector { namespace, app },
        ingress,
        egress,
    }
}

fn of_the_pair(number: usize) -> Policy {
    let pair = Selector { namespace: PAIR, app: None };
    let other = Selector { namespace: number, app: Some(0) };
    let rules = || match number {
        2 => vec![
            Rule { peer: Peer::Pods(pair), protocol: "UDP", ports: vec![FRESH, TALKING] },
            Rule { peer: Peer::Pods(pair), protocol: "TCP", ports: vec![STREAM] },
        ],
        _ => vec![Rule { peer: Peer::Pods(other), protocol: "TCP", ports: vec![80, 443] }],
    };
    let (name, ingress, egress) = (format!("pair-{number}"), rules(), Some(rules()));
    Policy { name, subject: pair, ingress, egress }
}

impl Policy {
    fn encode(&self) -> Value {
        let rules = |rules: &[Rule], peers: &str| -> Vec<Value> {
            let rule = |rule: &Rule| {
                let ports: Vec<Value> = rule.ports.iter().map(|port| rule.port(*port)).collect();
                json!({peers: [rule.peer.encode()], "ports": ports})
            };
            rules.iter().map(rule).collect()
        };
        let mut spec = json!({"podSelector": self.subject.encode(), "policyTypes": ["Ingress"],
                              "ingress": rules(&self.ingress, "from")});
        if let Some(egress) = &self.egress {
            spec["policyTypes"] = json!(["Ingress", "Egress"]);
            spec["egress"] = rules(egress, "to").into();
        }
        json!({"kind": "NetworkPolicy",
               "metadata": {"namespace": name(self.subject.namespace), "name": self.name,
                            "uid": self.name},
               "spec": spec})
    }
}

impl Rule {
    fn port(&self, port: u16) -> Value {
        json!({"protocol": self.protocol, "port": port})
    }
}

impl Peer {
    fn encode(&self) -> Value {
        match self {
            Self::Pods(selector) => json!({
                "namespaceSelector":
                    {"matchLabels": {"kubernetes.io/metadata.name": name(selector.namespace)}},
                "podSelector": selector.encode(),
            }),
            Self::Outside => json!({"ipBlock": {"cidr": "0.0.0.0/0", "except": PRIVATE}}),
        }
    }
}
