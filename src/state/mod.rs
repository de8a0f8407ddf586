// SPDX-License-Identifier: Apache-2.0
//! What lies on disk: how files are read and written, where state lies, the
//! journal of attachments, and the locks that keep calls apart.
//!
//! What is kept here is gone at boot by design, as the links are. This module
//! knows neither the kernel's network nor the CNI protocol: it keeps what it
//! is given.

pub mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod gzip;
mod holder;
pub mod journal;
pub mod lock;
pub mod operations;
mod root;

pub use file::{
    directory, probe, read, read_own, read_text, readable_directory, replace, replace_synced,
};
pub use journal::{Entry, Journal, Otherwise};
pub use root::Root;
