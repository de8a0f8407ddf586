//! A table of network policies, as such a table has to be: constant rules, and everything
//! that changes is an element of a map or a set.
//!
//! A pod under policy has a class for each direction, an address that a policy names has
//! an identity, and a connection is allowed if {class . protocol . identity . port} is in a
//! set. 0 stands for any; identities of networks come from ranges of {class . address}.

use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value as Json;

use super::Namespace;
use super::addresses::handles;
use super::datapath::connect;
use crate::family::Family;
use crate::nft::key::{Load, Part};
use crate::nft::set::{Content, Data, Elements, Field, Key, Ranges, Set, Type, Value, Verdict};
use crate::nft::side::Side;
use crate::nft::table::{Chain, ESTABLISHED, Holds, Hook, Kind, Point, RELATED, Rule, Table, Term};
use crate::nft::{self, Ensured};

/// Egress, and ingress.
struct Direction {
    pods: Side,
    peers: Side,
    /// Of each family.
    class: [&'static str; 2],
    cidr: [&'static str; 2],
    chain: [&'static str; 2],
    allow: &'static str,
    range: &'static str,
    allowed: Verdict,
}

const EGRESS: Direction = Direction {
    pods: Side::Source,
    peers: Side::Destination,
    class: ["class-out4", "class-out6"],
    cidr: ["cidr-out4", "cidr-out6"],
    chain: ["egress4", "egress6"],
    allow: "allow-out",
    range: "range-out",
    allowed: Verdict::Return,
};
const INGRESS: Direction = Direction {
    pods: Side::Destination,
    peers: Side::Source,
    class: ["class-in4", "class-in6"],
    cidr: ["cidr-in4", "cidr-in6"],
    chain: ["ingress4", "ingress6"],
    allow: "allow-in",
    range: "range-in",
    allowed: Verdict::Accept,
};
const IDENTITY: [&str; 2] = ["ident4", "ident6"];
const HAIRPIN: [&str; 2] = ["self4", "self6"];

/// What the sets hold, by their names.
type Held = Vec<(&'static str, Elements)>;

fn policy(held: &Held) -> Table {
    let mut sets = Vec::new();
    let mut set = |name, key: &[Type], data, ranges| {
        let elements = held.iter().find(|(of, _)| *of == name).map(|(_, all)| all.clone());
        let content = Content::Following(elements.unwrap_or_default());
        sets.push(Set { name, key: key.to_vec(), data, ranges, content });
    };
    let number = Some(Data::Number);
    let flow = [Type::Number, Type::Protocol, Type::Number, Type::Port];
    for (family, at) in Family::BOTH.into_iter().zip(0..) {
        let address = Type::Address(family);
        set(IDENTITY[at], &[address], number, Ranges::None);
        set(HAIRPIN[at], &[address, address], None, Ranges::None);
        for way in [EGRESS, INGRESS] {
            set(way.class[at], &[address], number, Ranges::None);
            set(way.cidr[at], &[Type::Number, address], number, Ranges::Last);
        }
    }
    for way in [EGRESS, INGRESS] {
        set(way.allow, &flow, None, Ranges::None);
        set(way.range, &flow, None, Ranges::Last);
    }
    let mut chains: Vec<Chain> = Vec::new();
    let mut entry = vec![
        Rule(vec![Term::State(RELATED), Term::End(Verdict::Accept)]),
        Rule(vec![Term::State(ESTABLISHED), Term::IsReply, Term::End(Verdict::Accept)]),
    ];
    for way in [EGRESS, INGRESS] {
        for at in 0..2 {
            chains.push(way.judged(at));
            let chain = way.chain[at];
            let leads = match way.allowed {
                Verdict::Return => Verdict::Jump(chain),
                _ => Verdict::Goto(chain),
            };
            entry.push(Rule(vec![Term::Has(way.class(at)), Term::End(leads)]));
        }
    }
    let hook = Hook { kind: Kind::Filter, point: Point::Forward, priority: 0 };
    chains.push(Chain { name: "forward", hook: Some(hook), rules: entry });
    let (name, comment) = ("manx-policy".to_owned(), "manx: network policies".to_owned());
    Table { name, comment, sets, chains }
}

impl Direction {
    fn class(&self, at: usize) -> Part {
        let pod = Part::Of(Load::Address(self.pods, Family::BOTH[at]));
        Part::Mapped(vec![pod], self.class[at])
    }

    /// The chain of one family: whoever is isolated gets no further than what is allowed.
    fn judged(&self, at: usize) -> Chain {
        let peer = Part::Of(Load::Address(self.peers, Family::BOTH[at]));
        let pod = Part::Of(Load::Address(self.pods, Family::BOTH[at]));
        let identity = Part::Mapped(vec![peer.clone()], IDENTITY[at]);
        let network = Part::Mapped(vec![self.class(at), peer.clone()], self.cidr[at]);
        let (protocol, port) = (Part::Of(Load::Protocol), Part::Of(Load::Port(Side::Destination)));
        let (any, class) = (Part::Number(0), self.class(at));
        let of = |parts: [&Part; 3], set| {
            let key = [&class].into_iter().chain(parts).cloned().collect();
            Rule(vec![Term::Among(key, Holds::Is, set), Term::End(self.allowed.clone())])
        };
        let rules = vec![
            of([&protocol, &identity, &port], self.allow),
            of([&any, &identity, &any], self.allow),
            of([&protocol, &any, &port], self.allow),
            of([&any, &any, &any], self.allow),
            of([&protocol, &network, &port], self.allow),
            of([&any, &network, &any], self.allow),
            of([&protocol, &identity, &port], self.range),
            Rule(vec![
                Term::Among(vec![pod, peer], Holds::Is, HAIRPIN[at]),
                Term::End(self.allowed.clone()),
            ]),
            Rule(vec![Term::Count, Term::End(Verdict::Drop)]),
        ];
        Chain { name: self.chain[at], hook: None, rules }
    }
}

fn address(text: &str) -> Field<'static> {
    Field::Address(text.parse::<IpAddr>().unwrap())
}

fn numbers(all: &[(&str, u64)]) -> Elements {
    let element =
        |(text, number): &(&str, u64)| (Key::of(&[address(text)]), Some(Value::Number(*number)));
    all.iter().map(element).collect()
}

const UDP: u8 = 17;
/// Identities of networks are far from those of pods.
const NETWORK: u64 = 1 << 30;

fn flow(class: u32, protocol: u8, identity: u32, port: u16) -> [Field<'static>; 4] {
    [Field::Number(class), Field::Protocol(protocol), Field::Number(identity), Field::Port(port)]
}

/// 10.1.0.2, of a class, may speak to identity 7 and to some networks; 10.1.0.3, which has
/// it, hears class 5's identity 6 and a range of ports.
fn held(class: u32) -> Held {
    let flows = |all: &[[Field<'static>; 4]]| all.iter().map(|it| (Key::of(it), None)).collect();
    let networks = |class, first, last, number| {
        let of = |text| [Field::Number(class), address(text)];
        (Key::range(&of(first), &of(last)), Some(Value::Number(number)))
    };
    vec![
        ("class-out4", numbers(&[("10.1.0.2", class.into())])),
        ("class-in4", numbers(&[("10.1.0.3", 5)])),
        ("class-out6", numbers(&[("fd01::2", class.into())])),
        ("class-in6", numbers(&[("fd01::3", 5)])),
        ("ident4", numbers(&[("10.1.0.2", 6), ("10.1.0.3", 7)])),
        ("ident6", numbers(&[("fd01::2", 6), ("fd01::3", 7)])),
        ("allow-out", flows(&[flow(class, UDP, 7, 80), flow(class, UDP, NETWORK as u32, 90)])),
        ("allow-in", flows(&[flow(5, UDP, 6, 80), flow(5, UDP, 7, 80)])),
        (
            "cidr-out4",
            [
                networks(class, "10.1.0.0", "10.1.0.255", NETWORK),
                // Where one ends the next begins.
                networks(class, "10.1.1.0", "10.1.1.255", NETWORK + 1),
            ]
            .into(),
        ),
        ("cidr-out6", [networks(class, "fd01::", "fd01::ffff", NETWORK)].into()),
        ("range-in", [(Key::range(&flow(5, UDP, 6, 90), &flow(5, UDP, 6, 99)), None)].into()),
        ("self4", [(Key::of(&[address("10.1.0.2"), address("10.1.0.2")]), None)].into()),
    ]
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
    let table = policy(&held(4));
    namespace.run(|| {
        assert_eq!(nft::ensure(&table), Ok(Ensured::Installed));
        assert_eq!(nft::differences(&table), Ok(Vec::new()));
        assert_eq!(nft::ensure(&table), Ok(Ensured::Unchanged));
        assert_eq!(nft::is_intact(&table.seal()), Ok(true));
        assert_eq!(nft::is_followed(&table, table.followed()), Ok(true));
    });
    let text = namespace.command("nft -j list ruleset");
    let text: Json = serde_json::from_str(&text).unwrap();
    let objects = text["nftables"].as_array().unwrap();
    // Class and first address of a network, as one number.
    let network = |number: u64| {
        let first = (4 << 32) + 0x0a01_0000 + (number << 8);
        format!("{first}-{} : {}", first + 255, NETWORK + number)
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
    let table = policy(&held(4));
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
    let other = policy(&held(5));
    assert_eq!(namespace.run(|| nft::ensure(&other)), Ok(Ensured::Repaired));
    assert_eq!(namespace.run(|| nft::differences(&other)), Ok(Vec::new()));
    assert_eq!(handles(&namespace), before);
}

/// A node and two pods of it, 10.1.0.2 and 10.1.0.3.
struct Node {
    host: Namespace,
    pods: [Namespace; 2],
}

impl Node {
    fn new() -> Self {
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
    fn sockets(&self, family: Family, port: u16) -> [UdpSocket; 2] {
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
const PATIENCE: Duration = Duration::from_secs(60);

/// What is sent before something that arrives has arrived as well, or never does.
#[test]
fn the_table_decides_as_it_says() {
    let node = Node::new();
    let table = policy(&held(4));
    node.host.run(|| assert_eq!(nft::ensure(&table), Ok(Ensured::Installed)));
    let mut buffer = [0; 16];
    for family in Family::BOTH {
        let allowed = node.sockets(family, 80);
        for (port, passes) in [(90, true), (91, false), (81, false)] {
            let other = node.sockets(family, port);
            other[0].send(b"maybe").unwrap();
            allowed[0].send(b"after it").unwrap();
            allowed[1].recv(&mut buffer).unwrap();
            other[1].set_nonblocking(true).unwrap();
            assert_eq!(other[1].recv(&mut buffer).is_ok(), passes, "port {port}, {family}");
        }
    }
}

/// A policy is replaced while packets of a connection pass: none is lost, and no rule
/// and no chain is another.
#[test]
fn a_policy_changes_under_traffic() {
    const CHANGES: u32 = 60;
    let node = Node::new();
    let host = &node.host;
    host.run(|| assert_eq!(nft::ensure(&policy(&held(4))), Ok(Ensured::Installed)));
    let before = handles(host);
    let [here, there] = node.sockets(Family::V4, 80);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut buffer, mut count) = ([0; 16], 0);
            while !over.load(Ordering::Relaxed) || count < 1000 {
                here.send(b"question").unwrap();
                let (_, from) = there.recv_from(&mut buffer).unwrap();
                there.send_to(b"answer", from).unwrap();
                here.recv(&mut buffer).unwrap();
                count += 1;
            }
        });
        for class in 4..4 + CHANGES {
            // First what the new class may, then the pod is of it, then the old one goes.
            let (old, new) = (held(class), held(class + 1));
            for step in [joined(&old, &new), joined(&new, &old), new.clone()] {
                let table = policy(&step);
                assert_eq!(host.run(|| nft::ensure(&table)), Ok(Ensured::Repaired));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(handles(host), before);
    let last = policy(&held(4 + CHANGES));
    assert_eq!(host.run(|| nft::differences(&last)), Ok(Vec::new()));
}

/// What both have; where they differ about a key, the first.
fn joined(one: &Held, other: &Held) -> Held {
    let both = one.iter().zip(other).map(|((name, one), (_, other))| {
        let mut elements = other.clone();
        elements.extend(one.clone());
        (*name, elements)
    });
    both.collect()
}
