// SPDX-License-Identifier: Apache-2.0
//! A node with many pods on a large cluster. `MANX_STATIC` names the program that is
//! released (hack/build-static makes it), which is held to what is promised of it; the
//! tests' own, which is not optimized, to some multiple.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::ground::Ground;
use crate::cluster::MANX;
use crate::doctor::besides_load;
use crate::harness::Pod;
use crate::scale::{PEERS, peer};

const PODS: usize = 500;

/// The program, how long it may take, and how much memory it may ask for.
fn program() -> (PathBuf, Duration, usize) {
    match std::env::var_os("MANX_STATIC") {
        Some(path) => (path.into(), Duration::from_secs(1), 32 << 10),
        None => (MANX.into(), Duration::from_secs(20), 96 << 10),
    }
}

#[test]
fn a_large_node_is_looked_at_in_a_moment_with_little_memory() {
    let ground = Ground::new();
    ground.ip("route add 172.16.0.0/16 dev eth0");
    ground.change_peers(|peers| {
        let nodes = peers["nodes"].as_array_mut().unwrap();
        // Room for all, and the other node's pods elsewhere.
        nodes[0]["podCIDRs"] = json!(["10.244.0.0/22"]);
        nodes[1]["podCIDRs"] = json!(["10.245.0.0/24"]);
        nodes.extend((0..PEERS).map(peer));
    });
    ground.sh("manx apply");
    let pods: Vec<Pod> = (0..PODS).map(|_| ground.node().attach("many")).collect();
    let (program, limit, kibibytes) = program();
    // All that it asks for, which is more than what it touches.
    let command = format!("ulimit -v {kibibytes}; exec {} doctor", program.display());
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let told = besides_load(|| ground.command("sh", &["-c", &command]));
        fastest = fastest.min(told.took);
        assert!(told.status == 0 && told.stdout.starts_with("healthy: "), "{told:?}");
        assert_eq!(told.stdout.lines().count(), 1, "{told:?}");
    }
    println!("doctor beside {PEERS} peers and {PODS} pods: {fastest:?}, below {kibibytes} KiB");
    assert!(fastest < limit, "{fastest:?}");
    let links = ground.node().host.links();
    let narrow = |name: &&String| name.starts_with("cali");
    let lines: Vec<String> =
        links.iter().filter(narrow).map(|name| format!("link set {name} mtu 1300")).collect();
    assert_eq!(lines.len(), PODS + 1, "with the one that was there");
    ground.ip(&lines.join("\n"));
    let told = ground.doctor(&[]);
    assert_eq!(told.status, 3, "{told:?}");
    assert!(told.stdout.lines().count() < 12, "one paragraph, not {PODS}: {}", told.stdout);
    let first = told.stdout.lines().next().unwrap();
    assert!(
        first.starts_with("warning: mtu-mismatch: ") && first.contains(" and 500 more: "),
        "{first}"
    );
    drop(pods);
}
