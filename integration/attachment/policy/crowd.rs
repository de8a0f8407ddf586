// SPDX-License-Identifier: Apache-2.0
//! Many pods that come and go at once, while policies are applied and taken away.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use super::{
    CLOSED, addresses, apply, are, enforcing, is_under_policy, known, manx, pod, policy, shown,
};
use crate::harness::Reply;

const PODS: usize = 24;

/// Whoever waits for a lock that `remove` takes away with the table waits for the next one, and
/// each finds the table as somebody else left it: none is refused, and none is forgotten.
#[test]
fn pods_come_and_go_at_once_while_policies_are_applied_and_removed() {
    let network = enforcing();
    let names: Vec<String> = (0..PODS).map(|number| format!("pod-{number}")).collect();
    let pods: Vec<_> = names.iter().map(|name| pod(name, name)).collect();
    // Of every second pod nobody knows anything.
    let mut world: Vec<Value> = names.iter().step_by(2).map(|name| known(name, name)).collect();
    world.push(json!({"kind": "NetworkPolicy", "metadata": {"namespace": "test", "name": "all"},
        "spec": {"podSelector": {}}}));
    // Does that with all pods, and meanwhile the other again and again.
    let beside = |verb: &(dyn Fn(usize) -> Reply + Sync)| {
        thread::scope(|scope| {
            let all: Vec<_> = (0..PODS).map(|place| scope.spawn(move || verb(place))).collect();
            let mut rounds = 0;
            while !all.iter().all(thread::ScopedJoinHandle::is_finished) {
                manx(&network, &["policy", "remove"]).ok();
                policy(&network, "apply", &world).ok();
                rounds += 1;
            }
            assert!(rounds > 0);
            all.into_iter().map(|one| one.join().unwrap().ok()).collect::<Vec<Value>>()
        })
    };
    let results = beside(&|place| network.add(&pods[place]));
    let given: BTreeSet<String> = results.iter().flat_map(addresses).collect();
    assert_eq!(given.len(), 2 * PODS);
    apply(&network, &world);
    for (place, result) in results.iter().enumerate() {
        match place % 2 {
            0 => is_under_policy(&network, result),
            _ => are(&network, result, CLOSED),
        }
        network.check(&pods[place], result).ok();
    }
    beside(&|place| network.del(&pods[place]));
    apply(&network, &world);
    assert_eq!(shown(&network)["pods"], json!([]));
}
