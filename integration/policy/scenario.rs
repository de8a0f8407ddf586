// SPDX-License-Identifier: Apache-2.0
//! What single packets do not show: answers, the node itself, and services.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use serde_json::json;

use crate::cases::Probe;
use crate::cluster::{Cluster, NODE};
use crate::flood::load;
use crate::harness::{DEADLINE, Netns, uninterrupted};

/// Whoever is closed in both directions.
pub fn closed() -> serde_json::Value {
    let pod = |last: u8| {
        let ips = [format!("10.244.1.{last}"), format!("fd00:244:1::{last}")];
        json!({"kind": "Pod", "metadata": {"namespace": "x", "name": format!("pod-{last}")},
               "spec": {"nodeName": NODE}, "status": {"podIP": ips[0],
               "podIPs": [{"ip": ips[0]}, {"ip": ips[1]}]}})
    };
    let policy = json!({"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "closed"},
                        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}});
    let mut items: Vec<_> = (10..=18).map(pod).collect();
    items.push(policy);
    json!({"kind": "List", "items": items})
}

/// That a connection is made to what listens there, by that address of it, and carries bytes
/// both ways.
pub fn speaks(from: &Netns, at: &Netns, to: SocketAddr, by: SocketAddr) {
    let listener = at.enter(|| TcpListener::bind(to).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
        });
        let mut stream = from.enter(|| TcpStream::connect_timeout(&by, DEADLINE).unwrap());
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    });
}

fn probe(from: &str, to: &str) -> Vec<Probe> {
    let (from, to) = (from.to_owned(), to.to_owned());
    vec![Probe { from, to, protocol: "TCP".into(), port: 80, allowed: false }]
}

#[test]
fn a_pod_and_its_node_always_speak() {
    let (cluster, world) = (Cluster::new(), closed());
    cluster.apply(&world).ok();
    for (place, host) in ["169.254.1.1", "fd00::1"].into_iter().enumerate() {
        let host: IpAddr = host.parse().unwrap();
        let (pod, address) = (&cluster.pods[0].netns, cluster.pods[0].addresses[place]);
        if host.is_ipv6() {
            cluster.host.command("ip", &["address", "add", "fd00::1/128", "dev", "lo"]).ok();
        }
        let [there, here] = [(address, 80), (host, 81)].map(SocketAddr::from);
        speaks(&cluster.host, pod, there, there);
        speaks(pod, &cluster.host, here, here);
        let other = cluster.pods[1].addresses[place].to_string();
        let denied = probe(&address.to_string(), &other);
        assert!(cluster.probe(&world, &denied).iter().all(|(_, arrived)| !arrived));
    }
}

/// A pod that nobody may speak to hears the answers to what it asks.
#[test]
fn answers_come_through() {
    let cluster = Cluster::new();
    let mut world = closed();
    world["items"][9]["spec"] = json!({"podSelector": {}, "policyTypes": ["Ingress"]});
    world["items"][0]["metadata"]["labels"] = json!({"app": "server"});
    let open = json!({"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "open"},
                      "spec": {"podSelector": {"matchLabels": {"app": "server"}},
                               "ingress": [{"ports": [{"port": 80}]}]}});
    world["items"].as_array_mut().unwrap().push(open);
    cluster.apply(&world).ok();
    for place in 0..2 {
        let [server, client] = [&cluster.pods[0], &cluster.pods[1]];
        let to = server.addresses[place];
        let there = SocketAddr::new(to, 80);
        speaks(&client.netns, &server.netns, there, there);
        let back = probe(&to.to_string(), &client.addresses[place].to_string());
        assert!(cluster.probe(&world, &back).iter().all(|(_, arrived)| !arrived));
    }
}

/// A connection that carries bytes both ways.
fn connected(cluster: &Cluster, place: usize) -> [TcpStream; 2] {
    let [client, server] = [&cluster.pods[0], &cluster.pods[1]];
    let to = SocketAddr::new(server.addresses[place], 80);
    let listener = server.netns.enter(|| TcpListener::bind(to).unwrap());
    let near = client.netns.enter(|| TcpStream::connect_timeout(&to, DEADLINE).unwrap());
    let ends = [near, listener.accept().unwrap().0];
    ends.iter().for_each(|end| end.set_read_timeout(Some(DEADLINE)).unwrap());
    carry(&ends);
    ends
}

fn carry([one, other]: &[TcpStream; 2]) {
    for (mut from, mut to) in [(one, other), (other, one)] {
        from.write_all(b"x").unwrap();
        to.read_exact(&mut [0]).unwrap();
    }
}

/// Whatever either of the two sends: the server's next packet is no beginning of a
/// connection to its client, though that would be allowed.
#[test]
fn what_a_change_forbids_is_cut_unless_connections_are_kept() {
    for place in 0..2 {
        let cluster = Cluster::new();
        let mut world = closed();
        let closed = world["items"].as_array_mut().unwrap().pop().unwrap();
        cluster.apply(&world).ok();
        let ends = connected(&cluster, place);
        // Only what is sent to the server is forbidden.
        world["items"][1]["metadata"]["labels"] = json!({"app": "server"});
        world["items"].as_array_mut().unwrap().push(closed);
        world["items"][9]["spec"] = json!({"podSelector": {"matchLabels": {"app": "server"}}});
        assert!(!cluster.apply_and_keep(&world).stderr.contains("cut"));
        carry(&ends);
        let applied = cluster.apply(&world);
        assert!(applied.stderr.contains("connections that were cut: 1\n"), "{applied:?}");
        for (from, to) in [(1, 0), (0, 1)] {
            let mut sender = &ends[from];
            let at = cluster.pods[to].addresses[place];
            let heard = cluster.hears(at, || sender.write_all(b"x").unwrap());
            let peer = cluster.pods[from].addresses[place];
            assert!(heard.iter().all(|packet| packet.from != peer), "{from} -> {to}: {heard:?}");
        }
        // The server may begin one, as before.
        let [client, server] = [&cluster.pods[0], &cluster.pods[1]];
        let by = SocketAddr::new(client.addresses[place], 90);
        speaks(&server.netns, &client.netns, by, by);
        assert!(!cluster.apply(&world).stderr.contains("cut"));
    }
}

