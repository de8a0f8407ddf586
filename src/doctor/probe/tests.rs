// SPDX-License-Identifier: Apache-2.0
//! Networks that never were: what is sent into them, and what is said of them.

use std::{net::IpAddr, time::Duration};

use super::*;
use crate::finding::Severity;

const ROUND_TRIP: Duration = Duration::from_millis(3);
const ROUTER: &str = "192.0.2.1";
const NODE: &str = "198.51.100.13";
const INSIDE: &str = "10.244.3.0";
const LIMIT: u32 = 1500;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn outer() -> Path {
    Path {
        family: Family::V4,
        inner: false,
        pod: false,
        address: ip(NODE),
        source: ip("192.0.2.11"),
        device: ("eth0".to_owned(), 2),
        next_hop: ip(ROUTER),
        carrier: None,
        outer: (ip("192.0.2.11"), ip(NODE)),
        limit: LIMIT,
        needed: 1500,
        overhead: 50,
        expected: true,
    }
}

fn inner(carrier: Option<Carrier>) -> Path {
    Path {
        inner: true,
        address: ip(INSIDE),
        source: ip("10.244.1.0"),
        device: ("vxlan.calico".to_owned(), 3),
        next_hop: ip(INSIDE),
        limit: 1450,
        needed: 1450,
        carrier,
        ..outer()
    }
}

/// What a network makes of a packet.
#[derive(Clone, Copy)]
enum Fate {
    Answered,
    Lost,
    Refused(Why),
}

/// Walks a path through a network of which this tells the fate of each packet; gives
/// what was seen, and how many packets and how much time it took.
fn walk(path: &Path, fate: impl Fn(Shot) -> Fate) -> (Seen, u32, Duration) {
    let mut walk = Walk::new(path);
    let (mut now, mut count) = (Duration::ZERO, 0);
    let mut coming: Vec<(Duration, Shot)> = Vec::new();
    loop {
        let due: Vec<(Duration, Shot)> = coming.extract_if(.., |(at, _)| *at <= now).collect();
        for (_, shot) in due {
            match fate(shot) {
                Fate::Answered => walk.answered(shot, ROUND_TRIP),
                Fate::Refused(why) => walk.refused(shot, why, ip(ROUTER)),
                Fate::Lost => {}
            }
        }
        match walk.next(now) {
            Step::Send(shot) => {
                count += 1;
                coming.push((now + ROUND_TRIP, shot));
            }
            Step::Wait(until) => {
                let answer = coming.iter().map(|(at, _)| *at).min();
                now = answer.map_or(until, |at| at.min(until));
            }
            Step::Done => return (walk.into_seen(), count, now),
        }
        assert!(count < 200, "it does not end");
    }
}

fn sized(mtu: u32, lost: Fate) -> impl Fn(Shot) -> Fate {
    move |shot| if shot.bytes <= mtu { Fate::Answered } else { lost }
}

#[test]
fn the_largest_packet_is_found_exactly_and_soon() {
    for mtu in (576..=LIMIT).chain([105, 300]) {
        for (lost, packets) in [(Fate::Lost, 110), (Fate::Refused(Why::TooBig(mtu)), 10)] {
            let (seen, count, took) = walk(&outer(), sized(mtu, lost));
            let sizes = seen.echo.unwrap();
            assert_eq!(sizes.passed, mtu, "{count} packets");
            assert_eq!(sizes.lost, (mtu < LIMIT).then_some(mtu + 1), "{mtu}");
            assert_eq!(sizes.told.is_some(), mtu < LIMIT && packets == 10);
            assert_eq!((seen.sent, seen.received, seen.datagrams), (3, 3, Some(true)));
            assert_eq!(seen.datagram.unwrap().lost.is_none(), mtu == LIMIT);
            assert!(count <= packets && took < Duration::from_secs(3), "{mtu} {count} {took:?}");
        }
    }
    let (seen, count, took) = walk(&outer(), |_| Fate::Answered);
    assert_eq!((seen.echo.unwrap().passed, count), (LIMIT, 6));
    assert!(took < Duration::from_millis(200), "{took:?}");
}

