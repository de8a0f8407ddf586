// SPDX-License-Identifier: Apache-2.0
//! What a pod finds inside: addresses, routes, neighbours, and a network that
//! works from the first packet on.

use serde_json::json;

use crate::harness::{Host, Netns, PING_SECONDS, Pod};
use crate::network::{GATEWAY, GATEWAY_IPV6, HOST_MAC, Network, address, host_link, lines, text};

/// Whether the first packet to `address` is answered: sent once, not repeated.
fn first_ping(from: &Netns, address: &str) -> bool {
    let args = ["-n", "-q", "-c", "1", "-W", PING_SECONDS, address];
    from.command("ping", &args).status == 0
}

#[test]
fn an_ipv4_pod_has_calicos_address_and_exactly_its_two_routes() {
    let network = Network::new();
    let pod = Pod::new("a");
    let ip = address(&network.add(&pod).ok(), 0);
    assert_eq!(pod.netns.addresses("eth0"), [format!("{ip}/32")]);
    let routes = ["169.254.1.1 dev eth0 scope link", "default via 169.254.1.1 dev eth0"];
    assert_eq!(lines(&pod.netns, &["-4", "route"]), routes);
}

#[test]
fn an_ipv6_pod_has_calicos_address_and_default_route() {
    let network = Network::new().ranges(&["fd00:1::/64"]);
    let pod = Pod::new("a");
    let ip = address(&network.add(&pod).ok(), 0);
    assert_eq!(pod.netns.addresses("eth0"), [format!("{ip}/128")]);
    let mut expected = vec![
        format!("{ip} dev eth0 proto kernel metric 256 pref medium"),
        format!("default via {GATEWAY_IPV6} dev eth0 metric 1024 pref medium"),
        "fe80::/64 dev eth0 proto kernel metric 256 pref medium".to_owned(),
    ];
    expected.sort();
    assert_eq!(lines(&pod.netns, &["-6", "route"]), expected);
    assert!(lines(&pod.netns, &["-4", "route"]).is_empty());
}

#[test]
fn the_gateways_are_permanent_neighbours() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let mut expected = [GATEWAY, GATEWAY_IPV6]
        .map(|gateway| format!("{gateway} dev eth0 lladdr {HOST_MAC} PERMANENT"));
    expected.sort();
    assert_eq!(lines(&pod.netns, &["neighbour", "show", "nud", "permanent"]), expected);
}

#[test]
fn the_node_reaches_the_pod_by_a_host_route_in_calicos_form() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    let (link, v4, v6) = (host_link(&result), address(&result, 0), address(&result, 1));
    let routes = lines(network.host(), &["-d", "-4", "route", "show", &v4]);
    assert_eq!(routes, [format!("unicast {v4} dev {link} proto boot scope link")]);
    let routes = lines(network.host(), &["-6", "route", "show", &v6]);
    assert_eq!(routes, [format!("{v6} dev {link} metric 1024 pref medium")]);
}

#[test]
fn no_address_is_tentative_and_the_first_packet_of_each_family_passes() {
    let network = Network::new().dual();
    let pods = [Pod::new("a"), Pod::new("b")];
    let results = pods.each_ref().map(|pod| network.add(pod).ok());
    for (pod, result) in pods.iter().zip(&results) {
        let link = host_link(result);
        for (netns, link) in [(&pod.netns, "eth0"), (&**network.host(), link.as_str())] {
            let addresses = netns.ip(&["address", "show", "dev", link]).to_string();
            assert!(addresses.contains("fe80::"), "{addresses}");
            for flag in ["tentative", "dadfailed", "optimistic"] {
                assert!(!addresses.contains(flag), "{addresses}");
            }
        }
    }
    for family in [0, 1] {
        assert!(first_ping(&pods[0].netns, &address(&results[1], family)), "pod to pod");
        assert!(first_ping(network.host(), &address(&results[0], family)), "node to pod");
    }
    assert!(first_ping(&pods[1].netns, "192.0.2.11"), "pod to node");
    assert!(first_ping(&pods[1].netns, "2001:db8::11"), "pod to node");
}

