// SPDX-License-Identifier: Apache-2.0
//! `manx status`: this node on one screen.

mod encode;
mod screen;

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    doctor::look,
};
use crate::{
    doctor::overview::{Overview, State},
    finding::is_bad,
    node::Snapshot,
};

/// How long `--wait` waits where nothing else is said.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks, which take a moment themselves: at first, and at most.
const WAITS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(4)];

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "status",
    summary: "show on one screen how this node stands",
    help: "\
Usage: manx status [--json] [--wait [--timeout SECONDS]] [OPTION…]

Shows the mode, where the pods' MTU comes from, how the other nodes, the pods,
the addresses and the agent stand, and the worst that manx doctor finds. Other
nodes are reachable where all is there that leads to them: no packet is sent.
The node is ready, degraded where something is wrong that does not concern all,
or not ready for pods. Ends with 3 where doctor finds something wrong.

  --wait       look again until the node is ready, or degraded twice in a row,
               and show it then; end with 1 where it is not in time
  --timeout SECONDS
               how long --wait waits (300)
  --json       {\"checks\": […], \"state\", \"reason\", \"node\", \"version\",
               \"networks\": [{\"name\", \"file\", \"masquerade\", \"mtu\", \"leases\":
               [{\"first\", \"last\", \"size\", \"used\"}], \"configuredMtu\"}],
               \"fabrics\": [{\"networks\", \"mode\", \"crossSubnet\", \"mtu\":
               [{\"family\", \"device\", \"deviceMtu\", \"overhead\", \"mtu\"}],
               \"peers\": {\"reachable\", \"degraded\", \"excluded\",
               \"wrong\": [{\"name\", \"state\", \"why\"}]}}], \"pods\": {\"up\",
               \"down\", \"missing\", \"unnoted\"}, \"agent\": {\"ready\", \"says\"},
               \"policy\": off, awaited, lost, partly or enforced}; checks as
               those of manx doctor
  --bundle FILE
               look at a node by what manx bundle wrote, not at this one
  --conf FILE  look at this configuration alone (default: all of /etc/cni/net.d)
  --bin DIR    where plugins are (CNI_PATH, else /opt/cni/bin)
  --root DIR   read files and state below DIR",
    shape: Shape {
        flags: &["json", "wait"],
        values: &["timeout", "bundle", "conf", "bin", "root"],
        operands: Operands::AtMost(0),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    look::require_one_node(args, &SUBCOMMAND)?;
    let (wait, timeout) = (args.flag("wait"), args.value("timeout"));
    if args.value("bundle").is_some() && wait {
        return Err(SUBCOMMAND.usage("a bundle does not change: --wait is of a node"));
    }
    if timeout.is_some() && !wait {
        return Err(SUBCOMMAND.usage("--timeout is of --wait"));
    }
    let patience = match timeout.map(|text| text.to_str().and_then(|text| text.parse().ok())) {
        None => PATIENCE,
        Some(Some(seconds)) => Duration::from_secs(seconds),
        Some(None) => return Err(SUBCOMMAND.usage("--timeout takes a number of seconds")),
    };
    let snapshot = match wait {
        true => waited(args, patience, console)?,
        false => look::snapshot(args)?,
    };
    let overview = Overview::of(&snapshot);
    match args.flag("json") {
        true => console.json(&encode::document(&overview))?,
        false => screen::print(&overview, console)?,
    }
    if wait && overview.state == State::NotReady {
        let seconds = patience.as_secs();
        return Err(Failure::Failed(format!("the node is not ready after {seconds} s")));
    }
    Ok(if is_bad(&overview.findings) { Status::Findings } else { Status::Fine })
}

/// The node once it is ready, or as it is when the time is up.
fn waited(args: &Args, patience: Duration, console: &mut Console<'_>) -> Result<Snapshot, Failure> {
    let begin = Instant::now();
    let [mut wait, longest] = WAITS;
    let (mut told, mut degraded) = (String::new(), false);
    loop {
        let snapshot = look::snapshot(args)?;
        let overview = Overview::of(&snapshot);
        let left = patience.saturating_sub(begin.elapsed());
        // Of a pass that goes on just now a look may see one half.
        let is_seen = match overview.state {
            State::Ready => true,
            State::Degraded => degraded,
            State::NotReady => false,
        };
        if is_seen || left.is_zero() {
            return Ok(snapshot);
        }
        degraded = overview.state == State::Degraded;
        if !degraded && overview.reason != told {
            console.remark(format_args!("waiting: {}", overview.reason))?;
            told.clone_from(&overview.reason);
        }
        thread::sleep(wait.min(left));
        wait = (wait * 2).min(longest);
    }
}
