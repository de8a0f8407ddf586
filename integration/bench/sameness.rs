// SPDX-License-Identifier: Apache-2.0
//! Whether the floor makes what manx makes, neither less nor more.
//!
//! Without this the floor could be as low as one likes. What is compared is the
//! kernel's own account of both ends: links, addresses, routes, neighbours, and
//! every parameter below /proc/sys/net that is about them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::Netns;
use crate::subjects::{Kind, Node, Programs, Setting, floor_args};

/// What names one object of the kernel, not its kind: numbers that differ from
/// link to link, counters, and what manx keeps its books by (the group, and the
/// alias that is set after the link is made).
const NAMES: [&str; 12] = [
    "ifindex",
    "link_index",
    "link_netnsid",
    "link",
    "ifalias",
    "group",
    "stats64",
    "preferred_life_time",
    "valid_life_time",
    "stable_secret",
    "linkdown",
    "used",
];

/// Asserts that the floor's attachment is manx's.
///
/// # Panics
/// If it is not, with what differs.
pub fn assert_same(setting: Setting, programs: &Programs) {
    let manx = Node::new(Kind::ManxHostLocal, setting, programs);
    // The first pod turns on what later ones find.
    for number in [1, 2] {
        manx.add(&mut manx.place(number));
    }
    let mut theirs = manx.place(3);
    manx.add(&mut theirs);
    let result = &theirs.result;
    let text = |value: &Value| value.as_str().expect("a result in full").to_owned();
    let link = text(&result["interfaces"][0]["name"]);
    let mac = text(&result["interfaces"][1]["mac"]);
    let addresses: Vec<String> = (result["ips"].as_array().expect("addresses").iter())
        .map(|ip| text(&ip["address"]).split('/').next().unwrap_or_default().to_owned())
        .collect();

    let floor = Node::new(Kind::Floor, setting, programs);
    let ours = floor.place(3);
    let mut job = floor.add_job(&ours);
    job.args = floor_args(&ours, &link, &mac, &addresses);
    floor.enter(&job);

    let expected = describe(&manx.host, &link, &theirs.pod.netns);
    let found = describe(&floor.host, &link, &ours.pod.netns);
    assert!(expected.len() > 100, "hardly anything is compared: {expected:#?}");
    let differences: Vec<String> = (expected.keys().chain(found.keys()))
        .filter(|key| expected.get(*key) != found.get(*key))
        .map(|key| format!("{key}: manx {:?}, floor {:?}", expected.get(key), found.get(key)))
        .collect();
    assert!(
        differences.is_empty(),
        "{}: the floor does not make what manx makes:\n{}",
        setting.name(),
        differences.join("\n")
    );
}

/// All that belongs to an attachment, by name.
fn describe(host: &Netns, link: &str, pod: &Netns) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    for (side, netns, link) in [("host", host, link), ("pod", pod, "eth0")] {
        for (what, args) in [
            ("link", &["link", "show", "dev", link][..]),
            ("address", &["address", "show", "dev", link]),
            ("route", &["-N", "-4", "route", "show", "table", "all", "dev", link]),
            ("route6", &["-N", "-6", "route", "show", "table", "all", "dev", link]),
            ("neighbour", &["-4", "neighbour", "show", "dev", link]),
            ("neighbour6", &["-6", "neighbour", "show", "dev", link, "nud", "permanent"]),
        ] {
            let mut told = netns.ip(args);
            strip(&mut told);
            let mut entries: Vec<String> =
                told.as_array().into_iter().flatten().map(Value::to_string).collect();
            entries.sort();
            facts.insert(format!("{side} {what}"), entries.join("\n"));
        }
        for family in ["ipv4", "ipv6"] {
            for kind in ["conf", "neigh"] {
                parameters(
                    netns,
                    &format!("/proc/sys/net/{family}/{kind}/{link}"),
                    side,
                    &mut facts,
                );
            }
        }
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/default/forwarding"] {
            facts.insert(format!("{side} {key}"), netns.sysctl(key));
        }
    }
    facts
}

/// Takes away what differs between any two links, and `noprefixroute` and its
/// like stay.
fn strip(value: &mut Value) {
    match value {
        Value::Array(entries) => entries.iter_mut().for_each(strip),
        Value::Object(keys) => {
            keys.retain(|key, _| !NAMES.contains(&key.as_str()));
            keys.values_mut().for_each(strip);
        }
        _ => {}
    }
}

fn parameters(netns: &Netns, directory: &str, side: &str, facts: &mut BTreeMap<String, String>) {
    let read = || {
        let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{directory}: {e}"));
        let values = entries.flatten().map(|entry| {
            let path = entry.path();
            let value = fs::read_to_string(&path).unwrap_or_default();
            (path, value.trim().to_owned())
        });
        values.collect::<Vec<_>>()
    };
    for (path, value) in netns.enter(read) {
        let name = path.strip_prefix("/proc/sys/net").unwrap_or(Path::new("")).display();
        facts.insert(format!("{side} {name}"), value);
    }
}
