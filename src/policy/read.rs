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
use crate::{
    cni::cidr,
    family::HasFamily,
    list::{PushAll, include},
};
pub(crate) use fields::Fields;
use fields::missing;
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
        let item = Fields::of(item)?;
        let metadata = item.object("metadata")?.ok_or_else(|| missing("metadata"))?;
        let (namespace, name) = (metadata.owned("namespace")?, metadata.required("name")?);
        let name = Name { namespace, name };
        let kind = item.required("kind")?;
        let failed = |problem: String| format!("{kind} {name}: {problem}");
        // Calico has a kind of the same name, which says something else.
        let version = item.owned("apiVersion")?;
        if kind == "NetworkPolicy" && !version.is_empty() && group(&version) != OURS {
            return Err(failed(format!(
                "it is of {version}; manx reads those of {OURS}/v1, and manx validate --policies \
                 tells what is lost of others"
            )));
        }
        match kind.as_str() {
            "Namespace" => {
                let labels = metadata.labels("labels").map_err(failed)?;
                self.world.namespaces.insert(name.name, Arc::new(labels));
            }
            "Pod" => {
                let addresses = addresses(item).map_err(failed)?;
                let pod = pod(name.clone(), addresses, item).map_err(failed)?;
                self.world.pods.push(Arc::new(pod));
            }
            "NetworkPolicy" => {
                let mut note = |problem: String| self.notes.push(failed(problem));
                let pods = selected(item).map_err(failed)?;
                let policy = policy(name.clone(), pods, item, &mut note).map_err(failed)?;
                self.world.policies.push(Arc::new(policy));
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
fn address_texts(item: Fields<'_>) -> Result<Vec<String>, String> {
    let status = item.object("status")?.unwrap_or_default();
    let mut texts = Vec::new();
    for address in status.list("podIPs")? {
        texts.push(Fields::of(address)?.required("ip")?);
    }
    let single = status.text("podIP")?.filter(|text| !text.is_empty() && texts.is_empty());
    texts.push_all(single.map(str::to_owned));
    Ok(texts)
}

fn addresses(item: Fields<'_>) -> Result<Vec<IpAddr>, String> {
    address_texts(item)?.iter().map(|text| cidr::parse_address(text)).collect()
}

fn pod(name: Name, addresses: Vec<IpAddr>, item: Fields<'_>) -> Result<Pod, String> {
    let metadata = item.object("metadata")?.unwrap_or_default();
    let spec = item.object("spec")?.unwrap_or_default();
    let status = item.object("status")?.unwrap_or_default();
    let mut ports = Vec::new();
    for container in spec.list("containers")? {
        ports_of(Fields::of(container)?, &mut ports)?;
    }
    for container in spec.list("initContainers")? {
        let container = Fields::of(container)?;
        // Sidecars.
        if container.text("restartPolicy")? == Some("Always") {
            ports_of(container, &mut ports)?;
        }
    }
    let annotations = metadata.object("annotations")?.unwrap_or_default();
    let uid = match annotations.text(MIRROR)? {
        Some(mirror) => mirror.to_owned(),
        None => metadata.owned("uid")?,
    };
    Ok(Pod {
        ports: Arc::new(ports),
        name,
        uid,
        labels: Arc::new(metadata.labels("labels")?),
        node: spec.text("nodeName")?.unwrap_or_default().into(),
        addresses,
        on_host_network: spec.flag("hostNetwork")?,
        finished: matches!(status.text("phase")?, Some("Succeeded" | "Failed")),
        terminating: metadata.value("deletionTimestamp").is_some(),
        created: metadata.owned("creationTimestamp")?,
    })
}

/// Adds the ports of a container that have names.
fn ports_of(container: Fields<'_>, ports: &mut Vec<NamedPort>) -> Result<(), String> {
    for port in container.list("ports")? {
        let port = Fields::of(port)?;
        let protocol = protocol(port.text("protocol")?.unwrap_or("TCP"));
        let (Some(name), Some(protocol)) = (port.text("name")?, protocol) else { continue };
        let number = number(port.value("containerPort").ok_or_else(|| missing("containerPort"))?)?;
        ports.push(NamedPort { name: name.to_owned(), protocol, port: number });
    }
    Ok(())
}

/// The pods that a policy is about.
fn selected(item: Fields<'_>) -> Result<Selector, String> {
    let spec = item.object("spec")?.unwrap_or_default();
    selector(spec.object("podSelector")?.unwrap_or_default())
}

fn policy(
    name: Name,
    pods: Selector,
    item: Fields<'_>,
    note: &mut dyn FnMut(String),
) -> Result<Policy, String> {
    let spec = item.object("spec")?.unwrap_or_default();
    let types = spec.texts("policyTypes")?;
    let mut ways = [None, None];
    for (direction, way) in Direction::BOTH.into_iter().zip(&mut ways) {
        let given = spec.list(direction.word())?;
        let isolates = match direction {
            Direction::Egress if types.is_empty() => !given.is_empty(),
            Direction::Egress => types.iter().any(|of| of == "Egress"),
            Direction::Ingress => types.is_empty() || types.iter().any(|of| of == "Ingress"),
        };
        let mut rules = Vec::new();
        for given in given {
            rules.push(rule(direction, Fields::of(given)?, note)?);
        }
        *way = isolates.then_some(rules);
    }
    Ok(Policy { name, pods, ways })
}

/// A rule; of what cannot be read of its peers and ports nothing is left but a note.
fn rule(
    direction: Direction,
    given: Fields<'_>,
    note: &mut dyn FnMut(String),
) -> Result<Rule, String> {
    let peers = given.list(match direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    })?;
    let mut read = Rule::default();
    for each in peers {
        let known = read.peers.get_or_insert_default();
        match Fields::of(each).and_then(peer) {
            Ok(peer) => known.push(peer),
            Err(problem) => note(format!("{problem}: the peer is allowed nothing")),
        }
    }
    for each in given.list("ports")? {
        let known = read.ports.get_or_insert_default();
        match Fields::of(each).and_then(port) {
            Ok(port) => known.push(port),
            Err(problem) => note(format!("{problem}: the port is open to nobody")),
        }
    }
    Ok(read)
}

fn peer(given: Fields<'_>) -> Result<Peer, String> {
    let pods = given.object("podSelector")?;
    let namespaces = given.object("namespaceSelector")?;
    match (pods, namespaces, given.object("ipBlock")?) {
        (None, None, None) => Err("a peer has neither a selector nor an ipBlock".to_owned()),
        (None, None, Some(given)) => block(given).map(Peer::Block),
        (_, _, Some(given)) => {
            Err(format!("ipBlock {} stands beside a selector", given.owned("cidr")?))
        }
        (pods, namespaces, None) => {
            let namespaces = namespaces.map(selector).transpose()?;
            Ok(Peer::Pods { namespaces, pods: selector(pods.unwrap_or_default())? })
        }
    }
}

fn block(given: Fields<'_>) -> Result<Block, String> {
    let network = network(&given.required("cidr")?)?;
    let mut except = Vec::new();
    for text in given.texts("except")? {
        let one = self::network(&text)?;
        if one.family() == network.family() {
            except.push(one);
        }
    }
    Ok(Block { network, except })
}

/// A network; bits behind its prefix mean nothing.
fn network(text: &str) -> Result<IpNetwork, String> {
    let given = cidr::parse(text)?;
    Ok(IpNetwork::new(given.network(), given.prefix()).unwrap_or(given))
}

fn port(given: Fields<'_>) -> Result<Port, String> {
    let name = given.text("protocol")?.unwrap_or("TCP");
    let protocol = protocol(name).ok_or_else(|| format!("{name:?} is no protocol with ports"))?;
    let ports = match (given.value("port"), given.value("endPort")) {
        (None, None) => Ports::All,
        (Some(Value::String(name)), None) => Ports::Named(name.clone()),
        (Some(first), None) => Ports::Numbers(number(first)?, number(first)?),
        (Some(first), Some(last)) if number(first)? <= number(last)? => {
            Ports::Numbers(number(first)?, number(last)?)
        }
        (_, Some(last)) => return Err(format!("endPort {last} ends no range")),
    };
    Ok(Port { protocol, ports })
}

fn number(value: &Value) -> Result<u16, String> {
    let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or_else(|| format!("{value} is no port"))
}

fn selector(given: Fields<'_>) -> Result<Selector, String> {
    let mut requirements = Vec::new();
    for (key, value) in given.labels("matchLabels")? {
        include(&mut requirements, Requirement { key, test: Test::In(vec![value]) });
    }
    for expression in given.list("matchExpressions")? {
        let expression = Fields::of(expression)?;
        let (key, operator) = (expression.required("key")?, expression.required("operator")?);
        let mut values = Vec::new();
        for value in expression.texts("values")? {
            include(&mut values, value);
        }
        let test = match operator.as_str() {
            "In" => Test::In(values),
            "NotIn" => Test::NotIn(values),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            other => return Err(format!("a selector asks {other:?} of label {key}")),
        };
        include(&mut requirements, Requirement { key, test });
    }
    Ok(Selector(requirements))
}

#[cfg(test)]
mod tests;
