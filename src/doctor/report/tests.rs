// SPDX-License-Identifier: Apache-2.0
//! Pages of nodes that are well, that disagree, that are many, and that are hostile.

mod markup;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};

use super::{differences::differences, *};
use crate::{
    conf::{FabricPart, Mode},
    doctor::tests::degraded::{changed, rich},
    fabric::{Settings, peers::Node},
    family::Family,
    finding::Severity,
    net::link::Link,
    node::{Snapshot, VERSION},
    state::Entry,
};
use markup::Markup;

const VXLAN: &str = include_str!("../../node/snapshot/fixtures/vxlan.json");

/// Names, addresses and pods of nodes.
fn words(number: usize) -> [(String, &'static str); 4] {
    let letter = char::from(b"?abcdefg"[number]);
    let name = format!("node-{letter}");
    let node = Node {
        name: name.clone(),
        addresses: Vec::new(),
        pod_cidrs: Vec::new(),
        former_pod_cidrs: Vec::new(),
        tunnel_addresses: Vec::new(),
        tunnel_mac: None,
    };
    let mac = node.tunnel_mac(Family::V4).to_string();
    [
        (name, "NAME"),
        (format!("192.0.2.1{number}"), "ADDRESS"),
        (format!("10.244.{number}."), "PODS"),
        (mac, "MAC"),
    ]
}

/// A node whose list has one other node: what was recorded of node-a and node-b, by other numbers.
fn node(own: usize, peer: usize) -> Snapshot {
    let mut text = VXLAN.to_owned();
    for (number, side) in [(1, "OWN"), (2, "PEER")] {
        for (word, token) in words(number) {
            text = text.replace(&word, &format!("{side}-{token}"));
        }
    }
    for (number, side) in [(own, "OWN"), (peer, "PEER")] {
        for (word, token) in words(number) {
            text = text.replace(&format!("{side}-{token}"), &word);
        }
    }
    let mut document: Value = serde_json::from_str(&text).unwrap();
    let own_cidr = format!("10.244.{own}.0/24");
    document["files"] = json!([{"path": "/etc/cni/net.d/10-manx.conflist", "network": "net",
                                "plugins": ["manx"], "ours": true}]);
    document["networks"] = json!([{"name": "net", "masquerades": true, "mtu": [1450, 1430],
        "fabric": {"applied": true, "isCurrent": true, "ownCidrs": [own_cidr]}}]);
    let mut snapshot = Snapshot::decode(document.to_string().as_bytes()).unwrap();
    let mac = words(own)[3].0.clone();
    let mac = serde_json::from_value(json!(mac)).unwrap();
    let tunnel = Link {
        index: 3,
        name: "vxlan.calico".into(),
        mtu: 1450,
        mac: Some(mac),
        up: true,
        ..Link::default()
    };
    snapshot.kernel.links.push(tunnel);
    snapshot
}

fn pod(name: &str) -> Entry {
    Entry {
        network: "net".into(),
        container_id: format!("{name}0123456789abcdef"),
        ifname: "eth0".into(),
        pod_namespace: Some("shop".into()),
        pod_name: Some(name.into()),
        host_link: format!("cali{name}"),
        addresses: vec!["10.244.1.2".parse().unwrap()],
        mtu: 1450,
        ..Entry::default()
    }
}

fn cluster(snapshots: &[Snapshot], probes: &[Value]) -> Cluster {
    let views = snapshots.iter().enumerate();
    let views = views.map(|(place, one)| View::of(&format!("{place}.json"), one));
    let probes = probes.iter().map(|one| Probed::decode("p", one.to_string().as_bytes()).unwrap());
    Cluster::of(views.collect(), probes.collect())
}

fn read(cluster: &Cluster) -> Markup {
    Markup::read(&page(cluster))
}

/// What the nodes differ in: ids, severities, objects and evidence.
fn told(snapshots: &[Snapshot]) -> Vec<(&'static str, Severity, String, String)> {
    let found = differences(&cluster(snapshots, &[]));
    found.into_iter().map(|one| (one.id, one.severity, one.object, one.evidence)).collect()
}

/// That one change of the second of two nodes is one difference, in words that have these.
#[track_caller]
fn differs(id: &str, severity: Severity, evidence: &str, change: impl FnOnce(&mut Snapshot)) {
    let mut nodes = [node(1, 2), node(2, 1)];
    change(&mut nodes[1]);
    let told = told(&nodes);
    assert!(
        matches!(&told[..], [(one, of, _, words)]
            if *one == id && *of == severity && words.contains(evidence)),
        "{id} {evidence}: {told:#?}"
    );
    let page = read(&cluster(&nodes, &[]));
    assert!(page.text.contains("Between nodes") && page.text.contains(evidence), "{}", page.text);
}

fn settings(snapshot: &mut Snapshot) -> &mut Settings {
    &mut snapshot.compared.fabrics[0].settings
}

fn me(snapshot: &mut Snapshot) -> &mut Node {
    &mut snapshot.compared.fabrics[0].peers.me
}

fn other(snapshot: &mut Snapshot) -> &mut Node {
    &mut snapshot.compared.fabrics[0].peers.others[0]
}

#[test]
fn two_nodes_that_are_well_agree() {
    let nodes = [node(1, 2), node(2, 1)];
    assert_eq!(told(&nodes), []);
    let page = read(&cluster(&nodes, &[]));
    let agree = "no errors and no warnings on 2 nodes, and the nodes agree";
    assert!(page.text.contains(agree), "{}", page.text);
    for words in [
        "192.0.2.11",
        "10.244.2.0/24",
        "vxlan vxlan.calico vni 4096",
        "IPv4: MTU 1450 = eth0's 1500 - 50",
    ] {
        assert!(page.text.contains(words), "{words}");
    }
    assert!(!page.text.contains("known by the lists") && !page.text.contains("Between nodes"));
    assert!(page.text.contains("Nothing was probed") && page.text.contains("not probed"));
}

#[test]
fn what_nodes_differ_in_is_told_on_top() {
    use Severity::{Error, Info, Warning};
    let own = "10.244.2.0/24 by its own list; 10.244.7.0/24 by the list of node-a";
    let mut nodes = [node(1, 2), node(2, 1)];
    other(&mut nodes[0]).pod_cidrs = vec!["10.244.7.0/24".parse().unwrap()];
    let found = differences(&cluster(&nodes, &[]));
    assert_eq!(
        (found[0].id, found[0].evidence.as_str(), found.len()),
        ("pod-cidr-differs", own, 1)
    );
    assert!(
        found[0].fix.contains("write 10.244.2.0/24 into the peers file of node-a"),
        "{found:?}"
    );

    differs("address-differs", Error, "192.0.2.11 by its own list; 192.0.2.99 by", |one| {
        other(one).addresses = vec!["192.0.2.99".parse().unwrap()];
    });
    differs("vni-differs", Error, "4096 on node-a; 4097 on node-b", |one| {
        settings(one).keys.vni = 4097;
    });
    differs("port-differs", Error, "4789 on node-a; 8472 on node-b", |one| {
        settings(one).keys.port = 8472;
    });
    differs("mtu-differs", Warning, "1400 on node-b", |one| settings(one).mtu = Some(1400));
    differs(
        "mac-differs",
        Error,
        "its MAC address is 66:00:00:00:00:01, and node-a sends to",
        |one| {
            one.kernel.links[0].mac = Some(crate::net::Mac([0x66, 0, 0, 0, 0, 1]));
        },
    );
    differs("version-differs", Info, "0.9 on node-b", |one| one.taken_by = "0.9".into());
    differs("policy-differs", Warning, "enforced on node-b; off on node-a", |one| {
        one.surroundings.enforces_policy = true;
        one.networks[0].enforces_policy = true;
    });
    differs("policy-differs", Warning, "off on node-a; partly on node-b", |one| {
        one.surroundings.enforces_policy = true;
    });
    differs("policy-differs", Warning, "awaited on node-b; off on node-a", |one| {
        one.surroundings.policies_said = Some(false);
        one.networks[0].enforces_policy = true;
    });
    differs("list-missing", Warning, "none on node-b", |one| {
        // Without a list it is known by its addresses.
        one.compared.fabrics.clear();
        one.kernel.addresses = vec![(2, "192.0.2.12/24".parse().unwrap())];
    });
}

#[test]
fn a_mode_that_changes_by_steps_is_a_warning() {
    let mut nodes = [node(1, 2), node(2, 1)];
    settings(&mut nodes[1]).mode = Mode::Direct;
    let (id, severity, _, evidence) = told(&nodes).swap_remove(0);
    assert_eq!((id, severity), ("mode-differs", Severity::Error));
    assert!(evidence.contains("direct on node-b") && evidence.contains("vxlan on node-a"));
    let ipip: FabricPart = serde_json::from_value(json!({"mode": "Ipip"})).unwrap();
    let keys = &mut settings(&mut nodes[1]).keys;
    keys.file = keys.file.accepting(Some(&ipip));
    let (id, severity, ..) = told(&nodes).swap_remove(0);
    assert_eq!((id, severity), ("mode-differs", Severity::Warning));
}

#[test]
fn who_knows_whom_is_compared() {
    // a and b know each other; c knows a alone, and nobody knows c.
    let nodes = [node(1, 2), node(2, 1), node(3, 1)];
    let told: Vec<String> = told(&nodes)
        .into_iter()
        .map(|(id, _, object, text)| format!("{id} {object}: {text}"))
        .collect();
    assert_eq!(
        told,
        [
            "peer-unlisted list of node-a, node-b: not in it, and in that of other nodes: node-c",
            "peer-unlisted list of node-c: not in it, and in that of other nodes: node-b",
        ]
    );
    // A node that two know differently and that gave no bundle.
    let mut nodes = [node(1, 3), node(2, 3)];
    other(&mut nodes[1]).pod_cidrs = vec!["10.244.9.0/24".parse().unwrap()];
    let told = super::tests::told(&nodes);
    let differs = told.iter().find(|one| one.0 == "pod-cidr-differs").unwrap();
    assert_eq!(differs.2, "pod CIDRs of node-c");
    assert!(differs.3.contains("10.244.3.0/24 by the list of node-a"), "{differs:?}");
    let page = read(&cluster(&nodes, &[]));
    assert!(page.text.contains("no bundle") && page.text.contains("1 node is known by the lists"));
}

#[test]
fn two_nodes_with_one_name_address_or_network_are_named() {
    let same = |change: fn(&mut Snapshot)| {
        let mut nodes = [node(1, 2), node(2, 1)];
        change(&mut nodes[1]);
        told(&nodes)
            .into_iter()
            .map(|one| format!("{} {}: {}", one.0, one.2, one.3))
            .collect::<Vec<_>>()
    };
    let told = same(|two| me(two).name = "node-a".into());
    assert!(told[0].starts_with("name-shared node node-a: 2 nodes have this name: "), "{told:#?}");
    let told = same(|two| me(two).pod_cidrs = vec!["10.244.1.128/25".parse().unwrap()]);
    let words = "range-shared pod CIDR 10.244.1.128/25: node-b has it as its own, and so has \
                 node-a (10.244.1.0/24)";
    assert_eq!(told[0], words, "{told:#?}");
    let told = same(|two| me(two).addresses = vec!["192.0.2.11".parse().unwrap()]);
    assert!(told[0].starts_with("range-shared address 192.0.2.11: "), "{told:#?}");
    let nodes = [node(1, 2), node(1, 2)];
    assert_eq!(cluster(&nodes, &[]).twice(), Some(("0.json", "1.json")));
    assert_eq!(cluster(&[node(1, 2), node(2, 1)], &[]).twice(), None);
}

/// What node-a measured of node-b.
fn measured(received: u64, passed: u64) -> Value {
    let path = |side: &str, address: &str, source: &str| {
        json!({"side": side, "family": "IPv4", "address": address, "source": source,
               "device": "eth0", "sent": 3, "received": received, "udpAnswered": received > 0,
               "rttMicroseconds": {"mean": 210},
               "mtu": {"needed": 1450, "passed": passed, "lost": (passed < 1450).then_some(passed + 1)}})
    };
    json!({"node": "node-a", "checks": [], "peers": [{"name": "node-b", "skipped": [], "paths": [
        path("outer", "192.0.2.12", "192.0.2.11"), path("inner", "10.244.2.0", "10.244.1.0")
    ]}]})
}

#[test]
fn what_was_probed_is_in_the_table_and_what_was_not_says_so() {
    let nodes = || [node(1, 2), node(2, 1)];
    let page = read(&cluster(&nodes(), &[measured(3, 1450)]));
    assert_eq!(page.text.matches("0.21 ms").count(), 4, "{}", page.text);
    assert_eq!(page.text.matches("itself").count(), 4);
    // node-b measured nothing; the legend has the words too.
    assert_eq!(page.text.matches("not probed").count(), 3);
    let page = read(&cluster(&nodes(), &[measured(3, 1400)]));
    assert!(page.text.contains("MTU 1400 of 1450"));
    assert!(page.text.contains("probe: 1400 of 1450 bytes pass by the outer IPv4 path"));
    let page = read(&cluster(&nodes(), &[measured(0, 0)]));
    assert!(page.text.contains("probe: no answer by the outer IPv4 path"));
    // manx 0.1 does not name the node: its address does.
    let mut unnamed = measured(3, 1450);
    unnamed["node"].take();
    let known = cluster(&nodes(), &[unnamed.clone()]);
    assert_eq!(known.unknown_probe(), None);
    assert!(read(&known).text.contains("0.21 ms"));
    let strange = cluster(&[node(3, 4)], &[unnamed]);
    assert_eq!(strange.unknown_probe(), Some("p"));
}

#[test]
fn a_node_with_a_fault_is_the_first_that_is_told() {
    let mut broken = node(1, 2);
    broken.compared.fabrics[0].observed.held.routes.pop();
    let page = read(&cluster(&[broken.concluded(), node(2, 1)], &[]));
    assert!(page.text.contains("node-a → node-b"), "{}", page.text);
    assert!(page.text.contains("degraded: route 10.244.2.0/24"), "{}", page.text);
    assert_eq!(page.count("ol"), 1);
}

#[test]
fn a_large_cluster_is_a_page_that_can_be_read() {
    let mut many = node(1, 2);
    let peers = &mut many.compared.fabrics[0].peers.others;
    let one = peers[0].clone();
    *peers = (0..5000_u32)
        .map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            Node {
                name: format!("node-{number}"),
                addresses: vec![format!("172.16.{high}.{low}").parse().unwrap()],
                pod_cidrs: vec![format!("100.{}.{low}.0/24", 64 + high).parse().unwrap()],
                ..one.clone()
            }
        })
        .collect();
    many.journal = (0..500).map(|number| pod(&format!("pod{number}"))).collect();
    let cluster = cluster(&[many, node(2, 1)], &[]);
    let text = page(&cluster);
    assert!(text.len() < 1 << 20, "{} bytes", text.len());
    let page = Markup::read(&text);
    assert!(
        page.count("rect") < 200 && page.count("path") < 200,
        "{} {}",
        page.count("rect"),
        page.count("path")
    );
    for words in [
        "4,994 more nodes without a bundle",
        "of 500 pods",
        "more nodes have no column",
        "5,000 nodes",
    ] {
        assert!(page.text.contains(words), "{words}: {:.3000}", page.text);
    }
}

