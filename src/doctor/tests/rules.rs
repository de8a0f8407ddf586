// SPDX-License-Identifier: Apache-2.0
//! Rules that ask for more than a source.

use super::*;
use crate::{
    conf::Mode,
    fabric::{Observed, Peers, Settings, desired::Facts},
    net::rule::{Asked, Name},
    node::OfFabric,
};

const LIST: &str = r#"{"self": "a", "nodes": [
    {"name": "a", "addresses": ["192.0.2.1"], "podCIDRs": ["10.1.0.0/24"]},
    {"name": "b", "addresses": ["198.51.100.2"], "podCIDRs": ["10.2.0.0/24"]}]}"#;

/// With the list of nodes that the kernel's rules are held against, and a way to b.
fn listed() -> Snapshot {
    let mut node = healthy();
    node.compared.fabrics.push(OfFabric {
        networks: Vec::new(),
        settings: Settings::of_mode(Mode::Direct),
        peers: Peers::parse(LIST.as_bytes(), &|_| false).unwrap(),
        facts: Facts::default(),
        observed: Observed::default(),
        tunnel: None,
    });
    let mut default = route("0.0.0.0/0", 2);
    default.gateways = vec!["192.0.2.254".parse().unwrap()];
    node.kernel.routes.push(default);
    node.kernel.links.push(link(7, "wg0"));
    node
}

fn named(name: &str) -> Option<Name> {
    Some(Name::try_from(name.to_owned()).unwrap())
}

fn asking(source: &str, asked: Asked) -> Rule {
    let source = source.parse().unwrap();
    Rule { source, selective: true, asked: Some(asked), ..rule((1000, 100)) }
}

fn not(source: &str) -> Rule {
    asking(source, Asked { inverted: true, ..Asked::default() })
}

/// What is said of a rule whose table leads everything by wg0.
fn said(rule: Rule, change: impl FnOnce(&mut Snapshot)) -> Vec<(Severity, String)> {
    let mut node = listed();
    let mut elsewhere = elsewhere_of("0.0.0.0/0");
    elsewhere.devices = vec![7];
    node.kernel.routes.push(elsewhere);
    node.kernel.rules.insert(1, rule);
    change(&mut node);
    let found = findings(&examine(&node, Some("rule-diverts")));
    for one in &found {
        assert!(one.fix.contains("lookup main") && !one.undo.is_empty(), "{one:?}");
    }
    found.into_iter().map(|one| (one.severity, one.evidence)).collect()
}

#[test]
fn what_a_rule_is_not_for_is_reckoned_with() {
    let marked = |value, inverted| {
        asking("0.0.0.0/0", Asked { inverted, mark: Some((value, u32::MAX)), ..Asked::default() })
    };
    let by = |name: &str| asking("0.0.0.0/0", Asked { input: named(name), ..Asked::default() });
    let pods = Some((Error, "sends pods' packets by table 100"));
    let to_pods = Some((Error, "sends packets to pods by table 100"));
    let outer = Some((Warning, "what this node itself sends to other nodes"));
    let to = |cidr: &str, rule: Rule| Rule { destination: cidr.parse().ok(), ..rule };
    for (rule, expected) in [
        (not("10.0.0.0/8"), outer),
        (not("10.1.0.0/24"), to_pods),
        (not("203.0.113.0/24"), pods),
        (not("0.0.0.0/0"), None),
        (to("10.2.0.0/16", not("0.0.0.0/0")), pods),
        // What has no mark is all that there is.
        (marked(7, true), pods),
        (marked(7, false), None),
        (marked(0, false), pods),
        (by("calic1"), pods),
        (by("eth0"), to_pods),
        (by("lo"), outer),
        (by("docker0"), None),
        (asking("10.1.0.5/32", Asked { input: named("calic1"), ..Asked::default() }), pods),
        (asking("10.9.0.5/32", Asked { input: named("calic1"), ..Asked::default() }), None),
        // Nobody knows of whom that is.
        (asking("0.0.0.0/0", Asked { more: true, ..Asked::default() }), None),
        (asking("0.0.0.0/0", Asked { more: true, inverted: true, ..Asked::default() }), None),
        (Rule { asked: None, ..by("lo") }, None),
        // What has one of the node's sources is what it sends.
        (Rule { source: "192.0.2.1/32".parse().unwrap(), ..super::rule((1000, 100)) }, outer),
    ] {
        let seen = said(rule, |_| ());
        match expected {
            None => assert_eq!(seen, [], "{rule}"),
            Some((severity, words)) => {
                let [(of, evidence)] = &seen[..] else { panic!("{rule}: {seen:?}") };
                assert!(*of == severity && evidence.contains(words), "{rule}: {evidence}");
                assert!(evidence.contains(&rule.to_string()), "{rule}: {evidence}");
            }
        }
    }
}

/// Where main leads the same way nothing is diverted, and what leads nowhere is.
#[test]
fn what_the_node_sends_is_held_against_table_main() {
    let outer = || not("10.0.0.0/8");
    let by_eth0 = |node: &mut Snapshot| node.kernel.routes.last_mut().unwrap().devices = vec![2];
    assert_eq!(said(outer(), by_eth0), []);
    let refused = |node: &mut Snapshot| {
        let found = node.kernel.routes.last_mut().unwrap();
        (found.route.kind, found.devices) = (crate::net::route::Kind::Blackhole, Vec::new());
    };
    let seen = said(outer(), refused);
    assert!(matches!(&seen[..], [(Error, text)] if text.contains("198.51.100.2")), "{seen:?}");
    let drops = Rule { table: 0, refuses: true, ..outer() };
    let seen = said(drops, |_| ());
    assert!(matches!(&seen[..], [(Error, text)] if text.contains("drops what")), "{seen:?}");
    // What a tunnel of its own does: main first, but for its default route.
    let first = Rule { suppressed: Some(0), ..super::rule((900, 254)) };
    let with_first = |node: &mut Snapshot| node.kernel.rules.insert(1, first);
    let own = Asked { inverted: true, mark: Some((7, u32::MAX)), ..Asked::default() };
    let own = asking("0.0.0.0/0", own);
    let seen = said(own, |node| {
        with_first(node);
        node.kernel.routes.push(route("198.51.100.0/24", 2));
        node.kernel.routes.push(route("10.1.0.0/24", 2));
    });
    assert_eq!(seen, [], "main has a way to each of them");
    let seen = said(own, |node| {
        with_first(node);
        node.kernel.routes.push(route("10.1.0.0/24", 2));
    });
    assert!(
        matches!(&seen[..], [(Warning, text)] if text.contains("main has by eth0")),
        "{seen:?}"
    );
}
