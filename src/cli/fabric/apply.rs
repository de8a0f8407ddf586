//! `manx apply`: makes the node what its configuration and its peers file say.

use std::io;

use serde_json::{Value, json};

use super::{
    super::{
        Args, Console, Failure, Status, Subcommand,
        args::{Operands, Shape},
        refused,
    },
    Node, Source, encode, removed_table, watch,
};
use crate::{
    fabric,
    net::Socket,
    node::{
        allowed,
        fabric::{Removal, WRITER_LIMIT, require_same_fabric, tunnel::TunnelTable},
        former, note_version,
        repair::{self, Repair},
        tables,
    },
    object::Told,
};

pub(in crate::cli) const SUBCOMMAND: Subcommand = Subcommand {
    name: "apply",
    summary: "make the routes to other nodes what they should be",
    help: "\
Usage: manx apply [--watch | --undo] [--json] [--conf FILE] [--root DIR]

Makes the changes that plan shows, prints each that was made, and exits 0 if the
node is then as it should be. What somebody else has is left alone and reported,
and so are peers that cannot be reached. A peers file that is not valid changes
nothing.

  --watch      stay, and repair within milliseconds what others change; where
               there is no configuration yet, wait for one
  --undo       remove all routes, neighbours and tunnels of this configuration's
               routeProtocol, and the network's nftables table unless a pod of
               the network lives, whom it keeps from speaking in other names;
               not while another network, with other settings, has pods there.
               Take the configuration out of /etc/cni/net.d first where a
               runtime asks for STATUS: that brings the fabric up again
  --json       {\"changes\": [as of plan], \"unmade\": [the same], \"notes\": [],
               \"errors\": []}; not with --watch
  --conf FILE  the configuration; default: the first of ours in /etc/cni/net.d
  --root DIR   read files and state below DIR",
    shape: Shape {
        flags: &["watch", "undo", "json"],
        values: &["conf", "root"],
        operands: Operands::AtMost(0),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let json = args.flag("json");
    match (args.flag("undo"), args.flag("watch")) {
        (true, true) => Err(SUBCOMMAND.usage("--undo and --watch exclude each other")),
        (_, true) if json => Err(SUBCOMMAND.usage("--watch and --json exclude each other")),
        (true, false) => undo(&Node::read(args)?, json, console),
        (false, true) => watch::watch(args, console),
        (false, false) => apply(&Node::read(args)?, json, console),
    }
}

fn apply(node: &Node, json: bool, console: &mut Console<'_>) -> Result<Status, Failure> {
    let report = pass(node, &mut Socket::open()?, Source::File)?;
    if json {
        console.json(&report.encode())?;
    } else {
        let printed = print(console, &report.lines);
        remark(console, &report.remarks())?;
        printed?;
    }
    Ok(if report.errors.is_empty() && report.whole { Status::Fine } else { Status::Failed })
}

/// What came of a pass.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What was changed, and what somebody else has.
    pub(super) lines: Vec<Told>,
    /// What was to be changed, and was not.
    unmade: Vec<Told>,
    pub(super) notes: Vec<String>,
    /// What is wrong with the configuration, and no change of the kernel mends.
    wrong: Vec<String>,
    /// What could not be done.
    pub(super) errors: Vec<String>,
    /// Nothing is wanting of the fabric.
    whole: bool,
}

impl Report {
    /// The report for programs.
    fn encode(&self) -> Value {
        let notes = [self.wrong.clone(), self.notes.clone()].concat();
        json!({
            "changes": encode(&self.lines),
            "unmade": encode(&self.unmade),
            "notes": notes,
            "errors": self.errors,
        })
    }

    /// Tells that changes were not made after all.
    fn take_back(&mut self, unmade: &[Told]) {
        let made = |line: &Told| !unmade.contains(line);
        let (lines, left) = std::mem::take(&mut self.lines).into_iter().partition(made);
        self.lines = lines;
        self.unmade.extend::<Vec<_>>(left);
    }

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
    let _lock = node.ground().lock(WRITER_LIMIT)?;
    note_version(&node.root);
    let changes = node.compare(socket, source)?;
    let (lines, notes) = (changes.told(), changes.notes());
    let wrong = changes.errors();
    let mut report = Report { lines, notes, wrong, whole: true, ..Report::default() };
    let mut unmade: Vec<Told> = Vec::new();
    let outcome = changes.fabric.map(|pass| {
        let planned: Vec<Told> = pass.plan.feasible().map(fabric::Change::told).collect();
        let tunnel = pass.tunnel().map(TunnelTable::told);
        (planned, tunnel, pass.carry_out(&node.ground(), socket))
    });
    match outcome {
        Some((_, tunnel, Ok(outcome))) => {
            if let Some(note) = &outcome.unguarded {
                report.notes.push(note.clone());
                unmade.extend(tunnel);
            }
            report.whole = outcome.wanting().is_empty();
            report.errors.extend(outcome.refused.iter().map(ToString::to_string));
            report.errors.extend(outcome.of_peers);
            unmade.extend(outcome.unmade.iter().map(fabric::Change::told));
        }
        Some((planned, tunnel, Err(error))) => {
            report.errors.push(error.to_string());
            unmade.extend(planned.into_iter().chain(tunnel));
        }
        None => {}
    }
    if let Some(removal) = &changes.removal {
        match removal.carry_out(socket) {
            Ok(taken) => {
                report.errors.extend(taken.node.iter().chain(&taken.peers).map(refused));
                unmade.extend(taken.unmade.iter().map(fabric::Change::told));
            }
            Err(error) => report.errors.push(error.to_string()),
        }
    }
    for (place, error) in repair::restore(socket, &changes.repairs) {
        report.errors.extend(error.map(|error| refused(&error)));
        unmade.extend(changes.repairs.get(place).map(Repair::told));
    }
    match changes.table.as_ref().map(|table| (table, table.restore(socket))) {
        Some((table, Err(error))) => {
            report.errors.push(error.to_string());
            unmade.push(table.told());
        }
        Some((table, Ok((changed, notes)))) => {
            report.notes.extend(notes);
            unmade.extend((table.differs() && !changed).then(|| table.told()));
        }
        None => {}
    }
    if let Err(error) = allowed::note(&node.root, &node.config.name) {
        report.errors.push(error.to_string());
    }
    for network in &changes.former {
        match former::remove(&node.root, socket, network) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => report.errors.push(error.to_string()),
        }
        unmade.push(removed_table(&tables::table(network)));
    }
    report.take_back(&unmade);
    Ok(report)
}

