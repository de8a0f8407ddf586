// SPDX-License-Identifier: Apache-2.0
//! An apply that is killed, at each message that it has for the kernel, and run again.

use std::net::IpAddr;

use manx::{
    node,
    policy::{Flow, Policies, allows},
};

use crate::cases::{self, Step};
use crate::cluster::{Cluster, MANX, NODE};
use crate::harness;
use crate::leak::damage;

/// How many pairs of worlds are looked at.
const PAIRS: usize = 10;

/// Runs apply, killed as it says something to the kernel for the `count`th time. True if
/// it was.
pub fn killed(cluster: &Cluster, args: &[&str], count: usize) -> bool {
    let inject = format!("inject=sendto:signal=KILL:when={count}");
    let mut all = vec!["-f", "-o", "/dev/null", "-e", "trace=sendto", "-e", &inject, MANX];
    all.extend(args);
    let finished = cluster.host.command("strace", &all);
    assert!([0, 137].contains(&finished.status), "{finished:?}");
    finished.status == 137
}

/// Wherever it is killed, what both worlds allow passes, and what both deny does not. The
/// next apply makes it whole.
#[test]
fn a_killed_apply_is_between_the_worlds() {
    let cluster = Cluster::new();
    let all = cases::all();
    let steps: Vec<&Step> = all.iter().flat_map(|case| &case.steps).collect();
    let is_mixed = |step: &&&Step| {
        let denied = step.probes.iter().filter(|probe| !probe.allowed).count();
        step.probes.len() == 432 && (100..300).contains(&denied)
    };
    let mixed: Vec<&Step> = steps.iter().filter(is_mixed).copied().collect();
    let (old, new) = (mixed[mixed.len() / 3], mixed[mixed.len() * 2 / 3]);
    let (file, root) = (cluster.file(), cluster.root());
    std::fs::write(&file, new.world.to_string()).unwrap();
    let args = ["policy", "apply", &file, "--node", NODE, "--root", root.to_str().unwrap()];
    let mut kills = 0;
    for count in 1.. {
        cluster.apply(&old.world).ok();
        if !killed(&cluster, &args, count) {
            break;
        }
        kills += 1;
        let found = cluster.probe(&new.world, &new.probes);
        for ((probe, arrived), before) in found.into_iter().zip(&old.probes) {
            let (old, new) = (before.allowed, probe.allowed);
            let is_between = arrived == old || arrived == new;
            assert!(is_between, "killed at {count}: {probe:?} arrived: {arrived}");
        }
        cluster.apply(&new.world).ok();
        let wrong: Vec<_> = cluster.probe(&new.world, &new.probes);
        assert!(wrong.iter().all(|(probe, arrived)| probe.allowed == *arrived), "{count}");
    }
    println!("killed at {kills} points");
    assert!(kills > 10, "{kills}");
}

/// Which of the messages of an apply, which is made, are transactions: counted as by
/// [`killed`].
fn transactions(cluster: &Cluster, args: &[&str]) -> Vec<usize> {
    let told = cluster.root().join("messages");
    let mut all = vec!["-f", "-o", told.to_str().unwrap(), "-e", "trace=sendto", MANX];
    all.extend(args);
    cluster.host.command("strace", &all).ok();
    harness::transactions(&std::fs::read_to_string(told).unwrap())
}

/// What the kernel's table holds, where it has one.
fn held(cluster: &Cluster) -> Option<Policies> {
    cluster.host.enter(|| node::policy::held().unwrap())
}

/// Connections between each two of the pods and of some strangers, by each protocol.
fn flows(cluster: &Cluster) -> Vec<Flow> {
    let pods = cluster.pods.iter().flat_map(|pod| pod.addresses);
    let strangers = ["192.0.2.1", "10.244.9.1", "fd00:9::1"];
    let all: Vec<IpAddr> = pods.chain(strangers.map(|it| it.parse().unwrap())).collect();
    let ports =
        [(6, Some(80)), (6, Some(81)), (17, Some(80)), (17, Some(81)), (132, Some(80)), (1, None)];
    let mut flows = Vec::new();
    for source in &all {
        for destination in all.iter().filter(|it| it.is_ipv4() == source.is_ipv4()) {
            flows.extend(ports.map(|(protocol, port)| Flow {
                source: *source,
                destination: *destination,
                protocol,
                port,
            }));
        }
    }
    flows
}