#[test]
fn jumbo_frames_and_routers_that_do_not_say_how_much() {
    let path = Path { limit: 9001, ..outer() };
    for mtu in [1500, 1501, 4242, 8981, 9000] {
        for lost in [Fate::Lost, Fate::Refused(Why::TooBig(0)), Fate::Refused(Why::TooBig(9500))] {
            let (seen, count, took) = walk(&path, sized(mtu, lost));
            assert_eq!(seen.echo.unwrap().passed, mtu);
            assert!(count < 150 && took < Duration::from_secs(4), "{mtu} {count} {took:?}");
        }
    }
}

/// Where echo requests are dropped, and errors come back.
#[test]
fn datagrams_do_where_no_echo_is_answered() {
    for mtu in [1280, 1400, 1480, 1500] {
        let (seen, count, took) = walk(&outer(), |shot| match shot.method {
            Method::Datagram(_) if shot.bytes <= mtu => Fate::Answered,
            _ => Fate::Lost,
        });
        assert_eq!((seen.received, seen.datagrams, &seen.echo), (0, Some(true), &None));
        let sizes = seen.datagram.unwrap();
        assert!(sizes.passed <= mtu && sizes.lost.is_none_or(|lost| lost > mtu), "{sizes:?}");
        assert_eq!(sizes.lost.is_none(), mtu == LIMIT);
        assert!(count <= 30 && took < Duration::from_secs(5), "{count} {took:?}");
    }
}

/// A kernel that has answered enough is no black hole.
#[test]
fn datagrams_that_are_lost_are_doubted() {
    let answers = std::cell::Cell::new(0);
    let (seen, ..) = walk(&outer(), |shot| match shot.method {
        Method::Echo => Fate::Answered,
        Method::Datagram(_) => {
            answers.set(answers.get() + 1);
            if answers.get() == 1 { Fate::Answered } else { Fate::Lost }
        }
    });
    assert_eq!((seen.datagrams, &seen.datagram), (Some(true), &None));
    let (seen, ..) = walk(&outer(), |shot| match shot.method {
        Method::Datagram(_) if shot.bytes > 1400 => Fate::Lost,
        _ => Fate::Answered,
    });
    let lost = seen.datagram.unwrap().lost;
    assert!(lost.is_some_and(|lost| lost > 1400), "{lost:?}");
}

#[test]
fn silence_is_told_in_time_and_the_tunnels_port_is_tried() {
    for (path, packets) in [(outer(), 6), (inner(None), 3), (inner(Some(Carrier::Vxlan(4789))), 6)]
    {
        let (seen, count, took) = walk(&path, |_| Fate::Lost);
        assert_eq!((seen.received, count), (0, packets));
        assert!(took < Duration::from_secs(4), "{took:?}");
        let (seen, ..) = walk(&path, |_| Fate::Refused(Why::Prohibited));
        let own = seen.refusals.iter().any(|refusal| refusal.of_carrier);
        assert_eq!(own, path.carrier.is_some(), "{seen:?}");
    }
}

/// One packet of four is lost on every path.
#[test]
fn what_is_lost_now_and_then_is_no_black_hole() {
    let count = std::cell::Cell::new(0);
    let (seen, ..) = walk(&outer(), |_| {
        count.set(count.get() + 1);
        if count.get() % 4 == 1 { Fate::Lost } else { Fate::Answered }
    });
    assert!(seen.received < 3 && seen.received > 0, "{seen:?}");
    assert_eq!(seen.echo.unwrap(), Sizes { passed: LIMIT, ..Sizes::default() });
}

fn seen(received: u32) -> Seen {
    let datagrams = Some(received > 0);
    Seen { sent: 3, received, datagrams, ..Seen::default() }
}

fn sizes(passed: u32, told: bool) -> Option<Sizes> {
    let told = told.then(|| (passed, ip(ROUTER)));
    Some(Sizes { passed, lost: Some(passed + 1), told })
}

