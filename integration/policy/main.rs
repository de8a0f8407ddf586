// SPDX-License-Identifier: Apache-2.0
//! Network policies against this kernel: pods that are namespaces, the real binary, and
//! packets of which it is known whether they may arrive.

// What tests share is no test in clippy's eyes; a failed expectation is a failed test.
#![allow(missing_docs, unreachable_pub, dead_code)]
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::print_stdout)]

#[path = "../harness/mod.rs"]
mod harness;

mod cases;
mod cluster;
mod command;
mod flood;
mod killed;
mod leak;
mod paths;
mod probe;
mod scenario;

use cases::Case;
use cluster::Cluster;

/// Applies the worlds of all steps one after the other, and tells each probe that was
/// judged wrong.
fn play(cases: &[Case]) {
    let cluster = Cluster::new();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for case in cases {
        for (at, step) in case.steps.iter().enumerate() {
            cluster.apply(&step.world).ok();
            for (probe, arrived) in cluster.probe(&step.world, &step.probes) {
                count += 1;
                if arrived != probe.allowed {
                    wrong.push(format!("{}, step {at}: {probe:?}", case.name));
                }
            }
        }
    }
    println!("{count} probes of {} cases", cases.len());
    let first = &wrong[..wrong.len().min(20)];
    assert!(wrong.is_empty(), "{} of {count} are wrong: {first:#?}", wrong.len());
}

/// Our own cases, and some of the others.
#[test]
fn the_kernel_judges_as_expected() {
    let mut cases = cases::all();
    let given = cases.iter().filter(|case| case.steps.iter().all(|it| it.probes.len() == 432));
    let given = given.count();
    let mut place = 0;
    cases.retain(|_| {
        place += 1;
        place > given || place % 5 == 1
    });
    play(&cases);
}

/// All of them. Takes a minute or two.
#[test]
#[ignore = "takes a minute or two; a sample of it runs always"]
fn the_kernel_judges_all_cases_as_expected() {
    play(&cases::all());
}
