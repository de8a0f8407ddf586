// SPDX-License-Identifier: Apache-2.0
//! Ways that a packet takes to a pod under policies: by a service, by a port of the node, from
//! another node, and the errors that routers send. Rules of translation are like kube-proxy's
//! and portmap's.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::flood::load;
use crate::harness::{DEADLINE, Netns, connect, eventually, uninterrupted};
use crate::scenario::{closed, speaks};

/// That nothing arrives of a connection that is begun: `after` shows by the same way that
/// what was sent before has arrived.
fn silent(from: &Netns, at: &Netns, to: SocketAddr, by: SocketAddr, after: impl FnOnce()) {
    let listener = at.enter(|| TcpListener::bind(to).unwrap());
    from.enter(|| TcpStream::connect_timeout(&by, Duration::from_millis(1)).unwrap_err());
    after();
    listener.set_nonblocking(true).unwrap();
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{by}");
}

fn policy(name: &str, spec: Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": name}, "spec": spec})
}

/// The world in which all are closed, with more objects and labels of the first pods.
fn world(labels: &[&str], more: &[Value]) -> Value {
    let mut world = closed();
    for (place, label) in labels.iter().enumerate() {
        world["items"][place]["metadata"]["labels"] = json!({"app": label});
    }
    world["items"].as_array_mut().unwrap().extend(more.iter().cloned());
    world
}

fn of(app: &str) -> Value {
    json!({"matchLabels": {"app": app}})
}

/// Lets one kind of pods speak to another by some ports.
fn lets(from: &str, to: &str, ports: &Value) -> [Value; 2] {
    let (source, target) = (json!([{"podSelector": of(from)}]), json!([{"podSelector": of(to)}]));
    [
        policy(
            &format!("from-{from}"),
            json!({"podSelector": of(from), "policyTypes": ["Egress"],
                   "egress": [{"to": target, "ports": ports}]}),
        ),
        policy(
            &format!("to-{to}"),
            json!({"podSelector": of(to), "ingress": [{"from": source, "ports": ports}]}),
        ),
    ]
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// What policies say is said of the pod behind a service, whoever asks.
#[test]
fn a_service_leads_to_what_its_pods_allow() {
    let cluster = Cluster::new();
    let [client, server, other] = [0, 1, 2].map(|place: usize| &cluster.pods[place]);
    load(
        &cluster.host,
        "table ip services {
            chain in { type nat hook prerouting priority -100;
                ip daddr 10.96.0.1 tcp dport { 80, 81 } dnat to 10.244.1.11; }
            chain out { type nat hook output priority -100;
                ip daddr 10.96.0.1 tcp dport { 80, 81 } dnat to 10.244.1.11; }
        }",
    )
    .ok();
    let [real, by] = ["10.244.1.11", "10.96.0.1"].map(|address| at(address, 80));
    let [real81, by81] = ["10.244.1.11", "10.96.0.1"].map(|address| at(address, 81));
    cluster.host.command("ip", &["route", "add", "10.96.0.0/24", "dev", "cali10"]).ok();
    cluster.apply(&closed()).ok();
    // The node may, by the service as well.
    let node = || speaks(&cluster.host, &server.netns, real, by);
    silent(&client.netns, &server.netns, real81, by81, node);
    let allowed = lets("client", "server", &json!([{"port": 80}]));
    cluster.apply(&world(&["client", "server"], &allowed)).ok();
    let passes = || speaks(&client.netns, &server.netns, real, by);
    silent(&client.netns, &server.netns, real81, by81, passes);
    silent(&other.netns, &server.netns, real81, by, passes);
}

/// Questions and answers by UDP to a service, as of DNS, and nothing else.
#[test]
fn names_are_resolved_by_who_may() {
    let cluster = Cluster::new();
    let [client, server] = [0, 1].map(|place: usize| &cluster.pods[place]);
    load(
        &cluster.host,
        "table ip services { chain in { type nat hook prerouting priority -100;
             ip daddr 10.96.0.10 dnat to 10.244.1.11; }
}",
    )
    .ok();
    let ports = json!([{"protocol": "UDP", "port": 53}]);
    cluster.apply(&world(&["client", "dns"], &lets("client", "dns", &ports))).ok();
    let asked = || {
        let socket = server.netns.enter(|| UdpSocket::bind("10.244.1.11:53").unwrap());
        let asking = client.netns.enter(|| UdpSocket::bind("10.244.1.10:0").unwrap());
        for socket in [&socket, &asking] {
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
        }
        asking.connect("10.96.0.10:53").unwrap();
        asking.send(b"question").unwrap();
        let (_, from) = uninterrupted(|| socket.recv_from(&mut [0; 8])).unwrap();
        socket.send_to(b"answer", from).unwrap();
        uninterrupted(|| asking.recv(&mut [0; 8])).unwrap();
    };
    asked();
    let by = at("10.96.0.10", 53);
    silent(&client.netns, &server.netns, at("10.244.1.11", 53), by, asked);
}

