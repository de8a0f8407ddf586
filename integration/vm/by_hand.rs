// SPDX-License-Identifier: Apache-2.0
//! A node programmed by hand exactly as Calico's Felix does it (3.33: it owns
//! IPIP routes itself), with no manx anywhere: device, address, routes of
//! protocol 80, pods with Calico's next hop.

use crate::{
    cluster::{Attached, Node},
    harness::Pod,
};

/// Felix's mark on routes of its own.
const PROTOCOL: &str = "80";

/// Programs the node's way to the pods of `peers`.
pub fn program(node: &Node, peers: &[&Node]) {
    let ip = |line: &str| node.host.command("ip", &line.split(' ').collect::<Vec<_>>()).ok();
    // Loading the module makes the device, and then it cannot be added.
    node.host.command("ip", &["link", "add", "tunl0", "type", "ipip"]);
    ip("link set tunl0 mtu 1480");
    ip(&format!("address add {}/32 dev tunl0", tunnel_address(node)));
    ip("link set tunl0 up");
    ip(&format!("route add blackhole {} proto {PROTOCOL}", node.cidr));
    for peer in peers {
        ip(&format!(
            "route add {} via {} dev tunl0 onlink mtu 1480 proto {PROTOCOL}",
            peer.cidr, peer.address
        ));
    }
    node.host.set_sysctl("ipv4/ip_forward", "1");
}

/// Attaches a pod with the given last octet, as Calico's plugin and Felix do.
pub fn attach(node: &Node, octet: u8) -> Attached {
    let pod = Pod::new("felix");
    let address = format!("{}.{octet}", node.cidr.rsplit_once('.').expect("a CIDR").0);
    let link = format!("cali{octet:011x}");
    let inside = pod.netns.path();
    let inside = inside.to_str().expect("ASCII");
    let mtu = ["mtu", "1480"];
    let mut args = vec!["link", "add", link.as_str(), mtu[0], mtu[1], "address", MAC];
    args.extend(["type", "veth", "peer", "name", "eth0", mtu[0], mtu[1], "netns", inside]);
    node.host.command("ip", &args).ok();
    node.host.command("ip", &["link", "set", &link, "up"]).ok();
    node.host.set_sysctl(&format!("ipv4/conf/{link}/proxy_arp"), "1");
    node.host.set_sysctl(&format!("ipv4/neigh/{link}/proxy_delay"), "0");
    let route = ["route", "add", &address, "dev", &link, "scope", "link"];
    node.host.command("ip", &route).ok();
    let ip = |line: &str| pod.netns.command("ip", &line.split(' ').collect::<Vec<_>>()).ok();
    ip("link set eth0 up");
    ip(&format!("address add {address}/32 dev eth0"));
    ip("route add 169.254.1.1 dev eth0 scope link");
    ip("route add default via 169.254.1.1 dev eth0");
    Attached { pod, address }
}

/// The MAC of the host end of every Calico pod.
const MAC: &str = "ee:ee:ee:ee:ee:ee";

/// What host-local would have given Felix's node: the first of its block.
fn tunnel_address(node: &Node) -> &str {
    node.cidr.split('/').next().expect("a CIDR")
}
