// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::net::route::Route as Plain;

const ONE: &str = "192.0.2.12";
const TWO: &str = "198.51.100.2";
const SIX: &str = "2001:db8::12";
const NOWHERE: &str = "203.0.113.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn found(destination: &str, router: Option<&str>, device: u32) -> Found {
    let mut route = Plain::new(destination.parse().unwrap());
    route.gateway = router.map(ip);
    Found::new(route, vec![device])
}

/// On the link, behind a router, of IPv6, and without a way.
fn answers() -> Answers {
    let mut answers = Answers::default();
    let paths = [
        (ONE, Some(found("192.0.2.12/32", None, 2))),
        (TWO, Some(found("198.51.100.2/32", Some("192.0.2.1"), 2))),
        (SIX, Some(found("2001:db8::12/128", Some("fe80::1"), 3))),
        (NOWHERE, None),
    ];
    let (addresses, paths) = paths.into_iter().map(|(address, path)| (ip(address), path)).unzip();
    answers.learn(addresses, paths);
    let tables = [
        found("192.0.2.0/24", None, 2),
        found("198.51.100.0/24", Some("192.0.2.1"), 2),
        found("198.51.0.0/16", Some("10.0.0.1"), 4),
        found("198.51.0.0/16", Some("10.0.0.2"), 5),
        found("2001:db8::/64", Some("fe80::1"), 3),
        // To pods: of a peer, and of this node.
        found("10.244.2.0/24", Some(ONE), 2),
        found("10.244.1.2/32", None, 7),
    ];
    answers.learn_routes(tables.iter());
    answers
}

fn known(answers: &mut Answers) -> Vec<&'static str> {
    let all = [ONE, TWO, SIX, NOWHERE];
    let unknown = answers.unknown(&all.map(ip));
    all.into_iter().filter(|address| !unknown.contains(&ip(address))).collect()
}

#[test]
fn an_event_drops_what_it_may_have_changed() {
    let route = |destination: &str| Event::Route(destination.parse().unwrap());
    let neighbour =
        |address: &str| Event::Neighbour { link: 2, address: ip(address), answers: false };
    for (what, event, left) in [
        ("to a peer's pods, such as ours", route("10.244.2.0/24"), vec![ONE, TWO, SIX, NOWHERE]),
        ("to a peer alone", route("192.0.2.12/32"), vec![TWO, SIX, NOWHERE]),
        ("to the network of peers", route("198.51.100.0/22"), vec![ONE, SIX, NOWHERE]),
        ("the default route", route("0.0.0.0/0"), vec![SIX]),
        ("that of IPv6", route("::/0"), vec![ONE, TWO, NOWHERE]),
        ("a pod's link", Event::Link(7), vec![ONE, TWO, SIX, NOWHERE]),
        ("a new link", Event::Link(9), vec![ONE, TWO, SIX, NOWHERE]),
        ("the link of peers", Event::Link(2), vec![SIX, NOWHERE]),
        ("the link of a wider route", Event::Link(4), vec![ONE, SIX, NOWHERE]),
        ("the only router", neighbour("192.0.2.1"), vec![ONE, TWO, SIX, NOWHERE]),
        ("a router of IPv6", neighbour("fe80::1"), vec![ONE, TWO, NOWHERE]),
        ("one of several routers", neighbour("10.0.0.1"), vec![ONE, SIX, NOWHERE]),
        ("a peer", neighbour(ONE), vec![ONE, TWO, SIX, NOWHERE]),
        ("a forwarding entry", Event::Forwarding(2), vec![ONE, TWO, SIX, NOWHERE]),
        ("what is not told", Event::Other, vec![]),
    ] {
        let mut answers = answers();
        answers.forget(&event);
        assert_eq!(known(&mut answers), left, "{what}");
    }
}

/// What was asked for besides goes with the answer, and the answer with the list.
#[test]
fn what_is_known_is_kept_as_long_as_it_is_wanted() {
    let mut answers = answers();
    answers.of(ip(TWO)).unwrap().entry = Some(Box::new(None));
    answers.forget(&Event::Route("198.51.100.2/32".parse().unwrap()));
    assert!(answers.of(ip(TWO)).is_none());
    answers.learn(vec![ip(TWO)], vec![None]);
    assert!(answers.of(ip(TWO)).unwrap().entry.is_none());
    assert_eq!(answers.unknown(&[ip(ONE), ip("192.0.2.13")]), [ip("192.0.2.13")]);
    assert_eq!(known(&mut answers), [ONE, TWO, SIX, NOWHERE]);
    answers.begin();
    assert!(answers.unknown(&[ip(ONE)]).is_empty());
    answers.begin();
    assert_eq!(known(&mut answers), [ONE]);
}

/// One comparison is that of all fabrics, of which one may have a few peers.
#[test]
fn what_one_fabric_does_not_want_another_may() {
    let mut answers = answers();
    for _ in 0..2 {
        answers.begin();
        assert!(answers.unknown(&[ip(ONE), ip(TWO), ip(SIX)]).is_empty());
        assert!(answers.unknown(&[ip(NOWHERE)]).is_empty());
    }
}

#[test]
fn what_is_not_compared_asks_for_nothing() {
    let mut answers = answers();
    let on = |link: u32, address: &str, answers| Event::Neighbour {
        link,
        address: ip(address),
        answers,
    };
    assert!(answers.forget(&on(2, ONE, true)), "not known yet which links are tunnels");
    answers.learn_tunnels([9].into_iter());
    for (what, event, matters) in [
        ("a peer that answers", on(2, ONE, true), false),
        ("one that does not", on(2, ONE, false), false),
        ("the only router of IPv4", on(2, "192.0.2.1", false), false),
        ("one of several, of which nothing was told", on(4, "10.0.0.1", true), true),
        ("it still answers", on(4, "10.0.0.1", true), false),
        ("it does not any more", on(4, "10.0.0.1", false), true),
        ("it still does not", on(4, "10.0.0.1", false), true),
        ("it does again", on(4, "10.0.0.1", true), true),
        ("a router of IPv6", on(3, "fe80::1", true), true),
        ("the same", on(3, "fe80::1", true), false),
        ("of that address on another link", on(2, "fe80::1", true), true),
        ("the other does not any more", on(3, "fe80::1", false), true),
        ("this one still does", on(2, "fe80::1", true), false),
        ("the other does again", on(3, "fe80::1", true), true),
        ("what is not told", Event::Other, true),
        ("in a tunnel", on(9, "10.244.2.0", true), true),
        ("a group in a tunnel", on(9, "ff02::2", false), false),
        ("who is behind a bridge", Event::Forwarding(5), false),
        ("who is behind a tunnel", Event::Forwarding(9), true),
        ("a link", Event::Link(99), true),
        ("a route", Event::Route("203.0.113.0/24".parse().unwrap()), true),
    ] {
        assert_eq!(answers.forget(&event), matters, "{what}");
    }
    let of = |answers| on(3, "fe80::2", answers);
    let mut answers = self::answers();
    answers.learn_tunnels([9].into_iter());
    let tables = [found("2001:db8::/64", Some("fe80::2"), 3)];
    answers.learn_routes(tables.iter());
    assert!(answers.forget(&of(true)), "the first that is told of it");
    answers.learn(vec![ip(SIX)], vec![None]);
    answers.learn_routes([].iter());
    assert!(!answers.forget(&of(false)), "no route leads by it");
    answers.learn_routes(tables.iter());
    assert!(answers.forget(&of(true)), "and one does again, which was asked for while it was away");
}
