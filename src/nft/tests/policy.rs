// SPDX-License-Identifier: Apache-2.0
//! The table of network policies.

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value as Json;

use super::Namespace;
use super::addresses::handles;
use super::datapath::connect;
use super::uninterrupted::uninterrupted;
use crate::family::Family;
use crate::nft::policy::{Denial, Depth, Found, Grant, Policies, Session, Way};
use crate::nft::{self, Ensured, Table, socket::Socket};

const UDP: u8 = 17;
/// Identities of networks are far from those of pods.
const NETWORK: u32 = 1 << 30;

pub(super) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// 10.1.0.2, of a class, may speak to identity 7 and to some networks; 10.1.0.3, which has
/// it, hears class 5's identity 6 and a range of ports.
pub(super) fn held(class: u32) -> Policies {
    let numbers = |all: &[(&str, u32)]| {
        all.iter().map(|(text, number)| (address(text), u64::from(*number))).collect()
    };
    let grant = |class, peer, port| Grant { class, protocol: UDP, peer, port };
    let network = |first, last, number| ((class, address(first)), (address(last), number));
    let egress = Way {
        classes: numbers(&[("10.1.0.2", class), ("fd01::2", class)]),
        grants: [(grant(class, 7, 80), 80), (grant(class, NETWORK, 90), 90)].into(),
        networks: [
            network("10.1.0.0", "10.1.0.255", NETWORK),
            // Where one ends the next begins.
            network("10.1.1.0", "10.1.1.255", NETWORK + 1),
            network("fd01::", "fd01::ffff", NETWORK),
        ]
        .into(),
    };
    let ingress = Way {
        classes: numbers(&[("10.1.0.3", 5), ("fd01::3", 5)]),
        grants: [(grant(5, 6, 80), 80), (grant(5, 7, 80), 80), (grant(5, 6, 90), 99)].into(),
        ..Way::default()
    };
    Policies {
        table: "manx-policy".into(),
        identities: numbers(&[("10.1.0.2", 6), ("10.1.0.3", 7), ("fd01::2", 6), ("fd01::3", 7)]),
        own: [(address("10.1.0.2"), ())].into(),
        ways: [egress, ingress],
        denial: Denial::default(),
    }
}

/// What nft lists of each set: key and data of each element as one text.
fn listed(objects: &[Json], name: &str) -> Vec<String> {
    fn text(value: &Json) -> String {
        let joined = |parts: &[Json], by| parts.iter().map(text).collect::<Vec<_>>().join(by);
        match value {
            Json::String(text) => text.clone(),
            Json::Array(pair) => joined(pair, " : "),
            Json::Object(of) => match of.iter().next() {
                Some((kind, Json::Array(parts))) if kind == "range" => joined(parts, "-"),
                Some((_, Json::Array(parts))) => joined(parts, " . "),
                _ => panic!("{value}"),
            },
            other => other.to_string(),
        }
    }
    let mut sets = objects.iter().filter_map(|object| object.get("set").or(object.get("map")));
    let set = sets.find(|set| set["name"] == name).unwrap();
    set["elem"].as_array().into_iter().flatten().map(text).collect()
}

#[test]
fn nft_lists_a_table_of_policies() {
    let namespace = Namespace::new();
    let log = Some(u16::MAX);
    let denials = [
        BEFORE,
        Denial { rejects: true, log, ..BEFORE },
        Denial { rejects: true, ..Denial::default() },
        Denial { log, ..Denial::default() },
        Denial::default(),
    ];
    for denial in denials {
        let table = Policies { denial, ..held(4) }.describe().unwrap();
        namespace.run(|| assert_ne!(nft::ensure(&table), Ok(Ensured::Unchanged)));
        is_listed(&namespace, &table);
    }
}

/// A packet walks no more, and a change that adds some is seen.
#[test]
fn how_many_rules_and_sets_there_are() {
    let table = held(4).describe().unwrap();
    assert_eq!((table.rules().count(), table.sets.len()), (69, 22));
}

/// How packets were denied before they were counted for each pod.
pub(super) const BEFORE: Denial = Denial { counts: false, rejects: false, log: None };

