// SPDX-License-Identifier: Apache-2.0
//! What others have is reported and left alone.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, batch, entries};

/// Another's routes, of which the first ones have the key of one of ours.
const SAME_KEY: [(&str, &str); 4] = [
    ("10.244.2.0/24", "route add 10.244.2.0/24 via 192.0.2.1 proto 4"),
    ("10.244.1.0/24", "route add unreachable 10.244.1.0/24 proto 12"),
    ("fd00:244:2::/64", "route add fd00:244:2::/64 via 2001:db8:1::1 proto 4"),
    ("fd00:244:1::/64", "route add prohibit fd00:244:1::/64 proto 4 metric 1024"),
];

#[test]
fn a_foreign_route_of_the_same_key_stays_and_is_told() {
    for mode in ["direct", "vxlan"] {
        for (key, route) in SAME_KEY {
            let cluster = Cluster::new(2, Families::Dual, &json!({"mode": mode}));
            let node = &cluster.nodes[0];
            batch(&node.host, route);
            let foreign = node.state();
            let plan = node.manx(&["plan", "--json"]);
            assert_eq!(plan.status, 3, "{route}: {plan:?}");
            let changes: Value = serde_json::from_str(&plan.stdout).unwrap();
            let conflicts: Vec<&Value> = entries(&changes["changes"])
                .iter()
                .filter(|change| change["action"] == "conflict")
                .collect();
            assert_eq!(conflicts.len(), 1, "{route}: {changes}");
            assert_eq!(conflicts[0]["object"], format!("route {key}").as_str());
            let apply = node.apply();
            assert_eq!(apply.status, 1, "{route}: {apply:?}");
            assert!(apply.stdout.contains(&format!("! route {key}: ")), "{apply:?}");
            let state = node.state();
            assert!(foreign.iter().all(|entry| state.contains(entry)), "{route}: {state:#?}");
            let again = node.plan();
            let left: Vec<&str> = again.stdout.lines().collect();
            assert!(again.status == 3 && left.len() == 1, "all else is done: {again:?}");
            let delete = route.replace("route add", "route del");
            batch(&node.host, &delete);
            node.apply().ok();
            node.assert_settled();
        }
    }
}

/// Pods go on being attached beside a conflict, and the log tells of it.
#[test]
fn add_goes_on_beside_a_conflict() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    batch(&node.host, SAME_KEY[0].1);
    let reply = node.plugin.add(&crate::harness::Pod::new("a"));
    assert!(
        reply.stderr.contains("left alone") && reply.stderr.contains(SAME_KEY[0].0),
        "{reply:?}"
    );
    reply.ok();
    assert!(node.state().iter().any(|entry| entry.contains("10.244.2.0/24 via 192.0.2.1")));
}

/// A node may move over with its pods running: what another plugin has serves as
/// it is, where it is what is wanted.
#[test]
fn a_foreign_route_that_is_what_is_wanted_serves() {
    const OF_OTHERS: [(&str, &str, &str); 5] = [
        ("direct", "route add blackhole 10.244.1.0/24 proto 80", "10.244.1.0/24"),
        ("direct", "route add 10.244.2.0/24 via 192.0.2.12 dev eth0 proto 80", "10.244.2.0/24"),
        (
            "direct",
            "route add fd00:244:2::/64 via 2001:db8:1::12 dev eth0 onlink proto 80 metric 1024",
            "fd00:244:2::/64",
        ),
        (
            "direct",
            "link add cni0 type bridge
             address add 10.244.1.1/24 dev cni0
             link set cni0 up",
            "10.244.1.0/24",
        ),
        (
            "vxlan",
            "link add vxlan.calico type vxlan id 4096 dstport 4789 local 192.0.2.11 dev eth0 nolearning
             link set vxlan.calico up
             route add 10.244.2.0/24 via 10.244.2.0 dev vxlan.calico onlink proto 80",
            "10.244.2.0/24",
        ),
    ];
    for (mode, theirs, key) in OF_OTHERS {
        let cluster = Cluster::new(2, Families::Dual, &json!({"mode": mode}));
        let node = &cluster.nodes[0];
        if mode == "vxlan" {
            // A device by these parameters is what is wanted, whoever made it.
            node.apply().ok();
            let mac = node.host.link("vxlan.calico").unwrap()["address"].clone();
            let mac = mac.as_str().unwrap();
            node.manx(&["apply", "--undo"]).ok();
            batch(
                &node.host,
                &theirs.replace(" type vxlan", &format!(" address {mac} type vxlan")),
            );
        } else {
            batch(&node.host, theirs);
        }
        let foreign = node.state();
        let plan = node.plan();
        assert!(!plan.stdout.contains('!'), "{theirs}: {plan:?}");
        assert!(plan.stderr.contains(key), "it is told: {plan:?}");
        node.apply().ok();
        node.plugin.status().ok();
        node.assert_settled();
        let state = node.state();
        assert!(foreign.iter().all(|entry| state.contains(entry)), "{theirs}: {state:#?}");
        let own = |line: &&String| line.contains(key) && line.contains("proto 109");
        assert_eq!(state.iter().find(own), None, "{theirs}");
        // When it goes, ours comes by the next STATUS.
        let last = theirs.lines().last().unwrap().trim();
        batch(
            &node.host,
            &match theirs.contains("bridge") {
                true => "link del cni0".to_owned(),
                false => last.replace("route add", "route del"),
            },
        );
        node.plugin.status().ok();
        assert!(node.state().iter().any(|line| own(&line)), "{theirs}: {:#?}", node.state());
    }
}

