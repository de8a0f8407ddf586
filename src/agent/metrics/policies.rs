// SPDX-License-Identifier: Apache-2.0
//! What is counted of network policies.

use std::{
    fmt,
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

use super::{
    buckets::{gauge_value, histogram},
    labels::{Object, State, Way},
};
use crate::{
    node::policy::{Done, denied_packets},
    policy,
};

/// Objects that policies are about, and what was made of them.
#[derive(Debug)]
pub(super) struct Policies {
    objects: Family<Object, Gauge>,
    pods: Family<State, Gauge>,
    commits: Counter,
    reads: Counter,
    errors: Counter,
    cut: Counter,
    last_commit: Gauge<f64, AtomicU64>,
    event_to_kernel: Histogram,
}

/// How many there are of everything.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) namespaces: usize,
    pub(crate) pods: usize,
    pub(crate) policies: usize,
    /// Policies of which something could not be understood.
    pub(crate) unreadable: usize,
    /// Pods of this node that policies isolate.
    pub(crate) isolated: usize,
    /// Pods of this node that wait for somebody to say what is about them, or are closed.
    pub(crate) unknown: usize,
}

impl Policies {
    pub(super) fn new() -> Self {
        Self {
            objects: Family::default(),
            pods: Family::default(),
            commits: Counter::default(),
            reads: Counter::default(),
            errors: Counter::default(),
            cut: Counter::default(),
            last_commit: Gauge::default(),
            event_to_kernel: histogram(),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Denials));
        let registry = registry.sub_registry_with_prefix("policy");
        let help = "Objects of the cluster that network policies are about";
        registry.register("objects", help, self.objects.clone());
        let help = "Pods of this node that network policies isolate, and those of which nobody \
                    has said yet which are about them";
        registry.register("pods", help, self.pods.clone());
        let help = "Changes to the table of network policies";
        registry.register("commits", help, self.commits.clone());
        let help = "How often all of the table of network policies was read";
        registry.register("reads", help, self.reads.clone());
        let help = "Changes to the table of network policies that failed";
        registry.register("errors", help, self.errors.clone());
        let help = "Established connections that were cut because no policy allows them any more";
        registry.register("connections_cut", help, self.cut.clone());
        let help = "When the table of network policies was changed last";
        let last = self.last_commit.clone();
        registry.register_with_unit("last_commit_timestamp", help, Unit::Seconds, last);
        let help = "From what the API server told until the kernel enforced it";
        let histogram = self.event_to_kernel.clone();
        registry.register_with_unit("event_to_kernel", help, Unit::Seconds, histogram);
    }

    /// A pass found so many, and did this; the first of what changed was heard so long before.
    pub(super) fn passed(&self, counts: &Counts, done: Done, after: Option<Duration>) {
        let Counts { namespaces, pods, policies, unreadable, isolated, unknown } = *counts;
        for (object, count) in [
            ("namespaces", namespaces),
            ("pods", pods),
            ("policies", policies),
            ("unreadable-policies", unreadable),
        ] {
            self.objects.get_or_create(&Object { object }).set(gauge_value(count));
        }
        for (state, count) in [("isolated", isolated), ("unknown", unknown)] {
            self.pods.get_or_create(&State { state }).set(gauge_value(count));
        }
        if done.read {
            self.reads.inc();
        }
        if done.changed {
            self.commits.inc();
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            self.last_commit.set(now.unwrap_or_default().as_secs_f64());
        }
        after.into_iter().for_each(|after| self.event_to_kernel.observe(after.as_secs_f64()));
    }

    pub(super) fn failed(&self) {
        self.errors.inc();
    }

    pub(super) fn cut(&self, count: usize) {
        self.cut.inc_by(count as u64);
    }
}

/// What was dropped, as the kernel's rules have counted it. Asks when it is asked.
#[derive(Debug)]
struct Denials;

impl Collector for Denials {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        write(encoder, denied_packets())
    }
}

fn write(mut encoder: DescriptorEncoder<'_>, counts: [Option<u64>; 2]) -> fmt::Result {
    let help = "Packets of this node's pods that no policy allows, since the rules were made";
    let name = "policy_denied_packets";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (direction, count) in policy::Direction::BOTH.into_iter().zip(counts) {
        let Some(count) = count else { continue };
        let labels = Way { direction: direction.word() };
        ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn a_pass_tells_what_there_is_and_what_it_did() {
        let (policies, mut registry, mut text) =
            (Policies::new(), Registry::default(), String::new());
        policies.register(&mut registry);
        let counts = Counts { pods: 7, unreadable: 1, isolated: 3, ..Counts::default() };
        policies.passed(&counts, Done { read: true, ..Done::default() }, None);
        let done = Done { changed: true, ..Done::default() };
        policies.passed(&counts, done, Some(Duration::from_millis(3)));
        policies.failed();
        policies.cut(9);
        encode(&mut text, &registry).unwrap();
        for line in [
            "policy_objects{object=\"pods\"} 7",
            "policy_objects{object=\"unreadable-policies\"} 1",
            "policy_pods{state=\"isolated\"} 3",
            "policy_pods{state=\"unknown\"} 0",
            "policy_commits_total 1",
            "policy_reads_total 1",
            "policy_errors_total 1",
            "policy_connections_cut_total 9",
            "policy_event_to_kernel_seconds_bucket{le=\"0.005\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }
}