/// A server that goes on sending datagrams does not take up again what was cut: what its client
/// says would be an answer then. That is what the set of such answers is for, in which they are
/// for two minutes; those of TCP are for as long as it tries.
#[test]
fn a_stream_of_datagrams_that_is_cut_is_not_taken_up_by_its_server() {
    for place in 0..2 {
        let (cluster, mut world) = (Cluster::new(), closed());
        let closed = world["items"].as_array_mut().unwrap().pop().unwrap();
        cluster.apply(&world).ok();
        let [client, server] = [&cluster.pods[0], &cluster.pods[1]];
        let ends = [client, server].map(|pod| {
            let at = SocketAddr::new(pod.addresses[place], 5060);
            let socket = pod.netns.enter(|| UdpSocket::bind(at).unwrap());
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            (socket, at)
        });
        let [(client, client_at), (server, server_at)] = &ends;
        let streams = connected(&cluster, place);
        client.send_to(b"x", server_at).unwrap();
        uninterrupted(|| server.recv(&mut [0])).unwrap();
        server.send_to(b"x", client_at).unwrap();
        uninterrupted(|| client.recv(&mut [0])).unwrap();
        // The client may not speak to the server any more; the server may to the client.
        world["items"][1]["metadata"]["labels"] = json!({"app": "server"});
        world["items"].as_array_mut().unwrap().push(closed);
        world["items"][9]["spec"] = json!({"podSelector": {"matchLabels": {"app": "server"}}});
        let applied = cluster.apply(&world);
        assert!(applied.stderr.contains("connections that were cut: 2\n"), "{applied:?}");
        let set = format!("cut{}", if place == 0 { 4 } else { 6 });
        let list = ["-j", "list", "set", "inet", "manx.policy", &set];
        let listed: serde_json::Value =
            serde_json::from_str(&cluster.host.command("nft", &list).ok()).unwrap();
        let elements = listed["nftables"][1]["set"]["elem"].as_array().unwrap();
        let time = |it: &serde_json::Value| {
            let protocol = it["elem"]["val"]["concat"][2].to_string();
            let is_tcp = protocol.contains("tcp") || protocol == "6";
            // What is usual in the set is not listed.
            (is_tcp, it["elem"]["timeout"].as_u64().unwrap_or(8100))
        };
        let mut times: Vec<(bool, u64)> = elements.iter().map(time).collect();
        times.sort_unstable();
        assert_eq!(times, [(false, 120), (true, 8100)], "{listed}");
        let is_heard = |from: &UdpSocket, at: &SocketAddr, by: &SocketAddr| {
            let heard = cluster.hears(by.ip(), || drop(from.send_to(b"y", by)));
            heard.iter().any(|packet| packet.from == at.ip())
        };
        assert!(!is_heard(server, server_at, client_at));
        assert!(!is_heard(client, client_at, server_at));
        // Without it both would be.
        cluster.host.command("nft", &["flush", "set", "inet", "manx.policy", &set]).ok();
        assert!(is_heard(server, server_at, client_at));
        assert!(is_heard(client, client_at, server_at));
        drop(streams);
    }
}

/// However many they are: so many at once as are remembered at once, until none is left.
#[test]
fn more_connections_than_are_cut_at_once_are_cut() {
    const COUNT: u16 = 20_000;
    let (cluster, mut world) = (Cluster::new(), closed());
    let closed = world["items"].as_array_mut().unwrap().pop().unwrap();
    cluster.apply(&world).ok();
    cluster.host.set_sysctl("netfilter/nf_conntrack_udp_timeout", "600");
    let (client, to) = (&cluster.pods[0].netns, cluster.pods[1].addresses[0]);
    let socket = client.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    for port in 1..=COUNT {
        // One that nobody hears is told of by the next.
        let _ = socket.send_to(b"x", (to, port));
        let _ = socket.send_to(b"x", (to, port));
    }
    world["items"].as_array_mut().unwrap().push(closed);
    let applied = cluster.apply(&world);
    let told = format!("connections that were cut: {COUNT}\n");
    assert!(applied.stderr.contains(&told) && !applied.stderr.contains("note:"), "{applied:?}");
    let again = cluster.apply(&world);
    assert!(!again.stderr.contains("cut"), "{again:?}");
}

/// By way of a service, which is translated before the policies are asked.
#[test]
fn a_pod_reaches_itself_by_a_service() {
    let (cluster, world) = (Cluster::new(), closed());
    cluster.apply(&world).ok();
    let service = "add table ip services
        add chain ip services in { type nat hook prerouting priority -100; }
        add rule ip services in ip daddr 10.96.0.1 tcp dport 80 dnat to 10.244.1.10:80
        add chain ip services out { type nat hook postrouting priority 100; }
        add rule ip services out ip saddr 10.244.1.10 ip daddr 10.244.1.10 masquerade";
    load(&cluster.host, service).ok();
    let pod = &cluster.pods[0];
    let by = "10.96.0.1:80".parse().unwrap();
    speaks(&pod.netns, &pod.netns, (pod.addresses[0], 80).into(), by);
}
