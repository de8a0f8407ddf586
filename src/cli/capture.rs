//! `manx capture`: what goes over a pod's host link, as tcpdump shows it.

use std::{ffi::OsString, io, os::unix::process::CommandExt, process::Command};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    attachments::{self, Attachment},
};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "capture",
    summary: "show a pod's packets with tcpdump",
    help: "\
Usage: manx capture [--ifname IFNAME] [--root DIR] POD [FILTER…]

Runs tcpdump -n on the pod's host link. POD is namespace/name, a container id or
the beginning of one, or an address. FILTER is whatever tcpdump takes: options,
then an expression. What the pod sends is incoming here.

  --ifname IFNAME  which interface of a pod that has several
  --root DIR       read the state below DIR

Example: manx capture default/web -c 10 tcp port 80",
    shape: Shape { flags: &[], values: &["ifname", "root"], operands: Operands::OneThenCommand },
    run,
};

fn run(args: &Args, _: &mut Console<'_>) -> Result<Status, Failure> {
    let Some(pod) = args.operands.first() else { return Err(SUBCOMMAND.usage("no POD given")) };
    let mut attachments = attachments::all(&args.root())?;
    if let Some(ifname) = args.value("ifname") {
        attachments.retain(|attachment| *attachment.entry.ifname == *ifname);
    }
    let chosen = attachments::choose(&attachments, &pod.to_string_lossy(), |attachment| {
        let entry = &attachment.entry;
        (entry.network.clone(), entry.container_id.clone(), entry.ifname.clone())
    });
    let Attachment { entry, link, .. } =
        chosen.map_err(|ambiguous| SUBCOMMAND.usage(&ambiguous))??;
    let Some(link) = link else {
        let name = &entry.host_link;
        return Err(Failure::Failed(format!("the pod's host link {name} is gone; see manx pods")));
    };
    Err(tcpdump(&link.name, &args.command))
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
