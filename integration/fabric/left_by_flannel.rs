// SPDX-License-Identifier: Apache-2.0
//! A node that flannel ran, made by hand as flanneld leaves it: with one pod behind its bridge,
//! beside a node of ours.

use serde_json::{Value, json};

use crate::cluster::{Families, batch, entry};
use crate::left_behind::{OLD, OLD_IPV6, Scene};

/// Of IPv4.
pub fn flannel() -> Scene {
    flannel_of(Families::Ipv4)
}

/// Of these families.
pub fn flannel_of(families: Families) -> Scene {
    let scene = flannels_tunnel(families);
    let netns = scene.old.netns.path().display().to_string();
    batch(
        &scene.node().host,
        &format!(
            "link add cni0 mtu 1450 type bridge
             address add 10.244.1.1/24 dev cni0
             link set cni0 up
             link add veth0a1b2c3d mtu 1450 type veth peer name eth0 mtu 1450 netns {netns}
             link set veth0a1b2c3d master cni0 up"
        ),
    );
    batch(
        &scene.old.netns,
        &format!(
            "address add {OLD}/24 dev eth0
             link set eth0 up
             route add default via 10.244.1.1"
        ),
    );
    if families == Families::Dual {
        batch(&scene.node().host, "address add fd00:244:1::1/64 dev cni0 nodad");
        batch(
            &scene.old.netns,
            &format!(
                "address add {OLD_IPV6}/64 dev eth0 nodad
                 route add default via fd00:244:1::1"
            ),
        );
    }
    scene.note("cbr0", &["cni0", "veth0a1b2c3d"]);
    let plugin = json!({"type": "flannel", "delegate": {"isDefaultGateway": true}});
    let list = json!({"name": "cbr0", "cniVersion": "0.3.1", "plugins": [plugin]});
    scene.write("etc/cni/net.d/10-flannel.conflist", &list);
    scene
}

/// A node as flanneld leaves it without a pod.
pub fn flannels_tunnel(families: Families) -> Scene {
    const MAC: &str = "6a:00:00:00:00:01";
    let vxlan = json!({"vni": 1, "port": 8472, "device": "flannel.1"});
    let scene = Scene::beside(3, families, &json!({"mode": "vxlan", "vxlan": vxlan}));
    // The address of flannel's device is drawn, and the others are told it.
    let mut peers: Vec<Value> = [1, 3].map(|number| entry(number, families)).to_vec();
    peers[0]["tunnelMAC"] = json!(MAC);
    for node in &scene.cluster.nodes {
        node.set_peers(&peers);
    }
    scene.cluster.nodes[1].apply().ok();
    let [mac_a, mac_c] = scene.tunnels("flannel.1");
    assert_eq!(mac_a, MAC);
    let host = &scene.node().host;
    batch(
        host,
        &format!(
            "link add flannel.1 address {MAC} mtu 1450 type vxlan id 1 dstport 8472 \
                local 192.0.2.11 dev eth0 nolearning
             address add 10.244.1.0/32 dev flannel.1
             link set flannel.1 up
             neighbour add 10.244.3.0 lladdr {mac_c} dev flannel.1 nud permanent
             route add 10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink"
        ),
    );
    let fdb = ["fdb", "append", &mac_c, "dev", "flannel.1", "dst", "198.51.100.13", "self"];
    host.command("bridge", &fdb).ok();
    if families == Families::Dual {
        flannels_ipv6(&scene, MAC);
    }
    scene.restore(
        "iptables-nft-restore",
        "*nat\n:FLANNEL-POSTRTG - [0:0]\n\
         -A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\n\
         -A FLANNEL-POSTRTG -s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN\nCOMMIT\n",
    );
    scene
}

/// What flanneld has besides where it does IPv6.
fn flannels_ipv6(scene: &Scene, mac: &str) {
    let host = &scene.node().host;
    let far = scene.cluster.nodes[1].host.link("flannel-v6.1").unwrap();
    let mac_c = far["address"].as_str().unwrap();
    batch(
        host,
        &format!(
            "link add flannel-v6.1 address {mac} mtu 1430 type vxlan id 1 dstport 8472 \
                local 2001:db8:1::11 dev eth0 nolearning udp6zerocsumrx
             address add fd00:244:1::/128 dev flannel-v6.1 nodad
             link set flannel-v6.1 up
             neighbour add fd00:244:3:: lladdr {mac_c} dev flannel-v6.1 nud permanent
             route add fd00:244:3::/64 via fd00:244:3:: dev flannel-v6.1 onlink"
        ),
    );
    let fdb = ["fdb", "append", mac_c, "dev", "flannel-v6.1", "dst", "2001:db8:2::13", "self"];
    host.command("bridge", &fdb).ok();
}
