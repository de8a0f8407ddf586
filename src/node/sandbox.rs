// SPDX-License-Identifier: Apache-2.0
//! The namespace that a runtime names, and which ones it must not be.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::errno::Errno;

use super::{Error, Kind, Object, file, kernel};
use crate::{
    cni::Environment,
    net::{self, Namespace, Socket, ns::Identity},
    state::{Entry, lock},
};

/// Whether this process stays out of pods.
static STAYS_OUT: AtomicBool = AtomicBool::new(false);

/// Enters no namespace of a pod from now on: this process is in a container, where their
/// paths lead nowhere, or to others.
pub fn stay_out() {
    STAYS_OUT.store(true, Ordering::Relaxed);
}

/// The pod's namespace, with what it takes to work in it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// The pod's namespace.
    pub(crate) netns: Namespace,
    /// The namespace that this process was started in.
    home: Namespace,
    /// A socket in the pod's.
    pub(crate) socket: Socket,
}

/// Why there is nothing to work in.
enum Unusable {
    /// The path leads to no network namespace.
    NoNamespace(net::Error),
    /// The kernel refused what it takes: a right, a file descriptor.
    Refused(net::Error),
}

impl Sandbox {
    fn new(path: &str) -> Result<Self, Unusable> {
        let netns = Namespace::open(path).map_err(Unusable::NoNamespace)?;
        let home = Namespace::current().map_err(Unusable::Refused)?;
        let socket = match netns.within(&home, Socket::open) {
            Err(error) if error.errno == Errno::EINVAL => Err(Unusable::NoNamespace(error)),
            outcome => outcome.flatten().map_err(Unusable::Refused),
        };
        Ok(Self { netns, home, socket: socket? })
    }

    /// Whether it is the node's own namespace.
    fn is_the_nodes(&self) -> bool {
        is_the_nodes(self.netns.identity(), self.home.identity())
    }

    /// Waits until no other attachment of this pod is being made: what it makes is
    /// then there to be seen. A runtime may ask for several at once. Held until the
    /// sandbox is dropped.
    ///
    /// A process of the pod can hold this lock as well, and so keep its own pod from
    /// getting further interfaces. Nothing that removes may wait for it.
    ///
    /// # Errors
    /// `Busy` naming the holder.
    pub(crate) fn lock(&self) -> Result<(), Error> {
        lock::namespace(self.netns.file()).map_err(|error| {
            let place = format!("net:[{}]", self.netns.identity().inode);
            file("lock the pod's namespace", Path::new(&place), &error)
        })
    }

    /// Runs `work` inside the pod's namespace.
    ///
    /// # Errors
    /// Of entering or of returning.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> Result<T, net::Error> {
        self.netns.within(&self.home, work)
    }
}

/// Opens the pod's namespace for ADD or CHECK.
///
/// # Errors
/// `Environment` if there is none at the path, or if it is the node's own: a process
/// id that was used again makes `/proc/PID/ns/net` name the wrong one. `Kernel`
/// if the kernel refuses to let us in.
pub(crate) fn open(environment: &Environment) -> Result<Sandbox, Error> {
    let path = &environment.netns;
    let object = Object::variable("CNI_NETNS", path);
    let invalid = |msg: String| Error::new(Kind::Environment, object.clone(), msg);
    let sandbox = Sandbox::new(path).map_err(|unusable| match unusable {
        Unusable::NoNamespace(error) => {
            invalid(error.to_string()).next("name the network namespace of a running container")
        }
        Unusable::Refused(error) => kernel(error),
    })?;
    if !environment.netns_override && sandbox.is_the_nodes() {
        return Err(invalid("it is the node's own network namespace".to_owned())
            .next("name the container's; CNI_NETNS_OVERRIDE=1 means the node's"));
    }
    Ok(sandbox)
}

/// Opens the pod's namespace for DEL, which goes on without: `None` if there is
/// none any more, or if it is the node's own.
///
/// # Errors
/// `Kernel` if there is one and the kernel refuses to let us in: what is in it is
/// not known then.
pub(crate) fn open_if_alive(environment: &Environment) -> Result<Option<Sandbox>, Error> {
    if environment.netns.is_empty() {
        return Ok(None);
    }
    match Sandbox::new(&environment.netns) {
        Ok(sandbox) if environment.netns_override || !sandbox.is_the_nodes() => Ok(Some(sandbox)),
        Ok(_) => {
            log::warn!("CNI_NETNS={} is the node's own: left alone", environment.netns);
            Ok(None)
        }
        Err(Unusable::NoNamespace(error)) => {
            let gone = matches!(error.errno, Errno::ENOENT | Errno::EINVAL | Errno::ENOTDIR);
            let level = if gone { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "CNI_NETNS={}: {error}", environment.netns);
            Ok(None)
        }
        Err(Unusable::Refused(error)) => Err(kernel(error)),
    }
}

/// Opens the namespace that an entry of the journal notes: `None` if its path leads
/// to none or to another one by now.
///
/// # Errors
/// `Kernel` if the kernel refuses to let us in, `Unavailable` where this process stays out.
pub(crate) fn of_entry(entry: &Entry) -> Result<Option<Sandbox>, Error> {
    if STAYS_OUT.load(Ordering::Relaxed) {
        let object = Object::path("the namespace", Path::new(&entry.netns));
        let msg = "an agent does not look into it";
        return Err(Error::new(Kind::Unavailable, object, msg)
            .next("manx apply on the node does, and so does the next ADD"));
    }
    match Sandbox::new(&entry.netns) {
        Ok(sandbox) => {
            let Identity { device, inode } = sandbox.netns.identity();
            Ok(Some(sandbox).filter(|_| (device, inode) == entry.netns_identity))
        }
        Err(Unusable::NoNamespace(_)) => Ok(None),
        Err(Unusable::Refused(error)) => Err(kernel(error)),
    }
}

/// Whether the runtime names the node's own namespace without meaning to.
pub(crate) fn names_the_nodes_own(environment: &Environment) -> bool {
    let identities = || {
        let (netns, home) = (Namespace::open(&environment.netns)?, Namespace::current()?);
        Ok::<_, net::Error>((netns.identity(), home.identity()))
    };
    !environment.netns_override && identities().is_ok_and(|(netns, home)| is_the_nodes(netns, home))
}

/// Of process 1 as well: a runtime may have been started in a namespace of its own.
fn is_the_nodes(netns: Identity, home: Identity) -> bool {
    netns == home || Identity::of_init() == Some(netns)
}
