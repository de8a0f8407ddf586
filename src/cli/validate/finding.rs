// SPDX-License-Identifier: Apache-2.0
//! What a linter says: findings, and where in a file each is.

use std::path::PathBuf;

use crate::finding::{Finding, Severity};

/// A value that a runtime or a plugin refuses.
const INVALID: &str = "configuration-invalid";
/// A value that works, and hardly as was meant.
const DOUBTFUL: &str = "configuration-doubtful";
/// Policies that have no effect.
pub(super) const UNENFORCED: &str = "policy-unenforced";

/// The checks that are made of a configuration.
pub(crate) const CHECKS: [&str; 12] = [
    INVALID,
    DOUBTFUL,
    "delegate-missing",
    "delegate-version",
    "fabric-contradiction",
    "fabric-stale",
    "forward-drop",
    "peer-excluded",
    UNENFORCED,
    "pool-outside-pod-cidr",
    "pool-overlap",
    "version-skew",
];

/// A finding and its place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Placed {
    pub(crate) file: PathBuf,
    /// Where in the document: `plugins[0].mtu`; empty for all of it.
    pub(crate) path: String,
    pub(crate) finding: Finding,
}

/// Gathers the findings of one file.
#[derive(Debug)]
pub(crate) struct Findings {
    file: PathBuf,
    pub(crate) all: Vec<Placed>,
}

impl Findings {
    pub(crate) fn of(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), all: Vec::new() }
    }

    pub(crate) fn error(&mut self, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add((INVALID, Severity::Error), path, message, fix);
    }

    pub(crate) fn warning(
        &mut self,
        path: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add((DOUBTFUL, Severity::Warning), path, message, fix);
    }

    pub(crate) fn info(&mut self, path: &str, message: impl Into<String>) {
        self.add((DOUBTFUL, Severity::Info), path, message, "");
    }

    /// Adds what the check of this name finds.
    pub(crate) fn add(
        &mut self,
        (id, severity): (&'static str, Severity),
        path: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        let finding = Finding::new(id, severity, "", message);
        self.place(path, Finding { fix: fix.into(), ..finding });
    }

    /// Adds what was found of this place.
    pub(crate) fn place(&mut self, path: &str, mut finding: Finding) {
        let file = self.file.display();
        finding.object = if path.is_empty() { file.to_string() } else { format!("{file} {path}") };
        self.all.push(Placed { file: self.file.clone(), path: path.to_owned(), finding });
    }
}

/// The path of a member of the object at `path`.
pub(crate) fn member(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
