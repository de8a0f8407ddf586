// SPDX-License-Identifier: Apache-2.0
//! What holds of every list of Nodes, whatever they claim.

use crate::list::Gather as _;
use proptest::prelude::*;

use super::{
    tests::{read, record, settings, view_of},
    *,
};

fn some_tunnel() -> impl Strategy<Value = Option<Box<Tunnel>>> {
    let addresses = prop::sample::select(vec![
        "10.9.0.1",
        "10.9.0.2",
        "10.0.1.7",
        "10.0.2.130",
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "fd00:2::9",
        "127.0.0.9",
    ]);
    let addresses = prop::collection::vec(addresses, 0..3);
    prop::option::of(addresses).prop_map(|addresses| {
        let addresses = addresses?.iter().map(|text| text.parse().unwrap()).gather();
        Some(Box::new(Tunnel { addresses, mac: None }))
    })
}

fn some_record() -> impl Strategy<Value = Record> {
    let names = prop::sample::select(vec!["own", "a", "b", "c", "d", "e", "f", "192.0.2.3"]);
    let addresses = prop::sample::select(vec![
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "10.0.1.1",
        "10.0.2.1",
        "2001:db8::1",
        "2001:db8::2",
        "fd00:2::5",
        "127.0.0.1",
        "fe80::1",
        "224.0.0.9",
        "junk",
        "::ffff:10.0.2.9",
    ]);
    let cidrs = prop::sample::select(vec![
        "10.0.1.0/24",
        "10.0.2.0/24",
        "10.0.2.128/25",
        "10.0.0.0/16",
        "192.0.2.0/24",
        "192.0.2.2/32",
        "fd00:1::/64",
        "fd00:2::/64",
        "fd00::/16",
        "10.0.1.1/24",
        "junk",
        "::/0",
    ]);
    let lists = (prop::collection::vec(addresses, 0..4), prop::collection::vec(cidrs, 0..3));
    (names, 0..3u32, 0..3u32, lists, some_tunnel()).prop_map(
        |(name, created, uid, (addresses, cidrs), tunnel)| {
            let mut record = record(name, created, &addresses, &cidrs);
            record.uid = format!("{uid}").into();
            record.tunnel = tunnel;
            record
        },
    )
}

/// A Node's name is there once.
fn some_records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(some_record(), 0..9).prop_map(|mut records| {
        records.sort_by(|one, other| one.name.cmp(&other.name));
        records.dedup_by(|one, other| one.name == other.name);
        records
    })
}

/// Its line in the file, and what is found of it.
fn said_of(view: &View, name: &str) -> (Option<String>, Vec<String>) {
    let start = format!("{{\"name\":\"{name}\",");
    let line = view.text.lines().find(|line| line.starts_with(&start));
    let line = line.map(|line| line.trim_end_matches(',').to_owned());
    let object = format!("Node {name}");
    let found = view.findings.iter().filter(|one| one.object == object);
    (line, found.map(|one| format!("{}: {}", one.id, one.evidence)).gather())
}

proptest! {
    #[test]
    fn the_reader_takes_every_file_and_leaves_nobody_out(records in some_records()) {
        let Ok(view) = view_of(&records, &settings(), &[]) else {
            prop_assert!(records.iter().all(|record| &*record.name != "own"));
            return Ok(());
        };
        let peers = read(&view);
        prop_assert_eq!(&peers.me.name, "own");
        prop_assert_eq!(&peers.me.pod_cidrs, &view.own_pod_cidrs);
        prop_assert_eq!(view.own_trouble.is_some(), view.own_pod_cidrs.is_empty());
        let listed: Vec<&str> = peers.nodes().map(|node| node.name.as_str()).gather();
        prop_assert_eq!(view.used, peers.nodes().filter(|node| !node.pod_cidrs.is_empty()).count());
        for record in &records {
            let name = &*record.name;
            let places = [
                listed.contains(&name) && view.incomplete.iter().all(|one| one != name),
                view.incomplete.iter().any(|one| one == name),
                view.quarantined.iter().any(|(one, _)| one == name),
            ];
            prop_assert_eq!(places.iter().filter(|is| **is).count(), 1, "{}", name);
        }
    }

    #[test]
    fn lists_may_come_in_any_order(
        (records, turned) in some_records().prop_flat_map(|records| {
            (Just(records.clone()), Just(records).prop_shuffle())
        })
    ) {
        prop_assert_eq!(view_of(&records, &settings(), &[]), view_of(&turned, &settings(), &[]));
    }

    /// But for this node, which knows its own address whoever is older.
    #[test]
    fn a_younger_node_changes_nothing_for_an_older_one(
        records in some_records(),
        which in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!records.is_empty());
        let newcomer = which.get(&records).clone();
        prop_assume!(&*newcomer.name != "own");
        let without: Vec<Record> =
            records.iter().filter(|one| one.name != newcomer.name).cloned().gather();
        let (Ok(with), Ok(without)) =
            (view_of(&records, &settings(), &[]), view_of(&without, &settings(), &[]))
        else {
            return Ok(());
        };
        for older in records.iter().filter(|one| one.age() < newcomer.age()) {
            prop_assert_eq!(said_of(&with, &older.name), said_of(&without, &older.name));
        }
    }

    /// What was taken out is what was wrong.
    #[test]
    fn what_is_served_is_sound(records in some_records()) {
        let Ok(first) = view_of(&records, &settings(), &[]) else { return Ok(()) };
        let peers = read(&first);
        let again: Vec<Record> = peers.nodes().map(|node| {
            let record = records.iter().find(|record| *record.name == node.name).unwrap();
            let texts = |list: Vec<String>| list.into_iter().map(String::into_boxed_str).gather();
            Record {
                addresses: texts(node.addresses.iter().map(ToString::to_string).gather()),
                pod_cidrs: texts(node.pod_cidrs.iter().map(ToString::to_string).gather()),
                ..record.clone()
            }
        }).gather();
        let second = view_of(&again, &settings(), &[]).unwrap();
        prop_assert_eq!(&second.text, &first.text);
        prop_assert_eq!(second.quarantined, []);
    }
}
