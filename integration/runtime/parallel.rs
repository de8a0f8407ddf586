// SPDX-License-Identifier: Apache-2.0
//! Many at once: what a node does when it is drained and filled.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Host, Plugin, Pod, Reply};
use crate::node::{address, assert_clean, fixed, host_local, journal, leases, manx, script};

/// Does the same for all pods at the same time.
fn at_once(pods: &[Pod], act: impl Fn(&Pod) -> Reply + Sync) -> Vec<Reply> {
    thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(move || act(pod))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// ADDs all, looks at what came of it, DELs all.
fn fill_and_drain(plugin: &Plugin, pods: &[Pod]) {
    let host = plugin.host();
    let results: Vec<Value> =
        at_once(pods, |pod| plugin.add(pod)).into_iter().map(Reply::ok).collect();
    let addresses: BTreeSet<String> = results.iter().map(address).collect();
    assert_eq!(addresses.len(), pods.len(), "every pod has its own address");
    assert_eq!(leases(host).into_iter().collect::<BTreeSet<_>>(), addresses);
    assert_eq!(journal(host).len(), pods.len());
    let host_links = host.links().iter().filter(|name| name.starts_with("cali")).count();
    assert_eq!(host_links, pods.len());
    for (pod, result) in pods.iter().zip(&results) {
        assert_eq!(pod.netns.addresses("eth0"), [format!("{}/32", address(result))]);
    }
    let (first, last) = (&pods[0], &pods[pods.len() - 1]);
    assert!(first.netns.pings(&address(&results[pods.len() - 1])));
    assert!(host.pings(&address(&results[0])));
    plugin.check(last, &results[pods.len() - 1]).ok();
    for reply in at_once(pods, |pod| plugin.del(pod)) {
        assert!(reply.succeeded(), "{reply:?}");
    }
    assert_clean(host);
}

#[test]
fn a_hundred_pods_come_and_go_at_once() {
    let (host, _outside) = Host::with_uplink();
    let plugin =
        manx(&host, &host_local(&host, &["10.1.0.0/24"])).with("ipMasq", Value::Bool(true));
    let pods: Vec<Pod> = (0..100).map(|_| Pod::new("p")).collect();
    fill_and_drain(&plugin, &pods);
    plugin.gc(&[]).ok();
    assert_eq!(host.command("nft", &["list", "tables"]).ok(), "");
}

#[test]
fn pods_whose_ids_begin_alike_come_and_go_at_once() {
    let (host, _outside) = Host::with_uplink();
    let plugin = manx(&host, &host_local(&host, &["10.1.0.0/25"]));
    let pods: Vec<Pod> = (0..50).map(|_| Pod::new("abcdefghijkl-")).collect();
    fill_and_drain(&plugin, &pods);
}

#[test]
fn adds_and_dels_of_a_pod_that_is_recreated_do_not_meet() {
    let (host, _outside) = Host::with_uplink();
    let plugin = manx(&host, &host_local(&host, &["10.1.0.0/25"]));
    let old: Vec<Pod> =
        (0..20).map(|n| Pod::new("o").kubernetes("shop", &format!("web-{n}"))).collect();
    let new: Vec<Pod> =
        (0..20).map(|n| Pod::new("n").kubernetes("shop", &format!("web-{n}"))).collect();
    at_once(&old, |pod| plugin.add(pod)).into_iter().for_each(|reply| drop(reply.ok()));
    // The new sandboxes start while the old ones are being removed.
    let added = thread::scope(|scope| {
        let adds = scope.spawn(|| at_once(&new, |pod| plugin.add(pod)));
        for reply in at_once(&old, |pod| plugin.del(pod)) {
            assert!(reply.succeeded(), "{reply:?}");
        }
        adds.join().unwrap()
    });
    for (pod, reply) in new.iter().zip(added) {
        let result = reply.ok();
        assert!(host.pings(&address(&result)), "{result}");
        plugin.check(pod, &result).ok();
    }
    for reply in at_once(&new, |pod| plugin.del(pod)) {
        assert!(reply.succeeded(), "{reply:?}");
    }
    assert_clean(&host);
}

/// A name that is taken between our look at it and the link's creation: here by
/// somebody else, while IPAM is busy.
#[test]
fn a_name_that_is_snatched_stays_with_whom_it_belongs() {
    let (host, _outside) = Host::with_uplink();
    let pod = Pod::new("abcdefghijkl-");
    let lease = r#"{"ips":[{"address":"10.1.0.5/24"}]}"#;
    let snatch = |name: &str| {
        let add = format!("ip link add {name} type veth peer name snatched && echo '{lease}'");
        script(
            &host,
            "snatching",
            &format!("cat >/dev/null; [ $CNI_COMMAND != ADD ] || {{ {add}; }}"),
        );
    };
    let plugin = manx(&host, &json!({"type": "snatching"}));
    let theirs = |name: &str| {
        let link = host.link(name).expect("their link is there");
        link["ifalias"].is_null() && link["group"] == "default"
    };
    snatch("caliabcdefghijk");
    let result = plugin.add(&pod).ok();
    assert_ne!(result["interfaces"][0]["name"], "caliabcdefghijk");
    assert!(host.pings("10.1.0.5") && theirs("caliabcdefghijk"));
    plugin.check(&pod, &result).ok();
    plugin.del(&pod).ok();
    assert!(theirs("caliabcdefghijk"));
    host.command("ip", &["link", "del", "caliabcdefghijk"]).ok();
    assert_clean(&host);

    // In Kubernetes the name stands for the pod, so that there is no other.
    let pod = Pod::new("x").kubernetes("shop", "web-0");
    let probe = manx(&host, &fixed(&["10.1.0.5/24"]));
    let name = probe.add(&pod).ok()["interfaces"][0]["name"].as_str().unwrap().to_owned();
    probe.del(&pod).ok();
    snatch(&name);
    let error = plugin.add(&pod).error();
    assert!(error["msg"].as_str().unwrap().contains(&name), "{error}");
    plugin.del(&pod).ok();
    assert!(theirs(&name) && pod.netns.links().is_empty() && journal(&host).is_empty());
}
