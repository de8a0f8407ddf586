// SPDX-License-Identifier: Apache-2.0
//! The pod's routes: IPAM's, the default ones, and their attributes. Mostly
//! after the cases 45 to 53 of Calico's own tests.

use serde_json::{Value, json};

use crate::harness::Pod;
use crate::network::{Network, lines};

/// The IPv4 and IPv6 routes of a pod of `network`, and the routes of the
/// result as `(dst, gw)`.
fn routes(network: &Network) -> (Vec<String>, Vec<String>, Vec<(Value, Value)>) {
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    let told = result["routes"].as_array().cloned().unwrap_or_default();
    let told = told.iter().map(|route| (route["dst"].clone(), route["gw"].clone())).collect();
    let mut ipv6 = lines(&pod.netns, &["-6", "route"]);
    ipv6.retain(|line| !line.contains("proto kernel"));
    (lines(&pod.netns, &["-4", "route"]), ipv6, told)
}

const LINK: &str = "169.254.1.1 dev eth0 scope link";
const DEFAULT: &str = "default via 169.254.1.1 dev eth0";
const DEFAULT_IPV6: &str = "default via fe80::ecee:eeff:feee:eeee dev eth0 metric 1024 pref medium";

#[test]
fn ipams_routes_replace_the_default_route() {
    let custom = json!([{"dst": "10.123.0.0/16"}, {"dst": "10.124.0.0/16", "gw": "10.9.9.9"}]);
    let network = Network::new().with_ipam("routes", custom);
    let (ipv4, ipv6, told) = routes(&network);
    let via = |dst: &str| format!("{dst} via 169.254.1.1 dev eth0");
    assert_eq!(ipv4, [via("10.123.0.0/16"), via("10.124.0.0/16"), LINK.into()]);
    assert!(ipv6.is_empty(), "{ipv6:?}");
    let gateway = json!("169.254.1.1");
    assert_eq!(
        told,
        [(json!("10.123.0.0/16"), gateway.clone()), (json!("10.124.0.0/16"), gateway)],
        "the result says what was made, not what was asked for"
    );
}

#[test]
fn default_routes_can_be_added_to_ipams_under_either_name_of_the_key() {
    for key in ["includeDefaultRoutes", "include_default_routes"] {
        let custom = json!([{"dst": "10.123.0.0/16"}]);
        let network = Network::new().dual().with_ipam("routes", custom).with(key, json!(true));
        let (ipv4, ipv6, told) = routes(&network);
        assert_eq!(ipv4, ["10.123.0.0/16 via 169.254.1.1 dev eth0", LINK, DEFAULT]);
        assert_eq!(ipv6, [DEFAULT_IPV6]);
        assert_eq!(told.len(), 3, "{told:?}");
    }
}

#[test]
fn a_family_without_routes_of_its_own_keeps_its_default() {
    let ipv6 = json!([{"dst": "fd00:123::/48"}]);
    let (ipv4, ipv6, _) = routes(&Network::new().dual().with_ipam("routes", ipv6));
    assert_eq!(ipv4, [LINK, DEFAULT]);
    let custom = DEFAULT_IPV6.replace("default", "fd00:123::/48");
    assert_eq!(ipv6, [custom]);
}

#[test]
fn a_default_route_of_ipams_is_the_default_route_and_not_doubled() {
    let given = json!([{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0"}]);
    let network = Network::new().dual().with_ipam("routes", given);
    for network in [network.clone(), network.with("includeDefaultRoutes", json!(true))] {
        let (ipv4, ipv6, told) = routes(&network);
        assert_eq!(ipv4, [LINK, DEFAULT]);
        assert_eq!(ipv6, [DEFAULT_IPV6]);
        assert_eq!(told.len(), 2, "{told:?}");
    }
}

#[test]
fn routes_of_a_family_that_the_pod_has_not_are_left_out() {
    let network = Network::new().with_ipam("routes", json!([{"dst": "fd00:123::/48"}]));
    let (ipv4, ipv6, told) = routes(&network);
    assert_eq!(ipv4, [LINK, DEFAULT]);
    assert!(ipv6.is_empty());
    assert_eq!(told, [(json!("0.0.0.0/0"), json!("169.254.1.1"))]);
}

#[test]
fn the_attributes_of_a_route_are_made_and_told() {
    let extras = json!({
        "ips": [{"address": "10.1.0.5/24"}, {"address": "fd00:1::5/64"}],
        "routes": [
            {"dst": "10.20.0.0/16", "mtu": 1300, "advmss": 1260, "priority": 77},
            {"dst": "10.30.0.0/16", "table": 1000},
            {"dst": "10.40.0.0/16", "scope": 253},
            {"dst": "fd00:20::/32", "mtu": 1290, "priority": 88, "table": 1001},
        ],
    });
    let network = Network::new().gives(&extras);
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    let find = |family: &str, dst: &str| {
        let all = lines(&pod.netns, &[family, "route", "show", "table", "all"]);
        all.into_iter().find(|line| line.starts_with(dst)).unwrap_or_default()
    };
    let line = find("-4", "10.20.0.0/16");
    assert_eq!(line, "10.20.0.0/16 via 169.254.1.1 dev eth0 metric 77 mtu 1300 advmss 1260");
    let line = find("-4", "10.30.0.0/16");
    assert_eq!(line, "10.30.0.0/16 via 169.254.1.1 dev eth0 table 1000");
    assert_eq!(find("-4", "10.40.0.0/16"), "10.40.0.0/16 dev eth0 scope link");
    let line = find("-6", "fd00:20::/32");
    assert!(line.contains("dev eth0 table 1001 metric 88 mtu 1290"), "{line}");

    let told = result["routes"].as_array().unwrap();
    for asked in extras["routes"].as_array().unwrap() {
        let route = told.iter().find(|route| route["dst"] == asked["dst"]).expect("is told");
        for (key, value) in asked.as_object().unwrap() {
            assert_eq!(&route[key], value, "{key} of {route}");
        }
    }
    network.check(&pod, &result).ok();
}

#[test]
fn a_default_route_in_a_table_of_its_own_leaves_the_main_table_without() {
    let given = json!({
        "ips": [{"address": "10.1.0.5/24"}],
        "routes": [{"dst": "0.0.0.0/0", "table": 1000}],
    });
    let pod = Pod::new("a");
    let network = Network::new().gives(&given);
    network.add(&pod).ok();
    assert_eq!(lines(&pod.netns, &["-4", "route"]), [LINK]);
    let own = lines(&pod.netns, &["-4", "route", "show", "table", "1000"]);
    assert_eq!(own, [DEFAULT]);
}
