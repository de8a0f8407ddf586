// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use std::path::Path;

use super::validate::{Node, lint};
pub use super::{
    adopt::fuzzing::{cached, left, node},
    capture::fuzzing::packets,
    doctor::fuzzing::answer,
    peers::fuzzing::nodes,
};

/// What validate says of a configuration: each finding has words.
pub fn configuration(bytes: &[u8]) {
    for name in ["10-manx.conflist", "10-manx.conf"] {
        let linted = lint(Path::new(name), bytes, &Node::default());
        assert!(linted.pools().count() < 1 << 20);
        for placed in &linted.findings {
            assert!(!placed.finding.evidence.is_empty());
        }
    }
}
