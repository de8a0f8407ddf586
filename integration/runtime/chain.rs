// SPDX-License-Identifier: Apache-2.0
//! Lists in which the reference plugins stand behind manx, and before it.

use std::io::Read;
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::cnitool::Cnitool;
use crate::harness::{DEADLINE, Host, Netns, PING_SECONDS, Plugin, Pod, connect, plugin_dir};
use crate::node::{NETWORK, address, assert_clean, fixed, host_local, manx};

/// A node on which a list is configured: manx, between `before` and `behind`.
struct Chain {
    host: Host,
    outside: Netns,
    runtime: Cnitool,
    pod: Netns,
}

impl Chain {
    fn new(before: &[Value], behind: &[Value], capabilities: Value) -> Self {
        Self::masquerading(before, behind, capabilities, false)
    }

    fn masquerading(
        before: &[Value],
        behind: &[Value],
        capabilities: Value,
        masquerade: bool,
    ) -> Self {
        let (host, outside) = Host::with_uplink();
        let ours = json!({"type": "manx", "capabilities": {"mac": true}, "ipMasq": masquerade,
                          "ipam": host_local(&host, &["10.1.0.0/24"])});
        let plugins = [before, &[ours], behind].concat();
        let conf = json!({"cniVersion": "1.1.0", "name": NETWORK, "plugins": plugins});
        let runtime = Cnitool::new(&host).with(capabilities);
        runtime.configure("10-net.conflist", &conf);
        outside.command("ip", &["route", "add", "10.1.0.0/24", "via", "192.0.2.11"]).ok();
        Self { host, outside, runtime, pod: Netns::new() }
    }

    /// ADD and CHECK; the result.
    fn start(&self) -> Value {
        let result = self.runtime.add(&self.pod);
        self.runtime.run("check", &self.pod).ok();
        self.runtime.run("status", &self.pod).ok();
        result
    }

    /// DEL, after which nothing is left of the pod, of whichever plugin.
    fn stop(&self) {
        self.runtime.run("del", &self.pod).ok();
        assert_clean(&self.host);
        assert_eq!(self.pod.links(), [""; 0]);
        let rules = self.host.command("nft", &["list", "ruleset"]).ok();
        assert!(!rules.contains("10.1.0.2"), "left behind: {rules}");
        self.runtime.run("del", &self.pod).ok();
    }

    fn host_link(&self) -> String {
        self.host.links().into_iter().find(|name| name.starts_with("cali")).expect("a host link")
    }

    fn qdiscs(&self, link: &str) -> String {
        self.host.command("tc", &["qdisc", "show", "dev", link]).ok()
    }
}

/// What a client outside reads from the pod's port 80 by port 8080 of the node.
fn greeting(chain: &Chain) -> String {
    let listener = chain.pod.enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let greeter = std::thread::spawn(move || {
        std::io::Write::write_all(&mut listener.accept().unwrap().0, b"hello").unwrap();
    });
    let node = "192.0.2.11:8080".parse().unwrap();
    let mut stream = chain
        .outside
        .enter(|| TcpStream::connect_timeout(&node, DEADLINE))
        .expect("the node's port leads to the pod");
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    greeter.join().unwrap();
    said
}

/// Where a port of the node is asked for, and by whom.
fn ways<'a>(chain: &'a Chain, other: &'a Netns) -> [(&'static str, &'a Netns, &'static str); 5] {
    [
        ("from outside", &chain.outside, "192.0.2.11:8080"),
        ("from the node", &chain.host, "192.0.2.11:8080"),
        ("from the node by its loopback", &chain.host, "127.0.0.1:8080"),
        ("from another pod", other, "192.0.2.11:8080"),
        ("from the pod itself", &chain.pod, "192.0.2.11:8080"),
    ]
}

