// SPDX-License-Identifier: Apache-2.0
//! Network policies of a cluster of ten thousand pods: what an agent holds of them, and how soon
//! a change is in force. `hack/bench --policy-agent` measures the agent that is shipped.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::answers::ask;
use crate::ground::{AGENT, CONFLIST, Ground, program};
use crate::harness::{DEADLINE, eventually};
use crate::world::{Api, World, enforcing};

const NAMESPACES: usize = 100;
const PODS: usize = 10_000;
const LOCAL: usize = 250;
const POLICIES: usize = 500;
/// Deployments of a namespace.
const APPS: usize = 10;
/// What the agent may have of memory, in KiB.
const MEMORY_KIB_MAX: u64 = 24 * 1024;
/// How soon a change is to be in force, in ms after the agent heard of it.
const IN_FORCE_MS_MAX: f64 = 50.0;
/// For so many ms the agent waits whether more changes: nothing is in force before.
const SETTLE_MS: f64 = 5.0;

fn namespace(number: usize) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": format!("ns-{number}"), "resourceVersion": "1",
        "labels": {"kubernetes.io/metadata.name": format!("ns-{number}"), "team": (number % 7).to_string()}}})
}

/// As large as one of a deployment with two containers is, in what is kept of it.
fn pod(number: usize) -> Value {
    let (namespace, app) = (number % NAMESPACES, number / NAMESPACES % APPS);
    let node = if number < LOCAL { 1 } else { 2 + number % 40 };
    let address = format!("10.{}.{}.{}", 200 + (number >> 14), number >> 6 & 255, number & 63);
    let filler = "what nobody here keeps ".repeat(40);
    json!({"kind": "Pod", "metadata": {"namespace": format!("ns-{namespace}"),
            "name": format!("app-{app}-5d8c7b9f66-{number:05}"), "resourceVersion": "1",
            "uid": format!("6f0a3b1c-4d52-4a7e-9c11-{number:012}"),
            "creationTimestamp": "2026-11-27T00:00:00Z", "annotations": {"words": filler},
            "labels": {"app.kubernetes.io/name": format!("app-{app}"), "pod-template-hash": "5d8c7b9f66",
                "app.kubernetes.io/part-of": format!("ns-{namespace}"), "tier": (app % 3).to_string()}},
        "spec": {"nodeName": format!("node-{node}"), "containers": [
            {"name": "app", "image": filler, "ports": [{"name": "http", "containerPort": 8080},
                {"name": "metrics", "containerPort": 9090}]},
            {"name": "sidecar", "image": filler}]},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"message": filler}]}})
}

/// Of the apps of a namespace in turn: who may come, and of every third also where it may go.
fn policy(number: usize) -> Value {
    let (namespace, app) = (number % NAMESPACES, number / NAMESPACES % APPS);
    let of_app =
        |app: usize| json!({"matchLabels": {"app.kubernetes.io/name": format!("app-{app}")}});
    let mut from = json!([{"podSelector": of_app((app + 1) % APPS)}, {"podSelector": of_app((app + 4) % APPS)}]);
    // A twentieth is about whole namespaces.
    if number.is_multiple_of(20) {
        from[1] = json!({"namespaceSelector": {"matchLabels": {"team": (number % 7).to_string()}}});
    }
    let ports = json!([{"port": 8080}, {"port": "metrics"}, {"port": 7000, "endPort": 7010}]);
    let mut spec = json!({"podSelector": of_app(app), "policyTypes": ["Ingress"],
        "ingress": [{"from": from, "ports": ports}]});
    if number.is_multiple_of(3) {
        spec["policyTypes"] = json!(["Ingress", "Egress"]);
        spec["egress"] = json!([{"ports": [{"protocol": "UDP", "port": 53}]},
            {"to": [{"podSelector": of_app((app + 2) % APPS)}, {"ipBlock": {"cidr": "0.0.0.0/0",
                "except": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]}}]}]);
    }
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": format!("ns-{namespace}"),
        "name": format!("policy-{number}"), "uid": format!("p{number}"), "resourceVersion": "1"}, "spec": spec})
}

