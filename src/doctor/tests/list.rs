// SPDX-License-Identifier: Apache-2.0
//! The list of nodes, and what this node is by it.

use super::*;
use crate::{
    conf::Mode,
    doctor::NO_IPV6,
    fabric::{Observed, Peers, Settings, desired::Facts},
    node::OfFabric,
};

#[test]
fn the_peers_file() {
    only("node-address-changed", Error, "192.0.2.1", |node| {
        node.kernel.addresses[0].1 = "192.0.2.9/24".parse().unwrap();
    });
    only("node-address-changed", Error, "it has none of that family", |node| {
        // Tunnels and links of pods have some that no other node sends to.
        let addresses = &mut node.kernel.addresses;
        let index = addresses[0].0;
        addresses[0].1 = "169.254.7.7/16".parse().unwrap();
        addresses.push((index, "127.0.0.2/8".parse().unwrap()));
    });
    only("node-address-changed", Error, "IPv6 is turned off here", |node| {
        fabric(node).addresses.push("2001:db8::1".parse().unwrap());
        node.kernel.sysctls.insert(NO_IPV6.into(), "1".into());
    });
    only("fabric-stale", Warning, "has changed", |node| fabric(node).is_current = false);
    only("fabric-stale", Warning, "not applied", |node| fabric(node).applied = false);
    let broken = |node: &mut Snapshot| fabric(node).problem = Some("no JSON".into());
    only("fabric-stale", Warning, "the last valid list", broken);
    only("fabric-stale", Error, "no JSON", |node| {
        broken(node);
        fabric(node).applied = false;
    });
    for (id, of_configuration) in [("fabric-contradiction", true), ("fabric-stale", false)] {
        only(id, Error, "disagree", |node| {
            let failure = Failure { of_configuration, text: "disagree".into(), fix: "".into() };
            (fabric(node).failure, fabric(node).is_current) = (Some(failure), false);
        });
    }
}

/// While an address is lost, routes to nodes of the list are to go as well: those are not stale.
#[test]
fn a_route_to_a_node_of_the_list_is_not_stale() {
    let list = br#"{"self": "a", "nodes": [
        {"name": "a", "addresses": ["192.0.2.1"], "podCIDRs": ["10.1.0.0/24"]},
        {"name": "b", "addresses": ["192.0.2.2"], "podCIDRs": ["10.2.0.0/24"]}]}"#;
    for (object, is_stale) in [("route 10.2.0.0/24", false), ("route 10.3.0.0/24", true)] {
        let mut node = healthy();
        fabric(&mut node).changes.push(Told {
            kind: Kind::Route,
            action: Action::Delete,
            object: object.to_owned(),
            before: Some(object.to_owned()),
            after: None,
        });
        node.compared.fabrics.push(OfFabric {
            networks: vec!["net".into()],
            settings: Settings::of_mode(Mode::Vxlan),
            peers: Peers::parse(list, &|_| false).unwrap(),
            facts: Facts::default(),
            observed: Observed::default(),
            tunnel: None,
        });
        let found = findings(&examine(&node, Some("route-stale")));
        assert_eq!(!found.is_empty(), is_stale, "{object}: {found:?}");
    }
}

/// By a list that names no `self` a node without its addresses is nobody: that they are lost is
/// the cause, and not the list.
#[test]
fn a_node_that_has_none_of_its_addresses_any_more() {
    let seen = |address: &str, change: &dyn Fn(&mut Snapshot)| {
        let mut node = healthy();
        fabric(&mut node).problem = Some("no node has an address of this machine".into());
        fabric(&mut node).heir = Some(("a".to_owned(), vec![address.parse().unwrap()]));
        change(&mut node);
        let found = findings(&examine(&node, Some("node-address-changed")));
        found.first().map(|it| (it.severity, it.evidence.clone(), it.fix.clone()))
    };
    let (severity, evidence, fix) = seen("192.0.2.77", &|_| {}).unwrap();
    let words = "gives a the pod CIDRs that this node had, and 192.0.2.77";
    assert!(severity == Error && evidence.contains(words), "{evidence}");
    assert!(evidence.ends_with("it has 192.0.2.1"), "{evidence}");
    assert!(fix.starts_with("if this node is still a, give it that address again"), "{fix}");
    let off = |node: &mut Snapshot| drop(node.kernel.sysctls.insert(NO_IPV6.into(), "1".into()));
    let (_, evidence, fix) = seen("2001:db8::1", &off).unwrap();
    assert!(evidence.contains("IPv6 is turned off"), "{evidence}");
    assert!(fix.starts_with("sysctl -w net.ipv6.conf.all.disable_ipv6=0"), "{fix}");
    // A list that is wrong otherwise tells nothing of addresses.
    assert_eq!(seen("192.0.2.77", &|node| fabric(node).heir = None), None);
}
