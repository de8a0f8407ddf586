// SPDX-License-Identifier: Apache-2.0
//! The classic faults of a node are named in the first line that `manx doctor` prints, in
//! less than a second.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use super::going::{Going, spoilt_checksums};
use super::ground::Ground;
use crate::cluster::{Families, batch, entry};
use crate::harness::packet::datagram;
use crate::harness::{DEADLINE, connect, eventually};

/// As long as somebody waits without a thought.
const SOON: Duration = Duration::from_secs(1);

/// What is wrong, how it is made, and the check that the first line names.
type Classic = (&'static str, fn(&Ground) -> Option<Going>, &'static str);

const CLASSICS: [Classic; 20] = [
    ("strict filtering on an asymmetric path", asymmetric, "warning: rp-filter: "),
    (
        "no forwarding",
        |ground| run(ground, "sysctl -qw net.ipv4.ip_forward=0"),
        "error: ip-forward: ",
    ),
    (
        "no forwarding of what comes by one link",
        |ground| run(ground, "sysctl -qw net.ipv4.conf.eth0.forwarding=0"),
        "error: ip-forward: sysctl net/ipv4/conf/eth0/forwarding: ",
    ),
    (
        "the link to the other nodes is set down",
        |ground| run(ground, "ip link set eth0 down"),
        "error: next-hop-unreachable: link eth0: ",
    ),
    (
        "the tunnel is set down",
        |ground| run(ground, "ip link set vxlan.calico down"),
        "error: next-hop-unreachable: link vxlan.calico: ",
    ),
    (
        "the link of a pod is set down",
        |ground| run(ground, &format!("ip link set {} down", ground.link())),
        "error: next-hop-unreachable: link cali",
    ),
    ("iptables drops", |ground| run(ground, "iptables -P FORWARD DROP"), "error: forward-drop: "),
    (
        "nft drops",
        |ground| {
            run(
                ground,
                "nft add table inet site && nft 'add chain inet site through { type filter hook \
                 forward priority 0; policy drop; }'",
            )
        },
        "error: forward-drop: ",
    ),
    (
        "a peer's route is gone",
        |ground| run(ground, "ip route del 10.244.2.0/24 proto 109"),
        "error: route-missing: route 10.244.2.0/24: ",
    ),
    (
        "a stale route before a new one",
        |ground| {
            run(
                ground,
                "ip route del 10.244.2.0/24 && ip route add 10.244.2.0/24 via 192.0.2.2 proto static",
            )
        },
        "error: route-shadowed: route 10.244.2.0/24: ",
    ),
    (
        "the link to the other nodes has no carrier",
        |ground| {
            batch(&ground.cluster.router, "link set to-a down");
            None
        },
        "error: next-hop-unreachable: link eth0: ",
    ),
    (
        "the link to the other nodes carries less than it did",
        |ground| run(ground, "ip link set eth0 mtu 1400"),
        "error: mtu-too-large: network net: ",
    ),
    ("another list of nodes", another_list, "error: fabric-stale: "),
    ("a pool of another node", foreign_pool, "error: pool-outside-pod-cidr: network net: "),
    ("plugins that hang", plugins_that_hang, "warning: delegate-version: plugin hangs"),
    (
        "checksums that are spoilt on the way",
        |ground| Some(spoilt_checksums(ground)),
        "warning: tunnel-offload: link vxlan.calico: ",
    ),
    ("leases of nobody fill the pool", leaked, "warning: lease-leaked: network net: "),
    (
        "the node has another address",
        |ground| {
            run(
                ground,
                "ip address add 192.0.2.99/24 dev eth0 && ip address del 192.0.2.11/24 dev eth0",
            )
        },
        "error: node-address-changed: address 192.0.2.11: ",
    ),
    (
        "the node has none of its addresses any more",
        |ground| {
            // Nothing names it but those.
            ground.change_peers(|peers| {
                peers.as_object_mut().unwrap().remove("self").unwrap();
            });
            ground.node().apply().ok();
            run(
                ground,
                "ip address flush dev eth0 scope global && ip address add 192.0.2.99/24 dev eth0",
            )
        },
        "error: node-address-changed: address 192.0.2.11: ",
    ),
    (
        "the tunnel is gone",
        |ground| run(ground, "ip link del vxlan.calico"),
        "error: neighbour-missing: ",
    ),
];

fn run(ground: &Ground, command: &str) -> Option<Going> {
    ground.sh(command);
    None
}

