// SPDX-License-Identifier: Apache-2.0
//! From Calico's objects to the list of nodes that a peers file is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnetwork::IpNetwork;

use super::{
    super::common::{Common, word},
    believed::{Believed, UNANSWERED},
    blocks::{Block, without},
    input::Input,
    needs::{self, Needs},
    nodes::{CalicoNode, vxlan_note},
    pools::{Choice, Pool},
};
use crate::{
    conf::Mode,
    fabric::nodes::{Record, Tunnel},
    family::{Family, HasFamily, is_single},
    finding::{Finding, Severity},
    list::{Gather, PushAll},
    node::version::VERSION,
};

/// The networks of each node's pods.
type Networks<'a> = BTreeMap<&'a str, Vec<IpNetwork>>;

/// Makes of Calico's objects what there would be of its own.
///
/// # Errors
/// Where they cannot be a cluster's.
pub(crate) fn settle(input: &Input<'_>) -> Result<(Vec<Arc<Record>>, Common), String> {
    let blocks = all_blocks(input);
    let networks: Vec<IpNetwork> = blocks.iter().filter_map(|block| block.cidr).gather();
    let pools = input.pools.iter().map(Arc::as_ref);
    let choice = Choice::of(pools, &networks, input.plain).ok_or_else(|| {
        "no IPPool of Calico has addresses for pods: see kubectl get ippools -o yaml".to_owned()
    })?;
    let mut findings = of_pools(&choice);
    let judging = blocks.iter().map(Arc::as_ref).filter(|_| input.blocks.is_some());
    let mut believed = Believed::of(input, judging, &choice);
    findings.append(&mut believed.findings);
    let pods = pods(input, &blocks, &choice, &believed);
    let own = input.nodes.iter().find(|node| node.name() == input.own);
    let needs = own.and_then(|own| needs::of(input, own, &choice, &believed));
    let cross_subnet = choice.cross_subnet && own.is_none_or(|own| has_subnet(own));
    let records = input.nodes.iter().map(|node| {
        let mut networks = pods.get(node.name()).cloned().unwrap_or_default();
        let is_own = node.name() == input.own;
        if !is_own && choice.mode == Mode::Vxlan {
            let near = |ip: IpNetwork| cross_subnet && own.is_some_and(|own| is_near(own, ip));
            findings.push_all(without_tunnels(node, &mut networks, &choice, &near));
        }
        let mut tunnels: Vec<IpAddr> = believed.tunnels(node, &choice).gather();
        if let Some(needs) = needs.as_ref().filter(|_| is_own) {
            tunnels.retain(|address| !needs.useless.contains(address));
            tunnels.extend(&needs.tunnels);
        }
        let mac = node.mac().filter(|_| choice.mode == Mode::Vxlan);
        let is_usual = tunnels.is_empty() && mac.is_none();
        let tunnel = (!is_usual).then_some(Tunnel { addresses: tunnels, mac });
        let addresses = believed.addresses(node).map(|address| address.to_string().into());
        Arc::new(Record {
            addresses: addresses.gather(),
            pod_cidrs: networks.iter().map(|network| network.to_string().into()).gather(),
            tunnel: tunnel.map(Box::new),
            ..node.record.clone()
        })
    });
    let records = records.gather();
    let lacking = needs.as_ref().filter(|needs| !needs.notes.is_empty());
    let trouble = lacking.map(|needs| trouble(input.own, needs));
    findings.push_all(needs.and_then(|needs| moved(input.own, needs)));
    let (mode, masquerade, families) = (choice.mode, choice.masquerade, choice.families());
    let plain = choice.plain;
    Ok((records, Common { mode, plain, cross_subnet, masquerade, families, findings, trouble }))
}

fn trouble(own: &str, needs: &Needs) -> Finding {
    let object = format!("Node {own}");
    let words = format!("it lacks the annotations {}", needs.notes.join(", "));
    let mut finding = Finding::new("calico-annotations", Severity::Error, object, words);
    finding.fix.clone_from(&needs.commands);
    finding
}

/// An address that is in another node's block by now: a pod may get it, and what Calico's
/// nodes send to it goes to that node.
fn moved(own: &str, needs: Needs) -> Option<Finding> {
    let words = format!("its tunnel address does not count: {}", needs.moved?);
    let mut finding =
        Finding::new("address-ignored", Severity::Warning, format!("Node {own}"), words);
    finding.why = UNANSWERED;
    finding.fix = needs.commands;
    Some(finding)
}

/// Calico's blocks, or those that it takes podCIDRs for.
fn all_blocks(input: &Input<'_>) -> Vec<Arc<Block>> {
    if let Some(blocks) = input.blocks {
        return blocks.to_vec();
    }
    let block = |node: &CalicoNode, text: &str| {
        let cidr = Some(text.parse().ok()?);
        let node = Some(Box::from(node.name()));
        Some(Arc::new(Block { cidr, node, borrowed: Vec::new() }))
    };
    let of_node = |node: &'_ Arc<CalicoNode>| {
        node.record.pod_cidrs.iter().filter_map(|text| block(node, text)).gather()
    };
    input.nodes.iter().flat_map(of_node).gather()
}

