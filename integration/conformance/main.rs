// SPDX-License-Identifier: Apache-2.0
//! Conformance tests for any CNI plugin, through its CNI interface alone.
//!
//! `cargo test --test conformance` tests manx; `hack/conformance BINARY` any
//! other plugin. Rule by rule it says what holds, with the rule's number and
//! level. The suite knows the specification, libcni and the runtimes; it knows
//! nothing of a plugin but the name of its binary, and for manx the promises
//! that are marked as its own.

// A test program: its output is its purpose, and a broken expectation of its own
// making may end it.
#![allow(missing_docs, unreachable_pub)]
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::panic)]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "../harness/mod.rs"]
mod harness;

mod add;
mod check;
mod cnitool;
mod config;
mod del;
mod delegate;
mod gc;
mod ipam;
mod options;
mod own;
mod process;
mod report;
mod rule;
mod status;
mod suite;
mod version;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use options::{DEFAULT_IPAM, Options};
use report::{Line, Outcome};
use rule::{Level, Rule, Stop, Test};
use suite::Suite;

/// Rules that may be skipped when manx is tested with the default IPAM plugin. A skip that is not listed here
/// fails the run, so that none creeps in.
const ALLOWED_SKIPS: &[&str] = &[
    // host-local, the default here, succeeds whatever is left of its pool.
    "66",
];

/// How many rules are tested at a time. Most of a test is waiting for processes.
const WORKERS: usize = 4;

/// The registry, in the order of the numbers, our own promises last.
fn rules() -> Vec<Rule> {
    let mut rules = [
        process::RULES,
        version::RULES,
        add::RULES,
        delegate::RULES,
        del::RULES,
        check::RULES,
        gc::RULES,
        status::RULES,
        config::RULES,
        own::RULES,
    ]
    .concat();
    rules.sort_by_key(|rule| {
        let digits: String = rule.number.chars().filter(char::is_ascii_digit).collect();
        (rule.level == Level::Own, digits.parse::<u32>().unwrap_or(0), rule.number)
    });
    rules
}

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("conformance: {why}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<Rule> = rules().into_iter().filter(|rule| options.chooses(rule)).collect();
    if options.list {
        chosen.iter().for_each(|rule| println!("{}", report::title(rule)));
        return ExitCode::SUCCESS;
    }
    let runs: Vec<(String, Vec<Line>)> = options
        .suites
        .iter()
        .map(|suite| (suite.kind(), test(suite, &chosen, options.markdown)))
        .collect();
    if options.markdown {
        print!("{}", report::markdown(&runs));
        return ExitCode::SUCCESS;
    }
    let mut failed = false;
    for (suite, (kind, lines)) in options.suites.iter().zip(&runs) {
        print!("{}", report::summary(kind, lines));
        failed |= !options.reference && lines.iter().any(|line| breaks(suite, line));
    }
    ExitCode::from(u8::from(failed))
}

/// Whether a line fails the run.
fn breaks(suite: &Suite, line: &Line) -> bool {
    match &line.outcome {
        Outcome::Pass | Outcome::Differs(_) | Outcome::Elsewhere(_) => false,
        Outcome::Fail(_) => line.rule.level.binding(),
        Outcome::Skip(_) => {
            suite.own && suite.ipam == DEFAULT_IPAM && !ALLOWED_SKIPS.contains(&line.rule.number)
        }
    }
}

/// Tests the rules against one plugin, several at a time, and prints each as
/// soon as those before it are known; on stderr, where stdout is to be a document.
fn test(suite: &Suite, rules: &[Rule], document: bool) -> Vec<Line> {
    let rules: Vec<Rule> =
        rules.iter().filter(|rule| suite.own || rule.level != Level::Own).copied().collect();
    let next = AtomicUsize::new(0);
    let done: Mutex<(Vec<Option<Line>>, usize)> = Mutex::new((vec![None; rules.len()], 0));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(rule) = rules.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let line = Line { rule: *rule, outcome: outcome(suite, rule) };
                    let at = rules.iter().position(|r| r.number == rule.number).expect("a rule");
                    let (lines, printed) = &mut *done.lock().expect("no panic under this lock");
                    lines[at] = Some(line);
                    while let Some(Some(line)) = lines.get(*printed) {
                        if document {
                            eprintln!("{line}")
                        } else {
                            println!("{line}")
                        }
                        *printed += 1;
                    }
                }
            });
        }
    });
    done.into_inner().expect("no panic under this lock").0.into_iter().flatten().collect()
}

/// Tests one rule; a panic of its test is a failure of the rule.
fn outcome(suite: &Suite, rule: &Rule) -> Outcome {
    let run = match rule.test {
        Test::Run(run) => run,
        Test::Elsewhere(whose) => return Outcome::Elsewhere(whose),
    };
    match catch_unwind(AssertUnwindSafe(|| run(suite))) {
        Ok(Ok(())) => Outcome::Pass,
        Ok(Err(Stop::Broken(why))) => Outcome::Fail(why),
        Ok(Err(Stop::Skip(why))) => Outcome::Skip(why),
        Ok(Err(Stop::Differs(why))) => Outcome::Differs(why),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            Outcome::Fail(said.unwrap_or_else(|| "the test panicked".into()))
        }
    }
}
