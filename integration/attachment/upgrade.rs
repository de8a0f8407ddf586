// SPDX-License-Identifier: Apache-2.0
//! Pods of several interfaces that manx 0.1 attached: their answers leave by the
//! first, and must leave by the right one before the node drops what does not.

use std::{fs, thread};

use manx::cni::{Document, Version};
use manx::conf::Config;
use manx::net::Socket;
use manx::node::tables::NetworkTable;
use manx::node::upgrade::{NotUpgraded, upgrade_pods};
use manx::state::Root;
use serde_json::{Value, json};

use crate::answers::{another, answers, move_default_route, rules, strict};
use crate::harness::{Netns, Pod, connect};
use crate::network::{Network, address, lines};

/// Makes of an attachment what 0.1 would have made: beside another interface no
/// rule, no table, no route of its own but those that IPAM gave. On the node nothing
/// checks sources.
fn as_of_0_1(network: &Network, pod: &Pod, result: &Value) -> Value {
    let mut result = result.clone();
    for family in ["-4", "-6"] {
        let ip = |args: &str| {
            let mut all = vec![family];
            all.extend(args.split(' '));
            pod.netns.command("ip", &all)
        };
        for rule in lines(&pod.netns, &[family, "rule", "show"]) {
            let words: Vec<&str> = rule.split(' ').collect();
            if rule.ends_with("proto 109") && result.to_string().contains(words[2]) {
                ip(&format!("rule del pref 10900 from {} lookup {}", words[2], words[4])).ok();
                ip(&format!("route flush table {}", words[4]));
            }
        }
        for route in pod.netns.routes(family) {
            let behind = route["metric"].as_u64().is_some_and(|metric| metric > 10_900);
            if route["dev"] == *pod.ifname && behind {
                let to = route["dst"].as_str().unwrap();
                ip(&format!("route del {to} dev {} metric {}", pod.ifname, route["metric"])).ok();
            }
        }
    }
    let name = network.conf["name"].as_str().unwrap();
    network.host().command("nft", &["delete", "table", "inet", &format!("manx-{name}")]);
    let path = network.root("run/manx").join(name).join(format!("{}:{}", pod.id, pod.ifname));
    let mut entry: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    entry.as_object_mut().unwrap().remove("table").expect("this one notes the table");
    fs::write(&path, entry.to_string()).unwrap();
    let told = result["routes"].as_array_mut().unwrap();
    told.retain(|route| route["priority"].is_null());
    result
}

fn upgrade(network: &Network) -> Result<(), Vec<NotUpgraded>> {
    let document = Document::parse(network.conf.to_string().into_bytes()).unwrap();
    let (config, _) = Config::read(&document, Version::NEWEST);
    let root = Root::new(network.root(""));
    network.host().enter(|| upgrade_pods(&root, &config, &mut Socket::open().unwrap()))
}

/// Pings each address, 500 times in five seconds, while `work` is done; gives how
/// many were lost.
fn lost(client: &Netns, addresses: &[String], work: impl FnOnce()) -> Vec<String> {
    thread::scope(|scope| {
        let pings: Vec<_> = addresses
            .iter()
            .map(|address| {
                scope.spawn(move || {
                    let args = ["-n", "-q", "-i", "0.01", "-c", "500", "-W", "30", address];
                    client.command("ping", &args)
                })
            })
            .collect();
        work();
        let lines = pings.into_iter().map(|ping| ping.join().unwrap().stdout);
        let told =
            |text: String| text.lines().find(|line| line.contains("loss")).unwrap().to_owned();
        lines.map(told).filter(|line| !line.contains(" 0% packet loss")).collect()
    })
}

#[test]
fn no_ping_is_lost_between_0_1_and_a_node_that_believes_no_other_source() {
    no_ping_is_lost(None);
}

/// The same with what that revision really makes: `hack/test-upgrade` builds it.
#[test]
#[ignore = "needs the binary of manx 0.1 in MANX_0_1: run hack/test-upgrade"]
fn no_ping_is_lost_after_a_real_0_1() {
    no_ping_is_lost(Some(std::env::var("MANX_0_1").expect("MANX_0_1 names a binary")));
}

