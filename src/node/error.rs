// SPDX-License-Identifier: Apache-2.0
//! What goes wrong on a node, with the next step. Each door tells it in its own way: a
//! verb by a code of CNI, the command line by an exit status.

use std::{fmt, io, net::IpAddr, path::Path};

use nix::errno::Errno;

use crate::{boxed::Boxed, net, nft, state::file::is_link};

/// What sort of thing went wrong: what a caller decides by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A configuration is wrong, or two of them disagree.
    Configuration,
    /// What was named from outside is no good, such as a namespace.
    Environment,
    /// Something of the node, or all peers, lack what an attachment needs.
    Unavailable,
    /// Somebody else is at it.
    Busy,
    /// A name or an address is somebody else's.
    Conflict,
    /// A file could not be read or written.
    File,
    /// The kernel refused a request.
    Kernel,
}

/// With what something went wrong. It is made by what it is, so that none is nameless.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Object(String);

impl Object {
    /// A network.
    pub fn network(name: &str) -> Self {
        Self(format!("network {name}"))
    }

    /// Two networks, each with what it is configured to be.
    pub fn networks((one, its): (&str, &str), (other, others): (&str, &str)) -> Self {
        Self(format!("networks {one} ({its}) and {other} ({others})"))
    }

    /// What was applied, or is to be, by one route protocol.
    pub fn fabric(protocol: u8) -> Self {
        Self(format!("the fabric of route protocol {protocol}"))
    }

    /// A file or a directory. `what` stands before its path: what it is, or what was to be
    /// done with it.
    pub fn path(what: &str, path: &Path) -> Self {
        let path = path.display().to_string();
        let parts = [what, if path.is_empty() { "a file without a path" } else { path.as_str() }];
        Self(parts.join(" ").trim_start().to_owned())
    }

    /// A link of this node.
    pub fn link(name: &str) -> Self {
        Self(format!("link {name}"))
    }

    /// A variable of the environment that the runtime gave.
    pub fn variable(name: &str, value: &str) -> Self {
        Self(format!("{name}={value}"))
    }

    /// An address of a pod.
    pub fn address(address: IpAddr) -> Self {
        Self(format!("address {address}"))
    }

    /// What was asked of the kernel, with what that was about.
    pub fn request(what: &str) -> Self {
        Self(if what.is_empty() { "a request to the kernel".to_owned() } else { what.to_owned() })
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What went wrong.
pub type Error = Boxed<Problem>;

/// What an error says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// What sort of thing.
    pub kind: Kind,
    /// With what.
    pub object: Object,
    /// Why, in the words of whoever refused it.
    pub cause: String,
    /// The next step for the reader; may be empty.
    pub next: String,
}

impl Error {
    /// An error without a next step.
    pub fn new(kind: Kind, object: Object, cause: impl Into<String>) -> Self {
        Problem { kind, object, cause: cause.into(), next: String::new() }.into()
    }

    /// The same with the next step.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// Joins the errors of a best-effort operation: the first one's kind and object, all
    /// messages in order. `None` if there are none.
    pub fn join(errors: Vec<Self>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let first = errors.next()?;
        let (message, mut joined) = (first.message(), first);
        for error in errors {
            if error.message() != message {
                joined.cause = format!("{}; {}", joined.cause, error.message());
            }
            if joined.next.is_empty() {
                joined.next = error.unbox().next;
            } else if !joined.next.contains(&error.next) {
                joined.next = format!("{}; {}", joined.next, error.next);
            }
        }
        Some(joined)
    }
}

impl Problem {
    /// What went wrong with what, without the next step.
    pub fn message(&self) -> String {
        format!("{}: {}", self.object, self.cause)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message())?;
        if self.next.is_empty() { Ok(()) } else { write!(f, " ({})", self.next) }
    }
}

impl std::error::Error for Problem {}

/// What the kernel refused, in a line of many: only who may do it is said besides.
pub(crate) fn refusal(error: &net::Error) -> String {
    let next = match error.errno {
        Errno::EPERM | Errno::EACCES => "; run as root",
        _ => "",
    };
    format!("{error}{next}")
}

/// What nf_tables refused.
pub(crate) fn refused(error: nft::Error) -> Error {
    let next = error.next_step();
    Error::new(Kind::Kernel, Object::request(&error.object()), error.cause()).next(next)
}

/// What the kernel refused.
pub(crate) fn kernel(error: net::Error) -> Error {
    let hint = match error.errno {
        Errno::EPERM => "run the plugin as root with CAP_NET_ADMIN and CAP_SYS_ADMIN",
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
    let net::Refusal { what, errno, words } = error.unbox();
    let mut cause = errno.desc().to_owned();
    cause += &words.map(|words| format!(": {words}")).unwrap_or_default();
    Error::new(Kind::Kernel, Object::request(&what), cause).next(hint)
}

/// What the kernel refused of a pair of links, of which it may not have the kind.
pub(crate) fn no_pair(error: net::Error) -> Error {
    let is_unknown = error.errno == Errno::EOPNOTSUPP;
    let error = kernel(error);
    if is_unknown { error.next("the kernel lacks this kind of link: modprobe veth") } else { error }
}

/// What the file system refused: `what` was to be done
/// to something below `path`.
pub(crate) fn file(what: &str, path: &Path, error: &io::Error) -> Error {
    let (kind, hint) = match error.kind() {
        _ if is_link(error) => {
            (Kind::File, "a symbolic link in its place is not followed: remove it")
        }
        io::ErrorKind::TimedOut => (Kind::Busy, "try again; see what that process waits for"),
        _ => {
            let hint =
                "look at its permissions, its free space, and whether it is mounted read-only";
            (Kind::File, hint)
        }
    };
    let object = Object::path(&format!("{what} in"), path);
    Error::new(kind, object, error.to_string()).next(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_is_nameless_whatever_it_is_made_of() {
        let nothing = Path::new("");
        for object in [
            Object::network(""),
            Object::networks(("", ""), ("", "")),
            Object::path("", nothing),
            Object::variable("CNI_NETNS", ""),
            Object::address(IpAddr::from([0; 4])),
            Object::request(""),
        ] {
            assert!(object.to_string().len() > 3, "{object:?}");
            let message = Error::new(Kind::Kernel, object.clone(), "why").message();
            assert_eq!(message, format!("{object}: why"));
        }
        let path = Path::new("/run/manx/x");
        assert_eq!(Object::path("", path).to_string(), "/run/manx/x");
        assert_eq!(Object::path("cannot read", path).to_string(), "cannot read /run/manx/x");
    }

    #[test]
    fn a_kernel_without_the_kind_of_link_is_told_by_its_errno() {
        let refused = |errno| no_pair(net::Error::new("make the pair", errno)).next.clone();
        assert!(refused(Errno::EOPNOTSUPP).contains("modprobe veth"));
        assert!(!refused(Errno::EPERM).contains("modprobe"));
    }
}
