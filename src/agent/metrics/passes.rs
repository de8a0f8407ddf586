// SPDX-License-Identifier: Apache-2.0
//! What is counted of the passes that keep the node true to its peers file.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{
    buckets::{gauge_value, histogram},
    labels::{Object, State},
};
use crate::{
    node::apply::Report,
    object::{Action, Kind},
};

/// Passes over the node, and what they found.
#[derive(Debug)]
pub(super) struct Passes {
    outcomes: Family<Outcome, Counter>,
    durations: Histogram,
    repairs: Family<Object, Counter>,
    routes: Family<State, Gauge>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    result: &'static str,
}

const KINDS: [Kind; 9] = [
    Kind::Link,
    Kind::Mtu,
    Kind::Address,
    Kind::Route,
    Kind::Rule,
    Kind::Neighbour,
    Kind::Forwarding,
    Kind::Sysctl,
    Kind::Table,
];

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Link => "link",
        Kind::Mtu => "mtu",
        Kind::Address => "address",
        Kind::Route => "route",
        Kind::Rule => "rule",
        Kind::Neighbour => "neighbour",
        Kind::Forwarding => "fdb",
        Kind::Sysctl => "sysctl",
        Kind::Table => "table",
    }
}

impl Passes {
    pub(super) fn new() -> Self {
        Self {
            outcomes: Family::default(),
            durations: histogram(),
            repairs: Family::default(),
            routes: Family::default(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for result in ["whole", "wanting", "failed"] {
            drop(self.outcomes.get_or_create(&Outcome { result }));
        }
        for kind in KINDS {
            drop(self.repairs.get_or_create(&Object { object: word(kind) }));
        }
        for state in ["wanted", "present", "foreign"] {
            drop(self.routes.get_or_create(&State { state }));
        }
        let outcomes = self.outcomes.clone();
        registry.register("passes", "Comparisons of the node with what it should be", outcomes);
        let help = "How long a comparison and its changes took";
        registry.register_with_unit("pass_duration", help, Unit::Seconds, self.durations.clone());
        let help = "Changes to the node, by the kind of the object";
        registry.register("repairs", help, self.repairs.clone());
        let help = "Routes to other nodes: those that should be there, those that are, and \
                    those in whose place somebody else has another";
        registry.register("routes", help, self.routes.clone());
    }

    pub(super) fn passed(&self, report: &Report, took: Option<Duration>) {
        let result = match (report.whole, report.errors.is_empty()) {
            (true, true) => "whole",
            (false, true) => "wanting",
            (_, false) => "failed",
        };
        self.outcomes.get_or_create(&Outcome { result }).inc();
        if let Some(took) = took {
            self.durations.observe(took.as_secs_f64());
        }
        for line in report.lines.iter().filter(|line| line.action != Action::Conflict) {
            self.repairs.get_or_create(&Object { object: word(line.kind) }).inc();
        }
        if let Some(wanted) = report.routes {
            self.count_routes(report, wanted);
        }
    }

    fn count_routes(&self, report: &Report, wanted: usize) {
        let routes = |action: &dyn Fn(Action) -> bool| {
            let told = report.lines.iter().chain(&report.unmade);
            told.filter(|line| line.kind == Kind::Route && action(line.action)).count()
        };
        let foreign = routes(&|action| action == Action::Conflict);
        let unmade = report.unmade.iter().filter(|line| {
            line.kind == Kind::Route && matches!(line.action, Action::Create | Action::Replace)
        });
        let present = wanted.saturating_sub(foreign + unmade.count());
        for (state, count) in [("wanted", wanted), ("present", present), ("foreign", foreign)] {
            self.routes.get_or_create(&State { state }).set(gauge_value(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::object::Told;

    fn route(action: Action) -> Told {
        let object = "route 10.244.2.0/24".to_owned();
        Told { kind: Kind::Route, action, object, before: None, after: None }
    }

    fn text(passes: &Passes) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        passes.register(&mut registry);
        encode(&mut text, &registry).unwrap();
        text
    }

    fn assert_has(passes: &Passes, lines: &[&str]) {
        let text = text(passes);
        for line in lines {
            assert!(text.lines().any(|one| one == *line), "{line}: {text}");
        }
    }

    #[test]
    fn a_pass_tells_what_became_of_the_routes() {
        let passes = Passes::new();
        let report = Report {
            lines: vec![route(Action::Create), route(Action::Conflict), route(Action::Delete)],
            unmade: vec![route(Action::Create), route(Action::Delete)],
            routes: Some(10),
            ..Report::default()
        };
        passes.passed(&report, Some(Duration::from_millis(3)));
        assert_has(
            &passes,
            &[
                "routes{state=\"wanted\"} 10",
                "routes{state=\"foreign\"} 1",
                "routes{state=\"present\"} 8",
                "repairs_total{object=\"route\"} 2",
                "repairs_total{object=\"fdb\"} 0",
                "pass_duration_seconds_count 1",
                "pass_duration_seconds_bucket{le=\"0.0025\"} 0",
                "pass_duration_seconds_bucket{le=\"0.005\"} 1",
            ],
        );
        // One that compared nothing says nothing of them.
        let failed = Report { errors: vec!["busy".to_owned()], ..Report::default() };
        passes.passed(&failed, None);
        assert_has(&passes, &["routes{state=\"wanted\"} 10", "passes_total{result=\"failed\"} 1"]);
    }
}
