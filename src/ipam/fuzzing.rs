// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use std::path::Path;

use super::{Owner, hints, lease};

/// A lease's content, its file's name, and an owner's note.
pub fn lease(text: &str) {
    if let Some(owner) = Owner::decode(text) {
        assert!(!owner.container_id.is_empty());
        assert_eq!(Owner::decode(&owner.encode()), Some(owner));
    }
    if let Some(address) = lease::address(text) {
        assert_eq!(address.to_string(), text);
    }
    let _ = hints::parse(Path::new(text));
}
