// SPDX-License-Identifier: Apache-2.0
//! Addresses that no pod may have on this node: refused before anything is made,
//! and passed over where our own pool drew them.

use serde_json::{Value, json};

use crate::harness::{Host, Netns, Pod, connect};
use crate::network::{Network, address};
use crate::ownership::names;

fn ip(host: &Host, args: &str) {
    host.command("ip", &args.split_whitespace().collect::<Vec<_>>()).ok();
}

/// A network whose IPAM plugin gives this address, whatever is asked for.
fn giving(network: &Network, address: &str) -> Network {
    network.clone().gives(&json!({"ips": [{"address": address}]}))
}

/// A network of our own pool, with leases below the node's directory.
fn pool(network: &Network, ranges: &Value) -> Network {
    let data_dir = network.host().scratch().dir("leases");
    network.clone().ipam(json!({"type": "manx-ipam", "dataDir": data_dir, "ranges": ranges}))
}

/// Asserts that what a delegate gives, or what is asked of our own pool, is an
/// error that says what the address is, and that nothing was made of it.
#[track_caller]
fn refused(network: &Network, given: &str, what: &str) {
    let before = network.remains();
    let length = if given.contains(':') { 128 } else { 32 };
    let error = giving(network, &format!("{given}/{length}")).add(&Pod::new("a")).error();
    names(&error, 101, &[given, what]);
    assert_eq!(network.remains(), before, "{given}");
    let own = pool(network, &json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]));
    let pod = Pod { args: Some(format!("IgnoreUnknown=1;IP={given}")), ..Pod::new("b") };
    names(&own.add(&pod).error(), 101, &[given, what]);
    let asked = |key: &str, value: Value| own.call("ADD").pod(&Pod::new("c")).key(key, value).run();
    names(&asked("args", json!({"cni": {"ips": [given]}})).error(), 101, &[given, what]);
    names(&asked("runtimeConfig", json!({"ips": [given]})).error(), 101, &[given, what]);
    assert_eq!(own.remains(), before, "{given}");
}

