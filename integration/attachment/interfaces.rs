// SPDX-License-Identifier: Apache-2.0
//! Several interfaces in one pod: none of them harms another.

use serde_json::json;

use crate::harness::{Netns, Pod};
use crate::network::{GATEWAY, GATEWAY_IPV6, Network, address, host_link, lines};

const LINK: &str = "169.254.1.1 dev eth0 scope link";
const DEFAULT: &str = "default via 169.254.1.1 dev eth0";
/// The second interface's way to the next hop.
const LINK_BEHIND: &str = "169.254.1.1 dev eth1 scope link metric 10901";

#[test]
fn a_second_interface_has_a_host_link_of_its_own() {
    let network = Network::new();
    let first = Pod::new("a").kubernetes("test", "pod1");
    let second = first.interface("eth1");
    assert_eq!(host_link(&network.add(&first).ok()), "cali17fddc925b9");
    let result = network.add(&second).ok();
    let link = host_link(&result);
    assert!(link.starts_with("cali") && link.len() == 15 && link != "cali17fddc925b9", "{link}");
    assert_eq!(result["interfaces"][1]["name"], "eth1");
    assert_eq!(first.netns.links(), ["eth0", "eth1"]);
    let links = network.host().links();
    assert!(links.len() == 3 && links.contains(&link), "{links:?}");
}

/// It stands behind the first by its metric, and the result tells what is there.
#[test]
fn the_first_interface_keeps_the_default_route_and_the_second_has_its_own() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let ipv6 = lines(&pod.netns, &["-6", "route", "show", "default"]);
    let result = network.add(&pod.interface("eth1")).ok();
    let own = "default via 169.254.1.1 dev eth1 metric 10901";
    assert_eq!(lines(&pod.netns, &["-4", "route"]), [LINK, LINK_BEHIND, DEFAULT, own]);
    let both = lines(&pod.netns, &["-6", "route", "show", "default"]);
    assert!(both.len() == 2 && both.contains(&ipv6[0]), "{both:?}");
    let hops: Vec<_> = result["ips"].as_array().unwrap().iter().map(|ip| &ip["gateway"]).collect();
    assert_eq!(hops, [GATEWAY, GATEWAY_IPV6]);
    for told in result["routes"].as_array().unwrap() {
        assert_eq!(told["priority"], 10_901, "{result}");
    }
    for (args, link) in [(["-4", "198.51.100.9"], "eth0"), (["-6", "2001:db8:5::9"], "eth0")] {
        let way = lines(&pod.netns, &[args[0], "route", "get", args[1]]);
        assert!(way[0].contains(&format!("dev {link}")), "{way:?}");
    }
    assert!(pod.netns.pings("192.0.2.11") && pod.netns.pings("2001:db8::11"));
}

#[test]
fn the_second_interfaces_own_routes_lead_through_it() {
    let network = Network::new();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let custom = network.with_ipam("routes", json!([{"dst": "10.123.0.0/16"}]));
    let second = pod.interface("eth1");
    let result = custom.add(&second).ok();
    let routes = lines(&pod.netns, &["-4", "route"]);
    let own = "10.123.0.0/16 via 169.254.1.1 dev eth1";
    assert_eq!(routes, [own, LINK, LINK_BEHIND, DEFAULT]);
    let ip = address(&result, 0);
    let args = ["-4", "route", "get", "10.123.4.5", "from", &ip];
    assert!(lines(&pod.netns, &args)[0].contains("dev eth1"));
    custom.check(&second, &result).ok();
    // Of the same network once more: the same destination is taken by then.
    let third = pod.interface("eth2");
    let result = custom.add(&third).ok();
    let behind = "10.123.0.0/16 via 169.254.1.1 dev eth2 metric 10903";
    assert!(lines(&pod.netns, &["-4", "route"]).contains(&behind.to_owned()));
    custom.check(&third, &result).ok();
    custom.del(&second).ok();
    custom.check(&third, &result).ok();
}

#[test]
fn a_default_route_with_a_metric_or_a_table_stands_beside_the_first() {
    let network = Network::new();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    for (ifname, extra, ip) in
        [("eth1", "priority", "10.3.0.1/32"), ("eth2", "table", "10.3.0.2/32")]
    {
        let route = json!({"dst": "0.0.0.0/0", extra: 200});
        let given = network.clone().gives(&json!({"ips": [{"address": ip}], "routes": [route]}));
        let result = given.add(&pod.interface(ifname)).ok();
        assert_eq!(result["routes"][0][extra], 200);
    }
    let beside = "default via 169.254.1.1 dev eth1 metric 200".to_owned();
    assert_eq!(lines(&pod.netns, &["-4", "route", "show", "default"]), [DEFAULT, &beside]);
    let table = lines(&pod.netns, &["-4", "route", "show", "table", "200"]);
    assert_eq!(table, ["default via 169.254.1.1 dev eth2"]);
}

