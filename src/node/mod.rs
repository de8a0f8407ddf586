//! A node as one thing: all its networks, what its kernel has, and what its files
//! say, at one moment. Data alone: how it is read is not known here, and neither is
//! what it means.

pub mod allowed;
mod complete;
mod error;
pub mod fabric;
pub mod facts;
pub mod former;
pub mod liveness;
pub mod pod_side;
pub mod pools;
pub mod repair;
pub mod sandbox;
pub mod side;
mod snapshot;
pub mod tables;
pub mod upgrade;
mod version;

pub(crate) use complete::complete;
pub use error::{Error, Kind};
pub(crate) use error::{file, kernel, refused};
pub use facts::{link_mtus, uplink};
pub use snapshot::*;
pub(crate) use version::note as note_version;
