// SPDX-License-Identifier: Apache-2.0
//! The peers file as text: the keys that it may have, and those of it that nothing reads.
//!
//! A newer writer may give more than this reads, so that a key which is not known is
//! told, and no more.

mod strict;

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::{Map, Value};

use strict::Strict;

use crate::{
    cni::cidr,
    conf::{FabricPart, Unknown},
    list::{Gather, PushAll},
    text::{few::some_of, json, nearest::nearest},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default, rename = "$schema")]
    _schema: Option<String>,
    #[serde(default, rename = "self")]
    me: Option<String>,
    #[serde(default)]
    fabric: Option<Strict>,
    #[serde(default, rename = "serviceCIDRs")]
    service_cidrs: Vec<String>,
    nodes: Vec<Item>,
}

/// The keys of [`File`].
const FILE_KEYS: [&str; 5] = ["$schema", "self", "fabric", "serviceCIDRs", "nodes"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
    #[serde(rename = "podCIDRs")]
    pub(super) pod_cidrs: Vec<String>,
    #[serde(default)]
    pub(super) tunnel_addresses: Vec<String>,
    #[serde(default, rename = "tunnelMAC")]
    pub(super) tunnel_mac: Option<String>,
    #[serde(default, rename = "formerPodCIDRs")]
    pub(super) former_pod_cidrs: Vec<String>,
}

/// The keys of [`Item`].
const ITEM_KEYS: [&str; 6] =
    ["name", "addresses", "podCIDRs", "tunnelAddresses", "tunnelMAC", "formerPodCIDRs"];

/// What a peers file holds.
pub(super) struct List {
    pub(super) me: Option<String>,
    pub(super) nodes: Vec<Item>,
    pub(super) fabric: FabricPart,
    /// Keys that nothing reads, as a sentence.
    pub(super) unread: Option<String>,
}

/// Reads the text of a file.
///
/// # Errors
/// All that keeps it from being one, a sentence each.
pub(super) fn decode(bytes: &[u8]) -> Result<List, Vec<String>> {
    let (file, mut unread) = file(bytes)?;
    let (fabric, complaints, unknown) = match &file.fabric {
        Some(Strict(Value::Object(object))) => FabricPart::of_file(object),
        Some(Strict(other)) => {
            return Err(vec![format!("invalid type: fabric is {other}, no object")]);
        }
        None => Default::default(),
    };
    let problems = complaints.into_iter().map(|complaint| complaint.error.to_string());
    let services = file.service_cidrs.iter().filter_map(|text| network(text).err());
    let services = services.map(|problem| format!("serviceCIDR {problem}"));
    let problems: Vec<String> = problems.chain(services).gather();
    if !problems.is_empty() {
        return Err(problems);
    }
    unread.push_all(
        unknown
            .into_iter()
            .map(|Unknown { section, key, meant }| strange(&format!("{section}."), &key, meant)),
    );
    Ok(List { me: file.me, nodes: file.nodes, fabric, unread: sentence(&unread) })
}

/// Nodes without the file around them, without a key that is not known.
pub(super) fn items(bytes: &[u8]) -> Option<Vec<Item>> {
    json::read(bytes).ok()
}

/// A network without host bits.
///
/// # Errors
/// The text, and what is wrong with it.
pub(super) fn network(text: &str) -> Result<IpNetwork, String> {
    match cidr::parse(text)? {
        network if network.ip() == network.network() => Ok(network),
        network => Err(format!("{text} has host bits: {}", network.network())),
    }
}

/// What a peers file says of the fabric, whether or not its nodes are sound.
///
/// # Errors
/// As for [`decode`].
pub fn fabric(bytes: &[u8]) -> Result<FabricPart, Vec<String>> {
    decode(bytes).map(|list| list.fabric)
}

/// The names of the nodes of a list; none of what is no list.
pub fn names(bytes: &[u8]) -> Vec<String> {
    let nodes = decode(bytes).map(|list| list.nodes).unwrap_or_default();
    nodes.into_iter().map(|node| node.name).gather()
}

/// The names of the nodes of a list, and the pod CIDRs that it gives to each; none of what is no list.
pub fn pods(bytes: &[u8]) -> Vec<(String, Vec<IpNetwork>)> {
    let nodes = decode(bytes).map(|list| list.nodes).unwrap_or_default();
    let parsed = |texts: &[String]| texts.iter().filter_map(|text| text.parse().ok()).gather();
    nodes.into_iter().map(|node| (node.name, parsed(&node.pod_cidrs))).gather()
}

/// The pod CIDRs that a list gives to the node of this name, if it has that: those of
/// now, and former ones.
pub fn pod_cidrs(bytes: &[u8], name: &str) -> Option<(Vec<String>, Vec<String>)> {
    let mut nodes = decode(bytes).ok()?.nodes.into_iter();
    let node = nodes.find(|node| node.name == name)?;
    Some((node.pod_cidrs, node.former_pod_cidrs))
}

/// The file, and its strange keys. They are looked for where there are some: that takes
/// another reading.
fn file(bytes: &[u8]) -> Result<(File, Vec<String>), Vec<String>> {
    let refusal = match json::read(bytes) {
        Ok(file) => return Ok((file, Vec::new())),
        Err(error) => error.to_string(),
    };
    let mut value = match serde_json::from_slice(bytes) {
        Ok(Strict(value)) => value,
        Err(error) => return Err(vec![error.to_string()]),
    };
    let unread = strip(&mut value);
    if unread.is_empty() {
        return Err(vec![refusal]);
    }
    match json::of_value(value) {
        Ok(file) => Ok((file, unread)),
        Err(error) => {
            Err([Some(error.to_string()), sentence(&unread)].into_iter().flatten().gather())
        }
    }
}

