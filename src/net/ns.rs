// SPDX-License-Identifier: Apache-2.0
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

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sched::{CloneFlags, setns},
    sys::statfs::{FsType, fstatfs},
    unistd::{getpid, gettid},
};

use super::Error;

/// Magic number of the file system whose files are namespaces
/// (include/uapi/linux/magic.h).
const NSFS: FsType = FsType(0x6e73_6673);

/// The network namespace of a process's first thread, which need not be another
/// thread's, and of whichever thread asks: the way to that one is twice as long.
const OF_FIRST: &str = "/proc/self/ns/net";
const OF_THREAD: &str = "/proc/thread-self/ns/net";

/// The calling thread's.
fn own() -> &'static str {
    if gettid() == getpid() { OF_FIRST } else { OF_THREAD }
}

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
        Self::at(own())
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
    /// Opens the namespace bound to `path`. Whether it is one of the network is
    /// known when it is entered.
    ///
    /// # Errors
    /// `ENOENT` where there is nothing, `EINVAL` where there is something that
    /// is not a namespace (a bind mount that is gone leaves a plain file).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let from_io = |error: io::Error| Error::from_io(opening(path), &error);
        // A FIFO would have us wait for somebody who writes to it.
        let nonblocking = OFlag::O_NONBLOCK.bits();
        let file = File::options().read(true).custom_flags(nonblocking).open(path);
        let file = file.map_err(from_io)?;
        let kind = fstatfs(&file).map_err(|errno| Error::new(opening(path), errno))?;
        if kind.filesystem_type() != NSFS {
            return Err(refused(path, "the file is not a namespace"));
        }
        Self::identified(file).map_err(from_io)
    }

    fn identified(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let identity = Identity { device: metadata.dev(), inode: metadata.ino() };
        Ok(Self { file, identity })
    }

    /// The calling thread's own namespace.
    ///
    /// # Errors
    /// As for [`Namespace::open`]; not without a mounted `/proc`.
    pub fn current() -> Result<Self, Error> {
        let path = own();
        let opened = File::open(path).and_then(Self::identified);
        opened.map_err(|error| Error::from_io(opening(Path::new(path)), &error))
    }

    /// The open file, for its lock: there is one inode for each namespace.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What to compare.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Moves the calling thread into this namespace, for good.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`; `EINVAL` if it is a namespace of something
    /// else than the network, which is seen before that (setns(2)).
    pub fn enter(&self) -> Result<(), Error> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| {
            let error = Error::new("enter the network namespace", errno);
            match errno {
                Errno::EINVAL => error.words("the file is not a network namespace".to_owned()),
                _ => error,
            }
        })
    }

    /// Runs `work` inside this namespace and takes the thread back `home`, where
    /// it came from.
    ///
    /// # Errors
    /// Of entering or of returning; a thread that cannot return must not go on.
    pub fn within<T>(&self, home: &Self, work: impl FnOnce() -> T) -> Result<T, Error> {
        self.enter()?;
        let outcome = work();
        home.enter()?;
        Ok(outcome)
    }
}

fn opening(path: &Path) -> String {
    format!("open network namespace {}", path.display())
}

fn refused(path: &Path, words: &str) -> Error {
    Error::new(opening(path), Errno::EINVAL).words(words.to_owned())
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
        for path in ["/proc/self/ns/mnt", "/proc/self/ns/user"] {
            let error = Namespace::open(path).unwrap().enter().unwrap_err();
            assert_eq!(error.errno, Errno::EINVAL, "{path}");
            assert!(error.to_string().contains("not a network namespace"), "{error}");
        }
        for (path, words) in
            [("/proc/self/status", "not a namespace"), (fifo_path, "not a namespace")]
        {
            let error = Namespace::open(path).unwrap_err();
            assert_eq!(error.errno, Errno::EINVAL, "{path}");
            assert!(error.to_string().contains(words), "{error}");
        }
        fs::remove_file(&fifo).unwrap();
        let own = Namespace::open("/proc/self/ns/net").unwrap();
        assert_eq!(Some(own.identity()), Identity::current());
        assert_eq!(Namespace::open("/nowhere").unwrap_err().errno, Errno::ENOENT);
    }
}
