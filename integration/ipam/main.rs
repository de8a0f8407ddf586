// SPDX-License-Identifier: Apache-2.0
//! Addresses: manx-ipam by itself, as part of manx, and beside the real
//! host-local on one store.
//!
//! Every test makes its own node and its own store; see the harness.

#![allow(missing_docs, unreachable_pub)]
// What tests share is no test in clippy's eyes; a failed expectation is a failed test, and what was
// tried how often is told.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

#[path = "../harness/mod.rs"]
mod harness;

mod boot;
mod command;
mod compare;
mod fault;
mod ground;
mod interleave;
mod lock;
mod opens;
mod placeholder;
mod pool;
mod random;
mod twin;
mod verbs;
