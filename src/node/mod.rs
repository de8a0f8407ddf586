//! A node as one thing: all its networks, what its kernel has, and what its files
//! say, at one moment. Data alone: how it is read is not known here, and neither is
//! what it means.

mod snapshot;

pub use snapshot::*;
