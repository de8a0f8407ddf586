// SPDX-License-Identifier: Apache-2.0
//! `manx apply`: makes the node what its configuration and its peers file say.

use std::io;

use serde_json::json;

use super::{
    super::{
        Args, Console, Failure, Status, Subcommand,
        args::{Operands, PLUGIN_DIRECTORY, Shape},
        refused,
    },
    encode, networks,
    remarks::{errors, misfits, notes, of_report},
};
use crate::{
    fabric,
    list::{Gather, PushAll},
    net::Socket,
    node::{
        apply::{self, Report},
        changes::{Source, has_fabric, without_fabric},
        configured::{Configured, Networks},
        fabric::{Removal, WRITER_LIMIT, fabric_of, lock_all, noted_protocols, require_unshared},
        former,
        table::removed,
        version,
        watch::{self, Said},
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
  --undo       remove all routes, neighbours and tunnels of the routeProtocol of
               every network of ours in /etc/cni/net.d (with --conf, of that
               one), and each network's nftables table unless a pod of the
               network lives, which it keeps from sending with addresses of
               others; not while another network, with other settings, has
               pods there. Take the configuration out of /etc/cni/net.d first
               where a runtime asks for STATUS: that makes the routes again
  --json       {\"changes\": [as of plan], \"unmade\": [the same], \"notes\": [],
               \"errors\": []}; not with --watch
  --conf FILE  one configuration; default: all of ours in /etc/cni/net.d
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
        (true, false) => undo(&networks(args)?, json, console),
        (false, true) => watch(args, console),
        (false, false) => apply(&networks(args)?, json, console),
    }
}

fn apply(networks: &Networks, json: bool, console: &mut Console<'_>) -> Result<Status, Failure> {
    version::note_unless_other(&networks.root, &networks.root.path(PLUGIN_DIRECTORY));
    let report = apply::apply(networks, &mut Socket::open()?, Source::File)?;
    tell(&report, json, console)?;
    Ok(if report.errors.is_empty() && report.whole { Status::Fine } else { Status::Failed })
}

fn tell(report: &Report, json: bool, console: &mut Console<'_>) -> Result<(), Failure> {
    if json {
        let wrong = errors(&misfits(report), report.wanting.clone());
        let notes = [wrong, notes(report.notes.clone(), &report.mtus)].concat();
        return Ok(console.json(&json!({
            "changes": encode(&report.lines),
            "unmade": encode(&report.unmade),
            "notes": notes,
            "errors": report.errors,
        }))?);
    }
    let printed = print(console, &report.lines);
    remark(console, &of_report(report))?;
    Ok(printed?)
}

fn watch(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let conf = args.value("conf").map(std::path::Path::new);
    let (root, mut printed) = (args.root(), Printed::default());
    version::note_unless_other(&root, &root.path(PLUGIN_DIRECTORY));
    let mut tell = |said: Said| {
        match said {
            Said::Report(report) => printed.tell(*report, console),
            Said::Remark(text) => drop(console.remark(format_args!("manx: {text}"))),
            Said::Woken => {}
        }
        None
    };
    match watch::watch(&root, conf, None, &mut tell)? {}
}

/// What was said last, which is not said again pass after pass.
#[derive(Default)]
struct Printed {
    lines: Vec<Told>,
    remarks: Vec<String>,
}

impl Printed {
    /// Says what is new of a report. That nobody listens is no reason to stop.
    fn tell(&mut self, report: Report, console: &mut Console<'_>) {
        if report.lines != self.lines {
            let _ = print(console, &report.lines);
        }
        let remarks = of_report(&report);
        if remarks != self.remarks {
            let _ = remark(console, &remarks);
        }
        *self = Self { lines: report.lines, remarks };
    }
}

/// Prints lines at once.
fn print(console: &mut Console<'_>, lines: &[Told]) -> io::Result<()> {
    lines.iter().try_for_each(|line| console.line(line))?;
    console.flush()
}

/// The same on stderr.
fn remark(console: &mut Console<'_>, lines: &[String]) -> io::Result<()> {
    lines.iter().try_for_each(|line| console.remark(line))
}

fn undo(networks: &Networks, json: bool, console: &mut Console<'_>) -> Result<Status, Failure> {
    let mut report = Report { whole: true, ..Report::default() };
    let mut done = Vec::new();
    report.errors.push_all(networks.unusable.iter().map(|(_, error)| error.to_string()));
    // Those first that may take back what they share with one that lost its peers file.
    let (with, without): (Vec<_>, Vec<_>) =
        networks.all.iter().partition(|one| one.peers_file.is_some());
    for network in with.into_iter().chain(without) {
        match undo_network(network, networks, &mut done, &mut report) {
            Err(failure) if networks.all.len() > 1 => report.errors.push(failure.to_string()),
            outcome => outcome?,
        }
    }
    tell(&report, json, console)?;
    Ok(if report.errors.is_empty() { Status::Fine } else { Status::Failed })
}

/// Takes back what a network has; a fabric that is `done` was another's as well.
fn undo_network(
    network: &Configured,
    networks: &Networks,
    done: &mut Vec<u8>,
    report: &mut Report,
) -> Result<(), Failure> {
    let root = &networks.root;
    let mut protocols = noted_protocols(network.name(), root);
    protocols.insert(network.config.fabric.protocol);
    let _locks = lock_all(&protocols, root, WRITER_LIMIT)?;
    let state = fabric_of(&network.config, root)?;
    let name = network.name();
    if !has_fabric(network, networks) {
        let [of_fabrics, _] = &mut report.notes;
        of_fabrics.push_all(without_fabric(network, networks, &|_| false));
    } else if !done.contains(&state.protocol()) {
        require_unshared(&network.config, root, &state)?;
        undo_fabric(network, networks, report)?;
        done.push(state.protocol());
    }
    let [_, of_tables] = &mut report.notes;
    match former::remove_unneeded(root, &mut Socket::open()?, name)? {
        Some(true) => report.lines.push(removed(&format!("of network {name}"))),
        Some(false) => {}
        None => of_tables.push(format!(
            "the nftables table of network {name} stays, for its pods live; manx gc removes it \
             when they are gone"
        )),
    }
    Ok(())
}

/// Takes the fabric back and forgets it.
fn undo_fabric(
    network: &Configured,
    networks: &Networks,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut socket = Socket::open()?;
    let removal = Removal::whole(&network.config, &networks.root, &mut socket)?;
    take_back(&removal, &mut socket, report)
}

/// Takes it back, and reports what was.
pub(in crate::cli) fn take_back(
    removal: &Removal,
    socket: &mut Socket,
    report: &mut Report,
) -> Result<(), Failure> {
    let tables = removal.tables()?;
    let taken = removal.carry_out(socket)?;
    report.lines.push_all(removal.changes().iter().map(fabric::Change::told));
    report.lines.push_all(tables.iter().map(|table| removed(table)));
    let unmade: Vec<Told> = taken.unmade.iter().map(fabric::Change::told).gather();
    report.take_back(&unmade);
    report.errors.push_all(taken.node.iter().chain(&taken.peers).map(refused));
    Ok(())
}
