// SPDX-License-Identifier: Apache-2.0
//! Each check on a snapshot that is well, and on the same with one thing changed.

pub(super) mod degraded;
mod ids;
mod list;
mod router;
mod rules;
mod shadows;
mod standing;
pub(super) mod work;

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::{
    net::{
        devconf, forwarding,
        link::Link,
        route::{Found, PROTOCOL_RA, Route},
        rule::Rule,
    },
    node::*,
    object::{Action, Kind, Told},
    pod::Identity,
    state::Entry,
};

fn entry() -> Entry {
    Entry {
        network: "net".into(),
        container_id: "c1".into(),
        ifname: "eth0".into(),
        pod_namespace: Some("shop".into()),
        pod_name: Some("web".into()),
        addresses: vec!["10.1.0.5".parse().unwrap()],
        mtu: 1500,
        ..Entry::default()
    }
}

fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.into(), mtu: 1500, up: true, ..Link::default() }
}

/// By a table that is not the kernel's.
fn elsewhere_of(destination: &str) -> Found {
    let mut found = route(destination, 2);
    found.route.table = 100;
    found
}

fn route(destination: &str, device: u32) -> Found {
    Found::new(Route::new(destination.parse().unwrap()), vec![device])
}

/// A node with one network, one pod, one peer.
fn healthy() -> Snapshot {
    let alias = Identity::from(&entry()).alias();
    let host_link = Link { alias: Some(alias), ..link(3, "calic1") };
    let mut to_peer = route("10.2.0.0/24", 2);
    to_peer.route.protocol = 109;
    let sysctls = [(forwarding::IPV4, "1"), (forwarding::IPV6, "1")];
    let ranges = vec![Range {
        path: String::new(),
        set: 0,
        first: "10.1.0.2".parse().unwrap(),
        last: "10.1.0.254".parse().unwrap(),
        size: "253".into(),
    }];
    let lease = Lease {
        address: "10.1.0.5".parse().unwrap(),
        container_id: "c1".into(),
        ifname: Some("eth0".into()),
    };
    Snapshot {
        version: VERSION,
        kernel: Kernel {
            links: vec![link(1, "lo"), link(2, "eth0"), host_link],
            addresses: vec![(2, "192.0.2.1/24".parse().unwrap())],
            routes: vec![route("192.0.2.0/24", 2), to_peer, route("10.1.0.5/32", 3)],
            rules: [(0, 255), (32_766, 254), (32_767, 253)].map(rule).into(),
            sysctls: sysctls.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..Kernel::default()
        },
        files: vec![File {
            path: "/etc/cni/net.d/10-manx.conflist".into(),
            network: Some("net".into()),
            plugins: vec!["manx".into()],
            ours: true,
            problem: None,
            policy: false,
        }],
        networks: vec![Network {
            name: "net".into(),
            manages_forwarding: true,
            masquerades: true,
            mtu: Some((1500, 1500)),
            pool: Some(Pool { ranges, leases: vec![lease], ..Pool::default() }),
            fabric: Some(Fabric {
                peers_file: "/etc/manx/peers.json".into(),
                protocol: 109,
                applied: true,
                is_current: true,
                node: "a".into(),
                addresses: vec!["192.0.2.1".parse().unwrap()],
                own_cidrs: vec!["10.1.0.0/24".parse().unwrap()],
                remote_cidrs: vec!["10.2.0.0/24".parse().unwrap()],
                ..Fabric::default()
            }),
            ..Network::default()
        }],
        journal: vec![entry()],
        surroundings: Surroundings {
            plugins: vec![Plugin {
                kind: "portmap".into(),
                path: Some("/opt/cni/bin/portmap".into()),
                offered: vec!["1.0.0".into()],
                versions: vec!["1.0.0".into(), "1.1.0".into()],
                ..Plugin::default()
            }],
            ..Surroundings::default()
        },
        ..Snapshot::default()
    }
}

fn rule((priority, table): (u32, u32)) -> Rule {
    Rule::new("0.0.0.0/0".parse().unwrap(), table, priority, 2)
}

