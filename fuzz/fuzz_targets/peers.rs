// SPDX-License-Identifier: Apache-2.0
//! The peers file, whole, cut off, and changed in a few places.

#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use manx::fabric::{fuzzing, list, peers::Peers};
use manx_fuzz::within;

fn is_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.octets()[3] == 11)
}

fuzz_target!(|data: &[u8]| {
    let read = within((64 << 10) + 2048 * data.len(), || Peers::parse(data, &is_local));
    match &read {
        Ok(peers) => {
            assert!(peers.others.iter().all(|other| other.name != peers.me.name));
            let cidrs: Vec<_> = peers.pod_cidrs().collect();
            for (place, one) in cidrs.iter().enumerate() {
                let overlaps = |other: &ipnetwork::IpNetwork| {
                    one.contains(other.ip()) || other.contains(one.ip())
                };
                assert!(!cidrs[..place].iter().any(overlaps), "{one} twice in {cidrs:?}");
            }
            let names = list::names(data);
            assert!(peers.nodes().all(|node| names.contains(&node.name)));
            for node in peers.nodes() {
                assert!(list::pod_cidrs(data, &node.name).is_some());
            }
            // What is cut off is no list.
            let text = data.trim_ascii_end();
            for cut in [text.len() / 2, text.len() - 1] {
                assert!(Peers::parse(&text[..cut], &is_local).is_err(), "cut at {cut}");
            }
        }
        Err(problems) => assert!(!problems.is_empty()),
    }
    fuzzing::row(data);
    // The text before 0xff in the place of some bytes of what is behind.
    let Some(end) = data.iter().position(|byte| *byte == 0xff) else { return };
    let ([at, length, new @ ..], old) = (&data[..end], &data[end + 1..]) else { return };
    let at = usize::from(*at) * 4 % (old.len() + 1);
    let behind = (at + usize::from(*length)).min(old.len());
    fuzzing::splice(old, &[&old[..at], new, &old[behind..]].concat());
});
