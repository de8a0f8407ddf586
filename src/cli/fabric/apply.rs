//! `manx apply`: makes the node what its configuration and its peers file say.

use super::{
    super::{
        Args, Console, Failure, Status, Subcommand,
        args::{Operands, Shape},
        failed,
    },
    Changes, Node, Source, watch,
};
use crate::{
    fabric::Plan,
    net::Socket,
    verb::repair::{self, TableRepair},
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
  --undo       remove all routes, neighbours and tunnels of ours, and the
               network's masquerade table
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
        (false, false) => apply(&node, &mut Socket::open()?, Source::File, console),
    }
}

/// One pass: compares, changes, notes what was applied.
pub(super) fn apply(
    node: &Node,
    socket: &mut Socket,
    source: Source,
    console: &mut Console<'_>,
) -> Result<Status, Failure> {
    let _lock = node.ground().lock()?;
    let changes = node.compare(socket, source)?;
    for line in changes.lines() {
        writeln!(console.out, "{line}")?;
    }
    console.out.flush()?;
    let errors = carry_out(node, socket, &changes);
    for error in &errors {
        writeln!(console.err, "manx: {error}")?;
    }
    let conflicts = changes.fabric.iter().flat_map(|fabric| fabric.plan.conflicts()).count();
    if errors.is_empty() && conflicts == 0 { Ok(Status::Fine) } else { Ok(Status::Failed) }
}

fn carry_out(node: &Node, socket: &mut Socket, changes: &Changes) -> Vec<String> {
    let mut errors = Vec::new();
    if let Some(fabric) = &changes.fabric {
        errors.extend(fabric.plan.carry_out(socket, &node.settings()));
    }
    errors.extend(repair::restore(socket, &changes.repairs));
    let mut errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let table = changes.table.as_ref().map_or(Ok(()), TableRepair::restore);
    errors.extend(table.err().map(|error| error.to_string()));
    if let Some(fabric) = &changes.fabric
        && let Some(file) = &fabric.file
        && errors.is_empty()
    {
        let noted = node.ground().note(&fabric.stamp, file);
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
    if TableRepair::remove(&node.config.name)? {
        writeln!(console.out, "- nftables table of network {}", node.config.name)?;
    }
    node.ground().forget().map_err(|error| failed("forget what was applied", &error))?;
    for error in &errors {
        writeln!(console.err, "manx: {error}")?;
    }
    Ok(if errors.is_empty() { Status::Fine } else { Status::Failed })
}
