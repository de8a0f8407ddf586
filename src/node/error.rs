//! What the kernel and the file system refused, with the next step.

use std::{io, path::Path};

use nix::errno::Errno;

use crate::{
    cni::{Code, Error},
    net,
    state::file::is_link,
};

/// What the kernel refused, as the runtime is told.
pub(crate) fn kernel(error: net::Error) -> Error {
    let hint = match error.errno {
        Errno::EPERM => "run the plugin as root with CAP_NET_ADMIN and CAP_SYS_ADMIN",
        // What the fabric's devices lack, their own errors say.
        Errno::EOPNOTSUPP if error.what.starts_with("create veth") => {
            "the kernel lacks this kind of link: modprobe veth"
        }
        Errno::EINVAL => {
            "the kernel takes no such value: look for what the message names in the \
                          configuration, in IPAM's result and in CNI_ARGS"
        }
        Errno::EEXIST => {
            "see who has it: ip route show table all, ip address, ip -d link, on this \
                          node and in the pod (nsenter --net=CNI_NETNS)"
        }
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => {
            "the next hop is on no link that is up: see ip route get NEXT-HOP, and whether the link \
             and its address are there (ip address)"
        }
        Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::ENXIO => {
            "something removed it meanwhile: see which daemon manages links on this node (networkctl, \
             nmcli device; manx install tells them to leave these alone)"
        }
        Errno::ENOBUFS | Errno::ENOMEM => {
            "the kernel lacks memory for it: see free -m, and memory.max of the runtime's cgroup"
        }
        _ => "compare with what is there: ip -d link, ip address, ip route show table all",
    };
    Error::new(Code::KERNEL, error.to_string()).details(hint)
}

/// What the file system refused, as the runtime is told: `what` was to be done
/// to something below `path`.
pub(crate) fn file(what: &str, path: &Path, error: &io::Error) -> Error {
    let (code, hint) = match error.kind() {
        _ if is_link(error) => {
            (Code::IO, "a symbolic link in its place is not followed: remove it")
        }
        io::ErrorKind::TimedOut => (Code::TRY_AGAIN, "try again; see what that process waits for"),
        _ => {
            let hint =
                "look at its permissions, its free space, and whether it is mounted read-only";
            (Code::IO, hint)
        }
    };
    Error::new(code, format!("{what} in {}: {error}", path.display())).details(hint)
}
