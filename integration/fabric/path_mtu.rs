// SPDX-License-Identifier: Apache-2.0
//! What a node learns of a path is not what its fabric is made of.

use serde_json::json;

use crate::cluster::{Cluster, Families, SOON, address, bare, batch};
use crate::harness::eventually;

/// Makes the second subnet one of `mtu` bytes.
fn narrow(cluster: &Cluster, mtu: u32) {
    batch(&cluster.router, &format!("link set to-c mtu {mtu}\nlink set subnet2 mtu {mtu}"));
    batch(&cluster.nodes[2].host, &format!("link set eth0 mtu {mtu}"));
}

/// One "fragmentation needed" of a narrow place is forgotten in ten minutes, and
/// tells nothing of the way to the others.
#[test]
fn a_learnt_path_mtu_changes_nothing() {
    let cluster = Cluster::new(3, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    let before = node.state();
    narrow(&cluster, 1280);
    for ipv6 in [false, true] {
        let peer = address(3, ipv6);
        let peer = bare(&peer);
        let ping = ["-c", "1", "-W", "1", "-M", "do", "-s", "1400", peer];
        let learnt = || node.host.command("ip", &["route", "get", peer]).ok();
        // The first may be lost while neighbours are found.
        let learns = eventually(SOON, || {
            assert_ne!(node.host.command("ping", &ping).status, 0);
            learnt().contains("mtu 1280")
        });
        assert!(learns, "{}", learnt());
    }
    node.assert_settled();
    node.apply().ok();
    assert_eq!(node.state(), before);
}

/// The MTU that somebody gave a route counts.
#[test]
fn the_mtu_of_a_route_is_the_paths() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    batch(
        &node.host,
        "route add 192.0.2.12/32 dev eth0 mtu 1400\nroute add 2001:db8:1::12/128 dev eth0 mtu 1400",
    );
    node.apply().ok();
    let state = node.state().join("\n");
    for mtu in ["\"vxlan.calico\" mtu 1350", "\"vxlan-v6.calico\" mtu 1330"] {
        assert!(state.contains(mtu), "{mtu}: {state}");
    }
}

/// The kernel takes IPv6 off a device of less than 1280 bytes, and with it the
/// routes that were made: there is no such tunnel, and that is told.
#[test]
fn ipv6_has_no_tunnel_where_it_does_not_fit() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    for narrow in [false, true] {
        if narrow {
            node.apply().ok();
        }
        batch(&node.host, "link set eth0 mtu 1349");
        let apply = node.apply();
        assert!(apply.stderr.contains("1279") && apply.stderr.contains("1280"), "{apply:?}");
        assert!(node.host.link("vxlan-v6.calico").is_none());
        let routes = node.routes();
        assert!(!routes.join("\n").contains("fd00:244:2::/64"), "{routes:#?}");
        assert!(routes.join("\n").contains("vxlan.calico"), "{routes:#?}");
        let plan = node.plan();
        assert!(apply.status == 1 && plan.status == 3 && plan.stdout.is_empty(), "{plan:?}");
        batch(&node.host, "link set eth0 mtu 1350");
        node.apply().ok();
        node.assert_settled();
        assert!(node.host.link("vxlan-v6.calico").is_some());
        assert!(node.routes().join("\n").contains("fd00:244:2::/64"));
        batch(&node.host, "link set eth0 mtu 1500");
    }
}
