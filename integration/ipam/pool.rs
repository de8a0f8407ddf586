// SPDX-License-Identifier: Apache-2.0
//! Pools that are nearly full, and full: many at once, an address that changes
//! hands, the last one, and none.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::ground::{Ground, Program, address, content};
use crate::harness::{DEADLINE, Plugin, Pod, Reply, eventually};

/// Does the same for all pods at the same time.
fn at_once(pods: &[Pod], act: impl Fn(&Pod) -> Reply + Sync) -> Vec<Reply> {
    thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(move || act(pod))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// One set: so many addresses from 10.1.0.10 on.
fn pool(ground: &Ground, size: u8) -> Value {
    let last = format!("10.1.0.{}", 9 + size);
    ground
        .ipam_of(json!([[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": last}]]))
}

#[test]
fn a_hundred_at_once_out_of_128() {
    let ground = Ground::with_uplink();
    let plugin = ground.manx(&pool(&ground, 128));
    let pods: Vec<Pod> = (0..100).map(|_| Pod::new("p")).collect();
    let results: Vec<Value> =
        at_once(&pods, |pod| plugin.add(pod)).into_iter().map(Reply::ok).collect();
    let addresses: BTreeSet<String> = results.iter().map(address).collect();
    assert_eq!(addresses.len(), pods.len(), "every pod has its own address");
    for (pod, result) in pods.iter().zip(&results) {
        assert_eq!(ground.leases()[&address(result)], content(pod));
    }
    for reply in at_once(&pods, |pod| plugin.del(pod)) {
        reply.ok();
    }
    assert!(ground.leases().is_empty(), "{:?}", ground.leases());
    assert_eq!(ground.host.links(), ["eth0"]);
}

#[test]
fn thirty_at_once_of_which_ten_find_none() {
    let ground = Ground::new();
    let plugin = ground.ipam_plugin(Program::Manx, &pool(&ground, 20));
    let pods: Vec<Pod> = (0..30).map(|n| ground.container(&format!("c{n}"), "eth0")).collect();
    let replies = at_once(&pods, |pod| plugin.add(pod));
    let (given, refused): (Vec<Reply>, Vec<Reply>) =
        replies.into_iter().partition(Reply::succeeded);
    let addresses: BTreeSet<String> = given.into_iter().map(|reply| address(&reply.ok())).collect();
    assert_eq!((addresses.len(), refused.len()), (20, 10));
    assert!(refused.iter().all(|reply| reply.code() == Some(11)), "{refused:?}");
    assert_eq!(ground.leases().len(), 20);
}

/// Asserts that the node's route to a pod leads into that pod's own link.
fn assert_led_to(ground: &Ground, address: &str, host_link: &str) {
    let routes = ground.host.ip(&["-4", "route", "show", &format!("{address}/32")]);
    assert_eq!(routes.as_array().map(Vec::len), Some(1), "{address}: {routes}");
    assert_eq!(routes[0]["dev"], host_link, "{address}: {routes}");
}

/// ADDs until there is an address.
fn add_patiently(plugin: &Plugin, pod: &Pod) -> Value {
    let end = Instant::now() + DEADLINE;
    loop {
        let reply = plugin.add(pod);
        if reply.succeeded() {
            return reply.ok();
        }
        assert!(reply.code() == Some(11) && Instant::now() < end, "{reply:?}");
    }
}

#[test]
fn two_addresses_go_from_hand_to_hand() {
    let ground = Ground::with_uplink();
    let plugin = ground.manx(&pool(&ground, 2));
    thread::scope(|scope| {
        for worker in 0..4 {
            let (ground, plugin) = (&ground, &plugin);
            scope.spawn(move || {
                for turn in 0..20 {
                    let pod = Pod::new(&format!("w{worker}t{turn}"));
                    let result = add_patiently(plugin, &pod);
                    let host_link = result["interfaces"][0]["name"].as_str().unwrap();
                    let address = address(&result);
                    assert_led_to(ground, &address, host_link);
                    assert_eq!(pod.netns.addresses("eth0"), [format!("{address}/32")]);
                    // Others come and go meanwhile, or find no address.
                    let lease = fs::read_to_string(ground.store().join(&address)).unwrap();
                    assert_eq!(lease, content(&pod));
                    assert_led_to(ground, &address, host_link);
                    plugin.del(&pod).ok();
                }
            });
        }
    });
    assert!(ground.leases().is_empty(), "{:?}", ground.leases());
}

#[test]
fn without_an_address_left_add_fails_and_status_says_so() {
    let ground = Ground::new();
    let ranges = json!([
        [{"subnet": "fd00:1::/64"}],
        [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.11"},
            {"subnet": "10.2.0.0/30"}],
    ]);
    for plugin in [
        ground.ipam_plugin(Program::Manx, &ground.ipam_of(ranges.clone())),
        ground.manx(&ground.ipam_of(ranges)),
    ] {
        let pods: Vec<Pod> = (0..4).map(|_| Pod::new("a")).collect();
        for pod in &pods[..3] {
            plugin.status().ok();
            plugin.add(pod).ok();
        }
        let reply = plugin.status();
        let told = reply.stderr.clone();
        reply.ok();
        let counts = "10.1.0.10-10.1.0.11,10.2.0.1-10.2.0.2: 0 of 3 free";
        assert!(told.contains("WARN") && told.contains(counts), "{told}");
        let free = (1u128 << 64) - 2 - 3;
        assert!(told.contains(&format!("{free} of {} free", free + 3)), "{told}");
        let before = ground.leases();
        let error = plugin.add(&pods[3]).error();
        assert_eq!(error["code"], 11);
        assert!(error["msg"].as_str().unwrap().contains("10.2.0.1-10.2.0.2"), "{error}");
        assert_eq!(ground.leases(), before, "the first set's address is not kept");
        plugin.del(&pods[3]).ok();
        plugin.del(&pods[0]).ok();
        plugin.status().ok();
        plugin.add(&pods[3]).ok();
        for pod in &pods[1..] {
            plugin.del(pod).ok();
        }
        assert!(ground.leases().is_empty());
    }
}

#[test]
fn a_freed_address_rests_while_another_is_free() {
    let ground = Ground::new();
    let plugin = ground.ipam_plugin(Program::Manx, &pool(&ground, 3));
    let pod = |name| ground.container(name, "eth0");
    let add = |name| address(&plugin.add(&pod(name)).ok());
    assert_eq!((add("a"), add("b")), ("10.1.0.10".into(), "10.1.0.11".into()));
    plugin.del(&pod("b")).ok();
    plugin.del(&pod("a")).ok();
    // Asked for, it is given all the same. The next in turn would be b's old one.
    let asked = Pod { args: Some("IP=10.1.0.10".into()), ..pod("c") };
    assert_eq!(address(&plugin.add(&asked).ok()), "10.1.0.10");
    assert_eq!(add("d"), "10.1.0.12");
    plugin.status().ok();
    assert_eq!(add("e"), "10.1.0.11", "better one that rests than none");
    assert_eq!(plugin.add(&pod("f")).code(), Some(11));
}

#[test]
fn of_those_that_rest_the_longest_rested_is_given() {
    let ground = Ground::new();
    let plugin = ground.ipam_plugin(Program::Manx, &pool(&ground, 3));
    let pod = |name| ground.container(name, "eth0");
    let add = |name| address(&plugin.add(&pod(name)).ok());
    let given = ["a", "b", "c"].map(add);
    assert_eq!(given, ["10.1.0.10", "10.1.0.11", "10.1.0.12"]);
    plugin.del(&pod("b")).ok();
    // They are told apart by the second.
    let second = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let freed = second();
    assert!(eventually(DEADLINE, || second() > freed));
    plugin.del(&pod("a")).ok();
    assert_eq!(add("d"), "10.1.0.11");
    assert_eq!(add("e"), "10.1.0.10");
}

/// Many runtimes never ask for a garbage collection, and some DELs never come.
#[test]
fn a_full_pool_takes_back_what_dead_pods_had() {
    for kind in ["manx-ipam", "host-local"] {
        let ground = Ground::with_uplink();
        let mut ipam = pool(&ground, 3);
        ipam["type"] = kind.into();
        let plugin = ground.manx(&ipam);
        let alive = Pod::new("alive");
        let kept = address(&plugin.add(&alive).ok());
        for _ in 0..2 {
            plugin.add(&Pod::new("dead")).ok();
        }
        // Their namespaces are gone, and the links with them.
        let links = || ground.host.links().len();
        assert!(crate::harness::eventually(crate::harness::DEADLINE, || links() == 2), "{kind}");
        plugin.status().ok();
        let new = Pod::new("new");
        let result = plugin.add(&new).ok();
        let leases = ground.leases();
        assert_eq!(leases[&kept], content(&alive), "{kind}");
        assert_eq!(leases.len(), 2, "{kind}: {leases:?}");
        plugin.check(&new, &result).ok();
    }
}

#[test]
fn a_full_pool_of_live_pods_is_told_once_and_when_it_ends() {
    let ground = Ground::with_uplink();
    let plugin = ground.manx(&pool(&ground, 1));
    let pod = Pod::new("a");
    plugin.add(&pod).ok();
    assert_eq!(plugin.add(&Pod::new("b")).code(), Some(11));
    let said = || {
        let reply = plugin.status();
        let said = reply.stderr.clone();
        reply.ok();
        said
    };
    assert!(said().contains("no free address"));
    assert_eq!((said(), said()), (String::new(), String::new()));
    plugin.del(&pod).ok();
    assert!(said().contains("no longer"));
    assert_eq!(said(), "");
}

/// Files that are nobody's take all of the pool: no pod would suffer for a node
/// that is called unavailable, and none can start.
#[test]
fn a_pool_full_of_garbage_is_unavailable() {
    let ground = Ground::with_uplink();
    let plugin = ground.manx(&pool(&ground, 2));
    ground.write("10.1.0.10", "\u{1}\u{2}");
    ground.write("10.1.0.11", "garbage\r\ngarbage");
    let error = plugin.status().error();
    assert_eq!(error["code"], 50, "{error}");
    assert!(error["details"].as_str().unwrap().contains("manx ipam check"), "{error}");
}
