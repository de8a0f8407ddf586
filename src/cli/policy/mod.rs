// SPDX-License-Identifier: Apache-2.0
//! `manx policy`: the network policies of a cluster, enforced on this node.

mod show;
mod world;

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
};
use crate::{
    list::{Gather, PushAll},
    node::{
        configured::{Configured, Networks},
        policy::{self, Established, Wanted},
    },
    object::Told,
    policy::Denial,
    text::json::object,
};
use world::Given;
pub(super) use world::read_world;

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "policy",
    summary: "enforce network policies that a file gives",
    help: "\
Usage: manx policy plan WORLD [--node NAME] [--reject] [--log GROUP] [--json]
       manx policy apply WORLD [--node NAME] [--reject] [--log GROUP]
                               [--keep-connections] [--json] [--root DIR]
       manx policy show [--json]
       manx policy remove [--root DIR]

WORLD is the output of kubectl get namespaces,pods,networkpolicies -A -o json
(or yaml), or - for stdin. apply makes the nftables table manx.policy hold what
these policies say of the pods of this node; it is not repeated when something
changes in the cluster. Established connections that they do not allow are cut.
plan shows what apply would change, and exits 3 if there is something. show
lists what is enforced, and remove takes it away: all pods are open then.

  --node NAME  the pods of this node; default: the name of this host
  --reject     answer what no policy allows with a reset of TCP or with ICMP;
               without it such a packet is dropped in silence
  --log GROUP  send what no policy allows, ten packets a second, to a group of
               NFLOG (0 to 65535)
  --keep-connections
               leave established connections as they are
  --json       plan, apply: {\"changes\": [as of manx plan], \"notes\": []}, and
               of apply how many connections were \"cut\"
               show: {\"enforced\", \"peers\", \"pods\": [{\"address\", \"pod\",
               \"egress\": {\"class\", \"grants\", \"networks\", \"dropped\":
               {\"packets\", \"bytes\"}}, \"ingress\": the same}]};
               egress and ingress are null where they are open
  --root DIR   keep files and the lock below DIR, and look for configurations
               there",
    shape: Shape {
        flags: &["json", "keep-connections", "reject"],
        values: &["log", "node", "root"],
        operands: Operands::AtMost(2),
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let operands: Vec<&str> = args.operands.iter().filter_map(|it| it.to_str()).gather();
    match (operands.as_slice(), args.operands.get(1)) {
        (["plan", ..], Some(file)) => {
            let denial = denial(args)?;
            let Given { world, node, notes } = Given::read(file, args)?;
            let changes = policy::plan(&mut Wanted::of(world, &node, denial, &args.root()))?;
            let status = if changes.is_empty() { Status::Fine } else { Status::Findings };
            tell(&notes, &changes, None, args, console)?;
            Ok(status)
        }
        (["apply", ..], Some(file)) => {
            let denial = denial(args)?;
            let given = Given::read(file, args)?;
            let established = match args.flag("keep-connections") {
                true => Established::Kept,
                false => Established::Judged,
            };
            let Given { world, node, mut notes } = given;
            let applied = policy::apply(world, &node, established, denial, &args.root())?;
            notes.push_all(applied.notes);
            tell(&notes, &applied.changes, Some(applied.cut), args, console)?;
            Ok(Status::Fine)
        }
        (["show"], _) => show::show(args, console),
        (["remove"], _) => {
            let was_there = policy::remove(&args.root())?;
            let said = if was_there { "removed: all pods are open" } else { "nothing to remove" };
            console.remark(said)?;
            still_asking(args, console)
        }
        (["plan" | "apply"], None) => Err(SUBCOMMAND.usage("say where the policies are: WORLD")),
        _ => Err(SUBCOMMAND.usage("say what to do: plan, apply, show or remove")),
    }
}

/// Warns where it will not stay so.
fn still_asking(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    // Of what cannot be read doctor tells.
    let Ok(networks) = Networks::read(&args.root(), None) else { return Ok(Status::Fine) };
    let asking = networks.all.iter().filter(|one| one.config.enforces_policy);
    let names: Vec<&str> = asking.map(Configured::name).gather();
    if !names.is_empty() {
        let names = names.join(", ");
        console.remark(format_args!(
            "warning: the configuration of {names} still asks for policies, so the table comes back: \
             at once where an agent or manx-watch runs, else with the next ADD, STATUS or manx \
             apply. Without an agent that applies policies it closes the pods that were added under \
             them (unless networkPolicyMissing was \"allow\"). To keep pods open, take the agent's \
             component network-policy away; without an agent write \"networkPolicy\": \"off\", and \
             run manx policy remove again"
        ))?;
    }
    Ok(Status::Fine)
}

/// What becomes of packets that nothing allows.
fn denial(args: &Args) -> Result<Denial, Failure> {
    let group = args.value("log").map(|text| text.to_string_lossy());
    let log = group.as_deref().map(|text| {
        let wrong = |_| SUBCOMMAND.usage("--log wants a group of NFLOG from 0 to 65535");
        text.parse().map_err(wrong)
    });
    Ok(Denial { rejects: args.flag("reject"), log: log.transpose()?, ..Denial::default() })
}

/// Tells what is to be changed, or was, and how many connections were cut then.
fn tell(
    notes: &[String],
    changes: &[Told],
    cut: Option<usize>,
    args: &Args,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    if args.flag("json") {
        let changes = changes.iter().map(Told::encode).gather();
        let mut members = vec![("changes", changes.into()), ("notes", notes.into())];
        members.push_all(cut.map(|cut| ("cut", cut.into())));
        return Ok(console.json(&object(members))?);
    }
    for line in changes {
        console.line(line)?;
    }
    for note in notes {
        console.remark(format_args!("note: {note}"))?;
    }
    if changes.is_empty() {
        console.remark("nothing to change")?;
    }
    if let Some(cut @ 1..) = cut {
        console.remark(format_args!("connections that were cut: {cut}"))?;
    }
    Ok(())
}
