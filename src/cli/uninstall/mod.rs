// SPDX-License-Identifier: Apache-2.0
//! `manx uninstall`: takes off a node what `manx install` put there, and what the plugin
//! has made since.
//!
//! What is known by the configurations alone goes before them, and the program last, so
//! that a run that was killed can be run again.

mod configurations;
mod files;
mod progress;
mod refusal;
mod state;

use std::{fs, path::Path};

use configurations::Configuration;
use progress::{Order, Progress};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, PLUGIN_DIRECTORY, Shape},
    conflist,
};
use crate::node::require_readable;

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "uninstall",
    summary: "take everything of manx off this node",
    help: "\
Usage: manx uninstall [OPTION…]

The reverse of manx install, for a node whose pods are gone. Takes back routes,
neighbours, tunnels and nftables tables of every network, what dead pods left,
the configurations that name the plugin, what was written for the daemons, what
manx tune has set, /run/manx and /var/lib/manx, and at last the plugin itself.
Each is printed. A file that somebody has edited stays, and so do peers files
that no agent wrote. Nothing is touched while pods are attached, an agent runs,
or systemd starts manx. Can be run again, also after it was killed.

  --dry-run       only say what would go
  --force         cut off the pods that are attached; remove edited files, and
                  configurations in which manx is behind another plugin
  --keep-conf     leave the configurations
  --bin-dir DIR   where plugins are (/opt/cni/bin)
  --conf-dir DIR  where configurations are (/etc/cni/net.d)
  --root DIR      put DIR before every path",
    shape: Shape {
        flags: &["dry-run", "force", "keep-conf"],
        values: &["bin-dir", "conf-dir", "root"],
        operands: Operands::AtMost(0),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let root = args.root();
    let directory = |option, default| {
        root.path(args.value(option).map_or_else(|| Path::new(default), Path::new))
    };
    let order = Order {
        bin_dir: directory("bin-dir", PLUGIN_DIRECTORY),
        conf_dir: directory("conf-dir", conflist::DIRECTORY),
        keep_conf: args.flag("keep-conf"),
        force: args.flag("force"),
        dry_run: args.flag("dry-run"),
        root,
    };
    if !order.force {
        require_readable(&order.root)?;
    }
    let configurations = configurations::of_ours(&order)?;
    let refusals = refusal::all(&order, &configurations)?;
    for refusal in &refusals {
        console.remark(format_args!("manx: uninstall: {refusal}"))?;
    }
    if !refusals.is_empty() && !order.dry_run {
        console.remark("manx: uninstall: nothing was removed")?;
        return Ok(Status::Failed);
    }
    let had_state = order.root.runtime().exists();
    let (dry_run, force) = (order.dry_run, order.force);
    let mut progress = Progress { console, dry_run, force, count: 0, failed: false };
    let done = take_all(&order, &configurations, &mut progress)?;
    if dry_run && !had_state {
        // Of the locks that were looked at.
        let _ = fs::remove_dir(order.root.runtime());
    }
    let Progress { console, count, failed, .. } = progress;
    if !done {
        console.remark("manx: uninstall: the rest is left; mend this, and run it again")?;
    } else if count == 0 && !failed {
        console.line("nothing of manx is on this node")?;
    }
    Ok(if failed || !refusals.is_empty() { Status::Failed } else { Status::Fine })
}

/// Takes one thing after the other; whether it came to the end.
fn take_all(
    order: &Order,
    configurations: &[Configuration],
    progress: &mut Progress<'_, '_>,
) -> Result<bool, Failure> {
    Ok(progress.step(|it| state::attachments(order, configurations, it))?
        && progress.step(|it| state::fabrics(order, configurations, it))?
        && progress.step(|it| state::tables(order, it))?
        && progress.step(|it| configurations::remove(order, configurations, it))?
        // A runtime that asked for STATUS meanwhile has brought the fabric up again.
        && progress.step(|it| state::look_again(order, configurations, it))?
        && progress.step(|it| files::drop_ins(order, it))?
        && progress.step(|it| state::tuned(order, it))?
        && progress.step(|it| configurations::peers(order, configurations, it))?
        && progress.step(|it| files::directories(order, it))?
        && progress.step(|it| files::programs(order, it))?)
}
