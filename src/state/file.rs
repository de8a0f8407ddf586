//! Writing a file so that a reader sees the old one or the new one.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    process,
};

/// Writes `bytes` beside `path` and renames them into place, mode 0600. A kill
/// in between leaves a file whose name begins with a dot and nothing else.
///
/// # Errors
/// That of the failing call; the temporary file is removed.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    let temporary = directory.join(format!(".{}.{}", process::id(), name.to_string_lossy()));
    let write = || {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        fs::rename(&temporary, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Makes a directory of ours, and those above it, for root's eyes: it tells who
/// runs where, and its locks hold up the node's pods.
///
/// # Errors
/// That of the failing call; a directory that exists is none.
pub fn directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
