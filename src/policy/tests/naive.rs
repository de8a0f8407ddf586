// SPDX-License-Identifier: Apache-2.0
//! The same question answered in the plainest way, sentence by sentence as the API's
//! documentation has it.

use std::net::IpAddr;

use super::super::{
    Flow, Labels, Peer, Pod, Policy, Ports, Requirement, Rule, Selector, Test, World,
};

pub(super) fn is_allowed(world: &World, flow: &Flow) -> bool {
    let source = owner(world, flow.source);
    let destination = owner(world, flow.destination);
    if flow.source == flow.destination && source.is_some() {
        return true;
    }
    if let Some(pod) = source {
        let policies: Vec<&Policy> = world
            .policies
            .iter()
            .map(AsRef::as_ref)
            .filter(|it| selects(it, pod) && it.ways[0].is_some())
            .collect();
        let allows = |policy: &&Policy| {
            let rules = policy.ways[0].as_ref().unwrap();
            rules.iter().any(|rule| {
                allows(world, policy, rule, flow.destination, destination, flow, destination)
            })
        };
        if !policies.is_empty() && !policies.iter().any(allows) {
            return false;
        }
    }
    if let Some(pod) = destination {
        let policies: Vec<&Policy> = world
            .policies
            .iter()
            .map(AsRef::as_ref)
            .filter(|it| selects(it, pod) && it.ways[1].is_some())
            .collect();
        let allows = |policy: &&Policy| {
            let rules = policy.ways[1].as_ref().unwrap();
            rules
                .iter()
                .any(|rule| allows(world, policy, rule, flow.source, source, flow, destination))
        };
        if !policies.is_empty() && !policies.iter().any(allows) {
            return false;
        }
    }
    true
}

/// Of pods that live and have an address of their own: the one that stays, or else the
/// youngest.
fn owner(world: &World, address: IpAddr) -> Option<&Pod> {
    let mut found: Option<&Pod> = None;
    for pod in &world.pods {
        if pod.finished || pod.on_host_network || !pod.addresses.contains(&address) {
            continue;
        }
        let better = match found {
            None => true,
            Some(other) if other.terminating != pod.terminating => other.terminating,
            Some(other) => pod.created > other.created,
        };
        if better {
            found = Some(pod);
        }
    }
    found
}

fn selects(policy: &Policy, pod: &Pod) -> bool {
    policy.name.namespace == pod.name.namespace && matches(&policy.pods, &pod.labels)
}

fn matches(selector: &Selector, labels: &Labels) -> bool {
    for Requirement { key, test } in &selector.0 {
        let holds = match (test, labels.get(key)) {
            (Test::In(values), Some(value)) => values.contains(value),
            (Test::NotIn(values), Some(value)) => !values.contains(value),
            (Test::In(_), None) | (Test::Exists, None) | (Test::DoesNotExist, Some(_)) => false,
            (Test::NotIn(_), None) | (Test::Exists, Some(_)) | (Test::DoesNotExist, None) => true,
        };
        if !holds {
            return false;
        }
    }
    true
}

fn allows(
    world: &World,
    policy: &Policy,
    rule: &Rule,
    address: IpAddr,
    peer: Option<&Pod>,
    flow: &Flow,
    target: Option<&Pod>,
) -> bool {
    let is_peer = match &rule.peers {
        None => true,
        Some(peers) => peers.iter().any(|it| match it {
            Peer::Block(block) => {
                block.network.contains(address)
                    && block.except.iter().all(|except| !except.contains(address))
            }
            Peer::Pods { namespaces, pods } => peer.is_some_and(|peer| {
                let namespace = &peer.name.namespace;
                let in_namespace = match namespaces {
                    None => *namespace == policy.name.namespace,
                    Some(selector) => world.namespaces.get(namespace).is_some_and(|own| {
                        let mut labels = Labels::clone(own);
                        if !labels.has("kubernetes.io/metadata.name") {
                            labels.insert("kubernetes.io/metadata.name".into(), namespace.clone());
                        }
                        matches(selector, &labels)
                    }),
                };
                in_namespace && matches(pods, &peer.labels)
            }),
        }),
    };
    let is_port = match (&rule.ports, flow.port) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(ports), Some(number)) => ports.iter().any(|it| {
            it.protocol == flow.protocol
                && match &it.ports {
                    Ports::All => true,
                    Ports::Numbers(first, last) => *first <= number && number <= *last,
                    Ports::Named(name) => target.is_some_and(|pod| {
                        let named = pod
                            .ports
                            .iter()
                            .find(|port| port.name == *name && port.protocol == it.protocol);
                        named.is_some_and(|port| port.port == number)
                    }),
                }
        }),
    };
    is_peer && is_port
}
