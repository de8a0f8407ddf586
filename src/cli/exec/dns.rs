// SPDX-License-Identifier: Apache-2.0
//! The names that a pod knows, for one command: its resolv.conf in the place of the node's, in a
//! mount namespace that ends with the command.
//!
//! Runtimes write the file for the sandbox and mount it into each container. Where it lies is
//! each runtime's own affair, so it is read where it is used: at a process that is in the pod's
//! network namespace. That is a stranger's file system, in which every link is followed below its
//! own root and nothing but a regular file is read.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{
    cli::{Failure, failed},
    list::{Gather, Ordered},
    net::ns,
    state::{
        Root,
        file::{TEXT_BYTES_MAX, read_opened, unique},
        read_text, replace_synced,
    },
};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Which sources of names a program asks, in which order (nsswitch.conf(5)).
const NSSWITCH: &str = "/etc/nsswitch.conf";
/// What asks nobody else than the servers of resolv.conf.
const HOSTS: &str = "hosts: files dns";

/// The resolv.conf of the processes in a network namespace.
///
/// # Errors
/// Where none of them has one of its own.
pub(super) fn resolv_conf(netns: ns::Identity) -> Result<Vec<u8>, Failure> {
    let own = fs::metadata(RESOLV_CONF).map(|data| (data.dev(), data.ino())).ok();
    let mut processes: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .gather();
    processes.order();
    let mut problem = None;
    for process in processes {
        let process = PathBuf::from(format!("/proc/{process}"));
        let is_inside = || ns::Identity::at(process.join("ns/net")) == Some(netns);
        if !is_inside() {
            continue;
        }
        match open(&process) {
            // Asked again of what is open: the process may have ended meanwhile.
            Ok((file, identity)) if Some(identity) != own && is_inside() => {
                match read_opened(file, TEXT_BYTES_MAX) {
                    Ok(text) => return Ok(text),
                    Err(error) => problem = Some(error),
                }
            }
            Ok(_) => {}
            Err(error) => problem = Some(error),
        }
    }
    let why = problem.map(|error| format!(" ({error})")).unwrap_or_default();
    Err(Failure::Failed(format!(
        "no process of the pod has a {RESOLV_CONF} of its own{why}: its containers do not run; without \
         --dns the node's is used"
    )))
}

/// The file as a process sees it, with its device and inode.
fn open(process: &Path) -> io::Result<(File, (u64, u64))> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits());
    let root = options.open(process.join("root"))?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(root.as_fd(), "etc/resolv.conf", how)?);
    let data = file.metadata()?;
    Ok((file, (data.dev(), data.ino())))
}

/// Puts it in the place of the node's, for this process and what it becomes.
///
/// # Errors
/// Of writing it, and of mounting it.
pub(super) fn use_it(resolv_conf: &[u8], root: &Root) -> Result<(), Failure> {
    let refused = |what: &str, errno: nix::Error| failed(what, &errno.into());
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| refused("make a mount namespace", errno))?;
    let none = None::<&str>;
    // What the node unmounts goes here as well, and nothing of this reaches the node.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(|errno| refused("keep mounts to this command", errno))?;
    cover(RESOLV_CONF, resolv_conf, root)?;
    // A resolver of the node that is asked by a socket knows the node's servers alone.
    match read_text(Path::new(NSSWITCH), TEXT_BYTES_MAX).ok().and_then(|text| by_dns(&text)) {
        Some(text) => cover(NSSWITCH, text.as_bytes(), root),
        None => Ok(()),
    }
}

/// Mounts a file with this text over another, read-only.
fn cover(path: &str, text: &[u8], root: &Root) -> Result<(), Failure> {
    let file = root.runtime().join(format!(".{}.exec", unique()));
    replace_synced(&file, text)
        .map_err(|error| failed(format_args!("write {}", file.display()), &error))?;
    let none = None::<&str>;
    let read_only =
        MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let mounted = mount(Some(&file), path, none, MsFlags::MS_BIND, none).and_then(|()| {
        mount(none, path, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | read_only, none)
    });
    // The mount keeps what it shows.
    let _ = fs::remove_file(&file);
    mounted.map_err(|errno| failed(format_args!("mount over {path}"), &errno.into()))
}

/// The same nsswitch.conf, with hosts from files and DNS alone; none where that is so.
fn by_dns(nsswitch: &str) -> Option<String> {
    let is_hosts = |line: &&str| line.trim_start().starts_with("hosts:");
    let words = nsswitch.lines().filter(is_hosts).flat_map(|line| line.split_whitespace().skip(1));
    let mut others = words.filter(|word| !["files", "dns", "myhostname"].contains(word));
    others.next()?;
    let line = |line| if is_hosts(&line) { HOSTS } else { line };
    Some(nsswitch.lines().map(|one| format!("{}\n", line(one))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_of_dns_alone() {
        let other =
            "passwd: files systemd\nhosts:  mymachines resolve [!UNAVAIL=return] files dns\nx: y\n";
        let expected = "passwd: files systemd\nhosts: files dns\nx: y\n";
        assert_eq!(by_dns(other).as_deref(), Some(expected));
        for same in ["", "passwd: resolve\n", "hosts: files dns\n", "hosts:\tfiles myhostname dns"]
        {
            assert_eq!(by_dns(same), None, "{same}");
        }
    }

    #[test]
    fn a_namespace_without_a_process_of_its_own_has_no_file() {
        let own = ns::Identity::current().unwrap();
        for netns in [ns::Identity { device: own.device, inode: 1 }, own] {
            let Err(Failure::Failed(message)) = resolv_conf(netns) else { panic!("{netns:?}") };
            assert!(message.contains("do not run"), "{message}");
        }
    }
}