/// Where each node's pods are, by the blocks and by who has an address of another's.
fn pods<'a>(
    input: &Input<'a>,
    blocks: &'a [Arc<Block>],
    choice: &Choice<'_>,
    believed: &Believed<'_>,
) -> Networks<'a> {
    let known: BTreeSet<&str> = input.nodes.iter().map(|node| node.name()).collect();
    // Of an address of a node there is no pod, and behind that of a tunnel there is its node.
    let mut fixed: BTreeMap<IpAddr, Option<&str>> = BTreeMap::new();
    for node in input.nodes.iter().filter(|_| input.blocks.is_some()) {
        fixed.extend(believed.tunnels(node, choice).map(|address| (address, Some(node.name()))));
        fixed.extend(believed.addresses(node).map(|address| (address, None)));
    }
    let mut pods = Networks::new();
    for block in blocks {
        let Some(cidr) = block.cidr.filter(|cidr| choice.serves(cidr)) else { continue };
        let node = block.node.as_deref().filter(|node| known.contains(node));
        let borrowed = block.borrowed.iter();
        let mut others: BTreeMap<IpAddr, Option<&str>> = borrowed
            .map(|borrowed| (borrowed.address, Some(&*borrowed.node)))
            .filter(|(_, holder)| holder.is_some_and(|holder| known.contains(holder)))
            .collect();
        others.extend(fixed.range(cidr.network()..=cidr.broadcast()).map(|(ip, of)| (*ip, *of)));
        others.retain(|_, holder| holder.is_none() || *holder != node);
        if let Some(node) = node {
            let addresses: Vec<IpAddr> = others.keys().copied().gather();
            pods.entry(node).or_default().push_all(without(cidr, &addresses));
        }
        for (address, holder) in others {
            if let Some(holder) = holder {
                pods.entry(holder).or_default().push(address.into());
            }
        }
    }
    pods
}

/// Takes away what no tunnel leads to, as Calico has no tunnel to a node without both an
/// address and a tunnel address; tells of the node if something was there.
fn without_tunnels(
    node: &CalicoNode,
    networks: &mut Vec<IpNetwork>,
    choice: &Choice<'_>,
    near: &dyn Fn(IpNetwork) -> bool,
) -> Option<Finding> {
    let lacks = |family: Family| {
        let address = node.address(family).filter(|_| node.has_noted(family));
        let near = node.address(family).is_some_and(near);
        !near && (address.is_none() || node.vxlan(family).is_none())
    };
    let is_lost = |family: &Family| choice.mode_of(*family) == Mode::Vxlan && lacks(*family);
    let lost: BTreeSet<Family> = Family::BOTH.into_iter().filter(is_lost).collect();
    let before = networks.clone();
    networks.retain(|network| !lost.contains(&network.family()));
    let first = before.iter().find(|network| lost.contains(&network.family()))?;
    let object = format!("Node {}", node.name());
    let note = vxlan_note(first.family());
    let words = format!(
        "there is no tunnel to its pods ({first}): it lacks the annotation {note}, or that of its \
         address"
    );
    let mut finding = Finding::new("peer-excluded", Severity::Warning, object, words);
    finding.fix = format!(
        "see kubectl get node {} -o yaml: calico-node on it writes them, and an agent of manx \
         there says what to write",
        node.name()
    );
    Some(finding)
}

/// Whether a node is in the subnet that Calico noted for this one.
fn is_near(own: &CalicoNode, other: IpNetwork) -> bool {
    own.address(other.family()).is_some_and(|own| !is_single(&own) && own.contains(other.ip()))
}

/// Whether there is a subnet of this node, by what Calico noted. Where it noted nothing
/// the kernel knows.
fn has_subnet(own: &CalicoNode) -> bool {
    let alone =
        |family| own.has_noted(family) && own.address(family).is_some_and(|own| is_single(&own));
    !alone(Family::V4)
}

fn of_pools(choice: &Choice<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let object = |pool: &Pool| format!("IPPool {}", pool.name);
    for pool in &choice.unserved {
        let words = format!(
            "it is of mode {}, and the first pool with pods is of mode {}: a node has one for all, \
             and no routes lead to the pods of this one",
            word(pool.mode),
            word(choice.mode)
        );
        let mut finding = Finding::new("calico-pools", Severity::Warning, object(pool), words);
        finding.fix = match choice.is_held_back {
            true => format!(
                "install manx {VERSION} on this node: its plugin reads no peers file by which a family \
                 travels plainly beside VXLAN"
            ),
            false => "give all pools with pods the same ipipMode and vxlanMode".to_owned(),
        };
        findings.push(finding);
    }
    if let Some(pool) = choice.divided.first() {
        let words = "natOutgoing is not the same in all pools with pods, and holds for all here";
        let mut finding = Finding::new("calico-pools", Severity::Warning, object(pool), words);
        finding.fix = "give all pools with pods the same natOutgoing".to_owned();
        findings.push(finding);
    }
    findings
}

#[cfg(test)]
mod tests;
