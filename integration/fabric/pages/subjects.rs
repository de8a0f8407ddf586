// SPDX-License-Identifier: Apache-2.0
//! Pages about one subject each, and README: their commands on two nodes that are well, or bare.

use serde_json::json;

use super::{Faults, Scene, follow};
use crate::cluster::MANX;
use crate::harness::Plugin;

#[test]
fn the_commands_of_readme_print_what_it_says() {
    follow("../README.md", README);
}

#[test]
fn the_commands_of_what_a_pod_gets_print_what_it_says() {
    follow("pod.md", POD);
}

#[test]
fn the_commands_of_routes_between_nodes_print_what_it_says() {
    follow("fabric.md", FABRIC);
}

#[test]
fn the_commands_of_addresses_print_what_it_says() {
    follow("addresses.md", ADDRESSES);
}

/// Two nodes on which nothing but files was put.
fn bare(scene: &Scene) {
    for (node, pod) in [scene.a(), scene.b()].into_iter().zip(&scene.pods) {
        node.plugin.del(pod).ok();
        scene.breaks(node, "manx apply --undo && sysctl -qw net.ipv4.ip_forward=0");
    }
}

const README: Faults = &[("Two nodes without Kubernetes", bare)];

const POD: Faults = &[
    ("The way out of a pod", |_| {}),
    ("Several networks in one pod", |scene| {
        let second = Plugin::new(&scene.a().host, MANX).config(json!({
            "cniVersion": "1.1.0", "name": "second", "type": "manx",
            "ipam": {"type": "manx-ipam", "ranges": [[{"subnet": "10.9.0.0/24"}]]},
        }));
        second.add(&scene.pods[0].interface("net1")).ok();
    }),
    ("Which source addresses a pod may send from", |_| {}),
];

const FABRIC: Faults = &[("Modes", |_| {}), ("Applying it", bare)];

const ADDRESSES: Faults = &[("Looking at them", |scene| {
    let leases = scene.a().host.scratch().path().join("root/var/lib/cni/networks/net");
    std::fs::write(leases.join("10.244.1.9"), "gone\r\neth0").unwrap();
})];
