// SPDX-License-Identifier: Apache-2.0
//! Bundles of manx bundle: what was read is written and read again, and checks, explanations
//! and the report make something of all that can be read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use manx::{
    doctor::{
        self,
        explain::{Question, explain},
        report::{Cluster, View, page},
    },
    node::Snapshot,
};
use manx_fuzz::{has_fraction, within};

fuzz_target!(|data: &[u8]| {
    let read = within((1 << 20) + 2048 * data.len(), || Snapshot::decode(data));
    let Ok(snapshot) = read else { return };
    let document = serde_json::to_value(&snapshot).unwrap();
    let written = snapshot.clone().without_secrets().encode().unwrap();
    let again = Snapshot::decode(&written).unwrap();
    if !has_fraction(&document) {
        assert_eq!(Snapshot::decode(&again.encode().unwrap()).as_ref(), Ok(&again));
    }
    let examined = doctor::examine(&snapshot, None);
    assert_eq!(examined.len(), doctor::CHECKS.len());
    let is_known = |id: &str| doctor::CHECKS.iter().any(|check| check.id == id);
    assert!(doctor::findings(&examined).iter().all(|finding| is_known(finding.id)));
    let addresses = snapshot.journal.iter().flat_map(|entry| &entry.addresses);
    let addresses: Vec<_> =
        addresses.copied().take(2).chain(["192.0.2.9".parse().unwrap()]).collect();
    for source in &addresses {
        for destination in &addresses {
            let (source, destination) = (*source, *destination);
            let question = Question { source, destination, protocol: 6, port: Some(80) };
            assert!(!explain(&snapshot, question, None).verdict.text.is_empty());
        }
    }
    let html =
        page(&Cluster::of(vec![View::of("a", &snapshot), View::of("b", &again)], Vec::new()));
    assert!(html.ends_with("</html>\n"));
});
