//! The CNI protocol: environment, network configuration, results in every
//! version, errors, and the delegation to an IPAM plugin.
//!
//! This module knows the specification and no kernel: nothing below it opens a
//! netlink socket or reads a namespace.

pub mod error;
pub mod version;

pub use error::{Code, Error};
pub use version::Version;