fn change(kind: Kind, action: Action, object: &str) -> Told {
    let text = |value: &str| Some(value.to_owned());
    Told { kind, action, object: object.into(), before: text("old"), after: text("new") }
}

/// What one change to the healthy node makes the checks say: their ids, severities
/// and evidence.
fn told(change: impl FnOnce(&mut Snapshot)) -> Vec<(&'static str, Severity, String)> {
    let mut snapshot = healthy();
    change(&mut snapshot);
    // It goes to a file and comes back as it was.
    let again: Snapshot = serde_json::from_value(json!(snapshot)).unwrap();
    assert_eq!(again, snapshot);
    let findings = findings(&examine(&again, None));
    for finding in &findings {
        assert!(!finding.object.is_empty() && !finding.evidence.is_empty(), "{finding:?}");
    }
    findings.into_iter().map(|one| (one.id, one.severity, one.evidence)).collect()
}

/// That one change is told by one check alone, in words that have these.
#[track_caller]
fn only(id: &str, severity: Severity, words: &str, change: impl FnOnce(&mut Snapshot)) {
    let told = told(change);
    assert!(
        matches!(&told[..], [(one, of, text)]
            if *one == id && *of == severity && text.contains(words)),
        "{id} {words}: {told:#?}"
    );
}

fn fabric(snapshot: &mut Snapshot) -> &mut Fabric {
    snapshot.networks[0].fabric.as_mut().unwrap()
}

fn pool(snapshot: &mut Snapshot) -> &mut Pool {
    snapshot.networks[0].pool.as_mut().unwrap()
}

use Severity::{Error, Info, Warning};

#[test]
fn nothing_is_said_of_a_node_that_is_well() {
    assert_eq!(told(|_| {}), []);
    // Nor of one that has no peers, no pods, no store.
    assert_eq!(told(|node| node.networks[0].fabric = None), []);
    assert_eq!(told(|node| node.networks[0].pool = None), []);
    let empty = |node: &mut Snapshot| {
        node.journal.clear();
        pool(node).leases.clear();
        node.kernel.links.retain(|link| link.alias.is_none());
        node.kernel.routes.retain(|found| found.route.destination.prefix() != 32);
    };
    assert_eq!(told(empty), []);
}

#[test]
fn the_worst_comes_first() {
    let told = told(|node| {
        fabric(node).changes.push(change(Kind::Route, Action::Delete, "route 10.9.0.0/24"));
        node.kernel.sysctls.insert(forwarding::IPV4.into(), "0".into());
        pool(node).ranges[0].size = "1".into();
    });
    let ids: Vec<_> = told.iter().map(|(id, severity, _)| (*id, *severity)).collect();
    assert_eq!(ids, [("ip-forward", Error), ("pool-full", Warning), ("route-stale", Warning)]);
}

