// SPDX-License-Identifier: Apache-2.0
//! Network policies that the configuration asks for: what a pod may do from its first packet
//! on, whatever is known of it.

mod crowd;
mod denial;
mod endures;
mod explain;
mod leaving;
mod mended;
mod released;

use std::fs;
use std::path::Path;
use std::thread;

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Finished, Pod, eventually};
use crate::network::{Network, address, text};

const MANX: &str = env!("CARGO_BIN_EXE_manx");
const NODE: &str = "node-a";

fn enforcing() -> Network {
    Network::new()
        .dual()
        .with("networkPolicy", json!("enforce"))
        .with("networkPolicyWait", json!(0))
}

/// A container of pod test/NAME, as the API server knows it by that uid.
fn pod(name: &str, uid: &str) -> Pod {
    let pod = Pod::new("a").kubernetes("test", name);
    let args = pod.args.clone().unwrap();
    Pod { args: Some(format!("{args};K8S_POD_UID={uid}")), ..pod }
}

/// A pod of the API server, which has no address there yet.
fn known(name: &str, uid: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"namespace": "test", "name": name, "uid": uid,
                                       "labels": {"app": name}},
           "spec": {"nodeName": NODE}})
}

/// A policy: only pods with that label may speak to the ones of a name.
fn only(to: &str, from: &str) -> Value {
    let name = format!("only-{from}");
    let from = json!([{"podSelector": {"matchLabels": {"app": from}}}]);
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": "test", "name": name},
           "spec": {"podSelector": {"matchLabels": {"app": to}}, "ingress": [{"from": from}]}})
}

fn manx(network: &Network, args: &[&str]) -> Finished {
    let root = network.root("").display().to_string();
    network.host().command(MANX, &[args, &["--root", &root]].concat())
}

/// `manx policy VERB WORLD`.
fn policy(network: &Network, verb: &str, items: &[Value]) -> Finished {
    let list = json!({"kind": "List", "items": items}).to_string();
    let file = network.host().scratch().file("world.json", &list);
    manx(network, &["policy", verb, &file.display().to_string(), "--node", NODE])
}

#[track_caller]
fn apply(network: &Network, items: &[Value]) {
    policy(network, "apply", items).ok();
}

/// That an apply would change nothing.
#[track_caller]
fn is_applied(network: &Network, items: &[Value]) {
    let plan = policy(network, "plan", items);
    assert_eq!((plan.status, plan.stdout.as_str()), (0, ""), "{plan:?}");
}

fn shown(network: &Network) -> Value {
    serde_json::from_str(&manx(network, &["policy", "show", "--json"]).ok()).unwrap()
}

/// The classes of an address at egress and at ingress.
fn classes(network: &Network, address: &str) -> [Option<u64>; 2] {
    let shown = shown(network);
    let pods = shown["pods"].as_array().unwrap();
    let pod = pods.iter().find(|pod| pod["address"] == address);
    ["egress", "ingress"].map(|way| pod?[way]["class"].as_u64())
}

const CLOSED: [Option<u64>; 2] = [Some(1), Some(1)];
const OPEN: [Option<u64>; 2] = [None, None];

/// Both addresses of an ADD's result.
fn addresses(result: &Value) -> [String; 2] {
    [address(result, 0), address(result, 1)]
}

#[track_caller]
fn are(network: &Network, result: &Value, expected: [Option<u64>; 2]) {
    for address in addresses(result) {
        assert_eq!(classes(network, &address), expected, "{address}");
    }
}

/// That the pod is isolated at ingress alone, as its policy says; who is not known is closed in
/// both directions.
#[track_caller]
fn is_under_policy(network: &Network, result: &Value) {
    for address in addresses(result) {
        let [egress, ingress] = classes(network, &address);
        assert!(egress.is_none() && ingress.is_some(), "{address}: {egress:?} {ingress:?}");
    }
}

