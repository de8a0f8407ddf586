// SPDX-License-Identifier: Apache-2.0
//! `manx tune`: the kernel's parameters that matter for pods' traffic.

mod apply;

pub(super) use apply::{is_applied, revert};

use serde_json::{Value, json};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    doctor::look,
    table::Table,
};
use crate::doctor::tune::{Setting, dotted, settings};
use crate::list::Gather;

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "tune",
    summary: "show kernel parameters that matter for pods, and who set them",
    help: "\
Usage: manx tune [--json] [--apply | --revert | --bundle FILE] [OPTION…]

Shows what each parameter is, which file of sysctl.d or which program set it,
and what it should be at least, with the reason. No value is lowered, except the
time for which closed connections are remembered. What costs memory or time is
recommended only where the node's counters show the need.
Exits 3 where something should be changed, else 0.

  --apply      set what is recommended, now and at boot: writes
               /etc/sysctl.d/zz-manx-tune.conf, where connections are concerned
               /etc/modules-load.d/manx-tune.conf, and the previous values to
               /var/lib/manx/tune.json
  --revert     set the previous values again, except those that somebody has
               changed since, and remove these files
  --json       {\"settings\": [{\"key\", \"current\", \"setBy\", \"recommended\",
               \"reason\"}]}; recommended is null where it is well
  --bundle FILE
               look at a node by what manx bundle wrote, not at this one
  --conf FILE  look at this configuration alone (default: all of /etc/cni/net.d)
  --root DIR   read and write files below DIR; the parameters are the kernel's",
    shape: Shape {
        flags: &["json", "apply", "revert"],
        values: &["bundle", "conf", "root"],
        operands: Operands::AtMost(0),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let (apply, revert) = (args.flag("apply"), args.flag("revert"));
    let given = [apply, revert, args.value("bundle").is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        return Err(SUBCOMMAND.usage("--apply, --revert and --bundle exclude each other"));
    }
    if revert {
        return apply::revert(&args.root(), console);
    }
    let all = settings(&look::snapshot(args)?);
    if apply {
        return apply::apply(&all, &args.root(), console);
    }
    if args.flag("json") {
        let settings: Vec<Value> = all.iter().map(encode).gather();
        console.json(&json!({"settings": settings}))?;
    } else {
        print(&all, console)?;
    }
    let is_well = all.iter().all(|one| one.recommended.is_none());
    Ok(if is_well { Status::Fine } else { Status::Findings })
}

fn print(all: &[Setting], console: &mut Console<'_>) -> Result<(), Failure> {
    let mut table = Table::new(&["PARAMETER", "CURRENT", "RECOMMENDED", "SET BY"]);
    for Setting { key, current, source, recommended, .. } in all {
        let recommended = recommended.map_or_else(|| "-".to_owned(), |value| value.to_string());
        table.row([dotted(key), current.to_string(), recommended, source.clone()]);
    }
    console.table(&table)?;
    for Setting { key, reason, .. } in all.iter().filter(|one| one.recommended.is_some()) {
        console.line(format_args!("{}: {reason}", dotted(key)))?;
    }
    Ok(())
}

fn encode(setting: &Setting) -> Value {
    let Setting { key, current, source, recommended, reason } = setting;
    json!({"key": dotted(key), "current": current, "setBy": source,
           "recommended": recommended, "reason": reason})
}
