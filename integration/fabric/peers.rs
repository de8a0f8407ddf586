// SPDX-License-Identifier: Apache-2.0
//! The peers file: what leaves it leaves the kernel, and a bad one changes
//! nothing.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, SOON, addresses, batch, entry};
use crate::harness::{Pod, eventually};

#[test]
fn a_peer_that_is_gone_leaves_nothing() {
    for (mode, cross_subnet) in [("direct", false), ("vxlan", false), ("vxlan", true)] {
        let keys = json!({"mode": mode, "crossSubnet": cross_subnet});
        let cluster = Cluster::new(3, Families::Dual, &keys);
        let node = &cluster.nodes[0];
        let all: Vec<Value> = (1..=3).map(|number| entry(number, Families::Dual)).collect();
        for gone in 1..=2 {
            node.set_peers(&all);
            node.apply().ok();
            let mut fewer = all.clone();
            fewer.remove(gone);
            node.set_peers(&fewer);
            node.apply().ok();
            node.assert_settled();
            let (cidr, cidr6) =
                (format!("10.244.{}.", gone + 1), format!("fd00:244:{}:", gone + 1));
            let node_of = [format!("2001:db8:{gone}::1{}", gone + 1), format!(".1{}", gone + 1)];
            let state = node.state();
            let left: Vec<&String> = state
                .iter()
                .filter(|line| line.contains(&cidr) || line.contains(&cidr6))
                .chain(state.iter().filter(|line| {
                    line.contains(" dst ") && node_of.iter().any(|address| line.contains(address))
                }))
                .collect();
            assert_eq!(left, [""; 0], "{mode} {cross_subnet}");
        }
        node.set_peers(&all[..1]);
        node.apply().ok();
        node.assert_settled();
        assert_eq!(node.routes().len(), 2, "its own two blackholes: {:#?}", node.routes());
        assert!(!node.state().iter().any(|line| line.contains(" dst ")));
    }
}

/// A peer that moves to another address or gets other pods.
#[test]
fn a_peer_that_changes_is_followed() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    cluster.apply();
    let mut all: Vec<Value> = (1..=3).map(|number| entry(number, Families::Ipv4)).collect();
    all[1]["addresses"] = json!(["192.0.2.99"]);
    all[2]["podCIDRs"] = json!(["10.244.33.0/24"]);
    node.set_peers(&all);
    node.apply().ok();
    node.assert_settled();
    let state = node.state().join("\n");
    assert!(state.contains("dst 192.0.2.99") && !state.contains("dst 192.0.2.12"), "{state}");
    assert!(
        state.contains("10.244.33.0/24 via 10.244.33.0") && !state.contains("10.244.3.0"),
        "{state}"
    );
}

/// Two nodes, the second of which has another value.
fn with(key: &str, value: Value) -> String {
    let mut nodes: Vec<Value> = (1..=2).map(|n| entry(n, Families::Dual)).collect();
    nodes[1][key] = value;
    json!({"self": "node-a", "nodes": nodes}).to_string()
}