fn is_listed(namespace: &Namespace, table: &Table) {
    namespace.run(|| {
        assert_eq!(nft::differences(table), Ok(Vec::new()));
        assert_eq!(nft::ensure(table), Ok(Ensured::Unchanged));
        assert_eq!(nft::is_intact(&table.seal()), Ok(true));
        assert_eq!(nft::is_followed(table, table.followed()), Ok(true));
    });
    let text = namespace.command("nft -j list ruleset");
    let text: Json = serde_json::from_str(&text).unwrap();
    let objects = text["nftables"].as_array().unwrap();
    // Class and first address of a network, as one number.
    let network = |number: u64| {
        let first = (4u64 << 32) + 0x0a01_0000 + (number << 8);
        format!("{first}-{} : {}", first + 255, u64::from(NETWORK) + number)
    };
    for (set, expected) in [
        ("class-out4", vec!["10.1.0.2 : 4"]),
        ("ident6", vec!["fd01::2 : 6", "fd01::3 : 7"]),
        ("allow-out", vec!["0.0.0.4 . udp . 0.0.0.7 . 80", "0.0.0.4 . udp . 64.0.0.0 . 90"]),
        ("cidr-out4", vec![&network(0), &network(1)]),
        ("self4", vec!["10.1.0.2 . 10.1.0.2"]),
        ("range-out", vec![]),
    ] {
        let mut listed = listed(objects, set);
        listed.sort();
        assert_eq!(listed, expected, "{set}");
    }
    let of = |kind: &str| objects.iter().filter(|object| object.get(kind).is_some()).count();
    assert_eq!((of("rule"), of("chain")), (table.rules().count(), table.chains.len()));
    assert_eq!(of("set") + of("map"), table.sets.len());
    // What nft does not list is in the comments.
    let asked = table.rules().filter(|(_, rule)| rule.says_more()).count();
    let comments = objects.iter().filter(|object| object["rule"]["comment"].is_string()).count();
    assert_eq!(comments, asked);
}

/// Whatever differs in an element is told, and put right by elements alone.
#[test]
fn each_kind_of_element_is_put_right() {
    let namespace = Namespace::new();
    let table = held(4).describe().unwrap();
    namespace.run(|| assert_eq!(nft::ensure(&table), Ok(Ensured::Installed)));
    let before = handles(&namespace);
    for (damage, set, told) in [
        ("delete element", "class-out4", "10.1.0.2 : 4"),
        ("flush set", "allow-in", "5 . 17 . 6 . 80, 5 . 17 . 7 . 80"),
        ("flush set", "range-in", "5 . 17 . 6 . 90 - 5 . 17 . 6 . 99"),
        (
            "flush map",
            "cidr-out4",
            "4 . 10.1.0.0 - 4 . 10.1.0.255 : 1073741824, \
             4 . 10.1.1.0 - 4 . 10.1.1.255 : 1073741825",
        ),
    ] {
        let which = if damage == "delete element" { "{ 10.1.0.2 }" } else { "" };
        namespace.load(&format!("{damage} inet manx-policy {set} {which}"));
        let found = namespace.run(|| nft::differences(&table)).unwrap();
        assert_eq!(found, [format!("set {set} of table inet manx-policy lacks {told}")]);
        assert_eq!(namespace.run(|| nft::ensure(&table)), Ok(Ensured::Repaired));
        assert_eq!(namespace.run(|| nft::differences(&table)), Ok(Vec::new()));
    }
    // Another class of the same pod is another element.
    assert_eq!(namespace.run(|| held(5).enforce()), Ok(Ensured::Repaired));
    assert_eq!(namespace.run(|| held(5).enforce()), Ok(Ensured::Unchanged));
    assert_eq!(handles(&namespace), before);
}

