// SPDX-License-Identifier: Apache-2.0
use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;
use crate::cni::{Document, Version};

fn config(keys: &Value) -> Config {
    let mut object = json!({
        "name": "n",
        "type": "manx",
        "mode": "vxlan",
        "peersFile": "/etc/manx/peers.json",
        "ipam": {
            "type": "manx-ipam",
            "ranges": [[{"subnet": "10.244.1.0/24"}], [{"subnet": "fd00:244:1::/64"}]],
        },
    });
    object.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let document = Document::parse(object.to_string().into_bytes()).unwrap();
    Config::read(&document, Version::NEWEST).0
}

fn networks(cidrs: &[&str]) -> Vec<IpNetwork> {
    cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect()
}

/// What is told of iptables' tables with these lines, IPv4 first.
fn told(lines: &str, listed: &[&str]) -> Vec<node::Barrier> {
    let config = config(&json!({}));
    let others = ["eth0", "vxlan-v6.calico", "vxlan.calico"].map(str::to_owned);
    let tunnels = [("vxlan-v6.calico", Family::V6), ("vxlan.calico", Family::V4)]
        .map(|(name, family)| (name.to_owned(), family));
    let names = [(4, "cali1"), (5, "cali2"), (6, "cali3")];
    let names: HashMap<u32, String> = names.map(|(at, name)| (at, name.to_owned())).into();
    let links = Links {
        prefix: "cali",
        groups: GROUPS,
        others: &others,
        tunnels: &tunnels,
        pods: &config.own_ranges,
        names: &names,
        is_ours: |_| false,
    };
    let of = |family| {
        // Each has rules with addresses of its own alone.
        let others = if family == Family::V4 { " fd00:" } else { " 10." };
        let lines: Vec<&str> = lines.lines().filter(|line| !line.contains(others)).collect();
        let text = format!("*filter\n{}\nCOMMIT\n", lines.join("\n"));
        forward::of_save(&text, family, &links)
    };
    let mut all = said(&Family::BOTH.map(of).concat(), &config, &networks(listed));
    all.sort_by(|one, other| one.families.cmp(&other.families));
    all
}

/// A zone of firewalld's that lets packets out by the uplink alone.
const ZONE: &str = ":FORWARD ACCEPT [0:0]\n:FWDI_public - [0:0]\n\
    -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
    -A FORWARD -o eth0 -j ACCEPT\n-A FORWARD -j REJECT";

/// One cause is one finding for each family, whatever devices it is about, and a tunnel is
/// named to the family that it carries.
#[test]
fn what_one_rule_drops_is_told_once_for_each_family() {
    let all = told(ZONE, &[]);
    let texts: Vec<&str> = all.iter().map(|one| one.text.as_str()).collect();
    let text = |family: Family, tunnel: &str| {
        format!(
            "{family}: packets between pods of this node, from elsewhere to pods; and from pods to \
             elsewhere by {tunnel} are not forwarded: chain FORWARD of table {} filter drops by \
             rule 3 of chain FORWARD",
            family.word()
        )
    };
    assert_eq!(texts, [text(Family::V4, "vxlan.calico"), text(Family::V6, "vxlan-v6.calico")]);
    for (barrier, family, tunnel) in
        [(&all[0], Family::V4, "vxlan.calico"), (&all[1], Family::V6, "vxlan-v6.calico")]
    {
        assert!(barrier.closes(family, Direction::In, &["eth0", "cali1"]));
        assert!(barrier.closes(family, Direction::Out, &["cali1", tunnel]));
        assert!(!barrier.closes(family, Direction::Out, &["cali1", "eth0"]));
        assert!(!barrier.closes(family, Direction::Answers, &["cali1", tunnel]));
    }
    let pods = told(":FORWARD ACCEPT [0:0]\n-A FORWARD -i cali1 -j DROP", &[]);
    let of_links = told(
        ":FORWARD ACCEPT [0:0]\n:A - [0:0]\n-A FORWARD -i cali1 -g A\n-A FORWARD -i cali2 -g A\n\
         -A A -j DROP",
        &[],
    );
    let named = |all: &[node::Barrier], words: &str| {
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all.iter().all(|one| one.text.contains(words)), "{words}: {all:?}");
    };
    named(&pods, ": packets from pods to elsewhere by cali1 are not forwarded");
    named(&of_links, ": packets from pods to elsewhere by cali1, cali2 are not forwarded");
}

