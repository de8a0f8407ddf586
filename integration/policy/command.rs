// SPDX-License-Identifier: Apache-2.0
//! What the commands say, and how they end.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cases;
use crate::cluster::{Cluster, NODE, Pod};
use crate::harness::DEADLINE;
use crate::scenario::speaks;

fn pod(name: &str, last: u8) -> Value {
    let ips = [format!("10.244.1.{last}"), format!("fd00:244:1::{last}")];
    json!({"kind": "Pod", "metadata": {"namespace": "x", "name": name, "labels": {"app": name}},
           "spec": {"nodeName": NODE}, "status": {"podIP": ips[0],
           "podIPs": [{"ip": ips[0]}, {"ip": ips[1]}]}})
}

fn world(policies: &[Value]) -> Value {
    let mut items = vec![pod("web", 10), pod("client", 11), pod("other", 12)];
    items.extend(policies.iter().cloned());
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": name}, "spec": spec})
}

fn only_clients() -> Value {
    let from = json!([{"podSelector": {"matchLabels": {"app": "client"}}}]);
    policy(
        "clients",
        json!({"podSelector": {"matchLabels": {"app": "web"}},
                             "ingress": [{"from": from, "ports": [{"port": 80}]}]}),
    )
}

fn rules(cluster: &Cluster) -> Vec<String> {
    let listed = cluster.host.command("nft", &["-a", "list", "ruleset"]).ok();
    listed.lines().filter(|line| line.contains("# handle")).map(str::to_owned).collect()
}

#[test]
fn a_plan_is_what_apply_does_and_then_there_is_none() {
    let cluster = Cluster::new();
    let world = world(&[only_clients()]);
    let plan = || cluster.manx(&["plan", "WORLD", "--node", NODE], &world);
    let planned = plan();
    assert_eq!(planned.status, 3, "{planned:?}");
    for line in [
        "+ nftables table manx.policy: the rules by which network policies are enforced",
        "+ ingress of pod x/web 10.244.1.10: isolated by x/clients",
        "+ ingress of pod x/web fd00:244:1::10: isolated by x/clients",
        "+ peers that policies name: 2, of which 2 are new",
        "+ what ingress allows: 1, of which 1 are new",
    ] {
        assert!(planned.stdout.lines().any(|it| it == line), "{line}: {}", planned.stdout);
    }
    assert_eq!(cluster.apply(&world).ok(), planned.stdout);
    let again = plan();
    assert_eq!((again.status, again.stdout.as_str()), (0, ""), "{again:?}");
    assert_eq!(cluster.apply(&world).ok(), "");
    assert!(again.stderr.contains("nothing to change"), "{again:?}");
}

#[test]
fn what_is_enforced_is_shown_until_it_is_removed() {
    let cluster = Cluster::new();
    let nothing = json!({});
    let show = |args: &[&str]| cluster.manx(&[&["show"], args].concat(), &nothing).ok();
    let parsed = || -> Value { serde_json::from_str(&show(&["--json"])).unwrap() };
    assert_eq!(parsed(), json!({"enforced": false, "peers": 0, "pods": []}));
    let closed = policy(
        "closed",
        json!({"podSelector": {"matchLabels": {"app": "other"}},
                                         "policyTypes": ["Egress"]}),
    );
    cluster.apply(&world(&[only_clients(), closed])).ok();
    let pods = parsed()["pods"].as_array().unwrap().clone();
    assert_eq!(pods.len(), 4);
    assert_eq!((&pods[0]["address"], &pods[0]["egress"]), (&json!("10.244.1.10"), &Value::Null));
    assert_eq!(pods[0]["ingress"]["grants"], 1);
    let dropped = json!({"packets": 0, "bytes": 0});
    let egress = json!({"class": 1, "grants": 0, "networks": 0, "dropped": dropped});
    assert_eq!((&pods[1]["egress"], &pods[1]["pod"]), (&egress, &Value::Null));
    // From the third pod to the first: the one is dropped where it is sent, the other where it
    // would get in.
    let [sender, closed, web] = [1, 2, 0].map(|at| &cluster.pods[at]);
    for (from, to) in [(closed, web), (sender, web), (sender, web)] {
        for place in 0..2 {
            let heard = cluster.hears(to.addresses[place], || {
                let local = (from.addresses[place], 0);
                let socket = from.netns.enter(|| UdpSocket::bind(local).unwrap());
                socket.send_to(b"x", (to.addresses[place], 53)).unwrap();
            });
            assert!(heard.is_empty(), "{heard:?}");
        }
    }
    let lines = "ADDRESS POD EGRESS DROPPED INGRESS DROPPED\n\
                 10.244.1.10 - open - 1 grant 2 (58 B)\n\
                 10.244.1.12 - closed 1 (29 B) open -\n\
                 fd00:244:1::10 - open - 1 grant 2 (98 B)\n\
                 fd00:244:1::12 - closed 1 (49 B) open -\n";
    let squeezed = |text: &str| {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.collect::<Vec<_>>()
    };
    assert_eq!(squeezed(&show(&[])), squeezed(lines));
    for said in ["removed: all pods are open", "nothing to remove"] {
        let removed = cluster.manx(&["remove"], &nothing);
        assert_eq!((removed.status, removed.stderr.trim()), (0, said));
        // The lock goes as well: where it is, somebody touched the table.
        assert!(!cluster.root().join("run/manx/.policy").exists(), "{said}");
    }
    assert_eq!(parsed()["enforced"], false);
    assert!(rules(&cluster).is_empty());
}

