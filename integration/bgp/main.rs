// SPDX-License-Identifier: Apache-2.0
//! The configurations that `manx export` prints, in the hands of the real
//! daemons: BIRD and FRR, each on three nodes.
//!
//! Each node's own peers file names that node alone, so every route between
//! nodes is the daemon's; manx has the blackholes that they tell each other of.

#![allow(missing_docs, unreachable_pub)]
// What tests share is no test in clippy's eyes; a failed expectation is a failed test.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../vm/cluster.rs"]
#[allow(dead_code, reason = "this crate uses a part of it")]
mod cluster;
#[path = "../harness/mod.rs"]
mod harness;

mod bird;
mod daemon;
mod frr;
mod mesh;
