// SPDX-License-Identifier: Apache-2.0
//! A peers file for nodes without the agent, made of what `kubectl` prints: by the rules
//! by which the agent makes one.

use std::path::Path;

use serde::Deserialize;

use crate::{
    cli::{Console, Failure, Status},
    conf::FabricPart,
    fabric::nodes::{
        Record, Settings, Settled, View,
        object::{Notes, Object},
    },
    list::Gather,
    node::unreadable,
    state::file::{CLUSTER_BYTES_MAX, read_stream},
    text::{few::some_of, json},
};

/// What is asked for.
const WANTED: &str = "give what kubectl get nodes -o json prints";

#[derive(Deserialize)]
struct List {
    kind: String,
    items: Vec<Object<Notes>>,
}

/// Makes a list for all nodes of what stdin gives.
pub(super) fn run(console: &mut Console<'_>) -> Result<Status, Failure> {
    let path = Path::new("/dev/stdin");
    let text = read_stream(path, CLUSTER_BYTES_MAX).map_err(|error| unreadable(path, &error))?;
    let view = view(&text).map_err(|words| Failure::Failed(format!("stdin: {words}")))?;
    if !view.incomplete.is_empty() {
        let names = some_of(&view.incomplete);
        console.remark(format_args!("note: left out, without a podCIDR or an address: {names}"))?;
    }
    for finding in &view.findings {
        let (severity, object) = (finding.severity.as_str(), &finding.object);
        console.remark(format_args!("{severity}: {object}: {}", finding.evidence))?;
    }
    if view.used == 0 {
        return Err(Failure::Failed(
            "stdin: no Node has a podCIDR and an address: kube-controller-manager gives podCIDRs \
             with --allocate-node-cidrs"
                .to_owned(),
        ));
    }
    console.verbatim().write_all(view.text.as_bytes())?;
    Ok(if view.quarantined.is_empty() { Status::Fine } else { Status::Findings })
}

/// The nodes that are served of a list, and those that are not.
pub(super) fn view(text: &[u8]) -> Result<View, String> {
    let list: List = json::read(text).map_err(|error| format!("{error}; {WANTED}"))?;
    if !matches!(&*list.kind, "List" | "NodeList") {
        return Err(format!("it is a {} and no list of Nodes; {WANTED}", list.kind));
    }
    let records = list.items.into_iter().map(|object| {
        let (record, notes) = object.into_parts();
        Record { tunnel: notes.tunnel().map(Box::new), ..record }
    });
    let records: Vec<Record> = records.gather();
    let settled = Settled::of_cluster(&records);
    let settled = settled.map_err(|_| format!("it has no Nodes; {WANTED}"))?;
    Ok(settled.view(&Settings {
        node: String::new(),
        fabric: FabricPart::default(),
        cluster_cidrs: None,
        in_blocks: false,
        spared: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::fabric::Peers;

    fn node(name: &str, addresses: &[&str], pods: &[&str], annotations: Value) -> Value {
        let internal = |address: &&str| json!({"type": "InternalIP", "address": address});
        let mut all: Vec<Value> = addresses.iter().map(internal).collect();
        all.push(json!({"type": "Hostname", "address": name}));
        json!({"apiVersion": "v1", "kind": "Node",
               "metadata": {"name": name, "uid": name, "annotations": annotations,
                            "creationTimestamp": "2026-11-27T09:00:00Z"},
               "spec": {"podCIDRs": pods}, "status": {"addresses": all}})
    }

    fn of(nodes: &[Value]) -> Result<View, String> {
        view(json!({"apiVersion": "v1", "kind": "List", "items": nodes}).to_string().as_bytes())
    }

    #[test]
    fn nodes_are_in_the_order_of_their_names_with_their_ends_of_tunnels() {
        let vxlan = json!({"projectcalico.org/IPv4VXLANTunnelAddr": "10.9.2.77",
            "projectcalico.org/VXLANTunnelMACAddr": "66:01:02:03:04:05", "other": "x"});
        let ipip = json!({"projectcalico.org/IPv4IPIPTunnelAddr": "10.9.1.77"});
        let view = of(&[
            node("c", &["192.0.2.3", "2001:db8::3"], &["10.9.3.0/24", "fd00:3::/64"], json!(null)),
            node("b", &["192.0.2.2"], &["10.9.2.0/24"], vxlan),
            node("new", &["192.0.2.9"], &[], json!({})),
            node("a", &["192.0.2.1"], &["10.9.1.0/24"], ipip),
        ])
        .unwrap();
        let expected = json!({"nodes": [
            {"name": "a", "addresses": ["192.0.2.1"], "podCIDRs": ["10.9.1.0/24"],
             "tunnelAddresses": ["10.9.1.77"]},
            {"name": "b", "addresses": ["192.0.2.2"], "podCIDRs": ["10.9.2.0/24"],
             "tunnelAddresses": ["10.9.2.77"], "tunnelMAC": "66:01:02:03:04:05"},
            {"name": "c", "addresses": ["192.0.2.3", "2001:db8::3"],
             "podCIDRs": ["10.9.3.0/24", "fd00:3::/64"]},
        ]});
        assert_eq!(serde_json::from_str::<Value>(&view.text).unwrap(), expected);
        assert_eq!((view.used, view.incomplete, view.findings.len()), (3, vec!["new".into()], 0));
        // Whoever of them reads it finds itself.
        let own: std::net::IpAddr = "192.0.2.2".parse().unwrap();
        let peers = Peers::parse(view.text.as_bytes(), &|address| address == own).unwrap();
        assert_eq!((peers.me.name.as_str(), peers.others.len()), ("b", 2));
    }

    #[test]
    fn what_clashes_is_left_out_and_named() {
        let old = node("old", &["192.0.2.1"], &["10.9.1.0/24"], json!({}));
        let mut young = node("a", &["192.0.2.2"], &["10.9.1.0/25"], json!({}));
        young["metadata"]["creationTimestamp"] = "2026-11-27T10:00:00Z".into();
        let view = of(&[young, old]).unwrap();
        assert_eq!(view.quarantined.len(), 1, "{view:?}");
        assert!(view.quarantined[0].1.contains("an older Node"), "{view:?}");
        assert!(view.text.contains("\"old\"") && !view.text.contains("\"a\""), "{}", view.text);
    }

    #[test]
    fn what_is_no_list_of_nodes_is_refused() {
        for text in ["", "[]", "{}", "{\"kind\": \"List\"}", "{\"kind\": \"List\", \"items\": []}"]
        {
            assert!(view(text.as_bytes()).unwrap_err().contains("kubectl get nodes"), "{text}");
        }
        let single = node("a", &[], &[], json!({})).to_string();
        assert!(view(single.as_bytes()).unwrap_err().contains("kubectl get nodes"));
        let pods = json!({"kind": "PodList", "items": []}).to_string();
        assert!(view(pods.as_bytes()).unwrap_err().contains("PodList"));
    }
}
