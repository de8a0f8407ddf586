//! `manx ipam`: the pool of a network, beside the attachments that live on it.

mod check;
mod show;

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    conflist::{self, DIRECTORY},
};
use crate::{
    ipam::Owner,
    verb::{Audit, audit},
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
is under way is waited for. For pools of manx-ipam and of host-local, also where
another plugin, such as bridge, has its addresses from them.

  --fix        release leases that no attachment has, and lease the addresses
               of attachments that nobody leased
  --conf FILE  the configuration; default: the first of ours in /etc/cni/net.d,
               else the first with such a pool
  --json       show: {\"network\", \"directory\", \"ranges\": [{\"set\", \"subnet\",
               \"first\", \"last\", \"size\", \"used\", \"free\", \"leaked\", \"oldest\":
               {\"address\", \"containerID\", \"ifname\", \"ageSeconds\"}}]}
               check: {\"network\", \"directory\", \"findings\": [{\"id\", \"address\",
               \"containerID\", \"ifname\", \"fixed\", \"message\", \"fix\"}]}
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

/// Looks at the pool of the configuration that the options name.
fn look(args: &Args, fix: bool) -> Result<Audit, Failure> {
    let root = args.root();
    let path = match args.value("conf") {
        Some(path) => path.into(),
        None => conflist::with_pool(&root.path(DIRECTORY))?,
    };
    let (mut document, config) = conflist::pool(&path)?;
    super::attachments::require_readable(&root)?;
    Ok(audit(&root, &mut document, &config, fix)?)
}

/// An attachment's keys in JSON.
fn keys(owner: &Owner) -> Value {
    json!({"containerID": owner.container_id, "ifname": owner.ifname})
}

/// A length of time in its two largest units.
fn in_words(age: Duration) -> String {
    let seconds = age.as_secs();
    let parts = [(seconds / 86400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m")];
    let mut words: Vec<String> = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    words.push(format!("{}s", seconds % 60));
    words.truncate(2);
    words.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_two_units() {
        for (seconds, words) in
            [(0, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h0m"), (90061, "1d1h")]
        {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
