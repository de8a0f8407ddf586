//! Objects of Kubernetes as text: a List of Namespaces, Pods and NetworkPolicies, as
//! `kubectl get namespaces,pods,networkpolicies -A -o json` prints it.
//!
//! What the API server fills in is filled in here as well, for not all that is read comes
//! from there. It keeps networks and ports that it would not take any more; a peer or a
//! port that cannot be read allows nothing, and the rest of the policy holds.

mod form;
#[cfg(feature = "agent")]
mod single;

use std::{net::IpAddr, sync::Arc};

use ipnetwork::IpNetwork;
use serde_json::Value;

#[cfg(feature = "agent")]
pub(crate) use form::Item;

use super::{
    Block, Direction, Name, NamedPort, Peer, Pod, Policy, Port, Ports, Requirement, Rule, Selector,
    Test, World,
};
use crate::{cni::cidr, family::HasFamily};

/// Protocols that have ports, by their numbers within IP.
const PROTOCOLS: [(&str, u8); 3] = [("TCP", 6), ("UDP", 17), ("SCTP", 132)];

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
    let list: form::List = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if list.kind != "List" {
        return Err(format!("it is a {:?}, not a List", list.kind));
    }
    let mut found = Read::default();
    for item in list.items {
        let form::Item { kind, metadata, spec, status } = item;
        let name = Name {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone(),
        };
        match kind.as_str() {
            "Namespace" => {
                let labels = metadata.labels.unwrap_or_default();
                found.world.namespaces.insert(metadata.name, Arc::new(labels));
            }
            "Pod" => found.world.pods.push(Arc::new(pod(name, metadata, spec, status)?)),
            "NetworkPolicy" => {
                let policy = policy(name, spec, &mut found.notes)?;
                found.world.policies.push(Arc::new(policy));
            }
            other => return Err(format!("{other} {name} is of no kind that policies are about")),
        }
    }
    Ok(found)
}

/// The number of a protocol by its name in Kubernetes.
pub fn protocol(name: &str) -> Option<u8> {
    PROTOCOLS.into_iter().find(|(known, _)| *known == name).map(|(_, number)| number)
}

/// A protocol for people: its name in small letters, or its number.
pub fn protocol_name(number: u8) -> String {
    let known = PROTOCOLS.into_iter().find(|(_, known)| *known == number);
    known.map_or_else(|| format!("protocol {number}"), |(name, _)| name.to_lowercase())
}

fn pod(
    name: Name,
    metadata: form::Metadata,
    spec: form::Spec,
    status: form::Status,
) -> Result<Pod, String> {
    let listed = status.pod_ips.unwrap_or_default().into_iter().map(|it| it.ip);
    let mut texts: Vec<String> = listed.collect();
    if texts.is_empty() {
        texts.extend(status.pod_ip.filter(|text| !text.is_empty()));
    }
    let addresses: Result<Vec<IpAddr>, String> =
        texts.iter().map(|text| cidr::parse_address(text)).collect();
    let addresses = addresses.map_err(|problem| format!("Pod {name}: {problem}"))?;
    let sidecars = spec.init_containers.unwrap_or_default().into_iter();
    let sidecars = sidecars.filter(|it| it.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.unwrap_or_default().into_iter().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.unwrap_or_default());
    let named = ports.filter_map(|port| {
        let protocol = protocol(port.protocol.as_deref().unwrap_or("TCP"))?;
        Some(NamedPort { name: port.name?, protocol, port: port.container_port })
    });
    let uid = metadata.annotations.and_then(|annotations| annotations.mirror).or(metadata.uid);
    Ok(Pod {
        ports: named.collect(),
        name,
        uid: uid.unwrap_or_default(),
        labels: Arc::new(metadata.labels.unwrap_or_default()),
        node: spec.node_name.unwrap_or_default(),
        addresses,
        on_host_network: spec.host_network.unwrap_or_default(),
        finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        terminating: metadata.deletion_timestamp.is_some(),
        created: metadata.creation_timestamp.unwrap_or_default(),
    })
}

