// SPDX-License-Identifier: Apache-2.0
//! Packets on a node that is made up: each step on one that is well, and each that drops on
//! the same with one thing changed.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::{
    conf::Mode,
    fabric::{Observed, Peers, Settings, desired::Facts},
    family::Family,
    net::{
        Mac, devconf, fdb,
        link::Link,
        neigh,
        route::{Found, Kind, Route},
        rule::Rule,
        tunnel::Vxlan,
    },
    node::{
        Barrier, ClosedLink, Denied, Direction, Fabric, HeldPolicies, IsolatedPod, Kernel, Network,
        OfFabric,
    },
    object::{self, Action, Told, reverse_path},
    pod::{Identity, identity::group},
    policy::{self, compile},
    state::Entry,
};

const LIST: &str = r#"{"self": "a", "nodes": [
    {"name": "a", "addresses": ["192.0.2.1"], "podCIDRs": ["10.1.0.0/24"]},
    {"name": "b", "addresses": ["192.0.2.2"], "podCIDRs": ["10.2.0.0/24"]}]}"#;

const UPLINK: u32 = 2;
const TUNNEL: u32 = 3;
const FIRST: u32 = 4;
const SECOND: u32 = 5;

fn entry(name: &str, address: &str) -> Entry {
    Entry {
        network: "net".into(),
        container_id: name.into(),
        ifname: "eth0".into(),
        pod_namespace: Some("shop".into()),
        pod_name: Some(name.into()),
        addresses: vec![address.parse().unwrap()],
        ..Entry::default()
    }
}

fn link(index: u32, name: &str, mtu: u32) -> Link {
    Link { index, name: name.into(), mtu, up: true, ..Link::default() }
}

fn route(destination: &str, device: u32) -> Found {
    Found::new(Route::new(destination.parse().unwrap()), vec![device])
}

/// A node of mode vxlan with two pods, and node b.
fn node() -> Snapshot {
    let entries = [entry("web", "10.1.0.5"), entry("db", "10.1.0.6")];
    let host_link = |index, entry: &Entry| Link {
        alias: Some(Identity::from(entry).alias()),
        group: group("net"),
        ..link(index, &format!("cali{index}"), 1450)
    };
    let vxlan = Vxlan {
        vni: 4096,
        port: 4789,
        local: "192.0.2.1".parse().ok(),
        parent: UPLINK,
        learning: false,
        own_socket: false,
    };
    let tunnel = Link {
        vxlan: Some(vxlan),
        kind: Some("vxlan".into()),
        ..link(TUNNEL, "vxlan.calico", 1450)
    };
    let links = vec![
        link(1, "lo", 65536),
        link(UPLINK, "eth0", 1500),
        tunnel,
        host_link(FIRST, &entries[0]),
        host_link(SECOND, &entries[1]),
    ];
    let gateway: IpAddr = "10.2.0.0".parse().unwrap();
    let mut to_peer = route("10.2.0.0/24", TUNNEL);
    (to_peer.route.protocol, to_peer.route.gateway) = (109, Some(gateway));
    (to_peer.gateways, to_peer.route.mtu) = (vec![gateway], Some(1450));
    let mut blackhole = route("10.1.0.0/24", 0);
    (blackhole.route.kind, blackhole.devices) = (Kind::Blackhole, Vec::new());
    let mut default = route("0.0.0.0/0", UPLINK);
    default.gateways = vec!["192.0.2.9".parse().unwrap()];
    let mut local = route("192.0.2.1/32", UPLINK);
    (local.local, local.route.table) = (true, 255);
    let mac = Mac([2, 0, 0, 0, 0, 2]);
    let peers = Peers::parse(LIST.as_bytes(), &|_| false).unwrap();
    let rule = |(priority, table)| Rule::new("0.0.0.0/0".parse().unwrap(), table, priority, 2);
    let mut snapshot = Snapshot { journal: entries.to_vec(), ..Snapshot::default() };
    snapshot.kernel = Kernel {
        links,
        addresses: vec![(UPLINK, "192.0.2.1/24".parse().unwrap())],
        routes: vec![
            local,
            default,
            route("192.0.2.0/24", UPLINK),
            to_peer,
            blackhole,
            route("10.1.0.5/32", FIRST),
            route("10.1.0.6/32", SECOND),
        ],
        rules: [(0, 255), (32_766, 254), (32_767, 253)].map(rule).into(),
        neighbours: vec![(TUNNEL, neigh::Neighbour { address: gateway, mac })],
        forwarding: vec![(TUNNEL, fdb::Entry { mac, node: "192.0.2.2".parse().unwrap() })],
        sysctls: [("net/ipv4/ip_forward".to_owned(), "1".to_owned())].into(),
        ..Kernel::default()
    };
    let of_tunnel = ("192.0.2.1/24".parse().unwrap(), "eth0".to_owned());
    let facts = Facts { addresses: vec![of_tunnel], ..Facts::default() };
    snapshot.compared.fabrics.push(OfFabric {
        networks: vec!["net".into()],
        settings: Settings::of_mode(Mode::Vxlan),
        peers,
        facts,
        observed: Observed::default(),
        tunnel: None,
    });
    snapshot.networks.push(Network {
        name: "net".into(),
        masquerades: true,
        checks_sources: true,
        never_masqueraded: vec!["10.96.0.0/16".parse().unwrap()],
        ..Network::default()
    });
    snapshot
}

