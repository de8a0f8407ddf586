// SPDX-License-Identifier: Apache-2.0
use std::collections::HashMap;

use proptest::{collection::vec, option, prelude::*};
use serde_json::{Value, json};

use super::*;
use crate::{
    conf::Mode,
    fabric::{Observed, desired::Path, diff, site::NextHop, text::Text},
    net::route::{self, Found},
    pod::mtu::Uplink,
};

/// A node of small numbers, of which some belong to others, or to nobody.
#[derive(Clone, Debug)]
struct Spec {
    name: u8,
    address: u8,
    pods: Vec<u8>,
    ipv6: bool,
    tunnel: Option<u8>,
    mac: Option<u8>,
}

impl Spec {
    fn plain(number: u8) -> Self {
        let (tunnel, mac) = (None, None);
        Self { name: number, address: number, pods: vec![number], ipv6: false, tunnel, mac }
    }

    fn encode(&self) -> Value {
        let mut addresses = vec![address(self.address).to_string()];
        let mut pods: Vec<String> = self.pods.iter().map(|number| pod_cidr(*number)).collect();
        if self.ipv6 {
            addresses.push(format!("2001:db8::1{}", self.address));
            pods.extend(self.pods.iter().map(|number| format!("fd00:{number}::/64")));
        }
        let mut node = json!({"name": format!("n{}", self.name), "addresses": addresses,
                              "podCIDRs": pods});
        if let Some(tunnel) = self.tunnel {
            node["tunnelAddresses"] = json!([format!("10.{tunnel}.0.0")]);
        }
        if let Some(mac) = self.mac {
            node["tunnelMAC"] = json!(format!("02:00:00:00:00:0{mac}"));
        }
        node
    }
}

/// Of peers on the link, behind a router, beyond a narrow link, without a way; and this
/// node's own.
fn address(number: u8) -> IpAddr {
    let text = match number {
        0..=5 => format!("192.0.2.1{number}"),
        6 | 7 => format!("198.51.100.{number}"),
        8 => "203.0.113.8".to_owned(),
        _ => "192.0.2.1".to_owned(),
    };
    text.parse().unwrap()
}

/// Some overlap, and some have what this node has.
fn pod_cidr(number: u8) -> String {
    match number {
        0..=7 => format!("10.{number}.0.0/24"),
        8 => "10.0.0.0/15".to_owned(),
        _ => "192.0.2.0/28".to_owned(),
    }
}

fn list(nodes: &[Spec], place: usize) -> String {
    let mut nodes: Vec<Value> = nodes.iter().map(Spec::encode).collect();
    let me = json!({"name": "me", "addresses": ["192.0.2.1", "2001:db8::1"],
                    "podCIDRs": ["10.99.0.0/24", "fd00:99::/64"]});
    nodes.insert(place.min(nodes.len()), me);
    json!({"self": "me", "nodes": nodes}).to_string()
}

fn site() -> Site {
    let own: Vec<IpNetwork> =
        ["192.0.2.1/24", "2001:db8::1/64"].map(|text| text.parse().unwrap()).into();
    let (address, destination) = ("192.0.2.9".parse().unwrap(), "10.7.0.0/24".parse().unwrap());
    let next_hops = vec![NextHop { address, destination, reach: 24 }];
    Site { addresses: own.clone(), plain: own, next_hops }
}

fn facts(peers: &Peers) -> Facts {
    let path = |address: &IpAddr| {
        let text = address.to_string();
        let behind = text.starts_with("198.51.100.").then(|| "192.0.2.9".parse().unwrap());
        let mtu = if text == "198.51.100.7" { 1400 } else { 1500 };
        let narrowest = Uplink { device: "eth0".to_owned(), mtu };
        let path = Path { device: "eth0".to_owned(), narrowest, gateway: behind, onlink: false };
        (!text.starts_with("203.0.113.")).then_some((*address, path))
    };
    let addresses = peers.others.iter().flat_map(|node| &node.addresses);
    let own = site().plain.into_iter().map(|own| (own, "eth0".to_owned()));
    let paths: HashMap<IpAddr, Path> = addresses.filter_map(path).collect();
    Facts { addresses: own.collect(), paths, ..Facts::default() }
}

fn indexes() -> Indexes {
    HashMap::from([("eth0".to_owned(), 2), ("vxlan.calico".to_owned(), 3), ("tunl0".to_owned(), 4)])
}

fn peers(text: &str) -> Result<Peers, Vec<String>> {
    Peers::of_site(text.as_bytes(), &site(), None)
}