/// Every fault that refuses a file, and the words for it.
fn faults() -> Vec<(&'static str, String, &'static str)> {
    let nodes = || -> Vec<Value> { (1..=2).map(|n| entry(n, Families::Dual)).collect() };
    let file = |nodes: &[Value]| json!({"self": "node-a", "nodes": nodes}).to_string();
    let of_me = |key: &str, value: Value| {
        let mut nodes = nodes();
        nodes[0][key] = value;
        file(&nodes)
    };
    let unnamed = json!({"nodes": [{"name": "x", "addresses": ["192.0.2.99"], "podCIDRs": []}]});
    vec![
        ("empty", String::new(), "EOF"),
        ("half a file", file(&nodes())[..60].to_owned(), "EOF"),
        ("no pods", json!({"nodes": [{"name": "a", "addresses": []}]}).to_string(), "podCIDRs"),
        (
            "a mistyped key",
            json!({"nodes": [{"name": "a", "addresses": [], "podCIDR": []}]}).to_string(),
            "nodes[0].podCIDR (did you mean podCIDRs?)",
        ),
        ("a name twice", with("name", json!("node-a")), "node-a is listed twice"),
        (
            "an address twice",
            with("addresses", json!(["192.0.2.11", "2001:db8:1::12"])),
            "both have address 192.0.2.11",
        ),
        ("the same pods", with("podCIDRs", json!(["10.244.1.0/24"])), "overlaps node-a's"),
        ("a part of them", with("podCIDRs", json!(["10.244.1.64/26"])), "overlaps node-a's"),
        ("all of them", with("podCIDRs", json!(["10.244.0.0/16"])), "overlaps"),
        ("their IPv6", with("podCIDRs", json!(["fd00:244::/32"])), "overlaps"),
        ("another's MAC", with("tunnelMAC", json!("66:d4:d5:51:3d:42")), "both have tunnel MAC"),
        ("no address", of_me("addresses", json!(["192.0.2.11"])), "no IPv6 address"),
        ("not a network", of_me("podCIDRs", json!(["10.244.1.0/33"])), "10.244.1.0/33"),
        ("host bits", of_me("podCIDRs", json!(["10.244.1.1/24"])), "has host bits"),
        ("pods of loopback", of_me("podCIDRs", json!(["127.0.0.0/9"])), "loopback"),
        ("where nodes are", of_me("podCIDRs", json!(["192.0.2.12/32"])), "is in node-a's podCIDR"),
        ("the router", of_me("podCIDRs", json!(["192.0.2.0/29"])), "next hop 192.0.2.1"),
        ("multicast MAC", of_me("tunnelMAC", json!("01:00:5e:00:00:01")), "no unicast"),
        ("outside", of_me("podCIDRs", json!(["172.30.0.0/24"])), "in none of clusterCIDRs"),
        (
            "another self",
            json!({"self": "node-z", "nodes": nodes()}).to_string(),
            "\"node-z\" is no node",
        ),
        ("nobody", unnamed.to_string(), "no node has an address of this machine"),
    ]
}

/// Every fault that one node has alone, and the words for it.
fn faults_of_one() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("name", json!(""), "has no name"),
        ("addresses", json!(["192.0.2.12"]), "no IPv6 address"),
        ("addresses", json!(["192.0.2.300"]), "192.0.2.300"),
        ("addresses", json!(["127.0.0.9", "2001:db8:1::12"]), "loopback"),
        ("addresses", json!(["0.0.0.0", "2001:db8:1::12"]), "no node can have"),
        (
            "addresses",
            json!(["198.51.100.13", "2001:db8:1::12"]),
            "both have address 198.51.100.13",
        ),
        ("podCIDRs", json!(["10.244.2.0/33"]), "10.244.2.0/33"),
        ("podCIDRs", json!(["10.244.2.1/24"]), "has host bits"),
        ("podCIDRs", json!(["127.0.0.0/9"]), "loopback"),
        ("podCIDRs", json!(["192.0.2.12/32"]), "is in node-b's podCIDR"),
        ("podCIDRs", json!(["10.7.0.0/24"]), "all of 10.7.0.0/24"),
        ("podCIDRs", json!(["10.6.0.0/15"]), "all of 10.7.0.0/24"),
        ("podCIDRs", json!(["10.7.0.0/30"]), "address 10.7.0.1"),
        ("podCIDRs", json!(["192.0.2.0/29"]), "next hop 192.0.2.1"),
        ("podCIDRs", json!(["2001:db8:1::/125"]), "next hop 2001:db8:1::1"),
        ("podCIDRs", json!(["10.244.3.128/25", "10.244.4.128/25"]), "overlaps"),
        ("podCIDRs", json!(["172.30.0.0/24"]), "in none of clusterCIDRs"),
        ("tunnelAddresses", json!(["x"]), "\"x\""),
        ("tunnelMAC", json!("01:00:5e:00:00:01"), "no unicast"),
        ("tunnelMAC", json!("66:00:00:00:00"), "tunnelMAC"),
    ]
}

