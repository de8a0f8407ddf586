// SPDX-License-Identifier: Apache-2.0
//! What is filled in, and what cannot be read.

use serde_json::{Value, json};

use super::*;

fn read_items(items: Value) -> Result<Read, String> {
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items});
    read(list.to_string().as_bytes())
}

fn policy_of(spec: Value) -> (Policy, Vec<String>) {
    let metadata = json!({"namespace": "x", "name": "p"});
    let read = read_items(json!([{"kind": "NetworkPolicy", "metadata": metadata, "spec": spec}]));
    let read = read.unwrap();
    (Policy::clone(&read.world.policies[0]), read.notes)
}

#[test]
fn directions_are_filled_in() {
    let rule = json!([{}]);
    for (spec, egress, ingress) in [
        (json!({}), false, true),
        (json!({"egress": rule}), true, true),
        (json!({"egress": []}), false, true),
        (json!({"ingress": []}), false, true),
        (json!({"policyTypes": ["Egress"]}), true, false),
        (json!({"policyTypes": ["Egress"], "ingress": rule}), true, false),
        (json!({"policyTypes": ["Ingress"], "egress": rule}), false, true),
        (json!({"policyTypes": [], "egress": rule}), true, true),
        (json!({"policyTypes": ["Ingress", "Egress"]}), true, true),
    ] {
        let (policy, notes) = policy_of(spec.clone());
        let isolates = policy.ways.each_ref().map(Option::is_some);
        assert_eq!((isolates, notes.len()), ([egress, ingress], 0), "{spec}");
    }
}

