// SPDX-License-Identifier: Apache-2.0
//! Pods whose link has the device's full MTU, and routes towards other nodes
//! that carry the smaller one of the tunnel; and what a path that is narrower
//! than it tells does to connections of any MTU.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, addresses, batch};
use crate::harness::{DEADLINE, Netns, Pod, connect};
use crate::traffic::{assert_exact_mtu, counter, fragments, transfer};
use crate::wire::Capture;

/// What the devices carry, and what VXLAN over IPv6 leaves of it.
const FULL: usize = 1500;
const REDUCED: usize = 1430;
/// IP and TCP headers without options.
const HEADERS: [usize; 2] = [40, 60];

/// A host behind the router that is no member of the cluster.
fn outside(cluster: &Cluster) -> Netns {
    let outside = Netns::new();
    connect(
        (&outside, "eth0", &["203.0.113.9/24", "2001:db8:9::9/64"]),
        (&cluster.router, "to-outside", &["203.0.113.1/24", "2001:db8:9::1/64"]),
    );
    let routes = "route add default via 203.0.113.1\nroute add default via 2001:db8:9::1";
    batch(&outside, routes);
    outside
}

/// The metrics of the route that the kernel of `from` takes to `address`.
fn metrics(from: &Netns, address: &str) -> (Option<usize>, Option<usize>) {
    let route = from.ip(&["route", "get", address]);
    let metrics = &route[0]["metrics"][0];
    let number = |key: &str| metrics[key].as_u64().map(|number| number as usize);
    (number("mtu"), number("advmss"))
}

/// The segment sizes that both ends of a connection announce.
fn segment_sizes(from: &Netns, to: &Netns, own: &str, address: &str) -> [Vec<u16>; 2] {
    let capture = Capture::start(from);
    transfer(from, to, address, 100_000);
    let packets = capture.packets();
    [(own, address), (address, own)].map(|(source, target)| {
        let (source, target): (IpAddr, IpAddr) = (source.parse().unwrap(), target.parse().unwrap());
        let of_way = packets.iter().filter(|packet| (packet.from, packet.to) == (source, target));
        of_way.filter_map(|packet| packet.segment_size).collect()
    })
}

/// Asserts that packets of `mtu` bytes reach `to` whole, that the sender refuses
/// larger ones, and that connections know of it from their first packet on.
#[track_caller]
fn assert_size(from: &Pod, to: &Netns, address: &str, mtu: usize) {
    let ipv6 = usize::from(address.contains(':'));
    let own = &addresses(from)[ipv6];
    assert_exact_mtu(&from.netns, address, mtu);
    let size = u16::try_from(mtu - HEADERS[ipv6]).unwrap();
    let [asked, _] = segment_sizes(&from.netns, to, own, address);
    assert_eq!(asked, [size], "{own} to {address}");
}

/// By the CIDRs of each peer.
#[test]
fn routes_to_other_nodes_alone_are_narrow() {
    assert_narrow(&json!({"mode": "vxlan", "mtuMode": "route", "ipMasq": true}));
}

/// By CIDRs in which the node's own pods are as well.
#[test]
fn routes_to_the_rest_of_the_cluster_are_narrow() {
    assert_narrow(&json!({
        "mode": "vxlan", "mtuMode": "route", "ipMasq": true,
        "clusterCIDRs": ["10.244.0.0/16", "fd00:244::/32"],
    }));
}

/// A configured size that no tunnel has is none for the pods' routes either.
#[test]
fn routes_are_no_wider_than_the_tunnel() {
    assert_narrow(&json!({"mode": "vxlan", "mtuMode": "route", "mtu": 1500, "ipMasq": true}));
}

#[track_caller]
fn assert_narrow(keys: &Value) {
    let cluster = Cluster::new(3, Families::Dual, keys);
    cluster.apply();
    let pods = cluster.pods();
    let neighbour = cluster.nodes[0].attach("neighbour");
    let outside = outside(&cluster);
    assert_eq!(pods[0].netns.link("eth0").unwrap()["mtu"], FULL);
    for place in [0, 1] {
        for other in [&pods[1], &pods[2]] {
            let address = &addresses(other)[place];
            let segment = REDUCED - HEADERS[place];
            assert_eq!(metrics(&pods[0].netns, address), (Some(REDUCED), Some(segment)));
            assert_size(&pods[0], &other.netns, address, REDUCED);
            // The one that is asked answers in kind.
            let own = &addresses(&pods[0])[place];
            let sizes = segment_sizes(&other.netns, &pods[0].netns, address, own);
            assert_eq!(sizes.map(|sizes| usize::from(sizes[0])), [segment; 2]);
        }
        let beside = &addresses(&neighbour)[place];
        assert_eq!(metrics(&pods[0].netns, beside), (None, None));
        assert_size(&pods[0], &neighbour.netns, beside, FULL);
        let stranger = ["203.0.113.9", "2001:db8:9::9"][place];
        assert_eq!(metrics(&pods[0].netns, stranger), (None, None));
        assert_size(&pods[0], &outside, stranger, FULL);
    }
    let hosts = cluster.nodes.iter().map(|node| &*node.host);
    let all = hosts.chain(pods.iter().map(|pod| &pod.netns)).chain([&cluster.router]);
    assert_eq!(all.map(fragments).sum::<u64>(), 0, "nothing is cut, nor put together");
}

