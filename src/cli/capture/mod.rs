// SPDX-License-Identifier: Apache-2.0
//! `manx capture`: what goes over a pod's host link, or along its whole way through the node, as
//! tcpdump shows it.

#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod lines;
mod path;
mod places;
mod source;
mod unpack;

use std::{
    ffi::{OsStr, OsString},
    net::IpAddr,
    os::unix::process::CommandExt,
    process::Command,
    time::Duration,
};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    attachments::{self, Attachment, DEAD},
};

use crate::{
    family::is_single,
    list::Gather,
    net::{Socket, Tables, link::Link},
    node::Kernel,
};
use path::{Asked, Bounds};
use source::not_run;

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "capture",
    summary: "show a pod's packets with tcpdump, also on their way out",
    help: "\
Usage: manx capture [--ifname IFNAME] [--root DIR] POD [FILTER…]
       manx capture --path [--seconds N] [--count N] [OPTION…] POD [FILTER…]

Runs tcpdump -n on the pod's host link. POD is namespace/name, a container id or
the beginning of one, or an address. FILTER is whatever tcpdump takes: options,
then an expression. What the pod sends is incoming here.

With --path it runs on the pod's host link, the tunnel and the uplinks at once.
Each line says where a packet was seen, in the order of time (UTC), and what is
in a tunnel is shown unpacked on the uplink as well. FILTER is an expression,
by default all packets of the pod; what leaves under the node's address is seen
on the uplink by a FILTER alone. It ends with Ctrl-C, and says how many packets
passed each place, and behind which none were seen.

  --path           show the way through the node
  --seconds N      end so many seconds after every tcpdump listens
  --count N        end after so many lines
  --ifname IFNAME  which interface of a pod that has several; also behind POD
  --root DIR       read the state below DIR

Example: manx capture default/web -c 10 tcp port 80
         manx capture --path --count 20 default/web icmp",
    shape: Shape {
        flags: &["path"],
        values: &["seconds", "count", "ifname", "root"],
        operands: Operands::OneThenCommand,
    },
    run,
};

fn run(args: &Args, console: &mut Console<'_>) -> Result<Status, Failure> {
    let Some(pod) = args.operands.first() else { return Err(SUBCOMMAND.usage("no POD given")) };
    let (behind, filter) = ifname_behind(&args.command)?;
    let bounds = bounds(args)?;
    let mut attachments = attachments::all(&args.root())?;
    let here = attachments.iter().flat_map(|one| one.entry.addresses.clone()).gather();
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
    let Some(bounds) = bounds else { return Err(tcpdump(&link.name, filter)) };
    let kernel = Kernel::of(&Tables::of_kernel(&mut Socket::open()?)?);
    let addresses = match entry.addresses.is_empty() {
        true => routed(&kernel, link),
        false => entry.addresses.clone(),
    };
    if addresses.is_empty() {
        let words = "is in no journal, and no route leads to it: its packets cannot be told";
        return Err(Failure::Failed(format!("{} {words}; name it without --path", link.name)));
    }
    let places = places::places(link, &addresses, &kernel, &expression(filter)?);
    let node = kernel.addresses.iter().map(|(_, address)| address.ip());
    let asked = Asked { pod: &pod.to_string_lossy(), addresses, node: node.gather(), here };
    path::show(&places, &asked, &bounds, console)?;
    Ok(Status::Fine)
}

/// When --path ends; none without it.
fn bounds(args: &Args) -> Result<Option<Bounds>, Failure> {
    let number = |name: &str| match args.value(name).map(|value| value.to_str()?.parse().ok()) {
        None => Ok(None),
        Some(Some(number @ 1..)) => Ok(Some(number)),
        Some(_) => Err(SUBCOMMAND.usage(&format!("--{name} takes a number from 1"))),
    };
    let (seconds, count) = (number("seconds")?, number("count")?);
    if args.flag("path") {
        return Ok(Some(Bounds { limit: seconds.map(Duration::from_secs), count }));
    }
    match seconds.or(count) {
        Some(_) => Err(SUBCOMMAND.usage("--seconds and --count are of --path")),
        None => Ok(None),
    }
}

/// The filter of --path, whose lines have one form.
fn expression(filter: &[OsString]) -> Result<String, Failure> {
    let words: Vec<_> = filter.iter().map(|word| word.to_string_lossy()).gather();
    match words.iter().find(|word| word.starts_with('-')) {
        Some(option) => Err(SUBCOMMAND.usage(&format!(
            "{option:?}: with --path FILTER is an expression, and options stand before POD"
        ))),
        None => Ok(words.join(" ")),
    }
}

/// The addresses to which routes lead over a link.
fn routed(kernel: &Kernel, link: &Link) -> Vec<IpAddr> {
    let routes = kernel.routes.iter().filter(|found| found.devices == [link.index]);
    let destinations = routes.map(|found| found.route.destination);
    let hosts = destinations.filter(is_single);
    hosts.map(|host| host.ip()).gather()
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
    of_pod.map(|attachment| attachment.entry.ifname.clone()).gather()
}

/// Becomes tcpdump; returns only if that fails. Names of addresses are not
/// looked up: the questions would show up among the answers.
fn tcpdump(link: &str, filter: &[OsString]) -> Failure {
    not_run(&Command::new("tcpdump").args(["-n", "-i", link]).args(filter).exec())
}
