// SPDX-License-Identifier: Apache-2.0
//! One evaluator against the other, both against the answers of a third, and against one
//! that is as simple as can be.

#[path = "../../integration/policy/cases.rs"]
#[allow(unreachable_pub)]
mod cases;
mod naive;
mod random;

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::json;

use super::{Direction, Flow, Granted, Policies, World, allows, compile, granted, protocol, read};

/// A node's secret.
const KEY: super::Key = *b"of all the tests";

/// All addresses by which a probe may name its ends.
fn ends(world: &World) -> BTreeMap<String, IpAddr> {
    let mut ends = BTreeMap::new();
    for pod in &world.pods {
        for address in pod.addresses.iter().rev() {
            ends.insert(pod.name.to_string(), *address);
            ends.insert(address.to_string(), *address);
        }
    }
    ends
}

#[test]
fn both_evaluators_give_the_answers_of_a_third() {
    let (mut count, mut denied) = (0, 0);
    for case in cases::all() {
        for (at, step) in case.steps.iter().enumerate() {
            let text = step.world.to_string();
            let world = read(text.as_bytes()).unwrap().world;
            let (ends, table) = (ends(&world), compile(&world, "node-a", &KEY).policies);
            for probe in &step.probes {
                let end =
                    |name: &str| ends.get(name).copied().unwrap_or_else(|| name.parse().unwrap());
                let (source, destination) = (end(&probe.from), end(&probe.to));
                let protocol = protocol(&probe.protocol).unwrap_or(1);
                let port = (protocol != 1).then_some(probe.port);
                let flow = Flow { source, destination, protocol, port };
                let verdict = world.verdict(&flow);
                let name = &case.name;
                assert_eq!(
                    verdict.is_allowed(),
                    probe.allowed,
                    "{name}, step {at}: {probe:?}: {verdict:?}"
                );
                assert_eq!(
                    allows(&table, &flow),
                    probe.allowed,
                    "{name}, step {at}: {probe:?}: {table:#?}"
                );
                let listed = Direction::BOTH.into_iter().all(|direction| {
                    let all = granted(&table, direction, (source, destination));
                    all.is_none_or(|all| {
                        let meets = |it: &Granted| match port {
                            Some(port) => it.has(protocol, port),
                            None => it.is_all(),
                        };
                        all.iter().any(meets)
                    })
                });
                assert_eq!(listed, probe.allowed, "{name}, step {at}: {probe:?}");
                count += 1;
                denied += u32::from(!probe.allowed);
            }
        }
    }
    assert!(count > 88_560 && denied > 17_000, "{count} probes, {denied} denied");
}

fn world(objects: serde_json::Value) -> World {
    let text = json!({"kind": "List", "items": objects}).to_string();
    read(text.as_bytes()).unwrap().world
}

/// Deleting the pods of others, and compiling for their node, changes nothing: each node
/// judges its own pods.
#[test]
fn a_table_is_of_the_pods_of_its_node() {
    let pod = |name: &str, node: &str, ip: &str| {
        json!({"kind": "Pod", "metadata": {"namespace": "x", "name": name, "labels": {"app": name}},
               "spec": {"nodeName": node}, "status": {"podIPs": [{"ip": ip}]}})
    };
    let world = world(json!([
        pod("a", "one", "10.0.0.1"),
        pod("b", "two", "10.0.0.2"),
        pod("c", "two", "10.0.0.3"),
        {"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "only-b"},
         "spec": {"podSelector": {}, "ingress": [
             {"from": [{"podSelector": {"matchLabels": {"app": "b"}}}]}]}},
    ]));
    let keys = |policies: &Policies| {
        let classes = policies.ways.iter().flat_map(|way| way.classes.keys());
        let classes: Vec<String> = classes.map(ToString::to_string).collect();
        let peers: Vec<String> = policies.identities.keys().map(ToString::to_string).collect();
        (classes.join(" "), peers.join(" "))
    };
    let (one, two) = (compile(&world, "one", &KEY).policies, compile(&world, "two", &KEY).policies);
    assert_eq!(keys(&one), ("10.0.0.1".to_owned(), "10.0.0.2".to_owned()));
    assert_eq!(keys(&two), ("10.0.0.2 10.0.0.3".to_owned(), "10.0.0.2".to_owned()));
    assert_eq!(keys(&compile(&world, "three", &KEY).policies), Default::default());
    // What is the same has the same number on each node.
    let classes: std::collections::BTreeSet<u64> = [&one, &two]
        .iter()
        .flat_map(|it| it.ways[1].classes.iter())
        .map(|(_, class)| *class)
        .collect();
    assert_eq!(classes.len(), 1);
    assert_eq!(one.identities, two.identities);
}

