// SPDX-License-Identifier: Apache-2.0
//! Packets that no policy allows: counted for each pod, as long as it is there.

use std::fs;

use serde_json::Value;

use super::{CLOSED, addresses, apply, are, classes, enforcing, known, only, pod, shown};
use crate::network::{Network, address, text};

/// The addresses of which the kernel counts what is dropped.
fn counted(network: &Network) -> Vec<String> {
    let sets = ["drops-out4", "drops-in4", "drops-out6", "drops-in6"];
    let list = |set: &str| {
        let args = ["-j", "list", "set", "inet", "manx.policy", set];
        let listed = network.host().command("nft", &args).ok();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let objects = listed["nftables"].as_array().unwrap().clone();
        let set = objects.into_iter().find_map(|mut it| Some(it.get_mut("set")?.take())).unwrap();
        let elements = set["elem"].as_array().cloned().unwrap_or_default();
        elements.into_iter().map(move |it| text(&it["elem"]["val"]).to_owned())
    };
    sets.into_iter().flat_map(list).collect()
}

/// What was dropped of a pod's packets: what it sent, and what was sent to it.
fn dropped(network: &Network, address: &str) -> [Option<u64>; 2] {
    let shown = shown(network);
    let pod = shown["pods"].as_array().unwrap().iter().find(|pod| pod["address"] == address);
    ["egress", "ingress"].map(|way| pod?[way]["dropped"]["packets"].as_u64())
}

#[test]
fn what_is_dropped_is_counted_from_add_to_del() {
    let network = enforcing();
    let (web, client) = (pod("web", "u1"), pod("client", "u2"));
    let [web_result, client_result] = [&web, &client].map(|pod| network.add(pod).ok());
    let all = [addresses(&web_result), addresses(&client_result)].concat();
    assert_eq!(counted(&network).len(), 2 * all.len());
    let (v4, v6) = (address(&web_result, 0), address(&web_result, 1));
    assert!(client.netns.keeps_silent(&v4) && client.netns.keeps_silent(&v6));
    for place in 0..2 {
        let [out, into] = dropped(&network, &address(&client_result, place));
        assert!(out > Some(0) && into == Some(0), "{out:?} {into:?}");
        assert_eq!(dropped(&network, &address(&web_result, place)), [Some(0), Some(0)]);
    }
    let name = shown(&network)["pods"][0]["pod"].clone();
    assert!(["test/web", "test/client"].contains(&name.as_str().unwrap()), "{name}");
    // Now web alone is isolated, and it is there that packets end.
    let world = [known("web", "u1"), known("client", "u2"), only("web", "nobody")];
    apply(&network, &world);
    assert!(client.netns.keeps_silent(&v4) && client.netns.keeps_silent(&v6));
    let before = dropped(&network, &v4);
    assert!(before[0].is_none() && before[1] > Some(0), "{before:?}");
    // Another policy is another class, and the same count.
    let class = classes(&network, &v4);
    apply(&network, &[known("web", "u1"), known("client", "u2"), only("web", "web")]);
    assert_ne!(classes(&network, &v4), class);
    assert_eq!(dropped(&network, &v4), before);
    assert_eq!(counted(&network), [v4, v6]);
    network.del(&web).ok();
    assert_eq!(counted(&network), [""; 0]);
    network.del(&client).ok();
}

/// Where a new version of the plugin finds the table of an earlier one.
#[test]
fn a_table_of_an_earlier_version_is_replaced_by_whoever_comes() {
    let network = enforcing();
    let note = network.root("run/manx/.policy/denial.json");
    let web = pod("web", "u1");
    let result = network.add(&web).ok();
    let tables = || network.host().command("nft", &["list", "tables"]).ok();
    let counts = || {
        let listed = network.host().command("nft", &["list", "table", "inet", "manx.policy"]).ok();
        listed.contains("set drops-in4")
    };
    let late = pod("late", "u3");
    let comes = || {
        network.add(&late).ok();
        network.del(&late).ok();
    };
    let asked = || drop(network.status().ok());
    let applied = || apply(&network, &[known("other", "u9")]);
    for replace in [&comes as &dyn Fn(), &asked, &applied] {
        // As it was before drops were counted for each pod.
        fs::write(&note, r#"{"version": 1, "counts": false}"#).unwrap();
        network.host().command("nft", &["flush", "ruleset"]).ok();
        network.status().ok();
        assert!(!counts());
        are(&network, &result, CLOSED);
        fs::remove_file(&note).unwrap();
        replace();
        assert!(counts());
        are(&network, &result, CLOSED);
        assert!(!tables().contains("cover"), "{}", tables());
        network.check(&web, &result).ok();
    }
    fs::write(&note, r#"{"version": 2}"#).unwrap();
    let error = network.add(&late).error();
    assert!(text(&error["msg"]).contains("denial.json"), "{error}");
    apply(&network, &[known("web", "u1")]);
    network.add(&late).ok();
}
