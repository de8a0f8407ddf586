// SPDX-License-Identifier: Apache-2.0
//! The version of the plugin, for whoever writes files that it is to read: none that is
//! newer than it reads.
//!
//! The plugin notes it itself, and whoever installs one notes it for it. An agent may be of
//! another version, and passes on the note that it finds. Where there is no note the plugin
//! is of a version that makes none; where its file is another one than the note was made
//! of, nothing is known of it.

use std::{
    fs,
    io::{Error, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};

use crate::conf::{PLUGIN_TYPES, VERSION_FILE};
use crate::list::Gather;
use crate::state::{Root, directory, file::TEXT_BYTES_MAX, read_own, replace};
use crate::text::json;

/// This version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The form of the peers file that is read: 3 has `fabric.plain`; 2 has `fabric`, and keys
/// that are not known are ignored; 1 has neither.
pub(crate) const PEERS_SCHEMA: u32 = 3;

/// Where container runtimes look for plugins.
pub(crate) const PLUGIN_DIRECTORY: &str = "/opt/cni/bin";

/// Where they look on this node, where that is said.
static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();

/// This program, as a file.
const PROGRAM: &str = "/proc/self/exe";

/// The plugin of this node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Plugin {
    pub(crate) version: String,
    pub(crate) schemas: Schemas,
    /// Of which file, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<Identity>,
}

/// The newest forms that it reads.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Schemas {
    /// Of the peers file.
    pub(crate) peers: u32,
}

/// By what a file is known again, wherever its file system is mounted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Identity {
    pub(crate) inode: u64,
    /// Nanoseconds since 1970.
    pub(crate) modified: i64,
}

impl Identity {
    /// That of a file, if it is there.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let modified = file.mtime().checked_mul(1_000_000_000)?.checked_add(file.mtime_nsec())?;
        Some(Self { inode: file.ino(), modified })
    }
}

impl Plugin {
    /// Whether another program is installed than that which noted this; nobody may know.
    pub(crate) fn is_gone_from(&self, installed: &[(PathBuf, Identity)]) -> bool {
        let is_other = |file: &Identity| installed.iter().all(|(_, other)| other != file);
        !installed.is_empty() && self.file.as_ref().is_some_and(is_other)
    }
}

/// From now on the plugin of this node is in another directory than the usual one.
#[cfg(feature = "agent")]
pub(crate) fn look_in(directory: PathBuf) {
    let _ = DIRECTORY.set(directory);
}

/// Notes this program below /run/manx, unless that is there. Nothing depends on it here.
pub(crate) fn note(root: &Root) {
    note_file(root, Path::new(PROGRAM)).unwrap_or_else(|error| {
        log::debug!("note the version in {}: {error}", root.runtime().join(VERSION_FILE).display());
    });
}

/// The same of one that a person runs, which may be another than the plugin that is
/// installed there.
pub(crate) fn note_unless_other(root: &Root, plugins: &Path) {
    let others = installed(plugins);
    let own = Identity::of(Path::new(PROGRAM));
    if others.is_empty() || others.iter().any(|(_, other)| Some(*other) == own) {
        note(root);
    }
}

/// Notes that this version is installed in that file.
///
/// # Errors
/// Of writing.
pub(crate) fn note_file(root: &Root, file: &Path) -> Result<(), Error> {
    let (version, file) = (VERSION.to_owned(), Identity::of(file));
    let own = Plugin { version, schemas: Schemas { peers: PEERS_SCHEMA }, file };
    if noted(root).as_ref() == Some(&own) {
        return Ok(());
    }
    let path = root.runtime().join(VERSION_FILE);
    let text = serde_json::to_vec(&own)?;
    match replace(&path, &text) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            directory(&root.runtime())?;
            replace(&path, &text)
        }
        outcome => outcome,
    }
}

/// What was noted of the plugin since boot.
pub(crate) fn noted(root: &Root) -> Option<Plugin> {
    let bytes = read_own(&root.runtime().join(VERSION_FILE), TEXT_BYTES_MAX).ok()?;
    json::read(&bytes).ok()
}

/// The same, unless another program is installed by now. Until that one notes itself, which
/// it does where a pass did not know it, nothing is known of it.
pub(crate) fn sure(root: &Root) -> Option<Plugin> {
    let directory = DIRECTORY.get().cloned().unwrap_or_else(|| root.path(PLUGIN_DIRECTORY));
    let installed = installed(&directory);
    noted(root).filter(|plugin| !plugin.is_gone_from(&installed))
}

/// The programs in a directory of plugins that may be this one; none where nobody may look.
pub(crate) fn installed(plugins: &Path) -> Vec<(PathBuf, Identity)> {
    let paths = PLUGIN_TYPES.into_iter().map(|name| plugins.join(name));
    paths.filter_map(|path| Identity::of(&path).map(|identity| (path, identity))).gather()
}
