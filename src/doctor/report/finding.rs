// SPDX-License-Identifier: Apache-2.0
//! Findings on a page: what was seen, why it matters, what mends it and what takes that
//! back.

use std::fmt::{self, Write};

use super::{
    html::{Mark, Text, count, mark, open_details, remark},
    view::Group,
};
use crate::text::few::some_of;

/// So many groups of one place are told in full.
const GROUPS_MAX: usize = 40;

/// The worst first; what is merely worth knowing is folded up.
pub(super) fn draw(out: &mut String, groups: &[Group]) -> fmt::Result {
    let is_info = |group: &&Group| Mark::from(group.first.severity) == Mark::Info;
    let (infos, bad): (Vec<&Group>, Vec<&Group>) = groups.iter().partition(is_info);
    for group in bad.iter().take(GROUPS_MAX) {
        article(out, group)?;
    }
    if bad.len() > GROUPS_MAX {
        let more = count(bad.len() - GROUPS_MAX, "more finding", "more findings");
        remark(out, &format!("{more}; manx doctor --bundle FILE lists all."))?;
    }
    if infos.is_empty() {
        return Ok(());
    }
    open_details(out, &count(infos.len(), "thing worth knowing", "things worth knowing"), false)?;
    for group in infos.iter().take(GROUPS_MAX) {
        article(out, group)?;
    }
    out.write_str("</details>\n")
}

fn article(out: &mut String, Group { first, others }: &Group) -> fmt::Result {
    let severity = Mark::from(first.severity);
    write!(out, r#"<article class="finding {}"><h4>"#, severity.class())?;
    mark(out, severity, first.severity.as_str())?;
    let more = match others.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (id, object, evidence) = (first.id, Text(&first.object), Text(&first.evidence));
    writeln!(out, r#" <span class="object">{object}{more}</span> <code>{id}</code></h4>"#)?;
    writeln!(out, "<p>{evidence}</p><dl>")?;
    if !others.is_empty() {
        writeln!(out, "<dt>And so</dt><dd>{}</dd>", Text(&some_of(others)))?;
    }
    if !first.why.is_empty() {
        writeln!(out, "<dt>Why</dt><dd>{}</dd>", Text(first.why))?;
    }
    for (name, text) in [("Fix", &first.fix), ("Undo", &first.undo)] {
        if !text.is_empty() {
            writeln!(out, "<dt>{name}</dt><dd><code>{}</code></dd>", Text(text))?;
        }
    }
    out.write_str("</dl></article>\n")
}
