// SPDX-License-Identifier: Apache-2.0
//! Every check of `manx doctor` by the fault that it is for: it is named, a healthy node is
//! not told of it, what it says to run mends it, and what takes that back brings it again.
//!
//! A fault is made for real on a namespace node; where the kernel cannot be made to have it
//! there, what a bundle of the healthy node holds is altered, for the reason in the row.

mod first_line;
mod going;
mod ground;
mod large;
mod rows;

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use ground::Ground;
use rows::{Fault, Mend, ROWS, Row};

/// Nodes that are looked at at once.
const AT_ONCE: usize = 4;

/// The ids of all checks.
fn ids(ground: &Ground) -> BTreeSet<String> {
    let checks = ground.checks(&["--json"]);
    checks.iter().map(|check| check["id"].as_str().unwrap().to_owned()).collect()
}

/// One that has no row here is not known to work.
#[test]
fn every_check_has_a_row() {
    let ids = ids(&Ground::new());
    let rows: BTreeSet<String> = ROWS.iter().map(|row| row.id.to_owned()).collect();
    let lacking: Vec<&String> = ids.difference(&rows).collect();
    let unknown: Vec<&String> = rows.difference(&ids).collect();
    assert!(lacking.is_empty(), "these checks have no row: {lacking:?}");
    assert!(unknown.is_empty(), "these rows have no check: {unknown:?}");
}

#[test]
fn every_check_names_its_fault_and_what_it_says_mends_it() {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(row) = ROWS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The others are looked at all the same.
                    if catch_unwind(|| row.holds()).is_err() {
                        failed.lock().unwrap().push(row.id);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "see above: {failed:?}");
}

impl Row {
    fn holds(&self) {
        let ground = Ground::new();
        let before = ground.checks(&["--json", "--only", self.id]);
        assert!(before.iter().all(|check| check["status"] != "found"), "{before:#?}");
        match &self.fault {
            Fault::Skipped => {
                assert_eq!(before[0]["status"], "skipped", "{before:#?}");
                assert_ne!(before[0]["evidence"], "", "{}: no reason is told", self.id);
            }
            Fault::Altered(reason, alter) => {
                assert!(!reason.is_empty());
                let mut bundle = ground.bundle();
                alter(&mut bundle);
                let found = ground.of_bundle(&bundle, &["--json", "--only", self.id]);
                self.is_told(&found);
            }
            Fault::Real(make) => {
                make(&ground);
                self.mended(&ground);
            }
            // Only while it happens.
            Fault::Lasting(make) => {
                let going = make(&ground);
                let seen = self.sought(&ground);
                drop(going);
                self.is_told(&seen);
                assert!(ground.eventually_well(self.id), "{}: it is over", self.id);
            }
        }
    }

    /// The finding, once there is one.
    fn sought(&self, ground: &Ground) -> Vec<Value> {
        let mut seen = Vec::new();
        crate::harness::eventually(crate::harness::DEADLINE, || {
            seen = ground.checks(&["--json", "--only", self.id]);
            seen.iter().any(|check| check["status"] == "found")
        });
        seen
    }

    /// Says what is found in words that a row names.
    #[track_caller]
    fn is_told(&self, checks: &[Value]) -> Value {
        let found = checks.iter().find(|check| check["status"] == "found");
        let found = found.unwrap_or_else(|| panic!("{}: not found: {checks:#?}", self.id));
        let text = format!("{} {} {}", found["object"], found["evidence"], found["fix"]);
        assert!(text.contains(self.words), "{}: {}: {found:#}", self.id, self.words);
        for member in ["object", "evidence", "why", "fix"] {
            let is_told = found[member].as_str().is_some_and(|text| !text.is_empty());
            assert!(is_told || (member == "fix" && self.mend == Mend::Nothing), "{found:#}");
        }
        found.clone()
    }

    fn mended(&self, ground: &Ground) {
        let found = self.is_told(&ground.checks(&["--json", "--only", self.id]));
        let (fix, undo) = (found["fix"].as_str().unwrap(), found["undo"].as_str().unwrap());
        if matches!(self.mend, Mend::ByHand | Mend::Nothing) {
            return;
        }
        ground.sh(fix);
        let after = ground.checks(&["--json", "--only", self.id]);
        let is_found = |checks: &[Value]| checks.iter().any(|check| check["status"] == "found");
        assert!(!is_found(&after), "{}: {fix} did not mend it: {after:#?}", self.id);
        if self.mend == Mend::AndBack {
            ground.sh(undo);
            let again = ground.checks(&["--json", "--only", self.id]);
            assert!(is_found(&again), "{}: {undo} did not bring it back: {again:#?}", self.id);
        }
    }
}
