// SPDX-License-Identifier: Apache-2.0
//! What nodes measured of each other, as a table with a colour for each time.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    net::IpAddr,
};

use super::{
    cluster::{Cluster, End},
    html::{CLOSE_TABLE, Text, count, cut, remark},
    probed::Path,
};
use crate::list::{Gather, Ordered};

/// So many nodes have a column.
const COLUMNS_MAX: usize = 18;
/// With more of them each has a number and no more.
const ROOMY_MAX: usize = 6;
/// So many nodes have a row.
const ROWS_MAX: usize = 40;

/// So much of a name is shown, in characters.
const NAME_MAX: usize = 40;

/// The upper ends of the steps of the scale, in microseconds; there is one more above.
const STEPS_US: [u64; 4] = [300, 1_000, 3_000, 10_000];
const STEP_NAMES: [&str; 5] =
    ["below 0.3 ms", "below 1 ms", "below 3 ms", "below 10 ms", "10 ms or more"];

/// What one node measured, by who is at the other end.
pub(super) struct Measured<'a> {
    pub(super) paths: BTreeMap<End, &'a [Path]>,
}

impl<'a> Measured<'a> {
    /// What each node measured.
    pub(super) fn all(cluster: &'a Cluster) -> BTreeMap<End, Self> {
        let mut all: BTreeMap<End, Self> = BTreeMap::new();
        for probed in &cluster.probes {
            let Some(from) = cluster.prober(probed) else { continue };
            let of = all.entry(from).or_insert(Self { paths: BTreeMap::new() });
            for (name, paths) in &probed.peers {
                let outer = paths.iter().filter(|path| !path.inner);
                let addresses: Vec<IpAddr> =
                    outer.filter_map(|path| path.address.parse().ok()).gather();
                if let Some(to) = cluster.find(name, &addresses) {
                    of.paths.insert(to, paths);
                }
            }
        }
        all
    }
}

/// Both tables, or one that says that nothing was probed.
pub(super) fn draw(out: &mut String, cluster: &Cluster) -> fmt::Result {
    let measured = Measured::all(cluster);
    let mut columns = columns(cluster, &measured);
    let is_row = |end: &End| matches!(end, End::View(_)) || measured.contains_key(end);
    let mut rows: Vec<End> = cluster.ends().filter(is_row).gather();
    // Those that measured something are worth a row.
    rows.order_by_key(|end| !measured.contains_key(end));
    rows.truncate(ROWS_MAX);
    if measured.is_empty() {
        columns.truncate(ROOMY_MAX);
        table(out, cluster, "Not probed", (&rows, &columns), &|_, _| Vec::new())?;
        return remark(
            out,
            "Nothing was probed. On each node, manx probe --json > NODE.probe.json measures; \
             manx report BUNDLE… --probe NODE.probe.json shows it here.",
        );
    }
    for (inner, title) in [
        (true, "Between pods, by the tunnel where there is one"),
        (false, "Between the nodes' own addresses"),
    ] {
        let of = |from: End, to: End| -> Vec<&Path> {
            let paths = measured.get(&from).and_then(|of| of.paths.get(&to)).copied();
            paths.unwrap_or_default().iter().filter(|path| path.inner == inner).gather()
        };
        table(out, cluster, title, (&rows, &columns), &of)?;
    }
    legend(out)
}

/// Those that answer worst, then those with a bundle.
fn columns(cluster: &Cluster, measured: &BTreeMap<End, Measured<'_>>) -> Vec<End> {
    let badness = |end: &End| {
        let paths = measured.values().filter_map(|of| of.paths.get(end)).copied().flatten();
        let worst = paths.map(|path| match (path.answers(), path.is_narrow()) {
            (false, _) => 3,
            (_, true) => 2,
            _ => 1,
        });
        let worst = worst.max().unwrap_or(0);
        (std::cmp::Reverse(worst.max(1)), *end)
    };
    let mut worst = cluster.ends().map(|end| badness(&end)).gather();
    worst.order();
    let mut ends: Vec<End> = worst.into_iter().take(COLUMNS_MAX).map(|(_, end)| end).gather();
    ends.order();
    ends
}