fn ask(snapshot: &Snapshot, source: &str, destination: &str) -> Explanation {
    let [source, destination] = [source, destination].map(|text| text.parse().unwrap());
    explain(snapshot, Question { source, destination, protocol: 6, port: None }, None)
}

fn step<'a>(explanation: &'a Explanation, what: &str) -> &'a Step {
    let mut steps = explanation.steps.iter();
    steps.find(|step| step.what == what).unwrap_or_else(|| panic!("{what}: {explanation:#?}"))
}

const WEB: &str = "10.1.0.5";

#[test]
fn every_step_names_what_decides() {
    let node = node();
    let to_peer = ask(&node, WEB, "10.2.0.7");
    for (what, text, by) in [
        (
            "source",
            "pod shop/web of this node, and leads back to cali4",
            "table inet manx-net chain forward",
        ),
        ("destination", "a pod of b (10.2.0.0/24)", ""),
        (
            "route",
            "10.2.0.0/24 via 10.2.0.0 dev vxlan.calico mtu 1450",
            "rule 32766: from 0.0.0.0/0 lookup 254; made by manx",
        ),
        ("next hop", "behind 192.0.2.2", "fdb 02:00:00:00:00:02 dev vxlan.calico"),
        ("carrier", "carried by vxlan of vxlan.calico to 192.0.2.2", "192.0.2.0/24 dev eth0"),
        ("mtu", "1450 bytes", "eth0 1500 - 50"),
        ("masquerade", "no: 10.2.0.0/24 sees the pod's address", "set never4"),
        ("firewall", "nothing is known to drop it", ""),
        ("policy", "off", ""),
        ("way back", "answers come by vxlan.calico, whose filter is off", "rp_filter"),
    ] {
        let step = step(&to_peer, what);
        assert!(step.text.contains(text) && step.by.contains(by), "{what}: {step:?}");
    }
    for (destination, outcome, verdict) in [
        ("10.2.0.7", Outcome::Leaves, "leaves by vxlan.calico to b, whose pods are 10.2.0.0/24"),
        ("192.0.2.2", Outcome::Leaves, "leaves by eth0 to b"),
        ("203.0.113.1", Outcome::Leaves, "leaves by eth0 via 192.0.2.9"),
        ("10.1.0.6", Outcome::Delivered, "delivered to pod shop/db by cali5"),
        ("192.0.2.1", Outcome::Delivered, "delivered to this node"),
        ("10.1.0.77", Outcome::Dropped, "dropped: no pod of this node has the address"),
    ] {
        let verdict_there = ask(&node, WEB, destination).verdict;
        assert_eq!((verdict_there.outcome, verdict_there.text.as_str()), (outcome, verdict));
        assert_eq!(verdict_there.check, None, "{destination}");
    }
}

/// Its protocol is that of what `ip` makes by hand as well.
#[test]
fn the_route_to_a_pod_is_told_from_another_to_its_address() {
    let mut node = node();
    node.journal[1].host_link = format!("cali{SECOND}");
    let made = |node: &Snapshot| step(&ask(node, WEB, "10.1.0.6"), "route").by.clone();
    assert!(made(&node).ends_with("made by manx for this pod"), "{}", made(&node));
    let to = "10.1.0.6/32".parse().unwrap();
    let mut routes = node.kernel.routes.iter_mut();
    let of_pod = routes.find(|found| found.route.destination == to).unwrap();
    of_pod.devices = vec![UPLINK];
    assert!(made(&node).ends_with("made by hand or a plugin (boot)"), "{}", made(&node));
}