/// A node with a way out, and who is there: 192.0.2.1.
fn outside(cluster: &Cluster) -> Netns {
    let outside = Netns::new();
    connect((&cluster.host, "eth0", &["192.0.2.11/24"]), (&outside, "eth0", &["192.0.2.1/24"]));
    cluster.host.command("ip", &["route", "add", "default", "via", "192.0.2.1"]).ok();
    outside.command("ip", &["route", "add", "10.244.0.0/16", "via", "192.0.2.11"]).ok();
    outside
}

fn block(cidr: &str) -> Value {
    json!([{"ipBlock": {"cidr": cidr}}])
}

/// A port of the node that leads to a pod (hostPort): who asks there is judged by the address
/// that it has, as far as it is still known.
#[test]
fn a_port_of_the_node_leads_to_what_its_pod_allows() {
    let cluster = Cluster::new();
    let (server, outside) = (&cluster.pods[0], outside(&cluster));
    load(
        &cluster.host,
        "table ip ports { chain in { type nat hook prerouting priority -100;
             fib daddr type local tcp dport { 8080, 8081 } dnat to 10.244.1.10; }
}",
    )
    .ok();
    let given = |cidr: &str| {
        let spec = json!({"podSelector": of("server"),
                          "ingress": [{"from": block(cidr), "ports": [{"port": 8080}]}]});
        world(&["server"], &[policy("ports", spec)])
    };
    let [open, shut] = [8080, 8081].map(|port| (at("10.244.1.10", port), at("192.0.2.11", port)));
    cluster.apply(&given("192.0.2.0/28")).ok();
    let passes = || speaks(&outside, &server.netns, open.0, open.1);
    silent(&outside, &server.netns, shut.0, shut.1, passes);
    cluster.apply(&given("192.0.2.64/28")).ok();
    let node = || speaks(&cluster.host, &server.netns, shut.0, shut.0);
    silent(&outside, &server.netns, open.0, open.1, node);
}

/// The source is masqueraded behind the policies: these know the pod.
#[test]
fn who_is_masqueraded_is_judged_before() {
    let cluster = Cluster::new();
    let (client, outside) = (&cluster.pods[0], outside(&cluster));
    load(
        &cluster.host,
        "table ip way-out { chain out { type nat hook postrouting priority 100;
             oifname eth0 masquerade; }
}",
    )
    .ok();
    let spec = json!({"podSelector": of("client"), "policyTypes": ["Egress"],
                      "egress": [{"to": block("192.0.2.1/32"), "ports": [{"port": 80}]}]});
    cluster.apply(&world(&["client"], &[policy("out", spec)])).ok();
    let [open, shut] = [80, 81].map(|port| at("192.0.2.1", port));
    let passes = || speaks(&client.netns, &outside, open, open);
    silent(&client.netns, &outside, shut, shut, passes);
}

/// A router's error belongs to the connection that it is about: whoever may speak to nobody
/// else hears that its packets are too long.
#[test]
fn errors_of_routers_come_through() {
    let cluster = Cluster::new();
    let (client, outside, far) = (&cluster.pods[0], outside(&cluster), Netns::new());
    connect((&outside, "eth1", &["198.51.100.1/24"]), (&far, "eth0", &["198.51.100.2/24"]));
    far.command("ip", &["route", "add", "default", "via", "198.51.100.1"]).ok();
    outside.set_sysctl("ipv4/ip_forward", "1");
    outside.command("ip", &["link", "set", "eth1", "mtu", "1300"]).ok();
    let spec = json!({"podSelector": of("client"), "policyTypes": ["Egress"],
                      "egress": [{"to": block("198.51.100.2/32")}]});
    cluster.apply(&world(&["client"], &[policy("out", spec)])).ok();
    let socket = client.netns.enter(|| UdpSocket::bind("10.244.1.10:0").unwrap());
    socket.connect("198.51.100.2:9").unwrap();
    let route = || client.netns.command("ip", &["route", "get", "198.51.100.2"]).ok();
    assert!(!route().contains("mtu"), "{}", route());
    let is_known = || {
        let _ = socket.send(&[0; 1400]);
        route().contains("mtu 1300")
    };
    assert!(eventually(DEADLINE, is_known), "{}", route());
}