fn table<'a>(
    out: &mut String,
    cluster: &Cluster,
    title: &str,
    (rows, columns): (&[End], &[End]),
    of: &dyn Fn(End, End) -> Vec<&'a Path>,
) -> fmt::Result {
    let short = |end: End| cut(cluster.short(end), NAME_MAX);
    let is_dense = columns.len() > ROOMY_MAX;
    let (class, unit) = if is_dense { ("heat dense", ", in ms") } else { ("heat", "") };
    writeln!(
        out,
        r#"<h3>{title}{unit}</h3><div class="wide" role="region" tabindex="0" aria-label="{title}"><table class="{class}"><thead><tr><th scope="col">from \ to</th>"#
    )?;
    for end in columns {
        write!(out, r#"<th scope="col">{}</th>"#, Text(&short(*end)))?;
    }
    out.write_str("</tr></thead><tbody>\n")?;
    for from in rows {
        write!(out, r#"<tr><th scope="row">{}</th>"#, Text(&short(*from)))?;
        for to in columns {
            match from == to {
                true => out.write_str(r#"<td class="self">itself</td>"#)?,
                false => cell(out, &of(*from, *to), is_dense)?,
            }
        }
        out.write_str("</tr>\n")?;
    }
    out.write_str(CLOSE_TABLE)?;
    let all = cluster.views.len() + cluster.others.len();
    if all > columns.len() {
        let more = count(all - columns.len(), "more node has", "more nodes have");
        remark(out, &format!("{more} no column; those that answer worst come first."))?;
    }
    Ok(())
}

/// The worst of its paths decides about the colour.
fn cell(out: &mut String, paths: &[&Path], is_dense: bool) -> fmt::Result {
    let Some(worst) = paths.iter().map(|path| step(path)).max() else {
        return out.write_str(r#"<td class="none">not probed</td>"#);
    };
    let is_flawed = paths.iter().any(|path| path.is_narrow() || path.loss().unwrap_or(0) > 0);
    let flawed = if is_flawed && worst < 5 { " flawed" } else { "" };
    write!(out, r#"<td class="step{worst}{flawed}">"#)?;
    for (place, path) in paths.iter().enumerate() {
        if place > 0 {
            out.write_str("<br>")?;
        }
        if paths.len() > 1 {
            out.write_str(if path.ipv6 { "IPv6 " } else { "IPv4 " })?;
        }
        words(out, path, is_dense)?;
    }
    out.write_str("</td>")
}

/// From 0, the fastest; 5 is no answer.
fn step(path: &Path) -> usize {
    match (path.answers(), path.rtt_us) {
        (false, _) => STEPS_US.len() + 1,
        (true, None) => 0,
        (true, Some(time)) => STEPS_US.iter().filter(|end| time >= **end).count(),
    }
}

fn words(out: &mut String, path: &Path, is_dense: bool) -> fmt::Result {
    match (path.answers(), path.rtt_us) {
        (false, _) => return out.write_str("no answer"),
        (true, None) => out.write_str("answers")?,
        (true, Some(time)) => {
            let (whole, part) = (time / 1000, time % 1000 / 10);
            let unit = if is_dense { "" } else { " ms" };
            write!(out, "{whole}.{part:02}{unit}")?;
        }
    }
    if let Some(loss) = path.loss().filter(|loss| *loss > 0 && path.received > 0) {
        write!(out, "<br><b>{loss} % lost</b>")?;
    }
    match path.passed {
        Some(passed) if path.is_narrow() => {
            write!(out, "<br><b>MTU {passed} of {}</b>", path.needed.unwrap_or_default())
        }
        Some(passed) if !is_dense => write!(out, "<br>MTU {passed}"),
        _ => Ok(()),
    }
}

fn legend(out: &mut String) -> fmt::Result {
    out.write_str("<p class=\"legend scale\">")?;
    for (place, name) in STEP_NAMES.iter().enumerate() {
        write!(out, r#"<span class="step{place}">{name}</span> "#)?;
    }
    out.write_str("<span class=\"step5\">no answer</span> <span class=\"none\">not probed</span> <span class=\"flawed\">loss, or less than pods may send</span></p>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(paths: &[Path]) -> String {
        let mut out = String::new();
        cell(&mut out, &paths.iter().collect::<Vec<_>>(), false).unwrap();
        out
    }

    fn path(rtt_us: u64) -> Path {
        Path {
            sent: 3,
            received: 3,
            rtt_us: Some(rtt_us),
            needed: Some(1450),
            passed: Some(1450),
            ..Path::default()
        }
    }

    #[test]
    fn a_cell_has_its_number_and_the_colour_of_the_worst() {
        assert_eq!(shown(&[]), r#"<td class="none">not probed</td>"#);
        assert_eq!(shown(&[path(210)]), r#"<td class="step0">0.21 ms<br>MTU 1450</td>"#);
        assert!(shown(&[path(300)]).contains("step1"));
        assert!(shown(&[path(12_345)]).contains("\"step4\">12.34 ms"));
        let narrow = Path { passed: Some(1400), lost: Some(1401), received: 2, ..path(1) };
        let told = shown(&[narrow]);
        assert!(told.contains("step0 flawed") && told.contains("33 % lost"), "{told}");
        assert!(told.contains("MTU 1400 of 1450"), "{told}");
        let silent = Path { received: 0, ipv6: true, ..path(1) };
        let told = shown(&[path(210), silent]);
        assert!(
            told.contains("\"step5\">IPv4 0.21 ms") && told.ends_with("IPv6 no answer</td>"),
            "{told}"
        );
    }
}