/// Prints lines at once.
pub(super) fn print(console: &mut Console<'_>, lines: &[Told]) -> io::Result<()> {
    lines.iter().try_for_each(|line| console.line(line))?;
    console.flush()
}

/// The same on stderr.
pub(super) fn remark(console: &mut Console<'_>, lines: &[String]) -> io::Result<()> {
    lines.iter().try_for_each(|line| console.remark(line))
}

fn undo(node: &Node, json: bool, console: &mut Console<'_>) -> Result<Status, Failure> {
    let _lock = node.ground().lock(WRITER_LIMIT)?;
    let mut report = Report { whole: true, ..Report::default() };
    if node.has_fabric() {
        require_same_fabric(&node.config, &node.root)?;
        undo_fabric(node, &mut report)?;
    } else {
        report.notes.extend(node.without_fabric());
    }
    let network = &node.config.name;
    match former::remove_unneeded(&node.root, &mut Socket::open()?, network)? {
        Some(true) => report.lines.push(removed_table(&format!("of network {network}"))),
        Some(false) => {}
        None => report.notes.push(format!(
            "the nftables table of network {network} stays, for its pods live; manx gc removes \
             it when they are gone"
        )),
    }
    if json {
        console.json(&report.encode())?;
    } else {
        print(console, &report.lines)?;
        remark(console, &report.remarks())?;
    }
    Ok(if report.errors.is_empty() { Status::Fine } else { Status::Failed })
}

/// Takes the fabric back and forgets it.
fn undo_fabric(node: &Node, report: &mut Report) -> Result<(), Failure> {
    let mut socket = Socket::open()?;
    let removal = Removal::whole(&node.config, &node.root, &mut socket)?;
    let tables = removal.tables()?;
    let taken = removal.carry_out(&mut socket)?;
    report.lines.extend(removal.changes().iter().map(fabric::Change::told));
    report.lines.extend(tables.iter().map(|table| removed_table(table)));
    let unmade: Vec<Told> = taken.unmade.iter().map(fabric::Change::told).collect();
    report.take_back(&unmade);
    report.errors.extend(taken.node.iter().chain(&taken.peers).map(refused));
    Ok(())
}
