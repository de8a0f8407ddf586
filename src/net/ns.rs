//! Network namespaces: opening one by its path, comparing two, and moving the
//! calling thread.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::Path,
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    nsid::{NsidAttribute, NsidMessage},
};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sched::{CloneFlags, setns},
    sys::statfs::{FsType, fstatfs},
};

use super::{Error, Request, Socket};

/// Magic number of the file system whose files are namespaces
/// (include/uapi/linux/magic.h).
const NSFS: FsType = FsType(0x6e73_6673);

/// The calling thread's network namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// What makes two namespaces the same one: device and inode of the nsfs file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Device of the nsfs file system.
    pub device: u64,
    /// Inode; the number in `net:[4026531840]`.
    pub inode: u64,
}

impl Identity {
    /// The identity of the namespace at `path`, or `None` if that cannot be
    /// read (a missing file, or another process's that we may not look into).
    pub fn at(path: impl AsRef<Path>) -> Option<Self> {
        fs::metadata(path).ok().map(|file| Self { device: file.dev(), inode: file.ino() })
    }

    /// The calling thread's network namespace.
    pub fn current() -> Option<Self> {
        Self::at(OWN)
    }

    /// The network namespace of process 1, where it may be read.
    pub fn of_init() -> Option<Self> {
        Self::at("/proc/1/ns/net")
    }
}

/// An open network namespace.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    identity: Identity,
}

impl Namespace {
    /// Opens the namespace bound to `path`.
    ///
    /// # Errors
    /// `ENOENT` where there is nothing, `EINVAL` where there is something that
    /// is not a network namespace (a bind mount that is gone leaves a plain file,
    /// and a namespace may be of another kind).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let namespace = Self::open_of_any_kind(path)?;
        if namespace.is_of_another_kind() {
            return Err(refused(path, "the file is not a network namespace"));
        }
        Ok(namespace)
    }

    fn open_of_any_kind(path: &Path) -> Result<Self, Error> {
        let from_io = |error: io::Error| Error::from_io(opening(path), &error);
        // A FIFO would have us wait for somebody who writes to it.
        let nonblocking = OFlag::O_NONBLOCK.bits();
        let file = File::options().read(true).custom_flags(nonblocking).open(path);
        let file = file.map_err(from_io)?;
        let kind = fstatfs(&file).map_err(|errno| Error::new(opening(path), errno))?;
        if kind.filesystem_type() != NSFS {
            return Err(refused(path, "the file is not a namespace"));
        }
        let metadata = file.metadata().map_err(from_io)?;
        let identity = Identity { device: metadata.dev(), inode: metadata.ino() };
        Ok(Self { file, identity })
    }

    /// Whether this is a mount, a process id or whatever other namespace. Where it
    /// is not bound to a file its name says so, `mnt:[4026531841]`. Of one that is,
    /// setns and rtnetlink alone tell without an ioctl; the latter needs no right
    /// for it and moves nobody (rtnl_net_getid, net/core/net_namespace.c).
    fn is_of_another_kind(&self) -> bool {
        let name = fs::read_link(format!("/proc/thread-self/fd/{}", self.file.as_raw_fd()));
        let name = name.unwrap_or_default();
        match name.to_str().unwrap_or_default().split_once(":[") {
            Some((kind, _)) if !kind.contains('/') => kind != "net",
            _ => self.has_a_number().is_err_and(|error| error.errno == Errno::EINVAL),
        }
    }

    /// Asks by which number our own namespace knows this one; that there is none
    /// yet is an answer as well.
    fn has_a_number(&self) -> Result<(), Error> {
        let fd = u32::try_from(self.file.as_raw_fd()).unwrap_or(u32::MAX);
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Fd(fd));
        let what = "ask for the number of a network namespace";
        let request = Request::new(RouteNetlinkMessage::GetNsId(message), 0, what);
        Socket::open()?.apply(&[request])
    }

    /// The calling thread's own namespace.
    ///
    /// # Errors
    /// As for [`Namespace::open`]; not without a mounted `/proc`.
    pub fn current() -> Result<Self, Error> {
        Self::open_of_any_kind(Path::new(OWN))
    }

    /// What to compare.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Moves the calling thread into this namespace, for good.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`.
    pub fn enter(&self) -> Result<(), Error> {
        enter(&self.file)
    }

    /// Runs `work` inside this namespace and brings the thread back.
    ///
    /// # Errors
    /// Of entering or of returning; a thread that cannot return must not go on.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        let from_io = |error: io::Error| Error::from_io(opening(Path::new(OWN)), &error);
        let home = File::open(OWN).map_err(from_io)?;
        enter(&self.file)?;
        let outcome = work();
        enter(&home)?;
        Ok(outcome)
    }
}

fn enter(namespace: &File) -> Result<(), Error> {
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Error::new("enter the network namespace", errno))
}

fn opening(path: &Path) -> String {
    format!("open network namespace {}", path.display())
}

fn refused(path: &Path, words: &str) -> Error {
    Error { what: opening(path), errno: Errno::EINVAL, words: Some(words.to_owned()) }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn only_a_network_namespace_is_one() {
        let fifo = env::temp_dir().join(format!("manx-ns-{}", process::id()));
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let fifo_path = fifo.to_str().unwrap();
        for (path, words) in [
            ("/proc/self/ns/mnt", "not a network namespace"),
            ("/proc/self/ns/user", "not a network namespace"),
            ("/proc/self/status", "not a namespace"),
            (fifo_path, "not a namespace"),
        ] {
            let error = Namespace::open(path).unwrap_err();
            assert_eq!(error.errno, Errno::EINVAL, "{path}");
            assert!(error.to_string().contains(words), "{error}");
        }
        fs::remove_file(&fifo).unwrap();
        // As it is asked of one that is bound to a file.
        for (kind, answer) in [("net", Ok(())), ("mnt", Err(Errno::EINVAL))] {
            let path = format!("/proc/self/ns/{kind}");
            let namespace = Namespace::open_of_any_kind(Path::new(&path)).unwrap();
            assert_eq!(namespace.has_a_number().map_err(|error| error.errno), answer, "{kind}");
        }
        let own = Namespace::open("/proc/self/ns/net").unwrap();
        assert_eq!(Some(own.identity()), Identity::current());
        assert_eq!(Namespace::open("/nowhere").unwrap_err().errno, Errno::ENOENT);
    }
}
