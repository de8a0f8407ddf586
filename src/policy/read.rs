// SPDX-License-Identifier: Apache-2.0
//! Objects of Kubernetes as text: a List of Namespaces, Pods and NetworkPolicies, as
//! `kubectl get namespaces,pods,networkpolicies -A -o json` prints it, or the same as YAML, of
//! which several documents are one list.
//!
//! What the API server fills in is filled in here as well, for not all that is read comes
//! from there. It keeps networks and ports that it would not take any more; a peer or a
//! port that cannot be read allows nothing, and the rest of the policy holds.

mod fields;
mod list;
#[cfg(any(feature = "agent", fuzzing))]
mod single;
mod yaml;

use std::{net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::{
    Block, Direction, Name, NamedPort, Peer, Pod, Policy, Port, Ports, Requirement, Rule, Selector,
    Test, World,
    unread::{OURS, group},
};
use crate::{cni::cidr, family::HasFamily, list::include};
pub(crate) use fields::{Fields, reading};
#[cfg(any(feature = "agent", fuzzing))]
pub(crate) use single::Item;

/// Protocols that have ports, by their numbers within IP.
const PROTOCOLS: [(&str, u8); 3] = [("TCP", 6), ("UDP", 17), ("SCTP", 132)];
/// What a node knows a pod by that no API server gave it: the object is but an image of it.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// All of it that could be.
    pub world: World,
    /// What allows nothing because it could not be read, a sentence each.
    pub notes: Vec<String>,
}

/// Reads a list.
///
/// # Errors
/// What keeps it from being one, or from being understood.
pub fn read(text: &[u8]) -> Result<Read, String> {
    let mut found = Read::default();
    let kind = list::each(text, &mut |item| found.add(&item))?;
    if kind != "List" {
        return Err(format!("it is a {kind:?}, not a List"));
    }
    Ok(found)
}

impl Read {
    fn add(&mut self, item: &Value) -> Result<(), String> {
        let (kind, name, version) = reading(|problem| {
            let item = Fields::of(item, problem);
            let metadata = item.required_within("metadata");
            let (namespace, name) = (metadata.owned("namespace"), metadata.required("name"));
            (item.required("kind"), Name { namespace, name }, item.owned("apiVersion"))
        })?;
        let failed = |problem: String| format!("{kind} {name}: {problem}");
        // Calico has a kind of the same name, which says something else.
        if kind == "NetworkPolicy" && !version.is_empty() && group(&version) != OURS {
            return Err(failed(format!(
                "it is of {version}; manx reads those of {OURS}/v1, and manx validate --policies \
                 tells what is lost of others"
            )));
        }
        let (world, notes) = (&mut self.world, &mut self.notes);
        match kind.as_str() {
            "Namespace" => {
                let labels =
                    |problem: &_| Fields::of(item, problem).within("metadata").labels("labels");
                let labels = reading(labels).map_err(failed)?;
                world.namespaces.insert(name.name, Arc::new(labels));
            }
            "Pod" => {
                let pod = reading(|problem| {
                    let item = Fields::of(item, problem);
                    pod(name.clone(), addresses(item), item)
                });
                world.pods.push(Arc::new(pod.map_err(failed)?));
            }
            "NetworkPolicy" => {
                let mut note = |problem: String| notes.push(failed(problem));
                let policy = reading(|problem| {
                    let item = Fields::of(item, problem);
                    policy(name.clone(), selected(item), item, &mut note)
                });
                world.policies.push(Arc::new(policy.map_err(failed)?));
            }
            other => return Err(format!("{other} {name} is of no kind that policies are about")),
        }
        Ok(())
    }
}

/// The number of a protocol by its name in Kubernetes.
pub fn protocol(name: &str) -> Option<u8> {
    PROTOCOLS.into_iter().find(|(known, _)| *known == name).map(|(_, number)| number)
}

