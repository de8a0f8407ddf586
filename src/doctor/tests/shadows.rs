// SPDX-License-Identifier: Apache-2.0
//! What is printed of a route of somebody else's.

use super::*;
use crate::net::route::{Details, Kind as Of, SCOPE_LINK};

/// The commands that take a route away and bring it back.
fn commands(change: impl FnOnce(&mut Found)) -> (String, String) {
    let mut node = healthy();
    let mut found = route("10.2.0.128/25", 2);
    found.route.gateway = "192.0.2.9".parse().ok();
    found.gateways = found.route.gateway.into_iter().collect();
    change(&mut found);
    node.kernel.routes.push(found);
    let found = findings(&examine(&node, Some("route-shadowed")));
    let [one] = &found[..] else { panic!("{found:?}") };
    let command = one.fix.split(" # ").next().unwrap();
    (command.to_owned(), one.undo.clone())
}

#[test]
fn all_of_a_route_is_told_by_which_it_is_made_again() {
    let details = |details: Details| Some(Box::new(details));
    let add = |rest: &str| format!("ip route add 10.2.0.128/25 {rest}");
    let via = "via 192.0.2.9 dev eth0";
    let (del, undo) = commands(|_| ());
    assert_eq!(del, format!("ip route del 10.2.0.128/25 {via} proto 3"));
    assert_eq!(undo, add(&format!("{via} proto 3")));
    let (_, undo) = commands(|found| {
        found.source = "192.0.2.1".parse().ok();
        (found.route.mtu, found.route.advmss, found.route.onlink) = (Some(1400), Some(1300), true);
        let metrics = vec![(3, 4000), (10, 9)];
        found.details = details(Details { metrics, locked: 1 << 2, ..Details::default() });
    });
    let rest = "src 192.0.2.1 mtu lock 1400 advmss 1300 window 4000 hoplimit 9";
    assert_eq!(undo, add(&format!("{via} onlink proto 3 {rest}")));
    let object = || details(Details { object: Some(7), ..Details::default() });
    let (del, undo) = commands(|found| found.details = object());
    assert_eq!(del, "ip route del 10.2.0.128/25 nhid 7 proto 3");
    assert_eq!(undo, add("nhid 7 proto 3"));
    // On the link, which is the scope that the tool takes by itself.
    let on_link = |scope| {
        move |found: &mut Found| {
            (found.route.gateway, found.route.scope) = (None, scope);
            found.gateways.clear();
        }
    };
    assert_eq!(commands(on_link(SCOPE_LINK)).1, add("dev eth0 proto 3"));
    assert_eq!(commands(on_link(0)).1, add("dev eth0 proto 3 scope 0"));
    let (del, undo) = commands(|found| {
        on_link(0)(found);
        (found.route.kind, found.devices) = (Of::Blackhole, Vec::new());
    });
    assert_eq!(del, "ip route del blackhole 10.2.0.128/25 proto 3");
    assert_eq!(undo, "ip route add blackhole 10.2.0.128/25 proto 3");
    let (_, undo) = commands(|found| {
        found.route.gateway = None;
        found.devices = vec![2, 3];
        found.gateways = ["192.0.2.8", "192.0.2.9"].map(|hop| hop.parse().unwrap()).into();
        found.details = details(Details { weights: vec![3, 1], ..Details::default() });
    });
    let hops = "nexthop via 192.0.2.8 dev eth0 weight 3 nexthop via 192.0.2.9 dev calic1 weight 1";
    assert_eq!(undo, add(&format!("proto 3 {hops}")));
}

/// Half of it would be another route.
#[test]
fn what_cannot_be_told_whole_is_not_told() {
    let hidden = || Some(Box::new(Details { hidden: true, ..Details::default() }));
    assert_eq!(commands(|found| found.details = hidden()).1, "");
    assert_eq!(commands(|found| found.expires = true).1, "");
    assert_eq!(commands(|found| found.devices = vec![2, 9]).1, "", "a device that is gone");
}
