// SPDX-License-Identifier: Apache-2.0
//! Real packets: what address do others see?
//!
//! ```text
//!  blue 10.244.1.2 ──┐                 ┌── eth0 192.0.2.1 ── outside 192.0.2.2
//!  blue 10.244.1.3 ──┤ host (routes) ──┤                    and 198.51.100.7 (never)
//!  green 10.244.1.4 ─┘                 └                    and 203.0.113.9
//! ```
//!
//! blue is masqueraded, green is another network's and is not. Everything is
//! there twice, with `fd00:` and `2001:db8:` addresses.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use super::uninterrupted::uninterrupted;
use super::{Namespace, but, ensure, wanted};
use crate::nft::Ensured;

const BLUE: u32 = 0x6d61_0001;
const GREEN: u32 = 0x6d61_0002;
/// Longer than any packet takes here; a lost one fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    host: Namespace,
    outside: Namespace,
    /// Two of blue, one of green: 10.244.1.2 to .4 and fd00:244::2 to ::4.
    pods: [Namespace; 3],
}

impl Node {
    fn new() -> Self {
        let node = Self {
            host: Namespace::new(),
            outside: Namespace::new(),
            pods: [Namespace::new(), Namespace::new(), Namespace::new()],
        };
        node.host.command("ip link set lo up");
        connect(&node.host, "up0", 0, &node.outside);
        node.host.command("ip addr add 192.0.2.1/24 dev up0");
        node.host.command("ip addr add 2001:db8::1/64 dev up0 nodad");
        // An address of a service on the node, as a tunnel's or a virtual one is.
        node.host.command("ip addr add 10.9.9.9/32 dev lo");
        node.host.command("ip addr add fd00:9::9/128 dev lo nodad");
        node.host.run(|| {
            for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{family}"), "1").unwrap();
            }
        });
        for (pod, (number, group)) in node.pods.iter().zip([(2, BLUE), (3, BLUE), (4, GREEN)]) {
            let link = format!("cali{number}");
            connect(&node.host, &link, group, pod);
            node.host.command(&format!("ip addr add 10.244.1.1/32 dev {link}"));
            node.host.command(&format!("ip route add 10.244.1.{number}/32 dev {link}"));
            node.host.command(&format!("ip addr add fe80::1/64 dev {link} nodad"));
            node.host.command(&format!("ip route add fd00:244::{number}/128 dev {link}"));
            pod.command(&format!("ip addr add 10.244.1.{number}/32 dev eth0"));
            pod.command("ip route add default via 10.244.1.1 dev eth0 onlink");
            pod.command(&format!("ip addr add fd00:244::{number}/128 dev eth0 nodad"));
            pod.command("ip route add default via fe80::1 dev eth0 onlink");
        }
        node.furnish_outside();
        node
    }

    /// The outside has routes to everything, so that only translation decides
    /// which address answers come back to.
    fn furnish_outside(&self) {
        for address in ["192.0.2.2/24", "198.51.100.7/32", "203.0.113.9/32"] {
            self.outside.command(&format!("ip addr add {address} dev eth0"));
        }
        for address in ["2001:db8::2/64", "2001:db8:7::7/128", "2001:db8:9::9/128"] {
            self.outside.command(&format!("ip addr add {address} dev eth0 nodad"));
        }
        for there in ["10.0.0.0/8 via 192.0.2.1", "fd00::/16 via 2001:db8::1"] {
            self.outside.command(&format!("ip route add {there}"));
        }
        for far in ["198.51.100.7 via 192.0.2.2", "203.0.113.9 via 192.0.2.2"] {
            self.host.command(&format!("ip route add {far}"));
        }
        for far in ["2001:db8:7::7 via 2001:db8::2", "2001:db8:9::9 via 2001:db8::2"] {
            self.host.command(&format!("ip route add {far}"));
        }
    }
}

/// A veth from `host` to `eth0` in `other`, whose end in the host is of a group.
pub(super) fn connect(host: &Namespace, link: &str, group: u32, other: &Namespace) {
    let path = format!("/proc/{}/fd/{}", std::process::id(), other.0.as_raw_fd());
    host.command(&format!(
        "ip link add {link} group {group} type veth peer name eth0 netns {path}"
    ));
    host.command(&format!("ip link set {link} up"));
    other.command("ip link set lo up");
    other.command("ip link set eth0 up");
}