/// Storage, say, behind a device that is not the nodes'.
fn second_network(node: &Node) {
    batch(
        &node.host,
        "link add storage type bridge
         address add 10.7.0.1/24 dev storage
         link set storage up",
    );
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let keys = json!({"mode": "vxlan", "clusterCIDRs": ["10.244.0.0/16", "fd00:244::/32"]});
    let cluster = Cluster::new(2, Families::Dual, &keys);
    let node = &cluster.nodes[0];
    second_network(node);
    node.apply().ok();
    let before = node.state();
    for (fault, text, words) in faults() {
        node.write_peers(&text);
        for verb in ["plan", "apply"] {
            let said = node.manx(&[verb]);
            assert_eq!(said.status, 1, "{fault}: {said:?}");
            assert!(said.stderr.contains(words), "{fault}: {said:?}");
            assert!(said.stderr.contains("peers.json"), "{fault}: {said:?}");
        }
        assert_eq!(node.state(), before, "{fault}");
        // Pods go on with the last good one.
        let pod = Pod::new("a");
        let reply = node.plugin.add(&pod);
        assert!(reply.stderr.contains(words), "{fault}: {reply:?}");
        reply.ok();
        node.plugin.del(&pod).ok();
        assert_eq!(node.state(), before, "{fault}");
    }
    std::fs::remove_file(node.peers_file()).unwrap();
    let gone = node.apply();
    assert!(gone.status == 1 && gone.stderr.contains("No such file"), "{gone:?}");
    node.plugin.add(&Pod::new("b")).ok();
    node.plugin.status().ok();
}

#[test]
fn without_a_valid_file_since_boot_nothing_is_attached() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let before = node.state();
    for text in [None, Some("{"), Some(r#"{"self": "node-a", "nodes": []}"#)] {
        match text {
            Some(text) => node.write_peers(text),
            None => std::fs::remove_file(node.peers_file()).unwrap(),
        }
        for reply in [node.plugin.add(&Pod::new("a")), node.plugin.status()] {
            assert_eq!(reply.code(), Some(50), "{reply:?}");
            assert!(reply.error()["msg"].as_str().unwrap().contains("peers.json"));
        }
        assert_eq!(node.state(), before);
        assert_eq!(node.host.links(), ["eth0"]);
    }
    node.set_peers(&[entry(1, Families::Ipv4), entry(2, Families::Ipv4)]);
    node.plugin.status().ok();
    let _a = node.attach("a");
    node.assert_settled();
}

/// DEL, CHECK and GC never read it.
#[test]
fn a_pod_is_checked_and_removed_without_a_file() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let pod = Pod::new("a");
    let result = node.plugin.add(&pod).ok();
    std::fs::remove_file(node.peers_file()).unwrap();
    node.plugin.check(&pod, &result).ok();
    node.plugin.gc(&[&pod]).ok();
    node.plugin.del(&pod).ok();
}

/// Where nobody says which node this is, its addresses do.
#[test]
fn a_node_finds_itself() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let all = [entry(1, Families::Ipv4), entry(2, Families::Ipv4)];
    for node in &cluster.nodes {
        node.write_peers(&json!({"nodes": all}).to_string());
        node.apply().ok();
        node.assert_settled();
    }
    let pods = cluster.pods();
    assert!(pods[0].netns.pings(&addresses(&pods[1])[0]));
}

/// The first ADD after a change of the file brings it to the kernel.
#[test]
fn add_follows_the_file() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let two = [entry(1, Families::Ipv4), entry(2, Families::Ipv4)];
    cluster.nodes[0].set_peers(&two);
    let pods = cluster.pods();
    let theirs = &addresses(&pods[2])[0];
    assert!(!cluster.nodes[0].state().iter().any(|line| line.contains("10.244.3.0")));
    let three: Vec<Value> = (1..=3).map(|number| entry(number, Families::Ipv4)).collect();
    cluster.nodes[0].set_peers(&three);
    let _b = cluster.nodes[0].attach("b");
    assert!(eventually(SOON, || pods[0].netns.pings(theirs)));
    cluster.nodes[0].assert_settled();
}

