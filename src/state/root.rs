// SPDX-License-Identifier: Apache-2.0
//! Where state lies.

use std::path::{Path, PathBuf};

/// The directory below which all state is kept: `/`, or another one in tests
/// (`MANX_ROOT`, `--root`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Root(PathBuf);

impl Root {
    /// State below `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// The absolute `path` as seen from this root.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Locks, stamps and journals of one network. A network's name is a safe
    /// file name by the specification's own rule.
    pub fn network(&self, network: &str) -> PathBuf {
        self.runtime().join(network)
    }

    /// The directory that holds the networks' directories.
    pub fn runtime(&self) -> PathBuf {
        self.path("/run/manx")
    }
}

impl Default for Root {
    fn default() -> Self {
        Self::new("/")
    }
}
