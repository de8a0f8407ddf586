// SPDX-License-Identifier: Apache-2.0
//! Why there is no lease.

use crate::cni::Error;

/// Why there is no lease, and whether others' leases are the reason: then those
/// of dead attachments are taken back, and it is tried again.
#[derive(Debug)]
pub(in crate::verb) struct Refused {
    pub(in crate::verb) error: Error,
    pub(in crate::verb) by_lease: bool,
}

impl Refused {
    pub(super) fn by_lease(error: Error) -> Self {
        Self { error, by_lease: true }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, by_lease: false }
    }
}
