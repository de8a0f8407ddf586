// SPDX-License-Identifier: Apache-2.0
//! Locks between calls, each held until its file is closed, in whatever way the
//! process ends.
//!
//! They are taken in this order: that of the pod's namespace, that of the network
//! (attachments in flight hold it shared, a garbage collection alone, so that a lease
//! without a link is either left behind or an ADD's that the collection waits for),
//! that of the attachment, that of the store of leases, that of the fabric, that of the
//! network policies. The namespace's is first because a process of the pod may hold it
//! for long: an ADD that waits for it keeps no collection out of the network.
//!
//! The kernel has no call that waits for a lock with a limit. A thread could wait
//! without one, but where a node is out of processes there is none to be had;
//! so a lock that is held is asked for again, at pauses that grow.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
};
use sha1_smol::Sha1;

use super::{directory, file, holder};
use crate::list::Gather;

/// Longer than an ADD may take with a slow delegate.
const NETWORK_LIMIT: Duration = Duration::from_secs(150);
/// How long a call waits for another one of the same attachment.
pub const ATTACHMENT_LIMIT: Duration = Duration::from_secs(10);

/// The pauses between two tries: most locks are held for a millisecond.
const PAUSE_MIN: Duration = Duration::from_micros(200);
const PAUSE_MAX: Duration = Duration::from_millis(10);

/// A network's lock file, with what is locked of it.
#[derive(Debug)]
pub struct Guard {
    file: File,
    directory: PathBuf,
    /// Whether the directory was made for it.
    made: bool,
}

/// Takes part in `directory`'s lock along with others of this kind.
///
/// # Errors
/// Of making the directory or the lock file; `TimedOut` if somebody holds the
/// lock alone for longer than an ADD may take.
pub fn shared(directory: &Path) -> io::Result<Guard> {
    shared_within(directory, NETWORK_LIMIT)
}

/// As [`shared`], within `limit`.
///
/// # Errors
/// As [`shared`].
pub fn shared_within(directory: &Path, limit: Duration) -> io::Result<Guard> {
    take(directory, |guard| patiently(&guard.file, File::try_lock_shared, limit))
}

/// Takes `directory`'s lock alone, after everybody else has let go.
///
/// # Errors
/// Of making the directory or the lock file; `TimedOut` naming the holder after
/// the time that an ADD may take.
pub fn exclusive(directory: &Path) -> io::Result<Guard> {
    exclusive_within(directory, NETWORK_LIMIT)
}

/// As [`exclusive`], within `limit`.
///
/// # Errors
/// As [`exclusive`].
pub fn exclusive_within(directory: &Path, limit: Duration) -> io::Result<Guard> {
    take(directory, |guard| patiently(&guard.file, File::try_lock, limit))
}

/// Takes the lock of one attachment in the network of `directory`, whatever others
/// do there.
///
/// # Errors
/// Of making the directory or the lock file; `TimedOut` naming the holder after
/// [`ATTACHMENT_LIMIT`].
pub fn attachment(directory: &Path, container_id: &str, ifname: &str) -> io::Result<Guard> {
    take(directory, |guard| guard.attachment(container_id, ifname, ATTACHMENT_LIMIT))
}

