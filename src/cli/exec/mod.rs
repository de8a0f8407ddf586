// SPDX-License-Identifier: Apache-2.0
//! `manx exec`: a command of the host in a pod's network namespace, for images
//! that ship no tools.

mod dns;

use std::{ffi::OsString, fs, io, os::unix::process::CommandExt, process::Command};

use super::{
    Args, Console, Failure, Status, Subcommand,
    args::{Operands, Shape},
    attachments::{self, Attachment, DEAD},
};
use crate::{
    net::{
        Namespace, Socket,
        link::{self, Link},
        ns,
    },
    state::Entry,
};

pub(super) const SUBCOMMAND: Subcommand = Subcommand {
    name: "exec",
    summary: "run a command of this node in a pod's network",
    help: "\
Usage: manx exec [--dns] [--root DIR] POD [--] COMMAND [ARGUMENT…]

POD is namespace/name, a container id or the beginning of one, or an address.
Only the network is the pod's: files, processes and /sys are the node's. With
--dns /etc/resolv.conf is that of the pod's containers, for this command alone.
Ends with the command's own status; 127 where it is not found, 126 where it
cannot be run.

  --dns       resolve names as the pod does
  --root DIR  read the state below DIR

Example: manx exec default/web -- ss -tlnp
         manx exec --dns default/web -- dig +search kubernetes.default",
    shape: Shape { flags: &["dns"], values: &["root"], operands: Operands::OneThenCommand },
    run,
};

/// Status of a command that is not there, as shells have it (POSIX.1-2024,
/// Shell Command Language, 2.8.2).
const NOT_FOUND: u8 = 127;
/// Status of a command that is there and cannot be run.
const NOT_EXECUTABLE: u8 = 126;

fn run(args: &Args, _: &mut Console<'_>) -> Result<Status, Failure> {
    let Some(pod) = args.operands.first() else { return Err(SUBCOMMAND.usage("no POD given")) };
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(SUBCOMMAND.usage("no COMMAND given"));
    };
    let attachments = attachments::all(&args.root())?;
    let chosen = attachments::choose(&attachments, &pod.to_string_lossy(), |attachment| {
        // Two interfaces of one container are in one namespace.
        attachment.entry.netns_identity
    });
    let Attachment { entry, link, noted, .. } =
        chosen.map_err(|ambiguous| SUBCOMMAND.usage(&ambiguous))??;
    let name = &entry.host_link;
    let Some(link) = link else {
        return Err(Failure::Failed(format!("the pod's host link {name} is gone: {DEAD}")));
    };
    if !noted {
        let words = "is in no journal, so that nothing tells the pod's namespace";
        let next = "manx capture works without it";
        return Err(Failure::Failed(format!("{name} {words}; {next}")));
    }
    let namespace = namespace(entry)?;
    confirm(&namespace, entry, link)?;
    if args.flag("dns") {
        let (device, inode) = entry.netns_identity;
        let resolv_conf = dns::resolv_conf(ns::Identity { device, inode })?;
        dns::use_it(&resolv_conf, &args.root())?;
    }
    namespace.enter()?;
    Err(replace_process(program, arguments))
}

/// That the namespace has the other end of the attachment's host link. The
/// kernel gives the number of a namespace that died to a new one, which may be
/// another pod's.
fn confirm(namespace: &Namespace, entry: &Entry, host: &Link) -> Result<(), Failure> {
    let mut socket = namespace.within(&Namespace::current()?, Socket::open).flatten()?;
    let pod = link::by_name(&mut socket, &entry.ifname)?;
    let joined =
        |pod: Link| host.peer_index == Some(pod.index) && pod.peer_index == Some(host.index);
    if pod.is_some_and(joined) {
        return Ok(());
    }
    let (ifname, netns, name) = (&entry.ifname, &entry.netns, &host.name);
    Err(Failure::Failed(format!(
        "{ifname} in the namespace of {netns} is not the other end of {name}: it is another pod's \
         by now; see manx pods"
    )))
}

/// Becomes the program; returns only if that fails.
pub(super) fn replace_process(program: &OsString, arguments: &[OsString]) -> Failure {
    let error = Command::new(program).args(arguments).exec();
    let name = program.to_string_lossy();
    match error.kind() {
        io::ErrorKind::NotFound => Failure::NotRun(
            NOT_FOUND,
            format!(
                "exec: {name}: no such command on this node; install it here, or give its path"
            ),
        ),
        _ => Failure::NotRun(NOT_EXECUTABLE, format!("exec: {name}: {error}")),
    }
}

/// The pod's namespace: by the path that the runtime gave, if that still leads
/// there, else by a process in it.
fn namespace(entry: &Entry) -> Result<Namespace, Failure> {
    let (device, inode) = entry.netns_identity;
    let wanted = ns::Identity { device, inode };
    let named = Namespace::open(&entry.netns);
    if let Ok(namespace) = named.as_ref().map(Namespace::identity)
        && namespace == wanted
    {
        return Ok(named?);
    }
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path = process.path().join("ns/net");
        // Asked again of the open file: the process may have ended meanwhile.
        if ns::Identity::at(&path) == Some(wanted)
            && let Ok(namespace) = Namespace::open(&path)
            && namespace.identity() == wanted
        {
            return Ok(namespace);
        }
    }
    let words = match named {
        Ok(_) => format!("{} leads to another namespace by now", entry.netns),
        Err(error) => error.to_string(),
    };
    let hint = "no process is in it either; manx gc --dry-run says what is dead";
    Err(Failure::Failed(format!("{words}; {hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{attachments::tests::entry, tests::manx};

    #[test]
    fn a_namespace_is_found_by_a_process_where_its_path_leads_elsewhere() {
        let own = ns::Identity::current().unwrap();
        let mut entry = entry("a", "a1", "eth0", "10.0.0.1");
        entry.netns_identity = (own.device, own.inode);
        for path in ["/proc/thread-self/ns/net", "/proc/self/ns/mnt", "/nowhere", "/proc/uptime"] {
            entry.netns = path.into();
            assert_eq!(namespace(&entry).unwrap().identity(), own, "{path}");
        }
        entry.netns_identity = (own.device, 1);
        for (path, words) in [("/proc/self/ns/net", "another"), ("/nowhere", "No such file")] {
            entry.netns = path.into();
            let Err(Failure::Failed(message)) = namespace(&entry) else { panic!("{path}") };
            assert!(message.contains(path) && message.contains(words), "{message}");
        }
    }

    #[test]
    fn without_a_pod_or_a_command_it_is_wrong_usage() {
        for arguments in [&["exec"][..], &["exec", "default/a"], &["exec", "default/a", "--"]] {
            let (code, _, err) = manx(arguments);
            assert!(code == 2 && err.contains("given"), "{arguments:?}: {err}");
        }
    }
}
