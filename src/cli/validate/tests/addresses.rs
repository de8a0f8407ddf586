// SPDX-License-Identifier: Apache-2.0
//! Ranges without an address, and what an IPAM section names.

use std::net::IpAddr;

use super::{plugin, *};
use crate::{
    cli::validate::addresses::barren,
    cni::{Args, Version},
    conf::{Config, IpamKeys},
};

/// What is said of a list with this IPAM section of ours, on a machine below `root`.
fn lint_ipam(keys: &Value, root: Option<&Directory>) -> Vec<Placed> {
    let node = Node { root: root.map(|root| Root::new(&root.0)), ..Node::default() };
    let mut ipam = json!({"type": "manx-ipam"});
    ipam.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    lint_plugin(json!({"ipam": ipam, "gateway": "10.1.0.5"}), &node)
}

#[test]
fn a_range_without_an_address_for_a_pod() {
    let root = Directory::new("barren");
    let alone = |address: &str, gateway: &str| {
        json!([[{"subnet": format!("{}0/24", address.rsplit_once('.').unwrap().0.to_owned() + "."),
            "rangeStart": address, "rangeEnd": address, "gateway": gateway}]])
    };
    for (ranges, words) in [
        (json!([[{"subnet": "169.254.7.0/24"}]]), "a link-local address (169.254.0.0/16)"),
        (json!([[{"subnet": "127.1.0.0/24"}]]), "loopback"),
        (json!([[{"subnet": "224.1.0.0/24"}]]), "multicast"),
        (json!([[{"subnet": "fe80::/64"}]]), "link-local"),
        (alone("10.1.0.5", "10.1.0.1"), "10.1.0.5 is the pods' gateway"),
        (alone("10.1.0.9", "10.1.0.9"), "10.1.0.9 is the subnet's gateway"),
    ] {
        for root in [None, Some(&root)] {
            let findings = lint_ipam(&json!({"ranges": ranges}), root);
            one(&findings, Error, "plugins[0].ipam.ranges[0][0]", words);
        }
    }
    // Others of the set have some.
    let ranges = json!([[{"subnet": "169.254.7.0/24"}, {"subnet": "10.1.0.0/24"}]]);
    let findings = lint_ipam(&json!({"ranges": ranges}), None);
    one(&findings, Warning, "plugins[0].ipam.ranges[0][0]", "link-local");
    let ranges =
        json!([[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.5", "rangeEnd": "10.1.0.6"}]]);
    assert_eq!(lint_ipam(&json!({"ranges": ranges}), None), []);
}

#[test]
fn the_nodes_own_addresses_are_none_for_a_pod() {
    let range = json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.1", "rangeEnd": "10.1.0.3"});
    let config = |gateway: &str| {
        let document =
            json!({"gateway": gateway, "ipam": {"type": "manx-ipam", "ranges": [[range]]}});
        let text = document.to_string();
        serde_json::from_str::<Map<String, Value>>(&text).unwrap()
    };
    let said = |gateway: &str, own: &[&str]| {
        let document = plugin::document(&config(gateway), "net", Version::V1_1_0);
        let (config, _) = Config::read(&document, Version::V1_1_0);
        let (keys, _) = IpamKeys::read(&document, &Args::default(), Version::V1_1_0);
        let mut findings = finding::Findings::of("");
        let pools = pool::read(&keys.sets, "", &mut findings);
        let own: Vec<IpAddr> = own.iter().map(|own| own.parse().unwrap()).collect();
        barren(&pools, &config, &own, &mut findings);
        findings.all
    };
    let findings = said("169.254.1.1", &["10.1.0.2", "192.0.2.1", "10.1.0.3", "10.1.0.2"]);
    one(
        &findings,
        Error,
        "ipam.ranges[0][0]",
        "10.1.0.2 is the node's own, 10.1.0.3 is the node's",
    );
    one(&said("10.1.0.2", &["10.1.0.3"]), Error, "ipam.ranges[0][0]", "10.1.0.2 is the pods'");
    assert_eq!(said("169.254.1.1", &["10.1.0.2", "192.0.2.1", "10.1.0.1"]), []);
}

#[test]
fn a_placeholder_needs_a_peers_file() {
    let root = Directory::new("placeholder");
    let ask = |subnet: &str| lint_ipam(&json!({"subnet": subnet}), Some(&root));
    one(&ask("usePodCidr"), Error, "plugins[0].ipam", "fails with code 50");
    fs::create_dir_all(root.0.join("var/lib/manx")).unwrap();
    let peers = r#"{"self": "a", "nodes": [
        {"name": "a", "addresses": ["192.0.2.11"], "podCIDRs": ["10.1.0.0/24"]}]}"#;
    root.write("var/lib/manx/peers.json", peers);
    assert_eq!(ask("usePodCidr"), []);
    one(&ask("usePodCidrIPv6"), Error, "plugins[0].ipam", "of a family that this node has none of");
    root.write("var/lib/manx/peers.json", &peers.replace(r#""10.1.0.0/24""#, ""));
    one(&ask("usePodCidr"), Error, "plugins[0].ipam", "the peers file gives this node none");
}

#[test]
fn what_an_ipam_section_names_is_there() {
    let root = Directory::new("named");
    let file = root.write("file", "nameserver 192.0.2.53");
    let with = |key: &str, value: &str| {
        lint_ipam(&json!({"subnet": "10.2.0.0/24", key: value}), Some(&root))
    };
    one(&with("resolvConf", "/nonexistent"), Error, "plugins[0].ipam.resolvConf", "/nonexistent");
    assert_eq!(with("resolvConf", &file), []);
    for directory in [file.clone(), format!("{file}/below")] {
        let words = format!("{file} is no directory");
        one(&with("dataDir", &directory), Error, "plugins[0].ipam.dataDir", &words);
    }
    for directory in [root.0.display().to_string(), root.0.join("not/yet").display().to_string()] {
        assert_eq!(with("dataDir", &directory), []);
    }
}

#[test]
fn this_plugin_is_once_in_a_list() {
    let ours =
        |subnet: &str| json!({"type": "manx", "ipam": {"type": "manx-ipam", "subnet": subnet}});
    let list = |plugins: Value| {
        lint_list(
            json!({"cniVersion": "1.1.0", "name": "net", "plugins": plugins}),
            &Node::default(),
        )
    };
    let twice = list(json!([ours("10.1.0.0/24"), {"type": "portmap"}, ours("10.2.0.0/24")]));
    one(&twice, Error, "plugins[2]", "plugins[0] is this plugin already");
}