fn metric(ground: &Ground, name: &str) -> f64 {
    let metrics = ask(ground, "/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map(|rest| rest.trim().parse().unwrap()).unwrap_or_default()
}

/// The elements of a set or map of the table of policies, as nft lists them.
fn elements(ground: &Ground, [kind, name]: [&str; 2]) -> String {
    ground.host.command("nft", &["list", kind, "inet", "manx.policy", name]).ok()
}

/// Tells of a change, and waits until it is in force: how long that took, in ms.
fn in_force_ms(
    ground: &Ground,
    api: &Api,
    changed: &Value,
    set: [&str; 2],
    mark: Option<&str>,
) -> f64 {
    const IN_FORCE: &str = "manx_agent_policy_event_to_kernel_seconds";
    let count = || metric(ground, &format!("{IN_FORCE}_count"));
    let sum = || metric(ground, &format!("{IN_FORCE}_sum"));
    let (before, seconds, held) = (count(), sum(), elements(ground, set));
    let told = Instant::now();
    api.tell("MODIFIED", changed);
    assert!(eventually(DEADLINE, || count() > before), "{}", ground.log());
    let (waited, told) = (told.elapsed(), elements(ground, set));
    assert!(told != held && mark.is_none_or(|mark| told.contains(mark)), "{set:?}: {told}");
    let took = 1000.0 * (sum() - seconds);
    let possible = SETTLE_MS..1000.0 * waited.as_secs_f64();
    assert!(possible.contains(&took), "{took} ms are impossible: {possible:?}");
    took
}

#[test]
fn policies_of_ten_thousand_pods_have_room() {
    let ground = Ground::new();
    let world = World {
        namespaces: (0..NAMESPACES).map(namespace).collect(),
        pods: (0..PODS).map(pod).collect(),
        policies: (0..POLICIES).map(policy).collect(),
        is_late: false,
    };
    let api = Api::start(&ground, &world);
    let agent = enforcing(&ground, &api);
    ground.await_file(CONFLIST);
    assert_eq!(metric(&ground, "manx_agent_policy_objects{object=\"pods\"}"), PODS as f64);
    assert_eq!(metric(&ground, "manx_agent_policy_pods{state=\"isolated\"}"), LOCAL as f64);
    // The tests' own agent is a debug build, and says nothing of one that is shipped.
    let is_shipped = program() != Path::new(AGENT);
    let reads = || metric(&ground, "manx_agent_policy_reads_total");
    let (before, changes) = (reads(), if is_shipped { 40 } else { 6 });
    let begun = agent.processor_ms();
    let (mut policy, mut pod) = (policy(0), pod(1));
    let mut took: Vec<f64> = (1..=changes)
        .map(|number| {
            if number % 2 == 0 {
                // One that nothing else of the table has.
                let port = 20_000 + number;
                policy["spec"]["ingress"][0]["ports"] = json!([{"port": port}]);
                return in_force_ms(
                    &ground,
                    &api,
                    &policy,
                    ["set", "allow-in"],
                    Some(&format!(" . {port}")),
                );
            }
            pod["metadata"]["labels"]["app.kubernetes.io/name"] =
                json!(format!("app-{}", number / 2 % 2 + 1));
            in_force_ms(&ground, &api, &pod, ["map", "class-in4"], None)
        })
        .collect();
    // Others do not touch the table: what it holds is known.
    let reads = reads() - before;
    assert!(reads < f64::from(changes), "the table was read {reads} times: {}", ground.log());
    took.sort_by(f64::total_cmp);
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    let ended = agent.processor_ms();
    let [ran, waited] = [0, 1].map(|at| (ended[at] - begun[at]) / f64::from(changes));
    // Who asks for metrics meanwhile is part of it.
    println!(
        "for each change the agent ran for {ran:.1} ms, and waited {waited:.1} ms for a processor"
    );
    let [own, most] = agent.memory_kib();
    println!(
        "{own} KiB of memory, {most} KiB at most with the program; a change is in force \
              after {median:.1} ms, at most {longest:.1}"
    );
    assert!(own <= MEMORY_KIB_MAX, "{own} KiB: {}", ground.log());
    if is_shipped {
        assert!(most <= MEMORY_KIB_MAX, "{most} KiB: {}", ground.log());
        let busy = "the machine is busy, and this is no measurement";
        let why = if waited > ran / 2.0 { busy } else { "too slow" };
        assert!(median <= IN_FORCE_MS_MAX, "{median:.1} ms: {why}: {}", ground.log());
    }
}
