// SPDX-License-Identifier: Apache-2.0
//! The pod's default route moves from one interface of ours to another, as Multus'
//! `default-route` moves it. Every address goes on answering by its own link: the
//! node believes no source that comes by another one.

use std::fs;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::answers::{another, answers, leading, move_default_route, rules};
use crate::harness::{Netns, Plugin, Pod, connect, plugin_dir};
use crate::network::{Network, lines};

const BOTH: [&str; 2] = ["-4", "-6"];

/// The table that the journal notes for an attachment, and since when there is one.
fn noted(network: &Network, pod: &Pod) -> (Value, SystemTime) {
    let name = network.conf["name"].as_str().unwrap();
    let path = network.root("run/manx").join(name).join(format!("{}:{}", pod.id, pod.ifname));
    let entry: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    (entry["table"].clone(), fs::metadata(&path).unwrap().modified().unwrap())
}

fn other(network: &Network) -> Network {
    another(network, "other", &["10.9.0.0/24", "fd00:9::/64"])
}

#[test]
fn every_address_goes_on_answering() {
    let network = Network::new().dual();
    let other = other(&network);
    let pod = Pod::new("a");
    let second = pod.interface("net1");
    let one = network.add(&pod).ok();
    let (table, since) = noted(&network, &pod);
    assert_eq!((rules(&pod.netns), table), (vec![], json!(254)));
    let two = other.add(&second).ok();
    assert_eq!(noted(&network, &pod), (json!(10_902), since), "the first is as old as it was");
    network.check(&pod, &one).ok();
    move_default_route(&pod.netns, &BOTH, "eth0", "net1");
    assert!(pod.netns.pings("192.0.2.11") && pod.netns.pings("2001:db8::11"));
    answers(&network, &pod.netns, &one, "eth0");
    answers(&network, &pod.netns, &two, "net1");
    other.check(&second, &two).ok();
    // As ever: what somebody took away is told.
    let error = network.check(&pod, &one).error();
    let told = error["msg"].as_str().unwrap();
    assert!(told.contains("route 0.0.0.0/0 via") && !told.contains("table"), "{told}");
    // The second goes, and with it the way out; another one comes.
    other.del(&second).ok();
    answers(&network, &pod.netns, &one, "eth0");
    let two = other.add(&second).ok();
    answers(&network, &pod.netns, &one, "eth0");
    answers(&network, &pod.netns, &two, "net1");
    other.check(&second, &two).ok();
    assert_eq!(rules(&pod.netns).len(), 4);
    network.del(&pod).ok();
    answers(&network, &pod.netns, &two, "net1");
    other.del(&second).ok();
    assert_eq!(rules(&pod.netns), [""; 0]);
}

#[test]
fn back_again_check_finds_all_that_was_made() {
    let network = Network::new().dual();
    let other = other(&network);
    let pod = Pod::new("a");
    let second = pod.interface("net1");
    let one = network.add(&pod).ok();
    for _ in 0..2 {
        other.add(&second).ok();
        move_default_route(&pod.netns, &BOTH, "eth0", "net1");
        move_default_route(&pod.netns, &BOTH, "net1", "eth0");
        network.check(&pod, &one).ok();
        other.del(&second).ok();
        network.check(&pod, &one).ok();
    }
    // CHECK misses a rule of the first, and DEL does not.
    let rule = rules(&pod.netns)[0].replace("lookup", "table");
    let words = format!("rule del from {rule}");
    pod.netns.command("ip", &words.split(' ').collect::<Vec<_>>()).ok();
    let error = network.check(&pod, &one).error();
    assert!(error["msg"].as_str().unwrap().contains("rule 10900"), "{error}");
    network.del(&pod).ok();
    assert_eq!(rules(&pod.netns), [""; 0]);
}

#[test]
fn of_three_interfaces_of_one_network_any_may_be_the_way_out() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    let names = ["eth0", "net1", "net2"];
    let results = names.map(|name| network.add(&pod.interface(name)).ok());
    for (from, to) in [("eth0", "net1"), ("net1", "net2"), ("net2", "eth0")] {
        move_default_route(&pod.netns, &BOTH, from, to);
        for (name, result) in names.iter().zip(&results) {
            answers(&network, &pod.netns, result, name);
        }
    }
    network.del(&pod).ok();
    for (name, result) in names.iter().zip(&results).skip(1) {
        answers(&network, &pod.netns, result, name);
        network.del(&pod.interface(name)).ok();
    }
    assert_eq!(rules(&pod.netns), [""; 0]);
}