/// Sends a datagram from `from` (the kernel chooses the address unless `source`
/// does) to `to` in `at`, which answers. Returns the source that `at` saw.
fn seen(from: &Namespace, source: Option<&str>, at: &Namespace, to: &str) -> String {
    // Any free port: a child that another test forks holds our descriptors until
    // it executes its program, and a fixed port could still be bound by it.
    let to = SocketAddr::new(to.parse().unwrap(), 0);
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    let source: IpAddr = source.unwrap_or(any).parse().unwrap();
    let socket = |address: SocketAddr| {
        move || {
            let socket = UdpSocket::bind(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        }
    };
    let there = at.run(socket(to));
    let to = there.local_addr().unwrap();
    let here = from.run(socket(SocketAddr::new(source, 0)));
    let mut buffer = [0; 16];
    here.send_to(b"question", to).unwrap();
    let (length, seen) = received(&there, &mut buffer, &format!("{to} hears nothing"));
    assert_eq!(&buffer[..length], b"question");
    there.send_to(b"answer", seen).unwrap();
    let (length, answerer) = received(&here, &mut buffer, &format!("no answer from {to}"));
    // The answer comes back as from the address that was asked.
    assert_eq!((&buffer[..length], answerer), (&b"answer"[..], to));
    seen.ip().to_string()
}

fn received(socket: &UdpSocket, buffer: &mut [u8], otherwise: &str) -> (usize, SocketAddr) {
    let received = uninterrupted(|| socket.recv_from(buffer));
    received.unwrap_or_else(|error| panic!("{otherwise}: {error}"))
}

#[test]
fn the_outside_sees_the_node_and_everybody_else_the_pod() {
    let node = Node::new();
    let [blue, sibling, green] = &node.pods;
    let outside = &node.outside;
    // Without the table nothing is translated.
    assert_eq!(seen(blue, None, outside, "192.0.2.2"), "10.244.1.2");
    assert_eq!(seen(blue, None, outside, "2001:db8::2"), "fd00:244::2");
    let mut wanted = wanted();
    // The pods' own ranges are left out: the groups alone must keep pods apart.
    wanted.masquerade = Some(but(&["198.51.100.7/32", "2001:db8:7::/48"]));
    assert_eq!(node.host.run(|| ensure(&wanted)), Ok(Ensured::Installed));

    for (to, node_address, own) in [
        ("192.0.2.2", "192.0.2.1", "10.244.1.2"),
        ("203.0.113.9", "192.0.2.1", "10.244.1.2"),
        ("2001:db8::2", "2001:db8::1", "fd00:244::2"),
        ("2001:db8:9::9", "2001:db8::1", "fd00:244::2"),
    ] {
        // A connection tracked before the table came keeps its address, so each
        // question comes from a new port.
        assert_eq!(seen(blue, None, outside, to), node_address, "blue to {to}");
        assert_ne!(seen(green, None, outside, to), node_address, "green to {to}");
        assert_eq!(seen(blue, Some(own), outside, to), node_address, "blue to {to}");
    }
    for (to, own) in [("198.51.100.7", "10.244.1.2"), ("2001:db8:7::7", "fd00:244::2")] {
        assert_eq!(seen(blue, None, outside, to), own, "a destination of never: {to}");
    }
    for (at, to, own) in [
        (sibling, "10.244.1.3", "10.244.1.2"),
        (sibling, "fd00:244::3", "fd00:244::2"),
        (green, "10.244.1.4", "10.244.1.2"),
        (green, "fd00:244::4", "fd00:244::2"),
    ] {
        assert_eq!(seen(blue, None, at, to), own, "pod to pod {to}");
    }
    assert_eq!(seen(blue, None, &node.host, "192.0.2.1"), "10.244.1.2", "pod to its node");
    assert_eq!(seen(outside, None, blue, "10.244.1.2"), "192.0.2.2", "from outside to a pod");
}

/// A rule that begins with `iifgroup != G return` fails this: see [`super::super::network`].
#[test]
fn what_the_node_itself_sends_is_left_alone() {
    let node = Node::new();
    assert_eq!(node.host.run(|| ensure(&wanted())), Ok(Ensured::Installed));
    for (source, at, to) in [
        ("10.9.9.9", &node.outside, "203.0.113.9"),
        ("fd00:9::9", &node.outside, "2001:db8:9::9"),
        ("10.244.1.1", &node.pods[0], "10.244.1.2"),
        ("10.9.9.9", &node.pods[0], "10.244.1.2"),
        ("fd00:9::9", &node.pods[0], "fd00:244::2"),
    ] {
        assert_eq!(seen(&node.host, Some(source), at, to), source, "{source} to {to}");
    }
    // From another machine through the node to a pod.
    assert_eq!(
        seen(&node.outside, Some("198.51.100.7"), &node.pods[1], "10.244.1.3"),
        "198.51.100.7"
    );
}