/// With the binary of 0.1, or with one of now whose work is made to look alike.
fn no_ping_is_lost(old: Option<String>) {
    let network = Network::new().dual();
    let other = another(&network, "other", &["10.9.0.0/24", "fd00:9::/64"]);
    let (client, pod) = (Pod::new("client"), Pod::new("a"));
    let second = pod.interface("net1");
    let attach = |network: &Network, pod: &Pod| match &old {
        None => network.add(pod).ok(),
        Some(binary) => {
            let old = Network::of_binary(network.host(), binary);
            old.with("name", network.conf["name"].clone())
                .with("ipam", network.conf["ipam"].clone())
                .add(pod)
                .ok()
        }
    };
    let reached = attach(&network, &client);
    let (mut one, mut two) = (attach(&network, &pod), attach(&other, &second));
    if old.is_none() {
        as_of_0_1(&network, &client, &reached);
        one = as_of_0_1(&network, &pod, &one);
        two = as_of_0_1(&other, &second, &two);
    }
    assert_eq!(rules(&pod.netns), [""; 0]);
    let addresses = [address(&one, 0), address(&one, 1), address(&two, 0), address(&two, 1)];
    for ip in &addresses {
        assert!(client.netns.pings(ip));
    }
    let missing = lost(&client.netns, &addresses, || {
        // Pods come meanwhile, and bring what the node has from now on.
        let new = [&network, &other].map(|network| (network, Pod::new("new")));
        for (network, pod) in &new {
            network.add(pod).ok();
        }
        for network in [&network, &other, &network, &other] {
            network.call("STATUS").run().ok();
        }
        strict_links(&network);
        for (network, pod) in &new {
            network.del(pod).ok();
        }
    });
    assert_eq!(missing, [""; 0]);
    let rules_of_node = network.host().command("nft", &["list", "ruleset"]).ok();
    assert_eq!(rules_of_node.matches("fib saddr . iif oif missing").count(), 4, "{rules_of_node}");
    assert!(rules_of_node.contains("counter packets 0 bytes 0 drop"), "{rules_of_node}");
    answers(&network, &pod.netns, &two, "net1");
    answers(&network, &pod.netns, &one, "eth0");
    assert_eq!(rules(&pod.netns).len(), 4);
    other.check(&second, &two).ok();
    network.check(&pod, &one).ok();
    move_default_route(&pod.netns, &["-4", "-6"], "eth0", "net1");
    answers(&network, &pod.netns, &one, "eth0");
    answers(&network, &pod.netns, &two, "net1");
    network.del(&pod).ok();
    assert_eq!(rules(&pod.netns).len(), 2);
    answers(&network, &pod.netns, &two, "net1");
    other.del(&second).ok();
    assert_eq!(rules(&pod.netns), [""; 0]);
}

/// 0.1.1 gave the first one nothing, and noted table main.
#[test]
fn the_first_of_0_1_1_gets_a_table_before_its_answers_are_checked() {
    let network = Network::new().dual();
    let unchecked = another(&network, "other", &["10.9.0.0/24", "fd00:9::/64"])
        .with("sourceCheck", json!(false));
    let pod = Pod::new("a");
    let second = pod.interface("net1");
    let one = network.add(&pod).ok();
    let two = unchecked.add(&second).ok();
    let path = network.root("run/manx/net").join(format!("{}:eth0", pod.id));
    as_of_0_1(&network, &pod, &one);
    let mut entry: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    entry["table"] = json!(254);
    fs::write(&path, entry.to_string()).unwrap();
    move_default_route(&pod.netns, &["-4", "-6"], "eth0", "net1");
    assert_eq!(rules(&pod.netns).len(), 2);
    let checked = unchecked.with("sourceCheck", json!(true));
    checked.call("STATUS").run().ok();
    answers(&network, &pod.netns, &one, "eth0");
    answers(&network, &pod.netns, &two, "net1");
    // The next ADD notes it, so that its DEL knows.
    checked.add(&pod.interface("net2")).ok();
    network.del(&pod).ok();
    assert_eq!(rules(&pod.netns).len(), 4);
}

