// SPDX-License-Identifier: Apache-2.0
//! `manx export`: configurations of routing daemons, for networks that speak
//! BGP. The daemon carries the routes then; manx publishes this node's pod CIDRs
//! as blackhole routes of its own protocol, which is all that the daemon learns.

mod bird;
mod frr;
mod mesh;
#[cfg(test)]
mod tests;

use std::path::Path;

use ipnetwork::IpNetwork;
use mesh::Mesh;

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
};
use crate::{
    fabric::{
        Answers, Inquiry, Ledger, Peers, Settings, describe,
        encapsulation::{self, Encapsulation},
        faults::contains,
        observe,
    },
    list::Gather,
    net::{Socket, Tables},
    node::{
        configured::{Configured, Networks},
        fabric::read_peers,
    },
};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "export",
    summary: "print a configuration of a BGP daemon",
    help: "\
Usage: manx export bird|frr [--as NUMBER] [--peers FILE] [--conf FILE]
                            [--root DIR]

Prints a complete configuration of BIRD 2 or of FRR with which this node tells
every other one where its pods are, in a full mesh. Modes direct and ipip.

The configuration's own peersFile should then name this node alone, so that
manx makes no routes to the others, and --peers should name all of them. With
ipMasq, give clusterCIDRs as well: pods of nodes that manx does not know would
see this node's address.

  --as NUMBER   the autonomous system of all nodes; default: 64512
  --peers FILE  the list of all nodes; default: the configuration's peersFile
  --conf FILE   the configuration; default: the first of ours in /etc/cni/net.d
  --root DIR    read files and state below DIR",
    shape: Shape {
        flags: &[],
        values: &["as", "peers", "conf", "root"],
        operands: Operands::AtMost(1),
    },
    run,
};

/// The first of the numbers for private use (RFC 6996), and Calico's default.
const AUTONOMOUS_SYSTEM: u32 = 64512;

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let render = match args.operands.first().and_then(|operand| operand.to_str()) {
        Some("bird") => bird::render,
        Some("frr") => frr::render,
        _ => return Err(SUBCOMMAND.usage("say for which daemon: bird or frr")),
    };
    let number = autonomous_system(args)?;
    let mesh = describe_mesh(args, number)?;
    write!(console.verbatim(), "{}", render(&mesh))?;
    for note in &mesh.notes {
        console.remark(format_args!("note: {note}"))?;
    }
    Ok(Status::Fine)
}

fn autonomous_system(args: &Args) -> Result<u32, Failure> {
    let Some(text) = args.value("as") else { return Ok(AUTONOMOUS_SYSTEM) };
    let number = text.to_str().and_then(|text| text.parse().ok());
    number
        .filter(|number| *number != 0)
        .ok_or_else(|| SUBCOMMAND.usage("--as takes a number from 1 to 4294967295"))
}

fn describe_mesh(args: &Args, number: u32) -> Result<Mesh, Failure> {
    let networks = Networks::read(&args.root(), args.value("conf").map(Path::new))?;
    let unusable: Vec<String> =
        networks.unusable.iter().map(|(_, error)| error.to_string()).gather();
    let Some(node) = networks.first() else {
        return Err(Failure::Failed("there is no configuration".to_owned()));
    };
    let settings = Settings::of_config(&node.config);
    if let Some(carried) = settings.encapsulation().filter(|one| !one.is_led_by_routes()) {
        let others = encapsulation::modes(Encapsulation::is_led_by_routes).join(" or ");
        return Err(Failure::Failed(format!(
            "mode {} has forwarding entries that BGP does not carry: use direct or {others}",
            carried.name()
        )));
    }
    let given = args.value("peers").map(Path::new);
    let Some(path) = given.or(node.peers_file.as_deref()) else {
        let why = "the configuration names no peersFile: give the list of nodes with --peers FILE";
        return Err(Failure::Failed(why.to_owned()));
    };
    let mut socket = Socket::open()?;
    let (peers, _) = read_peers(path, &node.config, &mut socket)?;
    let masqueraded = masqueraded(&node, &peers, &mut socket);
    let tables = Tables::of_kernel(&mut socket)?;
    let (socket, answers) = (&mut socket, &mut Answers::default());
    let inquiry = Inquiry { socket, tables: &tables, answers };
    let facts = observe::facts(inquiry, &settings, &peers, &Ledger::default())?;
    let desired = describe(&settings, &peers, &facts);
    let cluster = node.config.fabric.cluster_cidrs.clone().unwrap_or_default();
    let mut mesh = Mesh::new(number, &settings, &peers, &facts, &desired, &cluster);
    mesh.notes.extend(masqueraded);
    mesh.notes.extend(unusable);
    Ok(mesh)
}

/// What masquerade would do to packets that the daemon's routes carry: the
/// configuration spares the pods of its own list, and here that names no others.
fn masqueraded(node: &Configured, all: &Peers, socket: &mut Socket) -> Option<String> {
    if !node.config.masquerade {
        return None;
    }
    let mut spared = node.config.never_masqueraded.clone();
    let own = node.peers_file.as_deref();
    if let Some((own, _)) = own.and_then(|path| read_peers(path, &node.config, socket).ok()) {
        spared.extend(own.pod_cidrs());
    }
    let bare = |cidr: &IpNetwork| !spared.iter().any(|spared| contains(spared, cidr));
    let cidr = all.pod_cidrs().find(bare)?;
    Some(format!(
        "ipMasq is on, and nothing spares {cidr}: pods there would see this node's address \
         instead of the pod's; give clusterCIDRs that hold the pods of all nodes"
    ))
}
