// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use super::{cache, chains, look};
use crate::list::Gather as _;

/// A note of libcni about an attachment.
pub fn cached(bytes: &[u8]) {
    let _ = cache::parse(bytes);
}

/// A Node as kubectl prints it.
pub fn node(bytes: &[u8]) {
    let _ = look::parse(bytes, "node-a".to_owned());
}

/// What an agent left in a firewall: without it, nothing is left.
pub fn left(text: &str) {
    for marks in [chains::CALICO, chains::FLANNEL] {
        let found = chains::left(text, marks);
        let removal = chains::removal(&found);
        assert_eq!(removal.lines().filter(|line| *line == "COMMIT").count(), found.len());
        let rest = chains::without(text, marks);
        assert_eq!(chains::left(&rest, marks), []);
        // What ends a line is of no account.
        let lines = |text: &str| -> Vec<String> {
            text.trim_end().lines().map(|line| line.trim_end_matches('\r').to_owned()).gather()
        };
        assert_eq!(lines(&chains::without(&rest, marks)), lines(&rest));
    }
    let _ = chains::sources_of_nft(text);
}
