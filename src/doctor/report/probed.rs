// SPDX-License-Identifier: Apache-2.0
//! What a node measured, by the JSON of `manx probe`.

use std::{collections::HashMap, net::IpAddr};

use serde_json::Value;

use super::view::Group;
use crate::{
    doctor::probe::CHECKS,
    family::Family,
    finding::{Finding, Severity},
    list::{Gather, PushAll},
};

/// What one node measured.
pub struct Probed {
    pub(super) file: String,
    /// The node's name; manx up to 0.1 has not written it.
    pub(super) node: Option<String>,
    /// Its own addresses, as packets had them.
    pub(super) sources: Vec<IpAddr>,
    pub(super) groups: Vec<Group>,
    /// Its paths to other nodes, by their names.
    pub(super) peers: HashMap<String, Vec<Path>>,
}

/// A path.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    /// Whether it leads to pods, and not to the node's own address.
    pub(super) inner: bool,
    pub(super) ipv6: bool,
    pub(super) address: String,
    pub(super) device: String,
    /// Echo requests, and how many of them were answered.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Whether datagrams to a closed port were answered, where any were sent.
    pub(super) udp: bool,
    /// The mean time of an answer, in microseconds.
    pub(super) rtt_us: Option<u64>,
    /// What is sent for pods, in bytes.
    pub(super) needed: Option<u64>,
    /// The largest packet that passed, and the smallest that did not.
    pub(super) passed: Option<u64>,
    pub(super) lost: Option<u64>,
}

impl Probed {
    /// Reads what `manx probe --json` printed.
    ///
    /// # Errors
    /// Why it is none of that.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<Self, String> {
        let no_probe = |why: &str| format!("it is no output of manx probe --json: {why}");
        let document: Value =
            serde_json::from_slice(bytes).map_err(|error| no_probe(&error.to_string()))?;
        let list = document.get("peers").and_then(Value::as_array);
        let list = list.ok_or_else(|| no_probe("it has no list \"peers\""))?;
        let checks = document.get("checks").and_then(Value::as_array);
        let findings: Vec<Finding> = checks.into_iter().flatten().filter_map(finding).gather();
        let mut sources = Vec::new();
        let mut peers: HashMap<String, Vec<Path>> = HashMap::new();
        for peer in list {
            let all = peer.get("paths").and_then(Value::as_array).into_iter().flatten();
            let name = text(peer, "name");
            for one in all {
                let path = path(one);
                let source = one.get("source").and_then(Value::as_str);
                let source = source.and_then(|source| source.parse().ok());
                sources.push_all(source.filter(|own| !path.inner && !sources.contains(own)));
                peers.entry(name.clone()).or_default().push(path);
            }
            peers.entry(name).or_default();
        }
        let node = document.get("node").and_then(Value::as_str).map(str::to_owned);
        let groups = Group::all(&findings);
        Ok(Self { file: file.to_owned(), node, sources, groups, peers })
    }
}

impl Path {
    /// Whether anything came back.
    pub(super) fn answers(&self) -> bool {
        self.received > 0 || self.udp
    }

    /// Of echo requests, in per cent.
    pub(super) fn loss(&self) -> Option<u64> {
        let lost = self.sent.saturating_sub(self.received).checked_mul(100)?;
        lost.checked_div(self.sent)
    }

    /// Whether less passes than pods are allowed to send.
    pub(super) fn is_narrow(&self) -> bool {
        let is_less = |needed| self.passed.is_some_and(|passed| passed < needed);
        self.lost.is_some() && self.needed.is_some_and(is_less)
    }

    /// Its name in tables.
    pub(super) fn side(&self) -> String {
        let side = if self.inner { "inner" } else { "outer" };
        let family = if self.ipv6 { Family::V6 } else { Family::V4 };
        format!("{side} {family}")
    }
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// One that a check of ours found: others have no meaning here.
fn finding(value: &Value) -> Option<Finding> {
    let (name, status) = (text(value, "id"), text(value, "status"));
    let id = CHECKS.into_iter().find(|id| *id == name && status == "found")?;
    let severity = text(value, "severity");
    let all = [Severity::Error, Severity::Warning, Severity::Info];
    let severity = all.into_iter().find(|one| one.as_str() == severity)?;
    let (fix, undo) = (text(value, "fix"), text(value, "undo"));
    let (object, evidence) = (text(value, "object"), text(value, "evidence"));
    Some(Finding { fix, undo, ..Finding::new(id, severity, object, evidence) })
}

fn path(value: &Value) -> Path {
    let number = |value: Option<&Value>| value.and_then(Value::as_u64);
    let of = |key: &str| number(value.get(key));
    let mtu = |key: &str| number(value.get("mtu").and_then(|mtu| mtu.get(key)));
    Path {
        inner: text(value, "side") == "inner",
        ipv6: text(value, "family") == Family::V6.to_string(),
        address: text(value, "address"),
        device: text(value, "device"),
        sent: of("sent").unwrap_or_default(),
        received: of("received").unwrap_or_default(),
        udp: value.get("udpAnswered").and_then(Value::as_bool).unwrap_or_default(),
        rtt_us: number(value.get("rttMicroseconds").and_then(|times| times.get("mean"))),
        needed: mtu("needed"),
        passed: mtu("passed"),
        lost: mtu("lost"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_node_measured_is_read_and_what_else_a_file_has_is_not() {
        let document = json!({
            "checks": [
                {"id": "path-mtu", "severity": "error", "status": "found", "object": "node b",
                 "evidence": "1400 of 1450 pass", "why": "<b>", "fix": "f", "undo": ""},
                {"id": "peer-unreachable", "severity": "info", "status": "ok"},
                {"id": "route-missing", "severity": "error", "status": "found", "object": "x"},
            ],
            "peers": [
                {"name": "b", "skipped": [], "paths": [
                    {"side": "outer", "family": "IPv4", "address": "192.0.2.2",
                     "source": "192.0.2.1", "sent": 3, "received": 2,
                     "rttMicroseconds": {"min": 1, "mean": 210, "max": 400},
                     "mtu": {"needed": 1450, "passed": 1400, "lost": 1401}},
                    {"side": "inner", "family": "IPv6", "source": "fd00::1", "sent": 0},
                ]},
                {"name": "c", "paths": "none"},
            ],
        });
        let probed = Probed::decode("f", document.to_string().as_bytes()).unwrap();
        assert_eq!(probed.groups.len(), 1);
        assert_eq!(probed.groups[0].first.why, crate::finding::why("path-mtu"));
        assert_eq!(probed.sources, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        let [outer, inner] = probed.peers["b"].as_slice() else { panic!("two paths") };
        assert!(outer.answers() && outer.is_narrow() && !outer.inner);
        assert_eq!(
            (outer.loss(), outer.rtt_us, outer.side()),
            (Some(33), Some(210), "outer IPv4".into())
        );
        assert!(!inner.answers() && !inner.is_narrow() && inner.loss().is_none());
        assert!(probed.peers["c"].is_empty() && probed.node.is_none());
        for other in ["", "[]", "{\"peers\": 1}", "{\"kind\": \"manx bundle\"}"] {
            assert!(Probed::decode("f", other.as_bytes()).is_err(), "{other}");
        }
    }
}
