//! The lock of a network: attachments in flight hold it shared, a garbage
//! collection holds it alone. So a lease without a link is either an ADD that
//! is still running, and then the collection waits, or left behind.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::sys::stat::{major, minor};

use super::directory;

/// Longer than an ADD may take with a slow delegate.
const LIMIT: Duration = Duration::from_secs(150);

/// Held until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub struct Guard(#[expect(dead_code, reason = "dropping it releases the lock")] File);

/// Takes part in `directory`'s lock along with others of this kind.
///
/// # Errors
/// Of making the directory or the lock file; `TimedOut` if somebody holds the
/// lock alone for longer than an ADD may take.
pub fn shared(directory: &Path) -> io::Result<Guard> {
    let file = open(directory)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(Guard(file)),
        Err(_) => patiently(file, File::lock_shared, LIMIT).map(Guard),
    }
}

/// Takes `directory`'s lock alone, after everybody else has let go.
///
/// # Errors
/// Of making the directory or the lock file; `TimedOut` if somebody holds the
/// lock for longer than an ADD may take.
pub fn exclusive(directory: &Path) -> io::Result<Guard> {
    let file = open(directory)?;
    match file.try_lock() {
        Ok(()) => Ok(Guard(file)),
        Err(_) => patiently(file, File::lock, LIMIT).map(Guard),
    }
}

/// Takes the lock of a pod's namespace alone, on whose open file it is held.
///
/// # Errors
/// `TimedOut` naming the holder after the time that an ADD may take.
pub fn namespace(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(_) => patiently(file.try_clone()?, File::lock, LIMIT).map(drop),
    }
}

/// Takes a lock file alone that others than ourselves know, and makes it first
/// if need be. It is held until the file is dropped.
///
/// # Errors
/// Of making it; `TimedOut` naming the holder after `limit`.
pub fn foreign(path: &Path, limit: Duration) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o640);
    let file = options.open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => patiently(file, File::lock, limit),
    }
}

/// Waits for a lock with a limit: a system call that has none waits in a thread,
/// which ends with the process if it must.
fn patiently(file: File, wait: fn(&File) -> io::Result<()>, limit: Duration) -> io::Result<File> {
    let holder = file.try_clone();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let outcome = wait(&file).map(|()| file);
        let _ = sender.send(outcome);
    });
    match receiver.recv_timeout(limit) {
        Ok(outcome) => outcome,
        Err(_) => {
            let holder = holder.and_then(|file| holder_of(&file)).unwrap_or(None);
            let holder = holder.unwrap_or_else(|| "somebody (see /proc/locks)".to_owned());
            let words = format!("{holder} has not let go of it for {} s", limit.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, words))
        }
    }
}

/// Who holds the lock of a file, by the kernel's list (proc_locks(5)).
fn holder_of(file: &File) -> io::Result<Option<String>> {
    let data = file.metadata()?;
    let (device, inode) = (data.dev(), data.ino());
    let place = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let locks = fs::read_to_string("/proc/locks")?;
    let holder = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // A waiter has an arrow in the second place.
        match words.as_slice() {
            [_, "FLOCK", _, _, process, at, ..] if *at == place => Some((*process).to_owned()),
            _ => None,
        }
    });
    Ok(holder.map(|process| {
        // A lock outlives the process that took it in those that it forked.
        match fs::read_to_string(format!("/proc/{process}/comm")) {
            Ok(name) => format!("process {process} ({})", name.trim()),
            Err(_) => format!("process {process}, which is gone, or a child of it,"),
        }
    }))
}

fn open(path: &Path) -> io::Result<File> {
    let lock = path.join(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    match options.open(&lock) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            directory(path)?;
            options.open(&lock)
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_too_long_is_told_for_whom() {
        let name = format!("manx-lock-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let held = foreign(&path, Duration::ZERO).unwrap();
        let error = foreign(&path, Duration::from_millis(50)).unwrap_err();
        drop(held);
        // A process that another test starts shares it until it is another program.
        let again = foreign(&path, LIMIT);
        fs::remove_file(&path).unwrap();
        assert!(again.is_ok());
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let holder = format!("process {} (", std::process::id());
        assert!(error.to_string().starts_with(&holder), "{error}");
    }
}
