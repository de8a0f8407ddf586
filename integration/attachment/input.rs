// SPDX-License-Identifier: Apache-2.0
//! Wrong input: an error with a code, the key, the value, and what to do; and
//! nothing done.

use serde_json::{Value, json};

use crate::harness::{Pod, Reply};
use crate::network::{Network, text};

/// A configuration invalid in itself.
const INVALID: u64 = 7;
/// A configuration that asks for what is not served.
const UNSUPPORTED: u64 = 2;

/// Asserts an error of that code whose message names all of `words`, and
/// which says what to do.
#[track_caller]
fn refused(reply: Reply, code: u64, words: &[&str]) {
    let what = format!("{reply:?}");
    let error = reply.error();
    assert_eq!(error["code"], code, "{what}");
    assert!(error["cniVersion"].is_string(), "{what}");
    for word in words {
        assert!(text(&error["msg"]).contains(word), "{word} is not in {what}");
    }
    assert!(!text(&error["details"]).is_empty(), "{what}");
    assert!(!what.contains("panic"), "{what}");
}

/// Every wrong value of every key: key, value, code.
pub(crate) fn wrong_values() -> Vec<(&'static str, Value, u64)> {
    let invalid = |key, values: Value| {
        let values = values.as_array().unwrap().clone();
        values.into_iter().map(move |value| (key, value, INVALID))
    };
    let unsupported = |key, value| [(key, value, UNSUPPORTED)];
    let mut table = Vec::new();
    table.extend(invalid("mode", json!(["gre", "IPIP ", 4, true, ["ipip"]])));
    table.extend(invalid("mtu", json!(["1500", -1, 1, 67, 65536, 1.5, true, 4294968796u64])));
    table.extend(invalid("overhead", json!(["50", -1, 1001, 0.5, {}])));
    table.extend(invalid("gateway", json!(["fe80::1", "169.254.1", "169.254.1.1/32", 5, ""])));
    table.extend(invalid(
        "gateway",
        json!(["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"]),
    ));
    table.extend(invalid("ipMasq", json!(["yes", 1, []])));
    table.extend(invalid("nonMasqueradeCIDRs", json!(["10.0.0.0/8", ["10.0.0.0/33"], [5], {}])));
    table.extend(invalid("clusterCIDRs", json!(["10.0.0.0/8", ["10.0.0.0"], [null]])));
    table.extend(invalid("hostPrefix", json!(["", "calico", "a/b", "c i", "é", "-", "-x", 4])));
    table.extend(invalid("queues", json!(["2", -1, 4097, 1.5])));
    table.extend(invalid("num_queues", json!([5000])));
    table.extend(invalid("crossSubnet", json!(["bogus", 1, []])));
    table.extend(invalid("routeProtocol", json!(["x", 0, 2, 4, 9, 12, 16, 186, 256, -1])));
    table.extend(invalid("routeMetric", json!([-3, "0", 4294967296u64])));
    table.extend(invalid("vxlan", json!([7, "vxlan.calico"])));
    table.extend(invalid("allowIPForwarding", json!([1, "on"])));
    table.extend(invalid("manageForwarding", json!([0, "off"])));
    table.extend(invalid("includeDefaultRoutes", json!([[], "maybe"])));
    table.extend(invalid("logLevel", json!(["loud", 3])));
    table.extend(invalid("logFile", json!([3, ["/var/log/x"]])));
    table.extend(invalid("dns", json!(["192.0.2.53", ["192.0.2.53"]])));
    table.extend(invalid("ipam", json!(["host-local", 5, []])));
    table.extend(invalid("type", json!([5])));
    table.extend(invalid("peersFile", json!([5, ["/etc/manx/peers.json"]])));
    // Nothing says here where the pods of other nodes are.
    table.extend(invalid("mtuMode", json!(["route", "both", 5])));
    table.extend(unsupported("device_type", json!("netkit")));
    table
}

#[test]
fn every_wrong_value_is_an_error_that_names_key_and_value() {
    let network = Network::new();
    let before = network.remains();
    let pod = Pod::new("a");
    for (key, value, code) in wrong_values() {
        let reply = network.clone().with(key, value.clone()).add(&pod);
        refused(reply, code, &[&format!("configuration key {key} "), &value.to_string()]);
    }
    assert_eq!(network.remains(), before);
    assert!(pod.netns.links().is_empty());
}

#[test]
fn status_and_check_refuse_what_add_refuses_and_del_does_not() {
    let network = Network::new().with("mode", json!("gre"));
    refused(network.status(), INVALID, &["mode", "gre"]);
    let pod = Pod::new("a");
    refused(network.check(&pod, &json!({"cniVersion": "1.1.0"})), INVALID, &["mode", "gre"]);
    network.del(&pod).ok();
}

