// SPDX-License-Identifier: Apache-2.0
//! Reading the peers file: a complete list of the cluster's nodes.
//!
//! Validated as a whole before anything is done by it, since routes are deleted
//! because they are not in it. One node's mistake takes out that node alone.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{
    clash::{self, Bounds},
    faults::{self, Admitted, Entry},
    list::{self, Item, List},
    peers::{Node, Peers},
    site::Site,
};
use crate::{
    cni::cidr,
    family::{Family, HasFamily},
    list::{Gather, PushAll},
    net::Mac,
};

impl Peers {
    /// Reads a peers file. `is_local` tells this node's own addresses, by which
    /// it finds itself where the file does not name it.
    ///
    /// # Errors
    /// All that is wrong with the file, or with this node's own entry, a sentence
    /// each.
    pub fn parse(bytes: &[u8], is_local: &dyn Fn(IpAddr) -> bool) -> Result<Self, Vec<String>> {
        let List { me: named, nodes, fabric, unread } = list::decode(bytes)?;
        let entries: Vec<Entry> = nodes.into_iter().map(read).gather();
        let place = find_me(named.as_deref(), &entries, is_local).map_err(|problem| {
            let mut problems = faults::all(&entries);
            problems.push(problem);
            problems.push_all(unread.clone());
            problems
        })?;
        let Admitted { me, others, excluded } = faults::admit(entries, place)?;
        let (left_out, here, notes) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { me, others, left_out, excluded, here, notes, unread, fabric })
    }

    /// Reads a peers file as of use on the node that is at `site`: the one check
    /// for a file and for one that was applied before.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn of_site(
        bytes: &[u8],
        site: &Site,
        bounds: Option<Bounds<'_>>,
    ) -> Result<Self, Vec<String>> {
        let mut peers = Self::parse(bytes, &|address| site.has(address))?;
        clash::settle(&mut peers, site, bounds)?;
        Ok(peers)
    }
}

/// Whose address it is by a list of nodes, as the end of a sentence.
pub fn holder(bytes: &[u8], address: IpAddr) -> Option<String> {
    let mut nodes = list::decode(bytes).ok()?.nodes.into_iter().map(|item| read(item).0);
    let node = nodes.find(|node| node.all_addresses().any(|own| own == address))?;
    let what = if node.addresses.contains(&address) { "address" } else { "tunnel address" };
    Some(format!("the {what} of node {}", node.name))
}

/// The node to which a list gives one of these pod CIDRs, where the list does not tell which
/// node this one is: it has no `self`, and none of its addresses is this machine's. If the
/// CIDRs were this node's own, that is probably this node under its former addresses.
pub fn heir(bytes: &[u8], cidrs: &[IpNetwork], is_local: &dyn Fn(IpAddr) -> bool) -> Option<Node> {
    let List { me, nodes, .. } = list::decode(bytes).ok()?;
    let nodes: Vec<Node> = nodes.into_iter().map(|item| read(item).0).gather();
    let is_known = |node: &Node| node.addresses.iter().any(|address| is_local(*address));
    if me.is_some() || nodes.iter().any(is_known) {
        return None;
    }
    let mut heirs =
        nodes.into_iter().filter(|node| node.pod_cidrs.iter().any(|cidr| cidrs.contains(cidr)));
    heirs.next().filter(|_| heirs.next().is_none())
}

/// Entries as a list has them, one behind the other; `None` for anything else.
pub(super) fn entries(row: &[u8]) -> Option<Vec<Entry>> {
    let list = [b"[", row, b"]"].concat();
    Some(list::items(&list)?.into_iter().map(read).gather())
}

/// An entry, and what is wrong with its text.
fn read(item: Item) -> Entry {
    let Item { name, addresses, pod_cidrs, tunnel_addresses, tunnel_mac, former_pod_cidrs } = item;
    let mut problems = Vec::new();
    if name.is_empty() {
        problems.push("it has no name".to_owned());
    }
    let mut note = |problem: String| problems.push(problem);
    let mut ips = |texts: Vec<String>| -> Vec<IpAddr> {
        let parsed = texts.iter().map(|text| cidr::parse_address(text));
        parsed.filter_map(|outcome| outcome.map_err(&mut note).ok()).gather()
    };
    let addresses = ips(addresses);
    let tunnel_addresses = ips(tunnel_addresses);
    let (mut networks, mut former) = (Vec::new(), Vec::new());
    let all = pod_cidrs.iter().map(|text| (text, false));
    for (text, is_former) in all.chain(former_pod_cidrs.iter().map(|text| (text, true))) {
        match list::network(text) {
            Ok(network) => {
                networks.push(network);
                former.push_all(is_former.then_some(network));
            }
            Err(problem) => note(format!("podCIDR {problem}")),
        }
    }
    for family in Family::BOTH {
        let served = networks.iter().any(|network| network.family() == family);
        if served && !addresses.iter().any(|address| address.family() == family) {
            note(format!("it has {family} pod CIDRs and no {family} address"));
        }
    }
    let tunnel_mac = tunnel_mac.and_then(|text| {
        text.parse::<Mac>().map_err(|problem| note(format!("tunnelMAC {problem}"))).ok()
    });
    let node = Node {
        name,
        addresses,
        pod_cidrs: networks,
        former_pod_cidrs: former,
        tunnel_addresses,
        tunnel_mac,
    };
    (node, problems)
}