/// A try to connect to a port that no policy opens.
fn refusal(from: &Pod, to: &Pod, place: usize, patience: Duration) -> ErrorKind {
    let to = SocketAddr::new(to.addresses[place], 81);
    from.netns.enter(|| TcpStream::connect_timeout(&to, patience)).unwrap_err().kind()
}

/// A reset comes before anybody has lost patience; what is dropped is answered by nobody.
#[test]
fn what_is_denied_is_rejected_or_logged_where_that_is_asked_for() {
    let cluster = Cluster::new();
    let world = world(&[only_clients()]);
    let [web, client] = [&cluster.pods[0], &cluster.pods[1]];
    let short = Duration::from_millis(50);
    cluster.apply(&world).ok();
    for place in 0..2 {
        assert_eq!(refusal(client, web, place, short), ErrorKind::TimedOut);
    }
    let plan = |options: &[&str]| {
        cluster.manx(&[&["plan", "WORLD", "--node", NODE], options].concat(), &world)
    };
    let listed = || cluster.host.command("nft", &["list", "table", "inet", "manx.policy"]).ok();
    let both = ["--reject", "--log", "5"];
    for (options, rejects, logs) in [
        (&["--reject"][..], true, false),
        (&["--log", "5"], false, true),
        (&both, true, true),
        (&[], false, false),
        (&both, true, true),
    ] {
        let planned = plan(options);
        assert_eq!(planned.status, 3, "{planned:?}");
        assert!(planned.stdout.contains("~ nftables table manx.policy"), "{planned:?}");
        assert_eq!(cluster.apply_with(options, &world).ok(), planned.stdout);
        assert_eq!(plan(options).status, 0);
        let listed = listed();
        assert_eq!(listed.contains("reject with tcp reset"), rejects, "{listed}");
        assert_eq!(listed.contains("log prefix \"manx ingress: \" group 5"), logs, "{listed}");
        for place in 0..2 {
            if rejects {
                let told = refusal(client, web, place, DEADLINE);
                assert_eq!(told, ErrorKind::ConnectionRefused);
            } else {
                assert_eq!(refusal(client, web, place, short), ErrorKind::TimedOut);
            }
        }
    }
    // What is allowed is allowed.
    for place in 0..2 {
        let there = SocketAddr::new(web.addresses[place], 80);
        speaks(&client.netns, &web.netns, there, there);
    }
    for group in ["65536", "-1", "x", ""] {
        let refused = cluster.apply_with(&["--log", group], &world);
        assert!(refused.status == 2 && refused.stderr.contains("NFLOG"), "{refused:?}");
    }
}

/// Rules, chains and sets stay, to the number of each.
#[test]
fn nothing_but_elements_changes() {
    let cluster = Cluster::new();
    cluster.apply(&world(&[])).ok();
    let before = rules(&cluster);
    assert!(before.len() > 51, "{before:?}");
    for case in cases::all().iter().rev().take(30) {
        for step in &case.steps {
            cluster.apply(&step.world).ok();
        }
    }
    cluster.apply(&world(&[only_clients()])).ok();
    assert_eq!(rules(&cluster), before);
}

#[test]
fn what_would_open_pods_by_mistake_is_refused() {
    let cluster = Cluster::new();
    let world = world(&[only_clients()]);
    cluster.apply(&world).ok();
    let before = cluster.host.command("nft", &["list", "ruleset"]).ok();
    let other = json!({"kind": "List", "items": [{"kind": "Service", "metadata": {"name": "s"}}]});
    for (args, world, words) in [
        (&["apply", "WORLD", "--node", "elsewhere"][..], &world, "no pod runs on node elsewhere"),
        (&["apply", "WORLD", "--node", NODE], &other, "Service"),
        (&["apply", "/nowhere", "--node", NODE], &world, "/nowhere"),
        (&["apply", "WORLD", "--node", NODE], &json!({"kind": "Pod"}), "missing field"),
    ] {
        let refused = cluster.manx(args, world);
        assert_eq!((refused.status, refused.stdout.as_str()), (1, ""), "{refused:?}");
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    for args in [&["apply"][..], &["plan"], &["show", "more"], &["frobnicate"], &[]] {
        assert_eq!(cluster.manx(args, &world).status, 2, "{args:?}");
    }
    assert_eq!(cluster.host.command("nft", &["list", "ruleset"]).ok(), before);
}

#[test]
fn what_cannot_be_read_of_a_policy_is_told() {
    let cluster = Cluster::new();
    let from = json!([{"ipBlock": {"cidr": "10.0.0.0"}}]);
    let world = world(&[policy("odd", json!({"podSelector": {}, "ingress": [{"from": from}]}))]);
    let applied = cluster.apply(&world);
    let note = "note: NetworkPolicy x/odd: \"10.0.0.0\" is not an address with a prefix length";
    assert!(applied.status == 0 && applied.stderr.contains(note), "{applied:?}");
}
