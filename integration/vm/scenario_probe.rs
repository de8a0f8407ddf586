// SPDX-License-Identifier: Apache-2.0
//! `manx probe` where a network drops IP protocol 4; `ipip_between_nodes` runs it, here or
//! in a machine.

use serde_json::json;

use crate::{
    cluster::{Cluster, Node},
    harness::{Finished, Netns, Scratch},
};

/// What the router makes of what it forwards.
fn firewall(router: &Netns, rule: &str) {
    let scratch = Scratch::new();
    let rules = format!(
        "flush ruleset
         table ip test {{
             chain forward {{
                 type filter hook forward priority 0;
                 {rule}
             }}
         }}"
    );
    let file = scratch.file("rules", rules);
    router.command("nft", &["-f", file.to_str().expect("a path of ASCII")]).ok();
}

#[track_caller]
fn assert_told(node: &Node, status: i32, words: &[&str]) {
    let told: Finished = node.manx(&["probe"]);
    let first = told.stdout.lines().next().unwrap_or_default();
    assert!(told.status == status && words.iter().all(|word| first.contains(word)), "{told:#?}");
}

#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn a_filter_of_protocol_4_is_told_apart() {
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let [a, _, c] = &cluster.nodes;
    cluster.apply();
    assert_told(a, 0, &["healthy: nodes probed: 2"]);
    for (verdict, words) in [
        ("drop", "nobody refuses it"),
        ("reject", "192.0.2.254 says that nobody listens"),
        ("reject with icmp admin-prohibited", "192.0.2.254 says that it is not allowed"),
    ] {
        firewall(&cluster.router, &format!("ip daddr {} ip protocol 4 {verdict};", c.address));
        let filtered = ["error: protocol-filtered: node node-c: ", "IP protocol 4 is filtered"];
        assert_told(a, 3, &[filtered[0], filtered[1], words]);
    }
    firewall(&cluster.router, "");
    c.manx(&["apply", "--undo"]).ok();
    assert_told(a, 3, &["error: peer-unreachable: node node-c: ", "it has no tunnel device"]);
}
