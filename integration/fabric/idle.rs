// SPDX-License-Identifier: Apache-2.0
//! What is as it should be is not touched.

use serde_json::json;

use crate::cluster::{Cluster, Families, SOON};
use crate::harness::eventually;
use crate::monitor::{Monitor, requests};

#[test]
fn the_second_apply_changes_nothing() {
    for (mode, cross_subnet) in [("direct", false), ("vxlan", false), ("vxlan", true)] {
        let keys = json!({"mode": mode, "crossSubnet": cross_subnet, "ipMasq": true});
        let cluster = Cluster::new(3, Families::Dual, &keys);
        let node = &cluster.nodes[0];
        let sent = requests(node, &["apply"]);
        assert!(sent.iter().any(|line| line.contains("RTM_NEWROUTE")), "{sent:?}");
        let _pod = node.attach("a");
        // The kernel tells of a new IPv6 address a while after it was given.
        let tentative = || node.host.command("ip", &["-6", "address", "show", "tentative"]).ok();
        assert!(eventually(SOON, || tentative().is_empty()), "{}", tentative());
        let mut monitor = Monitor::of(&node.host);
        let again = requests(node, &["apply"]);
        assert_eq!(again, [""; 0], "{mode}: asked for");
        assert_eq!(monitor.changes(), [], "{mode}: happened");
        node.assert_settled();
        // Nor does the next pod bring more than itself.
        let before = node.routes();
        let _b = node.attach("b");
        assert_eq!(node.routes(), before);
    }
}

/// Plan looks, and that is all.
#[test]
fn plan_changes_nothing() {
    let cluster = Cluster::new(3, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let mut monitor = Monitor::of(&node.host);
    assert_eq!(node.plan().status, 3);
    assert_eq!(monitor.changes(), []);
    assert_eq!(node.host.sysctl("ipv4/ip_forward"), "0");
}
