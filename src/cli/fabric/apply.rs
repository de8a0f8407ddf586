//! `manx apply`: makes the node what its configuration and its peers file say.

use super::{
    super::{
        Args, Console, Failure, Status, Subcommand,
        args::{Operands, Shape},
        failed,
    },
    Changes, Node, watch,
};
use crate::{
    fabric::Plan,
    net::Socket,
    verb::{fabric as applied, repair},
};

pub(in crate::cli) const SUBCOMMAND: Subcommand = Subcommand {
    name: "apply",
    summary: "make the routes to other nodes what they should be",
    help: "\
Usage: manx apply [--watch | --undo] [--conf FILE] [--root DIR]

Makes the changes that plan shows, prints each, and exits 0 if the node is then
as it should be. What somebody else has is left alone and reported. A peers file
that is not valid changes nothing.

  --watch      stay, and repair within milliseconds what others change
  --undo       remove all routes, neighbours and tunnels of ours
  --conf FILE  the configuration; default: the first of ours in /etc/cni/net.d
  --root DIR   read files and state below DIR",
    shape: Shape {
        flags: &["watch", "undo"],
        values: &["conf", "root"],
        operands: Operands::AtMost(0),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let node = Node::read(args)?;
    match (args.flag("undo"), args.flag("watch")) {
        (true, true) => Err(SUBCOMMAND.usage("--undo and --watch exclude each other")),
        (true, false) => undo(&node, console),
        (false, true) => watch::watch(&node, console),
        (false, false) => apply(&node, &mut Socket::open()?, console),
    }
}

/// One pass: compares, changes, notes what was applied.
pub(super) fn apply(
    node: &Node,
    socket: &mut Socket,
    console: &mut Console<'_>,
) -> Result<Status, Failure> {
    let _lock = node.ground().lock()?;
    let changes = node.compare(socket)?;
    for line in changes.lines() {
        writeln!(console.out, "{line}")?;
    }
    console.out.flush()?;
    let errors = carry_out(node, socket, &changes);
    for error in &errors {
        writeln!(console.err, "manx: {error}")?;
    }
    let conflicts = changes.fabric.iter().flat_map(Plan::conflicts).count();
    if errors.is_empty() && conflicts == 0 { Ok(Status::Fine) } else { Ok(Status::Failed) }
}

fn carry_out(node: &Node, socket: &mut Socket, changes: &Changes) -> Vec<String> {
    let mut errors = Vec::new();
    if let Some(plan) = &changes.fabric {
        errors.extend(plan.carry_out(socket, &node.settings()));
    }
    errors.extend(repair::restore(socket, &changes.repairs));
    let mut errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    if let (Some(plan), Some((peers, bytes)), Some(path)) =
        (&changes.fabric, &changes.peers, &node.peers_file)
        && errors.is_empty()
    {
        let fingerprint = applied::fingerprint(&node.config, path);
        let stamp = applied::stamp(&node.config, peers, plan, fingerprint);
        let noted = node.ground().note(&stamp, bytes);
        errors.extend(noted.err().map(|error| format!("note what was applied: {error}")));
    }
    errors
}

fn undo(node: &Node, console: &mut Console<'_>) -> Result<Status, Failure> {
    let _lock = node.ground().lock()?;
    let mut socket = Socket::open()?;
    let settings = node.settings();
    let plan = Plan::undo(&mut socket, &settings)?;
    for change in &plan.changes {
        writeln!(console.out, "{change}")?;
    }
    let errors = plan.carry_out(&mut socket, &settings);
    node.ground().forget().map_err(|error| failed("forget what was applied", &error))?;
    for error in &errors {
        writeln!(console.err, "manx: {error}")?;
    }
    Ok(if errors.is_empty() { Status::Fine } else { Status::Failed })
}
