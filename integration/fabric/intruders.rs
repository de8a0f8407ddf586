// SPDX-License-Identifier: Apache-2.0
//! Who puts packets into a tunnel without being a peer: a pod of this node, a pod
//! of another node behind its masquerade, and anybody on the network.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;

use manx::nft::{self, Carrier, Ensured, Table, Tunnel};
use manx::pod::identity::GROUPS;
use serde_json::json;

use crate::cluster::{
    Cluster, Families, Node, SOON, address, addresses, bare, batch, entry, pod_cidr,
};
use crate::harness::packet::{datagram, heard, listen, listen_on, packet, send, send_last, vxlan};
use crate::harness::{Netns, Pod, eventually};
use crate::stamp::stamp;

const TABLE: &str = "table inet manx.fabric-109";
const PORT: u16 = 4789;
const VNI: u32 = 4096;
const IPIP: u8 = 4;
const UDP: u8 = 17;
/// The fragment header of IPv6.
const FRAGMENT: u8 = 44;

/// Two nodes with a pod each.
struct Scene {
    cluster: Cluster,
    pods: Vec<Pod>,
}

impl Scene {
    fn new() -> Self {
        let keys = json!({"mode": "vxlan", "ipMasq": true});
        let cluster = Cluster::new(2, Families::Dual, &keys);
        cluster.apply();
        let pods = cluster.pods();
        Self { cluster, pods }
    }

    fn node(&self) -> &Node {
        &self.cluster.nodes[0]
    }