fn of(path: Path, seen: Seen) -> Found {
    Found { path, seen, neighbour: None, remembered: None }
}

fn refused(why: Why, by: &str, of_carrier: bool) -> Seen {
    Seen { refusals: vec![Refusal { why, by: ip(by), of_carrier }], ..seen(0) }
}

/// The severity, the id and the evidence of all that is found.
fn told(paths: Vec<Found>) -> Vec<(Severity, &'static str, String)> {
    let peer = Peer { name: "node-c".to_owned(), paths, skipped: Vec::new() };
    let found = findings("node-a", &[peer]);
    found.into_iter().map(|one| (one.severity, one.id, one.evidence + "; " + &one.fix)).collect()
}

#[test]
fn each_row_of_the_truth_table() {
    let vxlan = || inner(Some(Carrier::Vxlan(4789)));
    let ipip = || inner(Some(Carrier::Ipip));
    let heard = |heard| Seen { heard, ..seen(0) };
    let well =
        || of(outer(), Seen { echo: Some(Sizes { passed: LIMIT, ..Sizes::default() }), ..seen(3) });
    let silent = |neighbour| Found { neighbour, ..of(outer(), seen(0)) };
    // On the link itself, with a firewall.
    let near = || {
        let mut found = silent(Some(true));
        found.path.next_hop = found.path.address;
        found
    };
    let unsent = Seen { unsent: Some("Operation not permitted".to_owned()), ..seen(0) };
    let error = Severity::Error;
    for (paths, severity, id, words) in [
        (vec![silent(None)], error, "peer-unreachable", "run manx probe node-a on node-c"),
        (vec![silent(Some(false))], error, "peer-unreachable", "the router (192.0.2.1) does not"),
        (vec![silent(Some(true))], error, "peer-unreachable", "can be told while"),
        (vec![silent(Some(true))], error, "peer-unreachable", "(192.0.2.1) answers ARP on eth0"),
        (vec![near()], Severity::Warning, "peer-unreachable", "it answers ARP on eth0"),
        (vec![near(), of(vxlan(), seen(0))], Severity::Warning, "peer-unreachable", "is not told"),
        (
            vec![of(outer(), heard(true))],
            error,
            "peer-unreachable",
            "from node-a to node-c does not",
        ),
        (vec![silent(None), of(vxlan(), heard(true))], error, "peer-unreachable", "does not"),
        (
            vec![of(outer(), refused(Why::Host, ROUTER, false))],
            error,
            "peer-unreachable",
            "192.0.2.1 says",
        ),
        (vec![of(outer(), unsent.clone())], error, "peer-unreachable", "Operation not permitted"),
        (
            vec![silent(None), of(vxlan(), seen(3))],
            Severity::Info,
            "peer-unreachable",
            "drops what asks",
        ),
        (vec![well(), of(vxlan(), seen(0))], error, "protocol-filtered", "cannot be told apart"),
        (
            vec![well(), of(ipip(), seen(0))],
            error,
            "protocol-filtered",
            "IP protocol 4 is filtered",
        ),
        (
            vec![well(), of(vxlan(), heard(true))],
            error,
            "protocol-filtered",
            "from node-a to node-c",
        ),
        (vec![well(), of(vxlan(), unsent)], error, "protocol-filtered", "this node does not send"),
        (
            vec![well(), of(vxlan(), refused(Why::Port, ROUTER, true))],
            error,
            "protocol-filtered",
            ROUTER,
        ),
        (
            vec![well(), of(vxlan(), refused(Why::Prohibited, NODE, true))],
            error,
            "protocol-filtered",
            "not allowed",
        ),
        (
            vec![well(), of(vxlan(), refused(Why::Port, NODE, true))],
            error,
            "peer-unreachable",
            "no tunnel device",
        ),
        (
            vec![well(), of(ipip(), refused(Why::Protocol, NODE, true))],
            error,
            "peer-unreachable",
            "no tunnel device",
        ),
        (vec![well(), of(inner(None), seen(0))], error, "protocol-filtered", "destination check"),
        (
            vec![well(), of(inner(None), refused(Why::Network, ROUTER, false))],
            error,
            "protocol-filtered",
            "no route",
        ),
        (
            vec![well(), of(inner(None), refused(Why::Host, NODE, false))],
            Severity::Warning,
            "peer-unreachable",
            "no pod has it",
        ),
    ] {
        let told = told(paths);
        let [(severe, name, evidence)] = &told[..] else { panic!("{words}: {told:?}") };
        assert_eq!((*severe, *name), (severity, id), "{evidence}");
        assert!(evidence.contains(words), "{words}: {evidence}");
    }
    let quiet = Path { expected: false, ..inner(None) };
    for well in [vec![well()], vec![well(), of(vxlan(), seen(3))], vec![well(), of(quiet, seen(0))]]
    {
        assert_eq!(told(well), []);
    }
}

