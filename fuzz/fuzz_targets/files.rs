// SPDX-License-Identifier: Apache-2.0
//! State files: the journal, leases and notes about them, what was applied, policy.json,
//! table.json and their like. The first byte chooses.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use manx::{
    ipam, node,
    state::{self, Entry, Journal},
};
use manx_fuzz::{chosen, root};
use serde_json::Value;

fn journal(content: &[u8]) {
    let journal = Journal::new(root(), "net");
    let path = journal.path("c1", "eth0");
    fs::create_dir_all(journal.directory()).unwrap();
    fs::write(&path, content).unwrap();
    let (entries, unreadable) = journal.all();
    assert_eq!(entries.len() + unreadable.len(), 1);
    let read = journal.read("c1", "eth0");
    let Some(entry) = entries.into_iter().next() else { return };
    let is_it = entry.container_id == "c1" && entry.ifname == "eth0";
    assert_eq!(read.is_some(), is_it);
    // Text that somebody else chose, and digits of numbers in it, are not ours to keep.
    let entry = Entry { ipam: Value::Null, ..entry };
    let own = Entry { container_id: "c1".into(), ifname: "eth0".into(), ..entry };
    journal.write(&own).unwrap();
    assert_eq!(journal.read("c1", "eth0"), Some(own));
}

fuzz_target!(|data: &[u8]| {
    let Some((choice, content)) = chosen(data) else { return };
    match choice {
        b'j' => journal(content),
        b'l' => ipam::fuzzing::lease(&String::from_utf8_lossy(content)),
        b'o' => state::fuzzing::operation(content),
        b'a' => node::fabric::fuzzing::applied(root(), content),
        b'c' => node::fabric::fuzzing::cidrs(root(), content),
        b'f' => node::fabric::fuzzing::document(root(), content),
        b'v' => node::fuzzing::version(root(), content),
        b'p' => node::policy::fuzzing::numbers(root(), content),
        b't' => node::policy::fuzzing::held(root(), content),
        b'd' => node::policy::fuzzing::denied(root(), content),
        _ => {}
    }
});