#[test]
fn configurations_and_plugins() {
    only("foreign-cni", Error, "bridge", |node| {
        let path = PathBuf::from("/etc/cni/net.d/05-bridge.conf");
        let file = File { path, plugins: vec!["bridge".into()], ..File::default() };
        node.files.insert(0, file);
    });
    only("foreign-cni", Error, "expected value", |node| {
        let problem = Some("expected value".to_owned());
        node.files.insert(0, File { problem, ..File::default() });
    });
    only("foreign-cni", Error, "no configuration", |node| node.files.clear());
    // There is no file to name yet, and the one that will be there is.
    for foreign in [false, true] {
        let mut node = healthy();
        node.files.retain_mut(|file| {
            file.ours = false;
            foreign
        });
        let found = findings(&examine(&node, Some("foreign-cni")));
        assert!(
            found[0].undo.starts_with("rm ") && found[0].why.contains("without one"),
            "{found:?}"
        );
        let written = found[0].undo.trim_start_matches("rm ");
        assert!(written.ends_with(".conflist") && found[0].fix.contains(written), "{found:?}");
    }
    // Multus' file is the first by design, and calls ours.
    assert_eq!(
        told(|node| {
            let path = PathBuf::from("/etc/cni/net.d/00-multus.conf");
            let plugins = vec!["multus-shim".into()];
            node.files.insert(0, File { path, plugins, ..File::default() });
        }),
        []
    );
    only("configuration-invalid", Error, "mtu", |node| {
        node.files[0].problem = Some("mtu is no number".into());
    });
    // One that comes behind ours is no runtime's choice.
    assert_eq!(told(|node| node.files.push(File::default())), []);
    only("configuration-doubtful", Warning, "expected value", |node| {
        let problem = Some("expected value at line 1 column 1".into());
        node.files.push(File { problem, ..File::default() });
    });
    only("delegate-missing", Error, "no plugin", |node| {
        node.surroundings.plugins[0].problem = Some("no plugin \"portmap\"".into());
    });
    for (kind, words) in [
        ("portmap", "containernetworking-plugins"),
        ("manx-ipam", "manx install"),
        ("manx", "manx install --no-conf"),
        ("calico", "--name calico"),
    ] {
        let mut node = healthy();
        let plugin = &mut node.surroundings.plugins[0];
        (plugin.kind, plugin.path, plugin.problem) = (kind.into(), None, Some("none".into()));
        let found = findings(&examine(&node, Some("delegate-missing")));
        assert!(found[0].fix.contains(words), "{found:?}");
    }
    only("delegate-version", Error, "1.1.0", |node| {
        node.surroundings.plugins[0].offered.push("1.1.0".into());
        node.surroundings.plugins[0].versions = vec!["1.0.0".into()];
    });
    // That it took too long says nothing of what it speaks.
    only("delegate-version", Warning, "longer than 500ms", |node| {
        let plugin = &mut node.surroundings.plugins[0];
        plugin.silent = Some("portmap: VERSION took longer than 500ms and was killed".into());
        plugin.versions.clear();
    });
    only("state-unreadable", Error, "EOF", |node| {
        node.unreadable.push(("/run/manx/net/c9:eth0".into(), "EOF".into()));
    });
    only("link-unmanaged", Warning, "10-manx.network", |node| {
        node.surroundings.daemons.push(Daemon {
            name: "systemd-networkd".into(),
            missing: vec!["/etc/systemd/network/10-manx.network".into()],
            reload: "systemctl restart systemd-networkd".into(),
        });
    });
}

#[test]
fn mtus() {
    only("mtu-too-large", Error, "shop/web", |node| node.networks[0].mtu = Some((1450, 1430)));
    only("mtu-mismatch", Info, "shop/web", |node| node.networks[0].mtu = Some((9000, 9000)));
    only("mtu-too-large", Error, "1600", |node| node.networks[0].configured_mtu = Some(1600));
    assert_eq!(told(|node| node.networks[0].configured_mtu = Some(1400)), []);
    only("mtu-mismatch", Warning, "calic1", |node| node.kernel.links[2].mtu = 1400);
    only("mtu-mismatch", Error, "old", |node| {
        fabric(node).changes.push(change(Kind::Mtu, Action::Replace, "link vxlan.calico"));
    });
}

