// SPDX-License-Identifier: Apache-2.0
//! `manx probe`: packets to other nodes, and what their answers tell.

mod drive;
mod report;
mod targets;
mod textfile;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
};
use crate::{doctor::probe::findings, finding::is_bad, text::escaped};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "probe",
    summary: "measure the paths to other nodes, and say what is wrong",
    help: "\
Usage: manx probe [PEER…|--all] [--json] [--textfile FILE] [OPTION…]

Sends packets to other nodes of the peers file: echo requests, and UDP to a
closed port, to the node's address (the outer path) and through the tunnel (the
inner path). Tells round-trip time, loss and the largest packet that passes, and
finds black holes, filters and nodes that cannot be reached; the worst first.
Changes nothing. Ends with 3 where something is wrong, else with 0.

PEER is a node's name, one of its addresses, or the address of one of its pods,
to which another inner path then leads: without a tunnel no other address there
is known to answer. Which way of the two is cut can be told while the other end
runs manx probe, too.

  --all            all other nodes; default where no PEER is given
  --rate NUMBER    packets a second at most; default: 200
  --json           {\"node\", \"checks\": as of manx doctor, \"peers\": [{\"name\",
                   \"paths\", \"skipped\"}]}
  --textfile FILE  write metrics for node_exporter's textfile collector as well
  --conf FILE      the configuration; default: the first of ours with a list of
                   nodes in /etc/cni/net.d
  --root DIR       read files and state below DIR",
    shape: Shape {
        flags: &["all", "json"],
        values: &["rate", "textfile", "conf", "root"],
        operands: Operands::AtMost(usize::MAX),
    },
    run,
};

/// Packets a second.
const RATE: u32 = 200;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_millis(200);

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let rate = rate(args)?;
    if args.flag("all") && !args.operands.is_empty() {
        return Err(SUBCOMMAND.usage("give either peers or --all"));
    }
    let targets::Targets { me, targets } = targets::read(args)?;
    let mut progress = Progress::new(console);
    let probed = drive::run(targets, rate, &mut |done, all| progress.tell(done, all));
    progress.end();
    let peers = probed?;
    let found = findings(&me, &peers);
    if let Some(file) = args.value("textfile") {
        textfile::write(&PathBuf::from(file), &me, &peers, &found)?;
    }
    if args.flag("json") {
        console.json(&report::encode(&me, &peers, &found))?;
    } else {
        report::print(&peers, &found, console)?;
    }
    Ok(if is_bad(&found) { Status::Findings } else { Status::Fine })
}

fn rate(args: &Args) -> Result<u32, Failure> {
    let Some(text) = args.value("rate") else { return Ok(RATE) };
    let number = text.to_str().and_then(|text| text.parse().ok());
    let number = number.filter(|number| (1..=100_000).contains(number));
    number.ok_or_else(|| SUBCOMMAND.usage("--rate takes a number from 1 to 100000"))
}

/// One line of a terminal that is written anew; nothing where there is none.
struct Progress<'a, 'b> {
    console: Option<&'a mut Console<'b>>,
    last: Instant,
}

impl<'a, 'b> Progress<'a, 'b> {
    fn new(console: &'a mut Console<'b>) -> Self {
        let console = io::stderr().is_terminal().then_some(console);
        Self { console, last: Instant::now() }
    }

    fn tell(&mut self, done: usize, all: usize) {
        if self.last.elapsed() < PROGRESS {
            return;
        }
        self.last = Instant::now();
        self.write(&format!("{done} of {all} paths are probed"));
    }

    fn end(&mut self) {
        self.write("");
    }

    fn write(&mut self, text: &str) {
        if let Some(console) = &mut self.console {
            // A terminal that is gone is no reason to stop.
            let err = console.verbatim_err();
            let _ = write!(err, "\r\u{1b}[K{}", escaped(text)).and_then(|()| err.flush());
        }
    }
}