#[test]
fn a_pod_is_closed_until_its_policies_are_known() {
    let network = enforcing();
    let (web, client) = (pod("web", "u1"), pod("client", "u2"));
    let reply = network.add(&web);
    assert!(reply.stderr.contains("test/web is closed"), "{reply:?}");
    let web_result = reply.ok();
    network.add(&client).ok();
    are(&network, &web_result, CLOSED);
    let [v4, v6] = addresses(&web_result);
    assert!(client.netns.keeps_silent(&v4) && client.netns.keeps_silent(&v6));
    assert!(web.netns.keeps_silent("192.0.2.1"));
    // A node may always speak to its pods, as for the kubelet's probes.
    assert!(network.host().pings(&v4) && network.host().pings(&v6));
    network.check(&web, &web_result).ok();

    let pods = [known("web", "u1"), known("client", "u2")];
    apply(&network, &pods);
    assert!(client.netns.pings(&v4) && client.netns.pings(&v6));
    are(&network, &web_result, OPEN);
    network.check(&web, &web_result).ok();

    let [web_known, client_known] = pods;
    let world = [web_known, client_known, only("web", "client")];
    apply(&network, &world);
    is_under_policy(&network, &web_result);
    assert!(client.netns.pings(&v4) && client.netns.pings(&v6));
    network.check(&web, &web_result).ok();

    // One that comes later has its numbers, as a peer too, before an apply knows its address.
    let again = pod("client", "u2");
    network.del(&client).ok();
    let again_result = network.add(&again).ok();
    assert!(again.netns.pings(&v4) && again.netns.pings(&v6));
    are(&network, &again_result, OPEN);
    is_applied(&network, &world);
    for pod in [&web, &again] {
        network.del(pod).ok();
    }
    assert_eq!(shown(&network)["pods"], json!([]));
}

/// An entry of its predecessor is none of a pod; where the runtime tells no uid, the name
/// has to do.
#[test]
fn another_pod_of_the_same_name_is_another_one() {
    let network = enforcing();
    let world = [known("web", "u1"), only("web", "client")];
    apply(&network, &world);
    let new = network.add(&pod("web", "u2")).ok();
    are(&network, &new, CLOSED);
    let same = network.add(&pod("web", "u1")).ok();
    is_under_policy(&network, &same);
    let nameless = network.add(&Pod::new("a").kubernetes("test", "web")).ok();
    is_under_policy(&network, &nameless);
    // Nor does an apply give it the numbers of the other.
    apply(&network, &world);
    are(&network, &new, CLOSED);
    is_under_policy(&network, &same);
    // Outside of Kubernetes nobody will ever say anything.
    let outside = network.with("networkPolicyWait", json!(60));
    let result = outside.add(&Pod::new("a")).ok();
    are(&outside, &result, CLOSED);
}

/// The process of the plugin, once it waits for a file.
fn is_waiting(container_id: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    processes.into_iter().any(|process| {
        let variables = fs::read(process.join("environ")).unwrap_or_default();
        let own = format!("CNI_CONTAINERID={container_id}");
        let is_it = variables.split(|byte| *byte == 0).any(|word| word == own.as_bytes());
        let files = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let is_inotify = |target: &Path| target.to_string_lossy().contains("inotify");
        is_it && files.filter_map(|file| fs::read_link(file.path()).ok()).any(|it| is_inotify(&it))
    })
}

#[test]
fn an_add_goes_on_as_soon_as_its_pod_is_known() {
    let network = enforcing().with("networkPolicyWait", json!(60));
    let (web, other) = (pod("web", "u1"), [known("other", "u9")]);
    thread::scope(|scope| {
        let adding = scope.spawn(|| network.add(&web));
        assert!(eventually(DEADLINE, || is_waiting(&web.id)), "{:?}", adding.join());
        // What is said of others does not end it.
        apply(&network, &other);
        apply(&network, &[known("web", "u0"), only("web", "client")]);
        assert!(is_waiting(&web.id));
        apply(&network, &[known("web", "u1"), only("web", "client")]);
        let reply = adding.join().unwrap();
        assert!(!reply.stderr.contains("closed"), "{reply:?}");
        is_under_policy(&network, &reply.ok());
    });
}

#[test]
fn a_pod_of_which_nothing_is_known_is_open_or_fails_where_it_is_to() {
    let network = enforcing().with("networkPolicyMissing", json!("allow"));
    let (web, client) = (pod("web", "u1"), pod("client", "u2"));
    let reply = network.add(&web);
    assert!(reply.stderr.contains("test/web is open"), "{reply:?}");
    let result = reply.ok();
    are(&network, &result, OPEN);
    network.add(&client).ok();
    assert!(client.netns.pings(&address(&result, 0)));
    network.check(&web, &result).ok();
    apply(&network, &[known("client", "u2"), only("client", "client")]);
    are(&network, &result, OPEN);

    let network = enforcing().with("networkPolicyMissing", json!("fail"));
    let web = pod("web", "u1");
    let before = network.remains();
    let error = network.add(&web).error();
    assert_eq!(error["code"], 50);
    let msg = text(&error["msg"]);
    assert!(msg.contains("pod test/web") && msg.contains("nobody has said"), "{msg}");
    assert_eq!(network.remains(), before);
    apply(&network, &[known("web", "u1"), only("web", "client")]);
    let result = network.add(&web).ok();
    is_under_policy(&network, &result);
}

