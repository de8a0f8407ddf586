//! Network namespaces: opening one by its path, comparing two, and moving the
//! calling thread.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::statfs::{FsType, fstatfs},
};

use super::Error;

/// Magic number of the file system whose files are namespaces
/// (include/uapi/linux/magic.h).
const NSFS: FsType = FsType(0x6e73_6673);

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
        Self::at("/proc/thread-self/ns/net")
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
    /// is not a namespace (a bind mount that is gone leaves a plain file).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let what = || format!("open network namespace {}", path.display());
        let from_io = |error: io::Error| Error::from_io(what(), &error);
        let file = File::open(path).map_err(from_io)?;
        let kind = fstatfs(&file).map_err(|errno| Error::new(what(), errno))?.filesystem_type();
        if kind != NSFS {
            let words = Some("the file is not a namespace".to_owned());
            return Err(Error { what: what(), errno: Errno::EINVAL, words });
        }
        let metadata = file.metadata().map_err(from_io)?;
        let identity = Identity { device: metadata.dev(), inode: metadata.ino() };
        Ok(Self { file, identity })
    }

    /// The calling thread's own namespace.
    ///
    /// # Errors
    /// As for [`Namespace::open`]; not without a mounted `/proc`.
    pub fn current() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// What to compare.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Moves the calling thread into this namespace, for good.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`, `EINVAL` if it is a namespace of
    /// another kind.
    pub fn enter(&self) -> Result<(), Error> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::new("enter the network namespace", errno))
    }

    /// Runs `work` inside this namespace and brings the thread back.
    ///
    /// # Errors
    /// Of entering or of returning; a thread that cannot return must not go on.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> Result<T, Error> {
        let home = Self::current()?;
        self.enter()?;
        let outcome = work();
        home.enter()?;
        Ok(outcome)
    }
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
