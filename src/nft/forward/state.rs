// SPDX-License-Identifier: Apache-2.0
//! Connections' states, and numbers as the kernel compares them.

use super::Test;

/// The bits of a new and of an established connection in `ct state`
/// (NF_CT_STATE_BIT, include/uapi/linux/netfilter/nf_conntrack_common.h).
const NEW: u32 = 1 << 3;
const ESTABLISHED: u32 = 1 << 1;

/// A test that holds for connections of these states.
pub(super) fn state(holds: impl Fn(u32) -> bool) -> Test {
    Test::State { new: holds(NEW), established: holds(ESTABLISHED) }
}

/// A number of the machine's own byte order.
pub(super) fn native_bytes(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}
