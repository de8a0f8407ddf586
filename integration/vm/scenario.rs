// SPDX-License-Identifier: Apache-2.0
//! The scenarios; `ipip_between_nodes` runs them, here or in a machine.

use serde_json::json;

use crate::{
    by_hand,
    cluster::{Cluster, Node, fits, transfer},
    harness::Netns,
    machine,
    wire::Wire,
};

const MEGABYTE: usize = 1 << 20;
/// A transfer that fills every window; an emulated machine takes seconds for it.
const MANY: usize = 24 * MEGABYTE;
/// One that fills some.
const SOME: usize = 4 * MEGABYTE;
/// What the fabric's packets of 1500 bytes leave to pods.
const POD_MTU: u32 = 1480;

#[track_caller]
fn assert_reach(from: &Netns, to: &str) {
    assert!(from.pings(to), "no answer from {to}");
}

/// The routes that a node has towards the pods of others.
fn towards(peer: &Node, wrapped: bool) -> String {
    let Node { cidr, address, .. } = peer;
    if wrapped {
        format!("{cidr} via {address} dev tunl0 proto 109 onlink mtu {POD_MTU}")
    } else {
        format!("{cidr} via {address} dev eth0 proto 109 onlink")
    }
}

/// Asserts that the pods of the two nodes exchange packets of exactly the pods'
/// MTU, whole, and so many bytes by TCP.
#[track_caller]
fn assert_traffic(one: &Node, other: &Node, bytes: usize) {
    let (from, to) = (one.pod(), other.pod());
    let fragments = Wire::tap(&one.host, "eth0", "ip[6:2] & 0x3fff != 0");
    assert_reach(&from.pod.netns, &to.address);
    assert_reach(&to.pod.netns, &from.address);
    // The node itself, whose source is the tunnel's address.
    assert_reach(&one.host, &to.address);
    assert_eq!(fits(&from.pod.netns, &to.address, POD_MTU), Ok(true));
    let refused = fits(&from.pod.netns, &to.address, POD_MTU + 1);
    assert!(refused.is_err(), "one more byte must not even leave: {refused:?}");
    assert_eq!(transfer(&from.pod.netns, &to.pod.netns, &to.address, bytes), bytes);
    assert_eq!(fragments.packets(), [""; 0], "nothing is cut on the wire");
}

#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn every_peer_is_behind_the_tunnel() {
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let [a, b, c] = &cluster.nodes;
    let plan = a.plan();
    assert!(plan.contains("10.244.2.0/24 via 192.0.2.12 dev tunl0"), "{plan}");
    cluster.apply();
    for node in &cluster.nodes {
        assert_eq!(node.plan(), "", "{}", node.name);
    }
    assert_eq!(
        a.routes(&["proto", "109", "type", "unicast"]),
        [towards(b, true), towards(c, true)].map(|line| line.replace(" proto 109", ""))
    );
    // RTN_BLACKHOLE is 6.
    assert_eq!(
        a.routes(&["type", "blackhole", "proto", "109"]),
        ["6 10.244.1.0/24 metric 4294967295"]
    );
    assert_eq!(a.host.addresses("tunl0"), ["10.244.1.0/32"]);
    let tunnel = a.host.link("tunl0").unwrap();
    assert_eq!(tunnel["mtu"], POD_MTU);
    assert!(tunnel["flags"].as_array().unwrap().contains(&json!("UP")), "{tunnel}");

    for peer in [b, c] {
        let wire = Wire::tap(&peer.host, "eth0", "ip proto 4");
        assert_traffic(a, peer, MANY);
        let outer = format!("IP 192.0.2.11 > {}: IP 10.244.1.", peer.address);
        wire.expect(&[&outer, "ICMP echo request"]);
    }
    for node in &cluster.nodes {
        assert_eq!(node.plan(), "", "pods change nothing about {}", node.name);
    }
}

