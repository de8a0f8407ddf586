// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use super::kubectl::view;
use crate::fabric::list::names;

/// Nodes as kubectl prints them: the list that is made of them has those that are served.
pub fn nodes(bytes: &[u8]) {
    if let Ok(view) = view(bytes) {
        assert_eq!(names(view.text.as_bytes()).len(), view.used);
    }
}
