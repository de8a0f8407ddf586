// SPDX-License-Identifier: Apache-2.0
//! `manx doctor`: what is wrong with this node, the worst first.

mod agent;
mod assigned;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
pub(super) mod look;
mod machine;
mod plugins;
mod samples;

pub(super) use assigned::assignments;

use serde_json::{Value, json};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    findings,
};
use crate::{
    doctor::{self, CHECKS, Check, Outcome},
    finding::{Finding, is_bad, unfound},
    list::Gather,
    text::nearest,
};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "doctor",
    summary: "say what is wrong with this node, and what mends it",
    help: "\
Usage: manx doctor [--json] [--only ID] [OPTION…]

Looks at the kernel, the configurations, the peers file, the leases, the plugins
and the firewall of this node, and changes nothing. Each finding says what was
seen, why it matters, what mends it and what undoes that; the worst comes first,
so that the first line names the likely cause. A node that is well is one line.
Ends with 3 where something is wrong, else with 0.

  --only ID    make only this check; where it is not for this node, say why not,
               and end with 0
  --json       {\"checks\": [{\"id\", \"severity\", \"status\", \"object\",
               \"evidence\", \"why\", \"fix\", \"undo\"}]}: severity is info,
               warning or error; status is ok, found, or skipped with the reason
               as its evidence
  --bundle FILE
               look at a node by what manx bundle wrote, not at this one
  --conf FILE  look at this configuration alone (default: all of /etc/cni/net.d)
  --bin DIR    where plugins are (CNI_PATH, else /opt/cni/bin)
  --root DIR   read files and state below DIR",
    shape: Shape {
        flags: &["json"],
        values: &["only", "bundle", "conf", "bin", "root"],
        operands: Operands::AtMost(0),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let only = args.value("only").map(|id| id.to_string_lossy().into_owned());
    if let Some(id) = only.as_ref().filter(|id| CHECKS.iter().all(|check| check.id != **id)) {
        let hint = nearest::hint(id, CHECKS.iter().map(|check| check.id));
        return Err(SUBCOMMAND.usage(&format!("there is no check {id:?}{hint}")));
    }
    look::require_one_node(args, &SUBCOMMAND)?;
    let snapshot = look::snapshot(args)?;
    let examined = doctor::examine(&snapshot, only.as_deref());
    let findings = doctor::findings(&examined);
    if args.flag("json") {
        console.json(&json!({"checks": encode(&examined, &findings)}))?;
    } else {
        print(&examined, &findings, console)?;
    }
    Ok(if is_bad(&findings) { Status::Findings } else { Status::Fine })
}

fn print(
    examined: &[(&Check, Outcome)],
    findings: &[Finding],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    if let [(check, Outcome::Skipped(reason))] = examined {
        return Ok(console.line(format_args!("not checked: {}: {reason}", check.id))?);
    }
    findings::print(findings, console)?;
    let skipped = examined.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Skipped(_)));
    let (made, skipped) = (examined.len(), skipped.count());
    let made = made - skipped;
    let what = format!("checks made: {made}, not for this node: {skipped}");
    console.line(findings::health(findings, &what))?;
    Ok(())
}

/// Every check once, or once for each of its findings; findings come first.
pub(super) fn encode(examined: &[(&Check, Outcome)], findings: &[Finding]) -> Vec<Value> {
    let rest = examined.iter().filter_map(|(check, outcome)| match outcome {
        Outcome::Fine => Some(unfound(check.id, None)),
        Outcome::Skipped(reason) => Some(unfound(check.id, Some(reason))),
        Outcome::Found(_) => None,
    });
    findings.iter().map(Finding::encode).chain(rest).gather()
}
