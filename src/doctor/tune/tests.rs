// SPDX-License-Identifier: Apache-2.0
//! What is asked for, by what a node shows.

use super::*;
use crate::{
    fabric::peers::Node,
    net::link::Link,
    node::{Assignment, Fabric, Network, OfFabric},
};

/// A node with the kernel's defaults, room for 1,000 connections, and one link.
fn node(values: &[(&str, &str)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let defaults = [
        (forwarding::IPV4, "0"),
        (COUNT, "10"),
        (MAX, "1000"),
        (BUCKETS, "1000"),
        (TIME_WAIT, "120"),
        (BACKLOG, "1000"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/eth0/rp_filter", "1"),
    ];
    for (key, value) in defaults.iter().chain(values) {
        snapshot.kernel.sysctls.insert((*key).to_owned(), (*value).to_owned());
    }
    for family in ["4", "6"] {
        for (name, default) in NEIGHBOURS {
            let key = format!("net/ipv{family}/neigh/default/{name}");
            snapshot.kernel.sysctls.insert(key, default.to_string());
        }
    }
    snapshot.kernel.links = vec![Link { index: 2, name: "eth0".into(), ..Link::default() }];
    snapshot.kernel.addresses = vec![(2, "192.0.2.1/24".parse().unwrap())];
    snapshot
}

fn growing(counters: Counters, values: &[(&str, &str)]) -> Snapshot {
    let mut snapshot = node(values);
    snapshot.surroundings.counters = Some((Counters::default(), counters));
    snapshot
}

#[track_caller]
fn asked(snapshot: &Snapshot) -> Vec<(String, u64)> {
    let all = settings(snapshot).into_iter();
    all.filter_map(|one| Some((one.key, one.recommended?))).collect()
}

fn setting(key: &str, snapshot: &Snapshot) -> Setting {
    settings(snapshot).into_iter().find(|one| one.key == key).unwrap()
}

#[test]
fn what_costs_something_is_asked_for_where_there_is_need() {
    let none = Counters::default();
    let forward = (forwarding::IPV4.to_owned(), 1);
    let case = |counters, values: &[(&str, &str)], expected: &[(&str, u64)]| {
        let expected = expected.iter().map(|(key, value)| ((*key).to_owned(), *value));
        let all: Vec<_> = [forward.clone()].into_iter().chain(expected).collect();
        assert_eq!(asked(&growing(counters, values)), all, "{counters:?} {values:?}");
    };
    let both = [(MAX, CONNECTIONS), (TIME_WAIT, 30)];
    case(none, &[], &[]);
    case(none, &[(COUNT, "750")], &[]);
    case(none, &[(COUNT, "751")], &both);
    case(Counters { early_dropped: 1, ..none }, &[], &both);
    case(Counters { dropped: 1, ..none }, &[], &both);
    case(Counters { insert_failed: 1, ..none }, &[], &[(MAX, CONNECTIONS)]);
    // What is large already: for want of room twice that, else no more.
    case(Counters { insert_failed: 1, ..none }, &[(MAX, "200000")], &[]);
    case(Counters { dropped: 1, ..none }, &[(MAX, "200000"), (TIME_WAIT, "10")], &[(MAX, 400_000)]);
    case(Counters { backlog_dropped: 1, ..none }, &[], &[(BACKLOG, PACKETS)]);
    case(Counters { backlog_dropped: 1, ..none }, &[(BACKLOG, "6000")], &[]);
    case(Counters { squeezed: u64::MAX, ..none }, &[], &[]);
    let most = Counters { dropped: u64::MAX, early_dropped: u64::MAX, ..none };
    case(most, &[], &both);
    // What only was counted once says nothing.
    let mut before = node(&[]);
    let counted = Counters { dropped: 7, squeezed: 7, insert_failed: 7, ..none };
    before.surroundings.counters = Some((counted, counted));
    assert_eq!(asked(&before), [forward]);
}

#[test]
fn connections_take_a_small_part_of_the_memory() {
    for (mebibytes, expected) in [(1024, Some(CONNECTIONS)), (256, Some(52_428)), (1, None)] {
        let mut snapshot = node(&[(COUNT, "999")]);
        snapshot.surroundings.memory_bytes = mebibytes << 20;
        assert_eq!(setting(MAX, &snapshot).recommended, expected, "{mebibytes}");
    }
}

fn with_nodes(count: u32) -> Snapshot {
    let fixture = include_bytes!("../../node/snapshot/fixtures/direct.json");
    let mut snapshot = node(&[(forwarding::IPV4, "1")]);
    let fabric: OfFabric = Snapshot::decode(fixture).unwrap().compared.fabrics.remove(0);
    snapshot.compared.fabrics = vec![fabric];
    let fabric = &mut snapshot.compared.fabrics[0];
    let one = fabric.peers.others[0].clone();
    let other =
        |n: u32| Node { addresses: vec![[10, 0, (n >> 8) as u8, n as u8].into()], ..one.clone() };
    fabric.peers.others = (0..count).map(other).collect();
    snapshot
}

#[test]
fn neighbours_have_room_for_all_nodes() {
    for (nodes, first) in [(0, 128), (128, 128), (129, 256), (1000, 1024), (5000, 8192)] {
        let snapshot = with_nodes(nodes);
        for (name, factor) in [("gc_thresh1", 1), ("gc_thresh2", 4), ("gc_thresh3", 8)] {
            let found = setting(&format!("net/ipv4/neigh/default/{name}"), &snapshot);
            let wanted = first * factor;
            assert_eq!(found.recommended.unwrap_or(found.current), wanted, "{nodes} {name}");
            let other = setting(&format!("net/ipv6/neigh/default/{name}"), &snapshot);
            assert_eq!(other.recommended, None, "no node has an address of IPv6");
        }
    }
}

#[test]
fn links_to_other_nodes_do_not_filter_strictly() {
    let key = "net/ipv4/conf/eth0/rp_filter";
    let all = "net/ipv4/conf/all/rp_filter";
    let of_fabric = |values: &[(&str, &str)]| {
        let mut snapshot = node(values);
        let addresses = vec!["192.0.2.1".parse().unwrap()];
        let fabric = Some(Fabric { addresses, ..Fabric::default() });
        snapshot.networks.push(Network { fabric, ..Network::default() });
        setting(key, &snapshot).recommended
    };
    assert!(settings(&node(&[])).iter().all(|one| one.key != key), "it leads to nobody");
    assert_eq!(of_fabric(&[]), Some(2));
    assert_eq!(of_fabric(&[(key, "0"), (all, "1")]), Some(2));
    for (own, of_all) in [("0", "0"), ("2", "1"), ("1", "2")] {
        assert_eq!(of_fabric(&[(key, own), (all, of_all)]), None, "{own} {of_all}");
    }
}

#[test]
fn who_set_it_is_told_and_a_file_that_asks_for_more_is_heeded() {
    let mut snapshot = growing(Counters { backlog_dropped: 1, ..Counters::default() }, &[]);
    assert_eq!(setting(BACKLOG, &snapshot).source, "the kernel's default");
    assert_eq!(setting(MAX, &snapshot).source, "the kernel's default");
    let line = |value: &str| Assignment {
        file: "/etc/sysctl.d/50-a.conf".into(),
        line: 3,
        key: BACKLOG.to_owned(),
        value: Some(value.to_owned()),
    };
    for (value, recommended, source) in [
        ("1000", 5000, "/etc/sysctl.d/50-a.conf:3"),
        ("9000", 9000, "a program (/etc/sysctl.d/50-a.conf:3 says 9000)"),
        ("many", 5000, "a program (/etc/sysctl.d/50-a.conf:3 says many)"),
    ] {
        snapshot.surroundings.assignments = vec![line(value)];
        let found = setting(BACKLOG, &snapshot);
        assert_eq!((found.recommended, found.source.as_str()), (Some(recommended), source));
    }
    snapshot.surroundings.assignments.clear();
    snapshot.kernel.sysctls.insert(BACKLOG.to_owned(), "2000".to_owned());
    assert_eq!(setting(BACKLOG, &snapshot).source, "a program");
    // What the kernel does not have is not asked for.
    snapshot.kernel.sysctls.remove(BACKLOG);
    assert!(settings(&snapshot).iter().all(|one| one.key != BACKLOG));
}
