// SPDX-License-Identifier: Apache-2.0
//! What is noted on Nodes, which their kubelets write, and what of it is believed.

use super::*;

/// The address of a node is no pod's, and that of a tunnel is with its node, whoever has the
/// block around it, where the block says so.
#[test]
fn addresses_of_nodes_in_a_block_are_theirs() {
    let pool = pool("0.0.0.0/0", json!({"vxlanMode": "Always"}));
    let tunnels = [(2, "tunnel of one"), (3, "tunnel of two")];
    let blocks = vec![block("192.168.0.0/29", "one", &[]), block("10.0.0.0/29", "two", &tunnels)];
    let cluster = cluster(vec![pool], blocks);
    cluster.serves(&[
        "here 10.0.0.1/32 by 10.0.0.1",
        "one 192.168.0.0/32 192.168.0.3/32 192.168.0.4/30 10.0.0.2/32 by 10.0.0.2",
        "two 10.0.0.0/32 10.0.0.3/32 10.0.0.4/30 by 10.0.0.3",
    ]);
    // Felix takes every node's address for no pod's. But a block is what Calico's IPAM says,
    // and the address is what a node says of itself.
    let (records, common) = cluster.settled().unwrap();
    assert_eq!(records[2].addresses, []);
    let words = "address 192.168.0.3 does not count: it is in block 192.168.0.0/29 of one";
    assert_eq!(common.findings[0].evidence, words);
    // This node has its own tunnel's, and says that it would better have another.
    let own = &common.findings[1];
    assert_eq!((own.id, own.object.as_str()), ("address-ignored", "Node here"));
    assert!(own.fix.ends_with(" --overwrite"), "{}", own.fix);
    assert_eq!(common.trouble, None);
}

/// All nodes make a route to where a tunnel ends, and a kubelet writes its own notes.
#[test]
fn a_tunnels_address_is_one_that_calico_gives_for_that() {
    let pods = [(1, "two"), (2, "one"), (4, "tunnel of one"), (5, "tunnel of here")];
    for (address, doubt) in [
        // Of no block, as of a node that has it reserved, and of one of its own.
        ("10.0.0.9", None),
        ("10.0.1.10", None),
        ("10.0.1.4", None),
        ("10.0.1.2", Some("it is in block 10.0.1.0/29 of two")),
        ("10.0.1.1", Some("it is in block 10.0.1.0/29 of two")),
        ("10.0.1.3", Some("it is in block 10.0.1.0/29 of two")),
        ("10.0.1.5", Some("here has it, by Calico's blocks")),
        ("10.0.1.11", Some("two has it, by Calico's blocks")),
        ("10.0.1.17", Some("it is in a block of Calico that has no node")),
        ("8.8.8.8", Some("it is in no IPPool of that mode")),
        ("10.9.0.1", Some("it is in no IPPool of that mode")),
        ("192.168.0.3", Some("it is in no IPPool of that mode")),
    ] {
        let notes = json!({"IPv4Address": "192.168.0.2/24", "IPv4VXLANTunnelAddr": address,
            "IPv4IPIPTunnelAddr": "8.8.4.4", "IPv6VXLANTunnelAddr": "2001:db8::53"});
        let blocks = vec![
            block("10.0.1.0/29", "two", &pods),
            block("10.0.1.8/29", "one", &[(3, "two")]),
            block("10.0.1.16/29", "", &[]),
        ];
        let plain = pool("10.9.0.0/16", json!({}));
        let cluster = cluster(vec![vxlan("Always"), plain], blocks).with_nodes(vec![
            noted("here", 1),
            node("one", 2, notes),
            noted("two", 3),
        ]);
        let served = cluster.served();
        let found = cluster.common().findings;
        let told: Vec<&str> = (found.iter().filter(|one| one.id == "address-ignored"))
            .map(|one| one.evidence.as_str())
            .collect();
        let expected =
            doubt.map(|words| format!("tunnel address {address} does not count: {words}"));
        assert_eq!(told, expected.iter().map(String::as_str).collect::<Vec<_>>(), "{address}");
        let ends = served[1].contains(&format!("by {address}"));
        assert_eq!(ends, doubt.is_none(), "{address}: {served:?}");
        // Its pods are there in any case, and so are the others'.
        assert!(served[1].contains("10.0.1.8/31 10.0.1.10/32 10.0.1.12/30"), "{served:?}");
        assert!(served[2].starts_with("two 10.0.1.0/31 10.0.1.3/32 "), "{address}: {served:?}");
    }
}

/// By the age of Nodes, where blocks are what Nodes say themselves.
#[test]
fn without_blocks_nothing_is_cut_out_of_what_an_older_node_has() {
    let of = |name: &str, end: u8, cidr: &str| {
        let mut node = noted(name, end);
        node["spec"] = json!({"podCIDRs": [cidr]});
        node
    };
    let one = of("one", 2, "10.0.0.0/24");
    let two = of("two", 3, "10.0.0.0/24");
    let cluster = cluster(vec![vxlan("Always")], Vec::new());
    let nodes = vec![of("here", 1, "10.0.9.0/24"), one, two];
    Cluster { host_local: true, nodes, ..cluster }.serves(&[
        "here 10.0.9.0/24 by 10.0.0.1",
        "one 10.0.0.0/24 by 10.0.0.2",
        "two 10.0.0.0/24 by 10.0.0.3",
    ]);
}

#[test]
fn an_address_of_a_pool_that_is_gone_is_given_up() {
    let cluster = cluster(vec![vxlan("Always")], vec![block("10.0.1.0/29", "one", &[])]);
    let old = json!({"IPv4Address": "192.168.0.1/24", "IPv4VXLANTunnelAddr": "10.9.0.1"});
    let cluster = cluster.with_nodes(vec![node("here", 1, old), noted("one", 2)]);
    let proposed = cluster.served()[0].replace("here by ", "");
    assert!(proposed.starts_with("10.0."), "{proposed}");
    let fix = cluster.common().trouble.unwrap().fix;
    let expected = format!(
        "kubectl annotate node here projectcalico.org/IPv4VXLANTunnelAddr={proposed} --overwrite"
    );
    assert!(fix.ends_with(&expected), "{fix}");
}