#[test]
fn routes_to_other_nodes() {
    for action in [Action::Create, Action::Replace] {
        only("route-missing", Error, "10.2.0.0/24", |node| {
            fabric(node).changes.push(change(Kind::Route, action, "route 10.2.0.0/24"));
        });
    }
    only("route-missing", Error, "live pod", |node| {
        node.networks[0].repairs.push(change(Kind::Route, Action::Create, "route 10.1.0.5/32"));
    });
    // One that is there, and is for packets of another size.
    only("mtu-mismatch", Error, "should be 10.2.0.0/24 via 192.0.2.2 dev eth0 mtu 1400", |node| {
        let mut change = change(Kind::Route, Action::Replace, "route 10.2.0.0/24");
        change.before = Some("10.2.0.0/24 via 192.0.2.2 dev eth0 proto 109 mtu 1450".into());
        change.after = Some("10.2.0.0/24 via 192.0.2.2 dev eth0 mtu 1400".into());
        fabric(node).changes.push(change);
    });
    only("next-hop-unreachable", Error, "no carrier", |node| {
        node.kernel.links[1].no_carrier = true;
    });
    // What a rule leads past is there, and the rule is what is told.
    only("rule-diverts", Error, "table 100", |node| {
        node.networks[0].repairs.push(change(Kind::Route, Action::Create, "route 10.1.0.5/32"));
        node.kernel.routes.push(elsewhere_of("0.0.0.0/0"));
        node.kernel.rules.push(rule((1000, 100)));
    });
    only("route-shadowed", Error, "old", |node| {
        fabric(node).changes.push(change(Kind::Route, Action::Conflict, "route 10.2.0.0/24"));
    });
    // Inside a peer's pods, whatever its metric.
    only("route-shadowed", Error, "10.2.0.128/25", |node| {
        node.kernel.routes.push(route("10.2.0.128/25", 2));
    });
    // Of the same prefix the lower metric wins.
    let beside = |ours: u32, metric: u32| {
        move |node: &mut Snapshot| {
            node.kernel.routes[1].route.priority = Some(ours);
            let mut other = route("10.2.0.0/24", 2);
            other.route.priority = Some(metric);
            node.kernel.routes.push(other);
        }
    };
    only("route-shadowed", Error, "metric 10", beside(100, 10));
    assert_eq!(told(beside(100, 200)), []);
    // A wider one is a default route's affair, and another table a rule's.
    assert_eq!(told(|node| node.kernel.routes.push(route("10.0.0.0/8", 2))), []);
    let mut elsewhere = route("10.2.0.0/25", 2);
    elsewhere.route.table = 100;
    assert_eq!(told(|node| node.kernel.routes.push(elsewhere.clone())), []);
    only("rule-diverts", Error, "table 100", |node| {
        node.kernel.routes.push(elsewhere.clone());
        node.kernel.rules.push(rule((1000, 100)));
    });
    // Another source, another family, a table without such a route.
    for source in ["198.51.100.0/24", "::/0"] {
        let source = source.parse().unwrap();
        let of = Rule { source, ..rule((1000, 100)) };
        assert_eq!(
            told(|node| {
                node.kernel.routes.push(elsewhere.clone());
                node.kernel.rules.push(of);
            }),
            [],
            "{source}"
        );
    }
    assert_eq!(told(|node| node.kernel.rules.push(rule((1000, 100)))), []);
    // What asks for a mark or a user is not about what is forwarded; what leads
    // elsewhere only what goes there.
    let diverting = |change: fn(&mut Rule)| {
        let mut of = rule((1000, 100));
        change(&mut of);
        let elsewhere = elsewhere.clone();
        move |node: &mut Snapshot| {
            node.kernel.routes.push(elsewhere);
            node.kernel.rules.push(of);
        }
    };
    assert_eq!(told(diverting(|rule| rule.selective = true)), []);
    let to = |rule: &mut Rule| rule.destination = Some("10.99.0.0/16".parse().unwrap());
    assert_eq!(told(diverting(to)), []);
    let to = |rule: &mut Rule| rule.destination = Some("10.2.0.0/16".parse().unwrap());
    only("rule-diverts", Error, "table 100", diverting(to));
    // What the rule would find there is passed over, or the rule itself is.
    assert_eq!(told(diverting(|rule| rule.suppressed = Some(25))), []);
    assert_eq!(
        told(|node| {
            node.kernel.routes.push(elsewhere.clone());
            node.kernel.rules.push(Rule { table: 0, goto: Some(1100), ..rule((900, 0)) });
            node.kernel.rules.push(rule((1000, 100)));
        }),
        []
    );
    only("rule-diverts", Error, "drops", |node| {
        node.kernel.rules.push(Rule { table: 0, refuses: true, ..rule((1000, 100)) });
    });
    only("next-hop-unreachable", Error, "no route", |node| {
        fabric(node).wanting.push("b: no route to 192.0.2.2".into());
    });
    only("neighbour-missing", Error, "other than they should be: 1: neighbour 10.2.0.0", |node| {
        let of = change(Kind::Neighbour, Action::Replace, "neighbour 10.2.0.0");
        fabric(node).changes.push(of);
    });
    for kind in [Kind::Neighbour, Kind::Forwarding, Kind::Link] {
        only("neighbour-missing", Error, "", |node| {
            fabric(node).changes.push(change(kind, Action::Create, "vxlan.calico"));
        });
        only("fabric-conflict", Error, "somebody else", |node| {
            fabric(node).changes.push(change(kind, Action::Conflict, "vxlan.calico"));
        });
    }
    only("peer-excluded", Error, "b:", |node| fabric(node).left_out.push("b: twice".into()));
}

