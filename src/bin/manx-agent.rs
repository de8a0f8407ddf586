// SPDX-License-Identifier: Apache-2.0
//! The manx-agent binary: what a cluster's API server knows of its nodes, as a peers file
//! and as this node's routes.

use std::{env, process::ExitCode};

/// As of manx itself (`main.rs`).
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    manx::agent::run(env::args_os().skip(1))
}
