//! The version of the plugin, for whoever writes files that it is to read: none that is
//! newer than it reads.
//!
//! The plugin notes it itself. An agent may be of another version, and passes on the note
//! that it finds.

use std::io::{Error, ErrorKind};

use serde::{Deserialize, Serialize};

use crate::conf::VERSION_FILE;
use crate::state::{Root, directory, file::TEXT_BYTES_MAX, read_own, replace};

/// This version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The form of the peers file that is read: 2 has `fabric`, and keys that are not known
/// are ignored; 1 has neither.
const PEERS_SCHEMA: u32 = 2;

/// The plugin of this node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Plugin {
    pub(crate) version: String,
    pub(crate) schemas: Schemas,
}

/// The newest forms that it reads.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Schemas {
    /// Of the peers file.
    pub(crate) peers: u32,
}

/// Notes the version below /run/manx, unless it is there. Nothing depends on it here.
pub(crate) fn note(root: &Root) {
    let own = Plugin { version: VERSION.to_owned(), schemas: Schemas { peers: PEERS_SCHEMA } };
    if noted(root).as_ref() == Some(&own) {
        return;
    }
    let path = root.runtime().join(VERSION_FILE);
    let write = || {
        let text = serde_json::to_vec(&own)?;
        match replace(&path, &text) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                directory(&root.runtime())?;
                replace(&path, &text)
            }
            outcome => outcome,
        }
    };
    write().unwrap_or_else(|error: Error| {
        log::debug!("note the version in {}: {error}", path.display());
    });
}

/// What was noted of the plugin since boot.
pub(crate) fn noted(root: &Root) -> Option<Plugin> {
    let bytes = read_own(&root.runtime().join(VERSION_FILE), TEXT_BYTES_MAX).ok()?;
    serde_json::from_slice(&bytes).ok()
}