impl Guard {
    /// Takes the lock of one attachment besides: a byte of the same file, whose
    /// place follows from its name.
    ///
    /// # Errors
    /// `TimedOut` naming the holder after `limit`.
    pub fn attachment(&self, container_id: &str, ifname: &str, limit: Duration) -> io::Result<()> {
        let place = place(container_id, ifname);
        let attempt = || match fcntl(&self.file, FcntlArg::F_SETLK(&byte(place))) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        };
        let holder = || {
            let mut found = byte(place);
            fcntl(&self.file, FcntlArg::F_GETLK(&mut found)).ok()?;
            let process = found.l_pid.to_string();
            (found.l_type != UNLOCKED).then(|| holder::words(Some(&process), None)).flatten()
        };
        retry(attempt, holder, limit)
    }

    /// Says in the file who holds it, for those who see no process of ours. To be done by
    /// each who takes this lock alone, or by none.
    pub fn sign(&self) {
        holder::sign(&self.file);
    }

    /// Lets others in while `work` is done; the attachments stay locked.
    ///
    /// # Errors
    /// `TimedOut` naming the holder, if the lock cannot be had again.
    pub fn yielded<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        self.file.unlock()?;
        let outcome = work();
        patiently(&self.file, File::try_lock, NETWORK_LIMIT)?;
        Ok(outcome)
    }

    /// Removes the directory of a network of which nothing is left, if nobody
    /// else is there.
    pub fn retire(self) {
        // Nobody's attachment either: a DEL holds that lock alone.
        let all = libc::flock { l_len: 0, ..byte(0) };
        if self.file.try_lock().is_err() || fcntl(&self.file, FcntlArg::F_SETLK(&all)).is_err() {
            return;
        }
        // Whoever has opened the lock's file meanwhile sees that it is gone.
        let files = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let files: Vec<_> = files.map(|file| file.path()).gather();
        // Attachments begin with a letter or a digit, what was noted besides does not.
        let is_note = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
        };
        if files.iter().all(is_note) {
            let _ = files.iter().try_for_each(fs::remove_file);
            let _ = fs::remove_dir(&self.directory);
        }
    }

    /// Removes the directory if it was made for this lock and nothing has come into
    /// it since.
    pub fn retire_if_made(self) {
        if self.made {
            self.retire();
        }
    }
}

/// The lock file of a network.
const NAME: &str = ".lock";

/// Opens the lock file and takes what `attempt` does. A file that was removed
/// meanwhile, with the network's directory, locks nothing.
fn take(directory: &Path, attempt: impl Fn(&Guard) -> io::Result<()>) -> io::Result<Guard> {
    loop {
        let (file, made) = open(directory)?;
        let guard = Guard { file, directory: directory.to_owned(), made };
        attempt(&guard)?;
        let data = guard.file.metadata()?;
        file::require_regular(&data)?;
        if data.nlink() > 0 {
            return Ok(guard);
        }
    }
}

fn open(path: &Path) -> io::Result<(File, bool)> {
    let (lock, mut options) = (path.join(NAME), file::private());
    // For who holds it.
    options.read(true);
    match options.open(&lock) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = !path.exists();
            directory(path)?;
            Ok((options.open(&lock)?, made))
        }
        outcome => Ok((outcome?, false)),
    }
}

/// Takes the lock of a pod's namespace alone, on whose open file it is held.
///
/// # Errors
/// `TimedOut` naming the holder after the time that an ADD may take.
pub fn namespace(file: &File) -> io::Result<()> {
    patiently(file, File::try_lock, NETWORK_LIMIT)
}

/// Takes a lock file alone that others than ourselves know, and makes it first
/// if need be. It is held until the file is dropped.
///
/// # Errors
/// Of making it; `TimedOut` naming the holder after `limit`.
pub fn foreign(path: &Path, limit: Duration) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o640);
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    let file = options.open(path)?;
    patiently(&file, File::try_lock, limit)?;
    Ok(file)
}

fn patiently(
    file: &File,
    attempt: fn(&File) -> Result<(), TryLockError>,
    limit: Duration,
) -> io::Result<()> {
    let attempt = || match attempt(file) {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    };
    retry(attempt, || holder::of(file), limit)
}