/// By our own mask and by the kernel's route lookup, which agree here.
#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn cross_subnet_wraps_only_what_a_router_sees() {
    for choice in [json!(true), json!("route")] {
        let cluster = Cluster::new(&json!({"mode": "ipip", "crossSubnet": choice}));
        let [a, b, c] = &cluster.nodes;
        cluster.apply();
        for node in &cluster.nodes {
            assert_eq!(node.plan(), "", "{}", node.name);
        }
        let found = a.routes(&["proto", "109", "type", "unicast"]);
        let expected = [towards(b, false), towards(c, true)];
        assert_eq!(found, expected.map(|line| line.replace(" proto 109", "")));

        let plain = Wire::tap(&b.host, "eth0", "icmp");
        let wrapped = Wire::tap(&b.host, "eth0", "ip proto 4");
        assert_traffic(a, b, MANY);
        plain.expect(&["IP 10.244.1.", " > 10.244.2.", "echo request"]);
        assert_eq!(wrapped.packets(), [""; 0]);

        let wrapped = Wire::tap(&c.host, "eth0", "ip proto 4");
        assert_traffic(a, c, MANY);
        wrapped.expect(&["IP 192.0.2.11 > 198.51.100.13: IP 10.244.1.", "echo request"]);
    }
}

#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn a_peer_that_leaves_takes_its_route_along() {
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let [a, b, _] = &cluster.nodes;
    cluster.apply();
    cluster.publish(&["node-a", "node-b"]);
    // The route, and the peer in the set of those that may use the tunnel.
    let plan = a.plan();
    assert!(plan.lines().count() == 2 && plan.contains("holds besides 198.51.100.13"), "{plan}");
    a.manx(&["apply"]).ok();
    assert_eq!(a.plan(), "");
    assert_eq!(a.routes(&["10.244.3.0/24"]), [""; 0]);
    assert_traffic(a, b, SOME);
}

/// The tunnel lost its address, came down or was given another MTU.
#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn a_tunnel_that_others_change_is_repaired() {
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let [a, b, _] = &cluster.nodes;
    cluster.apply();
    for line in ["address flush dev tunl0", "link set tunl0 mtu 1400", "link set tunl0 down"] {
        a.host.command("ip", &line.split(' ').collect::<Vec<_>>()).ok();
        assert_ne!(a.plan(), "", "{line}");
        a.manx(&["apply"]).ok();
        assert_eq!(a.plan(), "", "{line}");
    }
    assert_traffic(a, b, SOME);
}

/// After --undo the node is as it was: the module's own device, which cannot be
/// removed, is down and bare.
#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn undo_leaves_nothing_of_ours() {
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let node = &cluster.nodes[0];
    node.host.command("ip", &["route", "add", "10.9.0.0/16", "via", "192.0.2.12"]).ok();
    let before = node.routes(&[]);
    // Twice: the second time the device is there from the beginning.
    for _ in 0..2 {
        node.manx(&["apply"]).ok();
        assert_ne!(node.routes(&[]), before);
        let undone = node.manx(&["apply", "--undo"]).ok();
        assert_eq!(node.routes(&[]), before, "{undone}");
        if let Some(tunnel) = node.host.link("tunl0") {
            assert!(!tunnel["flags"].as_array().unwrap().contains(&json!("UP")), "{tunnel}");
            assert!(tunnel["ifalias"].is_null(), "{tunnel}");
            assert_eq!(node.host.addresses("tunl0"), [""; 0]);
        }
        assert_eq!(node.manx(&["apply", "--undo"]).ok(), "", "nothing is left to undo");
    }
}

/// The first pod of a node brings the tunnel up, with no command before it.
#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn the_first_pod_brings_the_tunnel_up() {
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let [a, _, c] = &cluster.nodes;
    let (from, to) = (a.pod(), c.pod());
    assert_reach(&from.pod.netns, &to.address);
    assert_eq!((a.plan(), c.plan()), (String::new(), String::new()));
    a.plugin().status().ok();
}

/// A namespace without the module's own device gets one of ours, and --undo
/// removes that.
#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn a_tunnel_of_our_own_making_carries_as_well() {
    if !machine::is_inside() {
        // The switch is the machine's, not a namespace's, and not ours to turn.
        return;
    }
    let switch = "/proc/sys/net/core/fb_tunnels_only_for_init_net";
    std::fs::write(switch, "1").unwrap();
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    std::fs::write(switch, "0").unwrap();
    let [a, b, _] = &cluster.nodes;
    assert_eq!(a.host.links(), ["eth0"]);
    cluster.apply();
    assert_traffic(a, b, SOME);
    a.manx(&["apply", "--undo"]).ok();
    assert!(a.host.link("tunl0").is_none());
}

