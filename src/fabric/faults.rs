//! What is wrong with a list of nodes as a whole, or on this node.
//!
//! One node's mistake must not cut others off: an address that cannot be a
//! node's, pods where the nodes themselves are, two ends of a tunnel that
//! cannot be told apart. Knows no kernel: what of it matters is given.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::peers::{Node, Peers};

/// Networks in which neither nodes nor pods can be, and what they are for
/// (RFC 6890, RFC 4291).
const SPECIAL: [(&str, &str); 8] = [
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("::/127", "loopback and unspecified"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
];

/// All that is wrong with these nodes, a sentence each.
pub(super) fn of(nodes: &[Node]) -> Vec<String> {
    let mut problems = Vec::new();
    special(nodes, &mut problems);
    duplicates(nodes, &mut problems);
    overlaps(nodes, &mut problems);
    misplaced(nodes, &mut problems);
    problems
}

/// What contradicts this node's own addresses, given with their masks.
pub fn on_node(peers: &Peers, local: &[IpNetwork]) -> Vec<String> {
    let mut problems = Vec::new();
    let me = &peers.me;
    let is_local = |address: &IpAddr| local.iter().any(|own| own.ip() == *address);
    for node in &peers.others {
        for address in node.addresses.iter().filter(|address| is_local(address)) {
            let name = &node.name;
            let problem = format!("{name}'s address {address} is this machine's: is self {name}?");
            problems.push(problem);
        }
    }
    let subnets = local.iter().filter(|own| {
        let full = if own.is_ipv4() { 32 } else { 128 };
        own.prefix() > 0 && own.prefix() < full && me.addresses.contains(&own.ip())
    });
    for subnet in subnets.filter_map(|own| IpNetwork::new(own.network(), own.prefix()).ok()) {
        for node in std::iter::once(me).chain(&peers.others) {
            for cidr in node.pod_cidrs.iter().filter(|cidr| overlap(cidr, &subnet)) {
                problems.push(format!(
                    "{}'s podCIDR {cidr} overlaps {subnet}, which is {}'s own network",
                    node.name, me.name
                ));
            }
        }
    }
    problems
}

/// Whether all of one network is in another.
pub fn contains(outer: &IpNetwork, inner: &IpNetwork) -> bool {
    outer.is_ipv4() == inner.is_ipv4()
        && outer.prefix() <= inner.prefix()
        && outer.contains(inner.network())
}

fn overlap(one: &IpNetwork, other: &IpNetwork) -> bool {
    contains(one, other) || contains(other, one)
}

fn special(nodes: &[Node], problems: &mut Vec<String>) {
    let parsed = SPECIAL.iter().filter_map(|(text, what)| Some((text.parse().ok()?, *what)));
    let special: Vec<(IpNetwork, &str)> = parsed.collect();
    for node in nodes {
        let name = &node.name;
        for address in node.addresses.iter().chain(&node.tunnel_addresses) {
            if let Some((_, what)) = special.iter().find(|(net, _)| net.contains(*address)) {
                problems.push(format!("{name}: no node can have {address} ({what})"));
            }
        }
        for cidr in &node.pod_cidrs {
            if let Some((net, what)) = special.iter().find(|(net, _)| overlap(net, cidr)) {
                problems.push(format!("{name}: podCIDR {cidr} overlaps {net} ({what})"));
            }
        }
        if let Some(mac) = node.tunnel_mac.filter(|mac| !mac.is_unicast()) {
            problems.push(format!("{name}: tunnelMAC {mac} is no unicast address"));
        }
    }
}

fn duplicates(nodes: &[Node], problems: &mut Vec<String>) {
    let mut names: HashMap<&str, ()> = HashMap::new();
    let mut owners: HashMap<IpAddr, &str> = HashMap::new();
    // Each family has a device, and with it a table, of its own.
    let mut macs: HashMap<(bool, [u8; 6]), &str> = HashMap::new();
    for node in nodes {
        let name = node.name.as_str();
        if names.insert(name, ()).is_some() {
            problems.push(format!("node {name} is listed twice"));
        }
        let derived = [false, true].into_iter().filter_map(|ipv6| node.tunnel_address(ipv6));
        let derived = derived.filter(|address| !node.tunnel_addresses.contains(address));
        let all = node.addresses.iter().chain(&node.tunnel_addresses).copied().chain(derived);
        for address in all {
            match owners.insert(address, name) {
                Some(other) if other == name => {
                    problems.push(format!("{name} has address {address} twice"));
                }
                Some(other) => {
                    problems.push(format!("{name} and {other} both have address {address}"));
                }
                None => {}
            }
        }
        for ipv6 in [false, true].into_iter().filter(|ipv6| node.address(*ipv6).is_some()) {
            let mac = node.tunnel_mac(ipv6);
            if let Some(other) = macs.insert((ipv6, mac.0), name)
                && other != name
            {
                problems.push(format!("{name} and {other} both have tunnel MAC {mac}"));
            }
        }
    }
}

fn pod_cidrs(nodes: &[Node]) -> impl Iterator<Item = (IpNetwork, &str)> {
    nodes.iter().flat_map(|node| node.pod_cidrs.iter().map(|cidr| (*cidr, node.name.as_str())))
}

/// Overlapping pod CIDRs, found in the order of their first addresses.
fn overlaps(nodes: &[Node], problems: &mut Vec<String>) {
    let mut cidrs: Vec<(IpNetwork, &str)> = pod_cidrs(nodes).collect();
    cidrs.sort_by_key(|(cidr, _)| (cidr.is_ipv6(), cidr.network(), cidr.prefix()));
    let mut widest: Option<(IpNetwork, &str)> = None;
    for (cidr, name) in cidrs {
        match widest {
            Some((outer, owner)) if contains(&outer, &cidr) => {
                problems.push(format!("{name}'s podCIDR {cidr} overlaps {owner}'s {outer}"));
            }
            _ => widest = Some((cidr, name)),
        }
    }
}

/// Nodes where pods are: their packets would be sent through tunnels to
/// themselves. A tunnel's address may be among its own node's pods.
fn misplaced(nodes: &[Node], problems: &mut Vec<String>) {
    let starts: BTreeMap<IpAddr, (IpNetwork, &str)> =
        pod_cidrs(nodes).map(|(cidr, name)| (cidr.network(), (cidr, name))).collect();
    // Those that do not overlap are told by where they begin.
    let holder = |address: &IpAddr| {
        let (_, (cidr, owner)) = starts.range(..=*address).next_back()?;
        cidr.contains(*address).then_some((*cidr, *owner))
    };
    for node in nodes {
        let name = node.name.as_str();
        for address in &node.addresses {
            if let Some((cidr, owner)) = holder(address) {
                problems.push(format!("{name}'s address {address} is in {owner}'s podCIDR {cidr}"));
            }
        }
        for address in &node.tunnel_addresses {
            if let Some((cidr, owner)) = holder(address).filter(|(_, owner)| *owner != name) {
                let problem =
                    format!("{name}'s tunnel address {address} is in {owner}'s podCIDR {cidr}");
                problems.push(problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn nodes() -> Vec<Value> {
        vec![
            json!({"name": "a", "addresses": ["192.0.2.1", "2001:db8::1"],
                   "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]}),
            json!({"name": "b", "addresses": ["192.0.2.2", "2001:db8::2"],
                   "podCIDRs": ["10.2.0.0/24", "fd00:2::/64"]}),
        ]
    }

    fn parse(nodes: &[Value]) -> Result<Peers, String> {
        let text = json!({"self": "a", "nodes": nodes}).to_string();
        Peers::parse(text.as_bytes(), &|_| false).map_err(|problems| problems.join("; "))
    }

    /// What is said of a list in which b has this value.
    fn with(key: &str, value: Value) -> String {
        let mut nodes = nodes();
        nodes[1][key] = value;
        parse(&nodes).map(|_| "nothing".to_owned()).unwrap_or_else(|problems| problems)
    }

    #[test]
    fn addresses_that_no_node_can_have() {
        for address in
            ["0.0.0.0", "127.0.0.9", "169.254.3.4", "224.0.0.5", "255.255.255.255", "::1", "::"]
                .into_iter()
                .chain(["fe80::1", "ff02::1"])
        {
            for key in ["addresses", "tunnelAddresses"] {
                let said = with(key, json!(["192.0.2.2", "2001:db8::2", address]));
                assert!(said.contains(&format!("no node can have {address}")), "{said}");
            }
        }
    }

    #[test]
    fn networks_in_which_no_pod_can_be() {
        for cidr in ["0.0.0.0/0", "127.0.0.0/9", "169.254.1.0/24", "224.0.0.0/4", "fe80::/64"]
            .into_iter()
            .chain(["::/0", "ff00::/8", "255.255.255.255/32"])
        {
            let said = with("podCIDRs", json!([cidr]));
            assert!(said.contains(&format!("b: podCIDR {cidr} overlaps")), "{said}");
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
    fn two_ends_of_a_tunnel_cannot_be_told_apart() {
        let peers = parse(&nodes()).unwrap();
        for ipv6 in [false, true] {
            let mac = peers.me.tunnel_mac(ipv6).to_string();
            let said = with("tunnelMAC", mac.into());
            assert!(said.contains("b and a both have tunnel MAC"), "{ipv6}: {said}");
        }
        for (address, words) in [
            ("10.1.0.0", "b and a both have address 10.1.0.0"),
            ("192.0.2.1", "b and a both have address 192.0.2.1"),
            ("192.0.2.2", "b has address 192.0.2.2 twice"),
            ("10.1.0.77", "b's tunnel address 10.1.0.77 is in a's podCIDR 10.1.0.0/24"),
        ] {
            let said = with("tunnelAddresses", json!([address]));
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(with("tunnelAddresses", json!(["10.2.0.77", "fd00:99::1"])), "nothing");
    }

    #[test]
    fn a_node_is_no_pod() {
        for (cidr, words) in [
            ("192.0.2.0/24", "a's address 192.0.2.1 is in b's podCIDR 192.0.2.0/24"),
            ("192.0.2.2/32", "b's address 192.0.2.2 is in b's podCIDR 192.0.2.2/32"),
            ("2001:db8::/64", "a's address 2001:db8::1 is in b's podCIDR"),
        ] {
            let said = with("podCIDRs", json!([cidr]));
            assert!(said.contains(words), "{said}");
        }
    }

    #[test]
    fn this_nodes_own_network_and_addresses() {
        let mut nodes = nodes();
        nodes[1]["podCIDRs"] = json!(["192.0.2.128/25", "fd00:2::/64"]);
        let peers = parse(&nodes).unwrap();
        let said = |local: &[&str]| {
            let local: Vec<IpNetwork> = local.iter().map(|text| text.parse().unwrap()).collect();
            on_node(&peers, &local).join("; ")
        };
        let told = said(&["192.0.2.1/24"]);
        assert!(told.contains("192.0.2.128/25 overlaps 192.0.2.0/24"), "{told}");
        // Clouds give addresses without a network, and a bridge of another
        // plugin may have this node's pods.
        assert_eq!(said(&["192.0.2.1/32", "10.1.0.1/24", "127.0.0.1/8"]), "");
        let told = said(&["192.0.2.1/32", "192.0.2.2/32"]);
        assert!(told.contains("b's address 192.0.2.2 is this machine's"), "{told}");
    }
}