#[test]
fn the_second_interface_may_bring_the_family_that_the_first_has_not() {
    let network = Network::new();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    network.clone().ranges(&["fd00:1::/64"]).add(&pod.interface("eth1")).ok();
    let ipv6 = lines(&pod.netns, &["-6", "route", "show", "default"]);
    assert!(ipv6.len() == 1 && ipv6[0].contains("dev eth1"), "{ipv6:?}");
    assert!(pod.netns.pings("192.0.2.11"), "{:?}", lines(&pod.netns, &["neighbour"]));
    assert!(pod.netns.pings("2001:db8::11"), "{:?}", lines(network.host(), &["neighbour"]));
}

#[test]
fn the_pods_forwarding_is_not_reset_by_a_second_interface() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    network.clone().with("allowIPForwarding", json!(true)).add(&pod).ok();
    network.add(&pod.interface("eth1")).ok();
    assert_eq!(pod.netns.sysctl("ipv4/ip_forward"), "1");
    assert_eq!(pod.netns.sysctl("ipv6/conf/all/forwarding"), "1");
}

#[test]
fn a_default_route_of_another_plugins_interface_is_kept_as_well() {
    let network = Network::new();
    let pod = Pod::new("a");
    let other = Netns::new();
    crate::harness::connect((&pod.netns, "net0", &["198.51.100.2/24"]), (&other, "peer", &[]));
    pod.netns.command("ip", &["route", "add", "default", "via", "198.51.100.1"]).ok();
    let result = network.add(&pod).ok();
    let behind = "default via 169.254.1.1 dev eth0 metric 10901";
    let default = "default via 198.51.100.1 dev net0";
    let defaults = || lines(&pod.netns, &["-4", "route", "show", "default"]);
    assert_eq!(defaults(), [behind, default]);
    assert_eq!(address(&result, 0), "10.1.0.2");
    network.del(&pod).ok();
    assert_eq!(pod.netns.links(), ["net0"]);
    assert_eq!(defaults(), [default]);
}

#[test]
fn del_of_the_second_leaves_the_first_whole() {
    let network = Network::new().dual();
    let pod = Pod::new("a").kubernetes("test", "pod1");
    let result = network.add(&pod).ok();
    let before = network.remains();
    let second = pod.interface("eth1");
    network.add(&second).ok();
    network.del(&second).ok();
    assert_eq!(network.remains(), before);
    assert_eq!(pod.netns.links(), ["eth0"]);
    network.check(&pod, &result).ok();
    assert!(pod.netns.pings("192.0.2.11") && pod.netns.pings("2001:db8::11"));
}

#[test]
fn del_of_the_first_leaves_the_seconds_address_and_routes() {
    let network = Network::new();
    let pod = Pod::new("a").kubernetes("test", "pod1");
    let before = network.remains();
    network.add(&pod).ok();
    let second = pod.interface("eth1");
    let custom = network.clone().with_ipam("routes", json!([{"dst": "10.123.0.0/16"}]));
    let ip = address(&custom.add(&second).ok(), 0);
    network.del(&pod).ok();
    assert_eq!(pod.netns.links(), ["eth1"]);
    assert_eq!(pod.netns.addresses("eth1"), [format!("{ip}/32")]);
    let routes = lines(&pod.netns, &["-4", "route"]);
    assert_eq!(routes, ["10.123.0.0/16 via 169.254.1.1 dev eth1", LINK_BEHIND]);
    assert_eq!(network.leases(), [ip]);
    custom.del(&second).ok();
    assert_eq!(network.remains(), before);
}

#[test]
fn two_networks_may_both_serve_one_pod() {
    let network = Network::new();
    let other = network.clone().with("name", json!("other")).ranges(&["10.9.0.0/24"]);
    let pod = Pod::new("a").kubernetes("test", "pod1");
    network.add(&pod).ok();
    other.add(&pod.interface("net1")).ok();
    other.del(&pod.interface("net1")).ok();
    assert!(pod.netns.pings("192.0.2.11"));
    assert_eq!(pod.netns.links(), ["eth0"]);
}

#[test]
fn pods_of_similar_names_are_not_confused() {
    let network = Network::new();
    let pods = [("a.b", "c"), ("a", "b-c"), ("a-b", "c"), ("a", "b")]
        .map(|(namespace, name)| Pod::new("p").kubernetes(namespace, name));
    for pod in &pods {
        network.add(pod).ok();
    }
    network.del(&pods[0]).ok();
    for pod in &pods[1..] {
        assert!(pod.netns.pings("192.0.2.11"), "{:?}", pod.args);
    }
}
