//! Leases on disk, in the format of the reference plugin host-local.
//!
//! Knows directories and files; neither the kernel's network nor the CNI
//! protocol.

pub mod store;