#[test]
fn a_nested_key_is_named_with_its_path() {
    let network = Network::new();
    let pod = Pod::new("a");
    for (key, value, path, word) in [
        (
            "container_settings",
            json!({"allow_ip_forwarding": "perhaps"}),
            "container_settings.allow_ip_forwarding",
            "perhaps",
        ),
        ("dns", json!({"nameservers": "192.0.2.53"}), "dns.nameservers", "192.0.2.53"),
        ("dns", json!({"search": [5]}), "dns.search", "5"),
        ("vxlan", json!({"vni": 0}), "vxlan.vni", "0"),
        ("vxlan", json!({"port": 65536}), "vxlan.port", "65536"),
        ("vxlan", json!({"device": "a/b"}), "vxlan.device", "a/b"),
        ("vxlan", json!({"device": "-d"}), "vxlan.device", "-d"),
        ("runtimeConfig", json!({"mac": 5}), "runtimeConfig.mac", "5"),
        ("args", json!({"cni": {"mac": ["x"]}}), "args.cni.mac", "x"),
        ("ipam", json!({"type": 5}), "ipam.type", "5"),
        ("ipam", json!({}), "ipam.type", "{}"),
    ] {
        refused(network.clone().with(key, value).add(&pod), INVALID, &[path, word]);
    }
}

#[test]
fn a_configuration_without_ipam_says_which_key_to_give() {
    let network = Network::new().with("ipam", json!(null));
    refused(network.add(&Pod::new("a")), INVALID, &["ipam.type"]);
}

#[test]
fn a_mac_that_is_none_is_refused_before_ipam_is_asked() {
    let network = Network::new().gives(&json!({"ips": [{"address": "10.1.0.5/24"}]}));
    for mac in ["nonsense", "01:00:5e:00:00:01", "00:00:00:00:00", "ff:ff:ff:ff:ff:ff"] {
        let network = network.clone().with("runtimeConfig", json!({"mac": mac}));
        refused(network.add(&Pod::new("a")), INVALID, &["mac", mac]);
    }
    assert!(network.asked().is_empty());
}

#[test]
fn what_is_no_configuration_is_refused() {
    let network = Network::new();
    for (text, code, word) in [
        ("", 6, "JSON"),
        ("{", 6, "JSON"),
        ("[]", 6, "no object"),
        ("null", 6, "no object"),
        (r#"{"cniVersion":"1.1.0","type":"manx"}"#, 7, "name"),
        (r#"{"cniVersion":"1.1.0","name":"","type":"manx"}"#, 7, "name"),
        (r#"{"cniVersion":"1.1.0","name":"../x","type":"manx"}"#, 7, "../x"),
        (r#"{"cniVersion":"1.1.0","name":5,"type":"manx"}"#, 7, "5"),
        (r#"{"cniVersion":"9.0.0","name":"net","type":"manx"}"#, 1, "9.0.0"),
        (r#"{"cniVersion":"one","name":"net","type":"manx"}"#, 1, "one"),
    ] {
        let reply = network.call("ADD").pod(&Pod::new("a")).text(text).run();
        refused(reply, code, &[word]);
    }
}

#[test]
fn what_the_environment_lacks_or_garbles_is_named() {
    let network = Network::new();
    let pod = Pod::new("a");
    for variable in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
        let reply = network.call("ADD").pod(&pod).without(variable).run();
        refused(reply, 4, &[variable]);
    }
    let long = "x".repeat(16);
    for (variable, value) in [
        ("CNI_CONTAINERID", "../../etc"),
        ("CNI_CONTAINERID", "a b"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", long.as_str()),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "eth%d"),
        ("CNI_IFNAME", "a:b"),
    ] {
        let reply = network.call("ADD").pod(&pod).env(variable, value).run();
        refused(reply, 4, &[variable, value]);
    }
    assert!(network.leases().is_empty());
    assert!(pod.netns.links().is_empty());
}

#[test]
fn the_loopback_of_the_pod_cannot_be_asked_for() {
    let network = Network::new();
    let pod = Pod::new("a").interface("lo");
    refused(network.add(&pod), 101, &["lo"]);
    assert!(network.leases().is_empty());
    network.del(&pod).ok();
    assert!(pod.netns.link("lo").is_some());
}

#[test]
fn an_error_is_in_the_version_that_was_asked_for() {
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let network = Network::new().with("cniVersion", json!(version)).with("mode", json!("gre"));
        let error = network.add(&Pod::new("a")).error();
        assert_eq!(error["cniVersion"], version);
    }
}

#[test]
fn keys_match_without_regard_to_case() {
    let network = Network::new().with("MTU", json!(1400)).with("HostPrefix", json!("pod"));
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    assert!(crate::network::host_link(&result).starts_with("pod"));
    assert_eq!(pod.netns.link("eth0").unwrap()["mtu"], 1400);
}
