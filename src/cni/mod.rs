// SPDX-License-Identifier: Apache-2.0
//! The CNI protocol: environment, the document on stdin, results in every version,
//! errors, and the delegation to another plugin.
//!
//! This module knows the specification and no kernel: nothing below it opens a
//! netlink socket or reads a namespace.

pub mod cidr;
pub mod delegate;
pub mod document;
pub mod env;
pub mod error;
pub mod json;
pub mod result;
pub mod version;

pub use delegate::Delegate;
pub(crate) use delegate::{Beside, printed};
pub use document::{Document, ValidAttachments};
pub use env::{Args, Command, Environment, Pod};
pub use error::{Code, Error};
pub use result::{AddResult, Dns, Interface, Ip, Route};
pub use version::Version;
