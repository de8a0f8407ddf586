// SPDX-License-Identifier: Apache-2.0
//! In Calico's place: its stock configuration, its keys, its binary's name.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::harness::{Host, Pod};
use crate::network::{Network, host_link, lines};

/// The list that Calico's manifest installs, with host-local for IPAM as its
/// documentation has it.
const STOCK: &str = include_str!("10-calico.conflist");

/// The stock network on this node, with the binary under Calico's name, as
/// libcni would call its first plugin.
fn stock(host: &Host) -> Network {
    let list: Value = serde_json::from_str(STOCK).unwrap();
    let bin = host.scratch().dir("calico");
    let binary = bin.join("calico");
    if !binary.exists() {
        symlink(env!("CARGO_BIN_EXE_manx"), &binary).unwrap();
    }
    let network = Network::of_binary(host, binary);
    let plugin = list["plugins"][0].as_object().unwrap().clone();
    let common = ["name", "cniVersion"].map(|key| (key.to_owned(), list[key].clone()));
    let network =
        plugin.into_iter().chain(common).fold(network, |net, (key, value)| net.with(&key, value));
    // Only where leases are written differs, for a test writes nothing on the machine.
    let ipam = network.conf["ipam"].clone();
    network.ipam(ipam)
}

#[test]
fn the_stock_conflist_runs_unmodified_under_the_name_calico() {
    let (host, _outside) = Host::with_uplink();
    let network = stock(&host);
    let pod = Pod::new("a").kubernetes("test", "pod1");
    let reply = network.add(&pod);
    let logged = reply.stderr.clone();
    let result = reply.ok();
    assert_eq!(result["cniVersion"], "0.3.1");
    assert_eq!(host_link(&result), "cali17fddc925b9");
    assert_eq!(result["ips"][0]["version"], "4");
    assert!(pod.netns.pings("192.0.2.11"));
    let routes = ["169.254.1.1 dev eth0 scope link", "default via 169.254.1.1 dev eth0"];
    assert_eq!(lines(&pod.netns, &["-4", "route"]), routes);

    let log = fs::read_to_string(network.root("var/log/calico/cni/cni.log")).unwrap();
    assert_eq!(log, logged, "the log file says what stderr says");
    network.del(&pod).ok();
    assert_eq!(host.links(), ["eth0"]);
}

/// Calico's ADD and DEL need the API server, the token in the kubeconfig and a
/// file with the node's name (calico#1795, #4857, #13884): pods hang in
/// Terminating while any of them is away.
#[test]
fn neither_api_server_nor_kubeconfig_nor_nodename_file_is_needed() {
    let (host, _outside) = Host::with_uplink();
    let network = stock(&host)
        .with("nodename", json!(null))
        .with("nodename_file", json!("/nowhere/nodename"))
        .with("nodename_file_optional", json!(false))
        .with("require_mtu_file", json!(true))
        .with("kubernetes", json!({"kubeconfig": "/nowhere", "k8s_api_root": "https://192.0.2.99"}))
        .with("etcd_endpoints", json!("https://192.0.2.99:2379"));
    let pod = Pod::new("a").kubernetes("test", "pod1");
    network.add(&pod).ok();
    assert!(pod.netns.pings("192.0.2.11"));
    network.del(&pod).ok();
    assert_eq!(host.links(), ["eth0"]);
}

#[test]
fn ignored_keys_are_told_once_and_again_when_they_change() {
    let (host, _outside) = Host::with_uplink();
    let told = |network: &Network| {
        let reply = network.add(&Pod::new("a"));
        let logged = reply.stderr.clone();
        reply.ok();
        logged
            .lines()
            .filter(|line| line.contains("ignored"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let network = stock(&host);
    let first = told(&network);
    assert_eq!(first.len(), 1, "{first:?}");
    for key in ["datastore_type", "nodename", "policy", "kubernetes"] {
        assert!(first[0].contains(key), "{key} is not in {first:?}");
    }
    for key in ["log_level", "mtu", "ipam,"] {
        assert!(!first[0].contains(key), "{key} is in {first:?}");
    }
    assert!(told(&network).is_empty());
    let more = told(&network.clone().with("qps", json!(5)));
    assert!(more.len() == 1 && more[0].contains("qps"), "{more:?}");
}

#[test]
fn without_calicos_keys_nothing_is_told_to_be_ignored() {
    let network = Network::new();
    let reply = network.add(&Pod::new("a"));
    assert!(!reply.stderr.contains("ignored"), "{}", reply.stderr);
    assert_eq!(reply.stderr.lines().count(), 1, "one line per ADD: {}", reply.stderr);
}

#[test]
fn a_pod_cidr_that_nobody_told_the_node_is_asked_for_by_name() {
    let (host, _outside) = Host::with_uplink();
    let old = json!({"type": "host-local", "subnet": "usePodCidr"});
    let new = json!({"type": "host-local", "ranges": [[{"subnet": "usePodCidrIPv6"}]]});
    for section in [old, new] {
        let error = stock(&host).ipam(section).add(&Pod::new("a")).error();
        let msg = error["msg"].as_str().unwrap();
        assert!(msg.contains("pod CIDR") && msg.contains("/var/lib/manx/peers.json"), "{error}");
        assert_eq!(error["code"], 50, "{error}");
    }
}

/// A node moves over with its pods running: the DEL of a pod that Calico made
/// comes to us, with nothing of ours to find.
#[test]
fn the_pod_of_a_calico_that_was_here_before_is_removed() {
    let (host, _outside) = Host::with_uplink();
    let pod = Pod::new("a").kubernetes("test", "pod1");
    crate::harness::connect(
        (&pod.netns, "eth0", &["10.65.0.2/32"]),
        (&host, "cali17fddc925b9", &[]),
    );
    host.command("ip", &["route", "add", "10.65.0.2", "dev", "cali17fddc925b9"]).ok();
    stock(&host).del(&pod).ok();
    assert_eq!(host.links(), ["eth0"]);
    assert!(lines(&host, &["route", "show", "10.65.0.2"]).is_empty());
}

/// A Calico that is still there (its agent, Felix) adds the host route with a
/// metric of its own; both may stand.
#[test]
fn a_host_route_of_felix_beside_ours_harms_nothing() {
    let network = Network::new();
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    let (link, ip) = (host_link(&result), crate::network::address(&result, 0));
    let args = ["route", "add", &ip, "dev", &link, "scope", "link", "metric", "1024"];
    network.host().command("ip", &args).ok();
    network.check(&pod, &result).ok();
    network.host().command("ip", &["route", "del", &ip, "dev", &link, "metric", "0"]).ok();
    network.check(&pod, &result).ok();
    network.del(&pod).ok();
    assert!(lines(network.host(), &["route", "show", &ip]).is_empty());
}