/// Calico waits up to 450 ms for the kernel to generate the host link's
/// link-local address, and fails the ADD if it does not (cni-plugin#345,
/// calico#2553).
#[test]
fn the_host_links_link_local_address_is_given_and_does_not_depend_on_generation() {
    let network = Network::new().dual();
    network.host().set_sysctl("ipv6/conf/default/addr_gen_mode", "1");
    let pod = Pod::new("a");
    let link = host_link(&network.add(&pod).ok());
    let entry = network.host().ip(&["-6", "address", "show", "dev", &link]);
    let addresses = entry[0]["addr_info"].as_array().unwrap();
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    assert_eq!(
        (&addresses[0]["local"], &addresses[0]["prefixlen"]),
        (&json!(GATEWAY_IPV6), &json!(64))
    );
    assert!(
        pod.netns.pings(GATEWAY_IPV6.to_owned().as_str())
            || pod.netns.pings("fe80::ecee:eeff:feee:eeee%eth0")
    );
}

/// Without a default route the kernel's ARP proxy does not answer for
/// 169.254.1.1, and Calico's pods have no network (calico#3270).
#[test]
fn pods_reach_each_other_and_the_node_where_the_node_has_no_default_route() {
    let host = Host::new();
    host.command("ip", &["address", "add", "203.0.113.5/32", "dev", "lo"]).ok();
    let network = Network::on(&host).dual();
    assert!(lines(&host, &["-4", "route"]).is_empty());
    let pods = [Pod::new("a"), Pod::new("b")];
    let results = pods.each_ref().map(|pod| network.add(pod).ok());
    assert!(first_ping(&pods[0].netns, &address(&results[1], 0)));
    assert!(first_ping(&pods[0].netns, &address(&results[1], 1)));
    assert!(first_ping(&pods[0].netns, "203.0.113.5"));
    host.set_sysctl(&format!("ipv4/conf/{}/proxy_arp", host_link(&results[0])), "0");
    assert!(first_ping(&pods[0].netns, "203.0.113.5"), "nor is the proxy needed");
}

/// Some sites use 169.254.1.0/24 themselves (calico#7840).
#[test]
fn the_ipv4_gateway_can_be_chosen() {
    let network = Network::new().with("gateway", json!("169.254.77.7"));
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let routes = ["169.254.77.7 dev eth0 scope link", "default via 169.254.77.7 dev eth0"];
    assert_eq!(lines(&pod.netns, &["-4", "route"]), routes);
    assert_eq!(
        lines(&pod.netns, &["neighbour"]),
        [format!("169.254.77.7 dev eth0 lladdr {HOST_MAC} PERMANENT")]
    );
    assert!(first_ping(&pod.netns, "192.0.2.11"));
}

/// The reference ptp gives its gateway's address to every host link, so that a
/// node has as many equal addresses as pods.
#[test]
fn the_gateways_address_is_on_no_host_link() {
    let network = Network::new();
    for name in ["a", "b"] {
        let pod = Pod::new(name);
        let link = host_link(&network.add(&pod).ok());
        assert!(network.host().addresses(&link).is_empty());
    }
    assert!(lines(network.host(), &["route", "show", "table", "local", GATEWAY]).is_empty());
}

/// The reference ptp fails on a /32 ("network is unreachable") and on a result
/// without a gateway ("file exists").
#[test]
fn addresses_of_any_width_are_narrowed_and_need_no_gateway() {
    for given in ["10.1.0.5/32", "10.1.0.5/24", "10.1.0.5/8", "fd00:1::5/128", "fd00:1::5/64"] {
        let network = Network::new().gives(&json!({"ips": [{"address": given}]}));
        let pod = Pod::new("a");
        let result = network.add(&pod).ok();
        let bits = if given.contains(':') { 128 } else { 32 };
        let narrow = format!("{}/{bits}", given.split('/').next().unwrap());
        assert_eq!(text(&result["ips"][0]["address"]), narrow);
        assert_eq!(pod.netns.addresses("eth0"), [narrow]);
        let node = if given.contains(':') { "2001:db8::11" } else { "192.0.2.11" };
        assert!(pod.netns.pings(node), "{given}");
    }
}

#[test]
fn a_pod_may_have_several_addresses_of_a_family() {
    let network = Network::new().ranges(&["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64"]);
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    assert_eq!(pod.netns.addresses("eth0").len(), 3);
    for position in 0..3 {
        assert!(network.host().pings(&address(&result, position)));
    }
}

#[test]
fn an_address_asked_for_is_given_and_given_again_after_del() {
    let network = Network::new();
    for name in ["a", "b"] {
        let mut pod = Pod::new(name);
        pod.args = Some("IgnoreUnknown=1;IP=10.1.0.42".into());
        assert_eq!(address(&network.add(&pod).ok(), 0), "10.1.0.42");
        network.del(&pod).ok();
    }
}
