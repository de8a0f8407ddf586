//! The version of the plugin, for whoever writes files that it is to read: none that is
//! newer than it reads.

use serde_json::json;

use crate::conf::VERSION_FILE;
use crate::state::{Root, file::TEXT_BYTES_MAX, read_own, replace};

/// The form of the peers file that is read: 2 has `fabric`, and keys that are not known
/// are ignored; 1 has neither.
const PEERS_SCHEMA: u32 = 2;

/// Notes the version below /run/manx, unless it is there. Nothing depends on it here.
pub(crate) fn note(root: &Root) {
    let path = root.runtime().join(VERSION_FILE);
    let version = env!("CARGO_PKG_VERSION");
    let text = json!({"version": version, "schemas": {"peers": PEERS_SCHEMA}}).to_string();
    if read_own(&path, TEXT_BYTES_MAX).ok().as_deref() == Some(text.as_bytes()) {
        return;
    }
    if let Err(error) = replace(&path, text.as_bytes()) {
        log::debug!("note the version in {}: {error}", path.display());
    }
}
