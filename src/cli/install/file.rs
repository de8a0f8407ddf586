// SPDX-License-Identifier: Apache-2.0
//! Putting a file where other programs read it: they see the old one or the
//! new one, and what was there by somebody else's hand stays.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use crate::{
    cli::{Failure, failed},
    state::{
        file::{PROGRAM_BYTES_MAX, private, unique},
        read, readable_directory,
    },
};

/// What became of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// It was not there.
    Installed,
    /// It was another one.
    Replaced,
    /// It was the same.
    Unchanged,
    /// It is another one, and may not be replaced.
    Kept,
}

/// Makes `path` hold `bytes` with `mode`, unless it holds something else that
/// `replace` does not allow to go. Directories are made.
pub(super) fn put(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    replace: impl FnOnce(&[u8]) -> bool,
) -> Result<Outcome, Failure> {
    let outcome = match read(path, PROGRAM_BYTES_MAX) {
        Ok(old) if old == bytes => {
            chmod(path, mode).map_err(|error| failed(path.display(), &error))?;
            return Ok(Outcome::Unchanged);
        }
        Ok(old) if replace(&old) => Outcome::Replaced,
        Ok(_) => return Ok(Outcome::Kept),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Outcome::Installed,
        Err(error) => return Err(failed(path.display(), &error)),
    };
    write(path, bytes, mode)
        .map_err(|error| failed(format!("write {}", path.display()), &error))?;
    Ok(outcome)
}

/// Beside it, to the disk, read back, and in its place. The temporary name ends
/// in none of the suffixes that runtimes and daemons look for.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidFilename.into());
    };
    readable_directory(directory)?;
    let temporary = directory.join(format!(".{}.{}.tmp", name.to_string_lossy(), unique()));
    let write = || {
        let mut file = private().create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        // The mode of the creating call is subject to the umask.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        if read(&temporary, PROGRAM_BYTES_MAX)? != bytes {
            return Err(io::Error::other("what was read back is not what was written"));
        }
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Makes `path` a symbolic link to `target`, a name in the same directory. What
/// is there and is no such link stays unless `force`; a link for which `serves`
/// holds is as good.
pub(super) fn link(
    path: &Path,
    target: &str,
    serves: impl FnOnce(&Path) -> bool,
    force: bool,
) -> Result<Outcome, Failure> {
    let outcome = match fs::read_link(path) {
        Ok(old) if serves(&old) => return Ok(Outcome::Unchanged),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Outcome::Installed,
        _ if force => Outcome::Replaced,
        _ => return Ok(Outcome::Kept),
    };
    let temporary = path.with_extension(format!("{}.tmp", unique()));
    symlink(target, &temporary)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| failed(format!("link {}", path.display()), &error))?;
    Ok(outcome)
}

fn chmod(path: &Path, mode: u32) -> io::Result<()> {
    let now = fs::metadata(path)?.permissions().mode() & 0o7777;
    if now == mode { Ok(()) } else { fs::set_permissions(path, fs::Permissions::from_mode(mode)) }
}

/// Writes the same bytes over those that are there: containerd reloads upon a
/// write and upon nothing else, so that it overlooks a rename.
pub(super) fn touch(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let touch = || {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    touch().map_err(|error| failed(format!("write {}", path.display()), &error))
}
