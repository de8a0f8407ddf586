// SPDX-License-Identifier: Apache-2.0
//! Whatever changes while packets pass: none arrives that the policies deny before and
//! after the change, and each that they allow before and after it does.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, NODE};
use crate::flood::{Flood, Kind, Progress, load};
use crate::killed::killed;

/// Seconds for each kind of change; hack/bench takes longer.
const SECONDS: &str = "MANX_LEAK_SECONDS";

/// So many packets a second are sent at least, or nothing was seen.
const RATE: u64 = 20_000;
/// So often it is tried on a machine that has much else to do.
const ATTEMPTS: usize = 3;

/// What is sent. The first pod may speak to the second by one port and by a range of ports to
/// the fourth, which it knows as a network. The second one refuses another port, and for the
/// third the first one has no leave.
const KINDS: [Kind; 4] = [
    Kind { from: 0, to: 1, port: 8000, allowed: true },
    Kind { from: 0, to: 1, port: 8001, allowed: false },
    Kind { from: 0, to: 3, port: 8000, allowed: true },
    Kind { from: 0, to: 2, port: 8000, allowed: false },
];

/// The object of a pod, by its place.
fn pod(place: u8, labels: Value) -> Value {
    let last = place + 10;
    let ips = [format!("10.244.1.{last}"), format!("fd00:244:1::{last}")];
    json!({"kind": "Pod", "metadata": {"namespace": "x", "name": format!("pod-{place}"),
           "labels": labels}, "spec": {"nodeName": NODE}, "status": {"podIP": ips[0],
           "podIPs": [{"ip": ips[0]}, {"ip": ips[1]}]}})
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": name}, "spec": spec})
}

fn selector(labels: Value) -> Value {
    json!({"matchLabels": labels})
}

/// What web pods let clients do, and others if there are any.
fn web(name: &str, of: Value, ports: &[u16]) -> Value {
    let ports: Vec<Value> =
        ports.iter().map(|port| json!({"protocol": "UDP", "port": port})).collect();
    let from = json!([{"podSelector": selector(json!({"app": "client"}))}]);
    policy(name, json!({"podSelector": selector(of), "ingress": [{"from": from, "ports": ports}]}))
}

/// What clients may do: speak to web pods and to some networks.
fn client(networks: &[&str]) -> Value {
    let range =
        |first: u16, last: u16| json!([{"protocol": "UDP", "port": first, "endPort": last}]);
    let blocks: Vec<Value> =
        networks.iter().map(|cidr| json!({"ipBlock": {"cidr": cidr}})).collect();
    let to = json!([{"podSelector": selector(json!({"app": "web"}))}]);
    policy(
        "client",
        json!({"podSelector": selector(json!({"app": "client"})), "policyTypes": ["Egress"],
               "egress": [{"to": to, "ports": range(8000, 8001)},
                          {"to": blocks, "ports": range(7990, 8010)}]}),
    )
}

/// Both addresses of the fourth pod.
const FOURTH: [&str; 2] = ["10.244.1.13/32", "fd00:244:1::13/128"];

/// A cluster in which [`KINDS`] is true; pods and policies beside the usual ones.
fn world(more: &[Value]) -> Value {
    of(
        &[json!({"app": "client"}), json!({"app": "web"})],
        &[&[client(&FOURTH), web("web", json!({"app": "web"}), &[8000])], more].concat(),
    )
}