/// A policy that is added changes the numbers of those whom it concerns, and of no others.
#[test]
fn what_does_not_change_keeps_its_number() {
    let pod = |name: &str, ip: &str| {
        json!({"kind": "Pod", "metadata": {"namespace": "x", "name": name, "labels": {"app": name}},
               "spec": {"nodeName": "one"}, "status": {"podIPs": [{"ip": ip}]}})
    };
    let policy = |name: &str, of: &str, from: &str| {
        json!({"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": name},
               "spec": {"podSelector": {"matchLabels": {"app": of}}, "ingress": [
                   {"from": [{"podSelector": {"matchLabels": {"app": from}}}]}]}})
    };
    let pods =
        [pod("a", "10.0.0.1"), pod("b", "10.0.0.2"), pod("c", "10.0.0.3"), pod("d", "10.0.0.4")];
    let before: Vec<_> = pods.iter().cloned().chain([policy("p", "a", "b")]).collect();
    let mut after = before.clone();
    after.push(policy("q", "c", "d"));
    let [before, after] =
        [before, after].map(|objects| compile(&world(json!(objects)), "one", &KEY).policies);
    let class = |policies: &Policies, of: &str| {
        policies.ways[1].classes.get(&of.parse::<IpAddr>().unwrap()).copied()
    };
    assert_eq!(class(&before, "10.0.0.1"), class(&after, "10.0.0.1"));
    assert_eq!(class(&before, "10.0.0.3"), None);
    assert!(class(&after, "10.0.0.3").is_some());
    assert!(
        before.identities.iter().all(|(address, of)| after.identities.get(address) == Some(of))
    );
    let ([_, before], [_, after]) = (&before.ways, &after.ways);
    assert!(before.grants.iter().all(|(grant, last)| after.grants.get(grant) == Some(last)));
}

