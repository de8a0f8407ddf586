// SPDX-License-Identifier: Apache-2.0
//! Whatever a snapshot holds, no check fails by it, takes long, or names what is not there.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::*;

/// What was compared on nodes that were as they should be.
const RECORDED: [&str; 2] = [
    include_str!("../../node/snapshot/fixtures/direct.json"),
    include_str!("../../node/snapshot/fixtures/vxlan.json"),
];

const SNAPSHOTS: u64 = 200;
/// Of each of them.
const CHANGES: usize = 24;
/// Long for all checks of a small snapshot, by a program that is not optimized, on a machine
/// that has other work.
const LONG: Duration = Duration::from_secs(10);

/// A generator of numbers (xorshift64*, Vigna 2016), the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(count.max(1)).unwrap()).unwrap()
    }
}

/// A node with something of all that a snapshot can hold.
pub(in crate::doctor) fn rich(recorded: &str) -> Value {
    let mut node = healthy();
    let counted = |grown: u64| Counters {
        insert_failed: grown,
        dropped: 9,
        early_dropped: grown,
        ..Counters::default()
    };
    let moment = |grown: u64| Load {
        backlog: vec![Backlog { dropped: grown, squeezed: 7 }; 2],
        processors: vec![Processor { total: 90 + grown, softirq: 5, steal: grown }; 2],
        wrong_checksums: Some(grown),
        sources: vec![("manx-net".into(), grown)],
        denied: vec![Denied {
            address: [10, 1, 0, 5].into(),
            direction: "ingress".into(),
            packets: grown,
        }],
    };
    node.surroundings = Surroundings {
        counters: Some((counted(1), counted(40))),
        load: Some((moment(1), moment(40))),
        reverse_path: Some((7, 9)),
        calico_chains: vec!["table ip filter".into()],
        policy_chains: 2,
        offloads: vec![("vxlan.calico".into(), true)],
        modules: vec![Module { name: "vxlan".into(), here: false, installed: Some(false) }],
        walks: vec![Walk {
            chain: "chain FORWARD of table ip filter".into(),
            rules: 2000,
            ..Walk::default()
        }],
        barriers: vec![Barrier { certain: true, text: "it drops".into(), ..Barrier::default() }],
        daemons: vec![Daemon {
            name: "networkd".into(),
            missing: vec!["/x".into()],
            reload: "y".into(),
        }],
        ..node.surroundings
    };
    for (key, value) in [
        ("kernel/osrelease", "5.4.0"),
        ("net/ipv4/conf/all/rp_filter", "1"),
        ("net/ipv4/conf/eth0/rp_filter", "1"),
        ("net/ipv6/conf/eth0/accept_ra", "1"),
        ("net/netfilter/nf_conntrack_count", "99"),
        ("net/netfilter/nf_conntrack_max", "100"),
    ] {
        node.kernel.sysctls.insert(key.into(), value.into());
    }
    node.kernel.rules.push(rule((1000, 100)));
    let mut of_router = route("2001:db8::/64", 2);
    of_router.route.protocol = PROTOCOL_RA;
    node.kernel.routes.push(of_router);
    fabric(&mut node).module = Some("vxlan".into());
    let lease =
        Lease { address: "10.1.0.9".parse().unwrap(), container_id: "c9".into(), ifname: None };
    pool(&mut node).leases.push(lease);
    let mut node = json!(node);
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    node["kind"] = recorded["kind"].clone();
    node["compared"] = recorded["compared"].clone();
    node
}

/// Changes something somewhere in it.
fn degrade(value: &mut Value, random: &mut Random) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let place = random.below(members.len());
            let key = members.keys().nth(place).unwrap().clone();
            match (random.below(8), &members[&key]) {
                (0, _) => drop(members.remove(&key)),
                _ => degrade(members.get_mut(&key).unwrap(), random),
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let place = random.below(items.len());
            match random.below(6) {
                0 => drop(items.remove(place)),
                1 => items.extend(vec![items[place].clone(); random.below(20)]),
                _ => degrade(&mut items[place], random),
            }
        }
        Value::Number(_) => {
            let extremes = [
                0,
                1,
                2,
                31,
                32,
                33,
                128,
                129,
                255,
                65_535,
                u32::MAX.into(),
                i64::MAX as u64,
                u64::MAX,
            ];
            *value = extremes[random.below(extremes.len())].into();
        }
        Value::String(text) => {
            let long = "9".repeat(300);
            let strange = [
                "",
                "0",
                "1",
                "-1",
                "\u{1b}[31m",
                &long,
                "0.0.0.0/0",
                "255.255.255.255/32",
                "::/0",
                "::1",
                "10.244.2.0/24",
                "10.1.0.5",
                "fe80::/10",
                "18446744073709551615",
                "340282366920938463463374607431768211455",
                "lo",
                "eth0",
            ];
            *text = strange[random.below(strange.len())].to_owned();
        }
        Value::Bool(held) => *held = !*held,
        Value::Null => *value = [json!("eth0"), json!(0), json!([])][random.below(3)].clone(),
        Value::Object(_) | Value::Array(_) => {}
    }
}

/// Objects of the machine, which no snapshot names.
const OF_THE_MACHINE: [&str; 8] = [
    "configuration",
    "firewall",
    "hook forward",
    "network policy",
    "processors",
    "rp_filter",
    "sysctl net.core.netdev_max_backlog",
    "table of connections",
];

/// Whether the snapshot, or what it comes to, has the object.
fn names(finding: &Finding, text: &str) -> bool {
    let object = finding.object.as_str();
    let last = object.split_whitespace().last().unwrap_or_default();
    let escaped = serde_json::to_string(last).unwrap();
    let escaped = escaped.trim_matches('"');
    OF_THE_MACHINE.contains(&object)
        || text.contains(escaped)
        || text.contains(&escaped.replace('.', "/"))
        // A parameter of a link.
        || escaped.split('.').nth(3).is_some_and(|link| text.contains(link))
}

/// One of the snapshots.
pub(in crate::doctor) fn changed(seed: u64) -> Snapshot {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut document = rich(RECORDED[random.below(RECORDED.len())]);
    for _ in 0..CHANGES {
        let mut changed = document.clone();
        degrade(&mut changed, &mut random);
        // What cannot be read is refused where it is read.
        if Snapshot::decode(changed.to_string().as_bytes()).is_ok() {
            document = changed;
        }
    }
    Snapshot::decode(document.to_string().as_bytes()).unwrap()
}

fn holds(seed: u64) {
    let snapshot = changed(seed);
    let begin = Instant::now();
    let findings = findings(&examine(&snapshot, None));
    assert!(begin.elapsed() < LONG, "it took {:?}", begin.elapsed());
    let text = json!(snapshot).to_string();
    for finding in &findings {
        assert!(names(finding, &text), "who is that? {finding:?}");
    }
}

#[test]
fn no_snapshot_makes_a_check_fail() {
    for seed in 0..SNAPSHOTS {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| holds(seed))) {
            eprintln!("the snapshot of number {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// One number, which is no count of anything, once made a pass over all below it.
#[test]
fn a_range_set_of_any_number_is_one_set() {
    only("pool-full", Warning, "1 of 1", |node| {
        let range = &mut pool(node).ranges[0];
        (range.set, range.size) = (usize::MAX, "1".into());
    });
}