/// Tries until it works, or until `limit` has passed.
fn retry(
    attempt: impl Fn() -> io::Result<bool>,
    holder: impl Fn() -> Option<String>,
    limit: Duration,
) -> io::Result<()> {
    if attempt()? {
        return Ok(());
    }
    let begin = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        let left = limit.saturating_sub(begin.elapsed());
        if left.is_zero() {
            let holder = holder();
            let holder = holder.unwrap_or_else(|| "somebody (see /proc/locks)".to_owned());
            let words = format!("{holder} has not let go of it for {} s", limit.as_secs());
            return Err(io::Error::new(ErrorKind::TimedOut, words));
        }
        thread::sleep(pause.min(left));
        if attempt()? {
            return Ok(());
        }
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

/// Neither a container id nor an interface name holds a zero byte.
fn place(container_id: &str, ifname: &str) -> i64 {
    let digest = Sha1::from(format!("{container_id}\0{ifname}")).digest().bytes();
    let place = digest.iter().take(8).fold(0, |place, byte| place << 8 | i64::from(*byte));
    // Not negative, and with a byte behind it.
    place & (i64::MAX >> 1)
}

#[allow(clippy::cast_possible_truncation)]
const UNLOCKED: i16 = libc::F_UNLCK as i16;
#[allow(clippy::cast_possible_truncation)]
const LOCKED: i16 = libc::F_WRLCK as i16;
#[allow(clippy::cast_possible_truncation)]
const FROM_START: i16 = libc::SEEK_SET as i16;

/// One byte of a file, to be locked for this process: not for the delegates that
/// it starts, and the kernel tells which process has it.
fn byte(place: i64) -> libc::flock {
    libc::flock { l_type: LOCKED, l_whence: FROM_START, l_start: place, l_len: 1, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("manx-{name}-{}", std::process::id()))
    }

    #[test]
    fn who_waits_too_long_is_told_for_whom() {
        let path = scratch("lock");
        let held = foreign(&path, Duration::ZERO).unwrap();
        let error = foreign(&path, Duration::from_millis(50)).unwrap_err();
        drop(held);
        // A process that another test starts shares it until it is another program.
        let again = foreign(&path, NETWORK_LIMIT);
        fs::remove_file(&path).unwrap();
        assert!(again.is_ok());
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let holder = format!("process {} (", std::process::id());
        assert!(error.to_string().starts_with(&holder), "{error}");
    }

    #[test]
    fn to_ask_who_holds_the_file_lets_go_of_no_attachment() {
        let path = scratch("asked");
        let guard = shared(&path).unwrap();
        // Each file of its own that this process closes would let go of its locks.
        let other = File::open(path.join(NAME)).unwrap();
        guard.attachment("c1", "eth0", Duration::ZERO).unwrap();
        guard.sign();
        let found = || {
            let mut found = byte(place("c1", "eth0"));
            fcntl(&other, FcntlArg::F_OFD_GETLK(&mut found)).unwrap();
            found.l_type
        };
        assert_eq!(found(), LOCKED);
        assert!(holder::of(&guard.file).is_some());
        assert_eq!(found(), LOCKED);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn waiting_ends_when_the_lock_is_free() {
        let path = scratch("freed");
        let held = foreign(&path, Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| foreign(&path, NETWORK_LIMIT).is_ok());
            thread::sleep(Duration::from_millis(5));
            drop(held);
            assert!(waiting.join().unwrap());
        });
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_network_that_is_gone_leaves_no_directory_and_a_new_one_locks_again() {
        let path = scratch("retired");
        exclusive(&path).unwrap().retire();
        assert!(!path.exists());
        // Somebody who has it open keeps it.
        let one = shared(&path).unwrap();
        shared(&path).unwrap().retire();
        assert!(path.exists());
        fs::write(path.join("c1:eth0"), "").unwrap();
        one.retire();
        assert!(path.join("c1:eth0").exists());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn neither_a_link_nor_a_pipe_is_a_lock() {
        let path = scratch("no-lock");
        directory(&path).unwrap();
        for target in ["/dev/null", "nowhere"] {
            std::os::unix::fs::symlink(target, path.join(NAME)).unwrap();
            assert!(file::is_link(&shared(&path).unwrap_err()));
            fs::remove_file(path.join(NAME)).unwrap();
        }
        nix::unistd::mkfifo(&path.join(NAME), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(shared(&path).is_err());
        fs::remove_dir_all(&path).unwrap();
    }
}