/// Each link believes what it would answer to, from now on.
fn strict_links(network: &Network) {
    strict(network);
    for link in network.host().links() {
        network.host().set_sysctl(&format!("ipv4/conf/{link}/rp_filter"), "1");
    }
}

#[test]
fn behind_another_plugins_interface_and_with_routes_of_ipam() {
    let network = Network::new();
    let custom = network.clone().with_ipam("routes", json!([{"dst": "10.123.0.0/16"}]));
    let pod = Pod::new("a");
    let other = Netns::new();
    connect((&pod.netns, "net0", &["198.51.100.2/24"]), (&other, "peer", &["198.51.100.1/24"]));
    pod.netns.command("ip", &["route", "add", "default", "via", "198.51.100.1"]).ok();
    let result = custom.add(&pod).ok();
    let result = as_of_0_1(&custom, &pod, &result);
    strict_links(&network);
    assert!(network.host().keeps_silent(&address(&result, 0)));
    assert_eq!(upgrade(&custom), Ok(()));
    answers(&network, &pod.netns, &result, "eth0");
    custom.check(&pod, &result).ok();
    let defaults = lines(&pod.netns, &["-4", "route", "show", "default"]);
    assert_eq!(defaults, ["default via 198.51.100.1 dev net0"]);
}

/// A bridge of containers in the pod, or a tunnel, is no interface of a plugin.
#[test]
fn a_pod_of_one_interface_is_left_as_it_is() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    as_of_0_1(&network, &pod, &result);
    for args in ["link add docker0 type bridge", "link set docker0 up"] {
        pod.netns.command("ip", &args.split(' ').collect::<Vec<_>>()).ok();
    }
    pod.netns.command("ip", &["route", "replace", "default", "dev", "docker0"]).ok();
    let before = lines(&pod.netns, &["-4", "route", "show", "table", "all"]);
    assert_eq!(upgrade(&network), Ok(()));
    assert_eq!(rules(&pod.netns), [""; 0]);
    assert_eq!(lines(&pod.netns, &["-4", "route", "show", "table", "all"]), before);
}

#[test]
fn a_pod_whose_namespace_is_not_found_is_told_and_a_dead_one_is_not() {
    let network = Network::new();
    let rewrite = |pod: &Pod| {
        let path = network.root("run/manx/net").join(format!("{}:{}", pod.id, pod.ifname));
        let mut entry: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        entry["netns"] = json!("/run/netns/gone");
        entry.as_object_mut().unwrap().remove("table");
        fs::write(&path, entry.to_string()).unwrap();
    };
    let alone = Pod::new("alone");
    let pod = Pod::new("a").kubernetes("shop", "web");
    for pod in [&alone, &pod] {
        network.add(pod).ok();
        rewrite(pod);
    }
    assert_eq!(upgrade(&network), Ok(()), "a first interface is the way out");
    let second = pod.interface("net1");
    let result = network.add(&second).ok();
    [&pod, &second].into_iter().for_each(rewrite);
    let failures = upgrade(&network).unwrap_err();
    let told: Vec<String> = failures.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|line| line.contains("shop/web") && line.contains("gone")), "{told:?}");
    // Another namespace at the path is not entered.
    let stranger = Netns::new();
    let path = network.root("run/manx/net").join(format!("{}:net1", pod.id));
    let mut entry: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    entry["netns"] = json!(stranger.path());
    fs::write(&path, entry.to_string()).unwrap();
    assert!(upgrade(&network).is_err());
    let link = result["interfaces"][0]["name"].as_str().unwrap();
    network.host().command("ip", &["link", "del", link]).ok();
    let first = failures.iter().filter(|failure| failure.ifname == "eth0").count();
    assert_eq!((first, upgrade(&network).unwrap_err().len()), (1, 1), "its link is gone");
}

