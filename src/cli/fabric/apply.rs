//! `manx apply`: makes the node what its configuration and its peers file say.

use std::io;

use super::{
    super::{
        Args, Console, Failure, Status, Subcommand,
        args::{Operands, Shape},
        failed,
    },
    Node, Source, awaited, watch,
};
use crate::{
    fabric::{Plan, apply::Refused},
    net::{Error, Socket},
    verb::{
        fabric::require_same_fabric,
        repair::{self, TableRepair},
    },
};

pub(in crate::cli) const SUBCOMMAND: Subcommand = Subcommand {
    name: "apply",
    summary: "make the routes to other nodes what they should be",
    help: "\
Usage: manx apply [--watch | --undo] [--conf FILE] [--root DIR]

Makes the changes that plan shows, prints each, and exits 0 if the node is then
as it should be. What somebody else has is left alone and reported, and so are
peers that cannot be reached. A peers file that is not valid changes nothing.

  --watch      stay, and repair within milliseconds what others change; where
               there is no configuration yet, wait for one
  --undo       remove all routes, neighbours and tunnels of this configuration's
               routeProtocol, and the network's masquerade table; not while
               another network, with other settings, has pods there. Take the
               configuration out of /etc/cni/net.d first where a runtime asks
               for STATUS: that brings the fabric up again
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
    match (args.flag("undo"), args.flag("watch")) {
        (true, true) => Err(SUBCOMMAND.usage("--undo and --watch exclude each other")),
        (true, false) => undo(&Node::read(args)?, console),
        (false, true) => watch::watch(&awaited::node(args, console), console),
        (false, false) => apply(&Node::read(args)?, console),
    }
}

fn apply(node: &Node, console: &mut Console<'_>) -> Result<Status, Failure> {
    let report = pass(node, &mut Socket::open()?, Source::File)?;
    let printed = print(console, &report.lines);
    remark(console, &report.remarks())?;
    printed?;
    Ok(if report.errors.is_empty() && report.whole { Status::Fine } else { Status::Failed })
}

/// What came of a pass.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What was changed, and what somebody else has.
    pub(super) lines: Vec<String>,
    notes: Vec<String>,
    /// What is wrong with the configuration, and no change of the kernel mends.
    wrong: Vec<String>,
    /// What could not be done.
    pub(super) errors: Vec<String>,
    /// Nothing is wanting of the fabric.
    whole: bool,
}

impl Report {
    /// All there is to say beside what was changed.
    pub(super) fn remarks(&self) -> Vec<String> {
        let wrong = self.wrong.iter().map(|wrong| format!("error: {wrong}"));
        let notes = self.notes.iter().map(|note| format!("note: {note}"));
        wrong.chain(notes).chain(self.errors.iter().map(|error| format!("manx: {error}"))).collect()
    }
}

/// One pass: compares, changes, notes what was applied. Says nothing itself: the
/// node does not wait for whoever reads it.
pub(super) fn pass(node: &Node, socket: &mut Socket, source: Source) -> Result<Report, Failure> {
    let _lock = node.ground().lock()?;
    let changes = node.compare(socket, source)?;
    let (lines, notes) = (changes.lines(), changes.notes());
    let wrong = changes.errors();
    let mut report = Report { lines, notes, wrong, errors: Vec::new(), whole: true };
    let outcome = changes.fabric.map(|pass| pass.carry_out(&node.ground(), &node.config, socket));
    match outcome {
        Some(Ok(outcome)) => {
            report.whole = outcome.wanting().is_empty();
            report.errors.extend(outcome.refused.iter().map(ToString::to_string));
            report.errors.extend(outcome.of_peers);
        }
        Some(Err(error)) => report.errors.push(error.to_string()),
        None => {}
    }
    let unrestored = repair::restore(socket, &changes.repairs);
    report.errors.extend(unrestored.iter().map(ToString::to_string));
    let table = changes.table.as_ref().map_or(Ok(()), TableRepair::restore);
    report.errors.extend(table.err().map(|error| error.to_string()));
    Ok(report)
}

/// Prints lines at once.
pub(super) fn print(console: &mut Console<'_>, lines: &[String]) -> io::Result<()> {
    lines.iter().try_for_each(|line| console.line(line))?;
    console.flush()
}

/// The same on stderr.
pub(super) fn remark(console: &mut Console<'_>, lines: &[String]) -> io::Result<()> {
    lines.iter().try_for_each(|line| console.remark(line))
}

fn undo(node: &Node, console: &mut Console<'_>) -> Result<Status, Failure> {
    let _lock = node.ground().lock()?;
    let mut lines = Vec::new();
    let mut errors = Vec::new();
    if node.has_fabric() {
        require_same_fabric(&node.config, &node.root)?;
        (lines, errors) = undo_fabric(node)?;
    } else {
        let network = &node.config.name;
        let words = "has no peersFile, and with it no routes to other nodes";
        console.remark(format_args!("note: network {network} {words}"))?;
    }
    if TableRepair::remove(&node.config.name)? {
        lines.push(format!("- nftables table of network {}", node.config.name));
    }
    for line in lines {
        console.line(line)?;
    }
    for error in &errors {
        console.remark(format_args!("manx: {error}"))?;
    }
    Ok(if errors.is_empty() { Status::Fine } else { Status::Failed })
}

/// Takes the fabric back and forgets it; what was done, and what failed.
fn undo_fabric(node: &Node) -> Result<(Vec<String>, Vec<Error>), Failure> {
    let (ground, settings) = (node.ground(), node.settings());
    let mut socket = Socket::open()?;
    let plan = Plan::undo(&mut socket, &settings, &ground.past(&node.config.name))?;
    ground.unsettle()?;
    let Refused { node: mut errors, peers, .. } = plan.carry_out(&mut socket, &settings);
    errors.extend(peers);
    // What is left is remembered, so that it can be tried again.
    if errors.is_empty() {
        ground.forget_former(&node.config.name)?;
        ground.forget().map_err(|error| failed("forget what was applied", &error))?;
    }
    Ok((plan.changes.iter().map(ToString::to_string).collect(), errors))
}