/// The plan of a node that has all that these peers need, and these routes of others.
fn plan(settings: &Settings, peers: &Peers, others: &[HeldRoute]) -> Plan {
    let facts = facts(peers);
    let desired = describe(settings, peers, &facts);
    let mut held = desired.objects.as_held(&indexes());
    held.routes.extend(others.iter().cloned());
    let observed = Observed { held, indexes: indexes(), ..Observed::default() };
    let changes = diff::diff(&desired, &observed);
    Plan { facts, desired, observed, changes, borrows: false }
}

fn sorted(changes: &[Change]) -> Vec<String> {
    let mut lines: Vec<String> = changes.iter().map(|change| change.told().to_string()).collect();
    lines.sort();
    lines
}

/// The changes that a comparison of the nodes that differ finds.
fn amended(
    settings: &Settings,
    (old, new): (&str, &str),
    others: &[HeldRoute],
) -> Option<Vec<Change>> {
    let before = peers(old).ok()?;
    let count = before.nodes().count();
    let settled =
        Settled::of(settings.clone(), &before, plan(settings, &before, others), site(), None)?;
    let text = Text::of(old.as_bytes().into(), count)?;
    let amendment = settled.admit(text.splice(new.as_bytes())?)?;
    let facts = facts(&amendment.after);
    settled.changes(&amendment, facts, others.to_vec())
}

/// Those that a comparison of all finds.
fn compared(
    settings: &Settings,
    (old, new): (&str, &str),
    others: &[HeldRoute],
) -> Option<(Peers, Vec<Change>)> {
    let (before, after) = (peers(old).ok()?, peers(new).ok()?);
    let observed = plan(settings, &before, others).observed;
    let desired = describe(settings, &after, &facts(&after));
    Some((after, diff::diff(&desired, &observed)))
}

fn foreign(number: u8) -> HeldRoute {
    let mut route = route::Route::new(pod_cidr(number).parse().unwrap());
    (route.gateway, route.protocol) = (Some("192.0.2.9".parse().unwrap()), 4);
    let found = Found::new(route, vec![2]);
    HeldRoute { found, device: Some("eth0".to_owned()), ours: false, on_host_link: false }
}

fn base() -> Vec<Spec> {
    (0..5).map(|number| Spec { ipv6: number % 2 == 0, ..Spec::plain(number) }).collect()
}

#[test]
fn what_concerns_few_is_found_by_looking_at_few() {
    let with = |change: &dyn Fn(&mut Vec<Spec>)| {
        let mut nodes = base();
        change(&mut nodes);
        nodes
    };
    for (what, nodes, count) in [
        ("another address", with(&|all| all[1].address = 5), 1),
        ("behind a router", with(&|all| all[1].address = 6), 1),
        ("other pods", with(&|all| all[1].pods = vec![5]), 2),
        (
            "pods of a former neighbour",
            with(&|all| (all[0].pods, all[1].pods) = (vec![1], vec![0])),
            4,
        ),
        ("another name", with(&|all| all[1].name = 7), 0),
        ("one more", with(&|all| all.push(Spec::plain(5))), 1),
        ("one less", with(&|all| drop(all.remove(3))), 1),
    ] {
        let settings = Settings::of_mode(Mode::Direct);
        let texts = (&*list(&base(), 2), &*list(&nodes, 2));
        let found = amended(&settings, texts, &[]).unwrap_or_else(|| panic!("{what}"));
        assert_eq!(found.len(), count, "{what}: {:?}", sorted(&found));
        let (_, expected) = compared(&settings, texts, &[]).unwrap();
        assert_eq!(sorted(&found), sorted(&expected), "{what}");
    }
}

#[test]
fn what_concerns_more_is_left_to_a_comparison_of_all() {
    let with = |change: &dyn Fn(&mut Vec<Spec>)| {
        let mut nodes = base();
        change(&mut nodes);
        nodes
    };
    let text = |nodes: &[Spec]| list(nodes, 2);
    let me = |from: &str, to: &str| text(&base()).replace(from, to);
    for (what, new) in [
        ("this node's pods", me("10.99.0.0", "10.98.0.0")),
        ("this node's name", me("\"me\",\"podCIDRs", "\"you\",\"podCIDRs")),
        ("a tunnel's MTU", text(&with(&|all| all[1].address = 7))),
        ("a node without a way", text(&with(&|all| all[1].address = 8))),
        ("a node that is here", text(&with(&|all| all[1].address = 9))),
        ("pods where this node is", text(&with(&|all| all[1].pods = vec![9]))),
        ("pods of others", text(&with(&|all| all[1].pods = vec![3]))),
        ("pods around those of others", text(&with(&|all| all[2].pods = vec![8]))),
        ("an address of another", text(&with(&|all| all[1].address = 3))),
        ("a name of another", text(&with(&|all| all[1].name = 4))),
        ("a tunnel address of another", text(&with(&|all| all[1].tunnel = Some(3)))),
        ("pods with a route of others", text(&with(&|all| all[1].pods = vec![6]))),
    ] {
        let settings = Settings::of_mode(Mode::Vxlan);
        let found = amended(&settings, (&text(&base()), &new), &[foreign(6)]);
        assert_eq!(found, None, "{what}");
    }
}

