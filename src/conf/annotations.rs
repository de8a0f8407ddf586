// SPDX-License-Identifier: Apache-2.0
//! What a pod asks for by Calico's annotations. The runtime hands all annotations of a
//! pod to a plugin whose configuration declares the capability, so that no ADD has to
//! ask an API server. What is meant by them is Calico's; which addresses may be given is
//! for the pool to say.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::Value;

use super::Complaint;
use crate::{
    cni::{
        Code, Document, Error, cidr,
        json::{shown, walk},
    },
    family::{Family, HasFamily},
    list::{Gather, Ordered, PushAll},
};

/// The capability of containerd and CRI-O.
const CAPABILITY: &str = "io.kubernetes.cri.pod-annotations";
const PREFIX: &str = "cni.projectcalico.org/";

const MAC: &str = "hwAddr";
const ADDRESSES: &str = "ipAddrs";
const FAMILIES: &str = "ipFamilies";
const SOURCES: &str = "allowedSourcePrefixes";
/// Those of Calico's that ask for what nobody here gives.
const UNSERVED: [&str; 4] = ["ipAddrsNoIpam", "floatingIPs", "ipv4pools", "ipv6pools"];

/// What the annotations of one pod ask for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Annotations {
    /// `hwAddr`: the MAC address of the pod's end.
    pub mac: Option<String>,
    /// `ipAddrs`: at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// `ipFamilies`, or else those of the addresses; empty where the ranges decide.
    pub families: Vec<Family>,
    /// `allowedSourcePrefixes`, where the configuration lets pods say so.
    pub sources: Vec<IpNetwork>,
    /// The names of annotations that have no effect.
    pub unserved: Vec<String>,
}

impl Annotations {
    /// Reads what the runtime has inserted, with what makes no sense of it.
    pub(super) fn read(document: &Document, sources_served: bool) -> (Self, Vec<Complaint>) {
        let mut read = Self::default();
        let Some(given) = walk(&document.object, &["runtimeConfig", CAPABILITY]) else {
            return (read, Vec::new());
        };
        // An annotation that says nothing is none.
        let text = |name: &str| {
            let text = given.get(format!("{PREFIX}{name}"))?.as_str()?;
            Some(text).filter(|text| !text.is_empty())
        };
        read.mac = text(MAC).map(str::to_owned);
        let unserved = UNSERVED.into_iter().chain((!sources_served).then_some(SOURCES));
        let unserved = unserved.filter(|name| text(name).is_some());
        read.unserved = unserved.map(|name| format!("{PREFIX}{name}")).gather();
        let mut complaints = Vec::new();
        let mut keep = |outcome: Result<(), Complaint>| complaints.push_all(outcome.err());
        keep(of(text(ADDRESSES), ADDRESSES, addresses).map(|found| read.addresses = found));
        keep(of(text(FAMILIES), FAMILIES, families).map(|found| read.families = found));
        let sources_text = text(SOURCES).filter(|_| sources_served);
        keep(of(sources_text, SOURCES, sources).map(|found| read.sources = found));
        keep(read.settle_families());
        (read, complaints)
    }

    /// A pod that names its addresses has those and no others, as with Calico.
    fn settle_families(&mut self) -> Result<(), Complaint> {
        let named = self.addresses.iter().map(HasFamily::family);
        if self.families.is_empty() {
            self.families = named.gather();
            return Ok(());
        }
        let strange = self.addresses.iter().find(|one| !self.families.contains(&one.family()));
        strange.map_or(Ok(()), |address| {
            let advice = format!("name its family in {PREFIX}{FAMILIES}, or leave it out");
            Err(refuse(ADDRESSES, &address.to_string(), &advice))
        })
    }
}

/// Reads the list of an annotation; without one, it is empty.
fn of<T>(
    text: Option<&str>,
    name: &str,
    read: impl Fn(&[&str]) -> Result<Vec<T>, String>,
) -> Result<Vec<T>, Complaint> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let list: Option<Vec<String>> = serde_json::from_str(text).ok();
    let list = list.ok_or_else(|| refuse(name, text, "give a JSON list of texts"))?;
    let list: Vec<&str> = list.iter().map(String::as_str).gather();
    read(&list).map_err(|advice| refuse(name, text, &advice))
}

fn addresses(list: &[&str]) -> Result<Vec<IpAddr>, String> {
    let read = list.iter().map(|text| cidr::parse_address(text));
    let addresses = read.collect::<Result<Vec<IpAddr>, String>>()?;
    let of = |family| addresses.iter().filter(|one| one.family() == family).count();
    match Family::BOTH.into_iter().all(|family| of(family) <= 1) {
        true => Ok(addresses),
        false => Err("give at most one address of each family".to_owned()),
    }
}

fn families(list: &[&str]) -> Result<Vec<Family>, String> {
    let read = list.iter().map(|word| match *word {
        "IPv4" => Ok(Family::V4),
        "IPv6" => Ok(Family::V6),
        _ => Err("give [\"IPv4\"], [\"IPv6\"], or both".to_owned()),
    });
    read.collect()
}

