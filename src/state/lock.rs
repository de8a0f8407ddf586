//! The lock of a network: attachments in flight hold it shared, a garbage
//! collection holds it alone. So a lease without a link is either an ADD that
//! is still running, and then the collection waits, or left behind.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

/// Held until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub struct Guard(#[expect(dead_code, reason = "dropping it releases the lock")] File);

/// Takes part in `directory`'s lock along with others of this kind.
///
/// # Errors
/// Of making the directory or the lock file.
pub fn shared(directory: &Path) -> io::Result<Guard> {
    let file = open(directory)?;
    file.lock_shared()?;
    Ok(Guard(file))
}

/// Takes `directory`'s lock alone, after everybody else has let go.
///
/// # Errors
/// Of making the directory or the lock file.
pub fn exclusive(directory: &Path) -> io::Result<Guard> {
    let file = open(directory)?;
    file.lock()?;
    Ok(Guard(file))
}

fn open(directory: &Path) -> io::Result<File> {
    let path = directory.join(".lock");
    let open = || OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory)?;
            open()
        }
        outcome => outcome,
    }
}
