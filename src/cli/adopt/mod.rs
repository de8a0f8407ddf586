// SPDX-License-Identifier: Apache-2.0
//! `manx adopt`: takes a node over from Calico or flannel while its pods run.

mod cache;
mod carry;
mod chains;
mod dataplane;
mod ends;
mod findings;
mod firewall;
mod found;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod look;
mod programs;
mod site;
mod sources;
mod steps;
mod taken;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    findings as printed,
    table::Table,
};
use crate::{
    finding::{Finding, is_bad},
    object,
};

use carry::Told;
use found::Row;
use site::{Former, Site};
use steps::Step;

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "adopt",
    summary: "take this node over from calico or flannel, pods running",
    help: "\
Usage: manx adopt calico|flannel [--apply] [--json] [OPTION…]

Prints what the other plugin left on this node, what has to be known of it, and
what --apply would do, and changes nothing. Ends with 3 where there is something
to do or to know, with 0 where nothing of it is left. The configuration that is
to serve the pods has to be where the runtime looks, and its peers file has to
lead to the pods of the other nodes.

  --apply      do it: running pods keep their links and addresses. Refused while
               the agent of the other plugin runs. Can be run again, also after
               it was killed half-way
  --json       {\"found\": [{\"kind\", \"object\", \"value\"}],
               \"checks\": [as of doctor], \"changes\": [as of plan]}
  --node NAME  the node's name in Kubernetes (default: the host's). Asked for
               with kubectl, if the kubelet's kubeconfig is here
  --conf FILE  the configuration that is to serve (default: the first of
               type manx where the runtime looks)
  --conf-dir DIR  where the runtime looks for configurations
               (default: /etc/cni/net.d)
  --bin DIR    where plugins are (CNI_PATH, else /opt/cni/bin)
  --root DIR   read and write files and state below DIR",
    shape: Shape {
        flags: &["apply", "json"],
        values: &["node", "conf", "conf-dir", "bin", "root"],
        operands: Operands::AtMost(1),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let Some(name) = args.operands.first().map(|name| name.to_string_lossy()) else {
        return Err(SUBCOMMAND.usage("say whose node it was: calico or flannel"));
    };
    let Some(former) = Former::ALL.into_iter().find(|one| one.name() == name) else {
        return Err(SUBCOMMAND.usage(&format!("{name:?} is neither calico nor flannel")));
    };
    let site = look::site(former, args)?;
    let remains = found::found(&site);
    let findings = findings::findings(&site, &remains);
    let steps = steps::steps(&site, &remains);
    if args.flag("apply") {
        let mut told = Told::new(console, args.flag("json"));
        let root = args.root();
        let done = carry::carry_out(&site, &findings, &steps, &root, &mut told);
        // Pods came and went meanwhile.
        let done = done.and_then(|status| match steps.is_empty() {
            true => Ok(status),
            false => carry::catch_up(&look::site(former, args)?, &steps, &root, &mut told),
        });
        if done.is_ok() {
            told.next(&site);
        }
        told.conclude()?;
        return done;
    }
    let rows = found::rows(&site, &remains);
    let lines = lines(&site, &steps);
    if args.flag("json") {
        console.json(&encode(&rows, &findings, &lines))?;
    } else {
        print(&rows, &findings, &lines, console)?;
        if rows.is_empty() && lines.is_empty() {
            console.remark(format_args!("nothing of {name} is on this node"))?;
        } else {
            remark(&findings, lines.len(), console)?;
        }
    }
    let is_done = lines.is_empty() && !is_bad(&findings);
    Ok(if is_done { Status::Fine } else { Status::Findings })
}

/// What would be changed: the steps, and in their midst what a pass makes of what they have
/// taken over.
fn lines(site: &Site, steps: &[Step]) -> Vec<object::Told> {
    let compared = taken::compared(site, steps);
    let mut lines: Vec<object::Told> = Vec::new();
    for step in steps {
        lines.extend(step.told());
        if matches!(step, Step::Pass) {
            lines.extend(compared.told(&compared.plans()));
        }
    }
    lines
}

fn encode(rows: &[Row], findings: &[Finding], lines: &[object::Told]) -> Value {
    json!({
        "found": rows.iter().map(Row::encode).collect::<Vec<_>>(),
        "checks": findings.iter().map(Finding::encode).collect::<Vec<_>>(),
        "changes": lines.iter().map(object::Told::encode).collect::<Vec<_>>(),
    })
}

fn print(
    rows: &[Row],
    findings: &[Finding],
    lines: &[object::Told],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let mut table = Table::new(&["KIND", "OBJECT", "VALUE"]);
    for Row { kind, object, value } in rows {
        table.row([(*kind).to_owned(), object.clone(), value.clone()]);
    }
    if !rows.is_empty() {
        console.table(&table)?;
    }
    printed::print(findings, console)?;
    for line in lines {
        console.line(line)?;
    }
    Ok(())
}

/// What may be done next.
fn remark(findings: &[Finding], count: usize, console: &mut Console<'_>) -> Result<(), Failure> {
    let mut ids: Vec<&str> = Vec::new();
    for finding in findings.iter().filter(|finding| findings::blocks(finding)) {
        if !ids.contains(&finding.id) {
            ids.push(finding.id);
        }
    }
    console.remark(match (count, ids.is_empty()) {
        (0, true) => "nothing to change".to_owned(),
        (_, true) => format!("{count} changes; --apply makes them"),
        (_, false) => {
            format!(
                "{count} changes; --apply makes none of them while there is: {}",
                ids.join(", ")
            )
        }
    })?;
    Ok(())
}