/// One with other labels of the first two pods, and with these objects.
fn of([first, second]: &[Value; 2], objects: &[Value]) -> Value {
    let mut items = vec![pod(0, first.clone()), pod(1, second.clone())];
    items.extend((2..5).map(|place| pod(place, json!({"app": "other"}))));
    items.extend(objects.iter().cloned());
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// What changes, from the one to the other and back.
fn changes() -> Vec<(&'static str, [Value; 2])> {
    let labels = || [json!({"app": "client"}), json!({"app": "web"})];
    let web_of = |set: &str, ports: &[u16]| web(set, json!({"set": set}), ports);
    let of_sets = |set: &str| {
        of(
            &[json!({"app": "client"}), json!({"app": "web", "set": set})],
            &[client(&FOURTH), web_of("one", &[8000]), web_of("two", &[7000, 8000])],
        )
    };
    let more = ["10.244.1.16/31", "fd00:244:1::10:0/112"];
    let all_of_web = |ports: &[u16]| web("web", json!({"app": "web"}), ports);
    let tiers = |first: Value| {
        let only = policy(
            "tiers",
            json!({"podSelector": selector(json!({"app": "web"})), "ingress": [
                {"from": [{"podSelector": selector(json!({"tier": "a"}))}], "ports": [{"port": 9}]}]}),
        );
        of(&[first, json!({"app": "web"})], &[client(&FOURTH), all_of_web(&[8000]), only])
    };
    let added = {
        let web = web("more", json!({"app": "web"}), &[7000, 7001]);
        let to = json!([{"podSelector": selector(json!({"app": "client"}))}]);
        let client = policy(
            "more-client",
            json!({"podSelector": selector(json!({"app": "client"})), "policyTypes": ["Egress"],
                   "egress": [{"to": to}]}),
        );
        world(&[web, client])
    };
    let come = [pod(5, json!({"app": "client"})), pod(6, json!({"app": "web"}))];
    let changed = {
        let networks = [FOURTH, more].concat();
        of(&labels(), &[client(&networks), all_of_web(&[7000, 8000])])
    };
    // Of both ends at once. Between the lookup of the one and that of the other the table may
    // change.
    let pair = |set: &str| {
        let both = |app: &str, set: &str| json!({"app": app, "set": set});
        let pods = [both("client", set), both("web", set)];
        let mut policies = Vec::new();
        for set in ["one", "two"] {
            let [of_client, of_web] = ["client", "web"].map(|app| selector(both(app, set)));
            let ports = |first: u16, last: u16| json!([{"protocol": "UDP", "port": first, "endPort": last}]);
            let blocks = FOURTH.map(|cidr| json!({"ipBlock": {"cidr": cidr}}));
            let to = json!([{"to": [{"podSelector": of_web}], "ports": ports(8000, 8001)},
                            {"to": blocks, "ports": ports(7990, 8010)}]);
            policies.push(policy(
                &format!("client-{set}"),
                json!({"podSelector": of_client, "policyTypes": ["Egress"], "egress": to}),
            ));
            let from = json!([{"from": [{"podSelector": of_client}], "ports": ports(8000, 8000)}]);
            let name = format!("web-{set}");
            policies.push(policy(&name, json!({"podSelector": of_web, "ingress": from})));
        }
        of(&pods, &policies)
    };
    vec![
        ("a policy comes and goes", [world(&[]), added]),
        ("a policy changes", [world(&[]), changed]),
        (
            "labels of a peer change",
            [tiers(json!({"app": "client"})), tiers(json!({"app": "client", "tier": "a"}))],
        ),
        ("a pod comes and goes", [world(&[]), world(&come)]),
        ("the class of a pod changes", [of_sets("one"), of_sets("two")]),
        ("the classes of both pods change", [pair("one"), pair("two")]),
    ]
}

fn seconds() -> Duration {
    let given = std::env::var(SECONDS).ok().map(|text| text.parse().unwrap());
    Duration::from_secs(given.unwrap_or(5))
}

/// Damages a rule in a way that lets nothing pass: what is made again is all of the table.
pub fn damage(cluster: &Cluster) {
    load(&cluster.host, "add rule inet manx.policy egress4 counter").ok();
}

/// Keeps two floods apart, each of which wants a processor.
static ONE: Mutex<()> = Mutex::new(());

fn flood(cluster: &Cluster, what: &str, change: &mut dyn FnMut(u64, &Progress<'_>)) {
    let mut rates = Vec::new();
    while rates.len() < ATTEMPTS {
        let flood = Flood::during(cluster, &KINDS, seconds(), 10, change);
        println!("{what}: {flood}");
        assert_eq!((flood.leaked, flood.lost), (0, 0), "{what}: {flood}");
        rates.push(flood.rate());
        if flood.rate() >= RATE {
            return;
        }
    }
    panic!(
        "{what}: this machine sends {rates:?} packets a second, too few to see a short moment: it \
         takes {RATE}. Let nothing else run meanwhile"
    );
}

#[test]
fn nothing_leaks_and_nothing_is_lost_while_something_changes() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::new();
    for (what, worlds) in changes() {
        cluster.apply(&worlds[0]).ok();
        flood(&cluster, what, &mut |count, _| {
            let changed = cluster.apply(&worlds[1 - count as usize % 2]).ok();
            assert_ne!(changed, "", "{what}: nothing changed");
        });
    }
    let [(_, [one, _]), (_, [_, other]), ..] = &changes()[..] else { panic!() };
    cluster.apply(one).ok();
    flood(&cluster, "the whole table is made again", &mut |_, _| {
        damage(&cluster);
        assert!(cluster.apply(one).ok().contains("nftables table manx.policy"));
    });
    flood(&cluster, "the rules are others", &mut |count, _| {
        let options = [&["--log", "7"][..], &[]][count as usize % 2];
        assert!(cluster.apply_with(options, one).ok().contains("nftables table manx.policy"));
    });
    cluster.apply(one).ok();
    let (file, root) = (cluster.file(), cluster.root());
    let args = ["policy", "apply", &file, "--node", NODE, "--root", root.to_str().unwrap()];
    let mut kills = 0;
    flood(&cluster, "an apply is killed and run again", &mut |count, _| {
        let world = [other, one][count as usize % 2];
        std::fs::write(&file, world.to_string()).unwrap();
        kills += 1;
        if !killed(&cluster, &args, kills) {
            kills = 0;
        }
        cluster.apply(world).ok();
    });
}

/// What this test is worth: a change that opens a pod for a moment, and one that closes it.
#[test]
fn a_change_in_two_moments_is_noticed() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::new();
    let world = world(&[]);
    cluster.apply(&world).ok();
    let during = |broken: &str| {
        let mut change = |_, progress: &Progress<'_>| {
            load(&cluster.host, broken).ok();
            progress.wait(1000);
            cluster.apply(&world).ok();
        };
        Flood::during(&cluster, &KINDS, Duration::ZERO, 3, &mut change)
    };
    for set in ["class-in4", "class-in6", "class-out4", "class-out6"] {
        let flood = during(&format!("flush map inet manx.policy {set}"));
        assert!(flood.leaked > 100 && flood.lost == 0, "{set}: {flood:?}");
    }
    for set in ["map inet manx.policy ident4", "set inet manx.policy allow-in"] {
        let flood = during(&format!("flush {set}"));
        assert!(flood.lost > 100 && flood.leaked == 0, "{set}: {flood:?}");
    }
    let flood = during("delete table inet manx.policy");
    assert!(flood.leaked > 100 && flood.lost == 0, "{flood:?}");
}
