// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use std::fs;

use super::{conflist, version};
use crate::state::{Root, directory};

/// What the plugin noted of itself, in its file below a root.
pub fn version(root: &Root, content: &[u8]) {
    let path = root.runtime().join("plugin.json");
    directory(&root.runtime()).unwrap();
    fs::write(&path, content).unwrap();
    if let Some(plugin) = version::noted(root) {
        let again = serde_json::to_vec(&plugin).unwrap();
        assert_eq!(serde_json::from_slice::<version::Plugin>(&again).ok(), Some(plugin));
    }
}

/// Whether a configuration is ours, and may be.
pub fn configuration(bytes: &[u8]) {
    let (is, may) = (conflist::names_us(bytes), conflist::may_name_us(bytes));
    assert!(may || !is);
}
