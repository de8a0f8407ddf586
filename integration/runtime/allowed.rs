// SPDX-License-Identifier: Apache-2.0
//! What the link of a pod may send from besides the pod's own addresses: what an operator
//! added, and what the pod asked for where it may. It goes with the link.

use std::fs;
use std::time::SystemTime;

use serde_json::json;

use crate::guard::{OUTSIDE, Scene};
use crate::harness::Pod;
use crate::node::NETWORK;

#[test]
fn a_source_that_is_allowed_for_the_link_passes() {
    let scene = Scene::new(&json!({}));
    for (set, network, inside) in
        [("allowed4", "10.9.0.0/16", "10.9.1.2"), ("allowed6", "fd00:9::/32", "fd00:9:1::2")]
    {
        let family = usize::from(inside.contains(':'));
        let outside = (&scene.outside, OUTSIDE[family]);
        assert_eq!(scene.believed(outside.0, outside.1, &[inside]), [""; 0]);
        let add = |pod: usize| {
            let element = format!("{{ {:?} . {network} }}", scene.link(pod));
            scene.nft(&format!("add element inet manx-{NETWORK} {set} {element}"));
        };
        add(1);
        assert_eq!(scene.believed(outside.0, outside.1, &[inside]), [""; 0], "another's link");
        add(0);
        assert_eq!(scene.believed(outside.0, outside.1, &[inside]), [inside]);
    }
    scene.plugin.check(&scene.pods[0], &scene.results[0]).ok();
    // A repair keeps what was allowed; a loopback address is never.
    scene.nft(&format!("flush table inet manx-{NETWORK}"));
    scene.plugin.status().ok();
    let everything = format!("{{ {:?} . 0.0.0.0/0 }}", scene.link(1));
    scene.nft(&format!("add element inet manx-{NETWORK} allowed4 {everything}"));
    let believed = scene.believed(&scene.outside, OUTSIDE[0], &["10.9.1.2", "8.8.8.8"]);
    assert_eq!(believed, ["10.9.1.2"]);
}

/// Whoever has a link of that name next may be somebody else.
#[test]
fn what_was_allowed_goes_with_its_link() {
    let scene = Scene::new(&json!({}));
    let last = Pod::new("c");
    let kept = scene.plugin.add(&last).ok();
    let links = [scene.link(0), scene.link(1), kept["interfaces"][0]["name"].as_str().unwrap()];
    for link in links {
        for (set, network) in
            [("allowed4", "10.9.0.0/16"), ("allowed4", "192.0.2.9"), ("allowed6", "fd00:9::/32")]
        {
            scene.nft(&format!("add element inet manx-{NETWORK} {set} {{ {link:?} . {network} }}"));
        }
    }
    let allowed = || links.map(|link| scene.table().matches(&format!("{link:?}")).count());
    assert_eq!(allowed(), [3; 3]);
    // STATUS looks once in a while, and DEL asks what it noted.
    let state = scene.host().scratch().path().join("root/run/manx").join(NETWORK);
    let lock = fs::File::options().write(true).open(state.join(".lock")).unwrap();
    lock.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    scene.plugin.status().ok();
    scene.plugin.del(&scene.pods[0]).ok();
    assert_eq!(allowed(), [0, 3, 3]);
    // So does a GC.
    let valid = json!([{"containerID": last.id, "ifname": "eth0"}]);
    let done = scene.plugin.call("GC").key("cni.dev/valid-attachments", valid).run();
    assert_eq!((done.status, allowed()), (0, [0, 0, 3]), "{done:?}");
}

/// Where the configuration lets it, by Calico's annotation.
#[test]
fn a_pod_may_be_let_to_name_its_sources() {
    const INSIDE: &str = "10.9.1.2";
    let annotations = json!({"io.kubernetes.cri.pod-annotations": {
        "cni.projectcalico.org/allowedSourcePrefixes": "[\"10.9.0.0/16\", \"fd00:9::/32\"]"}});
    let keys = |lets: &str| json!({"sourceSpoofing": lets, "runtimeConfig": annotations});
    let scene = Scene::new(&keys("off"));
    assert_eq!(scene.believed(&scene.outside, OUTSIDE[0], &[INSIDE]), [""; 0]);
    let scene = Scene::new(&keys("annotation"));
    let believed = || scene.believed(&scene.outside, OUTSIDE[0], &[INSIDE, "8.8.8.8"]);
    assert_eq!(believed(), [INSIDE]);
    // What is flushed comes back with the rules.
    scene.nft("flush ruleset");
    scene.plugin.status().ok();
    assert_eq!(believed(), [INSIDE]);
    assert_eq!(scene.believed(&scene.outside, OUTSIDE[1], &["fd00:9:1::2"]), ["fd00:9:1::2"]);
    // It goes with the link, without a STATUS in between.
    let mentions = |link: &str| scene.table().matches(&format!("{link:?}")).count();
    let link = scene.link(0).to_owned();
    assert_eq!(mentions(&link), 2);
    scene.plugin.del(&scene.pods[0]).ok();
    assert_eq!(mentions(&link), 0);
}

/// The next sandbox of a pod has a link of the same name, before the former one's DEL.
#[test]
fn what_was_allowed_is_not_handed_on_to_the_next_sandbox() {
    let scene = Scene::new(&json!({"sourceSpoofing": "annotation"}));
    let add = |pod: &Pod, sources: &str| {
        let annotations = json!({"io.kubernetes.cri.pod-annotations": {
            "cni.projectcalico.org/allowedSourcePrefixes": sources}});
        let done = scene.plugin.call("ADD").pod(pod).key("runtimeConfig", annotations).run().ok();
        done["interfaces"][0]["name"].as_str().unwrap().to_owned()
    };
    let [first, second, third] = ["c", "d", "e"].map(|id| Pod::new(id).kubernetes("shop", "web-0"));
    let link = add(&first, "[\"10.9.0.0/16\"]");
    let allowed = |text: &str| scene.table().contains(&format!("{link:?} . {text}"));
    assert!(allowed("10.9.0.0/16"), "{}", scene.table());
    // A part of it, which could not be beside the whole.
    assert_eq!(add(&second, "[\"10.9.1.0/24\"]"), link);
    assert!(allowed("10.9.1.0/24") && !allowed("10.9.0.0/16"), "{}", scene.table());
    scene.plugin.del(&first).ok();
    assert!(allowed("10.9.1.0/24"), "{}", scene.table());
    // With the table it is given back, whatever somebody wrote over the link's mark.
    scene.host().command("ip", &["link", "set", &link, "alias", "rack 7"]).ok();
    scene.nft("flush ruleset");
    scene.plugin.status().ok();
    assert!(allowed("10.9.1.0/24"), "{}", scene.table());
    assert_eq!(add(&third, "[]"), link);
    assert!(!allowed("10.9"), "{}", scene.table());
    // Nor is it given back with the table.
    scene.nft("flush ruleset");
    scene.plugin.status().ok();
    assert!(!allowed("10.9"), "{}", scene.table());
}
