// SPDX-License-Identifier: Apache-2.0
//! What the first line of `manx status` says of a node.

use super::*;
use crate::doctor::overview::{Overview, State};

/// Whatever keeps pods from a node is named before what is wrong with it, as doctor has it.
#[test]
fn why_a_node_is_not_ready_begins_with_what_that_is_about() {
    type Break = fn(&mut Snapshot);
    let faults: [(&str, Break); 5] = [
        ("plugin portmap: ", |node| {
            node.surroundings.plugins[0].problem = Some("no plugin \"portmap\"".into());
        }),
        ("plugin portmap: ", |node| node.surroundings.plugins[0].versions.clear()),
        ("file /etc/cni/net.d/10-manx.conflist: ", |node| {
            node.files[0].problem = Some("mtu is no number".into());
        }),
        ("sysctl net.ipv4.ip_forward: ", |node| {
            node.kernel.sysctls.insert(forwarding::IPV4.into(), "0".into());
        }),
        ("network net: ", |node| fabric(node).applied = false),
    ];
    for (object, fault) in faults {
        let mut node = healthy();
        fault(&mut node);
        let overview = Overview::of(&node);
        let reason = &overview.reason;
        assert_eq!(overview.state, State::NotReady, "{object}");
        assert!(reason.starts_with(object), "{object}: {reason}");
        assert_eq!(reason.matches(object.trim_end()).count(), 1, "{reason}");
    }
    let node = healthy();
    let overview = Overview::of(&node);
    assert_eq!((overview.state, overview.reason.as_str()), (State::Ready, ""));
}
