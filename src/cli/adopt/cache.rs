// SPDX-License-Identifier: Apache-2.0
//! The attachments that a runtime has made, by libcni's own notes of them: which plugin
//! made them does not matter there, so that they tell of a pod that somebody else attached
//! what our journal would.

use std::net::IpAddr;

use serde_json::Value;

use crate::{
    cni::{AddResult, Version, json::member},
    list::Gather,
    state::Entry,
};

/// Where libcni keeps them, for containerd and CRI-O.
pub(super) const DIRECTORY: &str = "/var/lib/cni/results";

/// What marks such a file.
const KIND: &str = "cniCacheV1";

/// One attachment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Cached {
    /// As our journal would have it, with the name of the network that it was made in; its
    /// host link and the identity of its namespace are still to be found.
    pub(super) entry: Entry,
    /// The interfaces of the node that the result names.
    pub(super) of_node: Vec<String>,
    /// The index of its link, where its other end is in the pod's namespace: it lives.
    pub(super) link: Option<u32>,
}

/// Reads a file; `None` for one that tells of no attachment.
pub(super) fn parse(bytes: &[u8]) -> Option<Cached> {
    let document: Value = serde_json::from_slice(bytes).ok()?;
    let text = |name| Some(member(&document, name)?.as_str()?.to_owned());
    if text("kind")? != KIND {
        return None;
    }
    let result = member(&document, "result")?;
    let told = member(result, "cniVersion").and_then(Value::as_str);
    let version = told.and_then(|text| Version::parse(text).ok()).unwrap_or(Version::UNSTATED);
    let result = AddResult::decode(result, version).ok()?;
    let pairs = arguments(member(&document, "cniArgs"));
    let argument = |name: &str| {
        let found = pairs.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    let ifname = text("ifName")?;
    let inside = result.interfaces.iter().find(|it| it.name == ifname && it.sandbox.is_some());
    let netns = inside.and_then(|it| it.sandbox.clone()).or_else(|| text("netns"));
    let addresses: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).gather();
    let outside = result.interfaces.iter().filter(|interface| interface.sandbox.is_none());
    Some(Cached {
        of_node: outside.map(|interface| interface.name.clone()).gather(),
        link: None,
        entry: Entry {
            network: text("networkName")?,
            container_id: text("containerId")?,
            pod_namespace: argument("K8S_POD_NAMESPACE"),
            pod_name: argument("K8S_POD_NAME"),
            netns: netns.unwrap_or_default(),
            addresses,
            mtu: inside.and_then(|it| it.mtu).unwrap_or_default(),
            cni_version: version.to_string(),
            args: pairs.iter().map(|(key, value)| format!("{key}={value}")).gather().join(";"),
            ifname,
            ..Entry::default()
        },
    })
}

/// The pairs of `CNI_ARGS`.
fn arguments(list: Option<&Value>) -> Vec<(String, String)> {
    let pairs = list.and_then(Value::as_array).into_iter().flatten();
    let text = |value: Option<&Value>| Some(value?.as_str()?.to_owned());
    pairs.filter_map(|pair| Some((text(pair.get(0))?, text(pair.get(1))?))).gather()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_note_of_libcni_tells_what_our_journal_would() {
        let note = json!({
            "kind": KIND, "containerId": "c1", "ifName": "eth0", "networkName": "k8s-pod-network",
            "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "default"],
                ["K8S_POD_NAME", "web"]],
            "result": {"cniVersion": "0.3.1",
                "interfaces": [{"name": "calie1"}, {"name": "eth0", "sandbox": "/run/netns/x"}],
                "ips": [{"version": "4", "address": "10.65.0.5/32", "interface": 1}]},
        });
        let Cached { entry, of_node, link } = parse(note.to_string().as_bytes()).unwrap();
        assert_eq!((of_node, link), (vec!["calie1".to_owned()], None));
        assert_eq!(entry.pod().as_deref(), Some("default/web"));
        assert_eq!(entry.addresses, ["10.65.0.5".parse::<IpAddr>().unwrap()]);
        assert_eq!(entry.args, "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web");
        let told = (entry.network, entry.container_id, entry.ifname, entry.netns);
        let wanted = ["k8s-pod-network", "c1", "eth0", "/run/netns/x"].map(str::to_owned);
        assert_eq!(told, wanted.into());
    }

    /// Calico's plugin tells the node's end alone, and libcni before 1.2 no namespace.
    #[test]
    fn a_note_of_calicos_plugin_names_no_namespace() {
        let note = json!({
            "kind": KIND, "containerId": "c1", "config": "e30=", "ifName": "eth0",
            "networkName": "k8s-pod-network",
            "cniArgs": [["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "web"]],
            "result": {"cniVersion": "0.3.1", "dns": {}, "interfaces": [{"name": "calie1"}],
                "ips": [{"address": "10.65.0.5/32", "version": "4"}]},
        });
        let cached = parse(note.to_string().as_bytes()).unwrap();
        assert_eq!((cached.of_node, cached.entry.netns.as_str()), (vec!["calie1".to_owned()], ""));
        assert_eq!(cached.entry.addresses, ["10.65.0.5".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn other_files_tell_of_no_attachment() {
        for text in ["", "[]", "{}", r#"{"kind": "cniCacheV1"}"#, r#"{"kind": "other"}"#] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
