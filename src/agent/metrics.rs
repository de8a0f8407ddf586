// SPDX-License-Identifier: Apache-2.0
//! What the agent counts, in base units.

mod api;
mod buckets;
mod calls;
mod labels;
mod passes;
mod policies;
mod process;
mod stock;

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

pub(crate) use api::Api;
pub(crate) use policies::Counts;

use buckets::{gauge_value, histogram};
use calls::Calls;
use labels::State;
use passes::Passes;
use policies::Policies;
use process::Process;
use stock::Stocks;

use crate::{
    node::{apply::Report, policy::Done},
    state::{Root, operations::Operation},
};

/// All metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(super) api_connected: Gauge,
    pub(super) api: Api,
    view_generation: Gauge,
    nodes: Family<State, Gauge>,
    writes: Counter,
    write_errors: Counter,
    passes: Passes,
    event_to_kernel: Histogram,
    policies: Policies,
    calls: Calls,
    pub(super) ready: Gauge,
}

impl Metrics {
    /// Of the node that has its state below `root`.
    pub(super) fn new(root: &Root) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            api_connected: Gauge::default(),
            api: Api::default(),
            view_generation: Gauge::default(),
            nodes: Family::default(),
            writes: Counter::default(),
            write_errors: Counter::default(),
            passes: Passes::new(),
            event_to_kernel: histogram(),
            policies: Policies::new(),
            calls: Calls::new(),
            ready: Gauge::default(),
        };
        metrics.register();
        metrics.register_node(root);
        metrics
    }

    fn register(&mut self) {
        for state in ["used", "incomplete", "quarantined"] {
            drop(self.nodes.get_or_create(&State { state }));
        }
        let registry = self.registry.sub_registry_with_prefix("manx_agent");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The agent's version", version);
        let api = self.api_connected.clone();
        registry.register("api_connected", "Whether the API server tells of the nodes", api);
        self.api.register(registry);
        let generation = self.view_generation.clone();
        registry.register("view_generation", "How many lists of nodes were gone by", generation);
        let nodes = self.nodes.clone();
        registry.register("nodes", "Nodes of the cluster, by how they are served", nodes);
        registry.register("peers_file_writes", "Writings of the peers file", self.writes.clone());
        let errors = self.write_errors.clone();
        registry.register("peers_file_write_errors", "Failed writings of the peers file", errors);
        self.passes.register(registry);
        let help = "From what the API server told of a node until the kernel had its route";
        let histogram = self.event_to_kernel.clone();
        registry.register_with_unit("event_to_kernel", help, Unit::Seconds, histogram);
        registry.register("ready", "Whether pods may come to this node", self.ready.clone());
    }

    /// What is not the agent's own.
    fn register_node(&mut self, root: &Root) {
        self.calls.register(self.registry.sub_registry_with_prefix("manx_cni"));
        self.registry.register_collector(Box::new(Stocks { root: root.clone() }));
        self.registry.register_collector(Box::new(Process));
    }

    pub(super) fn viewed(&self, used: usize, incomplete: usize, quarantined: usize) {
        self.view_generation.inc();
        let counts = [("used", used), ("incomplete", incomplete), ("quarantined", quarantined)];
        for (state, count) in counts {
            self.nodes.get_or_create(&State { state }).set(gauge_value(count));
        }
    }

    pub(super) fn wrote(&self, done: bool) {
        if done {
            self.writes.inc()
        } else {
            self.write_errors.inc()
        };
    }

    /// A pass was made, in this time if it is known.
    pub(super) fn passed(&self, report: &Report, took: Option<Duration>) {
        self.passes.passed(report, took);
    }

    /// A change was made so long after it was heard.
    pub(super) fn reached(&self, after: Duration) {
        self.event_to_kernel.observe(after.as_secs_f64());
    }

    /// Network policies are enforced: what is counted of them is there from now on.
    pub(super) fn enforcing(&mut self) {
        self.policies.register(self.registry.sub_registry_with_prefix("manx_agent"));
        self.calls.register_waits(self.registry.sub_registry_with_prefix("manx_cni"));
    }

    /// A pass over network policies was made.
    pub(super) fn enforced(&self, counts: &Counts, done: Done, after: Option<Duration>) {
        self.policies.passed(counts, done, after);
    }

    /// Network policies could not be enforced.
    pub(super) fn failed_to_enforce(&self) {
        self.policies.failed();
    }

    /// So many connections were cut.
    pub(super) fn cut(&self, count: usize) {
        self.policies.cut(count);
    }

    /// A call of the plugin ended.
    pub(super) fn ended(&self, operation: &Operation) {
        self.calls.ended(operation);
    }

    /// As Prometheus reads them.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry).map(|()| text)
    }
}