fn port_mapping() -> Value {
    json!({"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]})
}

fn portmap(backend: &str) -> Value {
    json!({"type": "portmap", "backend": backend, "capabilities": {"portMappings": true}})
}

fn bandwidth() -> Value {
    json!({"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 800_000,
           "egressRate": 80_000_000, "egressBurst": 800_000})
}

fn tuning() -> Value {
    json!({"type": "tuning", "mac": "c2:b0:57:49:47:f1", "mtu": 1400,
           "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1", "net.core.somaxconn": "500"}})
}

fn firewall() -> Value {
    json!({"type": "firewall", "backend": "iptables"})
}

#[test]
fn portmap_behind_us_opens_a_port_of_the_node() {
    for backend in ["iptables", "nftables"] {
        let chain = Chain::new(&[], &[portmap(backend)], port_mapping());
        chain.start();
        assert_eq!(greeting(&chain), "hello", "{backend}");
        chain.stop();
    }
}

/// Behind the check of sources and the rules about the node's loopback, of which
/// portmap opens the link that it needs.
#[test]
fn a_port_of_the_node_is_reached_in_all_five_ways() {
    for (backend, masquerade) in [("iptables", true), ("iptables", false), ("nftables", false)] {
        let chain = Chain::masquerading(&[], &[portmap(backend)], port_mapping(), masquerade);
        chain.host.command("ip", &["link", "set", "lo", "up"]).ok();
        chain.start();
        let other = Netns::new();
        let second = Cnitool::new(&chain.host);
        second.add(&other);
        let listener = chain.pod.enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
        for (told, from, address) in ways(&chain, &other) {
            let address = address.parse().unwrap();
            let connected =
                from.enter(|| TcpStream::connect_timeout(&address, DEADLINE)).unwrap_or_else(
                    |error| panic!("{backend}, masquerade {masquerade}, {told}: {error}"),
                );
            let (mut accepted, _) = listener.accept().unwrap();
            std::io::Write::write_all(&mut accepted, b"hello").unwrap();
            drop(accepted);
            let mut said = String::new();
            (&connected).read_to_string(&mut said).unwrap();
            assert_eq!(said, "hello", "{told}");
        }
        second.run("del", &other).ok();
        chain.stop();
    }
}

#[test]
fn bandwidth_behind_us_shapes_the_pod_in_both_directions() {
    let chain = Chain::new(&[], &[bandwidth()], json!({}));
    chain.start();
    let host_link = chain.host_link();
    let shaped = |link: &str| chain.qdiscs(link).contains("tbf");
    let ifb = chain.host.links().into_iter().find(|name| name.starts_with("bwp")).unwrap();
    assert!(shaped(&host_link) && shaped(&ifb), "{}", chain.qdiscs(&host_link));
    assert!(chain.host.pings("10.1.0.2"));
    chain.stop();
}

#[test]
fn tuning_behind_us_may_change_mac_mtu_and_sysctls() {
    let chain = Chain::new(&[], &[tuning()], json!({}));
    let result = chain.start();
    let link = chain.pod.link("eth0").unwrap();
    assert_eq!(link["address"], "c2:b0:57:49:47:f1");
    assert_eq!(link["mtu"], 1400);
    assert_eq!(result["interfaces"][1]["mac"], "c2:b0:57:49:47:f1", "{result}");
    assert_eq!(chain.pod.sysctl("ipv4/conf/eth0/arp_filter"), "1");
    assert!(chain.host.pings("10.1.0.2") && chain.pod.pings("192.0.2.1"));
    chain.runtime.run("check", &chain.pod).ok();
    let gateway = ["neigh", "replace", "169.254.1.1", "lladdr", "ee:ee:ee:ee:ee:01"];
    let forged = [&gateway[..], &["dev", "eth0", "nud", "permanent"]].concat();
    chain.pod.command("ip", &forged).ok();
    let check = chain.runtime.run("check", &chain.pod);
    assert!(check.status != 0 && check.stderr.contains("ee:ee:ee:ee:ee:01"), "{check:?}");
    chain.stop();
}

#[test]
fn tuning_may_set_the_mac_that_we_have_set() {
    let tuning = json!({"type": "tuning", "capabilities": {"mac": true}});
    let chain = Chain::new(&[], &[tuning], json!({"mac": "c2:b0:57:49:47:f1"}));
    chain.start();
    assert_eq!(chain.pod.link("eth0").unwrap()["address"], "c2:b0:57:49:47:f1");
    assert!(chain.pod.pings("192.0.2.1"));
    chain.stop();
}

#[test]
fn firewall_behind_us_lets_the_pod_through_a_closed_node() {
    let chain = Chain::new(&[], &[firewall()], json!({}));
    chain.host.command("iptables", &["-P", "FORWARD", "DROP"]).ok();
    chain.start();
    assert!(chain.pod.pings("192.0.2.1"));
    assert!(chain.outside.keeps_silent("10.1.0.2"), "nothing unasked gets in");
    chain.stop();
}

#[test]
fn sbr_behind_us_moves_our_routes_to_a_table_of_the_address() {
    let chain = Chain::new(&[], &[json!({"type": "sbr"})], json!({}));
    chain.start();
    let routes = chain.pod.routes("-4");
    assert!(
        !routes.is_empty() && routes.iter().all(|route| route["table"] != "main"),
        "{routes:?}"
    );
    assert!(chain.host.pings("10.1.0.2"));
    let ping = ["-n", "-q", "-c", "1", "-w", PING_SECONDS, "-I", "10.1.0.2", "192.0.2.1"];
    chain.pod.command("ping", &ping).ok();
    chain.stop();
}

#[test]
fn all_of_them_go_together() {
    let behind = [portmap("iptables"), bandwidth(), firewall(), tuning(), json!({"type": "sbr"})];
    let chain = Chain::new(&[], &behind, port_mapping());
    let result = chain.start();
    assert_eq!(address(&result), "10.1.0.2");
    assert_eq!(greeting(&chain), "hello");
    assert!(chain.qdiscs(&chain.host_link()).contains("tbf"));
    assert_eq!(chain.pod.sysctl("ipv4/conf/eth0/arp_filter"), "1");
    chain.stop();
}

#[test]
fn loopback_before_us_keeps_its_place_in_the_result() {
    let chain = Chain::new(&[json!({"type": "loopback"})], &[], json!({}));
    let result = chain.start();
    let names: Vec<&str> =
        (0..3).map(|index| result["interfaces"][index]["name"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[2]), ("lo", "eth0"), "{result}");
    let ips = result["ips"].as_array().unwrap();
    assert!(ips.iter().any(|ip| ip["address"] == "127.0.0.1/8" && ip["interface"] == 0));
    assert!(ips.iter().any(|ip| ip["address"] == "10.1.0.2/32" && ip["interface"] == 2));
    assert!(chain.pod.pings("127.0.0.1"));
    chain.stop();
}

/// ptp makes the first interface, manx another one of the same pod, with ptp's
/// result before it.
#[test]
fn the_result_of_ptp_is_passed_on() {
    let host = Host::new();
    let pod = Pod::new("a");
    let ipam =
        json!({"type": "static", "addresses": [{"address": "10.9.0.2/24", "gateway": "10.9.0.1"}]});
    let ptp = Plugin::new(&host, plugin_dir().join("ptp")).config(json!({
        "cniVersion": "1.1.0", "name": NETWORK, "type": "ptp", "ipam": ipam,
        "dns": {"nameservers": ["192.0.2.53"]},
    }));
    let before = ptp.add(&pod).ok();
    let second = pod.interface("net1");
    let plugin = manx(&host, &fixed(&["10.1.0.2/24"]));
    let result = plugin.add_after(&second, &before).ok();
    let count = |key: &str| before[key].as_array().map_or(0, Vec::len);
    for index in 0..count("interfaces") {
        assert_eq!(result["interfaces"][index], before["interfaces"][index]);
    }
    assert_eq!(result["ips"][0], before["ips"][0]);
    assert_eq!(result["dns"], before["dns"]);
    let ours = &result["ips"][count("ips")];
    assert_eq!((&ours["address"], &ours["interface"]), (&json!("10.1.0.2/32"), &json!(3)));
    plugin.check(&second, &result).ok();
    plugin.del(&second).ok();
    assert_eq!(pod.netns.links(), ["eth0"], "ptp's interface is not ours to remove");
    ptp.call("DEL").pod(&pod).key("prevResult", before).run().ok();
    assert_clean(&host);
}

/// The binary behind another plugin in the list of a runtime that names the
/// interface alike: it refuses, and removes nothing of the other's.
#[test]
fn an_interface_that_is_there_is_left_alone() {
    let (host, pod) = (Host::new(), Pod::new("a"));
    connect((&host, "veth0", &["10.9.0.1/24"]), (&pod.netns, "eth0", &["10.9.0.2/24"]));
    let plugin = manx(&host, &fixed(&["10.1.0.2/24"]));
    let refused = plugin.add(&pod);
    assert_eq!(refused.code(), Some(101), "{refused:?}");
    assert!(host.pings("10.9.0.2"));
}
