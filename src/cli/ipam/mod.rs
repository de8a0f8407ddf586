// SPDX-License-Identifier: Apache-2.0
//! `manx ipam`: the pool of a network, beside the attachments that live on it.

mod audited;
mod check;
mod show;

pub(super) use show::integer;

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "ipam",
    summary: "show the pool of addresses, or check its leases",
    help: "\
Usage: manx ipam show [--json] [OPTION…]
       manx ipam check [--fix] [--json] [OPTION…]

show lists each range with its size, what is used and free, its oldest lease
and how many leases seem to be nobody's. check compares leases with the
attachments of this node; it ends with 3 where they do not agree. An ADD that
is under way is waited for. For pools of manx-ipam and of host-local; show also
for those that another plugin, such as bridge, takes its addresses from.

  --fix        release leases that no attachment has, and lease the addresses
               of attachments that nobody leased
  --conf FILE  the configuration; default: the first of ours in /etc/cni/net.d,
               else the first with such a pool
  --json       show: {\"network\", \"directory\", \"ranges\": [{\"set\", \"subnet\",
               \"first\", \"last\", \"size\", \"used\", \"free\", \"leaked\", \"oldest\":
               {\"address\", \"containerID\", \"ifname\", \"ageSeconds\"}}]};
               size and free are at most 9007199254740991 (2^53 - 1)
               check: as of manx doctor; what was mended is of severity info
  --root DIR   use the state below DIR",
    shape: Shape {
        flags: &["fix", "json"],
        values: &["conf", "root"],
        operands: Operands::AtMost(1),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    match args.operands.first().and_then(|operand| operand.to_str()) {
        Some("show") if args.flag("fix") => Err(SUBCOMMAND.usage("show mends nothing: use check")),
        Some("show") => show::show(args, console),
        Some("check") => check::check(args, console),
        _ => Err(SUBCOMMAND.usage("say what to do: show or check")),
    }
}
