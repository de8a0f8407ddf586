// SPDX-License-Identifier: Apache-2.0
//! The agent as a process on a node: against an API server that answers as it was told to, with the
//! kernel's routes and the files that it leaves.

// What tests share is no test in clippy's eyes.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod answers;
mod calico;
mod condition;
#[path = "../cluster/control.rs"]
mod control;
#[path = "../enclosure/mod.rs"]
mod enclosure;
mod endures;
mod ground;
#[path = "../harness/mod.rs"]
mod harness;
mod killed;
mod policy;
mod real;
mod scale;
mod server;
mod story;
mod world;