/// Names that want to be markup, and what a terminal or a browser would obey.
const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</style></title></svg><iframe src=//example.org>",
    "a\u{1b}[31m\u{0}\n\u{202e}b\u{7f}",
    "&lt;&#x3c;",
];

/// Puts it wherever a text may be.
fn poison(value: &mut Value, words: &str) {
    match value {
        Value::Object(members) => members.values_mut().for_each(|one| poison(one, words)),
        Value::Array(items) => items.iter_mut().for_each(|one| poison(one, words)),
        Value::String(text) => *text = words.to_owned(),
        _ => {}
    }
}

/// Puts it into each text of a bundle that can have any.
fn poisoned(words: &str) -> Snapshot {
    let mut document = json!(rich_node());
    document["kind"] = json!("manx bundle");
    let mut paths = Vec::new();
    texts(&document, &mut String::new(), &mut paths);
    for path in paths.iter().filter(|path| *path != "/kind") {
        let Some(place) = document.pointer_mut(path) else { continue };
        let before = std::mem::replace(place, json!(words));
        if Snapshot::decode(document.to_string().as_bytes()).is_err() {
            *document.pointer_mut(path).unwrap() = before;
        }
    }
    Snapshot::decode(document.to_string().as_bytes()).unwrap()
}

fn texts(value: &Value, at: &mut String, paths: &mut Vec<String>) {
    let length = at.len();
    let mut below = |key: &str, one: &Value| {
        at.push('/');
        at.push_str(&key.replace('~', "~0").replace('/', "~1"));
        texts(one, at, paths);
        at.truncate(length);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(key, one)| below(key, one)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, one)| below(&place.to_string(), one));
        }
        Value::String(_) => paths.push(at.clone()),
        _ => {}
    }
}