/// By the kernel's own table, for all connections and several pairs of worlds: none is
/// allowed that is allowed neither before nor behind, and none denied that both allow.
#[test]
fn whatever_is_left_by_a_killed_apply_is_between_the_worlds() {
    let cluster = Cluster::new();
    let all = cases::all();
    let steps: Vec<&Step> = all.iter().flat_map(|case| &case.steps).collect();
    let flows = flows(&cluster);
    let answers = |held: &Policies| flows.iter().map(|flow| allows(held, flow)).collect::<Vec<_>>();
    let applied = |step: &Step| {
        cluster.apply(&step.world).ok();
        held(&cluster).unwrap()
    };
    let (mut kills, mut partial) = (0, 0);
    for place in 1..=PAIRS {
        let at = |part: usize| steps[part * steps.len() / (2 * PAIRS + 2)];
        let (old, new) = (at(2 * place - 1), at(2 * place));
        let file = cluster.file();
        let root = cluster.root();
        let args = ["policy", "apply", &file, "--node", NODE, "--root", root.to_str().unwrap()];
        let (after, before) = (applied(new), applied(old));
        std::fs::write(&file, new.world.to_string()).unwrap();
        let [before_allows, after_allows] = [&before, &after].map(answers);
        let transactions = transactions(&cluster, &args);
        for count in transactions {
            assert_eq!(applied(old), before);
            assert!(killed(&cluster, &args, count));
            kills += 1;
            let left = held(&cluster).unwrap();
            partial += usize::from(left != before && left != after);
            let found = answers(&left).into_iter().zip(before_allows.iter().zip(&after_allows));
            for (flow, (is, (was, will))) in flows.iter().zip(found) {
                assert!(
                    is == *was || is == *will,
                    "pair {place}, killed at {count}: {flow:?}: {is}"
                );
            }
            // The next one makes it whole, whatever was left.
            assert_eq!(applied(new), after, "pair {place}, killed at {count}");
        }
    }
    println!("killed at {kills} points, {partial} of which left neither world");
    assert!(kills >= 3 * PAIRS && partial >= PAIRS, "{kills} {partial}");
}

/// Where rules are replaced there is a moment in which the second table alone judges. Whoever is
/// killed then, and whoever comes next and is killed as well, leaves nothing open.
#[test]
fn two_kills_while_rules_are_replaced_open_nothing() {
    let cluster = Cluster::new();
    let all = cases::all();
    let steps: Vec<&Step> = all.iter().flat_map(|case| &case.steps).collect();
    let closed = |step: &&&Step| step.probes.iter().filter(|probe| !probe.allowed).count() > 100;
    let step = steps.iter().find(closed).unwrap();
    let denied: Vec<_> = step.probes.iter().filter(|it| !it.allowed).take(12).cloned().collect();
    let (file, root) = (cluster.file(), cluster.root());
    std::fs::write(&file, step.world.to_string()).unwrap();
    let args = ["policy", "apply", &file, "--node", NODE, "--root", root.to_str().unwrap()];
    let opened = |when: &str| {
        let found = cluster.probe(&step.world, &denied);
        let arrived: Vec<_> = found.into_iter().filter(|(_, arrived)| *arrived).collect();
        assert!(arrived.is_empty(), "{when}: {arrived:?}");
    };
    let prepare = || {
        cluster.apply(&step.world).ok();
        damage(&cluster);
    };
    prepare();
    let first = transactions(&cluster, &args);
    let is_covered = |first: &usize| {
        prepare();
        assert!(killed(&cluster, &args, *first));
        opened(&format!("killed at {first}"));
        held(&cluster).is_some_and(|held| held.ways.iter().all(|way| way.classes.is_empty()))
    };
    let first = first.into_iter().find(is_covered).expect("the second table alone judges");
    let second = transactions(&cluster, &args);
    for second in &second {
        prepare();
        assert!(killed(&cluster, &args, first));
        killed(&cluster, &args, *second);
        opened(&format!("killed at {first} and then at {second}"));
    }
    assert!(second.len() > 5, "{second:?}");
    // What is left is taken away with the table.
    prepare();
    assert!(killed(&cluster, &args, first));
    cluster.host.command(MANX, &["policy", "remove", "--root", root.to_str().unwrap()]).ok();
    let tables = cluster.host.command("nft", &["list", "tables"]).ok();
    assert!(!tables.contains("manx.policy"), "{tables}");
}
