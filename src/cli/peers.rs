// SPDX-License-Identifier: Apache-2.0
//! `manx peers`: the nodes of the list that this node goes by, and such a list made of a
//! cluster's Nodes.

#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod kubectl;

use std::io;

use serde_json::{Value, json};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    doctor::look,
    table::Table,
};
use crate::{
    fabric::{
        peers::Node,
        standing::{Standing, standings},
    },
    list::Gather,
    node::OfFabric,
    text::few::first_of,
};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "peers",
    summary: "list the nodes of the peers file, and how they are reached",
    help: "\
Usage: manx peers [--json] [--bundle FILE | [--conf FILE] [--root DIR]]
       manx peers from-kubectl < NODES > FILE

Lists the nodes with their pod CIDRs, the device by which packets to them leave,
and a state: self, reachable where all is there that leads to the node, degraded
where something of it is missing or is somebody else's, excluded where the node
is left out of the list. No packet is sent: what lies between the nodes is not
known.

from-kubectl reads what kubectl get nodes -o json prints, and writes a peers
file for all nodes of the cluster, by the rules of the agent: for nodes that
have none. A Node without a podCIDR is left out, and named. Exits 3 where Nodes
are left out because they claim what others have.

  --json       {\"peers\": [{\"name\", \"addresses\", \"podCIDRs\", \"device\",
               \"state\", \"why\": [], \"networks\": []}]}
  --bundle FILE
               look at a node by what manx bundle wrote, not at this one
  --conf FILE  one configuration; default: all of ours in /etc/cni/net.d
  --root DIR   read files and state below DIR",
    shape: Shape {
        flags: &["json"],
        values: &["bundle", "conf", "root"],
        operands: Operands::AtMost(1),
    },
    run,
};

/// What is done with a list of Nodes.
const FROM_KUBECTL: &str = "from-kubectl";

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    match args.operands.first() {
        None => {}
        Some(word) if word != FROM_KUBECTL => {
            let words = format!("unexpected argument {:?}", word.to_string_lossy());
            return Err(SUBCOMMAND.usage(&words));
        }
        Some(_)
            if SUBCOMMAND
                .shape
                .options()
                .any(|name| args.flag(name) || args.value(name).is_some()) =>
        {
            return Err(SUBCOMMAND.usage("from-kubectl reads stdin, and takes no option"));
        }
        Some(_) => return kubectl::run(console),
    }
    look::require_one_node(args, &SUBCOMMAND)?;
    let taken = || look::planned(args);
    let snapshot = args.value("bundle").map_or_else(taken, look::bundled)?;
    let compared = &snapshot.compared;
    let dead: Vec<&str> = snapshot.kernel.without_carrier().map(|link| link.name.as_str()).gather();
    let lists: Vec<(&OfFabric, Vec<Standing>)> = compared
        .fabrics
        .iter()
        .map(|seen| (seen, standings(&seen.peers, &seen.plan(), &dead)))
        .gather();
    if let (true, Some(failure)) = (lists.is_empty(), compared.failed.first()) {
        return Err(Failure::Failed(failure.clone()));
    }
    if args.flag("json") {
        let peers = lists.iter().flat_map(|(seen, others)| {
            let others = others.iter().map(|one| describe(one, one.state.as_str(), &seen.networks));
            std::iter::once(describe(&of_self(&seen.peers.me), SELF, &seen.networks)).chain(others)
        });
        console.json(&json!({"peers": peers.gather()}))?;
    } else {
        print(&lists, console)?;
        for words in &compared.without {
            console.remark(format_args!("note: {words}"))?;
        }
        if lists.is_empty() && compared.without.is_empty() {
            console.remark("no network has a peersFile")?;
        }
    }
    Ok(Status::Fine)
}

/// The state of this node itself.
const SELF: &str = "self";

fn of_self(me: &Node) -> Standing {
    Standing {
        name: me.name.clone(),
        addresses: me.addresses.clone(),
        pod_cidrs: me.pod_cidrs.clone(),
        device: None,
        state: crate::fabric::standing::State::Reachable,
        why: Vec::new(),
    }
}

fn describe(one: &Standing, state: &str, networks: &[String]) -> Value {
    let Standing { name, addresses, pod_cidrs, device, why, .. } = one;
    json!({"name": name, "addresses": addresses, "podCIDRs": pod_cidrs, "device": device,
           "state": state, "why": why, "networks": networks})
}

fn print(lists: &[(&OfFabric, Vec<Standing>)], console: &mut Console<'_>) -> io::Result<()> {
    let mut table = Table::new(&["NODE", "ADDRESSES", "POD CIDRS", "DEVICE", "STATE", "WHY"]);
    for (seen, others) in lists {
        add(&mut table, &of_self(&seen.peers.me), SELF);
        for one in others {
            add(&mut table, one, one.state.as_str());
        }
    }
    if lists.is_empty() { Ok(()) } else { console.table(&table) }
}

fn add(table: &mut Table, one: &Standing, state: &str) {
    let Standing { name, addresses, pod_cidrs, device, why, .. } = one;
    table.row([
        name.clone(),
        joined(addresses),
        joined(pod_cidrs),
        device.clone().unwrap_or_else(|| "-".to_owned()),
        state.to_owned(),
        first_of(why),
    ]);
}

fn joined<T: ToString>(all: &[T]) -> String {
    match all {
        [] => "-".to_owned(),
        all => all.iter().map(T::to_string).gather().join(","),
    }
}
