// SPDX-License-Identifier: Apache-2.0
//! A disk that is full takes no new peers file, and a name on it that leads elsewhere: to
//! a file in memory, which stands in for it until there is room again.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::state::{Root, file::unique, readable_directory, replace};

/// Where it is.
pub(super) fn path(root: &Root) -> PathBuf {
    root.runtime().join(".agent/peers.json")
}

/// Whether it stands in for the file of this path.
pub(super) fn serves(root: &Root, file: &Path) -> bool {
    fs::read_link(file).is_ok_and(|target| target == path(root))
}

/// Lets it stand in with these bytes.
pub(super) fn put(root: &Root, file: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = path(root);
    path.parent().map_or(Ok(()), readable_directory)?;
    replace(&path, bytes)?;
    if serves(root, file) {
        return Ok(());
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = file.with_file_name(format!(".{}.{name}", unique()));
    symlink(&path, &beside).and_then(|()| fs::rename(&beside, file)).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}