fn sources(list: &[&str]) -> Result<Vec<IpNetwork>, String> {
    let read = |text: &&str| match text.contains('/') {
        true => cidr::parse(text),
        false => cidr::parse_address(text).map(IpNetwork::from),
    };
    Ok(outermost(list.iter().map(read).collect::<Result<_, String>>()?))
}

/// Without those that lie inside others: the kernel takes no overlapping ones.
pub fn outermost(mut networks: Vec<IpNetwork>) -> Vec<IpNetwork> {
    networks.order_by_key(IpNetwork::prefix);
    let mut kept: Vec<IpNetwork> = Vec::new();
    for network in networks {
        let inside = |other: &IpNetwork| other.contains(network.ip());
        if !kept.iter().any(inside) {
            kept.push(network);
        }
    }
    kept
}

fn refuse(name: &str, text: &str, advice: &str) -> Complaint {
    let key = format!("{PREFIX}{name}");
    let msg = format!("the pod's annotation {key} has the value {}", shown(&Value::from(text)));
    let error = Error::new(Code::INVALID_CONFIG, msg).details(advice);
    Complaint { key, error }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(annotations: &Value, sources_served: bool) -> (Annotations, Vec<Complaint>) {
        let mut given = serde_json::Map::new();
        for (name, value) in annotations.as_object().unwrap() {
            given.insert(format!("{PREFIX}{name}"), value.clone());
        }
        let object = json!({"name": "n", "runtimeConfig": {CAPABILITY: given}});
        let document = Document::parse(object.to_string().into_bytes()).unwrap();
        Annotations::read(&document, sources_served)
    }

    fn sound(annotations: &Value) -> Annotations {
        let (read, complaints) = read(annotations, true);
        assert_eq!(complaints, [], "{annotations}");
        read
    }

    #[test]
    fn what_calicos_annotations_ask_for() {
        assert_eq!(sound(&json!({})), Annotations::default());
        let empty = json!({"hwAddr": "", "ipAddrs": "", "ipFamilies": "[]", "floatingIPs": ""});
        assert_eq!(sound(&empty), Annotations::default());
        let read = sound(&json!({
            "hwAddr": "ca:fe:ca:fe:ca:01",
            "ipAddrs": "[\"10.1.0.9\"]",
            "allowedSourcePrefixes": "[\"10.9.1.0/24\", \"10.9.0.0/16\", \"fd09::1\"]",
            "floatingIPs": "[\"192.0.2.1\"]",
            "ipAddrsNoIpam": "[\"192.0.2.2\"]",
        }));
        assert_eq!(read.mac.as_deref(), Some("ca:fe:ca:fe:ca:01"));
        assert_eq!(read.addresses, ["10.1.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(read.families, [Family::V4], "no other address comes beside it");
        let sources: Vec<String> = read.sources.iter().map(ToString::to_string).collect();
        assert_eq!(sources, ["10.9.0.0/16", "fd09::1/128"]);
        assert_eq!(
            read.unserved,
            ["ipAddrsNoIpam", "floatingIPs"].map(|it| PREFIX.to_owned() + it)
        );
        assert_eq!(
            sound(&json!({"ipFamilies": "[\"IPv6\",\"IPv4\"]"})).families,
            [Family::V6, Family::V4]
        );
    }

    #[test]
    fn pods_allow_themselves_sources_only_where_the_configuration_lets_them() {
        let (read, complaints) = read(&json!({"allowedSourcePrefixes": "nonsense"}), false);
        assert_eq!((read.sources.len(), complaints.len()), (0, 0));
        assert_eq!(read.unserved, [format!("{PREFIX}{SOURCES}")]);
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_annotation() {
        for (annotations, words) in [
            (json!({"ipAddrs": "10.1.0.9"}), "ipAddrs has the value \"10.1.0.9\""),
            (json!({"ipAddrs": "[\"10.1.0.9\", \"10.1.0.8\"]"}), "one address of each family"),
            (json!({"ipAddrs": "[\"10.1.0.300\"]"}), "10.1.0.300"),
            (json!({"ipAddrs": "[9]"}), "JSON list"),
            (json!({"ipFamilies": "[\"IPv5\"]"}), "[\"IPv4\"]"),
            (json!({"ipAddrs": "[\"fd00::9\"]", "ipFamilies": "[\"IPv4\"]"}), "name its family"),
            (json!({"allowedSourcePrefixes": "[\"10.0.0.0/33\"]"}), "10.0.0.0/33"),
        ] {
            let (_, complaints) = read(&annotations, true);
            let told = format!("{:?}", complaints.iter().map(|one| &one.error).collect::<Vec<_>>());
            assert_eq!(complaints.len(), 1, "{told}");
            let error = &complaints[0].error;
            assert!(error.to_string().contains(words) || told.contains(words), "{told}");
        }
    }
}
