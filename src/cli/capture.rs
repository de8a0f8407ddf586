//! `manx capture`: what goes over a pod's host link, as tcpdump shows it.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    process::Command,
};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    attachments::{self, Attachment, DEAD},
};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "capture",
    summary: "show a pod's packets with tcpdump",
    help: "\
Usage: manx capture [--ifname IFNAME] [--root DIR] POD [FILTER…]

Runs tcpdump -n on the pod's host link. POD is namespace/name, a container id or
the beginning of one, or an address. FILTER is whatever tcpdump takes: options,
then an expression. What the pod sends is incoming here.

  --ifname IFNAME  which interface of a pod that has several; also behind POD
  --root DIR       read the state below DIR

Example: manx capture default/web -c 10 tcp port 80",
    shape: Shape { flags: &[], values: &["ifname", "root"], operands: Operands::OneThenCommand },
    run,
};

fn run(args: &Args, _: &mut Console<'_>) -> Result<Status, Failure> {
    let Some(pod) = args.operands.first() else { return Err(SUBCOMMAND.usage("no POD given")) };
    let (behind, filter) = ifname_behind(&args.command)?;
    let mut attachments = attachments::all(&args.root())?;
    if let Some(ifname) = behind.or(args.value("ifname")) {
        let others = interfaces(&attachments, &pod.to_string_lossy());
        attachments.retain(|attachment| *attachment.entry.ifname == *ifname);
        if !others.is_empty() && !others.iter().any(|other| *other.as_str() == *ifname) {
            let (pod, others) = (pod.to_string_lossy(), others.join(", "));
            let message = format!("pod {pod:?} has no interface {ifname:?}; it has {others}");
            return Err(Failure::Failed(message));
        }
    }
    let chosen = attachments::choose(&attachments, &pod.to_string_lossy(), |attachment| {
        let entry = &attachment.entry;
        (entry.network.clone(), entry.container_id.clone(), entry.ifname.clone())
    });
    let Attachment { entry, link, .. } =
        chosen.map_err(|ambiguous| SUBCOMMAND.usage(&ambiguous))??;
    let Some(link) = link else {
        let name = &entry.host_link;
        return Err(Failure::Failed(format!("the pod's host link {name} is gone: {DEAD}")));
    };
    Err(tcpdump(&link.name, filter))
}

/// An `--ifname` behind POD, which tcpdump has none of, and the rest.
fn ifname_behind(command: &[OsString]) -> Result<(Option<&OsStr>, &[OsString]), Failure> {
    let Some((first, rest)) = command.split_first() else { return Ok((None, command)) };
    if let Some(value) = first.to_str().and_then(|first| first.strip_prefix("--ifname=")) {
        return Ok((Some(OsStr::new(value)), rest));
    }
    if first != "--ifname" {
        return Ok((None, command));
    }
    match rest.split_first() {
        Some((value, rest)) => Ok((Some(value), rest)),
        None => Err(SUBCOMMAND.usage("--ifname takes an interface's name")),
    }
}

/// The interfaces that a pod has.
fn interfaces(attachments: &[Attachment], pod: &str) -> Vec<String> {
    let of_pod = attachments.iter().filter(|attachment| attachment.answers_to(pod));
    of_pod.map(|attachment| attachment.entry.ifname.clone()).collect()
}

/// Becomes tcpdump; returns only if that fails. Names of addresses are not
/// looked up: the questions would show up among the answers.
fn tcpdump(link: &str, filter: &[OsString]) -> Failure {
    let error = Command::new("tcpdump").args(["-n", "-i", link]).args(filter).exec();
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "; install the package tcpdump",
        _ => "",
    };
    Failure::Failed(format!("tcpdump: {error}{hint}"))
}
