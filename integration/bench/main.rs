// SPDX-License-Identifier: Apache-2.0
//! The benchmark: what manx exists for, side by side with what a user would
//! pick instead, in one run on one machine.
//!
//! `hack/bench` builds the programs and starts this one. Each section measures
//! and fills its part of the report; `report` writes it. A run that fails is no
//! measurement: whatever goes wrong ends the benchmark with what was said.

#![allow(missing_docs, unreachable_pub)]
// What goes wrong here ends the run.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that tells how far it is")]

#[path = "../harness/mod.rs"]
mod harness;

#[path = "../vm/machine.rs"]
#[allow(dead_code, reason = "the tests' part of it")]
mod vm;

/// What `vm` takes to be under test. Slower than the static one, which does not
/// matter there.
mod cluster {
    pub const MANX: &str = env!("CARGO_BIN_EXE_manx");
}

mod attach;
mod crowd;
mod effect;
mod goals;
mod inside;
mod machine;
mod measure;
mod options;
mod overlay;
mod pair;
mod plausible;
mod policy;
mod quantile;
mod ratio;
mod report;
mod sameness;
mod scale;
mod settle;
mod size;
mod source_check;
mod strace;
mod subjects;
mod traffic;
mod turns;
mod wait;
mod wire;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use attach::SETTINGS;
use machine::Machine;
use options::{Options, Pair};
use report::{Report, targets};
use subjects::{Kind, Setting};

/// Tells how far the run is.
fn progress(what: &str) {
    eprintln!("bench: {what}");
}

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("bench: {message}");
            return ExitCode::from(2);
        }
    };
    if let Some(pair) = &options.pair {
        return compare(&options, pair);
    }
    let begin = Instant::now();
    let machine = Machine::here(&options.programs.manx);
    let mut report = Report::new(machine, options.quick, options.sections.clone());
    for section in &options.sections {
        match section.as_str() {
            "attach" => attach_section(&options, &mut report),
            "floor" => floor_section(&options, &mut report),
            "overlay" => {
                let effort = overlay_effort(&options);
                report.overlay =
                    overlay::rows(&options.programs, &["direct", "vxlan"], &[true, false], effort);
            }
            "overlay-vm" => report.overlay_vm = inside::boot(),
            "overlay-inside" => return inside::run(&options.programs),
            "scale" => {
                let peers = [10, 100, 1000, 5000];
                report.scale = scale::rows(&options.programs, &peers, options.pick(5, 30));
            }
            name @ ("families" | "burst" | "apply" | "watch" | "beside") => {
                report.goals.extend(goals::rows(name, &options.programs, options.quick));
            }
            "size" => report.size = Some(size::sizes(&options.programs, options.pick(20, 100))),
            _ => unreachable!("checked by Options::read"),
        }
        let faults = plausible::faults(&report);
        if !faults.is_empty() {
            return refuse(&options, &mut report, &faults);
        }
    }
    report.write(&options.out);
    let seconds = begin.elapsed().as_secs();
    progress(&format!("{}/report.md after {seconds} s", options.out.display()));
    let misses = targets::misses(&report);
    for miss in &misses {
        println!("missed: {miss}");
    }
    if options.check && !misses.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Two things in turns: a table on standard output, and all of it as JSON.