/// What one path shows of the way is not denied for another one that takes it too.
#[test]
fn no_cause_contradicts_what_the_same_run_saw() {
    let vxlan = || inner(Some(Carrier::Vxlan(4789)));
    let pod = |path: Path| Path { pod: true, address: ip("10.244.3.7"), ..path };
    let other = || Path { address: ip("10.244.3.8"), ..pod(inner(None)) };
    let elsewhere = || Path { device: ("eth0".to_owned(), 2), ..pod(inner(None)) };
    let well = || of(outer(), seen(3));
    let nobody = refused(Why::Host, INSIDE, false);
    let (error, warning, info) = (Severity::Error, Severity::Warning, Severity::Info);
    let (unreachable, filtered) = ("peer-unreachable", "protocol-filtered");
    let alone = "10.244.3.0 answers, and 10.244.3.7 by the same way does not: no pod with that";
    let cases = [
        (
            vec![well(), of(vxlan(), seen(3)), of(pod(vxlan()), seen(0))],
            vec![(warning, unreachable, alone)],
        ),
        (
            vec![well(), of(vxlan(), seen(3)), of(pod(vxlan()), nobody)],
            vec![(warning, unreachable, "10.244.3.0 says that nobody there has the address")],
        ),
        // The filter explains the silence of all.
        (
            vec![well(), of(vxlan(), seen(0)), of(pod(vxlan()), seen(0))],
            vec![(error, filtered, "UDP 4789 is filtered")],
        ),
        (
            vec![well(), of(vxlan(), seen(0)), of(pod(vxlan()), seen(3))],
            vec![(info, unreachable, "10.244.3.7 by the same way is reached: it drops what asks")],
        ),
        (
            vec![of(outer(), seen(0)), of(vxlan(), seen(3)), of(pod(vxlan()), seen(0))],
            vec![(warning, unreachable, alone), (info, unreachable, "it drops what asks")],
        ),
        (
            vec![of(outer(), seen(0)), of(vxlan(), seen(0)), of(pod(vxlan()), seen(3))],
            vec![(info, unreachable, NODE), (info, unreachable, INSIDE)],
        ),
        (
            vec![of(outer(), seen(0)), of(vxlan(), seen(0)), of(pod(vxlan()), seen(0))],
            vec![(error, unreachable, "198.51.100.13 answers none")],
        ),
        // As packets are, of two pods.
        (
            vec![well(), of(other(), seen(3)), of(pod(inner(None)), seen(0))],
            vec![(warning, unreachable, "10.244.3.8 answers, and 10.244.3.7 by the same way")],
        ),
        // The tunnel works, and tells nothing of another way.
        (
            vec![well(), of(vxlan(), seen(3)), of(elsewhere(), seen(0))],
            vec![(error, filtered, "destination check")],
        ),
    ];
    for (paths, expected) in cases {
        let told = told(paths);
        assert_eq!(told.len(), expected.len(), "{expected:?}: {told:?}");
        for ((severe, id, evidence), (severity, name, words)) in told.iter().zip(expected) {
            assert_eq!((*severe, *id), (severity, name), "{evidence}");
            assert!(evidence.contains(words), "{words}: {evidence}");
            // Why it matters is of the check, and has to be true of each of its findings.
            assert!(!crate::finding::why(id).contains("no pod of that node"));
        }
    }
}