#[test]
fn what_leaves_the_cluster_is_masqueraded_unless_it_is_spared() {
    let mut node = node();
    let said = |node: &Snapshot, destination: &str| {
        let explanation = ask(node, WEB, destination);
        step(&explanation, "masquerade").clone()
    };
    assert_eq!(said(&node, "203.0.113.1").text, "yes: it leaves from 192.0.2.1");
    assert!(said(&node, "10.96.0.1").text.contains("10.96.0.0/16 sees the pod's address"));
    assert!(said(&node, "10.1.0.6").text.contains("is a pod's link"));
    node.networks[0].table = vec!["chain postrouting is missing".into()];
    assert!(said(&node, "203.0.113.1").by.contains("masquerade-lost"));
    node.networks[0].masquerades = false;
    assert!(said(&node, "203.0.113.1").text.contains("ipMasq is off"));
}

/// A packet, what is said of it, the check, and what is damaged before.
type Case = (&'static str, &'static str, &'static str, Option<&'static str>, fn(&mut Snapshot));

/// What drops a packet is told with the check that concerns it.
#[test]
fn what_drops_a_packet_is_the_verdict() {
    let cases: [Case; 17] = [
        (WEB, "10.2.0.7", "does not know 10.2.0.0", Some("neighbour-missing"), |node| {
            node.kernel.neighbours.clear();
        }),
        (WEB, "10.2.0.7", "does not know where", Some("neighbour-missing"), |node| {
            node.kernel.forwarding.clear();
        }),
        (WEB, "10.2.0.7", "no route leads to 10.2.0.7", Some("route-missing"), |node| {
            node.kernel.routes.retain(|found| found.route.protocol != 109);
            node.kernel.routes.retain(|found| found.route.destination.prefix() > 0);
        }),
        (WEB, "10.2.0.7", "is not the way to 10.2.0.0/24 of b", Some("route-missing"), |node| {
            node.kernel.routes.retain(|found| found.route.protocol != 109);
            let change = Told {
                kind: object::Kind::Route,
                action: Action::Create,
                object: "route 10.2.0.0/24".into(),
                before: None,
                after: None,
            };
            node.networks[0].fabric.get_or_insert_with(Fabric::default).changes.push(change);
        }),
        (WEB, "10.2.0.7", "no route leads to 192.0.2.2", Some("next-hop-unreachable"), |node| {
            node.kernel.routes.retain(|found| !found.is_through(UPLINK) || found.local);
        }),
        (WEB, "10.2.0.7", "does not lead back to cali4", Some("route-missing"), |node| {
            node.kernel.routes.retain(|found| !found.is_through(FIRST));
        }),
        (WEB, "10.2.0.7", "rule 100 drops it", Some("rule-diverts"), |node| {
            let (rule, source) = (node.kernel.rules[0], "10.1.0.0/24".parse().unwrap());
            node.kernel
                .rules
                .insert(1, Rule { source, priority: 100, table: 0, refuses: true, ..rule });
        }),
        (WEB, "10.2.0.7", "by cali4 is not forwarded", Some("ip-forward"), |node| {
            node.kernel.sysctls.insert(devconf::forwarding("cali4"), "0".into());
        }),
        ("10.2.0.7", WEB, "by vxlan.calico is not forwarded", Some("ip-forward"), |node| {
            node.kernel.sysctls.insert(devconf::forwarding("vxlan.calico"), "0".into());
        }),
        (WEB, "10.2.0.7", "does not forward", Some("ip-forward"), |node| {
            node.kernel.sysctls.insert("net/ipv4/ip_forward".into(), "0".into());
        }),
        (WEB, "10.2.0.7", "the firewall does not forward it", Some("forward-drop"), |node| {
            let (families, closed) = (vec![Family::V4], vec![Direction::Out]);
            let barrier = Barrier { certain: true, families, closed, ..Barrier::default() };
            node.surroundings.barriers.push(barrier);
        }),
        ("10.2.0.7", WEB, "the firewall does not forward it", Some("forward-drop"), |node| {
            let device = |name: &str| ClosedLink {
                device: name.to_owned(),
                closed: vec![Direction::In, Direction::Out],
            };
            let links = vec![device("eth9"), device("vxlan.calico")];
            let families = vec![Family::V4];
            let barrier = Barrier { certain: true, families, links, ..Barrier::default() };
            node.surroundings.barriers.push(barrier);
        }),
        (WEB, "10.1.0.6", "cali5 of pod shop/db is down", None, |node| {
            node.kernel.links[4].up = false;
        }),
        (WEB, "10.1.0.6", "the other end of cali5", None, |node| {
            node.kernel.links[4].no_carrier = true;
        }),
        (WEB, "10.2.0.7", "eth0 has no carrier", Some("next-hop-unreachable"), |node| {
            let mut uplinks = node.kernel.links.iter_mut();
            uplinks.find(|link| link.index == UPLINK).unwrap().no_carrier = true;
        }),
        (WEB, "127.0.0.1", "no address of loopback", None, |_| {}),
        ("10.2.0.7", WEB, "the host link of pod shop/web is gone", None, |node| {
            node.kernel.links.remove(3);
        }),
    ];
    for (source, destination, words, check, damage) in cases {
        let mut node = node();
        damage(&mut node);
        let verdict = ask(&node, source, destination).verdict;
        assert_eq!(verdict.outcome, Outcome::Dropped, "{words}: {verdict:?}");
        assert!(verdict.text.contains(words) && verdict.check == check, "{words}: {verdict:?}");
    }
}