fn compare(options: &Options, pair: &Pair) -> ExitCode {
    let machine = Machine::here(&options.programs.manx);
    let (name, rows) = match pair {
        Pair::Binary(old) => {
            let effort = pair::Effort { pods: 20, rounds: options.pick(5, 60) };
            ("pair", Ok(pair::rows(old, &options.programs, effort)))
        }
        Pair::SourceCheck => {
            let effort = source_check::Effort {
                rounds: options.pick(300, 5000),
                streams: options.pick(2, 60),
                stream: Duration::from_secs(1),
            };
            ("source-check", source_check::rows(&options.programs, effort))
        }
        Pair::Policy => {
            let effort = policy::Effort {
                rounds: options.pick(300, 5000),
                changes: options.pick(3, 15),
                pods: options.pick(20, 200),
                streams: options.pick(2, 20),
                stream: Duration::from_secs(1),
            };
            ("policy", policy::rows(&options.programs, effort))
        }
    };
    let rows = match rows {
        Ok(rows) => rows,
        Err(why) => {
            eprintln!("bench: {why}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", pair::page(&rows));
    let faults = match pair {
        Pair::Binary(_) | Pair::Policy => pair::faults(&rows),
        Pair::SourceCheck => source_check::faults(&rows),
    };
    for fault in &faults {
        println!("impossible: {fault}");
    }
    if !faults.is_empty() {
        return ExitCode::FAILURE;
    }
    let told = serde_json::json!({"machine": machine, "quick": options.quick, "rows": rows});
    std::fs::create_dir_all(&options.out).expect("make the directory of the report");
    let file = options.out.join(format!("{name}.json"));
    std::fs::write(&file, format!("{told:#}\n")).expect("write the comparison");
    progress(&format!("{}", file.display()));
    let misses = pair::misses(&rows);
    for miss in &misses {
        println!("missed: {miss}");
    }
    if options.check && !misses.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Ends a run that measured what cannot be. Its report goes where nobody takes it
/// for a result.
fn refuse(options: &Options, report: &mut Report, faults: &[plausible::Fault]) -> ExitCode {
    for fault in faults {
        println!("impossible: {fault}");
    }
    let aside = options.programs.floor.with_file_name("bench-refused");
    report.write(&aside);
    progress(&format!("nothing is written to {}", options.out.display()));
    progress(&format!("{}/report.json has what was measured", aside.display()));
    ExitCode::FAILURE
}

fn overlay_effort(options: &Options) -> overlay::Effort {
    overlay::Effort {
        rounds: options.pick(1, 3),
        stream: Duration::from_secs(options.pick(1, 2)),
        round_trips: options.pick(1000, 3000),
        underlays: options.pick(&[1500], &[1500, 9000]),
        both_mistakes: !options.quick,
    }
}

/// The floor alone, which is what to look at after a change to it.
fn floor_section(options: &Options, report: &mut Report) {
    for dual_stack in [false, true] {
        progress("floor: whether it makes what manx makes");
        sameness::assert_same(Setting { dual_stack, masquerade: false }, &options.programs);
    }
    let pods = options.pick(20, 100);
    report.nothing = Some(attach::nothing(&options.programs, pods));
    if options.sections.iter().any(|section| section == "attach") {
        return;
    }
    for dual_stack in [false, true] {
        let setting = Setting { dual_stack, masquerade: false };
        let effort = attach::Effort { pods, passes: 1, slow_pods: 0 };
        let kinds: Vec<Kind> =
            Kind::all().into_iter().filter(|kind| *kind == Kind::Floor || kind.is_manx()).collect();
        report.attach.extend(attach::sequential(setting, &options.programs, &kinds, effort));
    }
}

fn attach_section(options: &Options, report: &mut Report) {
    let programs = &options.programs;
    for setting in SETTINGS {
        // Half of all DELs wait for a grace period of the kernel's, whose length
        // varies: where targets are compared, it takes more of them. Not more pods:
        // with thousands of namespaces the kernel takes longer for everything.
        let effort = attach::Effort {
            pods: options.pick(15, 100),
            passes: if setting == Setting::default() { 2 } else { 1 },
            slow_pods: options.pick(2, 12),
        };
        progress(&format!("attach: one after another, {}", setting.name()));
        report.attach.extend(attach::sequential(setting, programs, &Kind::all(), effort));
    }
    let dual = Setting { dual_stack: true, masquerade: false };
    let masquerade = Setting { dual_stack: false, masquerade: true };
    let widths: &[(usize, usize, &[Setting])] = if options.quick {
        &[(100, 1, &[Setting { dual_stack: false, masquerade: false }])]
    } else {
        &[
            (10, 10, &[Setting { dual_stack: false, masquerade: false }]),
            (30, 5, &[Setting { dual_stack: false, masquerade: false }]),
            (100, 5, &[Setting { dual_stack: false, masquerade: false }]),
        ]
    };
    for (width, rounds, settings) in widths {
        for setting in *settings {
            progress(&format!("attach: {width} at once, {}", setting.name()));
            let kinds = Kind::all();
            report.attach.extend(attach::parallel(*setting, programs, *width, &kinds, *rounds));
        }
    }
    if !options.quick {
        for setting in [dual, masquerade] {
            progress(&format!("attach: 100 at once, {}", setting.name()));
            // With masquerade a round of all takes half a minute.
            let rounds = if setting.masquerade { 2 } else { 3 };
            report.attach.extend(attach::parallel(setting, programs, 100, &Kind::all(), rounds));
        }
    }
    let levels: &[usize] = if options.quick { &[0, 2000] } else { &[0, 500, 2000] };
    progress("attach: on nodes that have pods already");
    report.attach.extend(attach::crowded(programs, levels, options.pick(10, 60)));
    let counted: &[Setting] = if options.quick { &SETTINGS[..1] } else { &SETTINGS };
    for setting in counted {
        progress(&format!("attach: system calls, {}", setting.name()));
        report.counts.extend(attach::counts(*setting, programs));
    }
}