#[test]
fn a_black_hole_is_what_nobody_tells_of() {
    let narrow = |path: Path, passed, told| of(path, Seen { echo: sizes(passed, told), ..seen(3) });
    let plain = |needed| Path { overhead: 0, needed, ..outer() };
    let vxlan = || inner(Some(Carrier::Vxlan(4789)));
    let whole =
        || of(vxlan(), Seen { echo: Some(Sizes { passed: 1450, ..Sizes::default() }), ..seen(3) });
    for (paths, severity, words) in [
        (vec![narrow(plain(1500), 1400, false)], Severity::Error, "set mtu to 1400"),
        (vec![narrow(plain(1500), 1400, true)], Severity::Warning, "192.0.2.1 says so"),
        (vec![narrow(plain(1400), 1400, false)], Severity::Warning, "ip link set eth0 mtu 1400"),
        (vec![narrow(outer(), 1400, false)], Severity::Error, "set mtu to 1350"),
        (vec![narrow(outer(), 1400, false), whole()], Severity::Warning, "fragments"),
        (
            vec![narrow(outer(), 1400, false), narrow(vxlan(), 1350, false)],
            Severity::Error,
            "set mtu to 1350",
        ),
        (
            vec![narrow(outer(), 1400, true), narrow(vxlan(), 1350, true)],
            Severity::Warning,
            "says so",
        ),
    ] {
        let told = told(paths);
        let [(severe, "path-mtu", evidence)] = &told[..] else { panic!("{words}: {told:?}") };
        assert!(*severe == severity && evidence.contains(words), "{words}: {evidence}");
    }
    assert_eq!(told(vec![narrow(plain(1400), 1400, true)]), []);
    let mut back = narrow(plain(1500), 1400, false);
    back.seen.datagram = Some(Sizes { passed: 1500, ..Sizes::default() });
    assert!(told(vec![back])[0].2.contains("it is the way back"));
    let both = told(vec![narrow(outer(), 1400, false), of(vxlan(), seen(0))]);
    let ids: Vec<&str> = both.iter().map(|(_, id, _)| *id).collect();
    assert_eq!(ids, ["protocol-filtered", "path-mtu"], "two faults, the worse first");
}

#[test]
fn many_nodes_with_the_same_are_one_finding() {
    let peer = |number: u32| Peer {
        name: format!("n{number}"),
        paths: vec![of(outer(), seen(0))],
        skipped: Vec::new(),
    };
    let all = |count| (1..=count).map(peer).collect::<Vec<_>>();
    for (count, expected) in [(2, 2), (3, 3), (5000, 1)] {
        let found = findings("node-a", &all(count));
        assert_eq!(found.len(), expected);
        let many = count > 3;
        let object = if many { "nodes n1, n2, n3 and 4997 more" } else { "node n1" };
        assert_eq!(found[0].object, object);
    }
}

/// A path that there has to be is missed; one that nobody is known to answer on is not.
#[test]
fn a_way_that_is_cut_here_is_told() {
    let skipped = |inner, is_cut| Skipped {
        family: Family::V4,
        inner,
        reason: "no route leads to 192.0.2.13".to_owned(),
        is_cut,
    };
    for (all, count) in [
        (vec![skipped(true, false)], 0),
        (vec![skipped(false, true)], 1),
        (vec![skipped(true, true)], 1),
        (vec![skipped(true, true), skipped(false, true)], 1),
    ] {
        let peer = Peer { name: "node-c".to_owned(), paths: Vec::new(), skipped: all };
        let found = findings("node-a", &[peer]);
        assert_eq!(found.len(), count);
        for one in found {
            assert_eq!((one.id, one.severity), ("peer-unreachable", Severity::Error));
            assert!(one.evidence.contains("no route leads"));
        }
    }
}
