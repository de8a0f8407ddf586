// SPDX-License-Identifier: Apache-2.0
//! Addresses: ranges, the choice of the next one, and leases on disk in the
//! format of the reference plugin host-local, so that either can take over from
//! the other with pods running.
//!
//! Knows directories and files; neither the kernel's network nor the CNI
//! protocol.

mod allocator;
mod boot;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hints;
mod lease;
pub mod range;
pub mod store;

pub use allocator::{State, choose};
pub use lease::{Lease, Owner};
pub use range::{Flaw, Range, RangeSet};
pub use store::Store;
