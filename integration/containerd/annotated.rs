// SPDX-License-Identifier: Apache-2.0
//! Pods that name their address by Calico's annotations, under the configuration that is shipped:
//! the runtime hands them over because it declares the capability.

use std::path::Path;

use serde_json::{Value, json};

use crate::enclosure::remains::Network;
use crate::enclosure::{collect_plugins, node_pings};
use crate::runtime::{PodSpec, Release, Runtime, SLEEP};
use crate::story::{Places, nothing_is_left};

const ADDRESS: &str = "10.244.0.77";
const MAC: &str = "ca:fe:ca:fe:ca:01";

pub(crate) fn pods_get_what_they_name(release: Release) {
    let places = Places::new(Path::new("/run/manx-test"));
    collect_plugins(&places.plugins, Some((env!("CARGO_BIN_EXE_manx"), "manx")));
    let before = Network::now();
    let shipped = include_str!("../../conf/10-manx.conflist");
    let mut conflist: Value = serde_json::from_str(shipped).expect("the shipped list");
    conflist["plugins"][0]["ipam"]["dataDir"] = json!(places.leases);
    // Its table would stay behind the last pod until a garbage collection.
    conflist["plugins"][0]["ipMasq"] = json!(false);
    conflist["plugins"][0]["sourceCheck"] = json!(false);
    let (directory, plugins, state) = (&places.runtime, &places.plugins, &places.state);
    let runtime = Runtime::start(release, directory, plugins, &[conflist], state);
    runtime.until_ready();

    let addresses = format!("[{ADDRESS:?}]");
    let annotations =
        [("cni.projectcalico.org/ipAddrs", &*addresses), ("cni.projectcalico.org/hwAddr", MAC)];
    let spec = |name| PodSpec {
        name,
        namespace: "named",
        command: &SLEEP,
        annotations: &annotations,
        ..PodSpec::default()
    };
    let pod = runtime.run(&spec("first"));
    assert_eq!(runtime.address(&pod), ADDRESS);
    let link = runtime.exec(&pod, &["ip", "link", "show", "dev", "eth0"]);
    assert!(link.contains(MAC), "{link}");
    node_pings(ADDRESS);
    let why = runtime.refusal(&spec("second"));
    assert!(why.contains(ADDRESS), "the reason does not name the address: {why}");
    let strange = [("cni.projectcalico.org/ipAddrs", "[\"10.9.9.9\"]")];
    let why = runtime.refusal(&PodSpec { annotations: &strange, ..spec("third") });
    assert!(why.contains("10.9.9.9"), "the reason does not name the address: {why}");
    runtime.remove(&pod);
    nothing_is_left(&before, &places, &[&pod.sandbox, ADDRESS]);
}
