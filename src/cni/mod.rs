//! The CNI protocol: environment, network configuration, results in every
//! version, errors, and the delegation to an IPAM plugin.
//!
//! This module knows the specification and no kernel: nothing below it opens a
//! netlink socket or reads a namespace.

pub mod cidr;
pub mod conf;
pub mod delegate;
pub mod env;
pub mod error;
pub mod fields;
pub mod json;
pub mod keys;
pub mod result;
pub mod version;

pub use conf::{Config, CrossSubnet, Document, FabricKeys, Mode, ValidAttachments};
pub use delegate::Delegate;
pub use env::{Args, Command, Environment, Pod};
pub use error::{Code, Error};
pub use result::{AddResult, Dns, Interface, Ip, Route};
pub use version::Version;
