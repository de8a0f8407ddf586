// SPDX-License-Identifier: Apache-2.0
//! What a list may take from this node: nothing.

use serde_json::json;

use super::*;

/// What is left of a list in which b has these pods, on a node with these addresses
/// whose default route is by 192.0.2.9: who is left out and why, and the notes.
fn said(cidr: &str, local: &[&str], reach: u8) -> (String, String) {
    let text = json!({"self": "a", "nodes": [
        {"name": "a", "addresses": ["192.0.2.1", "2001:db8::1"],
         "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]},
        {"name": "b", "addresses": ["192.0.2.2", "2001:db8::2"], "podCIDRs": [cidr]},
        {"name": "c", "addresses": ["192.0.2.3"], "podCIDRs": ["10.3.0.0/24"]}]});
    let plain: Vec<IpNetwork> = local.iter().map(|text| text.parse().unwrap()).collect();
    let address = "192.0.2.9".parse().unwrap();
    let hop = NextHop { address, destination: "0.0.0.0/0".parse().unwrap(), reach };
    let site = Site { addresses: plain.clone(), plain, next_hops: vec![hop] };
    match Peers::of_site(text.to_string().as_bytes(), &site, None) {
        Ok(peers) => {
            let others: Vec<&str> = peers.others.iter().map(|node| node.name.as_str()).collect();
            let alone = !peers.excluded.is_empty() || !peers.here.is_empty();
            assert_eq!(others, if alone { &["c"][..] } else { &["b", "c"] });
            // Its pods are pods all the same.
            assert_eq!(peers.left_out.len(), usize::from(alone));
            (peers.excluded.join("; "), [peers.here, peers.notes].concat().join("; "))
        }
        Err(problems) => (format!("refused: {}", problems.join("; ")), String::new()),
    }
}

#[test]
fn a_peer_with_what_is_this_nodes_is_left_out_alone() {
    let own = ["192.0.2.1/24", "10.7.0.1/16"];
    for (cidr, words) in [
        ("10.7.0.0/16", "podCIDR 10.7.0.0/16 contains all of 10.7.0.0/16"),
        ("10.6.0.0/15", "podCIDR 10.6.0.0/15 contains all of 10.7.0.0/16"),
        ("10.7.0.0/28", "podCIDR 10.7.0.0/28 contains address 10.7.0.1"),
        ("192.0.2.8/29", "podCIDR 192.0.2.8/29 contains next hop 192.0.2.9 (of 0.0.0.0/0)"),
    ] {
        let (excluded, _) = said(cidr, &own, 24);
        assert!(excluded.starts_with("b is left out: its "), "{cidr}: {excluded}");
        assert!(excluded.contains(words), "{cidr}: {excluded}");
    }
    // By a route of its own the next hop is on the link as before.
    assert_eq!(said("192.0.2.8/29", &own, 32).0, "");
    // Clouds give addresses without a network, and a bridge of another
    // plugin may have this node's pods.
    let elsewhere = said("10.2.0.0/24", &["192.0.2.1/32", "10.1.0.1/24", "127.0.0.1/8"], 0);
    assert_eq!(elsewhere, Default::default());
}

#[test]
fn pods_may_be_inside_a_network_of_this_node() {
    let (problems, notes) = said("192.0.2.128/25", &["192.0.2.1/24"], 24);
    assert_eq!(problems, "");
    assert!(notes.starts_with("192.0.2.128/25 inside 192.0.2.0/24"), "{notes}");
    let (problems, notes) = said("10.244.2.0/24", &["192.0.2.1/24", "10.0.0.5/8"], 24);
    assert_eq!(problems, "");
    assert!(notes.starts_with("10.1.0.0/24 and 2 more podCIDRs inside 10.0.0.0/8"), "{notes}");
}

#[test]
fn a_peer_that_is_here_is_left_out_unless_it_may_be_this_node() {
    let (problems, notes) = said("10.2.0.0/24", &["192.0.2.1/32", "2001:db8::2/128"], 0);
    assert_eq!(problems, "");
    assert_eq!(notes, "b is left out: its address 2001:db8::2 is this machine's");
    let (problems, _) = said("10.2.0.0/24", &["192.0.2.2/24"], 0);
    assert!(problems.starts_with("refused: ") && problems.contains("is self b?"), "{problems}");
}