/// That the object is named once, and what helps is said.
#[test]
fn a_contradiction() {
    let mut node = healthy();
    let (text, fix) = ("it says ipip".to_owned(), "leave it out".to_owned());
    fabric(&mut node).failure = Some(Failure { of_configuration: true, text, fix });
    let found = findings(&examine(&node, Some("fabric-contradiction")));
    assert_eq!((&*found[0].object, &*found[0].evidence), ("network net", "it says ipip"));
    assert_eq!(found[0].fix, "leave it out");
}

#[test]
fn addresses() {
    for (of_peer, id) in [(true, "pool-overlap"), (false, "pool-outside-pod-cidr")] {
        only(id, Error, "ipam", |node| {
            let (text, fix) = ("ipam 10.9.0.1".to_owned(), "usePodCidr".to_owned());
            pool(node).misfits.push(Misfit { of_peer, text, fix });
        });
    }
    let second = |node: &mut Snapshot, directory: &str| {
        let mut other = node.networks[0].clone();
        other.name = "other".into();
        other.fabric = None;
        let pool = other.pool.as_mut().unwrap();
        pool.directory = directory.into();
        pool.leases.clear();
        node.networks.push(other);
    };
    only("pool-overlap", Error, "of network net", |node| second(node, "/elsewhere"));
    // One store is one pool.
    assert_eq!(told(|node| second(node, "")), []);
    only("pool-full", Warning, "1 of 1", |node| pool(node).ranges[0].size = "1".into());
    only("pool-full", Info, "20 of 21", |node| {
        let pool = pool(node);
        pool.ranges[0].size = "21".into();
        let lease = |last| Lease { address: [10, 1, 0, last].into(), ..pool.leases[0].clone() };
        let more: Vec<Lease> = (6..25).map(lease).collect();
        pool.leases.extend(more);
    });
    only("lease-missing", Error, "shop/web", |node| pool(node).leases.clear());
    only("lease-missing", Error, "leased to c2", |node| {
        // That one is routed to, so that its lease is no leak.
        pool(node).leases[0].container_id = "c2".into();
    });
    let dead = |node: &mut Snapshot| {
        let address = "10.1.0.9".parse().unwrap();
        pool(node).leases.push(Lease { address, container_id: "c9".into(), ifname: None });
    };
    only("lease-leaked", Warning, "10.1.0.9", dead);
    // Its attachment was noted, and is dead.
    only("lease-leaked", Warning, "10.1.0.9", |node| {
        dead(node);
        let addresses = vec!["10.1.0.9".parse().unwrap()];
        node.journal.push(Entry { container_id: "c9".into(), addresses, ..entry() });
    });
    assert_eq!(
        told(|node| {
            dead(node);
            pool(node).shared = true;
        }),
        []
    );
    assert_eq!(
        told(|node| {
            dead(node);
            node.kernel.routes.push(route("10.1.0.9/32", 2));
        }),
        []
    );
}

#[test]
fn what_is_worth_knowing_of_the_peers_file_is_told() {
    let unread = "of the peers file nothing reads zones";
    let seen = told(|node| fabric(node).unread = Some(unread.into()));
    assert_eq!(seen, [("version-skew", Warning, unread.to_owned())]);
    let installed = || Some(("/opt/cni/bin/manx".into(), "0.1.1".to_owned()));
    let seen = told(|node| node.surroundings.exchanged = installed());
    let [("version-skew", Warning, evidence)] = &seen[..] else { panic!("{seen:?}") };
    assert!(evidence.contains("noted itself as manx 0.1.1"), "{evidence}");
    let note = "c: 198.51.100.3 is behind router 192.0.2.254, which must know its pod CIDRs";
    let seen = told(|node| fabric(node).notes = vec![note.into()]);
    assert_eq!(seen, [("fabric-remark", Info, note.to_owned())]);
}
