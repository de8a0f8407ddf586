//! The namespace that a runtime names, and which ones it must not be.

use nix::errno::Errno;

use crate::{
    cni::{Code, Environment, Error},
    net::{self, Namespace, ns::Identity},
};

/// Opens the pod's namespace for ADD or CHECK.
///
/// # Errors
/// Code 4 if there is none at the path, or if it is the node's own: a process
/// id that was used again makes `/proc/PID/ns/net` name the wrong one.
pub(super) fn open(environment: &Environment) -> Result<Namespace, Error> {
    let path = &environment.netns;
    let invalid = |msg: String| Error::new(Code::INVALID_ENVIRONMENT, msg);
    let netns = Namespace::open(path).map_err(|error| {
        invalid(format!("CNI_NETNS={path}: {error}"))
            .details("name the network namespace of a running container")
    })?;
    if !environment.netns_override && is_nodes_own(netns.identity()) {
        return Err(invalid(format!("CNI_NETNS={path} is the node's own network namespace"))
            .details("name the container's; CNI_NETNS_OVERRIDE=1 means the node's"));
    }
    Ok(netns)
}

/// Opens the pod's namespace for DEL, which goes on without: `None` if there is
/// none any more, or if it is the node's own.
pub(super) fn open_if_alive(environment: &Environment) -> Option<Namespace> {
    if environment.netns.is_empty() {
        return None;
    }
    match Namespace::open(&environment.netns) {
        Ok(netns) if environment.netns_override || !is_nodes_own(netns.identity()) => Some(netns),
        Ok(_) => {
            log::warn!("CNI_NETNS={} is the node's own: left alone", environment.netns);
            None
        }
        Err(error) => {
            let gone = matches!(error.errno, Errno::ENOENT | Errno::EINVAL | Errno::ENOTDIR);
            let level = if gone { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "CNI_NETNS={}: {error}", environment.netns);
            None
        }
    }
}

/// Whether the runtime names the node's own namespace without meaning to.
pub(super) fn names_the_nodes_own(environment: &Environment) -> bool {
    !environment.netns_override
        && Namespace::open(&environment.netns).is_ok_and(|netns| is_nodes_own(netns.identity()))
}

fn is_nodes_own(identity: Identity) -> bool {
    net::ns::Identity::current() == Some(identity) || Identity::of_init() == Some(identity)
}
