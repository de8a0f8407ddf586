// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

/// What an agent answers, whole as it came.
pub fn answer(text: &str) {
    let _ = super::agent::read(text);
}
