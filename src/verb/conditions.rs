// SPDX-License-Identifier: Apache-2.0
//! What a STATUS finds, in the log: when it begins, changes and ends.

use log::Level;

use super::lasting;
use crate::{cni::Error, finding::Finding, list::Gather, state::Root};

/// Logs how a STATUS ended, as far as it is news.
pub(super) fn tell(root: &Root, subject: &str, outcome: &Result<Vec<Finding>, Error>) {
    let said = |finding: &Finding| format!("{}: {}", finding.id, finding.evidence);
    let (level, now) = match outcome {
        Ok(warnings) => (Level::Warn, warnings.iter().map(said).gather()),
        Err(error) => (Level::Error, vec![format!("code={}: {error}", error.code.0)]),
    };
    lasting::tell(root, subject, level, &now);
}
