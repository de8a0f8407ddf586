// SPDX-License-Identifier: Apache-2.0
//! What manx has to reach, and whether it does, in one run on one machine.

use serde::Serialize;

use super::Report;
use crate::attach::Row;
use crate::goals::{GOALS, Goal};
use crate::scale::Pass;
use crate::subjects::{Kind, Setting};

/// A limit and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    pub what: String,
    pub wanted: String,
    /// `None` where this run did not measure it.
    pub reached: Option<String>,
    pub met: Option<bool>,
    /// The section that measures it.
    pub section: &'static str,
}

const V4: Setting = Setting { dual_stack: false, masquerade: false };
const MIB: f64 = 1024.0 * 1024.0;

/// A ratio that has to be at most, or at least, so much.
#[derive(Debug)]
pub enum Limit {
    AtMost(f64),
    AtLeast(f64),
    Exactly(f64),
}

impl Limit {
    fn holds(&self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= *most,
            Self::AtLeast(least) => value >= *least,
            Self::Exactly(wanted) => value == *wanted,
        }
    }

    fn words(&self, unit: &str) -> String {
        match self {
            Self::AtMost(most) => format!("at most {most} {unit}"),
            Self::AtLeast(least) => format!("at least {least} {unit}"),
            Self::Exactly(wanted) => format!("{wanted} {unit}"),
        }
    }
}

fn target(
    section: &'static str,
    what: &str,
    limit: &Limit,
    unit: &str,
    value: Option<f64>,
) -> Target {
    Target {
        what: what.into(),
        wanted: limit.words(unit),
        reached: value.map(|value| format!("{value:.2} {unit}")),
        met: value.map(|value| limit.holds(value)),
        section,
    }
}

/// All of them, in the order of the sections.
pub fn all(report: &Report) -> Vec<Target> {
    let mut targets = attach(report);
    targets.extend(scale(report));
    targets.extend(goals(report));
    targets.extend(size(report));
    targets
}

fn attach(report: &Report) -> Vec<Target> {
    // With IPAM of its own; another process per ADD is another matter.
    let manx = Kind::ManxIpam;
    let alone = |kind, setting| report.row(kind, setting, 1, None);
    let add = |row: &Row| row.add.p50_ms;
    let del = |row: &Row| row.del.p50_ms;
    let ratio = |over: Option<f64>, under: Option<f64>| Some(over? / under?);
    let add_of = |kind, setting| alone(kind, setting).map(add);
    let del_of = |kind, setting| alone(kind, setting).map(del);
    let crowded = |present| report.row(manx, V4, 1, Some(present)).map(add);
    let rate = |kind| report.row(kind, V4, 100, None).map(|row| row.add_per_second);
    vec![
        target(
            "attach",
            "ADD one after another, v4, built-in IPAM, p50",
            &Limit::AtMost(1.5),
            "times the floor",
            ratio(add_of(manx, V4), add_of(Kind::Floor, V4)),
        ),
        target(
            "attach",
            "the same against ptp + host-local",
            &Limit::AtLeast(6.0),
            "times as fast",
            ratio(add_of(Kind::Ptp, V4), add_of(manx, V4)),
        ),
        target(
            "attach",
            "DEL one after another, v4, p50",
            &Limit::AtMost(1.15),
            "times the floor",
            ratio(del_of(manx, V4), del_of(Kind::Floor, V4)),
        ),
        target(
            "attach",
            "ADD of 100 pods at once against ptp + host-local",
            &Limit::AtLeast(5.0),
            "times as many a second",
            ratio(rate(manx), rate(Kind::Ptp)),
        ),
        target(
            "attach",
            "ADD where 2000 pods are, p50",
            &Limit::AtMost(1.3),
            "times that of an empty node",
            ratio(crowded(2000), crowded(0)),
        ),
    ]
}

/// Each with its spread.
fn goals(report: &Report) -> Vec<Target> {
    let target = |goal: &Goal| {
        let row = report.goals.iter().find(|row| row.what == goal.what);
        Target {
            what: goal.what.into(),
            wanted: goal.limit.words(goal.unit),
            reached: row.map(|row| format!("{} {}", row.told(), goal.unit)),
            met: row.map(|row| goal.limit.holds(row.value())),
            section: goal.section,
        }
    };
    GOALS.iter().map(target).collect()
}

fn scale(report: &Report) -> Vec<Target> {
    let of = |pass: fn(&crate::scale::Row) -> Pass| {
        report.scale.iter().filter(|row| row.peers == 5000).map(pass)
    };
    let cpu = of(|row| row.from_nothing).filter_map(|pass| pass.user_ms).reduce(f64::max);
    let changes = |mode: &str, wanted: f64| {
        let mut rows = report.scale.iter().filter(|row| row.peers == 5000);
        let row = rows.find(|row| row.mode == mode);
        target(
            "scale",
            &format!("apply with one of 5000 peers changed, changes sent, mode {mode}"),
            &Limit::Exactly(wanted),
            "messages",
            row.map(|row| row.one_changed.changes as f64),
        )
    };
    vec![
        target(
            "scale",
            "apply of 5000 peers from nothing, our own processor time (in user space), the worse mode",
            &Limit::AtMost(250.0),
            "ms",
            cpu,
        ),
        // The route.
        changes("direct", 1.0),
        // The forwarding entry; of the tunnels' table, the address that goes and the one
        // that comes.
        changes("vxlan", 3.0),
    ]
}

fn size(report: &Report) -> Vec<Target> {
    let size = report.size.as_ref();
    let bytes = size.map(|size| size.binary_bytes as f64 / MIB);
    let peak = size.and_then(|size| size.verbs.iter().map(|verb| verb.peak_kib).max());
    vec![
        target("size", "static binary", &Limit::AtMost(3.0), "MiB", bytes),
        target(
            "size",
            "peak resident memory of the largest verb",
            &Limit::AtMost(5.0),
            "MiB",
            peak.map(|kib| kib as f64 / 1024.0),
        ),
    ]
}

/// What keeps the targets of the sections that ran from being met.
pub fn misses(report: &Report) -> Vec<String> {
    let ran = |target: &&Target| report.sections.iter().any(|name| name == target.section);
    let miss = |target: &Target| match target.met {
        Some(true) => None,
        Some(false) => {
            let reached = target.reached.as_deref().unwrap_or_default();
            Some(format!("{}: {reached}, wanted {}", target.what, target.wanted))
        }
        None => Some(format!("{}: not measured in this run", target.what)),
    };
    report.targets.iter().filter(ran).filter_map(miss).collect()
}
