// SPDX-License-Identifier: Apache-2.0
//! What a release has besides the programs: man pages and completions; and what the programs are made of.

// Outside of #[test] functions clippy sees no test code, yet all of this crate is.
#![allow(missing_docs)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod bill;
mod pages;
mod refusals;
mod supply;

use std::process::Command;

use harness::{DEADLINE, Stdin, run};

const MANX: &str = env!("CARGO_BIN_EXE_manx");

/// What a program prints that must succeed and complain of nothing.
#[track_caller]
fn says(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    let finished = run(command, &Stdin::Null, DEADLINE);
    assert_eq!(finished.stderr, "", "{program} {arguments:?}");
    finished.ok()
}
