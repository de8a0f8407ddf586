// SPDX-License-Identifier: Apache-2.0
//! The pair of links: names, addresses, marks, queues.

use std::fs;

use serde_json::json;

use crate::harness::{DEADLINE, Host, Pod, eventually};
use crate::network::{HOST_MAC, Network, host_link, renamed, text};

#[test]
fn a_kubernetes_pods_host_link_has_calicos_name() {
    let network = Network::new();
    for (namespace, name, link) in [
        ("ops", "nginx-stateful-test-0", "cali05ad595351c"),
        ("default", "nginx", "calic440f455693"),
        ("test", "pod1", "cali17fddc925b9"),
        ("kube-system", "coredns-0", "cali8c346e38bf4"),
    ] {
        let pod = Pod::new("a").kubernetes(namespace, name);
        let result = network.add(&pod).ok();
        assert_eq!(host_link(&result), link);
        assert!(network.host().link(link).is_some(), "{link}");
    }
}

#[test]
fn outside_kubernetes_the_name_is_cali_and_eleven_characters_of_the_id() {
    let network = Network::new();
    let long = renamed(&Pod::new("a"), "0123456789abcdef0123456789abcdef");
    assert_eq!(host_link(&network.add(&long).ok()), "cali0123456789a");
    let short = renamed(&Pod::new("a"), "abc");
    assert_eq!(host_link(&network.add(&short).ok()), "caliabc");
}

#[test]
fn the_prefix_is_the_configurations() {
    let network = Network::new().with("hostPrefix", json!("pod-"));
    let result = network.add(&Pod::new("a").kubernetes("test", "pod1")).ok();
    assert_eq!(host_link(&result), "pod-17fddc925b9");
}

#[test]
fn two_ids_with_the_same_first_eleven_characters_have_two_links() {
    let network = Network::new();
    let before = network.remains();
    let ids = ["cnitool-77383ca0a1", "cnitool-77383ca0b2", "cnitool-77383ca0c3"];
    let pods = ids.map(|id| renamed(&Pod::new("a"), id));
    let links = pods.each_ref().map(|pod| host_link(&network.add(pod).ok()));
    assert_eq!(links[0], "cali".to_owned() + "cnitool-773");
    assert!(links[0] != links[1] && links[1] != links[2] && links[2] != links[0], "{links:?}");
    network.del(&pods[1]).ok();
    for (pod, link) in [(&pods[0], &links[0]), (&pods[2], &links[2])] {
        assert!(network.host().link(link).is_some());
        assert!(pod.netns.pings("192.0.2.11"), "{} lost its network", pod.id);
    }
    network.del(&pods[0]).ok();
    network.del(&pods[2]).ok();
    assert_eq!(network.remains(), before);
}

#[test]
fn the_host_link_has_calicos_mac_and_the_pod_one_of_its_own() {
    let network = Network::new();
    let pods = [Pod::new("a"), Pod::new("b")];
    let macs = pods.each_ref().map(|pod| {
        let result = network.add(pod).ok();
        let host = network.host().link(&host_link(&result)).unwrap();
        assert_eq!(host["address"], HOST_MAC);
        assert_eq!(result["interfaces"][0]["mac"], HOST_MAC);
        let mac = text(&pod.netns.link("eth0").unwrap()["address"]);
        assert_eq!(result["interfaces"][1]["mac"], mac.as_str());
        mac
    });
    assert_ne!(macs[0], macs[1]);
    for mac in macs {
        let first = u8::from_str_radix(&mac[..2], 16).unwrap();
        assert_eq!(first & 3, 2, "{mac} is locally administered and unicast");
    }
}

#[test]
fn both_ends_are_up_and_each_is_the_others_peer() {
    let network = Network::new();
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    let host = network.host().link(&host_link(&result)).unwrap();
    let inside = pod.netns.link("eth0").unwrap();
    for end in [&host, &inside] {
        assert_eq!(end["linkinfo"]["info_kind"], "veth");
        let flags = end["flags"].as_array().unwrap();
        assert!(flags.contains(&json!("UP")) && flags.contains(&json!("LOWER_UP")), "{end}");
    }
    assert_eq!(host["link_index"], inside["ifindex"]);
    assert_eq!(inside["link_index"], host["ifindex"]);
    assert_eq!(pod.netns.links(), ["eth0"]);
}

#[test]
fn the_host_link_bears_its_owner_and_its_networks_group() {
    let network = Network::new();
    let pod = Pod::new("a").kubernetes("test", "pod1");
    let link = network.host().link(&host_link(&network.add(&pod).ok())).unwrap();
    assert_eq!(link["ifalias"], format!("manx1 net {} eth0", pod.id));
    let group = |link: &serde_json::Value| text(&link["group"]).parse::<u32>().unwrap();
    assert_eq!(group(&link) >> 24, u32::from(b'm'), "{link}");

    let other = network.clone().with("name", json!("other")).ranges(&["10.9.0.0/24"]);
    let pod = Pod::new("b");
    let elsewhere = other.host().link(&host_link(&other.add(&pod).ok())).unwrap();
    assert_ne!(group(&link), group(&elsewhere), "networks are told apart by group");
}

