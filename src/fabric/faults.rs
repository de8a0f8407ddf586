//! What is wrong with a list of nodes as a whole, or on this node.
//!
//! One node's mistake must not cut others off: an address that cannot be a
//! node's, pods where the nodes themselves are, two ends of a tunnel that
//! cannot be told apart. Knows no kernel: what of it matters is given.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use super::{
    peers::{Node, Peers},
    site::{NextHop, Site},
};

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

/// What of a list would cut this node off from what it has or goes by. Pods
/// inside one of its networks do not: the longer prefix wins.
pub(super) fn on_node(peers: &Peers, site: &Site) -> Vec<String> {
    let mut problems = Vec::new();
    let me = &peers.me;
    // Without any of its own, this node may not be the one that the file means.
    if !me.addresses.iter().any(|address| site.has(*address)) {
        for (node, address) in peers.others.iter().filter_map(|node| held(node, site)) {
            let name = &node.name;
            let problem = format!("{name}'s address {address} is this machine's: is self {name}?");
            problems.push(problem);
        }
    }
    for node in &peers.others {
        for cidr in &node.pod_cidrs {
            problems.extend(own_inside(cidr, site).map(|own| {
                format!("{}'s podCIDR {cidr} contains {own}, which is this node's", node.name)
            }));
        }
    }
    // A bridge of another plugin may have this node's pods, but not the way out.
    for node in peers.nodes() {
        for cidr in &node.pod_cidrs {
            problems.extend(cut_off(peers, cidr, site).map(|hop| {
                let NextHop { address, destination, .. } = hop;
                let name = &node.name;
                format!("{name}'s podCIDR {cidr} contains next hop {address} (of {destination})")
            }));
        }
    }
    problems
}

/// Notes of pods inside this node's networks, one for each network.
pub(super) fn inside(peers: &Peers, site: &Site) -> Vec<String> {
    let networks: BTreeSet<IpNetwork> = site.plain.iter().filter_map(network).collect();
    let note = |network: &IpNetwork| {
        let is_inside = |cidr: &IpNetwork| cidr != network && contains(network, cidr);
        let mut inside = peers.pod_cidrs().filter(is_inside);
        let first = inside.next()?;
        let more = match inside.count() {
            0 => String::new(),
            more => format!(" and {more} more podCIDRs"),
        };
        Some(format!(
            "{first}{more} inside {network}, a network of this node: who else is there looks for \
             these pods on the link, and finds them if it has routes to them"
        ))
    };
    networks.iter().filter_map(note).collect()
}

/// Leaves out the peers whose address this node has: one that floats and is
/// here now, or one that kube-proxy keeps on a device of its own. There is no
/// way to them, and there may be one to all others.
pub(super) fn leave_out(peers: &mut Peers, site: &Site) {
    let here = |node: &Node| held(node, site).is_some();
    let (left_out, others): (Vec<Node>, Vec<Node>) =
        std::mem::take(&mut peers.others).into_iter().partition(here);
    peers.notes.extend(left_out.iter().filter_map(|node| held(node, site)).map(
        |(node, address)| {
            format!("{} is left out: its address {address} is this machine's", node.name)
        },
    ));
    (peers.others, peers.left_out) = (others, left_out);
}

/// A node with that of its addresses which this machine has, of those that count.
fn held<'a>(node: &'a Node, site: &Site) -> Option<(&'a Node, IpAddr)> {
    let mut counting = [false, true].into_iter().filter_map(|ipv6| node.address(ipv6));
    counting.find(|address| site.has(*address)).map(|address| (node, address))
}

/// The network of an address, if it has one besides itself.
fn network(own: &IpNetwork) -> Option<IpNetwork> {
    let full = if own.is_ipv4() { 32 } else { 128 };
    let network = IpNetwork::new(own.network(), own.prefix()).ok()?;
    (own.prefix() > 0 && own.prefix() < full).then_some(network)
}

/// What of this node a network of pods contains, in words.
fn own_inside(cidr: &IpNetwork, site: &Site) -> Option<String> {
    let own = site.plain.iter().find(|own| cidr.contains(own.ip()))?;
    let all = network(own).filter(|network| contains(cidr, network));
    Some(all.map_or_else(|| format!("address {}", own.ip()), |all| format!("all of {all}")))
}