/// Routes of IPAM, an MTU of routes and a next hop of its own: the first one's table
/// has what its routes in table main have.
#[test]
fn the_first_ones_table_has_its_routes() {
    let network = Network::new().with("mtuMode", json!("route")).with("mode", json!("vxlan"));
    let network = network.with("clusterCIDRs", json!(["10.0.0.0/8"]));
    let network = network.with("gateway", json!("169.254.7.7"));
    let network =
        network.with_ipam("routes", json!([{"dst": "10.123.0.0/16"}, {"dst": "0.0.0.0/0"}]));
    let other = another(&network, "other", &["10.9.0.0/24"]).with("gateway", json!("169.254.1.1"));
    let pod = Pod::new("a");
    let one = network.add(&pod).ok();
    let mut main = lines(&pod.netns, &["-4", "route", "show", "dev", "eth0"]);
    other.add(&pod.interface("net1")).ok();
    let mut own = lines(&pod.netns, &["-4", "route", "show", "table", "10902", "dev", "eth0"]);
    main.sort();
    own.sort();
    assert_eq!(own, main);
    network.check(&pod, &one).ok();
}

/// What other plugins and the pod itself made is theirs, and a pod's only attachment
/// gets nothing for their sake.
#[test]
fn beside_others_the_first_of_ours_stays_as_it_is() {
    let network = Network::new();
    let other = another(&network, "other", &["10.9.0.0/24"]);
    let pod = Pod::new("a");
    let one = network.add(&pod).ok();
    let peer = Netns::new();
    connect((&pod.netns, "net0", &["198.51.100.2/24"]), (&peer, "peer", &["198.51.100.1/24"]));
    network.check(&pod, &one).ok();
    assert_eq!(rules(&pod.netns), [""; 0]);
    let theirs = || lines(&pod.netns, &["-4", "route", "show", "table", "all", "dev", "net0"]);
    let before = theirs();
    let two = other.add(&pod.interface("net1")).ok();
    assert_eq!(theirs(), before);
    let mut expected = leading(&[(&one, 10_902), (&two, 10_901)]);
    expected.sort();
    let mut found = rules(&pod.netns);
    found.sort();
    assert_eq!(found, expected);
    // One that the pod set down is left as it is, and no reason to fail.
    other.del(&pod.interface("net1")).ok();
    network.del(&pod).ok();
    network.add(&pod).ok();
    pod.netns.command("ip", &["link", "set", "eth0", "down"]).ok();
    other.add(&pod.interface("net1")).ok();
    assert_eq!(rules(&pod.netns).len(), 2, "{:?}", rules(&pod.netns));
}

/// It has led the first one's answers out already.
#[test]
fn sbr_behind_the_first_is_left_to_its_work() {
    let network = Network::new().dual();
    let other = other(&network);
    let pod = Pod::new("a");
    let second = pod.interface("net1");
    let one = network.add(&pod).ok();
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "sbr", "prevResult": one});
    Plugin::new(network.host(), plugin_dir().join("sbr")).config(conf).add(&pod).ok();
    let two = other.add(&second).ok();
    let found = rules(&pod.netns);
    assert!(found.len() == 2 && found.iter().all(|rule| rule.ends_with("10901")), "{found:?}");
    answers(&network, &pod.netns, &one, "eth0");
    answers(&network, &pod.netns, &two, "net1");
    network.check(&pod, &one).ok();
    other.check(&second, &two).ok();
}

/// All is made when the result cannot be written.
#[test]
fn a_failed_add_takes_back_what_it_gave_to_the_first() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    let one = network.add(&pod).ok();
    let state = || {
        let routes =
            BOTH.map(|family| lines(&pod.netns, &[family, "route", "show", "table", "all"]));
        (network.remains(), rules(&pod.netns), routes, noted(&network, &pod))
    };
    let before = state();
    let failing = network.clone().wrapped("exec \"$MANX\" >/dev/full");
    for network in [&failing, &another(&failing, "other", &["10.9.0.0/24", "fd00:9::/64"])] {
        assert_ne!(network.add(&pod.interface("net1")).status, 0);
        assert_eq!(state(), before);
    }
    network.check(&pod, &one).ok();
}
