//! `manx plan`: the difference between what the kernel has and what it should
//! have.

use serde_json::json;

use super::{
    super::{
        Args, Console, Failure, Status, Subcommand,
        args::{Operands, Shape},
    },
    Node, Source,
};
use crate::net::Socket;

pub(in crate::cli) const SUBCOMMAND: Subcommand = Subcommand {
    name: "plan",
    summary: "show what apply would change",
    help: "\
Usage: manx plan [--json] [--conf FILE] [--root DIR]

Compares the kernel with what the configuration, its peers file and the live
attachments ask for, and changes nothing. Exits 0 if there is nothing to change,
3 if there is, and for ranges of ipam that are not this node's.

  + something to make     - something of ours to remove
  ~ something to change   ! something that somebody else has: it stays

  --json       {\"changes\": [{\"action\", \"object\", \"before\", \"after\"}],
               \"notes\": []}
  --conf FILE  the configuration; default: the first of ours in /etc/cni/net.d
  --root DIR   read files and state below DIR",
    shape: Shape { flags: &["json"], values: &["conf", "root"], operands: Operands::AtMost(0) },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let changes = Node::read(args)?.compare(&mut Socket::open()?, Source::File)?;
    let errors = changes.errors();
    if args.flag("json") {
        let notes = [errors.clone(), changes.notes()].concat();
        let document = json!({"changes": changes.encode(), "notes": notes});
        console.json(&document)?;
    } else {
        for line in changes.lines() {
            console.line(line)?;
        }
        for error in &errors {
            console.remark(format_args!("error: {error}"))?;
        }
        for note in changes.notes() {
            console.remark(format_args!("note: {note}"))?;
        }
    }
    Ok(if changes.lines().is_empty() && errors.is_empty() {
        Status::Fine
    } else {
        Status::Findings
    })
}
