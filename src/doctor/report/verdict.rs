// SPDX-License-Identifier: Apache-2.0
//! How the whole cluster stands, in one sentence, and the likely cause.

use super::{
    cluster::Cluster,
    html::{Mark, count},
    view::Group,
};
use crate::finding::{Finding, Severity};

/// The verdict.
pub(super) struct Verdict<'a> {
    pub(super) mark: Mark,
    pub(super) headline: &'static str,
    /// What was counted.
    pub(super) counted: String,
    /// The likely cause, and where it is.
    pub(super) cause: Option<(&'a str, &'a Finding)>,
}

/// The worst of the differences and of the nodes.
pub(super) fn verdict<'a>(cluster: &'a Cluster, differences: &'a [Group]) -> Verdict<'a> {
    let views = &cluster.views;
    let of_probes = cluster.probes.iter().flat_map(|probed| {
        let name = cluster.prober(probed).map(|end| cluster.name(end)).unwrap_or_default();
        probed.groups.iter().map(move |group| (name, &group.first))
    });
    let of_nodes = views
        .iter()
        .flat_map(|view| view.groups.iter().map(|group| (view.name.as_str(), &group.first)));
    let between = differences.iter().map(|group| ("Between nodes", &group.first));
    // Of what is equally bad the first counts: a node that is not ready is worse than another one.
    let is_blocked =
        |name: &str| views.iter().any(|view| view.name == name && !view.reason.is_empty());
    let all = between.chain(of_nodes).chain(of_probes);
    let bad = all.filter(|(_, one)| one.severity != Severity::Info);
    let cause = bad.min_by_key(|(name, one)| (one.severity, !is_blocked(name)));
    let mark = cause.map_or(Mark::Fine, |(_, one)| one.severity.into());
    let headline = if mark == Mark::Fine { "Healthy" } else { "Not healthy" };
    Verdict { mark, headline, counted: counted(cluster, differences), cause }
}

fn counted(cluster: &Cluster, differences: &[Group]) -> String {
    let views = &cluster.views;
    let sum = |of: fn(&super::view::View) -> usize| views.iter().map(of).sum::<usize>();
    let (errors, warnings) = (sum(|view| view.errors), sum(|view| view.warnings));
    let wrong = views.iter().filter(|view| view.errors + view.warnings > 0).count();
    let (errors, warnings) =
        (count(errors, "error", "errors"), count(warnings, "warning", "warnings"));
    let of = count(views.len(), "node", "nodes");
    let nodes = match wrong {
        0 => format!("no errors and no warnings on {of}"),
        _ => format!("{errors} and {warnings} on {wrong} of {of}"),
    };
    let probed = cluster.probes.iter().flat_map(|probed| &probed.groups);
    let probed = probed.filter(|group| group.first.severity != Severity::Info).count();
    let probed = match probed {
        0 => String::new(),
        more => format!(", {} by probes", count(more, "finding", "findings")),
    };
    let agree = match (differences.len(), views.len()) {
        (_, 0 | 1) => String::new(),
        (0, _) => ", and the nodes agree".to_owned(),
        (more, _) => format!(", and {} between nodes", count(more, "difference", "differences")),
    };
    format!("{nodes}{probed}{agree}")
}