/// As clouds have it that carve the pods' ranges from the nodes' network: the
/// longer prefix wins.
#[test]
fn pods_may_be_inside_the_nodes_network() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::new(2, Families::Dual, &json!({"mode": mode}));
        let all: Vec<Value> = [1, 2]
            .map(|number| {
                let mut entry = entry(number, Families::Dual);
                entry["podCIDRs"] = json!([
                    format!("192.0.2.{}/28", 64 * number),
                    format!("2001:db8:1:0:{number}::/80")
                ]);
                entry
            })
            .into();
        let nodes: Vec<Node> = (cluster.nodes.iter().zip([1, 2]))
            .map(|(node, number)| {
                let ranges = json!([
                    [{"subnet": format!("192.0.2.{}/28", 64 * number)}],
                    [{"subnet": format!("2001:db8:1:0:{number}::/80")}]
                ]);
                let dir = node.host.scratch().dir("leases");
                let ipam = json!({"type": "host-local", "dataDir": dir, "ranges": ranges});
                node.with("ipam", ipam)
            })
            .collect();
        for node in &nodes {
            node.set_peers(&all);
            let said = node.plan();
            assert_eq!(said.status, 3, "{said:?}");
            for network in ["192.0.2.0/24", "2001:db8:1::/64"] {
                assert!(said.stderr.contains(&format!("inside {network}")), "{said:?}");
            }
            node.apply().ok();
            node.assert_settled();
            node.plugin.status().ok();
        }
        let pods: Vec<Pod> = nodes.iter().map(|node| node.attach("inside")).collect();
        for address in addresses(&pods[1]) {
            assert!(pods[0].netns.pings(&address), "{mode} {address}");
        }
    }
}

/// A floating address that is here now, or one that kube-proxy has on a device
/// of its own, is no reason to be cut off from all others.
#[test]
fn a_peer_whose_address_is_here_is_left_out_alone() {
    let cluster = Cluster::new(3, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    let whole = node.routes();
    batch(
        &node.host,
        "link add kube-ipvs0 type bridge
         address add 192.0.2.12/32 dev kube-ipvs0",
    );
    let apply = node.apply();
    assert_eq!(apply.status, 0, "{apply:?}");
    let note = "node-b is left out: its address 192.0.2.12 is this machine's";
    assert!(apply.stderr.contains(note), "{apply:?}");
    let routes = node.routes();
    let rest: Vec<String> = whole
        .iter()
        .filter(|route| !route.contains("244.2.0") && !route.contains(":244:2:"))
        .cloned()
        .collect();
    assert_eq!(routes, rest);
    assert!(routes.len() == whole.len() - 2);
    node.plugin.status().ok();
    node.plugin.add(&Pod::new("a")).ok();
    batch(&node.host, "link del kube-ipvs0");
    node.apply().ok();
    assert_eq!(node.routes(), whole);
}

/// A file that was copied together with its `self` would make this node another.
#[test]
fn a_file_of_another_node_is_refused() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let all = [entry(1, Families::Ipv4), entry(2, Families::Ipv4)];
    node.write_peers(&json!({"self": "node-b", "nodes": all}).to_string());
    let apply = node.apply();
    assert!(apply.status == 1 && apply.stderr.contains("is self node-a?"), "{apply:?}");
    assert_eq!(node.plugin.status().code(), Some(50));
    assert_eq!(node.routes(), [""; 0]);
}