/// A protocol for people: its name in small letters, or its number.
pub fn protocol_name(number: u8) -> String {
    let known = PROTOCOLS.into_iter().find(|(_, known)| *known == number);
    known.map_or_else(|| format!("protocol {number}"), |(name, _)| name.to_ascii_lowercase())
}

/// The addresses of a pod, as they stand there.
fn address_texts(item: Fields<'_>) -> Vec<String> {
    let status = item.within("status");
    let mut texts = Vec::new();
    for address in status.objects("podIPs") {
        texts.push(address.required("ip"));
    }
    let single = status.owned("podIP");
    if texts.is_empty() && !single.is_empty() {
        texts.push(single);
    }
    texts
}

fn addresses(item: Fields<'_>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in address_texts(item) {
        match cidr::parse_address(&text) {
            Ok(address) => addresses.push(address),
            Err(problem) => item.refuse(problem),
        }
    }
    addresses
}

fn pod(name: Name, addresses: Vec<IpAddr>, item: Fields<'_>) -> Pod {
    let [metadata, spec, status] = ["metadata", "spec", "status"].map(|part| item.within(part));
    let mut ports = Vec::new();
    for container in spec.objects("containers") {
        add_ports(container, &mut ports);
    }
    for container in spec.objects("initContainers") {
        // Sidecars.
        if container.text("restartPolicy") == Some("Always") {
            add_ports(container, &mut ports);
        }
    }
    let uid = match metadata.within("annotations").text(MIRROR) {
        Some(mirror) => mirror.to_owned(),
        None => metadata.owned("uid"),
    };
    Pod {
        ports: Arc::new(ports),
        name,
        uid,
        labels: Arc::new(metadata.labels("labels")),
        node: spec.text("nodeName").unwrap_or_default().into(),
        addresses,
        on_host_network: spec.flag("hostNetwork"),
        finished: matches!(status.text("phase"), Some("Succeeded" | "Failed")),
        terminating: metadata.value("deletionTimestamp").is_some(),
        created: metadata.owned("creationTimestamp"),
    }
}

/// Adds the ports of a container that have names.
fn add_ports(container: Fields<'_>, ports: &mut Vec<NamedPort>) {
    for port in container.objects("ports") {
        let protocol = protocol(port.text("protocol").unwrap_or("TCP"));
        let (Some(name), Some(protocol)) = (port.text("name"), protocol) else { continue };
        port.require("containerPort");
        ports.push(NamedPort {
            name: name.to_owned(),
            protocol,
            port: number(port, "containerPort"),
        });
    }
}

/// The pods that a policy is about.
fn selected(item: Fields<'_>) -> Selector {
    selector(item.within("spec").within("podSelector"))
}

fn policy(name: Name, pods: Selector, item: Fields<'_>, note: &mut dyn FnMut(String)) -> Policy {
    let spec = item.within("spec");
    let types = spec.texts("policyTypes");
    let mut ways = [None, None];
    for (direction, way) in Direction::BOTH.into_iter().zip(&mut ways) {
        let mut rules = Vec::new();
        for given in spec.objects(direction.word()) {
            rules.push(rule(direction, given, note));
        }
        let isolates = match direction {
            Direction::Egress if types.is_empty() => !rules.is_empty(),
            Direction::Egress => types.iter().any(|of| of == "Egress"),
            Direction::Ingress => types.is_empty() || types.iter().any(|of| of == "Ingress"),
        };
        *way = isolates.then_some(rules);
    }
    Policy { name, pods, ways }
}

