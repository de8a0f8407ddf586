// SPDX-License-Identifier: Apache-2.0
//! Where the kernel decides otherwise than a comparison by keys: what diverts packets,
//! and what stands in a device's way, is told by name.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, addresses, batch, entry};
use crate::harness::Pod;

/// A plan tells of it, and STATUS as a warning; and no more when it is gone.
#[track_caller]
fn is_told(node: &Node, begin: &str, end: &str, words: &[&str]) {
    node.apply().ok();
    node.assert_settled();
    batch(&node.host, begin);
    let plan = node.manx(&["plan", "--json"]);
    assert_eq!(plan.status, 3, "{begin}: {plan:?}");
    let changes: Value = serde_json::from_str(&plan.stdout).unwrap();
    let first = &changes["changes"][0];
    assert_eq!(first["action"], "conflict", "{begin}: {changes}");
    for words in words {
        assert!(plan.stdout.contains(words), "{words}: {changes}");
    }
    let state = node.state();
    let apply = node.apply();
    assert_eq!(apply.status, 1, "{begin}: {apply:?}");
    assert_eq!(node.state(), state, "it is left alone");
    node.plugin.status().ok();
    batch(&node.host, end);
    node.apply().ok();
    node.assert_settled();
}

/// Another's routes to parts of a peer's pods.
#[test]
fn a_longer_prefix_of_somebody_else_is_told() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::new(3, Families::Dual, &json!({"mode": mode}));
        let node = &cluster.nodes[0];
        for (route, words) in [
            ("10.244.2.128/25 via 192.0.2.1 proto 186", "10.244.2.128/25 via 192.0.2.1"),
            ("unreachable 10.244.2.77/32 proto 4", "unreachable 10.244.2.77/32"),
            ("fd00:244:2:0:1::/80 via 2001:db8:1::1 proto 186", "fd00:244:2:0:1::/80"),
        ] {
            let (begin, end) = (format!("route add {route}"), format!("route del {route}"));
            is_told(node, &begin, &end, &[words]);
        }
        // One that leads to the same next hop does no harm.
        let routes = node.routes();
        let ours = routes.iter().find(|line| line.starts_with("10.244.2.0/24")).unwrap();
        let same = ours.replace("10.244.2.0/24", "10.244.2.64/26").replace("proto 109", "proto 4");
        batch(&node.host, &format!("route add {same}"));
        node.assert_settled();
    }
}