/// What is read back is what was written, and rules that somebody damaged are made again.
#[test]
fn the_table_is_read_back_and_repaired() {
    let namespace = Namespace::new();
    let look = || namespace.run(|| held(4).look()).unwrap();
    assert_eq!((look().policies, look().is_sound), (None, false));
    assert_eq!(namespace.run(|| held(4).enforce()), Ok(Ensured::Installed));
    let found = look();
    assert_eq!((found.policies, found.is_sound), (Some(held(4)), true));
    assert_eq!(found.differences, Vec::<String>::new());
    for damage in [
        "flush chain inet manx-policy egress4",
        "add rule inet manx-policy forward accept",
        "delete table inet manx-policy",
    ] {
        namespace.load(damage);
        assert!(!look().is_sound, "{damage}");
        assert_ne!(namespace.run(|| held(5).enforce()), Ok(Ensured::Unchanged));
        assert_eq!(namespace.run(|| held(5).look()).unwrap().policies, Some(held(5)));
        assert_eq!(namespace.run(|| held(4).enforce()), Ok(Ensured::Repaired));
        assert_eq!(look().policies, Some(held(4)));
        assert_eq!(namespace.run(|| nft::tables("manx")), Ok(vec!["manx-policy".to_owned()]));
    }
    // What a repair that was killed left behind.
    namespace.load("add table inet manx-policy.cover");
    assert_eq!(namespace.run(|| held(4).enforce()), Ok(Ensured::Unchanged));
    assert_eq!(namespace.run(|| nft::tables("manx")), Ok(vec!["manx-policy".to_owned()]));
    // What somebody put in the way of a network goes.
    let mut other = held(4);
    let networks = &mut other.ways[0].networks;
    networks.remove(&(4, address("10.1.0.0")));
    networks.insert((4, address("10.0.255.200")), (address("10.1.0.63"), 9));
    let other = other.describe().unwrap();
    assert_eq!(namespace.run(|| nft::ensure(&other)), Ok(Ensured::Repaired));
    assert_eq!(namespace.run(|| held(4).enforce()), Ok(Ensured::Repaired));
    assert_eq!(look().policies, Some(held(4)));
}

/// Who knows what the table holds goes on from there, as long as nobody else changed anything:
/// not even of the tables of others.
#[test]
fn a_table_that_is_known_is_not_read_again() {
    let namespace = Namespace::new();
    let look = || namespace.run(|| held(4).look()).unwrap().policies;
    let (done, generation) = namespace.run(|| held(4).bring_up()).unwrap();
    assert_eq!(done, Ensured::Installed);
    assert_eq!(namespace.run(|| held(4).bring_up()), Ok((Ensured::Unchanged, generation)));
    let rules = handles(&namespace);
    let mut session = namespace.run(Session::open).unwrap();
    let mut known = generation;
    for (before, after) in [(4, 5), (5, 6), (6, 6), (6, 4)] {
        known = held(after).follow(&held(before), known, &mut session).unwrap().unwrap();
        assert_eq!(session.is_untouched(known), Ok(true));
        assert_eq!(look(), Some(held(after)));
        assert_eq!(namespace.run(|| held(after).bring_up()), Ok((Ensured::Unchanged, known)));
    }
    assert_eq!(handles(&namespace), rules);
    for others in [
        "add table inet others",
        "delete element inet manx-policy class-in4 { 10.1.0.3 }",
        "delete table inet manx-policy",
    ] {
        namespace.load(others);
        let before = look();
        assert_eq!(session.is_untouched(known), Ok(false), "{others}");
        assert_eq!(held(5).follow(&held(4), known, &mut session), Ok(None), "{others}");
        assert_eq!(look(), before, "{others}");
        let (done, generation) = namespace.run(|| held(4).bring_up()).unwrap();
        assert_eq!(done == Ensured::Unchanged, others.ends_with("others"));
        assert_eq!(look(), Some(held(4)));
        known = generation;
    }
}

/// A node and two pods of it, 10.1.0.2 and 10.1.0.3.
pub(super) struct Node {
    pub(super) host: Namespace,
    pub(super) pods: [Namespace; 2],
}