fn policy(name: Name, spec: form::Spec, notes: &mut Vec<String>) -> Result<Policy, String> {
    let failed = |problem: String| format!("NetworkPolicy {name}: {problem}");
    let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
    let types = spec.policy_types.unwrap_or_default();
    let isolates = |direction| match direction {
        Direction::Egress if types.is_empty() => has_egress,
        Direction::Egress => types.iter().any(|of| of == "Egress"),
        Direction::Ingress => types.is_empty() || types.iter().any(|of| of == "Ingress"),
    };
    let mut note = |problem: String| notes.push(failed(problem));
    let pods = selector(spec.pod_selector.unwrap_or_default()).map_err(&failed)?;
    let mut ways = [None, None];
    for ((direction, given), way) in
        Direction::BOTH.into_iter().zip([spec.egress, spec.ingress]).zip(&mut ways)
    {
        let given = given.unwrap_or_default().into_iter();
        let rules: Vec<Rule> = given.map(|given| rule(direction, given, &mut note)).collect();
        *way = isolates(direction).then_some(rules);
    }
    Ok(Policy { name, pods, ways })
}

/// A rule; of what cannot be read of its peers and ports nothing is left but a note.
fn rule(direction: Direction, given: form::Rule, note: &mut dyn FnMut(String)) -> Rule {
    let peers = match direction {
        Direction::Egress => given.to,
        Direction::Ingress => given.from,
    };
    let mut read = Rule::default();
    if let Some(given) = peers.filter(|given| !given.is_empty()) {
        let mut peers = Vec::new();
        for each in given {
            match peer(each) {
                Ok(peer) => peers.push(peer),
                Err(problem) => note(format!("{problem}: the peer is allowed nothing")),
            }
        }
        read.peers = Some(peers);
    }
    if let Some(given) = given.ports.filter(|given| !given.is_empty()) {
        let mut ports = Vec::new();
        for each in given {
            match port(&each) {
                Ok(port) => ports.push(port),
                Err(problem) => note(format!("{problem}: the port is open to nobody")),
            }
        }
        read.ports = Some(ports);
    }
    read
}

fn peer(given: form::Peer) -> Result<Peer, String> {
    let form::Peer { pod_selector, namespace_selector, ip_block } = given;
    match (pod_selector, namespace_selector, ip_block) {
        (None, None, None) => Err("a peer has neither a selector nor an ipBlock".to_owned()),
        (None, None, Some(given)) => block(&given).map(Peer::Block),
        (_, _, Some(given)) => Err(format!("ipBlock {} stands beside a selector", given.cidr)),
        (pods, namespaces, None) => {
            let namespaces = namespaces.map(selector).transpose()?;
            Ok(Peer::Pods { namespaces, pods: selector(pods.unwrap_or_default())? })
        }
    }
}

fn block(given: &form::Block) -> Result<Block, String> {
    let network = network(&given.cidr)?;
    let except = given.except.iter().flatten().map(|text| self::network(text));
    let mut except = except.collect::<Result<Vec<IpNetwork>, String>>()?;
    except.retain(|it| it.family() == network.family());
    Ok(Block { network, except })
}

/// A network; bits behind its prefix mean nothing.
fn network(text: &str) -> Result<IpNetwork, String> {
    let given = cidr::parse(text)?;
    Ok(IpNetwork::new(given.network(), given.prefix()).unwrap_or(given))
}

fn port(given: &form::Port) -> Result<Port, String> {
    let name = given.protocol.as_deref().unwrap_or("TCP");
    let protocol = protocol(name).ok_or_else(|| format!("{name:?} is no protocol with ports"))?;
    let number = |value: &Value| {
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        number.filter(|number| *number > 0).ok_or_else(|| format!("{value} is no port"))
    };
    let ports = match (&given.port, &given.end_port) {
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

fn selector(given: form::Selector) -> Result<Selector, String> {
    let labels = given.match_labels.unwrap_or_default().into_iter();
    let mut requirements: Vec<Requirement> =
        labels.map(|(key, value)| Requirement { key, test: Test::In(vec![value]) }).collect();
    for form::Expression { key, operator, values } in given.match_expressions.unwrap_or_default() {
        let mut values = values.unwrap_or_default();
        values.sort_unstable();
        values.dedup();
        let test = match operator.as_str() {
            "In" => Test::In(values),
            "NotIn" => Test::NotIn(values),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            other => return Err(format!("a selector asks {other:?} of label {key}")),
        };
        requirements.push(Requirement { key, test });
    }
    requirements.sort_unstable();
    requirements.dedup();
    Ok(Selector(requirements))
}

#[cfg(test)]
mod tests;