/// How the packets of the other node come.
#[derive(Clone, Copy, Debug)]
enum Way {
    Direct,
    Vxlan,
}

/// A second node, and its pod 10.244.2.10.
fn second(cluster: &Cluster, way: Way) -> [Netns; 2] {
    let (node, pod) = (Netns::new(), Netns::new());
    connect((&cluster.host, "eth0", &["192.0.2.11/24"]), (&node, "eth0", &["192.0.2.12/24"]));
    connect((&node, "cali1", &["169.254.1.1/32"]), (&pod, "eth0", &["10.244.2.10/32"]));
    node.set_sysctl("ipv4/ip_forward", "1");
    node.command("ip", &["route", "add", "10.244.2.10/32", "dev", "cali1"]).ok();
    pod.command("ip", &["route", "add", "default", "via", "169.254.1.1", "dev", "eth0", "onlink"])
        .ok();
    let ends = [
        (&cluster.host, "192.0.2.11", "10.244.1.0", "192.0.2.12", "10.244.2.0"),
        (&node, "192.0.2.12", "10.244.2.0", "192.0.2.11", "10.244.1.0"),
    ];
    for (netns, own, tunnel, peer, other) in ends {
        let (network, tunnel) = (format!("{other}/24"), format!("{tunnel}/32"));
        let run = |line: &str| {
            netns.command("ip", &line.split_whitespace().collect::<Vec<_>>()).ok();
        };
        match way {
            Way::Direct => run(&format!("route add {network} via {peer}")),
            Way::Vxlan => {
                run(&format!(
                    "link add vxlan0 type vxlan id 7 local {own} remote {peer} dstport 4789"
                ));
                run(&format!("address add {tunnel} dev vxlan0"));
                run("link set vxlan0 up");
                run(&format!("route add {network} via {other} dev vxlan0 onlink"));
            }
        }
    }
    [node, pod]
}

/// A pod of another node is known by its address. Before it is, it is nobody; from then on a
/// connection that it is still trying to make is made.
#[test]
fn a_pod_of_another_node_is_a_peer_as_soon_as_it_is_known() {
    for way in [Way::Direct, Way::Vxlan] {
        let cluster = Cluster::new();
        let (server, [_node, remote]) = (&cluster.pods[0], second(&cluster, way));
        let allowed = lets("client", "server", &json!([{"port": 80}]));
        let mut world = world(&["server"], &allowed);
        cluster.apply(&world).ok();
        let there = at("10.244.1.10", 80);
        let listener = server.netns.enter(|| TcpListener::bind(there).unwrap());
        thread::scope(|scope| {
            let trying = scope
                .spawn(|| remote.enter(|| TcpStream::connect_timeout(&there, DEADLINE).map(drop)));
            // Its first packet has come to nothing.
            let is_dropped = || {
                let listed = cluster
                    .host
                    .command("nft", &["list", "chain", "inet", "manx.policy", "ingress4"]);
                let listed = listed.ok();
                let mut counters = listed.lines().filter(|line| line.contains("counter packets"));
                counters.any(|line| !line.contains("counter packets 0 "))
            };
            assert!(eventually(DEADLINE, is_dropped), "{way:?}");
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err(), "{way:?}");
            listener.set_nonblocking(false).unwrap();
            let pod = json!({"kind": "Pod", "metadata": {"namespace": "x", "name": "remote",
                             "labels": {"app": "client"}}, "spec": {"nodeName": "node-b"},
                             "status": {"podIP": "10.244.2.10"}});
            world["items"].as_array_mut().unwrap().push(pod);
            cluster.apply(&world).ok();
            trying.join().unwrap().unwrap();
        });
        drop(listener);
        let shut = at("10.244.1.10", 81);
        let passes = || speaks(&remote, &server.netns, there, there);
        silent(&remote, &server.netns, shut, shut, passes);
    }
}