/// Answers come by the tunnel as the list has it; where the route is another, a strict
/// filter drops them.
#[test]
fn answers_by_another_device_are_dropped_where_it_filters_strictly() {
    let mut node = node();
    let filter = |node: &mut Snapshot, value: &str| {
        node.kernel.sysctls.insert(reverse_path("vxlan.calico"), value.to_owned());
        ask(node, WEB, "10.2.0.7").verdict
    };
    assert_eq!(filter(&mut node, "1").check, None, "it leads where they come from");
    let other = route("10.2.0.0/25", UPLINK);
    node.kernel.routes.push(other);
    let verdict = filter(&mut node, "1");
    assert_eq!((verdict.outcome, verdict.check), (Outcome::Leaves, Some("rp-filter")));
    assert!(verdict.text.contains("its answers are dropped"), "{verdict:?}");
    assert_eq!(filter(&mut node, "2").check, None);
}

#[test]
fn what_does_not_fit_is_told() {
    let mut node = node();
    node.kernel.links[1].mtu = 1400;
    let explanation = ask(&node, WEB, "10.2.0.7");
    let step = step(&explanation, "mtu");
    assert!(step.text.starts_with("1350 bytes; larger ones") && step.by.contains("mtu-too-large"));
    assert_eq!(explanation.verdict.outcome, Outcome::Leaves);
}

/// The cluster of the two pods, in which two policies isolate db, and its table.
fn with_policies(snapshot: &mut Snapshot) -> World {
    let pod = |name: &str, address: &str, node: &str| {
        json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": name, "labels": {"app": name}},
               "spec": {"nodeName": node}, "status": {"podIPs": [{"ip": address}]}})
    };
    let policy = |name: &str, spec: Value| json!({"kind": "NetworkPolicy", "metadata": {"namespace": "shop", "name": name}, "spec": spec});
    let to_db = json!({"matchLabels": {"app": "db"}});
    let ports = json!([{"port": 5432}, {"protocol": "UDP", "port": 53}]);
    let from = json!([{"podSelector": {"matchLabels": {"app": "web"}}}]);
    let list = json!({"kind": "List", "items": [
        pod("web", WEB, "a"), pod("db", "10.1.0.6", "a"), pod("far", "10.2.0.7", "b"),
        policy("closed", json!({"podSelector": to_db})),
        policy("of-web", json!({"podSelector": to_db, "ingress": [{"from": from, "ports": ports}]})),
        policy("far", json!({"podSelector": {"matchLabels": {"app": "far"}}})),
    ]});
    let world = policy::read(list.to_string().as_bytes()).unwrap().world;
    let compiled = compile(&world, "a", &[7; 16]);
    let pods = compiled.pods.iter().map(|known| {
        let [egress, ingress] = known.isolated_by.clone();
        IsolatedPod { name: known.name.to_string(), egress, ingress }
    });
    let pods = pods.collect();
    let sets = serde_json::from_str(&compiled.policies.encode()).unwrap();
    let (address, direction) = ("10.1.0.6".parse().unwrap(), "ingress".to_owned());
    let denied = vec![Denied { address, direction, packets: 12 }];
    snapshot.surroundings.enforces_policy = true;
    snapshot.surroundings.policies = Some(HeldPolicies { sets, pods, denied });
    world
}

