//! What lies on disk: where, the journal of attachments, and the lock that
//! keeps a garbage collection and an attachment apart.
//!
//! Everything here is gone at boot by design, as the links are. This module
//! knows neither the kernel's network nor the CNI protocol: it keeps what it
//! is given.

mod file;
pub mod journal;
pub mod lock;
mod root;

pub use file::{directory, replace};
pub use journal::{Entry, Journal};
pub use root::Root;
