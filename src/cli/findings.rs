// SPDX-License-Identifier: Apache-2.0
//! How findings are printed for people: one line with what was seen, and below it why
//! it matters, what mends it and what takes that back. Findings that differ in their
//! object alone are one.

use std::io;

use super::Console;
use crate::{
    finding::{Finding, Severity, grouped},
    list::Gather,
    text::few::some_of,
};

pub(super) fn print<'a>(
    findings: impl IntoIterator<Item = &'a Finding>,
    console: &mut Console<'_>,
) -> io::Result<()> {
    for group in grouped(findings) {
        let Some((first, others)) = group.split_first() else { continue };
        let Finding { id, severity, object, evidence, why, fix, undo } = first;
        let more = match others.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        console.headline(*severity, format_args!("{id}: {object}{more}: {evidence}"))?;
        if !others.is_empty() {
            let names: Vec<&str> = others.iter().map(|one| one.object.as_str()).gather();
            console.line(format_args!("  and so: {} (--json has each)", some_of(&names)))?;
        }
        for (name, text) in [("why", *why), ("fix", fix), ("undo", undo)] {
            if !text.is_empty() {
                console.line(format_args!("  {name}: {text}"))?;
            }
        }
    }
    Ok(())
}

/// In one line whether all is well, what was looked at, and how much is not well.
pub(super) fn health(findings: &[Finding], what: &str) -> String {
    let count = |severity| findings.iter().filter(|one| one.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let health = if errors + warnings == 0 { "healthy" } else { "not healthy" };
    format!("{health}: {what}; errors: {errors}, warnings: {warnings}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: &'static str, name: &str, evidence: &str) -> Finding {
        let fix = format!("ip link set {name} mtu 1450");
        Finding { fix, ..Finding::new(id, Severity::Warning, format!("link {name}"), evidence) }
    }

    fn printed(findings: &[Finding]) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        print(findings, &mut Console::new(&mut out, &mut err)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_differs_in_its_object_alone_is_told_once() {
        let of_link = |number| {
            let name = format!("cali{number}");
            of("mtu-mismatch", &name, &format!("{name} has MTU 1400"))
        };
        let mut all: Vec<Finding> = (1..=500).map(of_link).collect();
        all.push(of("mtu-mismatch", "cali7", "cali7 has MTU 1300"));
        all.push(of("route-missing", "cali1", "cali1 has MTU 1400"));
        let text = printed(&all);
        let begins: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(
            begins,
            [
                "warning: mtu-mismatch: link cali1 and 499 more: cali1 has MTU 1400",
                "warning: mtu-mismatch: link cali7: cali7 has MTU 1300",
                "warning: route-missing: link cali1: cali1 has MTU 1400",
            ]
        );
        assert!(text.contains("and so: link cali2, link cali3, link cali4 and 496 more"), "{text}");
        assert_eq!(text.matches("fix: ip link set cali1 mtu 1450").count(), 2, "{text}");
    }

    #[test]
    fn one_of_a_kind_is_told_as_it_is() {
        let text = printed(&[Finding::new("ip-forward", Severity::Error, "", "it is 0")]);
        assert!(text.starts_with("error: ip-forward: : it is 0\n  why: "), "{text}");
    }
}