/// A rule is told where it leads the pods' packets elsewhere, and where not it is not.
#[test]
fn a_policy_rule_that_leads_elsewhere_is_told() {
    let cluster = Cluster::new(3, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let pod = node.attach("a");
    batch(
        &node.host,
        "route add default via 192.0.2.1 table 100
         route add default via 2001:db8:1::1 table 100",
    );
    let own = &addresses(&pod)[0];
    for (rule, table) in [
        ("rule add to 10.244.2.0/24 lookup 100 pref 900", "table 100"),
        ("rule add from 10.244.1.0/24 lookup 100 pref 900", "table 100"),
        (&format!("rule add from {own} lookup 100 pref 900"), "table 100"),
        ("rule add to 10.244.2.0/24 pref 900 prohibit", "leads nowhere"),
        ("-6 rule add to fd00:244:2::/64 lookup 100 pref 900", "table 100"),
    ] {
        let (begin, end) = (rule.to_owned(), rule.replace(" add ", " del "));
        let run = |line: &str| {
            let args: Vec<&str> = line.split(' ').collect();
            node.host.command("ip", &args).ok();
        };
        node.assert_settled();
        run(&begin);
        let plan = node.plan();
        assert!(plan.status == 3 && plan.stdout.contains(table), "{rule}: {plan:?}");
        assert!(plan.stdout.contains("! route "), "{rule}: {plan:?}");
        // Nothing that keeps the node from being ready: somebody may want it.
        node.plugin.status().ok();
        run(&end);
        node.assert_settled();
    }
    for rule in [
        "rule add from 203.0.113.0/24 lookup 100 pref 900",
        "rule add fwmark 7 lookup 100 pref 900",
        "rule add to 203.0.113.0/24 lookup 100 pref 900",
        "rule add lookup main suppress_prefixlength 0 pref 901",
        "rule add lookup 100 pref 32800",
    ] {
        let args: Vec<&str> = rule.split(' ').collect();
        node.host.command("ip", &args).ok();
        node.assert_settled();
    }
}

/// Devices of others by whose side the kernel takes no such tunnel.
#[test]
fn a_vxlan_device_in_the_way_is_named() {
    for (name, kind) in [
        ("flannel.1", "vxlan id 4096 dstport 4789 local 192.0.2.11 dev eth0 nolearning"),
        ("any", "vxlan id 4096 dstport 4789 group 239.1.1.1 dev eth0"),
        ("cilium_vxlan", "vxlan external dstport 4789"),
        ("policy0", "vxlan id 7 dstport 4789 local 192.0.2.11 gbp"),
    ] {
        let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
        let node = &cluster.nodes[0];
        batch(
            &node.host,
            &format!(
                "link add {name} type {kind}
                 link set {name} up"
            ),
        );
        let plan = node.plan();
        assert!(plan.status == 3 && plan.stderr.contains(&format!("{name} (vxlan")), "{plan:?}");
        let apply = node.apply();
        assert!(apply.status == 1 && apply.stderr.contains(name), "{name}: {apply:?}");
        assert!(!apply.stderr.contains("in use"), "{name}: {apply:?}");
        assert!(!node.host.links().contains(&"vxlan.calico".to_owned()), "{name}");
        let reply = node.plugin.status();
        assert_eq!(reply.code(), Some(50), "{reply:?}");
        let error = reply.error();
        assert!(error["msg"].as_str().unwrap().contains(name), "{error}");
        batch(&node.host, &format!("link del {name}"));
        node.apply().ok();
        node.assert_settled();
    }
    // Another VNI shares the port, and another port the VNI.
    for kind in ["vxlan id 4097 dstport 4789", "vxlan id 4096 dstport 8472"] {
        let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
        let node = &cluster.nodes[0];
        batch(
            &node.host,
            &format!(
                "link add other type {kind} local 192.0.2.11 dev eth0
                 link set other up"
            ),
        );
        node.apply().ok();
        node.assert_settled();
    }
}

/// As anycast and routed hosts have it: the node's address on loopback, too.
#[test]
fn an_address_on_loopback_too_is_the_uplinks() {
    for keys in [json!({"mode": "vxlan"}), json!({"mode": "vxlan", "crossSubnet": true})] {
        let cluster = Cluster::new(3, Families::Dual, &keys);
        let node = &cluster.nodes[0];
        node.apply().ok();
        let before = node.state();
        node.manx(&["apply", "--undo"]).ok();
        batch(
            &node.host,
            "address add 192.0.2.11/32 dev lo
             address add 2001:db8:1::11/128 dev lo",
        );
        node.apply().ok();
        node.assert_settled();
        assert_eq!(node.state(), before, "{keys}");
    }
}

/// And where it is there alone, the routes decide which device packets leave by.
#[test]
fn an_address_on_loopback_alone_has_no_device() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let nodes = &cluster.nodes;
    batch(
        &nodes[0].host,
        "address add 192.0.2.11/32 dev lo
         address del 192.0.2.11/24 dev eth0
         route add 192.0.2.12 dev eth0 scope link
         route add default via 192.0.2.12 dev eth0",
    );
    cluster.apply();
    nodes[0].assert_settled();
    let pods = cluster.pods();
    assert!(pods[0].netns.pings(&addresses(&pods[1])[0]));
}

/// Nodes with tunnel addresses that are no pods': what a node itself sends has one as its
/// source, and is answered.
#[test]
fn a_tunnel_address_outside_of_the_pods_is_reached() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let peers: Vec<Value> = (1..=2)
        .map(|number| {
            let mut entry = entry(number, Families::Dual);
            entry["tunnelAddresses"] =
                json!([format!("10.99.0.{number}"), format!("fd00:99::{number}")]);
            entry
        })
        .collect();
    for node in &cluster.nodes {
        node.set_peers(&peers);
        node.apply().ok();
        node.assert_settled();
    }
    let pods = cluster.pods();
    for (node, pod) in cluster.nodes.iter().zip(pods.iter().rev()) {
        for address in addresses(pod) {
            assert!(node.host.pings(&address), "{address}");
        }
    }
    // They go with their peer.
    cluster.nodes[0].set_peers(&peers[..1]);
    cluster.nodes[0].apply().ok();
    assert!(!cluster.nodes[0].state().join("\n").contains("10.99.0.2"));
    cluster.nodes[0].assert_settled();
}

