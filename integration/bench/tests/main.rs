// SPDX-License-Identifier: Apache-2.0
//! Tests of the benchmark itself, with programs and numbers made up for it.

#![allow(missing_docs, dead_code, unreachable_pub)]
// Parts of a program that ends with what goes wrong.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../../harness/mod.rs"]
mod harness;

#[path = "../attach.rs"]
mod attach;
#[path = "../crowd.rs"]
mod crowd;
#[path = "../effect.rs"]
mod effect;
#[path = "../goals.rs"]
mod goals;
#[path = "../machine.rs"]
mod machine;
#[path = "../measure.rs"]
mod measure;
#[path = "../../ipam/numbers.rs"]
mod numbers;
#[path = "../overlay.rs"]
mod overlay;
#[path = "../pair.rs"]
mod pair;
#[path = "../plausible.rs"]
mod plausible;
#[path = "../quantile.rs"]
mod quantile;
#[path = "../ratio.rs"]
mod ratio;
#[path = "../report/mod.rs"]
mod report;
#[path = "../scale.rs"]
mod scale;
#[path = "../settle.rs"]
mod settle;
#[path = "../size.rs"]
mod size;
#[path = "../source_check.rs"]
mod source_check;
#[path = "../strace.rs"]
mod strace;
#[path = "../subjects.rs"]
mod subjects;
#[path = "../traffic.rs"]
mod traffic;
#[path = "../turns.rs"]
mod turns;
#[path = "../wait.rs"]
mod wait;
#[path = "../wire.rs"]
mod wire;

mod addresses;
mod counts;
mod effects;
mod impossible;
mod pairs;
mod readme;
mod timing;

fn progress(_: &str) {}