/// What kept the node from checking sources may pass without another pod.
#[test]
fn a_check_that_waited_for_a_pod_is_missed_as_soon_as_the_pod_is_found() {
    let network = Network::new();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let second = pod.interface("net1");
    let result = network.add(&second).ok();
    let path = network.root("run/manx/net").join(format!("{}:net1", pod.id));
    let found = fs::read(&path).unwrap();
    let mut entry: Value = serde_json::from_slice(&found).unwrap();
    entry["netns"] = json!("/run/netns/gone");
    entry.as_object_mut().unwrap().remove("table");
    let checks = || network.host().command("nft", &["list", "ruleset"]).ok().contains("fib saddr");
    let reduce = || {
        fs::write(&path, entry.to_string()).unwrap();
        network.host().command("nft", &["flush", "ruleset"]).ok();
        let told = network.call("STATUS").run();
        assert!(told.stderr.contains("net1") && told.stderr.contains("gone"), "{told:?}");
        assert!(!checks());
    };
    reduce();
    // Nothing can be done yet, and CHECK blames no pod for it.
    let table = table_repair(&network).expect("a note");
    let note = table.note().expect("a note").clone();
    assert!(table.change().is_none() && note.contains("net1") && note.contains("gone"), "{note}");
    network.check(&second, &result).ok();
    fs::write(&path, &found).unwrap();
    assert_eq!(network.check(&second, &result).error()["code"], 102);
    network.call("STATUS").run().ok();
    assert!(checks());
    network.check(&second, &result).ok();
    reduce();
    fs::write(&path, &found).unwrap();
    let table = table_repair(&network).expect("a repair");
    assert!(table.change().is_some() && table.note().is_none(), "{table:?}");
    let restored = network.host().enter(|| table.restore(&mut Socket::open().unwrap()));
    assert_eq!(restored, Ok((true, Vec::new())));
    assert!(checks() && table_repair(&network).is_none());
}

/// A pass finds the table as it should be, and a pod that 0.1 attached with an interface that came
/// later.
#[test]
fn a_pass_upgrades_pods_also_where_the_table_is_right() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    let (one, second) = (network.add(&pod).ok(), pod.interface("net1"));
    let two = network.add(&second).ok();
    let before = network.host().command("nft", &["-a", "list", "ruleset"]).ok();
    let text = network.host().command("nft", &["list", "ruleset"]).ok();
    as_of_0_1(&network, &pod, &one);
    as_of_0_1(&network, &second, &two);
    assert_eq!(rules(&pod.netns), [""; 0]);
    let saved = network.host().scratch().file("saved.nft", text);
    network.host().command("nft", &["-f", saved.to_str().unwrap()]).ok();
    let restored = network.host().command("nft", &["-a", "list", "ruleset"]).ok();
    assert_ne!(restored, before);
    let table = table_of(&network).expect("a table");
    assert!(table.change().is_none() && table.note().is_none(), "{table:?}");
    let done = network.host().enter(|| table.restore(&mut Socket::open().unwrap()));
    assert_eq!(done.unwrap(), (false, Vec::new()));
    assert_eq!(rules(&pod.netns).len(), 4);
    let after = network.host().command("nft", &["-a", "list", "ruleset"]).ok();
    assert_eq!(after, restored, "the pass leaves the table to the next ADD");
    answers(&network, &pod.netns, &one, "eth0");
    answers(&network, &pod.netns, &two, "net1");
}

/// The network's table, where a pass has something to change or to tell of it.
fn table_repair(network: &Network) -> Option<NetworkTable> {
    table_of(network).filter(|table| table.change().is_some() || table.note().is_some())
}

/// The network's table as a pass compares it.
fn table_of(network: &Network) -> Option<NetworkTable> {
    let document = Document::parse(network.conf.to_string().into_bytes()).unwrap();
    let (config, _) = Config::read(&document, Version::NEWEST);
    let root = Root::new(network.root(""));
    let table = || NetworkTable::of(&config, &root, &mut Socket::open().unwrap(), None);
    network.host().enter(table).unwrap()
}