/// But not where it leads elsewhere, or the network is on a link to somewhere.
#[test]
fn a_foreign_route_that_leads_elsewhere_does_not_serve() {
    for theirs in [
        "route add 10.244.2.0/24 via 192.0.2.12 dev lo onlink",
        "route add 10.244.2.0/24 dev eth0",
        "route add 10.244.2.0/24 nexthop via 192.0.2.12 dev eth0 nexthop via 192.0.2.1 dev eth0",
        "route add unreachable 10.244.2.0/24",
        "route add 10.244.1.0/24 dev eth0 proto 4",
        "route add 10.244.1.0/24 via 192.0.2.12 proto 4",
    ] {
        let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
        let node = &cluster.nodes[0];
        batch(&node.host, theirs);
        let plan = node.plan();
        assert!(plan.stdout.contains('!'), "{theirs}: {plan:?}");
    }
}

/// An entry of somebody else on their own device keeps one peer away, and the
/// node from being ready only where there is no other.
#[test]
fn an_entry_of_somebody_else_is_one_peers_trouble() {
    let entries: [fn(&str) -> [&str; 9]; 2] = [
        |mac| ["bridge", "fdb", "add", mac, "dev", "vxlan.calico", "dst", "192.0.2.99", "self"],
        |_| {
            let mac = "02:00:00:00:00:99";
            ["ip", "-4", "neigh", "add", "10.244.2.0", "lladdr", mac, "dev", "vxlan.calico"]
        },
    ];
    for entry in entries {
        for count in [2, 3] {
            let cluster = Cluster::new(count, Families::Ipv4, &json!({"mode": "vxlan"}));
            cluster.apply();
            let mac = |node: &crate::cluster::Node| {
                let link = node.host.link("vxlan.calico").unwrap();
                link["address"].as_str().unwrap().to_owned()
            };
            let (node, own, peers) =
                (&cluster.nodes[0], mac(&cluster.nodes[0]), mac(&cluster.nodes[1]));
            node.manx(&["apply", "--undo"]).ok();
            batch(
                &node.host,
                &format!(
                    "link add vxlan.calico address {own} type vxlan id 4096 dstport 4789 local \
                     192.0.2.11 dev eth0 nolearning
                     link set vxlan.calico up"
                ),
            );
            let [program, args @ ..] = entry(&peers);
            node.host.command(program, &args).ok();
            let status = node.plugin.status();
            assert_eq!(status.status == 0, count == 3, "{args:?}: {status:?}");
            assert!(status.stderr.contains("left alone: "), "{args:?}: {status:?}");
        }
    }
}

/// Routes of another key, protocol, metric or table are nobody's business here.
#[test]
fn routes_of_others_are_left_alone() {
    let cluster = Cluster::new(3, Families::Dual, &json!({"mode": "vxlan", "crossSubnet": true}));
    let node = &cluster.nodes[0];
    batch(
        &node.host,
        "route add 10.99.0.0/16 via 192.0.2.1 proto 12
         route add 10.244.2.0/25 tos 0x10 via 192.0.2.1 proto 4
         route add 10.244.0.0/16 via 192.0.2.1 proto 80
         route add 10.244.2.0/24 via 192.0.2.1 proto 4 metric 77
         route add 10.244.3.0/24 via 192.0.2.1 proto 109 table 99
         route add fd00:99::/64 via 2001:db8:1::1 proto 4
         neighbour add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent
         link add vxlan7 type vxlan id 7 dstport 4790 local 192.0.2.11 dev eth0 nolearning
         neighbour add 10.7.0.1 lladdr 02:00:00:00:00:07 dev vxlan7 nud permanent",
    );
    node.host.command(
        "bridge",
        &["fdb", "add", "02:00:00:00:00:07", "dev", "vxlan7", "dst", "192.0.2.77"],
    );
    let all = || {
        let table = node.host.command("ip", &["route", "show", "table", "99"]).ok();
        let mut state = node.state();
        state.push(table);
        state
    };
    let foreign = all();
    node.apply().ok();
    node.assert_settled();
    let state = all();
    assert!(foreign.iter().all(|entry| state.contains(entry)), "{foreign:#?} {state:#?}");
    node.manx(&["apply", "--undo"]).ok();
    assert_eq!(all(), foreign);
}
