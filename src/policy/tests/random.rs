// SPDX-License-Identifier: Apache-2.0
//! Clusters that nobody would think of.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use proptest::{collection::vec, prelude::*, sample::select};

use super::super::{
    Block, Flow, Labels, Name, NamedPort, Peer, Pod, Policies, Policy, Port, Ports, Requirement,
    Rule, Selector, Test, World, allows, compile,
};
use super::{KEY, naive};

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const KEYS: [&str; 2] = ["app", "tier"];
const VALUES: [&str; 2] = ["a", "b"];
const NODES: [&str; 2] = ["one", "two"];
const NAMES: [&str; 2] = ["http", "dns"];
const PROTOCOLS: [u8; 3] = [6, 17, 132];
const ADDRESSES: [&str; 12] = [
    "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.1.1", "10.0.1.2", "fd00::1",
    "fd00::2", "fd00::3", "fd00::4", "fd00::5",
];
const BLOCKS: [&str; 8] = [
    "0.0.0.0/0",
    "10.0.0.0/24",
    "10.0.0.0/30",
    "10.0.0.2/32",
    "10.0.1.0/31",
    "::/0",
    "fd00::/126",
    "fd00::2/128",
];
const OUTSIDE: [&str; 3] = ["192.0.2.7", "10.0.0.200", "2001:db8::7"];

fn text(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(of).prop_map(str::to_owned)
}

fn labels() -> impl Strategy<Value = Labels> {
    vec((text(&KEYS), text(&VALUES)), 0..3).prop_map(|all| all.into_iter().collect())
}

fn selector() -> impl Strategy<Value = Selector> {
    let test = prop_oneof![
        4 => vec(text(&VALUES), 0..3).prop_map(Test::In),
        2 => vec(text(&VALUES), 0..3).prop_map(Test::NotIn),
        1 => Just(Test::Exists),
        1 => Just(Test::DoesNotExist),
    ];
    let requirement = (text(&KEYS), test).prop_map(|(key, test)| Requirement { key, test });
    vec(requirement, 0..3).prop_map(Selector)
}

fn namespaces() -> impl Strategy<Value = Selector> {
    let by_name = text(&NAMESPACES).prop_map(|name| {
        let key = "kubernetes.io/metadata.name".to_owned();
        Selector(vec![Requirement { key, test: Test::In(vec![name]) }])
    });
    prop_oneof![selector(), by_name]
}

fn block() -> impl Strategy<Value = Block> {
    (select(&BLOCKS[..]), vec(select(&BLOCKS[..]), 0..3)).prop_map(|(network, except)| Block {
        network: network.parse().unwrap(),
        except: except.into_iter().map(|text| text.parse().unwrap()).collect(),
    })
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        block().prop_map(Peer::Block),
        (proptest::option::of(namespaces()), selector())
            .prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
    ]
}

fn port() -> impl Strategy<Value = Port> {
    let ports = prop_oneof![
        Just(Ports::All),
        (78u16..92, 0u16..6).prop_map(|(first, more)| Ports::Numbers(first, first + more)),
        text(&NAMES).prop_map(Ports::Named),
    ];
    (select(&PROTOCOLS[..]), ports).prop_map(|(protocol, ports)| Port { protocol, ports })
}

fn rule() -> impl Strategy<Value = Rule> {
    let peers = proptest::option::weighted(0.8, vec(peer(), 0..3));
    let ports = proptest::option::weighted(0.7, vec(port(), 0..4));
    (peers, ports).prop_map(|(peers, ports)| Rule { peers, ports })
}

fn policy() -> impl Strategy<Value = Policy> {
    let rules = || proptest::option::of(vec(rule(), 0..3));
    (text(&NAMESPACES), selector(), rules(), rules()).prop_map(
        |(namespace, pods, egress, ingress)| Policy {
            name: Name { namespace, name: "p".into() },
            pods,
            ways: [egress, ingress],
        },
    )
}