#[test]
fn addresses_that_nobody_can_have_are_refused() {
    let network = Network::new();
    for (address, what) in [
        ("0.1.2.3", "this network"),
        ("127.1.2.3", "loopback"),
        ("169.254.7.7", "link-local"),
        ("224.0.0.5", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::1", "loopback"),
        ("fe80::5", "link-local"),
        ("ff02::5", "multicast"),
        ("::ffff:10.1.0.5", "IPv4-mapped"),
        ("::a01:5", "IPv4-compatible"),
    ] {
        refused(&network, address, what);
    }
}

/// It would be told to try again for ever.
#[test]
fn a_pool_of_nothing_else_is_an_error_of_the_configuration() {
    let network = Network::new();
    let before = network.remains();
    for (subnet, what) in [
        ("169.254.7.0/24", "link-local"),
        ("127.1.0.0/24", "loopback"),
        ("224.1.0.0/24", "multicast"),
        ("fe80::/64", "link-local"),
    ] {
        let barren = pool(&network, &json!([[{"subnet": subnet}]]));
        let pod = Pod::new("a");
        for error in [barren.add(&pod).error(), barren.status().error()] {
            names(&error, 7, &[subnet.split("::").next().unwrap().trim_end_matches("0/24"), what]);
        }
        barren.del(&pod).ok();
        assert_eq!(network.remains(), before, "{subnet}");
    }
    // One range that pods can have is enough.
    let ranges = json!([[{"subnet": "169.254.7.0/28"}, {"subnet": "10.1.0.0/24"}]]);
    let result = pool(&network, &ranges).add(&Pod::new("a")).ok();
    assert_eq!(address(&result, 0), "10.1.0.2");
}

#[test]
fn the_nodes_router_is_refused_of_both_families() {
    let network = Network::new();
    for router in ["192.0.2.1", "2001:db8::1"] {
        refused(&network, router, "next hop");
        assert!(network.host().pings(router));
    }
}

#[test]
fn a_router_is_told_however_the_node_knows_it() {
    let network = Network::new();
    let host = network.host();
    ip(host, "-6 route replace default via fe80::99 dev eth0");
    for (routes, router) in [
        // Out of no subnet of the node's.
        (&["route replace default via 10.9.9.9 dev eth0 onlink"][..], "10.9.9.9"),
        (&["route add 10.8.8.8 dev eth0", "route replace default via 10.8.8.8"], "10.8.8.8"),
        // One of several.
        (&["route replace default nexthop via 192.0.2.1 nexthop via 192.0.2.77"], "192.0.2.77"),
        (
            &["-6 route add 2001:db8:1::/48 nexthop via 2001:db8::1 nexthop via 2001:db8::77"],
            "2001:db8::77",
        ),
        // Of another destination, or another table.
        (&["route add 198.51.100.0/24 via 192.0.2.78"], "192.0.2.78"),
        (&["route add default via 192.0.2.79 table 100"], "192.0.2.79"),
        (
            &["nexthop add id 7 via 192.0.2.80 dev eth0", "route add 203.0.113.0/24 nhid 7"],
            "192.0.2.80",
        ),
        // Of the other family.
        (&["route add 203.0.113.0/25 via inet6 2001:db8::81 dev eth0"], "2001:db8::81"),
    ] {
        routes.iter().for_each(|route| ip(host, route));
        refused(&network, router, "next hop");
    }
    host.set_sysctl("ipv4/nexthop_compat_mode", "0");
    ip(host, "nexthop add id 9 via 192.0.2.82 dev eth0");
    ip(host, "route add 198.18.0.0/15 nhid 9");
    refused(&network, "192.0.2.82", "next hop");
}

#[test]
fn what_the_node_has_itself_is_refused_on_whatever_link() {
    let network = Network::new();
    let host = network.host();
    ip(host, "address add 10.1.0.50/32 dev lo");
    ip(host, "address add fd00:1::50/128 dev lo");
    ip(host, "link add br0 type bridge");
    ip(host, "link set br0 up");
    ip(host, "address add 10.7.0.1/24 broadcast 10.7.0.255 dev br0");
    let other_end = Netns::new();
    connect((host, "away", &[]), (&other_end, "back", &[]));
    ip(host, "address add 10.6.0.1 peer 10.6.0.2/32 dev away");
    ip(host, "route add local 10.5.0.0/24 dev lo");
    for (address, what) in [
        ("192.0.2.11", "eth0's own address"),
        ("2001:db8::11", "own address"),
        ("10.1.0.50", "lo's own address"),
        ("fd00:1::50", "own address"),
        ("10.7.0.1", "br0's own address"),
        ("10.7.0.255", "br0's broadcast"),
        ("10.6.0.2", "the other end of away"),
        ("10.5.0.9", "lo's own address"),
    ] {
        refused(&network, address, what);
    }
}

/// A link that is down has no routes: what is asked for is looked for among the
/// addresses.
#[test]
fn an_address_of_a_link_that_is_down_is_not_given_to_who_asks_for_it() {
    let network = Network::new();
    ip(network.host(), "link add spare type bridge");
    ip(network.host(), "address add 10.1.0.60/24 dev spare");
    let own = pool(&network, &json!([[{"subnet": "10.1.0.0/24"}]]));
    let pod = Pod { args: Some("IP=10.1.0.60".into()), ..Pod::new("a") };
    names(&own.add(&pod).error(), 101, &["10.1.0.60", "spare's own address"]);
}

/// What a pod of a bridge, or another machine on the link, has is not asked for:
/// such pools are somebody's configuration.
#[test]
fn other_addresses_of_a_subnet_of_the_nodes_may_be_pods() {
    let network = giving(&Network::new(), "192.0.2.200/24");
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    assert_eq!(address(&result, 0), "192.0.2.200");
    network.check(&pod, &result).ok();
}

#[test]
fn our_own_pool_passes_over_what_no_pod_may_have_and_keeps_no_lease_on_it() {
    let network = Network::new();
    let host = network.host();
    ip(host, "address add 10.1.0.2/32 dev lo");
    ip(host, "route add 10.1.0.3/32 dev eth0");
    ip(host, "route add 198.51.100.0/24 via 10.1.0.3 dev eth0");
    ip(host, "route replace default via 10.1.0.4 dev eth0 onlink");
    ip(host, "address add fd00:1::2/128 dev lo");
    let own = pool(&network, &json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]));
    own.status().ok();
    let pod = Pod::new("a");
    let reply = own.add(&pod);
    let told = reply.stderr.clone();
    let result = reply.ok();
    assert_eq!((address(&result, 0), address(&result, 1)), ("10.1.0.5".into(), "fd00:1::3".into()));
    for (address, what) in
        [("10.1.0.2", "lo's own"), ("10.1.0.3", "next hop"), ("10.1.0.4", "next hop")]
    {
        let line = told.lines().find(|line| line.contains(&format!(" {address} is passed over")));
        assert!(line.is_some_and(|line| line.contains(what)), "{told}");
    }
    assert_eq!(own.leases(), ["10.1.0.5", "fd00:1::3"]);
    own.check(&pod, &result).ok();
    own.del(&pod).ok();
    assert!(own.leases().is_empty());
}

