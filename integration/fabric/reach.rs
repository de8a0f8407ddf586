// SPDX-License-Identifier: Apache-2.0
//! Pods reach pods, in every mode that this kernel has, and the wire shows how.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, address, addresses, bare, batch};
use crate::harness::{Netns, Pod};
use crate::traffic::{assert_exact_mtu, fragments, transfer};
use crate::wire::{Capture, carried};

/// Bytes of one transfer.
const MANY: usize = 24 << 20;

/// What two nodes' packets to each other are to look like.
struct Way<'a> {
    nodes: [usize; 2],
    carried: &'a str,
}

/// Attaches a pod to each node, and asserts that the first and the others reach
/// each other, with exactly `mtu` bytes and not one more, in the way given.
fn assert_reach(cluster: &Cluster, families: Families, mtu: usize, ways: &[Way<'_>]) {
    let pods = cluster.pods();
    for way in ways {
        let [one, other] = way.nodes.map(|number| number - 1);
        for ipv6 in [false, true].into_iter().filter(|v6| !v6 || families == Families::Dual) {
            let place = usize::from(ipv6);
            let theirs = &addresses(&pods[other])[place];
            let capture = Capture::start(&cluster.router);
            assert_exact_mtu(&pods[one].netns, theirs, mtu);
            transfer(&pods[one].netns, &pods[other].netns, theirs, MANY);
            let own = &addresses(&pods[one])[place];
            assert_exact_mtu(&pods[other].netns, own, mtu);
            let ends = way.nodes.map(|number| address(number, ipv6));
            let seen = carried(&capture.packets(), [bare(&ends[0]), bare(&ends[1])], [own, theirs]);
            assert_eq!(seen, [way.carried], "from {own} to {theirs}");
            let host = &cluster.nodes[one].host;
            assert!(host.pings(theirs), "from node {} to {theirs}", way.nodes[0]);
        }
    }
    for node in &cluster.nodes {
        node.assert_settled();
    }
    let namespaces = std::iter::once(&cluster.router)
        .chain(cluster.nodes.iter().map(|node| &*node.host))
        .chain(pods.iter().map(|pod: &Pod| &pod.netns));
    assert_eq!(namespaces.map(|netns: &Netns| fragments(netns)).sum::<u64>(), 0);
}

fn settings(mode: &str, cross_subnet: Value) -> Value {
    let mut keys = json!({"mode": mode});
    if !cross_subnet.is_null() {
        keys["crossSubnet"] = cross_subnet;
    }
    keys
}

#[test]
fn direct() {
    let cluster = Cluster::new(3, Families::Dual, &settings("direct", Value::Null));
    cluster.teach_router();
    let ways = [Way { nodes: [1, 2], carried: "plain" }, Way { nodes: [1, 3], carried: "plain" }];
    assert_reach(&cluster, Families::Dual, 1500, &ways);
    let routes = cluster.nodes[0].routes();
    assert!(routes.contains(&"10.244.2.0/24 via 192.0.2.12 dev eth0 proto 109 onlink".into()));
    assert!(routes.contains(&"10.244.3.0/24 via 192.0.2.1 dev eth0 proto 109".into()));
    assert!(routes.contains(&"blackhole 10.244.1.0/24 proto 109 metric 4294967295".into()));
}

#[test]
fn vxlan() {
    let cluster = Cluster::new(3, Families::Ipv4, &settings("vxlan", Value::Null));
    let ways =
        [(1, 2), (1, 3)].map(|(one, other)| Way { nodes: [one, other], carried: "udp 4789" });
    assert_reach(&cluster, Families::Ipv4, 1450, &ways);
}

/// The larger of both families' overheads counts.
#[test]
fn vxlan_of_both_families() {
    let cluster = Cluster::new(3, Families::Dual, &settings("vxlan", Value::Null));
    let ways =
        [(1, 2), (1, 3)].map(|(one, other)| Way { nodes: [one, other], carried: "udp 4789" });
    assert_reach(&cluster, Families::Dual, 1430, &ways);
}

#[test]
fn vxlan_towards_other_subnets_by_mask() {
    let cluster = Cluster::new(4, Families::Dual, &settings("vxlan", true.into()));
    let ways = [
        Way { nodes: [1, 2], carried: "plain" },
        Way { nodes: [1, 3], carried: "udp 4789" },
        Way { nodes: [4, 3], carried: "plain" },
        Way { nodes: [4, 2], carried: "udp 4789" },
    ];
    assert_reach(&cluster, Families::Dual, 1430, &ways);
}

#[test]
fn vxlan_towards_other_subnets_by_route() {
    let cluster = Cluster::new(3, Families::Dual, &settings("vxlan", "route".into()));
    let ways =
        [Way { nodes: [1, 2], carried: "plain" }, Way { nodes: [1, 3], carried: "udp 4789" }];
    assert_reach(&cluster, Families::Dual, 1430, &ways);
}

/// Addresses of full length, as some clouds give them: the mask tells nothing,
/// the kernel's routes do.
#[test]
fn addresses_of_full_length() {
    for (cross_subnet, expected) in [(json!(true), "udp 4789"), (json!("route"), "plain")] {
        let cluster = Cluster::new(2, Families::Ipv4, &settings("vxlan", cross_subnet));
        for node in &cluster.nodes {
            let own = address(node.number, false);
            let full = bare(&own);
            batch(
                &node.host,
                &format!(
                    "address del {own} dev eth0
                     address add {full}/32 dev eth0
                     route add 192.0.2.0/24 dev eth0 src {full}
                     route add default via 192.0.2.1"
                ),
            );
        }
        let ways = [Way { nodes: [1, 2], carried: expected }];
        assert_reach(&cluster, Families::Ipv4, 1450, &ways);
    }
}

/// An uplink of another MTU shows in pods and tunnels alike.
#[test]
fn a_narrow_uplink() {
    let cluster = Cluster::new(2, Families::Ipv4, &settings("vxlan", Value::Null));
    for node in &cluster.nodes {
        batch(&node.host, "link set eth0 mtu 1400");
    }
    let ways = [Way { nodes: [1, 2], carried: "udp 4789" }];
    assert_reach(&cluster, Families::Ipv4, 1350, &ways);
}
