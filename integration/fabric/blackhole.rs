// SPDX-License-Identifier: Apache-2.0
//! The route to nowhere for this node's own pods stands behind everybody: only what
//! nobody else has is dropped.

use serde_json::json;

use crate::cluster::{Cluster, Families, Node, batch};
use crate::harness::{Netns, Pod, connect};

fn direct() -> Cluster {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "direct"}));
    cluster.nodes[0].apply().ok();
    cluster
}

/// The bridge of another plugin, and a pod of that.
fn bridge(node: &Node) -> Netns {
    let pod = Netns::new();
    let addresses = ["10.244.1.200/24", "fd00:244:1::200/64"];
    connect((&pod, "eth0", &addresses), (&node.host, "to-pod", &[]));
    batch(
        &node.host,
        "link add cni0 type bridge
         address add 10.244.1.1/24 dev cni0
         address add fd00:244:1::1/64 dev cni0 nodad
         link set to-pod master cni0
         link set cni0 up",
    );
    pod
}

/// As at the boot of a node that moves over with its pods, and whenever the bridge
/// goes down and up.
#[test]
fn a_bridge_that_comes_later_has_its_pods() {
    let cluster = direct();
    let node = &cluster.nodes[0];
    let _pod = bridge(node);
    let reached = || ["10.244.1.200", "fd00:244:1::200"].map(|address| node.host.pings(address));
    assert_eq!(reached(), [true; 2]);
    for verb in ["plan", "apply", "status"] {
        match verb {
            "plan" => node.assert_settled(),
            "apply" => drop(node.apply().ok()),
            _ => drop(node.plugin.status().ok()),
        }
        batch(
            &node.host,
            "link set cni0 down
             link set cni0 up",
        );
        assert_eq!(reached(), [true; 2], "{verb}");
    }
    // Ours is there when the bridge goes.
    batch(&node.host, "link del cni0");
    for cidr in ["blackhole 10.244.1.0/24", "blackhole fd00:244:1::/64"] {
        assert!(node.routes().iter().any(|line| line.starts_with(cidr)), "{:#?}", node.routes());
    }
    node.assert_settled();
}

/// As an earlier version left it, in front of the bridge.
#[test]
fn a_blackhole_in_front_of_others_is_moved_behind_them() {
    let cluster = direct();
    let node = &cluster.nodes[0];
    let right = node.routes();
    let _pod = bridge(node);
    for verb in ["apply", "status", "add"] {
        batch(
            &node.host,
            "route del blackhole 10.244.1.0/24 proto 109
             route del blackhole fd00:244:1::/64 proto 109
             route prepend blackhole 10.244.1.0/24 proto 109
             route add blackhole fd00:244:1::/64 proto 109 metric 255",
        );
        assert_ne!(node.routes(), right);
        match verb {
            "apply" => drop(node.apply().ok()),
            "status" => drop(node.plugin.status().ok()),
            _ => {
                // The first after an upgrade, whose settings read otherwise.
                node.with("mtu", 1400.into()).plugin.add(&Pod::new("a")).ok();
            }
        }
        assert_eq!(node.routes(), right, "{verb}");
        assert!(node.host.pings("10.244.1.200") && node.host.pings("fd00:244:1::200"), "{verb}");
    }
}

/// A route of somebody else to all of this node's pods takes what is sent to them
/// elsewhere, whatever its metric.
#[test]
fn a_way_out_to_the_nodes_own_pods_is_told() {
    for (cidr, route) in [
        ("10.244.1.0/24", "10.244.1.0/24 via 192.0.2.1 proto 186 metric 20"),
        ("fd00:244:1::/64", "fd00:244:1::/64 via 2001:db8:1::1 proto 186 metric 1024"),
    ] {
        let cluster = direct();
        let node = &cluster.nodes[0];
        batch(&node.host, &format!("route add {route}"));
        let plan = node.plan();
        assert!(plan.status == 3 && plan.stdout.contains(&format!("! route {cidr}: ")), "{plan:?}");
        let status = node.manx(&["apply"]);
        assert_eq!(status.status, 1, "{status:?}");
        let reply = node.plugin.status();
        assert_eq!(reply.code(), Some(50), "{reply:?}");
        batch(&node.host, &format!("route del {route}"));
        node.apply().ok();
        node.assert_settled();
    }
}