/// Makes the path between the subnets one of 1450 bytes that keeps it to
/// itself: the router's word that a packet is too large is lost, as on many a
/// network that lets no ICMP through.
fn narrow_and_mute(cluster: &Cluster) {
    batch(&cluster.router, "link set subnet1 mtu 1450\nlink set subnet2 mtu 1450");
    let rules = "table inet mute { chain output { type filter hook output priority 0;
        icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }";
    cluster.router.command("nft", &[rules]).ok();
}

/// What came of sending many bytes over TCP.
#[derive(Debug)]
struct Attempt {
    arrived: usize,
    retransmissions: u64,
    took: Duration,
}

/// Pieces into which the namespace has cut packets. That it could not cut one
/// is counted elsewhere.
fn fragments_made(netns: &Netns) -> u64 {
    counter(netns, |name| name.contains("FragCreates"))
}

/// Segments that the namespace's connections have sent again.
fn retransmissions(netns: &Netns) -> u64 {
    counter(netns, |name| name == "RetransSegs")
}

/// Sends until all has arrived, or until so many segments have been sent again
/// without any effect that nothing will.
fn attempt(from: &Netns, to: &Netns, address: &str) -> Attempt {
    const HOPELESS: u64 = 3;
    let ip: IpAddr = address.parse().unwrap();
    let listener = to.enter(|| TcpListener::bind(SocketAddr::new(ip, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    // It begins with small packets, which pass anywhere.
    let mut out = from.enter(|| TcpStream::connect_timeout(&target, DEADLINE).unwrap());
    let (mut incoming, _) = listener.accept().unwrap();
    incoming.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (begin, before) = (Instant::now(), retransmissions(from));
    let end = out.try_clone().unwrap();
    let mut arrived = 0;
    thread::scope(|scope| {
        scope.spawn(move || out.write_all(&vec![0x5a; SENT]));
        let mut buffer = vec![0; 64 * 1024];
        while arrived < SENT && begin.elapsed() < DEADLINE {
            match incoming.read(&mut buffer) {
                Ok(count) => arrived += count,
                Err(_) if arrived == 0 && retransmissions(from) - before >= HOPELESS => break,
                Err(_) => {}
            }
        }
        end.shutdown(Shutdown::Both).unwrap();
    });
    let retransmissions = retransmissions(from) - before;
    Attempt { arrived, retransmissions, took: begin.elapsed() }
}

/// Bytes of an attempt.
const SENT: usize = 8 << 20;

/// What becomes of many bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// They arrive, as they were sent.
    Whole,
    /// They arrive, after packets were cut in two on the way.
    Cut,
    /// The connection comes about, and nothing ever arrives over it.
    Lost,
}

/// The MTU that the devices suggest is wrong by more than the path tells. A
/// tunnel over IPv4 is cut in two by the router; nobody may cut what goes over
/// IPv6, or what a pod sends itself. The right value, in links or in routes,
/// needs no word from the path.
#[test]
fn a_narrow_path_that_drops_icmp_is_passed_with_the_right_mtu_alone() {
    use Outcome::{Cut, Lost, Whole};
    for (keys, link, expected) in [
        (json!({"mode": "vxlan"}), REDUCED, [Cut, Lost]),
        (json!({"mode": "vxlan", "mtu": 1380}), 1380, [Whole; 2]),
        (json!({"mode": "vxlan", "mtu": 1380, "mtuMode": "route"}), FULL, [Whole; 2]),
        (json!({"mode": "direct"}), FULL, [Lost; 2]),
        (json!({"mode": "direct", "mtu": 1450}), 1450, [Whole; 2]),
        (json!({"mode": "direct", "mtu": 1450, "mtuMode": "route"}), FULL, [Whole; 2]),
    ] {
        let cluster = Cluster::of(&[1, 3], Families::Dual, &keys);
        cluster.teach_router();
        narrow_and_mute(&cluster);
        cluster.apply();
        let pods = cluster.pods();
        assert_eq!(pods[0].netns.link("eth0").unwrap()["mtu"], link);
        for (address, expected) in addresses(&pods[1]).iter().zip(expected) {
            // Neighbours are found before anything is timed.
            assert!(pods[0].netns.pings(address), "{keys} to {address}");
            let cut = fragments_made(&cluster.router);
            let Attempt { arrived, retransmissions, took } =
                attempt(&pods[0].netns, &pods[1].netns, address);
            let cut = fragments_made(&cluster.router) - cut;
            println!(
                "{keys} to {address}: {arrived} bytes in {:.3} s ({:.0} MB/s), {cut} fragments, \
                 {retransmissions} segments sent again",
                took.as_secs_f64(),
                arrived as f64 / 1e6 / took.as_secs_f64(),
            );
            let outcome = match (arrived, cut) {
                (SENT, 0) => Some(Whole),
                (SENT, _) => Some(Cut),
                (0, 0) => Some(Lost),
                _ => None,
            };
            assert_eq!(outcome, Some(expected), "{keys} to {address}");
        }
    }
}