/// Whoever flushes the ruleset opens nothing for longer than until the next ADD or STATUS.
#[test]
fn a_table_that_was_lost_is_made_again_whole() {
    let network = enforcing();
    let remote = json!({"kind": "Pod", "spec": {"nodeName": "node-b"},
        "metadata": {"namespace": "test", "name": "far", "labels": {"app": "client"}},
        "status": {"podIPs": [{"ip": "10.2.0.9"}, {"ip": "fd00:2::9"}]}});
    let block = json!({"kind": "NetworkPolicy", "metadata": {"namespace": "test", "name": "block"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
            {"from": [{"ipBlock": {"cidr": "10.9.0.0/16", "except": ["10.9.1.0/24"]}}],
             "ports": [{"port": 80, "endPort": 90}, {"port": 443}]}]}});
    let world = [known("web", "u1"), known("late", "u3"), remote, only("web", "client"), block];
    apply(&network, &world);
    let web = network.add(&pod("web", "u1")).ok();
    let unknown = network.add(&pod("unknown", "u2")).ok();
    // So that the file has addresses that are not the last word.
    apply(&network, &world);
    let late = pod("late", "u3");
    network.add(&late).ok();
    network.del(&late).ok();
    let elements = || network.host().command("nft", &["list", "table", "inet", "manx.policy"]).ok();
    let (whole, shown_before) = (elements(), shown(&network));
    let damages: [&[&str]; 6] = [
        &["flush", "ruleset"],
        &["delete", "table", "inet", "manx.policy"],
        &["flush", "chain", "inet", "manx.policy", "forward"],
        &["insert", "rule", "inet", "manx.policy", "forward", "accept"],
        &["flush", "chain", "inet", "manx.policy", "ingress4"],
        &["add", "table", "inet", "manx.policy", "{ flags dormant; }"],
    ];
    for damage in damages {
        network.host().command("nft", damage).ok();
        let late = pod("late", "u3");
        network.add(&late).ok();
        network.del(&late).ok();
        assert_eq!((elements(), shown(&network)), (whole.clone(), shown_before.clone()));
        network.host().command("nft", damage).ok();
        network.status().ok();
        assert_eq!((elements(), shown(&network)), (whole.clone(), shown_before.clone()));
    }
    is_under_policy(&network, &web);
    are(&network, &unknown, CLOSED);
    is_applied(&network, &world);
    // Where nobody has said anything, as after a boot, all are closed.
    manx(&network, &["policy", "remove"]).ok();
    let late = network.add(&pod("late", "u3")).ok();
    for result in [&web, &unknown, &late] {
        are(&network, result, CLOSED);
    }
    // What is applied by hand is no agent's.
    let keeper = network.root("run/manx/.policy/agent");
    std::fs::write(&keeper, "").unwrap();
    apply(&network, &world);
    assert!(!keeper.exists());
    is_under_policy(&network, &web);
    are(&network, &late, OPEN);
}

#[test]
fn check_tells_what_the_table_lacks() {
    let network = enforcing();
    apply(&network, &[known("web", "u1"), only("web", "client")]);
    let web = pod("web", "u1");
    let result = network.add(&web).ok();
    network.check(&web, &result).ok();
    let [v4, v6] = addresses(&result);
    let class = classes(&network, &v6)[1].unwrap();
    let table = ["inet", "manx.policy"];
    for (damage, words) in [
        (vec!["delete", "element", "class-in4", &v4], "class-in4 of table inet manx.policy lacks"),
        (vec!["delete", "element", "class-in6", &v6], "class-in6 of table inet manx.policy lacks"),
        (vec!["flush", "set", "self4"], "self4 of table inet manx.policy lacks"),
        (vec!["flush", "chain", "ingress6"], "table inet manx.policy is missing, or others"),
        (vec!["delete", "table"], "table inet manx.policy is missing, or others"),
    ] {
        let (verb, rest) = damage.split_at(2.min(damage.len()));
        let element =
            rest.last().filter(|_| damage[1] == "element").map(|it| format!("{{ {it} }}"));
        let mut args: Vec<&str> = verb.iter().copied().chain(table).collect();
        args.extend(rest.first());
        args.extend(element.as_deref());
        network.host().command("nft", &args).ok();
        let error = network.check(&web, &result).error();
        let msg = text(&error["msg"]);
        assert!(error["code"] == 102 && msg.contains(words), "{args:?}: {msg}");
        apply(&network, &[known("web", "u1"), only("web", "client")]);
        network.check(&web, &result).ok();
    }
    let element = format!("{{ {v6} : 1 }}");
    let args = ["add", "element", "inet", "manx.policy", "class-out6", &element];
    network.host().command("nft", &args).ok();
    let msg = text(&network.check(&web, &result).error()["msg"]);
    assert!(msg.contains(&format!("holds besides {v6} : 1")), "{msg}");
    assert!(classes(&network, &v6)[1] == Some(class));
}