/// A next hop that would be looked for among the pods of `cidr`: of a route that
/// leads to no pods, and on the link by no longer prefix.
fn cut_off<'a>(peers: &Peers, cidr: &IpNetwork, site: &'a Site) -> Option<&'a NextHop> {
    let mut hops = site.next_hops.iter();
    hops.find(|hop| {
        cidr.contains(hop.address)
            && cidr.prefix() > hop.reach
            && !peers.pod_cidrs().any(|pods| contains(&pods, &hop.destination))
    })
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

    /// What is said of a list in which b has these pods, on a node with these
    /// addresses whose default route is by 192.0.2.9.
    fn said(cidr: &str, local: &[&str], reach: u8) -> (String, String) {
        let mut nodes = nodes();
        nodes[1]["podCIDRs"] = json!([cidr]);
        let text = json!({"self": "a", "nodes": nodes}).to_string();
        let plain: Vec<IpNetwork> = local.iter().map(|text| text.parse().unwrap()).collect();
        let address = "192.0.2.9".parse().unwrap();
        let hop = NextHop { address, destination: "0.0.0.0/0".parse().unwrap(), reach };
        let site = Site { addresses: plain.clone(), plain, next_hops: vec![hop] };
        match Peers::of_site(text.as_bytes(), &site, None) {
            Ok(peers) => (String::new(), peers.notes.join("; ")),
            Err(problems) => (problems.join("; "), String::new()),
        }
    }

    #[test]
    fn pods_contain_nothing_that_is_this_nodes() {
        let own = ["192.0.2.1/24", "10.7.0.1/16"];
        for (cidr, words) in [
            ("10.7.0.0/16", "b's podCIDR 10.7.0.0/16 contains all of 10.7.0.0/16"),
            ("10.0.0.0/9", "overlaps"),
            ("10.6.0.0/15", "b's podCIDR 10.6.0.0/15 contains all of 10.7.0.0/16"),
            ("10.7.0.0/28", "b's podCIDR 10.7.0.0/28 contains address 10.7.0.1"),
            ("192.0.2.8/29", "b's podCIDR 192.0.2.8/29 contains next hop 192.0.2.9 (of 0.0.0.0/0)"),
        ] {
            let (problems, _) = said(cidr, &own, 24);
            assert!(problems.contains(words), "{cidr}: {problems}");
        }
        // By a route of its own the next hop is on the link as before.
        assert_eq!(said("192.0.2.8/29", &own, 32).0, "");
        // Clouds give addresses without a network, and a bridge of another
        // plugin may have this node's pods.
        let elsewhere = said("10.2.0.0/24", &["192.0.2.1/32", "10.1.0.1/24", "127.0.0.1/8"], 0);
        assert_eq!(elsewhere, Default::default());
    }

    #[test]
    fn pods_may_be_inside_a_network_of_this_node() {
        let (problems, notes) = said("192.0.2.128/25", &["192.0.2.1/24"], 24);
        assert_eq!(problems, "");
        assert!(notes.starts_with("192.0.2.128/25 inside 192.0.2.0/24"), "{notes}");
        let (problems, notes) = said("10.244.2.0/24", &["192.0.2.1/24", "10.0.0.5/8"], 24);
        assert_eq!(problems, "");
        assert!(notes.starts_with("10.1.0.0/24 and 1 more podCIDRs inside 10.0.0.0/8"), "{notes}");
    }

    #[test]
    fn a_peer_that_is_here_is_left_out_unless_it_may_be_this_node() {
        let (problems, notes) = said("10.2.0.0/24", &["192.0.2.1/32", "2001:db8::2/128"], 0);
        assert_eq!(problems, "");
        assert_eq!(notes, "b is left out: its address 2001:db8::2 is this machine's");
        let (problems, _) = said("10.2.0.0/24", &["192.0.2.2/24"], 0);
        assert!(problems.contains("is self b?"), "{problems}");
    }
}
