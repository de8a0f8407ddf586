// SPDX-License-Identifier: Apache-2.0
//! Nodes that others programmed: with manx on the one side, and on the other
//! what Calico's agent or flanneld would have told the kernel, told by `ip`.

use serde_json::json;
use sha1_smol::Sha1;

use crate::cluster::{Cluster, Families, Node, addresses, batch, entry, join};
use crate::harness::{Host, Netns, connect};
use crate::traffic::{assert_exact_mtu, transfer};
use crate::wire::{Capture, carried};

/// Bytes of one transfer.
const MANY: usize = 8 << 20;

/// The MAC address of a node's vxlan.calico: `f` and the first five bytes of the
/// SHA-1 of the node's name.
pub fn calico_mac(name: &str) -> String {
    let digest = Sha1::from(name).digest().bytes();
    let octets: Vec<String> = digest.iter().take(5).map(|octet| format!("{octet:02x}")).collect();
    format!("66:{}", octets.join(":"))
}

/// A cluster whose only manx is on the first node, and the node of that number
/// that others look after.
fn beside(number: usize, keys: &serde_json::Value) -> (Cluster, Host) {
    let cluster = Cluster::of(&[1], Families::Ipv4, keys);
    let host = join(&cluster.router, number);
    host.set_sysctl("ipv4/ip_forward", "1");
    (cluster, host)
}

/// Both ways, in full packets and many of them, in UDP of this port.
fn assert_traffic(cluster: &Cluster, other: &Host, pod: (&Netns, &str), port: u16, peer: &str) {
    let node = &cluster.nodes[0];
    let ours = node.attach("a");
    let own = &addresses(&ours)[0];
    let capture = Capture::start(&cluster.router);
    let (netns, theirs) = pod;
    assert_exact_mtu(&ours.netns, theirs, 1450);
    assert_exact_mtu(netns, own, 1450);
    transfer(&ours.netns, netns, theirs, MANY);
    transfer(netns, &ours.netns, own, MANY);
    let seen = carried(&capture.packets(), ["192.0.2.11", peer], [own, theirs]);
    assert_eq!(seen, [format!("udp {port}")]);
    assert!(node.host.pings(theirs), "from node to pod");
    assert!(other.pings(own), "from their node to our pod");
    node.assert_settled();
}

/// What Felix programs for a pool with vxlanMode Always: a block of /26, the
/// tunnel's address somewhere in it, routes of protocol boot through the tunnel.
#[test]
fn a_node_of_calico() {
    for number in [2, 3] {
        let (cluster, host) = beside(number, &json!({"mode": "vxlan", "routeProtocol": 80}));
        let node = &cluster.nodes[0];
        let own = ["192.0.2.12", "198.51.100.13"][number - 2];
        let mut theirs = entry(number, Families::Ipv4);
        theirs["podCIDRs"] = json!(["10.244.9.64/26"]);
        theirs["tunnelAddresses"] = json!(["10.244.9.67"]);
        let name = theirs["name"].as_str().unwrap().to_owned();
        node.set_peers(&[entry(1, Families::Ipv4), theirs]);
        let (mac, our_mac) = (calico_mac(&name), calico_mac("node-a"));
        batch(
            &host,
            &format!(
                "link add vxlan.calico address {mac} type vxlan id 4096 dstport 4789 local {own} \
                 dev eth0 nolearning
                 link set vxlan.calico mtu 1450 up
                 address add 10.244.9.67/32 dev vxlan.calico
                 neighbour add 10.244.1.0 lladdr {our_mac} dev vxlan.calico nud permanent
                 route add 10.244.1.0/24 via 10.244.1.0 dev vxlan.calico onlink mtu 1450
                 route add blackhole 10.244.9.64/26 proto 80"
            ),
        );
        let forwarding = [
            "fdb",
            "add",
            &our_mac,
            "dev",
            "vxlan.calico",
            "dst",
            "192.0.2.11",
            "self",
            "permanent",
        ];
        host.command("bridge", &forwarding).ok();
        let pod = Netns::new();
        connect((&host, "cali0", &[]), (&pod, "eth0", &["10.244.9.70/32"]));
        host.set_sysctl("ipv4/conf/cali0/proxy_arp", "1");
        batch(&host, "link set cali0 mtu 1450\nroute add 10.244.9.70 dev cali0 scope link");
        batch(
            &pod,
            "link set eth0 mtu 1450
             route add 169.254.1.1 dev eth0 scope link
             route add default via 169.254.1.1 dev eth0",
        );
        node.apply().ok();
        assert_traffic(&cluster, &host, (&pod, "10.244.9.70"), 4789, own);
    }
}

/// What flanneld programs: a bridge for the pods, a MAC address of its own
/// choice that the peers are told, routes through the first address of a peer's
/// network.
#[test]
fn a_node_of_flannel() {
    let vxlan = json!({"vni": 1, "port": 8472, "device": "flannel.1"});
    let (cluster, host) = beside(2, &json!({"mode": "vxlan", "vxlan": vxlan}));
    let node = &cluster.nodes[0];
    let mac = "aa:bb:cc:00:00:02";
    let mut theirs = entry(2, Families::Ipv4);
    theirs["tunnelMAC"] = json!(mac);
    node.set_peers(&[entry(1, Families::Ipv4), theirs]);
    node.apply().ok();
    let our_mac = mac_of(node, "flannel.1");
    batch(
        &host,
        &format!(
            "link add flannel.1 address {mac} type vxlan id 1 dstport 8472 local 192.0.2.12 \
             dev eth0 nolearning
             address add 10.244.2.0/32 dev flannel.1
             link set flannel.1 mtu 1450 up
             neighbour add 10.244.1.0 lladdr {our_mac} dev flannel.1 nud permanent
             route add 10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink
             link add cni0 type bridge
             address add 10.244.2.1/24 dev cni0
             link set cni0 mtu 1450 up"
        ),
    );
    let forwarding = ["fdb", "add", &our_mac, "dev", "flannel.1", "dst", "192.0.2.11"];
    host.command("bridge", &forwarding).ok();
    let pod = Netns::new();
    connect((&host, "veth0", &[]), (&pod, "eth0", &["10.244.2.5/24"]));
    batch(&host, "link set veth0 mtu 1450\nlink set veth0 master cni0");
    batch(&pod, "link set eth0 mtu 1450\nroute add default via 10.244.2.1");
    assert_traffic(&cluster, &host, (&pod, "10.244.2.5"), 8472, "192.0.2.12");
}

fn mac_of(node: &Node, link: &str) -> String {
    node.host.link(link).unwrap()["address"].as_str().unwrap().to_owned()
}
