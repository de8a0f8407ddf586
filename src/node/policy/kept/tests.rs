// SPDX-License-Identifier: Apache-2.0
//! An agent's table, and what others do to it, in network namespaces of the tests.

use std::{fs, process, thread};

use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::*;
use crate::{nft::policy::Grant, node::policy::held, policy::read};

/// Does that on a thread with a network namespace and a root of its own.
fn alone(name: &str, what: impl FnOnce(&Root) + Send) {
    let directory = std::env::temp_dir().join(format!("manx-kept-{name}-{}", process::id()));
    fs::create_dir_all(&directory).unwrap();
    let root = Root::new(&directory);
    let ended = thread::scope(|scope| {
        let within = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            what(&root);
        });
        within.join()
    });
    fs::remove_dir_all(&directory).unwrap();
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// What others do, and how.
type Deed = (&'static str, fn(&mut Policies));

/// Two pods of node `n` that speak to each other alone, and to a network.
fn world() -> World {
    let pod = |name: &str, ips: [&str; 2]| {
        json!({"kind": "Pod", "metadata": {"namespace": "x", "name": name, "uid": name,
                "labels": {"app": name}}, "spec": {"nodeName": "n"},
            "status": {"podIPs": [{"ip": ips[0]}, {"ip": ips[1]}]}})
    };
    let peers = json!([{"podSelector": {}}, {"ipBlock": {"cidr": "10.9.0.0/16"}}]);
    let ports = json!([{"port": 80}, {"port": 90, "endPort": 99}]);
    let list = json!({"kind": "List", "items": [
        pod("a", ["10.0.0.1", "fd00::1"]), pod("b", ["10.0.0.2", "fd00::2"]),
        {"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "p"},
         "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
                  "ingress": [{"from": peers, "ports": ports}], "egress": [{"to": peers}]}}]});
    read(list.to_string().as_bytes()).unwrap().world
}

/// Whatever is taken out of any set or map, or put there: it is noticed without a look at the
/// time, and mended; and connections that began meanwhile are looked for.
#[test]
fn whatever_others_change_of_what_the_table_holds_is_noticed_and_mended() {
    let deeds: [Deed; 9] = [
        ("a class at egress is gone", |it| {
            it.ways[0].classes.pop_first();
        }),
        ("a class at ingress is gone", |it| {
            it.ways[1].classes.pop_last();
        }),
        ("a class is another", |it| {
            it.ways[1].classes.insert([10, 0, 0, 1].into(), 77);
        }),
        ("an identity is gone", |it| {
            it.identities.pop_first();
        }),
        ("a stranger has an identity", |it| {
            let known = *it.identities.values().next().unwrap();
            it.identities.insert([10, 0, 0, 7].into(), known);
        }),
        ("a pod does not hear itself", |it| {
            it.own.pop_first();
        }),
        ("a grant is gone", |it| {
            it.ways[1].grants.pop_last();
        }),
        ("anybody is let in", |it| {
            let (grant, _) = it.ways[1].grants.first_key_value().unwrap();
            it.ways[1].grants.insert(Grant { protocol: 0, peer: 0, port: 0, ..*grant }, 0);
        }),
        ("a network is gone", |it| {
            it.ways[1].networks.pop_first();
        }),
    ];
    alone("changed", |root| {
        let (world, mut kept) = (world(), Kept::new("n", Denial::default(), root));
        assert!(kept.pass(&world, true).unwrap().changed);
        let before = held().unwrap().unwrap();
        for (deed, act) in deeds {
            assert!(!kept.is_overtaken().unwrap(), "{deed}");
            let mut other = held().unwrap().unwrap();
            act(&mut other);
            assert_ne!(other, before, "{deed}");
            other.enforce().unwrap();
            assert!(kept.is_overtaken().unwrap(), "{deed}");
            let done = kept.pass(&world, true).unwrap();
            assert_eq!(done, Done { changed: true, read: true, restricts: true }, "{deed}");
            assert_eq!(held().unwrap().unwrap(), before, "{deed}");
        }
        assert_eq!(kept.pass(&world, false).unwrap(), Done::default());
    });
}