/// The lease was lost, the pod is alive: its address is not given again.
#[test]
fn our_own_pool_passes_over_what_a_live_pod_has() {
    let network = Network::new();
    let own = pool(&network, &json!([[{"subnet": "10.1.0.0/24"}]]));
    let (first, second) = (Pod::new("a"), Pod::new("b"));
    let result = own.add(&first).ok();
    let store = network.host().scratch().path().join("leases/net");
    std::fs::remove_dir_all(store).unwrap();
    let other = own.add(&second).ok();
    assert_eq!((address(&result, 0), address(&other, 0)), ("10.1.0.2".into(), "10.1.0.3".into()));
    own.check(&second, &other).ok();
    assert!(first.netns.pings("192.0.2.11") && second.netns.pings("192.0.2.11"));
}

/// The node may have other addresses tomorrow.
#[test]
fn a_pool_of_the_nodes_own_addresses_says_why_in_add_and_status() {
    let network = Network::new();
    for (subnet, end) in [("192.0.2.0/24", "192.0.2.11"), ("2001:db8::/64", "2001:db8::11")] {
        let range = json!({"subnet": subnet, "rangeStart": end, "rangeEnd": end});
        let own = pool(&network, &json!([[range]]));
        let error = own.add(&Pod::new("a")).error();
        assert_eq!(error["code"], 11, "{error}");
        assert!(error["details"].as_str().unwrap().contains("eth0's own address"), "{error}");
        assert_eq!(own.status().error()["code"], 50, "{subnet}");
        assert!(own.leases().is_empty());
    }
}

/// Nodes 192.0.2.11, this one, and 192.0.2.12, with the tunnel addresses given.
fn with_peers(network: Network, other: &str) -> Network {
    let nodes = json!({"self": "node-a", "nodes": [
        {"name": "node-a", "addresses": ["192.0.2.11"], "podCIDRs": ["10.1.0.0/24"]},
        {"name": "node-b", "addresses": [other], "podCIDRs": ["10.1.1.0/24"],
            "tunnelAddresses": ["10.99.0.2"]},
    ]});
    let file = network.host().scratch().file("peers.json", nodes.to_string());
    let path = file.display().to_string();
    std::fs::create_dir_all(network.root("etc")).unwrap();
    std::fs::copy(path, network.root("etc/peers.json")).unwrap();
    network.with("peersFile", json!("/etc/peers.json"))
}

#[test]
fn a_peers_address_is_refused_whichever_way_leads_there() {
    let network = with_peers(Network::new(), "192.0.2.12");
    for (address, what) in
        [("192.0.2.12", "next hop"), ("10.99.0.2", "the tunnel address of node node-b")]
    {
        let before = network.remains();
        let error = giving(&network, &format!("{address}/32")).add(&Pod::new("a")).error();
        names(&error, 101, &[address, what]);
        if before["routes"][0].as_array().unwrap().len() > 3 {
            assert_eq!(network.remains(), before);
        }
    }
    let elsewhere = with_peers(Network::new(), "198.51.100.12");
    let error = giving(&elsewhere, "198.51.100.12/32").add(&Pod::new("a")).error();
    names(&error, 101, &["198.51.100.12", "the address of node node-b"]);
}

#[test]
fn another_plugins_pod_and_another_networks_tunnel_are_left_alone() {
    let network = Network::new();
    let elsewhere = Netns::new();
    connect((network.host(), "cali0", &[]), (&elsewhere, "peer", &[]));
    ip(network.host(), "route add 10.1.0.2/32 dev cali0");
    let own = pool(&network, &json!([[{"subnet": "10.1.0.0/24"}]]));
    assert_eq!(address(&own.add(&Pod::new("a")).ok(), 0), "10.1.0.3");
}

/// A next hop that is on the link by its route's word alone, or that another table or an
/// object has: what the pool draws is held against all of them.
#[test]
fn a_pool_passes_over_next_hops_in_no_subnet_of_the_node() {
    for routes in [
        &["route add 198.51.100.0/24 via 10.1.0.2 dev eth0 onlink"][..],
        &["route add 198.51.100.0/24 via 10.1.0.2 dev eth0 onlink table 77"],
        &["nexthop add id 7 via 10.1.0.2 dev eth0 onlink", "route add 198.51.100.0/24 nhid 7"],
    ] {
        let network = Network::new();
        let host = network.host();
        routes.iter().for_each(|route| ip(host, route));
        let own = pool(&network, &json!([[{"subnet": "10.1.0.0/24"}]]));
        let (one, other) = (Pod::new("a"), Pod::new("b"));
        assert_eq!(address(&own.add(&one).ok(), 0), "10.1.0.3", "{routes:?}");
        // By the note of it, too.
        assert_eq!(address(&own.add(&other).ok(), 0), "10.1.0.4", "{routes:?}");
    }
}
