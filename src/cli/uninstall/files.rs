// SPDX-License-Identifier: Apache-2.0
//! Files that go, each told, and those that stay because they are somebody else's.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::progress::{Order, Progress};
use crate::{
    cli::{
        Failure, failed,
        install::{self, dropin::DROP_INS, units},
    },
    conf::{BUILT_IN, CALICO, PLUGIN_TYPES},
    state::{
        file::{PROGRAM_BYTES_MAX, TEXT_BYTES_MAX},
        read,
    },
};

/// What lasts from one boot to the next: the agent's list of nodes, what tune has set.
pub(super) const LASTING: &str = "/var/lib/manx";

const EDITED: &str = "somebody has edited it; --force removes it";

/// Removes a file; one that is gone is no matter.
pub(super) fn remove(path: &Path, progress: &mut Progress<'_, '_>) -> Result<(), Failure> {
    if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    if !progress.dry_run {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed(format_args!("remove {}", path.display()), &error));
            }
            _ => {}
        }
    }
    progress.gone(path.display())
}

/// Removes a directory with all that is in it.
pub(super) fn remove_all(path: &Path, progress: &mut Progress<'_, '_>) -> Result<(), Failure> {
    if path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(());
    }
    if !progress.dry_run {
        fs::remove_dir_all(path)
            .map_err(|error| failed(format_args!("remove {}", path.display()), &error))?;
    }
    progress.gone(path.display())
}

/// What the daemons of the node were told, as far as it is as it was written.
pub(super) fn drop_ins(order: &Order, progress: &mut Progress<'_, '_>) -> Result<(), Failure> {
    let mut reloads: Vec<&str> = Vec::new();
    for drop_in in DROP_INS.into_iter().chain(units::FILES) {
        let path = order.root.path(drop_in.path);
        let bytes = match read(&path, TEXT_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(path.display(), &error)),
        };
        if !order.force && !drop_in.may_replace(&bytes) {
            progress.kept(path.display(), EDITED)?;
            continue;
        }
        remove(&path, progress)?;
        if !drop_in.reload.is_empty() && !reloads.contains(&drop_in.reload) {
            reloads.push(drop_in.reload);
        }
    }
    for reload in reloads.into_iter().filter(|_| !order.dry_run) {
        progress.console.line(format_args!("to take effect: {reload}"))?;
    }
    Ok(())
}

/// Where the state is.
pub(super) fn directories(order: &Order, progress: &mut Progress<'_, '_>) -> Result<(), Failure> {
    remove_all(&order.root.path(LASTING), progress)?;
    remove_all(&order.root.runtime(), progress)
}

/// Whether a file is a copy of this program.
pub(super) fn is_ours(path: &Path) -> bool {
    let bytes = read(path, PROGRAM_BYTES_MAX);
    bytes.is_ok_and(|bytes| install::contains(&bytes, install::MARK.as_bytes()))
}

/// The program under all its names, the one that others lead to at last.
pub(super) fn programs(order: &Order, progress: &mut Progress<'_, '_>) -> Result<(), Failure> {
    let [own, _] = PLUGIN_TYPES;
    for name in [BUILT_IN, CALICO, own] {
        let path = order.bin_dir.join(name);
        if path.symlink_metadata().is_err() {
            continue;
        }
        // As an install makes it.
        let is_beside = |target: PathBuf| PLUGIN_TYPES.iter().any(|name| target == Path::new(name));
        let is_link = name == BUILT_IN && fs::read_link(&path).is_ok_and(is_beside);
        match is_link || is_ours(&path) {
            true => remove(&path, progress)?,
            // Calico's own.
            false if name == CALICO => {}
            false if order.force => remove(&path, progress)?,
            false => progress.kept(path.display(), "it is another program; --force removes it")?,
        }
    }
    Ok(())
}