/// Whichever comes first, pods have what the applied world says.
#[test]
fn pods_that_come_while_policies_are_applied_are_under_them() {
    let network = enforcing();
    let names: Vec<String> = (0..24).map(|number| format!("web-{number}")).collect();
    let pods = names.iter().map(|name| {
        let mut pod = known(name, name);
        pod["metadata"]["labels"]["app"] = "web".into();
        pod
    });
    let pods: Vec<Value> = pods.collect();
    let world = |round: usize| {
        let from = if round.is_multiple_of(2) { "client" } else { "web" };
        pods.iter().cloned().chain([only("web", from)]).collect::<Vec<_>>()
    };
    apply(&network, &world(0));
    for (round, names) in names.chunks(4).enumerate() {
        let world = world(round + 1);
        thread::scope(|scope| {
            let adds: Vec<_> = names
                .iter()
                .map(|name| scope.spawn(|| network.add(&pod(name, name)).ok()))
                .collect();
            apply(&network, &world);
            for add in adds {
                is_under_policy(&network, &add.join().unwrap());
            }
        });
        is_applied(&network, &world);
    }
}

/// Nothing but the configuration decides.
#[test]
fn what_is_off_is_off_whatever_was_applied() {
    let network = enforcing().with("networkPolicy", json!("off"));
    apply(&network, &[known("web", "u1"), only("web", "client")]);
    let web = pod("web", "u1");
    let result = network.add(&web).ok();
    are(&network, &result, OPEN);
    network.check(&web, &result).ok();
    network.del(&web).ok();
    let network = Network::new();
    network.add(&pod("web", "u1")).ok();
    assert_eq!(shown(&network)["enforced"], false);
    assert!(!network.root("run/manx/.policy").exists());
}

#[test]
fn what_cannot_be_read_is_an_error_and_no_absence() {
    let network = enforcing().with("networkPolicyMissing", json!("allow"));
    let world = [known("web", "u1"), only("web", "client")];
    apply(&network, &world);
    let before = network.remains();
    let web = pod("web", "u1");
    let file = network.root("run/manx/policy.json");
    let written = fs::read_to_string(&file).unwrap();
    for (content, words) in [
        ("", "EOF"),
        ("[]", "it says no version"),
        ("{}", "it says no version"),
        (r#"{"version":2,"pods":[]}"#, "it is of version 2, and this manx reads 1"),
        (
            r#"{"version":1,"pods":{"test/web":{"egress":"x"}}}"#,
            "egress is \"x\", which is no number",
        ),
        (&written[..written.len() - 2], "EOF"),
    ] {
        fs::write(&file, content).unwrap();
        let error = network.add(&web).error();
        let msg = text(&error["msg"]);
        assert!(error["code"] == 5 && msg.contains("policy.json"), "{error}");
        assert!(msg.contains(words), "{words}: {msg}");
        assert!(text(&error["details"]).contains("manx policy apply"), "{error}");
        network.del(&web).ok();
        assert_eq!(network.remains(), before);
    }
    let doctor = manx(&network, &["doctor", "--only", "state-unreadable"]);
    assert!(doctor.stdout.contains("policy.json"), "{doctor:?}");
    apply(&network, &world);
    is_under_policy(&network, &network.add(&web).ok());
    // What would restore the table.
    network.host().command("nft", &["flush", "ruleset"]).ok();
    fs::write(network.root("run/manx/.policy/table.json"), r#"{"version":1,"sets":{}}"#).unwrap();
    let error = network.add(&pod("other", "u2")).error();
    assert!(error["code"] == 5 && text(&error["msg"]).contains("table.json"), "{error}");
}
