// SPDX-License-Identifier: Apache-2.0
//! What fuzz targets ask of this module: in no build but theirs.

use super::operations::Operation;

/// A record of a call that has ended.
pub fn operation(record: &[u8]) {
    if let Some(operation) = Operation::decode(record) {
        assert_eq!(Operation::decode(&operation.encode()), Some(operation));
    }
}