    /// Which of these places the pod of node-a believes when they send, into the
    /// tunnel of their family, what seems to come from a pod of node-b.
    fn believed(&self, places: &[(&'static str, &Netns)]) -> Vec<String> {
        self.believed_before(&self.pods[1].netns, places)
    }

    /// The same, where what ends it comes from there.
    fn believed_before(&self, last: &Netns, places: &[(&'static str, &Netns)]) -> Vec<String> {
        let mut believed = Vec::new();
        for ipv6 in [false, true] {
            let (own, claimed) = if ipv6 {
                (addresses(&self.pods[0])[1].clone(), "fd00:244:2::99")
            } else {
                (addresses(&self.pods[0])[0].clone(), "10.244.2.99")
            };
            let socket = listen(&self.pods[0].netns, &own);
            let to = socket.local_addr().unwrap();
            let device = if ipv6 { "vxlan-v6.calico" } else { "vxlan.calico" };
            let mac = self.node().host.link(device).unwrap()["address"].clone();
            for (place, netns) in places {
                let inner = datagram(claimed.parse().unwrap(), to, place.as_bytes());
                let mut outer = vxlan(VNI, mac.as_str().unwrap(), &inner);
                if ipv6 {
                    outer[20..22].copy_from_slice(&[0x86, 0xdd]);
                }
                let node: IpAddr = bare(&address(1, ipv6)).parse().unwrap();
                let any: IpAddr = if ipv6 { [0; 16].into() } else { [0; 4].into() };
                let sender = netns.enter(|| UdpSocket::bind((any, 0)).unwrap());
                // What an output rule drops would be an error here.
                sender.send_to(&outer, (node, PORT)).unwrap();
            }
            send_last(last, to);
            believed.extend(heard(&socket).into_iter().map(|(place, _)| place));
        }
        believed
    }

    fn everybody(&self) -> [(&'static str, &Netns); 4] {
        [
            ("pod of this node", &self.pods[0].netns),
            ("pod behind the other node", &self.pods[1].netns),
            ("stranger", &self.cluster.router),
            ("peer", &self.cluster.nodes[1].host),
        ]
    }

    /// The table of the first node's fabric; empty if there is none.
    fn table(&self) -> String {
        let all = self.node().host.command("nft", &["list", "ruleset"]).ok();
        let tables = all.split_inclusive("\n}\n");
        tables.filter(|table| table.starts_with(TABLE)).collect()
    }
}

#[test]
fn a_vxlan_takes_packets_from_peers_alone() {
    let scene = Scene::new();
    assert_eq!(scene.believed(&scene.everybody()), ["peer", "peer"]);
    // Without the tables of both nodes all of them are believed: the forgery is good.
    for node in &scene.cluster.nodes {
        node.host.command("nft", &["flush ruleset"]).ok();
    }
    // A pod of this node sends with its own address, and to the node itself.
    let all = scene.believed(&scene.everybody());
    for (place, _) in scene.everybody() {
        assert_eq!(all.iter().filter(|one| *one == place).count(), 2, "{place}: {all:?}");
    }
    // STATUS restores them, and so does the next pod.
    scene.cluster.nodes[0].plugin.call("STATUS").run().ok();
    let _pod = scene.cluster.nodes[1].attach("next");
    assert_eq!(scene.believed(&scene.everybody()), ["peer", "peer"]);
}

/// The rules are the same, and what they are known by is another version's: where nobody made
/// them anew, each STATUS would make a whole pass.
#[test]
fn a_table_of_another_version_is_known_after_one_status() {
    let scene = Scene::new();
    let addresses = |number| vec![address(number, false), address(number, true)];
    let addresses = |number| addresses(number).iter().map(|it| bare(it).parse().unwrap()).collect();
    let table = Tunnel {
        table: "manx.fabric-109".to_owned(),
        host_link_groups: GROUPS,
        carriers: vec![Carrier::Vxlan { port: PORT, vni: VNI }],
        peers: addresses(2),
        own: addresses(1),
    };
    let table = table.describe().unwrap();
    let is_known = || scene.node().host.enter(|| nft::is_intact(&table.seal()));
    assert_eq!(is_known(), Ok(true));
    let other = Table { comment: "of another version".to_owned(), ..table.clone() };
    scene.node().host.enter(|| assert_eq!(nft::ensure(&other), Ok(Ensured::Unchanged)));
    assert_eq!(is_known(), Ok(false));
    scene.node().plugin.status().ok();
    assert_eq!(is_known(), Ok(true));
    // The next one makes no pass: it would write down that it did.
    let written = || {
        let data = fs::metadata(stamp(scene.node())).unwrap();
        (data.ino(), data.modified().unwrap())
    };
    let before = written();
    scene.node().plugin.status().ok();
    assert_eq!(written(), before);
}

/// A tunnel listens on every address that the node has. Towards those that are in no
/// list the other node's masquerade makes a pod look like a peer.
#[test]
fn a_pod_behind_a_masquerade_reaches_the_tunnel_by_no_address() {
    let scene = Scene::new();
    let host = &scene.node().host;
    host.command("ip", &["address", "add", "203.0.113.11/32", "dev", "lo"]).ok();
    let route = ["route", "add", "203.0.113.11", "via", "192.0.2.11"];
    for netns in [&*scene.cluster.nodes[1].host, &scene.cluster.router] {
        netns.command("ip", &route).ok();
    }
    let own = addresses(&scene.pods[0])[0].clone();
    let mac = host.link("vxlan.calico").unwrap()["address"].as_str().unwrap().to_owned();
    let heard_of = || {
        let socket = listen(&scene.pods[0].netns, &own);
        let to = socket.local_addr().unwrap();
        let inner = datagram("10.244.2.99".parse().unwrap(), to, b"forged");
        for node in ["203.0.113.11", "192.0.2.11"] {
            let node: IpAddr = node.parse().unwrap();
            let sender = scene.pods[1].netns.enter(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap());
            sender.send_to(&vxlan(VNI, &mac, &inner), (node, PORT)).unwrap();
        }
        send_last(&scene.pods[1].netns, to);
        heard(&socket).len()
    };
    assert_eq!(heard_of(), 0);
    host.command("nft", &["delete", "table", "inet", "manx.fabric-109"]).ok();
    assert_eq!(heard_of(), 1, "the forgery is good");
}

#[test]
fn who_is_a_peer_follows_the_list() {
    let scene = Scene::new();
    let node = scene.node();
    let stranger = ("new peer", &scene.cluster.router);
    assert_eq!(scene.believed(&[stranger]), [""; 0]);
    let mut nodes: Vec<_> = [1, 2].map(|number| entry(number, Families::Dual)).into();
    let before = scene.table();
    nodes.push(json!({
        "name": "router", "addresses": ["192.0.2.1", "2001:db8:1::1"],
        "podCIDRs": ["10.244.9.0/24", "fd00:244:9::/64"],
    }));
    node.set_peers(&nodes);
    let plan = node.plan();
    assert!(plan.stdout.contains("manx.fabric-109"), "{plan:?}");
    node.apply().ok();
    node.assert_settled();
    assert_eq!(scene.believed(&[stranger]), ["new peer", "new peer"]);
    node.set_peers(&nodes[..2]);
    node.apply().ok();
    assert_eq!(scene.believed(&[stranger]), [""; 0]);
    // By element: what it was before, rules and all.
    assert_eq!(scene.table(), before);
}

#[test]
fn a_changed_table_is_told_and_mended() {
    let scene = Scene::new();
    let node = scene.node();
    let before = scene.table();
    for change in [
        "delete table inet manx.fabric-109",
        "flush chain inet manx.fabric-109 input",
        "add element inet manx.fabric-109 peers4 { 192.0.2.1 }",
        "delete element inet manx.fabric-109 peers6 { 2001:db8:1::12 }",
    ] {
        node.host.command("nft", &[change]).ok();
        let plan = node.plan();
        assert!(plan.status == 3 && plan.stdout.contains("manx.fabric-109"), "{change}: {plan:?}");
        node.apply().ok();
        node.assert_settled();
        assert_eq!(scene.table(), before, "{change}");
        // STATUS sees it too, and does not wait until it looks at everything again.
        node.plugin.call("STATUS").run().ok();
        node.host.command("nft", &[change]).ok();
        node.plugin.call("STATUS").run().ok();
        assert_eq!(scene.table(), before, "{change}");
    }
}

/// What pods send to others than nodes is theirs.
#[test]
fn a_pod_may_use_the_port_towards_others() {
    let scene = Scene::new();
    let sibling = scene.node().attach("sibling");
    let from = &scene.pods[0].netns;
    for (netns, own) in [
        (&scene.cluster.router, "192.0.2.1".to_owned()),
        (&sibling.netns, addresses(&sibling)[0].clone()),
    ] {
        let socket = listen_on(netns, &own, PORT);
        send_last(from, socket.local_addr().unwrap());
        assert_eq!(heard(&socket), []);
    }
}

/// Others may use the port: a packet is ours by its network identifier.
#[test]
fn a_vxlan_of_others_on_the_same_port_goes_on() {
    let scene = Scene::new();
    for (netns, remote, own) in [
        (&*scene.node().host, "192.0.2.1", "10.77.0.1/24"),
        (&scene.cluster.router, "192.0.2.11", "10.77.0.2/24"),
    ] {
        batch(
            netns,
            &format!(
                "link add foreign type vxlan id 77 dstport {PORT} remote {remote}
                 address add {own} dev foreign
                 link set foreign up"
            ),
        );
    }
    assert!(scene.cluster.router.pings("10.77.0.1"));
    assert_eq!(scene.believed(&scene.everybody()), ["peer", "peer"]);
}

#[test]
fn the_table_goes_with_its_tunnels() {
    let scene = Scene::new();
    let node = scene.node();
    assert!(scene.table().contains("peers4"));
    let direct = node.with("mode", "direct".into());
    direct.apply().ok();
    direct.assert_settled();
    assert!(!scene.table().contains("peers4"));
    node.apply().ok();
    assert!(scene.table().contains("peers4"));
    let undone = node.manx(&["apply", "--undo"]);
    assert!(undone.stdout.contains("- nftables table manx.fabric-109"), "{undone:?}");
    assert!(!scene.table().contains("peers4"));
}

/// One that stayed would know no peer that comes later.
#[test]
fn the_table_of_a_former_route_protocol_goes() {
    let scene = Scene::new();
    let renamed = scene.node().with("routeProtocol", 110.into());
    renamed.apply().ok();
    renamed.assert_settled();
    let tables = renamed.host.command("nft", &["list", "tables"]).ok();
    let found = ["109", "110"].map(|number| tables.contains(&format!("manx.fabric-{number}")));
    assert_eq!(found, [false, true], "{tables}");
}

/// A list that names this node alone, as on the first node of a cluster: nobody is a peer.
#[test]
fn without_peers_in_the_list_a_vxlan_takes_packets_from_nobody() {
    let scene = Scene::new();
    let node = scene.node();
    node.set_peers(&[entry(1, Families::Dual)]);
    node.apply().ok();
    node.assert_settled();
    // Nor does what would end the test come by the tunnel.
    let router = &scene.cluster.router;
    for ipv6 in [false, true] {
        let pod = &addresses(&scene.pods[0])[usize::from(ipv6)];
        let node = address(1, ipv6);
        router.command("ip", &["route", "replace", pod, "via", bare(&node)]).ok();
    }
    let believed = || scene.believed_before(router, &scene.everybody());
    assert_eq!(believed(), [""; 0]);
    node.host.command("nft", &["flush ruleset"]).ok();
    assert!(!believed().is_empty(), "the forgery is good");
    node.plugin.call("STATUS").run().ok();
    assert_eq!(believed(), [""; 0]);
    node.assert_settled();
}

/// Of IP in IP a BGP daemon may know the nodes that the list does not name: what it
/// routes goes through the tunnel, and pods put nothing into it.
#[test]
fn without_peers_in_the_list_ip_in_ip_keeps_out_pods_alone() {
    let scene = Scene::new();
    let node = scene.node();
    node.set_peers(&[entry(1, Families::Ipv4)]);
    // What comes of it depends on the kernel.
    let _ = node.with("mode", "ipip".into()).apply();
    assert!(!scene.table().contains("saddr"), "{}", scene.table());
    assert!(scene.table().contains("iifgroup"), "{}", scene.table());
}

/// The kernel puts fragments of IPv6 together behind the rules, where no conntrack does
/// before, and the first may end ahead of the network identifier.
#[test]
fn a_strangers_fragments_of_ipv6_are_not_believed() {
    let scene = Scene::new();
    let node: IpAddr = bare(&address(1, true)).parse().unwrap();
    let own = addresses(&scene.pods[0])[1].clone();
    let socket = listen(&scene.pods[0].netns, &own);
    let to = socket.local_addr().unwrap();
    let mac = scene.node().host.link("vxlan-v6.calico").unwrap()["address"].clone();
    let send_parts = |netns: &Netns, source: &str, first: usize, number: u32, vni: u32| {
        let text = format!("{source} {first}");
        let inner = datagram("fd00:244:2::99".parse().unwrap(), to, text.as_bytes());
        let mut outer = vxlan(vni, mac.as_str().unwrap(), &inner);
        outer[20..22].copy_from_slice(&[0x86, 0xdd]);
        let source: IpAddr = source.parse().unwrap();
        let whole = datagram(source, (node, PORT).into(), &outer);
        for (offset, part) in [(0, &whole[40..][..first]), (first, &whole[40..][first..])] {
            let more = u16::from(offset == 0);
            let mut payload = vec![UDP, 0];
            payload.extend((offset as u16 | more).to_be_bytes());
            payload.extend(number.to_be_bytes());
            payload.extend(part);
            send(netns, node, &packet(FRAGMENT, source, node, &payload));
        }
    };
    let heard_of = |number| {
        let router = &scene.cluster.router;
        // UDP's header alone, that of VXLAN too, and some of the packet within.
        for (first, number) in [8, 16, 64].into_iter().zip(number..) {
            send_parts(router, "2001:db8:1::1", first, number, VNI);
        }
        send_parts(&scene.cluster.nodes[1].host, "2001:db8:1::12", 8, number + 9, VNI);
        send_last(&scene.pods[1].netns, to);
        heard(&socket).into_iter().map(|(text, _)| text).collect::<Vec<_>>()
    };
    assert_eq!(heard_of(100), ["2001:db8:1::12 8"]);
    scene.node().host.command("nft", &["delete", "table", "inet", "manx.fabric-109"]).ok();
    assert_eq!(heard_of(200).len(), 4, "the forgery is good");
}

/// Where the kernel has no IP in IP the tunnel cannot be made, and its table is.
#[test]
fn ip_in_ip_is_taken_from_peers_alone() {
    let keys = json!({"mode": "vxlan", "ipMasq": true});
    let cluster = Cluster::new(2, Families::Ipv4, &keys);
    cluster.apply();
    let pods = cluster.pods();
    for node in &cluster.nodes {
        // What comes of it depends on the kernel.
        let _ = node.with("mode", "ipip".into()).apply();
    }
    let host = &cluster.nodes[0].host;
    host.command(
        "nft",
        &["table inet seen { chain input { type filter hook input priority 10; ip protocol 4 \
           ip saddr 192.0.2.0/24 counter; ip protocol 4 ip saddr 10.244.0.0/16 counter; }; }"],
    )
    .ok();
    let node: IpAddr = bare(&address(1, false)).parse().unwrap();
    let inner = |source: &str| datagram(source.parse().unwrap(), (node, 7).into(), b"forged");
    for (netns, own) in [
        (&pods[0].netns, addresses(&pods[0])[0].clone()),
        (&pods[1].netns, addresses(&pods[1])[0].clone()),
        (&cluster.router, "192.0.2.1".to_owned()),
    ] {
        let claimed = pod_cidr(2, false).replace("0/24", "99");
        send(netns, node, &packet(IPIP, own.parse().unwrap(), node, &inner(&claimed)));
    }
    let seen = || host.command("nft", &["list", "table", "inet", "seen"]).ok();
    let peer = packet(IPIP, "192.0.2.12".parse().unwrap(), node, &inner("10.244.2.99"));
    send(&cluster.nodes[1].host, node, &peer);
    assert!(eventually(SOON, || seen().contains("192.0.2.0/24 counter packets 1 ")), "{}", seen());
    assert!(seen().contains("10.244.0.0/16 counter packets 0 "), "{}", seen());
}

/// The kernel has an IPv6 address once on a device, whatever its mask.
#[test]
fn an_address_of_another_mask_on_anothers_device_serves() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let mac = crate::interop::calico_mac("node-a-v6");
    batch(
        &node.host,
        &format!(
            "link add vxlan-v6.calico address {mac} type vxlan id 4096 dstport 4789 \
             local 2001:db8:1::11 dev eth0 nolearning udp6zerocsumtx udp6zerocsumrx
             address add fd00:244:1::/64 dev vxlan-v6.calico nodad
             link set vxlan-v6.calico mtu 1430 up"
        ),
    );
    let applied = node.apply();
    assert!(!applied.stdout.contains("address of vxlan-v6.calico"), "{applied:?}");
    let again = node.apply();
    assert!(again.status == 0 && again.stdout.is_empty(), "{again:?}");
    node.manx(&["apply", "--undo"]).ok();
    assert_eq!(node.host.addresses("vxlan-v6.calico"), ["fd00:244:1::/64"]);
}