/// What is wrong with one entry, or clashes with this node, takes that peer out: all
/// others are served, also those that come later, and the node is ready.
#[test]
fn a_fault_of_one_peer_is_its_alone() {
    for mode in ["direct", "vxlan"] {
        let keys = json!({"mode": mode, "clusterCIDRs": ["10.244.0.0/16", "10.6.0.0/15",
            "192.0.2.0/24", "2001:db8:1::/64", "fd00:244::/32"]});
        let cluster = Cluster::new(4, Families::Dual, &keys);
        let node = &cluster.nodes[0];
        second_network(node);
        let of = |number| entry(number, Families::Dual);
        for (key, value, words) in faults_of_one() {
            node.set_peers(&[of(1), of(2), of(3)]);
            node.apply().ok();
            let mut bad = of(2);
            bad[key] = value;
            // The later of two goes, where it is not the node that has the fault.
            node.set_peers(&[of(1), of(3), of(4), bad]);
            let plan = node.plan();
            assert_eq!(plan.status, 3, "{words}: {plan:?}");
            assert_eq!(plan.stderr.matches("left out").count(), 1, "{words}: {plan:?}");
            assert!(plan.stderr.contains(words), "{words}: {plan:?}");
            let told = node.plugin.status();
            assert!(told.status == 0 && told.stderr.contains(words), "{words}: {told:?}");
            let again = node.plugin.status();
            assert!(again.status == 0 && !again.stderr.contains("WARN"), "{words}: {again:?}");
            let routes = node.routes().join("\n");
            for there in ["10.244.3.0/24", "10.244.4.0/24", "fd00:244:3::/64", "fd00:244:4::/64"] {
                assert!(routes.contains(there), "{words}: {routes}");
            }
            let lines = node.routes().len();
            assert_eq!(lines, 6, "{words}: {routes}");
        }
    }
}

/// A network that somebody brings up later, inside the pods of the only peer: no
/// reason to start no pods.
#[test]
fn a_local_network_inside_one_peers_pods_stops_nobody() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let of = |number| entry(number, Families::Ipv4);
    node.set_peers(&[of(1), of(2)]);
    node.plugin.status().ok();
    batch(
        &node.host,
        "link add br-compose type bridge
         address add 10.244.2.1/28 dev br-compose
         link set br-compose up",
    );
    node.set_peers(&[of(1), of(2)]);
    let status = node.plugin.status();
    assert!(status.status == 0 && status.stderr.contains("node-b is left out"), "{status:?}");
    node.plugin.add(&Pod::new("a")).ok();
    node.set_peers(&[of(1), of(2), of(3)]);
    let apply = node.apply();
    assert!(apply.status == 1 && apply.stderr.contains("all of 10.244.2.0/28"), "{apply:?}");
    assert_eq!(node.routes().len(), 2, "{:#?}", node.routes());
    node.plugin.add(&Pod::new("b")).ok();
    batch(&node.host, "link del br-compose");
    node.apply().ok();
    assert_eq!(node.routes().len(), 3);
    node.assert_settled();
}

/// As at boot, when the list is read before the network is there by which it is
/// seen to be wrong: what is no good in a file is no better in the last one.
#[test]
fn the_last_list_has_to_be_sound_as_well() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let mut all: Vec<Value> = (1..=3).map(|number| entry(number, Families::Ipv4)).collect();
    all[1]["podCIDRs"] = json!(["10.7.0.0/24"]);
    node.set_peers(&all);
    node.apply().ok();
    let applied = node.routes();
    second_network(node);
    for file in [true, false] {
        if !file {
            std::fs::remove_file(node.peers_file()).unwrap();
        }
        batch(&node.host, "route flush proto 109");
        let reply = node.plugin.status();
        assert!(reply.status == 0 && node.routes().len() == 2, "{reply:?}");
        assert!(!node.routes().join("").contains("10.7.0.0/24"), "of {applied:?}");
    }
    // Nor does this node have pods where none may be.
    batch(&node.host, "link del storage");
    let bounded = node.with("clusterCIDRs", json!(["10.7.0.0/16"]));
    batch(&node.host, "route flush proto 109");
    let reply = bounded.plugin.status();
    assert_eq!(reply.code(), Some(50), "{reply:?}");
    assert_eq!(node.routes(), [""; 0]);
    node.plugin.status().ok();
    assert_eq!(node.routes(), applied);
}
