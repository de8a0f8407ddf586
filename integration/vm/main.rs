// SPDX-License-Identifier: Apache-2.0
//! IP in IP between nodes, on a kernel that can do it.
//!
//! Some kernels, those of small virtual machines above all, lack the module
//! `ipip`. There, `ipip_between_nodes` boots a distribution's kernel in a
//! virtual machine of its own (see [`machine`]), which runs this very test
//! again; where the kernel has the module, as there, it runs the scenarios. Either
//! way it is a matter of minutes or of many processes, so `cargo test` leaves
//! it out and `hack/test` asks for it.

#![allow(missing_docs, unreachable_pub)]
// What tests share is no test in clippy's eyes; a failed expectation is a failed test.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::print_stderr, reason = "a skipped test says why, a machine how long it ran")]

#[path = "../harness/mod.rs"]
mod harness;

mod by_hand;
mod cluster;
#[path = "../bgp/daemon.rs"]
mod daemon;
mod machine;
mod scenario;
mod scenario_adopt;
mod scenario_bgp;
mod scenario_limits;
mod scenario_probe;
mod wire;
mod without_module;

/// All scenarios, and that all of them did run.
#[test]
#[ignore = "boots a virtual machine where the kernel has no ipip: hack/test runs it"]
fn ipip_between_nodes() {
    machine::run_all("ipip_between_nodes", "scenario");
}
