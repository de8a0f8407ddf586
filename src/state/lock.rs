//! The lock of a network: attachments in flight hold it shared, a garbage
//! collection holds it alone. So a lease without a link is either an ADD that
//! is still running, and then the collection waits, or left behind.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

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
        Err(_) => patiently(file, File::lock_shared),
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
        Err(_) => patiently(file, File::lock),
    }
}

/// Waits for a lock with a limit: a system call that has none waits in a thread,
/// which ends with the process if it must.
fn patiently(file: File, wait: fn(&File) -> io::Result<()>) -> io::Result<Guard> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let outcome = wait(&file).map(|()| Guard(file));
        let _ = sender.send(outcome);
    });
    match receiver.recv_timeout(LIMIT) {
        Ok(outcome) => outcome,
        Err(_) => {
            let words = format!("somebody has held it for {} s: see /proc/locks", LIMIT.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, words))
        }
    }
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
