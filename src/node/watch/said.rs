//! What a watch says.

use super::super::apply::Report;

/// What a watch says.
pub(crate) enum Said {
    /// What came of a pass.
    Report(Box<Report>),
    /// Something besides.
    Remark(String),
}