/// Trusting this node's pods alone would let no packet of other nodes' pods in.
#[test]
fn firewalld_is_to_trust_the_pods_of_all_nodes() {
    let fixes = |listed: &[&str]| {
        told(ZONE, listed).into_iter().map(|one| [one.fix, one.undo]).collect::<Vec<_>>()
    };
    let commands = |verb: &str, sources: &[&str]| {
        let sources: Vec<String> =
            sources.iter().map(|cidr| format!(" --{verb}-source={cidr}")).collect();
        let sources = sources.concat();
        format!("firewall-cmd --permanent --zone=trusted{sources}; firewall-cmd --reload")
    };
    let list = ["10.244.1.0/24", "fd00:244:1::/64", "10.244.2.0/24", "fd00:244:2::/64"];
    for (listed, of_v4, of_v6, note) in [
        (&list[..0], &list[..1], &list[1..2], "of the pods of each other node"),
        (
            &list[..],
            &["10.244.1.0/24", "10.244.2.0/24"][..],
            &["fd00:244:1::/64", "fd00:244:2::/64"][..],
            "of the pods of each node that is added",
        ),
    ] {
        let expected = [of_v4, of_v6].map(|sources| {
            let fix = format!("{} # and the same {note}", commands("add", sources));
            [fix, commands("remove", sources)]
        });
        assert_eq!(fixes(listed), expected);
    }
    let cluster = config(&json!({"clusterCIDRs": ["10.244.0.0/16", "fd00:244::/32"]}));
    let of_cluster = |family| sources(family, &cluster, &networks(&list));
    assert_eq!(of_cluster(Family::V4), (networks(&["10.244.0.0/16"]), ""));
    assert_eq!(of_cluster(Family::V6), (networks(&["fd00:244::/32"]), ""));
}

/// Having trusted this node's pods alone is not enough, and that is certain.
#[test]
fn rules_for_pods_of_this_node_let_none_in_from_elsewhere() {
    let with = |rules: &str| told(&ZONE.replace("-A FORWARD -o eth0", rules), &[]);
    let own = "-A FORWARD -s 10.244.1.0/24 -j ACCEPT\n-A FORWARD -s fd00:244:1::/64";
    for barrier in with(own) {
        assert!(barrier.certain && barrier.closed == [Direction::In], "{barrier:?}");
    }
    assert_eq!(with(own).len(), 2);
    let all = "-A FORWARD -s 10.244.0.0/16 -j ACCEPT\n-A FORWARD -s fd00:244::/32";
    assert_eq!(with(all).iter().filter(|barrier| barrier.certain).count(), 0);
}

/// The list of all nodes is read where a fix names addresses.
#[test]
fn the_list_is_read_for_firewalld() {
    let path = std::env::temp_dir().join(format!("manx-forward-{}.json", std::process::id()));
    let node = |name: &str, address: &str, cidr: &str| json!({"name": name, "addresses": [address], "podCIDRs": [cidr]});
    let nodes = [node("a", "192.0.2.1", "10.244.1.0/24"), node("b", "192.0.2.2", "10.244.2.0/24")];
    std::fs::write(&path, json!({"version": 2, "nodes": nodes}).to_string()).unwrap();
    let config = config(&json!({"peersFile": path}));
    let barrier = |maker| Barrier {
        packets: Family::V4,
        family: "inet",
        table: "firewalld".into(),
        chain: "filter_FORWARD".into(),
        point: Point::Forward,
        maker,
        device: None,
        by: "its policy".into(),
        closed: vec![Way::In],
        doubtful: Vec::new(),
    };
    let of_firewalld = listed(&[barrier(Maker::Firewalld)], &config);
    let of_nft = listed(&[barrier(Maker::Nft)], &config);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(of_firewalld, networks(&["10.244.1.0/24", "10.244.2.0/24"]));
    assert_eq!(of_nft, []);
}
