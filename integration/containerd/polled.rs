// SPDX-License-Identifier: Apache-2.0
//! A containerd that polls: CRI's status, which kubelet asks every few seconds, makes the newest one
//! call STATUS, and an error of it takes the node out of service.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::enclosure::remains::Network;
use crate::enclosure::{collect_plugins, output};
use crate::runtime::{PodSpec, Release, Runtime, SLEEP};
use crate::several::conflist;
use crate::story::{Places, nothing_is_left};

/// How often the status is asked for.
const POLLS: usize = 12;

/// Where manx logs, below its state: a runtime passes on stderr of what succeeds alone.
const LOG: &str = "/var/log/manx.log";

fn start(places: &Places, mut conflist: Value) -> Runtime {
    conflist["plugins"][0]["logFile"] = json!(LOG);
    collect_plugins(&places.plugins, Some((env!("CARGO_BIN_EXE_manx"), "manx")));
    let (directory, plugins, state) = (&places.runtime, &places.plugins, &places.state);
    Runtime::start(Release::Newest, directory, plugins, &[conflist], state)
}

fn log_file(places: &Places) -> String {
    format!("{}{LOG}", places.state.display())
}

/// What manx has logged that is no matter of course.
fn warnings(places: &Places) -> Vec<String> {
    let log = fs::read_to_string(log_file(places)).unwrap_or_default();
    let bad = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    log.lines().filter(bad).map(str::to_owned).collect()
}

/// A pool that is full of living pods: those go on, and a node that is not ready would be emptied of
/// them.
pub(crate) fn full_pool() {
    let places = Places::new(Path::new("/run/manx-test"));
    let before = Network::now();
    let mut conflist = conflist(0, &places.leases);
    let range =
        json!({"subnet": "10.90.0.0/24", "rangeStart": "10.90.0.2", "rangeEnd": "10.90.0.3"});
    conflist["plugins"][0]["ipam"]["ranges"] = json!([[range]]);
    let runtime = start(&places, conflist);
    runtime.until_ready();
    let spec = |name| PodSpec { name, namespace: "full", command: &SLEEP, ..PodSpec::default() };
    let pods = ["one", "two"].map(|name| runtime.run(&spec(name)));
    let why = runtime.refusal(&spec("three"));
    assert!(why.contains("10.90.0.2"), "the reason does not name the range: {why}");
    let told = warnings(&places).len();
    for _ in 0..POLLS {
        assert!(runtime.network_ready(), "{}", runtime.log());
    }
    let polled = warnings(&places);
    assert!(polled.len() <= told + 1, "{polled:#?}");
    let words = [pods[0].sandbox.clone(), pods[1].sandbox.clone()];
    for pod in &pods {
        runtime.remove(pod);
    }
    fs::remove_file(log_file(&places)).expect("manx has logged");
    nothing_is_left(&before, &places, &words.each_ref().map(String::as_str));
}

/// As at the start of a node, when the list of nodes is still to come: the node waits, the reason is
/// told, and told once.
pub(crate) fn missing_peers_file() {
    let places = Places::new(Path::new("/run/manx-test"));
    // MANX_ROOT stands before both.
    let file = places.state.join("etc/manx/peers.json");
    fs::create_dir_all(places.state.join("etc/manx")).expect("a directory for the peers file");
    let mut conflist = conflist(0, &places.leases);
    conflist["plugins"][0]["peersFile"] = json!("/etc/manx/peers.json");
    for uplink in [
        "link add uplink type veth peer name wire",
        "link set wire up",
        "link set uplink up",
        "address add 198.51.100.1/24 dev uplink",
        "address add 2001:db8::1/64 dev uplink nodad",
    ] {
        output(Command::new("ip").args(uplink.split(' ')));
    }
    let runtime = start(&places, conflist);
    for _ in 0..POLLS {
        assert!(!runtime.network_ready(), "{}", runtime.log());
    }
    let told = warnings(&places);
    let of_file = told.iter().filter(|line| line.contains("peers.json")).count();
    assert_eq!((told.len(), of_file), (1, 1), "{told:#?}");
    let nodes = json!([{
        "name": "node-a",
        "addresses": ["198.51.100.1", "2001:db8::1"],
        "podCIDRs": ["10.90.0.0/24", "fd00:90::/64"],
    }]);
    fs::write(&file, json!({"self": "node-a", "nodes": nodes}).to_string()).expect("a peers file");
    runtime.until_ready();
}