fn pod() -> impl Strategy<Value = Pod> {
    let named = (text(&NAMES), select(&PROTOCOLS[..]), 78u16..84)
        .prop_map(|(name, protocol, port)| NamedPort { name, protocol, port });
    let rare = || proptest::bool::weighted(0.1);
    (
        (text(&NAMESPACES), labels(), text(&NODES), vec(select(&ADDRESSES[..]), 0..3)),
        (rare(), rare(), rare(), 0u8..3, vec(named, 0..3)),
    )
        .prop_map(
            |(
                (namespace, labels, node, addresses),
                (host, finished, terminating, created, ports),
            )| Pod {
                name: Name { namespace, name: String::new() },
                uid: String::new(),
                labels: Arc::new(labels),
                node: node.into(),
                addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
                on_host_network: host,
                finished,
                terminating,
                created: created.to_string(),
                ports: Arc::new(ports),
            },
        )
}

fn world() -> impl Strategy<Value = World> {
    let spaces = vec((text(&NAMESPACES), labels()), 0..3);
    (spaces, vec(pod(), 1..9), vec(policy(), 0..6)).prop_map(|(spaces, mut pods, policies)| {
        for (number, pod) in pods.iter_mut().enumerate() {
            pod.name.name = format!("pod-{number}");
        }
        // As a list is kept: those with the same labels follow each other and share them.
        pods.sort_by(|one, other| {
            let key =
                |pod: &Pod| (pod.name.namespace.clone(), pod.labels.clone(), pod.ports.clone());
            key(one).cmp(&key(other))
        });
        for place in 1..pods.len() {
            let (before, rest) = pods.split_at_mut(place);
            let (before, pod) = (&before[place - 1], &mut rest[0]);
            if before.labels == pod.labels {
                pod.labels = Arc::clone(&before.labels);
            }
            if before.ports == pod.ports {
                pod.ports = Arc::clone(&before.ports);
            }
        }
        let namespaces = spaces.into_iter().map(|(name, labels)| (name, Arc::new(labels)));
        let pods = pods.into_iter().map(Arc::new).collect();
        let policies = policies.into_iter().map(Arc::new).collect();
        World { namespaces: namespaces.collect(), pods, policies }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A connection passes if the tables of both nodes let it pass: the names of the
    /// policies, the tables and the plain reading agree.
    #[test]
    fn all_evaluators_agree(world in world()) {
        let tables = NODES.map(|node| compile(&world, node, &KEY).policies);
        let addresses: BTreeSet<IpAddr> =
            ADDRESSES.iter().chain(&OUTSIDE).map(|text| text.parse().unwrap()).collect();
        for source in &addresses {
            for destination in addresses.iter().filter(|it| it.is_ipv4() == source.is_ipv4()) {
                for (protocol, port) in
                    [(6, Some(80)), (6, Some(83)), (17, Some(81)), (132, Some(90)), (1, None)]
                {
                    let (source, destination) = (*source, *destination);
                    let flow = Flow { source, destination, protocol, port };
                    let verdict = world.verdict(&flow);
                    let plain = naive::is_allowed(&world, &flow);
                    // The node's own packets pass no table that judges.
                    let is_of_node = verdict.exempt.is_some() && source != destination;
                    prop_assert!(is_of_node || verdict.is_allowed() == plain, "{:?} {:?}", flow, verdict);
                    let through = tables.iter().all(|table| allows(table, &flow));
                    prop_assert_eq!(through, plain, "{:?} {:?}", flow, tables);
                }
            }
        }
    }

    /// What is added before the switch changes nothing, and what is left behind it does not
    /// either: an apply that is killed anywhere leaves the one world or the other.
    #[test]
    fn a_change_has_one_moment(worlds in (world(), world())) {
        let [old, new] = [&worlds.0, &worlds.1].map(|world| compile(world, NODES[0], &KEY).policies);
        let both = |base: &Policies, other: &Policies| {
            let mut both = base.clone();
            both.own.extend(other.own.iter().map(|(own, ())| (*own, ())));
            for (way, other) in both.ways.iter_mut().zip(&other.ways) {
                way.grants.extend(other.grants.iter().map(|(grant, last)| (*grant, *last)));
                way.networks.extend(other.networks.iter().map(|(key, value)| (*key, *value)));
            }
            both
        };
        let (before, after) = (both(&old, &new), both(&new, &old));
        let addresses: BTreeSet<IpAddr> =
            ADDRESSES.iter().chain(&OUTSIDE).map(|text| text.parse().unwrap()).collect();
        for source in &addresses {
            for destination in addresses.iter().filter(|it| it.is_ipv4() == source.is_ipv4()) {
                for (protocol, port) in [(6, Some(80)), (17, Some(81)), (132, Some(90)), (1, None)] {
                    let (source, destination) = (*source, *destination);
                    let flow = Flow { source, destination, protocol, port };
                    prop_assert_eq!(allows(&before, &flow), allows(&old, &flow), "{:?}", flow);
                    prop_assert_eq!(allows(&after, &flow), allows(&new, &flow), "{:?}", flow);
                }
            }
        }
    }

    /// A pod that has no address yet has numbers all the same. With these an address gets
    /// what it would get if it were known beforehand; where rules know ports of networks by
    /// name, nothing more than that.
    #[test]
    fn numbers_are_there_before_the_address(world in world(), which in 0usize..9, plain in any::<bool>()) {
        let mut world = world;
        if plain {
            let is_block = |peer: &Peer| matches!(peer, Peer::Block(_));
            let policies = world.policies.iter_mut().map(Arc::make_mut);
            let rules = policies.flat_map(|it| &mut it.ways).flatten().flatten();
            for rule in rules.filter(|rule| rule.peers.iter().flatten().any(is_block)) {
                rule.ports.iter_mut().flatten().for_each(|port| port.ports = Ports::All);
            }
        }
        let place = which % world.pods.len();
        let before = compile(&world, &world.pods[place].node, &KEY);
        let owned = super::super::live::Owners::of(&world);
        let is_its = |address: &IpAddr| owned.find(*address).is_some_and(|it| it.name == world.pods[place].name);
        let own: Vec<IpAddr> = world.pods[place].addresses.iter().filter(|it| is_its(it)).copied().collect();
        let mut early = world.clone();
        Arc::make_mut(&mut early.pods[place]).addresses.clear();
        // Others that had them as well are not asked about here.
        early.pods.iter_mut().map(Arc::make_mut).for_each(|pod| pod.addresses.retain(|it| !own.contains(it)));
        world.pods.iter_mut().map(Arc::make_mut).for_each(|pod| pod.addresses.retain(|it| {
            pod.name == early.pods[place].name || !own.contains(it)
        }));
        let pod = &world.pods[place];
        let mut after = compile(&early, &pod.node, &KEY);
        let known = after.pods.iter().find(|known| known.name == pod.name).cloned();
        prop_assert_eq!(known.is_some(), pod.is_subject());
        if let Some(known) = known {
            own.iter().for_each(|address| after.policies.assign(*address, &known.assigned));
        }
        let addresses: Vec<IpAddr> =
            ADDRESSES.iter().chain(&OUTSIDE).map(|text| text.parse().unwrap()).collect();
        for source in &addresses {
            for destination in addresses.iter().filter(|it| it.is_ipv4() == source.is_ipv4()) {
                for (protocol, port) in [(6, Some(80)), (17, Some(81)), (132, Some(90)), (1, None)] {
                    let (source, destination) = (*source, *destination);
                    let flow = Flow { source, destination, protocol, port };
                    let (is, was) = (allows(&after.policies, &flow), allows(&before.policies, &flow));
                    prop_assert!(is == was || !plain && was, "{:?}: {} was {}", flow, is, was);
                }
            }
        }
    }
}
