// SPDX-License-Identifier: Apache-2.0
//! What is wrong with something: one form for all that look for it, for people and for
//! programs.

mod checks;
mod grouped;

pub use checks::why;
pub use grouped::grouped;
use serde_json::{Value, json};

/// How bad it is, the worst first.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Packets are lost, or pods do not start.
    Error,
    /// It works, and not as was meant, or not for long.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// What a check saw.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Finding {
    /// Which check's it is. Scripts and alerts name it, so it does not change.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: a link, a route, a file.
    pub object: String,
    /// What was seen.
    pub evidence: String,
    /// Why that matters.
    pub why: &'static str,
    /// The command that changes it, or who must do what.
    pub fix: String,
    /// The command that takes the change back, where there is one.
    pub undo: String,
}

impl Finding {
    /// What the check of this name says, with no fix yet.
    pub fn new(
        id: &'static str,
        severity: Severity,
        object: impl Into<String>,
        evidence: impl Into<String>,
    ) -> Self {
        let (fix, undo) = (String::new(), String::new());
        let (object, evidence) = (object.into(), evidence.into());
        Self { id, severity, object, evidence, why: why(id), fix, undo }
    }

    /// For programs: one of the list `checks`.
    pub fn encode(&self) -> Value {
        let Self { id, severity, object, evidence, why, fix, undo } = self;
        json!({"id": id, "severity": severity.as_str(), "status": "found", "object": object,
               "evidence": evidence, "why": why, "fix": fix, "undo": undo})
    }

    /// What was seen and what to do about it, as one sentence of a list that names no
    /// objects.
    pub fn sentence(&self) -> String {
        match self.fix.is_empty() {
            true => self.evidence.clone(),
            false => format!("{}; fix: {}", self.evidence, self.fix),
        }
    }
}

/// For programs: a check that found nothing, or was not made for the reason given.
pub fn unfound(id: &str, skipped: Option<&str>) -> Value {
    let status = if skipped.is_some() { "skipped" } else { "ok" };
    json!({"id": id, "severity": Severity::Info.as_str(), "status": status, "object": "",
           "evidence": skipped.unwrap_or_default(), "why": why(id), "fix": "", "undo": ""})
}

/// Whether one of them is more than worth knowing.
pub fn is_bad<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> bool {
    findings.into_iter().any(|finding| finding.severity != Severity::Info)
}
