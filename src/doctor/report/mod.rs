// SPDX-License-Identifier: Apache-2.0
//! One page of HTML about one or several nodes, by their bundles: pure functions of what
//! the bundles hold. It needs no network, no script, and no other file.

mod cluster;
mod differences;
mod drawing;
mod fault;
mod finding;
mod html;
mod matrix;
mod mtu;
mod node;
mod probed;
mod said;
mod settings;
#[cfg(test)]
mod tests;
mod verdict;
mod view;

use std::{
    cmp::Reverse,
    fmt::{self, Write},
};

use crate::list::{Gather, Ordered};
use html::{CLOSE_TABLE, SHAPES, Text, count, mark, remark};
use verdict::Verdict;
use view::Group;

pub use cluster::Cluster;
pub use probed::Probed;
pub use view::View;

/// So many nodes have a section; the others have a row.
const SECTIONS_MAX: usize = 60;
/// So many nodes have a row.
const ROWS_MAX: usize = 500;

/// Nothing but a style of its own.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The page.
pub fn page(cluster: &Cluster) -> String {
    let mut out = String::new();
    // A string takes all that is written.
    let _ = write(&mut out, cluster);
    out
}

fn write(out: &mut String, cluster: &Cluster) -> fmt::Result {
    let found = differences::differences(cluster);
    let differences = Group::all(&found);
    let verdict = verdict::verdict(cluster, &differences);
    write!(
        out,
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>manx report: {} ({})</title>
<style>
{}</style></head><body>
{SHAPES}<main>
"#,
        verdict.headline,
        Text(&titled(cluster)),
        include_str!("style.css")
    )?;
    head(out, cluster, &verdict)?;
    if !differences.is_empty() {
        out.write_str("<section id=\"differences\"><h2>Between nodes</h2>\n")?;
        remark(out, "What no node can see of itself: in this the bundles do not agree.")?;
        finding::draw(out, &differences)?;
        out.write_str("</section>\n")?;
    }
    out.write_str("<section id=\"topology\"><h2>Topology</h2>\n")?;
    drawing::draw(out, cluster)?;
    out.write_str("</section>\n<section id=\"mtu\"><h2>MTU</h2>\n")?;
    mtu::draw(out, &cluster.views)?;
    out.write_str("</section>\n<section id=\"probes\"><h2>Probes</h2>\n")?;
    matrix::draw(out, cluster)?;
    out.write_str("</section>\n<section id=\"nodes\"><h2>Nodes</h2>\n")?;
    nodes(out, cluster)?;
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        out,
        "</section>\n<footer>manx report {version}. It says how each node was when its bundle was written.</footer>\n</main></body></html>"
    )
}

/// A few of the nodes.
fn titled(cluster: &Cluster) -> String {
    let names: Vec<&str> = cluster.views.iter().map(|view| view.name.as_str()).gather();
    crate::text::few::some_of(&names)
}

fn head(out: &mut String, cluster: &Cluster, verdict: &Verdict<'_>) -> fmt::Result {
    writeln!(
        out,
        "<header><p class=\"title\">manx report <span>{}</span></p>",
        Text(&titled(cluster))
    )?;
    writeln!(out, r#"<div class="verdict {}"><h1>"#, verdict.mark.class())?;
    mark(out, verdict.mark, verdict.headline)?;
    writeln!(out, "</h1><p>{}.</p>", Text(&verdict.counted))?;
    if let Some((place, one)) = verdict.cause {
        let (id, object, evidence) = (one.id, Text(&one.object), Text(&one.evidence));
        writeln!(
            out,
            r#"<p class="cause"><b>{}</b>: {object}: {evidence} <code>{id}</code></p>"#,
            Text(place)
        )?;
        if !one.fix.is_empty() {
            writeln!(out, r#"<p class="cause">Fix: <code>{}</code></p>"#, Text(&one.fix))?;
        }
    }
    out.write_str("</div>\n")?;
    let others = cluster.others.len();
    if others > 0 {
        let (is, lists) =
            (count(others, "node is", "nodes are"), "known by the lists of others alone");
        remark(out, &format!("{is} {lists}: what is wrong there is not on this page."))?;
    }
    if let Some(words) = moments(&cluster.views) {
        remark(out, &words)?;
    }
    out.write_str("<nav>")?;
    for (id, name) in
        [("topology", "Topology"), ("mtu", "MTU"), ("probes", "Probes"), ("nodes", "Nodes")]
    {
        write!(out, r##"<a href="#{id}">{name}</a> "##)?;
    }
    out.write_str("</nav></header>\n")
}

/// When the bundles were written: what changed in between differs, and is no fault.
fn moments(views: &[View]) -> Option<String> {
    let moments = || views.iter().map(|view| view.taken_at.as_str()).filter(|at| !at.is_empty());
    let (first, last) = (moments().min()?, moments().max()?);
    Some(match first == last {
        true => format!("Written at {first}."),
        false => format!("The bundles were written between {first} and {last}."),
    })
}

/// A row of each, and then a section of each.
fn nodes(out: &mut String, cluster: &Cluster) -> fmt::Result {
    let views = &cluster.views;
    let mut places: Vec<usize> = (0..views.len()).gather();
    if views.len() > SECTIONS_MAX {
        let badness = |place: &usize| views.get(*place).map(|view| (view.errors, view.warnings));
        places.order_by_key(|place| Reverse(badness(place)));
    }
    if views.len() > 1 {
        out.write_str(r#"<div class="wide" role="region" tabindex="0" aria-label="all nodes"><table><thead><tr>"#)?;
        for header in ["Node", "State", "Errors", "Warnings", "Other nodes", "Pods"] {
            write!(out, r#"<th scope="col">{header}</th>"#)?;
        }
        out.write_str("</tr></thead><tbody>\n")?;
        for (order, place) in places.iter().enumerate().take(ROWS_MAX) {
            let Some(view) = views.get(*place) else { continue };
            overview(out, view, (order < SECTIONS_MAX).then_some(*place))?;
        }
        out.write_str(CLOSE_TABLE)?;
        if views.len() > ROWS_MAX {
            remark(out, &count(views.len() - ROWS_MAX, "more node.", "more nodes."))?;
        }
    }
    places.truncate(SECTIONS_MAX);
    let rows = node::Rows::of(places.len());
    for place in places {
        node::draw(out, cluster, place, rows)?;
    }
    Ok(())
}

fn overview(out: &mut String, view: &View, section: Option<usize>) -> fmt::Result {
    let name = Text(&view.name);
    match section {
        Some(place) => {
            write!(out, r##"<tr><th scope="row"><a href="#node-{place}">{name}</a></th>"##)?
        }
        None => write!(out, r#"<tr><th scope="row">{name}</th>"#)?,
    }
    out.write_str("<td>")?;
    mark(out, view.mark(), view.state.as_str())?;
    let peers: usize = view.ways.iter().map(|way| way.peers.len()).sum();
    let (errors, warnings, pods) = (view.errors, view.warnings, view.pods.len());
    writeln!(out, "</td><td>{errors}</td><td>{warnings}</td><td>{peers}</td><td>{pods}</td></tr>")
}