/// Packets come by eth0, and the way back to their source is another link.
fn asymmetric(ground: &Ground) -> Option<Going> {
    let (host, router) = (&ground.node().host, &ground.cluster.router);
    connect((host, "eth1", &["203.0.113.2/24"]), (router, "second", &["203.0.113.1/24"]));
    ground.sh("sysctl -qw net.ipv4.conf.eth0.rp_filter=1");
    // The router keeps the address to itself, and sends it by the first link.
    let mac = host.link("eth0").unwrap()["address"].as_str().unwrap().to_owned();
    batch(router, &format!("neighbour replace 192.0.2.11 lladdr {mac} dev subnet1 nud permanent"));
    let (from, to): (IpAddr, IpAddr) =
        ("203.0.113.5".parse().unwrap(), "192.0.2.11".parse().unwrap());
    Some(Going::sends(router, to, move |_| datagram(from, (to, 9).into(), b"by the other link")))
}

fn foreign_pool(ground: &Ground) -> Option<Going> {
    ground.configure(|list| {
        list["plugins"][0]["ipam"]["ranges"] = json!([[{"subnet": "10.99.0.0/24"}]]);
    });
    None
}

/// Each of them would be waited for.
fn plugins_that_hang(ground: &Ground) -> Option<Going> {
    let names = ["hangs", "hangs-as-well"];
    for name in names {
        ground.plugin(name, "exec sleep 100");
    }
    ground.configure(|list| {
        let plugins = list["plugins"].as_array_mut().unwrap();
        plugins.extend(names.map(|name| json!({"type": name})));
    });
    None
}

/// One that has come and one that has another address.
fn another_list(ground: &Ground) -> Option<Going> {
    ground.change_peers(|peers| {
        let nodes = peers["nodes"].as_array_mut().unwrap();
        nodes[1]["addresses"] = json!(["192.0.2.77"]);
        nodes.push(entry(3, Families::Ipv4));
    });
    None
}

/// All but the pod's own.
fn leaked(ground: &Ground) -> Option<Going> {
    let own = ground.address();
    ground.configure(|list| {
        list["plugins"][0]["ipam"]["ranges"] =
            json!([[{"subnet": "10.244.1.0/24", "rangeStart": own, "rangeEnd": "10.244.1.60"}]]);
    });
    for last in 2..=60 {
        let path = ground.leases().join(format!("10.244.1.{last}"));
        if !path.exists() {
            fs::write(path, format!("gone{last}\r\neth0")).unwrap();
        }
    }
    None
}

/// A first line that comes in time, of a few: on a busy machine what doctor runs waits for a
/// processor, and doctor for that.
fn soon(ground: &Ground) -> (String, Duration) {
    let mut look = ground.first_line();
    for _ in 0..4 {
        if look.1 < SOON {
            break;
        }
        look = ground.first_line();
    }
    look
}

#[test]
fn classic_faults_are_named_in_the_first_line_within_a_second() {
    for (what, make, expected) in CLASSICS {
        let ground = Ground::new();
        let (line, _) = ground.first_line();
        assert!(line.starts_with("healthy: "), "{what}: before: {line}");
        let going = make(&ground);
        let (mut line, mut took) = soon(&ground);
        // What goes on may still be about to begin. How long it takes is asked of each look.
        let named = line.starts_with(expected)
            || going.is_some()
                && eventually(DEADLINE, || {
                    assert!(took < SOON, "{what}: {took:?}: {line}");
                    (line, took) = soon(&ground);
                    line.starts_with(expected)
                });
        assert!(named && took < SOON, "{what}: {took:?}: {line}");
        println!("{what}: {took:?}: {line}");
        drop(going);
    }
}

#[test]
fn two_faults_at_once_are_both_named() {
    for (one, other, ids) in [
        (
            "sysctl -qw net.ipv4.ip_forward=0",
            "ip route del 10.244.2.0/24 proto 109",
            ["ip-forward", "route-missing"],
        ),
        (
            "iptables -P FORWARD DROP",
            "nft delete table inet manx-net",
            ["forward-drop", "masquerade-lost"],
        ),
        (
            "ip route add 10.244.2.128/25 via 192.0.2.2",
            "nft delete table inet manx-net",
            ["route-shadowed", "masquerade-lost"],
        ),
    ] {
        let ground = Ground::new();
        ground.sh(one);
        ground.sh(other);
        let told = ground.doctor(&[]);
        let lines: Vec<&str> = told.stdout.lines().filter(|line| !line.starts_with(' ')).collect();
        let begins = |line: &&&str, id: &str| line.starts_with(&format!("error: {id}: "));
        let first = lines.iter().take(1).find(|line| begins(line, ids[0]));
        assert!(
            first.is_some() && lines.iter().any(|line| begins(&line, ids[1])),
            "{ids:?}: {lines:#?}"
        );
    }
}