fn find_me(
    named: Option<&str>,
    entries: &[Entry],
    is_local: &dyn Fn(IpAddr) -> bool,
) -> Result<usize, String> {
    if let Some(named) = named {
        let address = named.parse::<IpAddr>().ok();
        let is_me = |node: &Node| {
            node.name == named || address.is_some_and(|own| node.addresses.contains(&own))
        };
        return entries
            .iter()
            .position(|(node, _)| is_me(node))
            .ok_or_else(|| format!("self {named:?} is no node"));
    }
    let local: Vec<usize> = (entries.iter().enumerate())
        .filter(|(_, (node, _))| node.addresses.iter().any(|address| is_local(*address)))
        .map(|(place, _)| place)
        .gather();
    match local.as_slice() {
        [place] => Ok(*place),
        [] => Err("no node has an address of this machine: name it in self".to_owned()),
        _ => Err("several nodes have addresses of this machine: name it in self".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"{"self": "node-a", "nodes": [
        {"name": "node-a", "addresses": ["192.0.2.11", "2001:db8::11"],
         "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
        {"name": "node-b", "addresses": ["192.0.2.12"], "podCIDRs": ["10.244.2.0/24"]}]}"#;

    fn parse(text: &str) -> Result<Peers, Vec<String>> {
        Peers::parse(text.as_bytes(), &|_| false)
    }

    fn problems(text: &str) -> String {
        parse(text).map_or_else(|problems| problems, |peers| peers.excluded).join("; ")
    }

    #[test]
    fn a_sound_file_tells_me_from_the_others() {
        let peers = parse(TWO).unwrap();
        assert_eq!((peers.me.name.as_str(), peers.others.len()), ("node-a", 1));
        assert_eq!(peers.me.tunnel_address(Family::V4), Some("10.244.1.0".parse().unwrap()));
        assert_eq!(peers.me.tunnel_address(Family::V6), Some("fd00:1::".parse().unwrap()));
    }

    #[test]
    fn a_node_without_its_addresses_may_be_who_has_its_pods() {
        let unnamed = TWO.replace("\"self\": \"node-a\", ", "");
        let by = |text: &str, cidrs: &[&str], local: &str| {
            let cidrs: Vec<IpNetwork> = cidrs.iter().map(|text| text.parse().unwrap()).collect();
            let local: IpAddr = local.parse().unwrap();
            heir(text.as_bytes(), &cidrs, &|address| address == local).map(|node| node.name)
        };
        let nobodys = "192.0.2.99";
        for cidr in ["10.244.1.0/24", "fd00:1::/64"] {
            assert_eq!(by(&unnamed, &[cidr], nobodys).as_deref(), Some("node-a"));
        }
        // An address or a name says more, and what is of two nodes, or of none, says nothing.
        assert_eq!(by(&unnamed, &["10.244.1.0/24"], "192.0.2.12"), None);
        assert_eq!(by(TWO, &["10.244.1.0/24"], nobodys), None);
        assert_eq!(by(&unnamed, &["10.244.1.0/24", "10.244.2.0/24"], nobodys), None);
        assert_eq!(by(&unnamed, &["10.244.3.0/24"], nobodys), None);
        assert_eq!(by("{", &["10.244.1.0/24"], nobodys), None);
    }

    #[test]
    fn a_node_finds_itself_by_name_by_address_or_by_what_is_local() {
        let by_address = TWO.replace("\"node-a\", \"nodes\"", "\"192.0.2.12\", \"nodes\"");
        assert_eq!(parse(&by_address).unwrap().me.name, "node-b");
        let unnamed = TWO.replace("\"self\": \"node-a\", ", "");
        let local: IpAddr = "192.0.2.12".parse().unwrap();
        let found = Peers::parse(unnamed.as_bytes(), &|address| address == local).unwrap();
        assert_eq!(found.me.name, "node-b");
        assert!(problems(&unnamed).contains("name it in self"));
    }

    /// Values computed with sha1sum from Calico's rule.
    #[test]
    fn tunnel_macs_are_calicos() {
        let mut node = parse(TWO).unwrap().me;
        for (name, mac) in [("node-1", "66:b3:68:28:39:8e"), ("node1", "66:f9:37:c3:7e:94")] {
            node.name = name.to_owned();
            assert_eq!(node.tunnel_mac(Family::V4).to_string(), mac);
        }
        assert_ne!(node.tunnel_mac(Family::V6), node.tunnel_mac(Family::V4));
    }

    /// Its pods are reached, and new ones come elsewhere.
    #[test]
    fn a_former_pod_cidr_is_where_pods_are_and_gives_no_addresses() {
        let both = TWO.replace(
            r#"["10.244.1.0/24", "fd00:1::/64"]"#,
            r#"["10.244.7.0/24"], "formerPodCIDRs": ["10.244.1.0/24", "fd00:1::/64"]"#,
        );
        let me = parse(&both).unwrap().me;
        assert_eq!((me.pod_cidrs.len(), me.former_pod_cidrs.len()), (3, 2));
        assert_eq!(me.given_pod_cidrs(), ["10.244.7.0/24".parse().unwrap()]);
        assert_eq!(me.tunnel_address(Family::V4), Some("10.244.7.0".parse().unwrap()));
        let said = problems(&both.replace("10.244.2.0/24", "10.244.1.0/24"));
        assert!(said.contains("10.244.1.0/24"), "{said}");
        assert!(problems(&both.replace("10.244.1.0/24", "10.244.1.1/24")).contains("host bits"));
    }

    #[test]
    fn what_is_wrong_is_said_all_at_once() {
        let bad = TWO
            .replace("10.244.2.0/24", "10.244.1.128/25")
            .replace("192.0.2.12", "192.0.2.11")
            .replace("\"self\": \"node-a\"", "\"self\": \"node-x\"");
        let said = problems(&bad);
        for part in ["overlaps node-a's 10.244.1.0/24", "both have address 192.0.2.11", "node-x"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn host_bits_junk_and_families_without_an_address_are_refused() {
        for (from, to, words) in [
            ("10.244.2.0/24", "10.244.2.1/24", "host bits"),
            ("10.244.2.0/24", "10.244.2.0", "prefix length"),
            ("10.244.2.0/24", "fd00:2::/64", "no IPv6 address"),
            ("192.0.2.12", "node-b.example", "not an IP address"),
            ("node-b", "node-a", "listed twice"),
            ("podCIDRs\": [\"10.244.2", "podCidrs\": [\"10.244.2", "did you mean podCIDRs"),
        ] {
            let said = problems(&TWO.replace(from, to));
            assert!(said.contains(words), "{words}: {said}");
        }
    }

    #[test]
    fn an_address_has_its_holder() {
        let of = |address: &str| holder(TWO.as_bytes(), address.parse().unwrap());
        assert_eq!(of("192.0.2.12").as_deref(), Some("the address of node node-b"));
        assert_eq!(of("10.244.2.0").as_deref(), Some("the tunnel address of node node-b"));
        assert_eq!(of("10.244.1.5"), None);
        let inside = TWO.replace("192.0.2.12", "10.244.1.12");
        let peers = Peers { others: vec![node(&inside)], ..parse(TWO).unwrap() };
        assert_eq!(peers.inside_own(), ["10.244.1.12".parse::<IpAddr>().unwrap()]);
    }

    /// The second node of a list, whether or not the list is sound.
    fn node(text: &str) -> Node {
        let list = list::decode(text.as_bytes()).unwrap();
        read(list.nodes.into_iter().nth(1).unwrap()).0
    }

    #[test]
    fn cluster_cidrs_bound_the_pods() {
        let bounded = |cidrs: [&str; 2]| {
            let cluster = cidrs.map(|text| text.parse::<IpNetwork>().unwrap());
            let site = Site::default();
            let outcome = Peers::of_site(
                TWO.as_bytes(),
                &site,
                Some(Bounds { network: "net", cidrs: &cluster }),
            );
            outcome
                .map(|peers| (peers.others.len(), peers.left_out.len(), peers.excluded.join("; ")))
        };
        let own = bounded(["10.244.0.0/16", "fd00:2::/64"]).unwrap_err();
        assert_eq!(own, ["node-a: podCIDR fd00:1::/64 is in none of clusterCIDRs of network net"]);
        let others = bounded(["10.244.1.0/24", "fd00:1::/64"]).unwrap();
        let words =
            "node-b is left out: podCIDR 10.244.2.0/24 is in none of clusterCIDRs of network net";
        assert_eq!(others, (0, 0, words.to_owned()));
        assert_eq!(bounded(["10.244.0.0/16", "fd00:1::/64"]).unwrap(), (1, 0, String::new()));
    }
}