/// A rule; of what cannot be read of its peers and ports nothing is left but a note.
fn rule(direction: Direction, given: Fields<'_>, note: &mut dyn FnMut(String)) -> Rule {
    let peers = given.list(match direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    });
    let mut read = Rule::default();
    for each in peers {
        let known = read.peers.get_or_insert_default();
        match reading(|problem| peer(Fields::of(each, problem))) {
            Ok(peer) => known.push(peer),
            Err(problem) => note(format!("{problem}: the peer is allowed nothing")),
        }
    }
    for each in given.list("ports") {
        let known = read.ports.get_or_insert_default();
        match reading(|problem| port(Fields::of(each, problem))) {
            Ok(port) => known.push(port),
            Err(problem) => note(format!("{problem}: the port is open to nobody")),
        }
    }
    read
}

fn peer(given: Fields<'_>) -> Peer {
    let (pods, namespaces) = (given.object("podSelector"), given.object("namespaceSelector"));
    let is_of_pods = pods.is_some() || namespaces.is_some();
    match given.object("ipBlock") {
        Some(network) => {
            if is_of_pods {
                let cidr = network.owned("cidr");
                given.refuse(format!("ipBlock {cidr} stands beside a selector"));
            }
            Peer::Block(block(network))
        }
        None => {
            if !is_of_pods {
                given.refuse("a peer has neither a selector nor an ipBlock".to_owned());
            }
            let (namespaces, pods) = (namespaces.map(selector), pods.map(selector));
            Peer::Pods { namespaces, pods: pods.unwrap_or_default() }
        }
    }
}

fn block(given: Fields<'_>) -> Block {
    let network = network(given, &given.required("cidr"));
    let mut except = Vec::new();
    for text in given.texts("except") {
        let one = self::network(given, &text);
        if one.family() == network.family() {
            except.push(one);
        }
    }
    Block { network, except }
}

/// A network; bits behind its prefix mean nothing.
fn network(given: Fields<'_>, text: &str) -> IpNetwork {
    match cidr::parse(text) {
        Ok(read) => IpNetwork::new(read.network(), read.prefix()).unwrap_or(read),
        Err(problem) => {
            given.refuse(problem);
            IpAddr::from([0; 4]).into()
        }
    }
}

fn port(given: Fields<'_>) -> Port {
    let name = given.text("protocol").unwrap_or("TCP");
    let protocol = protocol(name).unwrap_or_else(|| {
        given.refuse(format!("{name:?} is no protocol with ports"));
        u8::MAX
    });
    let ports = match (given.value("port"), given.value("endPort")) {
        (None, None) => Ports::All,
        (Some(Value::String(name)), None) => Ports::Named(name.clone()),
        (None, Some(last)) => {
            given.refuse(format!("endPort {last} ends no range"));
            Ports::Numbers(0, 0)
        }
        (Some(_), last) => {
            let first = number(given, "port");
            let end = last.map_or(first, |_| number(given, "endPort"));
            if let Some(last) = last.filter(|_| end < first) {
                given.refuse(format!("endPort {last} ends no range"));
            }
            Ports::Numbers(first, end)
        }
    };
    Port { protocol, ports }
}

/// The number of a port, which is there.
fn number(given: Fields<'_>, key: &str) -> u16 {
    let value = given.value(key).unwrap_or(&Value::Null);
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    number.filter(|number| *number > 0).unwrap_or_else(|| {
        given.refuse(format!("{value} is no port"));
        0
    })
}

fn selector(given: Fields<'_>) -> Selector {
    let mut requirements = Vec::new();
    for (key, value) in given.labels("matchLabels") {
        include(&mut requirements, Requirement { key, test: Test::In(vec![value]) });
    }
    for expression in given.objects("matchExpressions") {
        let (key, operator) = (expression.required("key"), expression.required("operator"));
        let mut values = Vec::new();
        for value in expression.texts("values") {
            include(&mut values, value);
        }
        let test = match operator.as_str() {
            "In" => Test::In(values),
            "NotIn" => Test::NotIn(values),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            other => {
                given.refuse(format!("a selector asks {other:?} of label {key}"));
                continue;
            }
        };
        include(&mut requirements, Requirement { key, test });
    }
    Selector(requirements)
}

#[cfg(test)]
mod tests;
