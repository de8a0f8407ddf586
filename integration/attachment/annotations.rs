// SPDX-License-Identifier: Apache-2.0
//! What a pod asks for by Calico's annotations, as containerd and CRI-O hand them over.

use serde_json::{Value, json};

use crate::harness::{Pod, Reply};
use crate::network::Network;
use crate::ownership::names;

/// The capability of both runtimes.
const CAPABILITY: &str = "io.kubernetes.cri.pod-annotations";

/// An ADD of a pod with these annotations of Calico's, beside one of somebody else's.
fn add(network: &Network, pod: &Pod, annotations: &Value) -> Reply {
    let mut given = json!({"example.org/owner": "[\"nobody\"]"});
    for (name, value) in annotations.as_object().unwrap() {
        given[format!("cni.projectcalico.org/{name}")] = value.clone();
    }
    network.call("ADD").pod(pod).key("runtimeConfig", json!({CAPABILITY: given})).run()
}

fn addresses(result: &Value) -> Vec<&str> {
    let ips = result["ips"].as_array().unwrap();
    ips.iter().map(|ip| ip["address"].as_str().unwrap()).collect()
}

/// Both families from manx-ipam, and from host-local.
fn networks() -> [Network; 2] {
    [Network::new().dual(), {
        let network = Network::new();
        let data_dir = network.host().scratch().dir("leases");
        let ranges = json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]);
        network.ipam(json!({"type": "manx-ipam", "dataDir": data_dir, "ranges": ranges}))
    }]
}

#[test]
fn a_pod_gets_the_addresses_and_the_mac_that_it_names() {
    for network in networks() {
        let annotations = json!({
            "hwAddr": "ca:fe:ca:fe:ca:01",
            "ipAddrs": "[\"10.1.0.77\", \"fd00:1::77\"]",
        });
        let pod = Pod::new("a");
        let result = add(&network, &pod, &annotations).ok();
        assert_eq!(addresses(&result), ["10.1.0.77/32", "fd00:1::77/128"]);
        assert_eq!(result["interfaces"][1]["mac"], "ca:fe:ca:fe:ca:01");
        let link = pod.netns.command("ip", &["link", "show", "eth0"]).ok();
        assert!(link.contains("ca:fe:ca:fe:ca:01"), "{link}");
        network.check(&pod, &result).error();
        let checked = network.call("CHECK").pod(&pod).key("prevResult", result.clone());
        let given = json!({CAPABILITY: {"cni.projectcalico.org/hwAddr": "ca:fe:ca:fe:ca:01"}});
        checked.key("runtimeConfig", given).run().ok();
        // It is one pod's.
        let error = add(&network, &Pod::new("b"), &annotations).error();
        assert!(error["msg"].as_str().unwrap().contains("10.1.0.77"), "{error}");
        network.del(&pod).ok();
        add(&network, &Pod::new("c"), &annotations).ok();
    }
}

#[test]
fn a_pod_gets_the_families_that_it_names() {
    for network in networks() {
        let of = |annotations: Value| {
            let pod = Pod::new("f");
            let result = add(&network, &pod, &annotations).ok();
            let given = addresses(&result).iter().map(|one| one.contains(':')).collect::<Vec<_>>();
            network.del(&pod).ok();
            given
        };
        assert_eq!(of(json!({})), [false, true]);
        assert_eq!(of(json!({"ipFamilies": "[\"IPv6\"]"})), [true]);
        assert_eq!(of(json!({"ipFamilies": "[\"IPv4\"]"})), [false]);
        assert_eq!(of(json!({"ipFamilies": "[\"IPv4\", \"IPv6\"]"})), [false, true]);
        assert_eq!(of(json!({"ipAddrs": "[\"fd00:1::9\"]"})), [true], "and no other beside it");
    }
}

/// Nothing is made, and nothing stays leased.
#[test]
fn what_cannot_be_had_is_an_error() {
    for network in networks() {
        let before = network.remains();
        for (annotations, words) in [
            (json!({"ipAddrs": "[\"10.2.0.9\"]"}), "10.2.0.9"),
            (json!({"ipAddrs": "10.1.0.9"}), "cni.projectcalico.org/ipAddrs"),
            (json!({"ipFamilies": "[\"IPv7\"]"}), "cni.projectcalico.org/ipFamilies"),
            (json!({"hwAddr": "ca:fe"}), "ca:fe"),
        ] {
            let error = add(&network, &Pod::new("a"), &annotations).error();
            assert!(error["msg"].as_str().unwrap().contains(words), "{words}: {error}");
            assert_eq!(network.remains(), before, "{annotations}");
        }
    }
    let network = Network::new();
    names(
        &add(&network, &Pod::new("a"), &json!({"ipFamilies": "[\"IPv6\"]"})).error(),
        7,
        &["IPv6"],
    );
    // Which gives whatever it is asked for, of another node's too.
    let fixed = network.ipam(json!({"type": "static", "addresses": [{"address": "10.1.0.5/24"}]}));
    let asked = json!({"ipAddrs": "[\"10.1.0.9\"]"});
    names(&add(&fixed, &Pod::new("b"), &asked).error(), 7, &["10.1.0.9", "static"]);
}

#[test]
fn what_is_not_served_is_told() {
    let network = Network::new();
    let annotations = json!({
        "floatingIPs": "[\"192.0.2.7\"]",
        "ipAddrsNoIpam": "[\"192.0.2.8\"]",
        "allowedSourcePrefixes": "[\"10.9.0.0/16\"]",
    });
    let reply = add(&network, &Pod::new("a"), &annotations);
    for name in ["floatingIPs", "ipAddrsNoIpam", "allowedSourcePrefixes"] {
        assert!(reply.stderr.contains(&format!("cni.projectcalico.org/{name}")), "{reply:?}");
    }
    reply.ok();
}
