// SPDX-License-Identifier: Apache-2.0
//! Namespaces, pods and policies as JSON and YAML: two evaluators that know nothing of each
//! other say the same of connections, and a table is the same as a document.

#![no_main]

use std::{collections::BTreeSet, net::IpAddr};

use libfuzzer_sys::fuzz_target;
use manx::{
    nft,
    policy::{Flow, World, allows, compile, read},
};
use manx_fuzz::within;

const PODS_MAX: usize = 6;

fn compare(world: &World) {
    let nodes: BTreeSet<&str> = world.pods.iter().map(|pod| &*pod.node).collect();
    let tables: Vec<_> =
        nodes.into_iter().map(|node| compile(world, node, &[7; 16]).policies).collect();
    tables.iter().for_each(nft::policy::fuzzing::document);
    if world.pods.iter().any(|pod| pod.on_host_network) {
        return;
    }
    let pods = || world.pods.iter().flat_map(|pod| &pod.addresses).copied().take(PODS_MAX);
    let outside: [IpAddr; 2] = ["192.0.2.9", "2001:db8::9"].map(|text| text.parse().unwrap());
    for (source, destination) in
        pods().flat_map(|one| pods().chain(outside).map(move |it| (one, it)))
    {
        if source.is_ipv4() != destination.is_ipv4() {
            continue;
        }
        for (protocol, port) in [(6, Some(80)), (6, Some(443)), (17, Some(53)), (1, None)] {
            let flow = Flow { source, destination, protocol, port };
            let said = world.verdict(&flow);
            let held = tables.iter().all(|table| allows(table, &flow));
            assert_eq!(held, said.is_allowed(), "{flow:?}: {said:?}");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(found) = within((256 << 10) + 2048 * data.len(), || read(data)) else { return };
    if data.trim_ascii_start().first() == Some(&b'{') {
        let text = data.trim_ascii_end();
        assert!(read(&text[..text.len() - 1]).is_err(), "a list that is cut off");
    }
    assert!(found.notes.iter().all(|note| !note.is_empty()));
    if found.world.pods.len() <= 16 && found.world.policies.len() <= 16 {
        compare(&found.world);
    }
});