/// Takes the strange keys out.
fn strip(file: &mut Value) -> Vec<String> {
    let mut unread = Vec::new();
    let Some(object) = file.as_object_mut() else { return unread };
    keep(object, &FILE_KEYS, "", &mut unread);
    let nodes = object.get_mut("nodes").and_then(Value::as_array_mut);
    for (place, node) in nodes.into_iter().flatten().enumerate() {
        if let Some(node) = node.as_object_mut() {
            keep(node, &ITEM_KEYS, &format!("nodes[{place}]."), &mut unread);
        }
    }
    unread
}

fn keep(object: &mut Map<String, Value>, known: &[&'static str], at: &str, out: &mut Vec<String>) {
    object.retain(|key, _| {
        let is_known = known.contains(&key.as_str());
        if !is_known {
            out.push(strange(at, key, nearest(key, known.iter().copied())));
        }
        is_known
    });
}

fn strange(at: &str, key: &str, meant: Option<&str>) -> String {
    let hint = meant.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
    format!("{at}{key}{hint}")
}

fn sentence(unread: &[String]) -> Option<String> {
    let named = some_of(unread);
    (!unread.is_empty()).then(|| format!("of the peers file nothing reads {named}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = r#"{"name": "a", "addresses": ["192.0.2.1"], "podCIDRs": ["10.1.0.0/24"]"#;

    fn read(text: &str) -> Result<(String, Option<String>), String> {
        let list = decode(text.as_bytes()).map_err(|problems| problems.join("; "))?;
        assert_eq!(list.nodes.len(), 1);
        Ok((list.fabric.encode().to_string(), list.unread))
    }

    #[test]
    fn what_is_not_known_is_told_once_and_ignored() {
        let plain = format!(r#"{{"self": "a", "nodes": [{NODE}}}]}}"#);
        assert_eq!(read(&plain), Ok(("{}".to_owned(), None)));
        let strange = format!(
            r#"{{"selv": "a", "fabric": {{"mode": "vxlan", "mtuu": 1}}, "zones": [],
                "nodes": [{NODE}, "tunelAddresses": [], "x": 1}}]}}"#
        );
        let (fabric, unread) = read(&strange).unwrap();
        assert_eq!(fabric, r#"{"mode":"vxlan"}"#);
        assert_eq!(
            unread.unwrap(),
            "of the peers file nothing reads selv (did you mean self?), zones, \
             nodes[0].tunelAddresses (did you mean tunnelAddresses?) and 2 more"
        );
    }

    #[test]
    fn a_mistyped_key_that_is_needed_is_named_with_what_was_meant() {
        let said = read(&format!(r#"{{"nodes": [{}]}}"#, r#"{"name": "a", "address": []}"#));
        let said = said.unwrap_err();
        assert!(said.contains("missing field `addresses`"), "{said}");
        assert!(said.contains("nodes[0].address (did you mean addresses?)"), "{said}");
    }

    #[test]
    fn a_list_is_no_node_whatever_else_stands_there() {
        for more in ["", r#""x": 1, "#] {
            let text = format!(r#"{{{more}"nodes": [["a", ["192.0.2.1"], ["10.1.0.0/24"]]]}}"#);
            let said = read(&text).unwrap_err();
            assert!(said.contains("invalid type: sequence"), "{said}");
        }
    }

    #[test]
    fn the_networks_of_services_are_read() {
        let with = |services: &str| {
            read(&format!(r#"{{"serviceCIDRs": {services}, "nodes": [{NODE}}}]}}"#))
        };
        let known = Ok(("{}".to_owned(), None));
        assert_eq!(with("[]"), known);
        assert_eq!(with(r#"["10.96.0.0/12", "fd00:96::/112"]"#), known);
        for (services, words) in [
            (r#"["10.96.0.1/12"]"#, "serviceCIDR 10.96.0.1/12 has host bits: 10.96.0.0"),
            (r#"["10.96.0.0/12", "x"]"#, "serviceCIDR"),
            (r#""10.96.0.0/12""#, "invalid type"),
        ] {
            let said = with(services).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }

    /// Whatever else is in the file.
    #[test]
    fn a_key_that_is_there_twice_is_refused() {
        let node = format!("{NODE}}}");
        for text in [
            format!(r#"{{"nodes": [], "nodes": [{node}]}}"#),
            format!(r#"{{"nodes": [], "nodes": [{node}], "x": 1}}"#),
            format!(r#"{{"x": 1, "nodes": [{NODE}, "name": "b"}}]}}"#),
            format!(r#"{{"fabric": {{"mtu": 1400, "mtu": 1300}}, "nodes": [{node}]}}"#),
            format!(r#"{{"fabric": {{"vxlan": {{"vni": 1, "vni": 2}}}}, "nodes": [{node}]}}"#),
        ] {
            let said = read(&text).unwrap_err();
            assert!(said.contains("duplicate field"), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_fabric_is_wrong_with_the_file() {
        for (fabric, words) in [
            (r#""vxlan""#, "invalid type"),
            (r#"{"mode": "warp"}"#, "key fabric.mode of the peers file has the value \"warp\""),
            (r#"{"routeProtocol": 4}"#, "the administrator"),
        ] {
            let text = format!(r#"{{"fabric": {fabric}, "nodes": [{NODE}}}]}}"#);
            let said = read(&text).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }
}
