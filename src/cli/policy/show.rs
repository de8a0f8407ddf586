//! `manx policy show`: what is enforced, as the kernel has it.

use std::{collections::BTreeSet, net::IpAddr};

use serde_json::{Value, json};

use super::super::{Args, Console, Failure, Status, table::Table};
use crate::{
    node::policy,
    policy::{Direction, Policies},
};

/// How a pod is isolated in one direction.
struct Isolation {
    class: u32,
    grants: usize,
    networks: usize,
}

pub(super) fn show(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let held = policy::held()?;
    let none = Policies::default();
    let policies = held.as_ref().unwrap_or(&none);
    let classes = policies.ways.iter().flat_map(|way| way.classes.keys());
    let mut pods = BTreeSet::new();
    pods.extend(classes.copied());
    let ways = |pod| Direction::BOTH.map(|direction| isolation(policies, direction, pod));
    if args.flag("json") {
        let pods = pods.iter().map(|pod| {
            let [egress, ingress] = ways(*pod).map(|way| way.as_ref().map(encode));
            json!({"address": pod, "egress": egress, "ingress": ingress})
        });
        let pods: Vec<Value> = pods.collect();
        let (enforced, peers) = (held.is_some(), policies.identities.len());
        console.json(&json!({"enforced": enforced, "peers": peers, "pods": pods}))?;
        return Ok(Status::Fine);
    }
    if held.is_none() {
        console.remark("no network policies are enforced")?;
        return Ok(Status::Fine);
    }
    let mut table = Table::new(&["POD", "EGRESS", "INGRESS"]);
    for pod in &pods {
        let [egress, ingress] = ways(*pod).map(|way| words(way.as_ref()));
        table.row([pod.to_string(), egress, ingress]);
    }
    console.table(&table)?;
    Ok(Status::Fine)
}

fn isolation(policies: &Policies, direction: Direction, pod: IpAddr) -> Option<Isolation> {
    let way = policies.way(direction);
    let class = *way.classes.get(&pod)? as u32;
    let grants = way.grants.keys().filter(|grant| grant.class == class);
    let networks = way.networks.keys().filter(|(of, _)| *of == class);
    Some(Isolation { class, grants: grants.count(), networks: networks.count() })
}

fn encode(way: &Isolation) -> Value {
    let Isolation { class, grants, networks } = way;
    json!({"class": class, "grants": grants, "networks": networks})
}

fn words(way: Option<&Isolation>) -> String {
    match way {
        None => "open".to_owned(),
        Some(Isolation { grants: 0, .. }) => "closed".to_owned(),
        Some(Isolation { grants: 1, .. }) => "1 grant".to_owned(),
        Some(Isolation { grants, .. }) => format!("{grants} grants"),
    }
}