#[test]
fn policies_are_judged_by_the_table_and_named() {
    let mut node = node();
    with_policies(&mut node);
    let by = "table inet manx.policy, isolated by shop/closed, shop/of-web";
    for (source, destination, port, text, drops) in [
        (WEB, "10.1.0.6", Some((5432, 6)), "ingress of pod shop/db: tcp 5432 is allowed", None),
        (WEB, "10.1.0.6", Some((53, 17)), "ingress of pod shop/db: udp 53 is allowed", None),
        (
            WEB,
            "10.1.0.6",
            Some((53, 6)),
            "tcp 53 is not allowed; allowed between the two: tcp 5432, udp 53",
            Some("no policy allows tcp 53: ingress of pod shop/db is isolated by shop/closed"),
        ),
        (WEB, "10.1.0.6", None, "allowed between the two: tcp 5432, udp 53", None),
        (
            "10.2.0.9",
            "10.1.0.6",
            None,
            "nothing is allowed between the two",
            Some("no policy allows it: ingress of pod shop/db is isolated by shop/closed"),
        ),
    ] {
        let [from, to] = [source, destination].map(|text| text.parse().unwrap());
        let (protocol, port) = port.map_or((6, None), |(port, protocol)| (protocol, Some(port)));
        let question = Question { source: from, destination: to, protocol, port };
        let told = explain(&node, question, None);
        let found = told.steps.iter().find(|step| step.text.contains(text));
        let found = found.unwrap_or_else(|| panic!("{text}: {told:#?}"));
        assert_eq!((found.what, found.by.as_str()), ("policy", by));
        match drops {
            Some(why) => {
                assert!(told.verdict.text.contains(why), "{told:#?}");
                let so_far = "ingress of pod shop/db: 12 packets were dropped so far";
                assert!(told.steps.iter().any(|step| step.text == so_far), "{told:#?}");
            }
            None => assert_eq!(told.verdict.outcome, Outcome::Delivered, "{told:#?}"),
        }
    }
    let all = ask(&node, WEB, "10.2.0.7");
    let texts: Vec<&str> =
        all.steps.iter().filter(|it| it.what == "policy").map(|it| it.text.as_str()).collect();
    assert_eq!(texts, ["egress of pod shop/web is not isolated", "ingress: b judges it"]);
    assert!(step(&ask(&node, "192.0.2.1", "10.1.0.6"), "policy").text.contains("may always speak"));
    // A pod of which nobody has said anything, and a table that was not read.
    node.surroundings.policies.as_mut().unwrap().pods.clear();
    let told = ask(&node, "10.2.0.9", "10.1.0.6");
    assert!(told.verdict.text.contains("closed until somebody says"), "{told:#?}");
    node.surroundings.policies = None;
    assert!(step(&ask(&node, WEB, "10.1.0.6"), "policy").text.contains("could not be read"));
}

#[test]
fn policies_that_are_given_speak_for_other_nodes_as_well() {
    let mut node = node();
    let world = with_policies(&mut node);
    let told = |node: &Snapshot, destination: &str, port| {
        let (source, destination) = (WEB.parse().unwrap(), destination.parse().unwrap());
        explain(node, Question { source, destination, protocol: 6, port }, Some(&world))
    };
    let near = told(&node, "10.1.0.6", Some(5432));
    assert!(
        near.steps.iter().any(|it| it.text == "ingress of pod shop/db: allowed by shop/of-web")
    );
    assert_eq!(near.verdict.outcome, Outcome::Delivered);
    let far = told(&node, "10.2.0.7", Some(80));
    let why = "dropped: no policy allows it: ingress of pod shop/far is isolated by shop/far";
    assert_eq!(far.verdict.text, why);
    assert!(far.steps.iter().any(|it| it.text.contains("the other node's does")), "{far:#?}");
    node.surroundings.enforces_policy = false;
    let open = told(&node, "10.2.0.7", Some(80));
    assert!(open.steps.iter().any(|it| it.text == "nothing enforces them on this node"));
    assert_eq!(open.verdict.outcome, Outcome::Leaves, "{open:#?}");
}
