// SPDX-License-Identifier: Apache-2.0
//! The overlay section in a virtual machine, for an encapsulation that the
//! running kernel lacks. The machine is the one of the tests of IPIP; it runs
//! this very program, which answers on standard output.

use std::process::ExitCode;
use std::time::Duration;

use crate::cluster::MANX;
use crate::options::INSIDE;
use crate::overlay::{self, Effort, Row};
use crate::subjects::Programs;
use crate::vm;

/// Boots the machine; its rows, none if there can be no machine here.
pub fn boot() -> Vec<Row> {
    crate::progress("overlay-vm: a virtual machine is booted");
    let here = std::env::current_dir().expect("a current directory");
    let here = here.display();
    // Neither floor nor meter are used, and nothing is written.
    let arguments = format!("{INSIDE} --quick --manx '{MANX}' --tools '{here}' --out '{here}'");
    match vm::run_program(&arguments) {
        Ok(finished) => {
            assert_eq!(finished.status, 0, "in the machine: {finished:#?}");
            serde_json::from_str(&finished.stdout).expect("rows as JSON")
        }
        Err(obstacle) => {
            crate::progress(&format!("overlay-vm: not measured: {obstacle}"));
            Vec::new()
        }
    }
}

/// What runs in the machine.
pub fn run(programs: &Programs) -> ExitCode {
    let effort = Effort {
        rounds: 3,
        stream: Duration::from_secs(2),
        round_trips: 200,
        underlays: &[1500, 9000],
        both_mistakes: false,
    };
    let rows = overlay::rows(programs, &["direct", "ipip"], &[true], effort);
    println!("{}", serde_json::to_string(&rows).expect("rows are JSON"));
    ExitCode::SUCCESS
}