/// Pods and namespaces are told of apart. Who is of a namespace that nobody has told of is
/// meant by no selector of namespaces, whatever it asks; within its own it is.
#[test]
fn no_selector_of_namespaces_means_an_unknown_one() {
    let pod = |namespace: &str, ip: &str| {
        json!({"kind": "Pod", "metadata": {"namespace": namespace, "name": "a"},
               "spec": {"nodeName": "one"}, "status": {"podIPs": [{"ip": ip}]}})
    };
    let names = "kubernetes.io/metadata.name";
    let expression = |key: &str, operator: &str, values: &[&str]| {
        json!({"matchExpressions": [
        {"key": key, "operator": operator, "values": values}]})
    };
    let selectors = [
        json!({}),
        expression("team", "NotIn", &["one"]),
        expression("team", "DoesNotExist", &[]),
        expression(names, "In", &["new"]),
        expression(names, "NotIn", &["x"]),
        expression(names, "Exists", &[]),
    ];
    let answers = |namespaces: &[&str], from: &serde_json::Value, of: &str| {
        let mut items = vec![pod("x", "10.0.0.1"), pod("new", "10.0.0.2")];
        let policy = |way: &str, key: &str| {
            json!({"kind": "NetworkPolicy", "metadata": {"namespace": of, "name": way}, "spec":
                {"podSelector": {}, "policyTypes": [way], way.to_lowercase(): [{key: [from]}]}})
        };
        items.extend([policy("Ingress", "from"), policy("Egress", "to")]);
        items.extend(
            namespaces.iter().map(|name| json!({"kind": "Namespace", "metadata": {"name": name}})),
        );
        let world = world(json!(items));
        let table = compile(&world, "one", &KEY).policies;
        let all = [("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.1")].map(|(from, to)| {
            let (source, destination) = (from.parse().unwrap(), to.parse().unwrap());
            let flow = Flow { source, destination, protocol: 6, port: Some(80) };
            let allowed = world.verdict(&flow).is_allowed();
            assert_eq!(
                (allows(&table, &flow), naive::is_allowed(&world, &flow)),
                (allowed, allowed)
            );
            allowed
        });
        (all, world.unknown_namespaces())
    };
    for selector in &selectors {
        let from = json!({"namespaceSelector": selector});
        let (allowed, unknown) = answers(&["x"], &from, "x");
        assert_eq!((allowed, unknown), ([false; 2], vec!["new".to_owned()]), "{selector}");
        let from = json!({"namespaceSelector": selector, "podSelector": {}});
        assert_eq!(answers(&["x"], &from, "x").0, [false; 2], "{selector}");
        let (allowed, unknown) = answers(&["x", "new"], &from, "x");
        assert_eq!((allowed, unknown), ([true; 2], vec![]), "{selector}");
    }
    // Its own policies know it by where they are.
    let own = json!({"podSelector": {}});
    let both = |namespaces: &[&str]| {
        let mut items = vec![pod("new", "10.0.0.1"), pod("new", "10.0.0.2")];
        items[1]["metadata"]["name"] = json!("b");
        items.push(json!({"kind": "NetworkPolicy", "metadata": {"namespace": "new", "name": "p"},
            "spec": {"podSelector": {}, "ingress": [{"from": [own]}]}}));
        items.extend(
            namespaces.iter().map(|name| json!({"kind": "Namespace", "metadata": {"name": name}})),
        );
        let world = world(json!(items));
        let flow = Flow {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.2".parse().unwrap(),
            protocol: 6,
            port: Some(80),
        };
        [allows(&compile(&world, "one", &KEY).policies, &flow), naive::is_allowed(&world, &flow)]
    };
    assert_eq!((both(&[]), both(&["new"])), ([true; 2], [true; 2]));
}

/// Who forbids a connection is named, in both directions.
#[test]
fn a_verdict_names_the_policies() {
    let pod = |name: &str, ip: &str, host: bool| {
        json!({"kind": "Pod", "metadata": {"namespace": "x", "name": name, "labels": {"app": name}},
               "spec": {"nodeName": "one", "hostNetwork": host}, "status": {"podIPs": [{"ip": ip}]}})
    };
    let policy = |name: &str, spec: serde_json::Value| json!({"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": name}, "spec": spec});
    let from = json!([{"podSelector": {"matchLabels": {"app": "a"}}}]);
    let web = json!({"podSelector": {}, "ingress": [{"from": from, "ports": [{"port": 80}]}]});
    let world = world(json!([
        pod("a", "10.0.0.1", false),
        pod("b", "10.0.0.2", false),
        pod("node", "192.0.2.1", true),
        policy("closed", json!({"podSelector": {}})),
        policy("web", web),
    ]));
    let told = |source: &str, destination: &str, port| {
        let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
        let verdict = world.verdict(&Flow { source, destination, protocol: 6, port: Some(port) });
        verdict.sentences().join("; ")
    };
    let open = "egress: no policy isolates the pod; ";
    let denied = "ingress of pod x/b: denied: isolated by x/closed, x/web, of which none allows it";
    for (source, destination, port, expected) in [
        ("10.0.0.1", "10.0.0.2", 80, "ingress of pod x/b: allowed by x/web"),
        ("10.0.0.1", "10.0.0.2", 81, denied),
        ("10.0.0.1", "192.0.2.9", 80, "ingress: no policy isolates the pod"),
    ] {
        assert_eq!(told(source, destination, port), format!("{open}{expected}"));
    }
    let always = "allowed: a pod and its own node may always speak";
    assert_eq!(told("192.0.2.1", "10.0.0.2", 81), always);
    assert_eq!(told("10.0.0.2", "10.0.0.2", 81), "allowed: a pod may always speak to itself");
}
