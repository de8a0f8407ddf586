// SPDX-License-Identifier: Apache-2.0
//! The configuration that containerd makes of the documented template, once it is told of the node's
//! podCIDRs.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::enclosure::collect_plugins;
use crate::enclosure::remains::Network;
use crate::runtime::{PodSpec, Release, Runtime, SLEEP};
use crate::story::{Places, nothing_is_left};

/// As documented, but for what a single node has no use for, and what would stay behind its last pod.
fn template(places: &Places) -> String {
    let documented = include_str!("../../docs/kubernetes.md");
    let mut blocks = documented.split("```json\n").filter_map(|rest| rest.split("```").next());
    let template = blocks.find(|block| block.contains("PodCIDRRanges")).expect("a template");
    let data_dir = format!("\"dataDir\": {:?}, \"ranges\"", places.leases);
    let mut text = template.to_owned();
    for (ours, other) in [
        ("\"peersFile\": \"/etc/manx/peers.json\",", ""),
        ("\"ipMasq\": true", "\"sourceCheck\": false"),
        ("\"ranges\"", &data_dir),
    ] {
        assert!(text.contains(ours), "the documented template has no {ours}");
        text = text.replace(ours, other);
    }
    text
}

pub(crate) fn is_filled_in() {
    let places = Places::new(Path::new("/run/manx-test"));
    collect_plugins(&places.plugins, Some((env!("CARGO_BIN_EXE_manx"), "manx")));
    let before = Network::now();
    let file = places.runtime.join("template");
    fs::write(&file, template(&places)).expect("a template");
    let more = format!("conf_template = {file:?}\n");
    let (directory, plugins, state) = (&places.runtime, &places.plugins, &places.state);
    let runtime = Runtime::start_by(Release::Newest, directory, plugins, &[], state, &more);
    assert!(!runtime.network_ready(), "there is no configuration yet");
    runtime.give_pod_cidrs("10.94.0.0/24,fd00:94::/64");
    runtime.until_ready();
    let written = directory.join("net.d/10-containerd-net.conflist");
    let written: Value =
        serde_json::from_slice(&fs::read(written).expect("the documented name")).expect("JSON");
    let ranges = json!([[{"subnet": "10.94.0.0/24"}], [{"subnet": "fd00:94::/64"}]]);
    assert_eq!(written["plugins"][0]["ipam"]["ranges"], ranges);

    let spec = PodSpec { name: "one", namespace: "filled", command: &SLEEP, ..PodSpec::default() };
    let pod = runtime.run(&spec);
    assert_eq!(runtime.address(&pod), "10.94.0.2");
    let words = pod.sandbox.clone();
    runtime.remove(&pod);
    nothing_is_left(&before, &places, &[&words]);
}