#[test]
fn a_node_that_has_a_tunnels_address_alone_is_left_to_a_comparison_of_all() {
    let with = |tunnel| {
        let mut nodes = base();
        nodes[1] = Spec { pods: Vec::new(), tunnel, ..Spec::plain(1) };
        list(&nodes, 2)
    };
    for mode in [Mode::Ipip, Mode::Vxlan] {
        for (old, new) in [(Some(5), None), (None, Some(5)), (Some(5), Some(6))] {
            let (settings, old, new) = (Settings::of_mode(mode), with(old), with(new));
            let (_, expected) = compared(&settings, (&old, &new), &[]).unwrap();
            assert!(!expected.is_empty());
            assert_eq!(amended(&settings, (&old, &new), &[]), None);
        }
    }
}

/// A list may say in several ways which node this is.
#[test]
fn a_node_that_the_whole_list_may_take_for_this_one_is_left_to_a_comparison_of_all() {
    let unnamed = list(&base(), 2).replace("\"self\":\"me\",", "");
    let by_address = list(&base(), 2).replace("\"self\":\"me\"", "\"self\":\"192.0.2.1\"");
    let local = |text: &str| text.replace("[\"192.0.2.11\"]", "[\"192.0.2.11\",\"192.0.2.1\"]");
    let named = |text: &str| text.replace("\"n1\"", "\"192.0.2.1\"");
    for (what, old, new) in [
        ("its second address is of this machine", &unnamed, local(&unnamed)),
        ("its name is the address that self says", &by_address, named(&by_address)),
    ] {
        assert_ne!(**old, *new, "{what}");
        let texts = (&**old, &*new);
        assert!(peers(old).is_ok(), "{what}");
        assert_eq!(amended(&Settings::of_mode(Mode::Direct), texts, &[]), None, "{what}");
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let fields = (0..8u8, 0..10u8, vec(0..10u8, 0..3), any::<bool>());
    let ends = (option::weighted(0.2, 0..10u8), option::weighted(0.2, 0..3u8));
    (fields, ends).prop_map(|((name, address, pods, ipv6), (tunnel, mac))| Spec {
        name,
        address,
        pods,
        ipv6,
        tunnel,
        mac,
    })
}

/// What is made of a list: a node in the place of one, before it, or without it.
fn edits() -> impl Strategy<Value = Vec<(usize, Option<Spec>, bool)>> {
    vec((0..6usize, option::weighted(0.8, spec()), any::<bool>()), 1..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Where there is an answer it is that of a comparison of all.
    #[test]
    fn few_are_compared_as_all_are(
        first in edits(),
        second in edits(),
        place in 0..6usize,
        mode in 0..3usize,
        others in vec(0..8u8, 0..2),
    ) {
        let mut nodes = base();
        let mut edit = |edits: Vec<(usize, Option<Spec>, bool)>| {
            for (at, spec, replace) in edits {
                let at = at.min(nodes.len().saturating_sub(1));
                if (replace || spec.is_none()) && nodes.len() > 1 {
                    nodes.remove(at);
                }
                nodes.splice(at..at, spec);
            }
            list(&nodes, place)
        };
        let (old, new) = (edit(first), edit(second));
        let settings = Settings::of_mode([Mode::Direct, Mode::Ipip, Mode::Vxlan][mode]);
        let others: Vec<HeldRoute> = others.into_iter().map(foreign).collect();
        if let Some(found) = amended(&settings, (&old, &new), &others) {
            let Some((peers, expected)) = compared(&settings, (&old, &new), &others) else {
                return Err(TestCaseError::fail("the list is refused"));
            };
            prop_assert!(peers.excluded.is_empty() && peers.here.is_empty());
            let expected: Vec<Change> = expected
                .into_iter()
                .filter(|change| change.action() != Action::Conflict)
                .collect();
            prop_assert_eq!(sorted(&found), sorted(&expected));
        }
    }
}
