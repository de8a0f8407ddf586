// SPDX-License-Identifier: Apache-2.0
//! A limit of the whole machine, which no namespace has for itself.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;

use crate::{
    cluster::{Cluster, MANX, Node},
    harness::{DEADLINE, Stdin, plugin_dir, run},
    machine,
};

const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
/// More than the other scenarios need, which run meanwhile.
const CONNECTIONS: u16 = 1024;

/// What is first in what doctor prints, and what mends it.
fn first(node: &Node) -> (String, Vec<String>) {
    let told = node.manx(&["doctor"]).stdout;
    let of = |name: &str| {
        let lines = told.lines().filter_map(|line| line.trim().strip_prefix(name));
        lines.map(str::to_owned).next().unwrap_or_default()
    };
    (told.lines().next().unwrap_or_default().to_owned(), vec![of("fix: "), of("undo: ")])
}

/// As the administrator of the machine.
fn administer(line: &str) {
    let mut command = Command::new("sh");
    command.args(["-ec", line]);
    run(command, &Stdin::Null, DEADLINE).ok();
}

#[test]
#[ignore = "changes a limit of the whole machine: ipip_between_nodes runs it in one of its own"]
fn a_full_table_of_connections_is_named_first() {
    if !machine::is_inside() {
        // Nobody else's machine is to drop connections for this.
        return;
    }
    let cluster = Cluster::new(&json!({"mode": "ipip", "ipMasq": true}));
    cluster.apply();
    let [node, peer, _] = &cluster.nodes;
    let programs = node.root().join("opt/cni/bin");
    fs::create_dir_all(&programs).unwrap();
    symlink(MANX, programs.join("manx")).unwrap();
    symlink(plugin_dir().join("host-local"), programs.join("host-local")).unwrap();
    // Masquerade is what makes a node note connections.
    let _pod = node.pod();
    let before = fs::read_to_string(MAX).unwrap();
    assert!(first(node).0.starts_with("healthy"), "{:?}", first(node));
    node.host.set_sysctl("netfilter/nf_conntrack_udp_timeout", "600");
    fs::write(MAX, CONNECTIONS.to_string()).unwrap();
    node.host.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for port in 0..2 * CONNECTIONS {
            // Of those that find no place one is refused.
            let _ = socket.send_to(b"?", (peer.address, 20_000 + port));
        }
    });
    let (line, commands) = first(node);
    let [fix, undo] = &commands[..] else { panic!() };
    assert!(line.starts_with("error: conntrack-full"), "{line}");
    administer(fix);
    assert!(!first(node).0.contains("conntrack-full"), "{fix}: {:?}", first(node));
    administer(undo);
    assert!(first(node).0.contains("conntrack-full"), "{undo}: {:?}", first(node));
    fs::write(MAX, before.trim()).unwrap();
}
