// SPDX-License-Identifier: Apache-2.0
//! The plugin as a runtime uses it: by cnitool, in chains, with delegates of
//! others, many at once, watched from outside.
//!
//! Every test makes its own node and pods; see the harness.

#![allow(missing_docs, unreachable_pub)]
// What tests share is no test in clippy's eyes; a failed expectation is a failed test.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../harness/mod.rs"]
mod harness;

mod allowed;
mod budget;
mod chain;
mod cnitool;
mod collection;
mod counted;
mod delegation;
mod guard;
mod logs;
mod masquerade;
mod node;
mod parallel;
mod processes;
mod readiness;
mod several;
