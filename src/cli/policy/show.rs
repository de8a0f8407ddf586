// SPDX-License-Identifier: Apache-2.0
//! `manx policy show`: what is enforced, and what it dropped, as the kernel has it.

use std::net::IpAddr;

use serde_json::Value;

use super::super::{Args, Console, Failure, Status, table::Table};
use crate::{
    list::{Gather, PushAll, Sorted, distinct},
    node::policy,
    policy::{Direction, Dropped, Policies},
    state::journal,
    text::json::object,
};

/// How a pod is isolated in one direction.
struct Isolation {
    class: u32,
    grants: usize,
    networks: usize,
    /// What was dropped for it; `None` where that is not counted.
    dropped: Option<Dropped>,
}

pub(super) fn show(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let held = policy::held()?;
    let dropped = policy::dropped()?;
    let none = Policies::default();
    let policies = held.as_ref().unwrap_or(&none);
    let classes = policies.ways.iter().flat_map(|way| way.classes.keys());
    let pods = distinct(classes.copied().gather());
    let mut names = Vec::new();
    for entry in journal::all(&args.root()) {
        let Some(name) = entry.pod() else { continue };
        names.push_all(entry.addresses.iter().map(|address| (*address, name.clone())));
    }
    let names = Sorted::from_iter(names);
    let ways = |pod| {
        Direction::both(|direction| {
            let dropped = dropped.iter().find(|it| it.address == pod && it.direction == direction);
            isolation(policies, direction, pod, dropped.copied())
        })
    };
    if args.flag("json") {
        let pods = pods.iter().map(|pod| {
            let [egress, ingress] = &ways(*pod);
            let encoded = |way: &Option<Isolation>| way.as_ref().map(encode).into();
            object(vec![
                ("address", pod.to_string().into()),
                ("pod", names.get(pod).cloned().into()),
                ("egress", encoded(egress)),
                ("ingress", encoded(ingress)),
            ])
        });
        let pods: Vec<Value> = pods.gather();
        let (enforced, peers) = (held.is_some(), policies.identities.len());
        console.json(&object(vec![
            ("enforced", enforced.into()),
            ("peers", peers.into()),
            ("pods", pods.into()),
        ]))?;
        return Ok(Status::Fine);
    }
    if held.is_none() {
        console.remark("no network policies are enforced")?;
        return Ok(Status::Fine);
    }
    let mut table = Table::new(&["ADDRESS", "POD", "EGRESS", "DROPPED", "INGRESS", "DROPPED"]);
    for pod in &pods {
        let name = names.get(pod).cloned().unwrap_or_else(|| "-".to_owned());
        let [egress, ingress] = ways(*pod);
        let [out, into] = [&egress, &ingress].map(|way| drops(way.as_ref()));
        let [egress, ingress] = [&egress, &ingress].map(|way| words(way.as_ref()));
        table.row([pod.to_string(), name, egress, out, ingress, into]);
    }
    console.table(&table)?;
    Ok(Status::Fine)
}

fn isolation(
    policies: &Policies,
    direction: Direction,
    pod: IpAddr,
    dropped: Option<Dropped>,
) -> Option<Isolation> {
    let way = policies.way(direction);
    let class = *way.classes.get(&pod)? as u32;
    let grants = way.grants.keys().filter(|grant| grant.class == class);
    let networks = way.networks.keys().filter(|(of, _)| *of == class);
    Some(Isolation { class, grants: grants.count(), networks: networks.count(), dropped })
}

fn encode(way: &Isolation) -> Value {
    let Isolation { class, grants, networks, dropped } = way;
    let dropped = dropped.map(|Dropped { packets, bytes, .. }| {
        object(vec![("packets", packets.into()), ("bytes", bytes.into())])
    });
    object(vec![
        ("class", (*class).into()),
        ("grants", (*grants).into()),
        ("networks", (*networks).into()),
        ("dropped", dropped.into()),
    ])
}

fn words(way: Option<&Isolation>) -> String {
    match way {
        None => "open".to_owned(),
        Some(Isolation { grants: 0, .. }) => "closed".to_owned(),
        Some(Isolation { grants: 1, .. }) => "1 grant".to_owned(),
        Some(Isolation { grants, .. }) => format!("{grants} grants"),
    }
}

fn drops(way: Option<&Isolation>) -> String {
    match way.and_then(|way| way.dropped) {
        None => "-".to_owned(),
        Some(Dropped { packets: 0, .. }) => "0".to_owned(),
        Some(Dropped { packets, bytes, .. }) => format!("{packets} ({bytes} B)"),
    }
}
