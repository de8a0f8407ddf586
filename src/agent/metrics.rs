//! What the agent counts, in base units.

use std::{fmt, sync::atomic::AtomicU64, time::SystemTime};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use crate::{node::apply::Report, object::Action};

type Seconds = Gauge<f64, AtomicU64>;

/// All metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(super) api_connected: Gauge,
    last_sync: Seconds,
    view_generation: Gauge,
    nodes: Family<State, Gauge>,
    writes: Counter,
    write_errors: Counter,
    passes: Family<Outcome, Counter>,
    repairs: Family<Object, Counter>,
    pub(super) ready: Gauge,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Object {
    object: String,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("manx_agent"),
            api_connected: Gauge::default(),
            last_sync: Seconds::default(),
            view_generation: Gauge::default(),
            nodes: Family::default(),
            writes: Counter::default(),
            write_errors: Counter::default(),
            passes: Family::default(),
            repairs: Family::default(),
            ready: Gauge::default(),
        };
        metrics.register();
        for state in ["used", "incomplete", "quarantined"] {
            drop(metrics.nodes.get_or_create(&State { state }));
        }
        for result in ["whole", "wanting", "failed"] {
            drop(metrics.passes.get_or_create(&Outcome { result }));
        }
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The agent's version", version);
        let api = self.api_connected.clone();
        registry.register("api_connected", "Whether the API server tells of the nodes", api);
        registry.register_with_unit(
            "last_sync_timestamp",
            "When a complete list of nodes was there last",
            Unit::Seconds,
            self.last_sync.clone(),
        );
        let generation = self.view_generation.clone();
        registry.register("view_generation", "How many lists of nodes were gone by", generation);
        let nodes = self.nodes.clone();
        registry.register("nodes", "Nodes of the cluster, by how they are served", nodes);
        registry.register("peers_file_writes", "Writings of the peers file", self.writes.clone());
        let errors = self.write_errors.clone();
        registry.register("peers_file_write_errors", "Failed writings of the peers file", errors);
        let passes = self.passes.clone();
        registry.register("passes", "Comparisons of the node with what it should be", passes);
        let repairs = self.repairs.clone();
        registry.register("repairs", "Changes to the node, by the kind of the object", repairs);
        registry.register("ready", "Whether pods may come to this node", self.ready.clone());
    }

    pub(super) fn listed(&self) {
        self.api_connected.set(1);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.last_sync.set(now.as_secs_f64());
    }

    pub(super) fn viewed(&self, used: usize, incomplete: usize, quarantined: usize) {
        self.view_generation.inc();
        let counts = [("used", used), ("incomplete", incomplete), ("quarantined", quarantined)];
        for (state, count) in counts {
            let gauge = self.nodes.get_or_create(&State { state });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn wrote(&self, done: bool) {
        if done {
            self.writes.inc()
        } else {
            self.write_errors.inc()
        };
    }

    pub(super) fn passed(&self, report: &Report) {
        let result = match (report.whole, report.errors.is_empty()) {
            (true, true) => "whole",
            (false, true) => "wanting",
            (_, false) => "failed",
        };
        self.passes.get_or_create(&Outcome { result }).inc();
        for line in report.lines.iter().filter(|line| line.action != Action::Conflict) {
            let object = format!("{:?}", line.kind).to_lowercase();
            self.repairs.get_or_create(&Object { object }).inc();
        }
    }

    /// As Prometheus reads them.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map(|()| text)
    }
}
