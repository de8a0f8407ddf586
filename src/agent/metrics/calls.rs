// SPDX-License-Identifier: Apache-2.0
//! What is counted of the plugin's calls.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::buckets::histogram;
use crate::state::operations::{Operation, WAIT};

/// Calls of the plugin that ended while the agent ran.
#[derive(Debug)]
pub(super) struct Calls {
    ended: Family<Ended, Counter>,
    durations: Family<Verb, Histogram, fn() -> Histogram>,
    waits: Family<Outcome, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Ended {
    verb: String,
    code: u32,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Verb {
    verb: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Outcome {
    outcome: &'static str,
}

/// What a runtime asks for.
const VERBS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

impl Calls {
    pub(super) fn new() -> Self {
        Self {
            ended: Family::default(),
            durations: Family::new_with_constructor(histogram),
            waits: Family::new_with_constructor(histogram),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for verb in VERBS.map(str::to_owned) {
            drop(self.durations.get_or_create(&Verb { verb: verb.clone() }));
            drop(self.ended.get_or_create(&Ended { verb, code: 0 }));
        }
        let help = "Calls of the plugin, by the code of their error; 0: none";
        registry.register("operations", help, self.ended.clone());
        let help = "How long calls of the plugin took";
        registry.register_with_unit("duration", help, Unit::Seconds, self.durations.clone());
    }

    /// The same of what an ADD waits for where network policies are enforced.
    pub(super) fn register_waits(&self, registry: &mut Registry) {
        for code in [0, 1] {
            drop(self.waits.get_or_create(&outcome(code)));
        }
        let help = "How long an ADD waited until it was known which network policies are about \
                    its pod, or in vain";
        registry.register_with_unit("policy_wait", help, Unit::Seconds, self.waits.clone());
    }

    pub(super) fn ended(&self, operation: &Operation) {
        let Operation { verb, code, took } = operation;
        if verb == WAIT {
            self.waits.get_or_create(&outcome(*code)).observe(took.as_secs_f64());
            return;
        }
        // What a newer plugin may have besides.
        if !VERBS.contains(&verb.as_str()) {
            return;
        }
        self.ended.get_or_create(&Ended { verb: verb.clone(), code: *code }).inc();
        self.durations.get_or_create(&Verb { verb: verb.clone() }).observe(took.as_secs_f64());
    }
}

fn outcome(code: u32) -> Outcome {
    Outcome { outcome: if code == 0 { "known" } else { "unknown" } }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn what_an_add_waited_for_policies_is_told_by_how_it_ended() {
        let calls = Calls::new();
        let mut registry = Registry::default();
        calls.register_waits(&mut registry);
        for code in [1, 0, 1] {
            let took = Duration::from_millis(250);
            calls.ended(&Operation { verb: WAIT.to_owned(), code, took });
        }
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "policy_wait_seconds_count{outcome=\"known\"} 1",
            "policy_wait_seconds_count{outcome=\"unknown\"} 2",
            "policy_wait_seconds_sum{outcome=\"unknown\"} 0.5",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
    }
}
