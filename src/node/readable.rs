// SPDX-License-Identifier: Apache-2.0
//! That what is to be read can be.

use std::{fs, io, path::Path};

use super::{Error, Kind, Object};
use crate::state::{Root, file::TEXT_BYTES_MAX, journal, read_own};

/// That nothing of the state is hidden from us: to a command that merely left
/// out what it may not read, the node would look empty.
///
/// # Errors
/// Naming what cannot be read.
pub(crate) fn require_readable(root: &Root) -> Result<(), Error> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let runtime = root.runtime();
    match fs::read_dir(&runtime) {
        Ok(_) => {}
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(unreadable(&runtime, &error)),
    }
    for network in journal::networks(root) {
        let directory = root.network(&network);
        let files = match fs::read_dir(&directory) {
            Ok(files) => files,
            Err(error) if gone(&error) => continue,
            Err(error) => return Err(unreadable(&directory, &error)),
        };
        // The lock and what is being written are no entries.
        let entries =
            files.flatten().filter(|file| !file.file_name().to_string_lossy().starts_with('.'));
        for path in entries.map(|file| file.path()) {
            match read_own(&path, TEXT_BYTES_MAX) {
                Err(error) if !gone(&error) => return Err(unreadable(&path, &error)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// A file or a directory that cannot be read.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Error {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let object = Object::path("cannot read", path);
    Error::new(Kind::File, object, error.to_string()).next(if denied { "run as root" } else { "" })
}