#[test]
fn an_alias_too_long_for_the_kernel_is_a_digest_and_del_knows_it() {
    let network = Network::new();
    let before = network.remains();
    let pod = renamed(&Pod::new("a"), &"x".repeat(300));
    let link = network.host().link(&host_link(&network.add(&pod).ok())).unwrap();
    assert!(text(&link["ifalias"]).starts_with("manx1 sha1:"), "{link}");
    network.del(&pod).ok();
    assert_eq!(network.remains(), before);
}

#[test]
fn queues_are_set_on_both_ends() {
    for key in ["queues", "num_queues"] {
        let network = Network::new().with(key, json!(3));
        let pod = Pod::new("a");
        let result = network.add(&pod).ok();
        let ends = [network.host().link(&host_link(&result)), pod.netns.link("eth0")];
        for end in ends.map(Option::unwrap) {
            assert_eq!((&end["num_tx_queues"], &end["num_rx_queues"]), (&json!(3), &json!(3)));
        }
    }
}

#[test]
fn a_mac_can_be_asked_for_in_three_ways_and_the_capability_wins() {
    let network = Network::new();
    let mut pod = Pod::new("a");
    pod.args = Some("IgnoreUnknown=1;MAC=ca:fe:ca:fe:ca:01".into());
    network.add(&pod).ok();
    assert_eq!(pod.netns.link("eth0").unwrap()["address"], "ca:fe:ca:fe:ca:01");

    let network = network.with("args", json!({"cni": {"mac": "ca:fe:ca:fe:ca:02"}}));
    let pod = Pod { id: "b".into(), netns: Pod::new("b").netns, ..pod };
    network.add(&pod).ok();
    assert_eq!(pod.netns.link("eth0").unwrap()["address"], "ca:fe:ca:fe:ca:02");

    let network = network.with("runtimeConfig", json!({"mac": "CA:FE:CA:FE:CA:03"}));
    let pod = Pod { id: "c".into(), netns: Pod::new("c").netns, ..pod };
    let result = network.add(&pod).ok();
    assert_eq!(pod.netns.link("eth0").unwrap()["address"], "ca:fe:ca:fe:ca:03");
    assert_eq!(result["interfaces"][1]["mac"], "ca:fe:ca:fe:ca:03");
    assert!(pod.netns.pings("192.0.2.11"));
}

#[test]
fn the_result_names_both_interfaces_and_whose_the_addresses_are() {
    let network = Network::new().dual();
    let pod = Pod::new("a").kubernetes("test", "pod1");
    let result = network.add(&pod).ok();
    let interfaces = result["interfaces"].as_array().unwrap();
    assert_eq!(interfaces.len(), 2);
    assert_eq!(interfaces[0]["name"], "cali17fddc925b9");
    assert!(matches!(interfaces[0]["sandbox"].as_str(), None | Some("")));
    assert_eq!(interfaces[1]["name"], "eth0");
    assert_eq!(interfaces[1]["sandbox"], pod.netns.path().display().to_string());
    let ips = result["ips"].as_array().unwrap();
    assert_eq!(ips.len(), 2);
    assert!(
        text(&ips[0]["address"]).ends_with("/32") && text(&ips[1]["address"]).ends_with("/128")
    );
    for ip in ips {
        assert_eq!(ip["interface"], 1);
    }
    // Without it sbr, behind us, would leave the pod no default route.
    assert_eq!(ips[0]["gateway"], "169.254.1.1");
    assert_eq!(ips[1]["gateway"], "fe80::ecee:eeff:feee:eeee");
}

#[test]
fn a_node_without_any_link_attaches_pods_too() {
    let network = Network::on(&Host::new());
    let pods = [Pod::new("a"), Pod::new("b")];
    let results = pods.each_ref().map(|pod| network.add(pod).ok());
    assert!(pods[0].netns.pings(&crate::network::address(&results[1], 0)));
}

/// Where both ends have the same index the kernel may wait for up to a second before it sees that
/// the host's end has a carrier, and drop what is sent to the pod meanwhile. It does in three of
/// a hundred times.
#[test]
fn a_host_link_carries_as_soon_as_it_is_made() {
    let network = Network::new();
    let (host, pod) = (network.host(), Pod::new("a"));
    let ends = |name: &str| {
        // The list of all: a question about this one would have the kernel look.
        let link = host.link(name).unwrap();
        (text(&link["operstate"]), link["ifindex"].as_u64(), link["link_index"].as_u64())
    };
    let (_, own, other) = ends(&host_link(&network.add(&pod).ok()));
    network.del(&pod).ok();
    let behind = if own < other { host } else { &pod.netns };
    for _ in 0..own.unwrap().abs_diff(other.unwrap()) {
        behind.command("ip", &["link", "add", "spare", "type", "bridge"]).ok();
        behind.command("ip", &["link", "delete", "spare"]).ok();
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse::<u32>());
    let [major, minor] = [(); 2].map(|()| numbers.next().unwrap().unwrap());
    for round in 0..64 {
        let name = host_link(&network.add(&pod).ok());
        let (state, own, other) = ends(&name);
        assert_eq!(own, other, "both are one more each time");
        // Before, nobody can ask the kernel to look.
        let may_wait = (major, minor) < (6, 9) && eventually(DEADLINE, || ends(&name).0 == "UP");
        assert!(state == "UP" || may_wait, "{state} in round {round}");
        network.del(&pod).ok();
    }
}