impl Node {
    pub(super) fn new() -> Self {
        let node = Self { host: Namespace::new(), pods: [Namespace::new(), Namespace::new()] };
        for (pod, number) in node.pods.iter().zip(2..) {
            let link = format!("cali{number}");
            connect(&node.host, &link, 0, pod);
            node.host.command(&format!("ip address add 10.1.0.1/32 dev {link}"));
            node.host.command(&format!("ip address add fe80::1/64 dev {link} nodad"));
            node.host.command(&format!("ip route add 10.1.0.{number}/32 dev {link}"));
            node.host.command(&format!("ip route add fd01::{number}/128 dev {link}"));
            pod.command(&format!("ip address add 10.1.0.{number}/32 dev eth0"));
            pod.command(&format!("ip address add fd01::{number}/128 dev eth0 nodad"));
            pod.command("ip route add default via 10.1.0.1 dev eth0 onlink");
            pod.command("ip route add default via fe80::1 dev eth0 onlink");
        }
        node.host.run(|| {
            for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{family}"), "1").unwrap();
            }
        });
        node
    }

    /// A socket in each pod, the second's at a port.
    pub(super) fn sockets(&self, family: Family, port: u16) -> [UdpSocket; 2] {
        let prefix = match family {
            Family::V4 => "10.1.0.",
            Family::V6 => "fd01::",
        };
        let at = |pod: usize, port: u16| {
            let address: IpAddr = format!("{prefix}{}", pod + 2).parse().unwrap();
            let socket = self.pods[pod].run(|| UdpSocket::bind((address, port)).unwrap());
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let sockets = [at(0, 0), at(1, port)];
        sockets[0].connect(sockets[1].local_addr().unwrap()).unwrap();
        sockets
    }
}

/// Longer than any packet takes here; a lost one fails the test.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What is sent before something that arrives has arrived as well, or never does.
#[test]
fn the_table_decides_as_it_says() {
    let node = Node::new();
    node.host.run(|| assert_eq!(held(4).enforce(), Ok(Ensured::Installed)));
    let mut buffer = [0; 16];
    for family in Family::BOTH {
        let allowed = node.sockets(family, 80);
        for (port, passes) in [(90, true), (91, false), (81, false)] {
            let other = node.sockets(family, port);
            other[0].send(b"maybe").unwrap();
            allowed[0].send(b"after it").unwrap();
            uninterrupted(|| allowed[1].recv(&mut buffer)).unwrap();
            other[1].set_nonblocking(true).unwrap();
            assert_eq!(other[1].recv(&mut buffer).is_ok(), passes, "port {port}, {family}");
        }
    }
}

/// Of a version whose rules are these, and whose note is not, or saved and restored by somebody:
/// whoever asks by the seal does not know it again.
#[test]
fn a_table_that_is_not_known_by_its_seal_is_made_anew() {
    let node = Node::new();
    let pods = [address("10.1.0.2")];
    let settle = || held(4).settle(&pods, Depth::Counted);
    let table = held(4).describe().unwrap();
    // A digest, the number of other rules, and none.
    let notes = [None, Some(7)].map(|number| Table { number, ..table.clone() }.seal().note);
    for note in notes.into_iter().chain([Vec::new()]) {
        let mut requests = table.creation();
        requests.pop();
        requests.extend(table.structure(&note).pop());
        node.host.run(|| {
            nft::remove(&table.name).unwrap();
            Socket::open().unwrap().commit(&requests, None).unwrap();
            assert!(held(4).look().unwrap().differences.is_empty());
            assert_eq!(settle(), Ok(Found::Unsound));
            assert_eq!(held(4).enforce(), Ok(Ensured::Repaired));
            assert_eq!(settle(), Ok(Found::Sound));
            assert_eq!(held(4).enforce(), Ok(Ensured::Unchanged));
            assert_eq!(nft::tables("manx"), Ok(vec!["manx-policy".to_owned()]));
        });
    }
}

/// A policy is replaced while packets of a connection pass: none is lost, and no rule
/// and no chain is another.
#[test]
fn a_policy_changes_under_traffic() {
    const CHANGES: u32 = 60;
    let node = Node::new();
    let host = &node.host;
    host.run(|| assert_eq!(held(4).enforce(), Ok(Ensured::Installed)));
    let before = handles(host);
    let [here, there] = node.sockets(Family::V4, 80);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut buffer, mut count) = ([0; 16], 0);
            while !over.load(Ordering::Relaxed) || count < 1000 {
                here.send(b"question").unwrap();
                let (_, from) = uninterrupted(|| there.recv_from(&mut buffer)).unwrap();
                there.send_to(b"answer", from).unwrap();
                uninterrupted(|| here.recv(&mut buffer)).unwrap();
                count += 1;
            }
        });
        for class in 4..4 + CHANGES {
            assert_eq!(host.run(|| held(class + 1).enforce()), Ok(Ensured::Repaired));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(handles(host), before);
    assert_eq!(host.run(|| held(4 + CHANGES).enforce()), Ok(Ensured::Unchanged));
}