#[test]
fn lists_that_are_empty_mean_all_and_those_of_nothing_readable_none() {
    for (rule, peers, ports) in [
        (json!({}), None, None),
        (json!({"from": [], "ports": []}), None, None),
        (json!({"from": null, "ports": null}), None, None),
        (json!({"from": [{"podSelector": {}}], "ports": [{"port": 80}]}), Some(1), Some(1)),
        (json!({"from": [{"ipBlock": {"cidr": "10.0.0.0"}}, {}]}), Some(0), None),
        (json!({"ports": [{"protocol": "ICMP"}, {"port": 0}, {"port": 65536}]}), None, Some(0)),
        (json!({"ports": [{"port": 80, "endPort": 79}, {"endPort": 1}]}), None, Some(0)),
        (json!({"ports": [{"port": "web", "endPort": 90}]}), None, Some(0)),
        (json!({"ports": [{"endPort": 65535}, {"port": 0, "endPort": 7}]}), None, Some(0)),
        (json!({"from": [{"podSelector": {"matchLabels": {"a": 1}}}]}), Some(0), None),
        (json!({"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}), Some(0), None),
    ] {
        let (policy, notes) = policy_of(json!({"ingress": [rule]}));
        let read = &policy.rules(Direction::Ingress).unwrap()[0];
        let counts = (read.peers.as_ref().map(Vec::len), read.ports.as_ref().map(Vec::len));
        assert_eq!(counts, (peers, ports), "{rule}");
        assert_eq!(notes.is_empty(), peers != Some(0) && ports != Some(0), "{notes:?}");
        assert!(notes.iter().all(|note| note.starts_with("NetworkPolicy x/p: ")), "{notes:?}");
    }
}

#[test]
fn a_range_needs_a_beginning() {
    for last in [json!(70000), json!("x"), json!(65535)] {
        let (_, notes) = policy_of(json!({"ingress": [{"ports": [{"endPort": last}]}]}));
        let expected = format!("endPort {last} ends no range: the port is open to nobody");
        assert!(notes.len() == 1 && notes[0].ends_with(&expected), "{notes:?}");
    }
}

#[test]
fn a_network_loses_the_bits_behind_its_prefix_and_never_an_exception() {
    let peers = json!([{"ipBlock": {"cidr": "10.1.2.3/8", "except": ["10.1.0.1/16", "fd00::/8"]}}]);
    let (policy, notes) = policy_of(json!({"ingress": [{"from": peers}]}));
    let peer = &policy.rules(Direction::Ingress).unwrap()[0].peers.as_ref().unwrap()[0];
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let block =
        Block { network: "10.0.0.0/8".parse().unwrap(), except: networks(&["10.1.0.0/16"]) };
    assert_eq!((peer, notes.len()), (&Peer::Block(block), 0));
    // Without one that cannot be read, more would be allowed than was meant.
    let peers = json!([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0"]}}]);
    let (policy, notes) = policy_of(json!({"ingress": [{"from": peers}]}));
    assert_eq!(policy.rules(Direction::Ingress).unwrap()[0].peers, Some(Vec::new()));
    assert!(notes[0].contains("\"10.1.0.0\" is not an address with a prefix"), "{notes:?}");
}

#[test]
fn a_pod_is_read() {
    let ports = json!([
        {"name": "web", "containerPort": 80},
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
        {"containerPort": 9},
    ]);
    let pod = json!({"kind": "Pod",
        "metadata": {"namespace": "x", "name": "a", "labels": {"k": "v"},
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": ports}],
                 "initContainers": [
                     {"name": "i", "ports": [{"name": "init", "containerPort": 1}]},
                     {"name": "s", "restartPolicy": "Always",
                      "ports": [{"name": "side", "containerPort": 2}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1",
                   "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}});
    let mut finished = pod.clone();
    finished["status"]["phase"] = json!("Failed");
    finished["metadata"]["deletionTimestamp"] = json!("2026-01-02T00:00:00Z");
    finished["spec"]["hostNetwork"] = json!(true);
    finished["status"]["podIPs"] = Value::Null;
    let read = read_items(json!([pod, finished])).unwrap();
    let [pod, finished] = &read.world.pods[..] else { panic!("{read:?}") };
    let named: Vec<(&str, u8, u16)> =
        pod.ports.iter().map(|port| (port.name.as_str(), port.protocol, port.port)).collect();
    assert_eq!(named, [("web", 6, 80), ("dns", 17, 53), ("side", 6, 2)]);
    assert_eq!(pod.addresses, ["10.0.0.1", "fd00::1"].map(|text| text.parse::<IpAddr>().unwrap()));
    assert!(pod.is_subject() && !pod.terminating && &*pod.node == "n");
    assert!(finished.finished && finished.terminating && finished.on_host_network);
    assert_eq!(finished.addresses.len(), 1);
}

/// The object of a static pod has a uid of its own, and the node knows the pod by another.
#[test]
fn a_static_pod_has_the_uid_that_its_node_gave_it() {
    let uid = |metadata: Value| {
        let pod = json!([{"kind": "Pod", "metadata": metadata}]);
        read_items(pod).unwrap().world.pods[0].uid.clone()
    };
    let hash = json!({"kubernetes.io/config.mirror": "0123", "kubernetes.io/config.seen": "x"});
    assert_eq!(uid(json!({"name": "a", "uid": "u", "annotations": hash})), "0123");
    assert_eq!(uid(json!({"name": "a", "uid": "u", "annotations": {"a": "b"}})), "u");
    assert_eq!(uid(json!({"name": "a"})), "");
}

#[test]
fn what_cannot_be_understood_is_named() {
    let selector = json!({"matchExpressions": [{"key": "k", "operator": "Gt", "values": ["1"]}]});
    let policy = json!({"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "p"},
                        "spec": {"podSelector": selector}});
    let pod = json!({"kind": "Pod", "metadata": {"namespace": "x", "name": "a"},
                     "status": {"podIP": "10.0.0"}});
    let of = |spec: Value| {
        let metadata = json!({"namespace": "x", "name": "p"});
        json!([{"kind": "NetworkPolicy", "metadata": metadata, "spec": spec}])
    };
    for (items, words) in [
        (json!([policy]), "NetworkPolicy x/p: a selector asks \"Gt\" of label k"),
        (json!([pod]), "Pod x/a: \"10.0.0\" is not an IP address"),
        (json!([{"kind": "Service", "metadata": {"namespace": "x", "name": "s"}}]), "Service x/s"),
        (json!([{"kind": "Pod"}]), "missing field `metadata`"),
        (json!([{"kind": "Pod", "metadata": {}}]), "missing field `name`"),
        (json!([5]), "5 is no object"),
        // Taken for nothing they would open or close pods.
        (of(json!(5)), "NetworkPolicy x/p: spec is 5, which is no object"),
        (of(json!({"podSelector": "all"})), "podSelector is \"all\", which is no object"),
        (of(json!({"podSelector": {"matchLabels": {"k": 1}}})), "matchLabels has k: 1"),
        (of(json!({"policyTypes": "Egress"})), "policyTypes is \"Egress\", which is no list"),
        (of(json!({"ingress": [5]})), "5 is no object"),
        (of(json!({"ingress": [{"from": {}}]})), "from is {}, which is no list"),
    ] {
        let error = read_items(items).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    for (text, words) in [
        (r#"{"kind": "Pod", "items": []}"#, "\"Pod\""),
        (r#"{"items": []}"#, "missing field `kind`"),
        (r#"{"kind": "List"}"#, "missing field `items`"),
        (r#"{"kind": "List", "items": []} x"#, "trailing characters"),
        (r#"{"items": [{"kind": "Pod""#, "EOF"),
    ] {
        let error = read(text.as_bytes()).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

/// Calico's kind has the same name, and other words.
#[test]
fn a_policy_of_another_group_is_not_taken_for_one_of_kubernetes() {
    for (version, is_read) in [
        (None, true),
        (Some("networking.k8s.io/v1"), true),
        (Some("crd.projectcalico.org/v1"), false),
        (Some("projectcalico.org/v3"), false),
    ] {
        let mut policy = json!({"kind": "NetworkPolicy", "metadata": {"name": "a"}, "spec": {}});
        if let Some(version) = version {
            policy["apiVersion"] = version.into();
        }
        let read = read(json!({"kind": "List", "items": [policy]}).to_string().as_bytes());
        assert_eq!(read.is_ok(), is_read, "{version:?}");
        if let Err(problem) = read {
            assert!(problem.contains("validate --policies"), "{problem}");
        }
    }
}

#[test]
fn yaml_is_read_as_json_is() {
    let policy = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: x, name: p}
spec:
  podSelector: {}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 80}]
";
    let items = policy.replace('\n', "\n  ");
    let list = format!("apiVersion: v1\nitems:\n- {items}\nkind: List\n");
    let pod = "\
---
kind: Pod
metadata: {namespace: x, name: a, labels: {app: web}}
spec: {nodeName: one}
status: {podIP: 10.0.0.1}
";
    for text in [format!("# Two objects.\n{policy}{pod}"), format!("{list}{pod}")] {
        let Read { world, notes } = read(text.as_bytes()).unwrap();
        assert_eq!((world.policies.len(), world.pods.len(), notes.len()), (1, 1, 0), "{text}");
        assert_eq!(world.policies[0].rules(Direction::Ingress).unwrap().len(), 1);
        assert_eq!(world.pods[0].addresses, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }
    for (text, wanted) in [
        ("kind: Pod\nmetadata: {name: 1}\n", "name is 1, which is no text"),
        ("- a\n", "no object"),
        ("items: 1\nkind: List\n", "items is 1, which is no list"),
        ("kind: Pod\n  metadata:\n", "line 2: "),
        ("", "EOF"),
    ] {
        let refused = read(text.as_bytes()).unwrap_err();
        assert!(refused.contains(wanted), "{text:?}: {refused}");
    }
}