#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn a_node_of_felix_is_a_peer() {
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let [a, b, c] = &cluster.nodes;
    by_hand::program(b, &[a, c]);
    a.manx(&["apply"]).ok();
    c.manx(&["apply"]).ok();
    let felix = by_hand::attach(b, 7);
    for node in [a, c] {
        let ours = node.pod();
        let wire = Wire::tap(&b.host, "eth0", "ip proto 4");
        assert_reach(&ours.pod.netns, &felix.address);
        assert_reach(&felix.pod.netns, &ours.address);
        assert_reach(&node.host, &felix.address);
        assert_reach(&b.host, &ours.address);
        let there = format!("IP {} > {}: IP {} > ", node.address, b.address, ours.address);
        let back = format!("IP {} > {}: IP {} > ", b.address, node.address, felix.address);
        wire.expect(&[&there, "echo request"]);
        wire.expect(&[&back, "echo request"]);
        assert_eq!(fits(&felix.pod.netns, &ours.address, POD_MTU), Ok(true));
        assert_eq!(fits(&ours.pod.netns, &felix.address, POD_MTU), Ok(true));
        let bytes = 2 * MEGABYTE;
        let received = transfer(&felix.pod.netns, &ours.pod.netns, &ours.address, bytes);
        assert_eq!(received, bytes);
    }
}

/// A node that Felix programmed is as it should be already: with Calico's protocol
/// number its routes are ours, with our own they lead to the same next hops.
#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn a_node_of_felix_is_taken_over_without_a_change() {
    for protocol in [80, 109] {
        let cluster = Cluster::new(&json!({"mode": "ipip", "routeProtocol": protocol}));
        let [a, b, c] = &cluster.nodes;
        by_hand::program(a, &[b, c]);
        let before = a.routes(&[]);
        // But for the table that Felix has in its own chains, and the route to nowhere,
        // which ours puts behind all others.
        let plan = a.plan();
        let table = format!("~ nftables table manx.fabric-{protocol}: ");
        let nowhere = |line: &&str| line.contains("blackhole 10.244.1.0/24");
        let (moved, rest): (Vec<&str>, Vec<&str>) = plan.lines().partition(nowhere);
        assert!(rest.len() == 1 && rest[0].starts_with(&table), "{plan}");
        assert_eq!(moved.len(), if protocol == 80 { 2 } else { 0 }, "{plan}");
        assert_eq!(a.manx(&["apply"]).status, 0, "{protocol}");
        // RTN_BLACKHOLE, for the routes are told in numbers.
        let (own, others): (Vec<String>, Vec<String>) =
            a.routes(&[]).into_iter().partition(|route| route.starts_with("6 "));
        let before: Vec<String> =
            before.into_iter().filter(|route| !route.starts_with("6 ")).collect();
        assert_eq!(others, before, "{protocol}");
        assert_eq!(own.len(), 1, "{own:?}");
    }
}

/// One that leads elsewhere stays, too, and is in the way.
#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn a_route_of_felix_that_leads_elsewhere_is_in_the_way() {
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let [a, b, c] = &cluster.nodes;
    by_hand::program(a, &[b, c]);
    let towards = ["route", "replace", b.cidr, "via", "192.0.2.1", "proto", "80"];
    a.host.command("ip", &towards).ok();
    let before = a.routes(&[]);
    assert!(a.plan().contains('!'), "{}", a.plan());
    assert_eq!(a.manx(&["apply"]).status, 1);
    assert_eq!(a.routes(&[]), before);
}

/// A device in use is not ours, whoever made it: what is added to it goes again,
/// and its MTU and address stay.
#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn what_is_added_to_the_tunnel_of_felix_is_taken_back() {
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let a = &cluster.nodes[0];
    let ip = |line: &str| a.host.command("ip", &line.split(' ').collect::<Vec<_>>());
    // Loading the module makes the device, and then it cannot be added.
    ip("link add tunl0 type ipip");
    ip("address add 10.65.7.1/32 dev tunl0").ok();
    ip("link set tunl0 mtu 1440 up").ok();
    let before = (a.routes(&[]), a.host.addresses("tunl0"));
    a.manx(&["apply"]).ok();
    assert_eq!(a.plan(), "");
    let mut addresses = a.host.addresses("tunl0");
    addresses.sort();
    assert_eq!(addresses, ["10.244.1.0/32", "10.65.7.1/32"]);
    let routes = a.routes(&["10.244.2.0/24"]).join("\n");
    assert!(routes.contains("dev tunl0") && routes.contains("mtu 1440"), "{routes}");
    a.manx(&["apply", "--undo"]).ok();
    assert_eq!((a.routes(&[]), a.host.addresses("tunl0")), before);
    let tunnel = a.host.link("tunl0").unwrap();
    assert!(tunnel["mtu"] == 1440 && tunnel["ifalias"].is_null(), "{tunnel}");
}
