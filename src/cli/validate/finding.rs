//! What a linter says.

use std::path::PathBuf;

use serde_json::{Value, json};

/// How bad it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Severity {
    /// A runtime or a plugin refuses this.
    Error,
    /// It works, and not as was meant.
    Warning,
    /// Worth knowing.
    Info,
}

impl Severity {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// One thing to say of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Finding {
    pub(crate) file: PathBuf,
    /// Where in the document: `plugins[0].mtu`; empty for all of it.
    pub(crate) path: String,
    pub(crate) severity: Severity,
    pub(crate) message: String,
    /// What to do; may be empty.
    pub(crate) fix: String,
}

impl Finding {
    pub(crate) fn encode(&self) -> Value {
        json!({
            "file": self.file,
            "path": self.path,
            "severity": self.severity.as_str(),
            "message": self.message,
            "fix": self.fix,
        })
    }
}

/// Gathers the findings of one file.
#[derive(Debug)]
pub(crate) struct Findings {
    file: PathBuf,
    pub(crate) all: Vec<Finding>,
}

impl Findings {
    pub(crate) fn of(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), all: Vec::new() }
    }

    pub(crate) fn error(&mut self, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Error, path, message.into(), fix.into());
    }

    pub(crate) fn warning(
        &mut self,
        path: &str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(Severity::Warning, path, message.into(), fix.into());
    }

    pub(crate) fn info(&mut self, path: &str, message: impl Into<String>) {
        self.add(Severity::Info, path, message.into(), String::new());
    }

    fn add(&mut self, severity: Severity, path: &str, message: String, fix: String) {
        let (file, path) = (self.file.clone(), path.to_owned());
        self.all.push(Finding { file, path, severity, message, fix });
    }
}

/// The path of a member of the object at `path`.
pub(crate) fn member(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
