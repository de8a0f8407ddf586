// SPDX-License-Identifier: Apache-2.0
//! `manx plan`: the difference between what the kernel has and what it should
//! have.

use serde_json::json;

use super::{
    super::{
        Args, Console, Failure, Status, Subcommand,
        args::{Operands, Shape},
        doctor::look::{bundled, planned, require_one_node},
    },
    encode,
    remarks::{errors, notes},
};
use crate::{
    doctor,
    list::Gather,
    node::{Barrier, Compared, changes::Mtus},
    object::{Action, Told},
};

pub(in crate::cli) const SUBCOMMAND: Subcommand = Subcommand {
    name: "plan",
    summary: "show what apply would change",
    help: "\
Usage: manx plan [--json] [--bundle FILE | [--conf FILE] [--root DIR]]

Compares the kernel with what the configuration, its peers file and the live
attachments ask for, and changes nothing. Exits 0 if there is nothing to change,
3 if there is, where apply would leave something wanting (a peer that cannot be
reached), and for ranges of ipam that are not this node's. One line for each
change goes to stdout; notes, a summary, and a warning of a firewall that does
not forward the pods' packets go to stderr.

  + something to make     - something of ours to remove
  ~ something to change   ! something that somebody else has: it stays

  --json       {\"changes\": [{\"action\", \"object\", \"before\", \"after\"}],
               \"notes\": []}
  --bundle FILE
               look at a node by what manx bundle wrote, not at this one
  --conf FILE  one configuration; default: all of ours in /etc/cni/net.d
  --root DIR   read files and state below DIR",
    shape: Shape {
        flags: &["json"],
        values: &["bundle", "conf", "root"],
        operands: Operands::AtMost(0),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    require_one_node(args, &SUBCOMMAND)?;
    let snapshot = args.value("bundle").map_or_else(|| planned(args), bundled)?;
    let compared = &snapshot.compared;
    if let (true, Some(failure)) = (compared.fails, compared.failed.first()) {
        return Err(Failure::Failed(failure.clone()));
    }
    let plans = compared.plans();
    let lines = compared.told(&plans);
    let failures = compared.failed.iter().cloned();
    let errors = errors(&compared.misfits, Compared::wanting(&plans)).into_iter().chain(failures);
    let errors: Vec<String> = errors.gather();
    let firewall = snapshot.surroundings.barriers.iter();
    let (warnings, doubts): (Vec<_>, Vec<_>) = firewall.partition(|barrier| barrier.certain);
    let sentence = |barrier: &Barrier| doctor::of_barrier(barrier).sentence();
    let warnings: Vec<String> = warnings.into_iter().map(sentence).gather();
    let doubts = doubts.into_iter().map(sentence);
    let pods = |network: &str| {
        let all = snapshot.journal.iter();
        all.filter(|entry| entry.network == network).cloned().gather()
    };
    let mtus = compared.mtus.iter().map(|(network, new)| Mtus {
        network: network.clone(),
        new: *new,
        pods: pods(network),
    });
    let notes = notes(compared.notes(&plans), &mtus.gather()).into_iter().chain(doubts);
    let notes: Vec<String> = notes.gather();
    if args.flag("json") {
        let notes = [errors.clone(), warnings, notes].concat();
        console.json(&json!({"changes": encode(&lines), "notes": notes}))?;
    } else {
        for line in &lines {
            console.line(line)?;
        }
        for error in &errors {
            console.remark(format_args!("error: {error}"))?;
        }
        for warning in &warnings {
            console.remark(format_args!("warning: {warning}"))?;
        }
        for note in &notes {
            console.remark(format_args!("note: {note}"))?;
        }
        console.remark(summary(&lines))?;
    }
    let settled = lines.is_empty() && errors.is_empty();
    Ok(if settled { Status::Fine } else { Status::Findings })
}

/// How many changes of each kind there are.
fn summary(lines: &[Told]) -> String {
    if lines.is_empty() {
        return "nothing to change".to_owned();
    }
    let count = |action| lines.iter().filter(|change| change.action == action).count();
    let kinds = [
        (count(Action::Create), "to make"),
        (count(Action::Replace), "to change"),
        (count(Action::Delete), "to remove"),
        (count(Action::Conflict), "left to others"),
    ];
    let told = kinds.iter().filter(|(count, _)| *count > 0);
    told.map(|(count, kind)| format!("{count} {kind}")).gather().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Kind;

    #[test]
    fn a_summary_counts_what_there_is() {
        let changes = |actions: &[Action]| -> Vec<Told> {
            let object = || ("object".to_owned(), None, Some("x".to_owned()));
            let change = |action: &Action| {
                let (object, before, after) = object();
                Told { kind: Kind::Route, action: *action, object, before, after }
            };
            actions.iter().map(change).collect()
        };
        let (make, change) = (Action::Create, Action::Replace);
        assert_eq!(summary(&changes(&[])), "nothing to change");
        assert_eq!(summary(&changes(&[make, make, change])), "2 to make, 1 to change");
        let others = changes(&[Action::Delete, Action::Conflict]);
        assert_eq!(summary(&others), "1 to remove, 1 left to others");
    }
}
