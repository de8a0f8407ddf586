// SPDX-License-Identifier: Apache-2.0
//! Runs a program and tells the most memory that it held at once.
//!
//! A process that is about to execute a program counts the memory of the one
//! that started it as its own (`exec_mmap` of fs/exec.c), so a large program
//! cannot measure a small one. This one is as small as can be. The answer, in
//! KiB, goes to the file that the first argument names; the program's streams
//! are its own.

#![allow(clippy::print_stderr, reason = "the benchmark shows it when a run fails")]

#[path = "wait.rs"]
mod wait;

use std::fs;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (Some(answer), Some(program)) = (args.next(), args.next()) else {
        eprintln!("usage: meter FILE PROGRAM [ARGUMENT]...");
        return ExitCode::from(2);
    };
    let ended = Command::new(program).args(args).spawn().and_then(|child| wait::wait(&child));
    let told = ended.and_then(|ended| {
        fs::write(answer, ended.peak_kib.to_string())?;
        Ok(ended.status)
    });
    match told {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("meter: {error}");
            ExitCode::FAILURE
        }
    }
}
