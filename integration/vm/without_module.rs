// SPDX-License-Identifier: Apache-2.0
//! What manx says on a kernel without the module `ipip`.

use serde_json::json;

use crate::{cluster::Cluster, harness::Pod, machine};

/// The operator must learn what is missing and what to do, from whatever asked
/// first: a person or a runtime.
#[test]
fn a_kernel_without_ipip_is_told_with_both_ways_out() {
    if machine::kernel_has_ipip() {
        // Nothing can be shown here, and nothing is missing: this is about
        // other kernels.
        return;
    }
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let node = &cluster.nodes[0];

    let applied = node.manx(&["apply"]);
    assert_eq!(applied.status, 1, "{applied:?}");
    let added = node.plugin().add(&Pod::new("pod")).error();
    let status = node.plugin().status().error();
    for words in [applied.stderr, added.to_string(), status.to_string()] {
        for part in ["tunl0", "modprobe ipip", "linux-modules-extra", "set mode to vxlan"] {
            assert!(words.contains(part), "{part}: {words}");
        }
        // What follows from the first failure is no news.
        assert!(!words.contains("bring up"), "{words}");
        assert!(!words.contains("modprobe veth"), "{words}");
    }
    assert_eq!(added["code"], 100, "{added}");
    assert_eq!(status["code"], 50, "{status}");
    assert_eq!(node.host.links(), ["eth0"], "a failed ADD leaves no link");
}
