//! How findings are printed for people: one line with what was seen, and below it why
//! it matters, what mends it and what takes that back.

use std::io;

use super::Console;
use crate::finding::Finding;

pub(super) fn print<'a>(
    findings: impl IntoIterator<Item = &'a Finding>,
    console: &mut Console<'_>,
) -> io::Result<()> {
    for Finding { id, severity, object, evidence, why, fix, undo } in findings {
        console.line(format_args!("{}: {id}: {object}: {evidence}", severity.as_str()))?;
        for (name, text) in [("why", *why), ("fix", fix), ("undo", undo)] {
            if !text.is_empty() {
                console.line(format_args!("  {name}: {text}"))?;
            }
        }
    }
    Ok(())
}
