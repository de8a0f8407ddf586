// SPDX-License-Identifier: Apache-2.0
//! What manx promises of one attachment beyond the specification: the objects
//! in the kernel, whose they are, and that nothing of them is left behind.
//!
//! Every test makes its own node and its own pods out of namespaces, drives the
//! real binary, and looks at the kernel through `ip`.

// Outside of #[test] functions clippy sees no test code, yet all of this crate is.
#![allow(missing_docs)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod addresses;
mod adversity;
mod annotations;
mod answers;
mod calico;
mod check;
mod del;
mod files;
mod input;
mod interfaces;
mod killed;
mod links;
mod mtu;
mod network;
mod ownership;
mod planted;
mod pod;
mod policy;
mod races;
mod routes;
mod schema;
mod sysctls;
mod undo;
mod upgrade;
mod way_out;
