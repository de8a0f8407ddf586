// SPDX-License-Identifier: Apache-2.0
//! One node's mistakes beside a sound list.

use serde_json::{Value, json};

use crate::{fabric::Peers, family::Family};

fn nodes() -> Vec<Value> {
    vec![
        json!({"name": "a", "addresses": ["192.0.2.1", "2001:db8::1"],
               "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]}),
        json!({"name": "b", "addresses": ["192.0.2.2", "2001:db8::2"],
               "podCIDRs": ["10.2.0.0/24", "fd00:2::/64"]}),
        json!({"name": "c", "addresses": ["192.0.2.3"], "podCIDRs": ["10.3.0.0/24"]}),
        json!({"name": "d", "addresses": ["192.0.2.4"], "podCIDRs": ["10.4.0.0/24"]}),
    ]
}

fn parse(nodes: &[Value]) -> Result<Peers, String> {
    let text = json!({"self": "a", "nodes": nodes}).to_string();
    Peers::parse(text.as_bytes(), &|_| false).map_err(|problems| problems.join("; "))
}

/// A list in which a node has another value.
fn list(name: &str, key: &str, value: Value) -> Result<Peers, String> {
    let mut nodes = nodes();
    let place = nodes.iter().position(|node| node["name"] == name).unwrap();
    nodes[place][key] = value;
    parse(&nodes)
}

/// What is said of a list in which b has this value: in which either b alone is left
/// out, or nobody.
fn with(key: &str, value: Value) -> String {
    let peers = list("b", key, value).unwrap();
    let others: Vec<&str> = peers.others.iter().map(|node| node.name.as_str()).collect();
    let rest = if peers.excluded.is_empty() { &["b", "c", "d"][..] } else { &["c", "d"] };
    assert_eq!(others, rest, "{:?}", peers.excluded);
    assert!(peers.excluded.iter().all(|said| said.starts_with("b is left out: ")));
    if peers.excluded.is_empty() { "nothing".to_owned() } else { peers.excluded.join("; ") }
}

#[test]
fn addresses_that_no_node_can_have() {
    for address in
        ["0.0.0.0", "127.0.0.9", "169.254.3.4", "224.0.0.5", "255.255.255.255", "::1", "::"]
            .into_iter()
            .chain(["fe80::1", "ff02::1"])
    {
        for key in ["addresses", "tunnelAddresses"] {
            let value = json!(["192.0.2.2", "2001:db8::2", address]);
            let said = with(key, value.clone());
            assert!(said.contains(&format!("no node can have {address}")), "{said}");
            // This node's own mistake is another matter.
            let said = list("a", key, value).unwrap_err();
            assert!(said.contains(&format!("a: no node can have {address}")), "{said}");
        }
    }
}

#[test]
fn networks_in_which_no_pod_can_be() {
    for cidr in ["0.0.0.0/0", "127.0.0.0/9", "169.254.1.0/24", "224.0.0.0/4", "fe80::/64"]
        .into_iter()
        .chain(["ff00::/8", "255.255.255.255/32"])
    {
        let said = list("b", "podCIDRs", json!([cidr])).map(|peers| peers.excluded.join("; "));
        let said = said.unwrap_or_else(|refused| refused);
        assert!(said.contains(&format!("podCIDR {cidr} overlaps")), "{said}");
    }
    assert_eq!(with("podCIDRs", json!(["240.0.0.0/24", "100.64.2.0/24"])), "nothing");
}

#[test]
fn macs_that_no_device_can_have() {
    for mac in ["00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff"] {
        let said = with("tunnelMAC", mac.into());
        assert!(said.contains("is no unicast address"), "{said}");
    }
}

#[test]
fn who_has_what_this_node_has_refuses_the_list() {
    let peers = parse(&nodes()).unwrap();
    for family in Family::BOTH {
        let mac = peers.me.tunnel_mac(family).to_string();
        let said = list("b", "tunnelMAC", mac.into()).unwrap_err();
        assert!(said.contains("b and a both have tunnel MAC"), "{family}: {said}");
    }
    for (key, value, words) in [
        ("tunnelAddresses", json!(["10.1.0.0"]), "b and a both have address 10.1.0.0"),
        ("tunnelAddresses", json!(["192.0.2.1"]), "b and a both have address 192.0.2.1"),
        ("tunnelAddresses", json!(["10.1.0.77"]), "b's tunnel address 10.1.0.77 is in a's podCIDR"),
        (
            "podCIDRs",
            json!(["10.1.0.128/25"]),
            "b's podCIDR 10.1.0.128/25 overlaps a's 10.1.0.0/24",
        ),
        ("podCIDRs", json!(["10.0.0.0/9"]), "a's podCIDR 10.1.0.0/24 overlaps b's 10.0.0.0/9"),
        ("podCIDRs", json!(["192.0.2.1/32"]), "a's address 192.0.2.1 is in b's podCIDR"),
        ("name", json!("a"), "node a is listed twice"),
    ] {
        let said = list("b", key, value).unwrap_err();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_mistake_of_one_node_is_its_own() {
    for (key, value, words) in [
        ("tunnelAddresses", json!(["192.0.2.2"]), "b has address 192.0.2.2 twice"),
        ("podCIDRs", json!(["192.0.2.2/32"]), "b's address 192.0.2.2 is in b's podCIDR"),
        ("podCIDRs", json!(["10.9.0.0/24", "10.9.0.0/25"]), "overlaps b's 10.9.0.0/24"),
    ] {
        let said = with(key, value);
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(with("tunnelAddresses", json!(["10.2.0.77", "fd00:99::1"])), "nothing");
}

/// Of two the later one goes; of more the one that is in everybody's way.
#[test]
fn of_peers_that_clash_as_few_as_can_be_are_left_out() {
    for (name, key, value, gone, words) in [
        ("b", "addresses", json!(["192.0.2.3", "2001:db8::2"]), "c", "both have address 192.0.2.3"),
        ("c", "podCIDRs", json!(["10.2.0.128/25"]), "c", "overlaps b's 10.2.0.0/24"),
        ("b", "podCIDRs", json!(["10.3.0.128/25"]), "c", "overlaps"),
        ("b", "podCIDRs", json!(["10.2.0.0/15", "10.4.0.0/15"]), "b", "overlaps b's"),
        ("b", "podCIDRs", json!(["192.0.2.2/31", "192.0.2.4/31"]), "b", "is in b's podCIDR"),
        ("c", "tunnelAddresses", json!(["10.4.0.7"]), "d", "is in d's podCIDR 10.4.0.0/24"),
    ] {
        let peers = list(name, key, value).unwrap();
        let here = |wanted: &str| peers.others.iter().any(|node| node.name == wanted);
        assert_eq!(peers.excluded.len(), 1, "{:?}", peers.excluded);
        assert!(peers.excluded[0].starts_with(&format!("{gone} is left out: ")), "{words}");
        assert!(peers.excluded[0].contains(words), "{:?}", peers.excluded);
        assert!(!here(gone) && peers.others.len() == 2);
    }
    let twice = [nodes(), vec![nodes()[2].clone()]].concat();
    let peers = parse(&twice).unwrap();
    assert_eq!(peers.excluded, ["c is left out: node c is listed twice"]);
    assert_eq!(peers.others.len(), 3);
}

/// As a template writes it that nobody filled in.
#[test]
fn thousands_with_the_same_pods_are_no_burden() {
    let mut nodes = vec![nodes()[0].clone()];
    for number in 0..3000 {
        let address = format!("172.16.{}.{}", number / 250, number % 250 + 1);
        nodes.push(json!({"name": format!("n{number}"), "addresses": [address],
            "podCIDRs": ["10.9.0.0/24"]}));
    }
    let peers = parse(&nodes).unwrap();
    assert_eq!((peers.others.len(), peers.excluded.len()), (1, 2999));
}