fn rich_node() -> Snapshot {
    let mut node = Snapshot::decode(rich(VXLAN).to_string().as_bytes()).unwrap();
    node.journal.push(pod("web"));
    node.support = Some(crate::node::Support { host: "h".into(), ..Default::default() });
    node
}

#[test]
fn nothing_that_a_bundle_has_is_markup() {
    for words in HOSTILE {
        let mut probe = measured(3, 1400);
        probe["checks"] = json!([{"id": "", "severity": "error", "status": "found"}]);
        poison(&mut probe, words);
        probe["peers"][0]["paths"][0]["side"] = json!("outer");
        probe["checks"][0]["id"] = json!("path-mtu");
        let node = poisoned(words);
        let views = [View::of(words, &node), View::of("b.json", &self::node(2, 1))];
        let probed = Probed::decode(words, probe.to_string().as_bytes()).unwrap();
        let text = page(&Cluster::of(views.into(), vec![probed]));
        let read = Markup::read(&text);
        let shown = crate::text::escaped(words);
        assert!(read.text.matches(&*shown).count() > 10, "{words}: {}", read.text);
    }
}

#[test]
fn whatever_a_bundle_has_there_is_a_page() {
    for seed in 0..120 {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let nodes = [changed(seed), node(2, 1), changed(seed + 1000)];
            let read = read(&cluster(&nodes, &[measured(3, 1450)]));
            assert_eq!(read.count("h1"), 1);
        }));
        if let Err(panic) = outcome {
            eprintln!("the snapshot of number {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn when_bundles_were_written_is_told() {
    let at = |number: usize, minute: &str| {
        let support = crate::node::Support {
            taken_at: format!("2026-11-28T03:{minute}:00.000Z"),
            host: "host-x".into(),
            ..crate::node::Support::default()
        };
        Snapshot { support: Some(support), ..node(number, 3 - number) }
    };
    let page = read(&cluster(&[at(1, "07"), at(2, "05")], &[]));
    let words = "between 2026-11-28T03:05:00.000Z and 2026-11-28T03:07:00.000Z";
    assert!(page.text.contains(words), "{}", page.text);
    let mut unnamed = at(1, "07");
    unnamed.compared.fabrics.clear();
    let page = read(&cluster(&[unnamed], &[]));
    assert!(page.text.contains("host-x") && page.text.contains("Written at 2026-11-28T03:07"));
}

#[test]
fn one_bundle_is_a_page_too_and_so_is_one_without_anything() {
    let empty = Snapshot { version: VERSION, ..Snapshot::default() };
    let page = read(&cluster(&[empty], &[]));
    assert!(page.text.contains("on 1 of 1 node.") && !page.text.contains("agree"), "{}", page.text);
    let page = read(&cluster(&[rich_node()], &[]));
    assert!(page.text.contains("Not healthy") && page.count("article") > 5);
}
