//! The plugin as a runtime uses it: by cnitool, in chains, with delegates of
//! others, many at once, watched from outside.
//!
//! Every test makes its own node and pods; see the harness.

#![allow(missing_docs)]

#[path = "../harness/mod.rs"]
mod harness;

mod node;