/// An address that a pod has is none of a tunnel's.
#[test]
fn a_tunnel_takes_no_pods_address() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let pod = node.attach("a");
    let own = addresses(&pod)[0].clone();
    let mut peers: Vec<Value> = (1..=2).map(|number| entry(number, Families::Ipv4)).collect();
    peers[0]["tunnelAddresses"] = json!([own]);
    node.set_peers(&peers);
    let plan = node.plan();
    assert!(plan.status == 3 && plan.stderr.contains(&own), "{plan:?}");
    let apply = node.apply();
    assert!(apply.stderr.contains(&format!("cannot have the address {own}")), "{apply:?}");
    let without = ["10.244.1.0/32"];
    assert_eq!(node.host.addresses("vxlan.calico"), without);
    assert!(node.host.pings(&own));
    // Nor of one that was there first.
    let device = ["address", "add", &format!("{own}/32"), "dev", "vxlan.calico"];
    node.host.command("ip", &device).ok();
    node.apply();
    assert_eq!(node.host.addresses("vxlan.calico"), without);
    assert!(node.host.pings(&own));
    let status = node.plugin.status();
    assert_eq!(status.status, 0, "{status:?}");
    node.plugin.del(&pod).ok();
    node.apply().ok();
    assert_eq!(node.host.addresses("vxlan.calico"), [format!("{own}/32")]);
}

/// Nor one that the store of another network has leased.
#[test]
fn a_tunnel_takes_no_leased_address() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let store = node.host.scratch().dir("root/var/lib/cni/networks/bridge");
    std::fs::write(store.join("10.244.1.0"), "somebody\r\neth0").unwrap();
    let plan = node.plan();
    assert!(plan.stderr.contains("10.244.1.0, which is leased to a pod"), "{plan:?}");
    assert!(!plan.stdout.contains("address of vxlan.calico"), "{plan:?}");
    std::fs::remove_file(store.join("10.244.1.0")).unwrap();
    node.apply().ok();
    assert_eq!(node.host.addresses("vxlan.calico"), ["10.244.1.0/32"]);
}

/// What a link takes along when it goes down, and a family's last address.
#[test]
fn the_next_pod_brings_back_what_a_link_took_along() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::new(2, Families::Dual, &json!({"mode": mode}));
        let node = &cluster.nodes[0];
        node.apply().ok();
        let whole = node.routes();
        for loss in [
            "link set eth0 down
             link set eth0 up
             route replace default via 192.0.2.1 dev eth0
             route replace default via 2001:db8:1::1 dev eth0",
            "address del 192.0.2.11/24 dev eth0
             address add 192.0.2.11/24 dev eth0
             route replace default via 192.0.2.1 dev eth0",
            "route flush proto 109",
        ] {
            for by in ["ADD", "STATUS"] {
                batch(&node.host, loss);
                let pod = Pod::new("a");
                match by {
                    "ADD" => drop(node.plugin.add(&pod).ok()),
                    _ => drop(node.plugin.status().ok()),
                }
                assert_eq!(node.routes(), whole, "{mode}, {by}: {loss}");
                node.plugin.del(&pod).ok();
            }
        }
    }
}

/// While the link is down a pod starts; the first one after it is up again has its peers.
#[test]
fn a_pod_that_started_without_a_link_does_not_hide_its_return() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    let whole = node.routes();
    batch(&node.host, "link set eth0 down");
    node.plugin.add(&Pod::new("a")).ok();
    assert_ne!(node.routes(), whole);
    batch(
        &node.host,
        "link set eth0 up
         route replace default via 192.0.2.1 dev eth0",
    );
    node.plugin.add(&Pod::new("b")).ok();
    assert_eq!(node.routes(), whole);
}

/// A cable that is pulled and put back takes nothing along.
#[test]
fn routes_survive_the_loss_of_the_carrier() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::new(2, Families::Dual, &json!({"mode": mode}));
        let node = &cluster.nodes[0];
        node.apply().ok();
        let whole = node.routes();
        batch(&cluster.router, "link set to-a down");
        node.plugin.add(&Pod::new("a")).ok();
        node.plugin.status().ok();
        batch(&cluster.router, "link set to-a up");
        assert_eq!(node.routes(), whole, "{mode}");
    }
}
