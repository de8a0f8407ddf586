// SPDX-License-Identifier: Apache-2.0
//! What becomes of packets that no policy allows.

use std::io::ErrorKind;
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

use super::Namespace;
use super::policy::{BEFORE, Node, PATIENCE, address, held};
use super::uninterrupted::uninterrupted;
use crate::family::Family;
use crate::nft::policy::{Assigned, Denial, Depth, Direction, Found, Policies, Way};
use crate::nft::{self, Ensured};

impl Node {
    /// What the kernel counted for each pod: direction, the last part of its address, packets.
    fn dropped(&self) -> Vec<(Direction, &'static str, u64)> {
        let dropped = self.host.run(|| held(4).dropped()).unwrap().into_iter();
        let name = |address: IpAddr| match address.to_string().as_str() {
            "10.1.0.2" => "10.1.0.2",
            "10.1.0.3" => "10.1.0.3",
            "fd01::2" => "fd01::2",
            "fd01::3" => "fd01::3",
            _ => "another",
        };
        let named = dropped.map(|it| {
            // Of IP, UDP, and a byte.
            let each = if it.address.is_ipv4() { 29 } else { 49 };
            assert_eq!(it.bytes, it.packets * each, "{it:?}");
            (it.direction, name(it.address), it.packets)
        });
        named.collect()
    }

    /// Sends a byte from the first pod to a port of the second; returns behind what became of it.
    fn send(&self, family: Family, port: u16) {
        self.sockets(family, port)[0].send(b"x").unwrap();
        // What the node says to its pods is not asked for, and comes behind.
        let [_, there] = self.sockets(family, port + 1000);
        let node = self.host.run(|| UdpSocket::bind(("::", 0)).unwrap());
        let to = there.local_addr().unwrap();
        let to = match to.ip() {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped().into(), to.port()),
            v6 => (v6, to.port()),
        };
        node.send_to(b"x", to).unwrap();
        uninterrupted(|| there.recv(&mut [0])).unwrap();
    }
}

#[test]
fn what_is_dropped_is_counted_for_the_pod_whatever_else_changes() {
    use Direction::{Egress, Ingress};
    let node = Node::new();
    // As before, and nobody may speak to the second pod.
    let closed = |class| {
        let mut closed = held(class);
        closed.ways[1].grants.list().clear();
        closed
    };
    node.host.run(|| assert_eq!(closed(4).enforce(), Ok(Ensured::Installed)));
    let nothing = [
        (Egress, "10.1.0.2", 0),
        (Egress, "fd01::2", 0),
        (Ingress, "10.1.0.3", 0),
        (Ingress, "fd01::3", 0),
    ];
    assert_eq!(node.dropped(), nothing);
    assert_eq!(node.host.run(|| held(4).denied()), Ok([Some(0), Some(0)]));
    for (count, family) in [(1, Family::V4), (2, Family::V4), (3, Family::V6)] {
        for port in [80, 81, 82] {
            node.send(family, port);
        }
        let of = |is: bool, count: u64| if is { count } else { count.min(2) };
        let (v4, v6) = (of(family == Family::V4, count), count.saturating_sub(2));
        let expected = [
            (Egress, "10.1.0.2", 2 * v4),
            (Egress, "fd01::2", 2 * v6),
            (Ingress, "10.1.0.3", v4),
            (Ingress, "fd01::3", v6),
        ];
        assert_eq!(node.dropped(), expected, "{family}");
    }
    assert_eq!(node.host.run(|| held(4).denied()), Ok([Some(6), Some(3)]));
    let counted = node.dropped();
    // Other classes of the same pods, and other pods that come and go.
    let mut other = closed(6);
    other.ways[1].classes.list().iter_mut().for_each(|(_, class)| *class = 9);
    let mut more = other.clone();
    more.assign(address("10.1.0.9"), &Assigned::CLOSED);
    for policies in [&other, &more, &other] {
        node.host.run(|| assert_eq!(policies.enforce(), Ok(Ensured::Repaired)));
        let dropped = node.dropped();
        assert!(counted.iter().all(|one| dropped.contains(one)), "{dropped:?}");
        assert_eq!(dropped.len(), if policies == &more { 6 } else { 4 });
    }
    node.send(Family::V4, 81);
    assert_eq!(node.dropped()[0], (Egress, "10.1.0.2", 5));
    // A single pod, as an ADD changes it.
    node.host.run(|| {
        let mut single = Policies { table: other.table.clone(), ..Policies::default() };
        let classes = [Some(7), None];
        single.assign(address("10.1.0.2"), &Assigned { classes, identity: Some(6) });
        assert_eq!(single.settle(&[address("10.1.0.2")], Depth::Counted), Ok(Found::Sound));
    });
    assert_eq!(node.dropped()[0], (Egress, "10.1.0.2", 5));
    // Who is isolated no more, and then is again, begins anew.
    let none = Policies { table: other.table.clone(), ..Policies::default() };
    let pods = [address("10.1.0.2")];
    assert_eq!(node.host.run(|| none.settle(&pods, Depth::Counted)), Ok(Found::Sound));
    assert_eq!(node.dropped().len(), 3);
    assert_eq!(node.host.run(|| other.settle(&pods, Depth::Counted)), Ok(Found::Sound));
    assert_eq!(node.dropped()[0], (Egress, "10.1.0.2", 0));
    // Without its element a pod is not counted, and not let out either.
    node.host.command("nft flush set inet manx-policy drops-out4");
    node.send(Family::V4, 81);
    assert_eq!(node.dropped().len(), 3);
    assert_eq!(node.host.run(|| held(4).denied()), Ok([Some(8), Some(3)]));
}

/// How long a reset or an ICMP message takes does not matter: it comes, or the test fails.
#[test]
fn what_is_rejected_is_told_to_its_sender_at_once() {
    let node = Node::new();
    let rejects = Denial { rejects: true, ..Denial::default() };
    let connect = |family: Family| {
        let to: IpAddr = if family == Family::V4 { "10.1.0.3" } else { "fd01::3" }.parse().unwrap();
        node.pods[0].run(|| TcpStream::connect_timeout(&(to, 81).into(), PATIENCE)).unwrap_err()
    };
    for policies in [
        // At egress, and, where nothing isolates the first pod, at ingress.
        Policies { denial: rejects, ..held(4) },
        Policies { denial: rejects, ways: [Way::default(), held(4).ways[1].clone()], ..held(4) },
    ] {
        node.host.run(|| assert_ne!(policies.enforce(), Ok(Ensured::Unchanged)));
        for family in Family::BOTH {
            assert_eq!(connect(family).kind(), ErrorKind::ConnectionRefused, "{family}");
            let [here, _there] = node.sockets(family, 81);
            here.send(b"x").unwrap();
            let error = uninterrupted(|| here.recv(&mut [0])).unwrap_err();
            let told = error.raw_os_error().map(Errno::from_raw);
            let expected = if family == Family::V4 { Errno::EHOSTUNREACH } else { Errno::EACCES };
            assert_eq!(told, Some(expected));
            // What is allowed is not rejected.
            let [here, there] = node.sockets(family, 80);
            here.send(b"x").unwrap();
            uninterrupted(|| there.recv(&mut [0])).unwrap();
        }
    }
    assert!(node.dropped_packets() > 0);
    // A drop is silent: what comes behind it finds nothing there.
    node.host.run(|| assert_ne!(held(4).enforce(), Ok(Ensured::Unchanged)));
    for family in Family::BOTH {
        let [here, _there] = node.sockets(family, 81);
        here.send(b"x").unwrap();
        let [asks, answers] = node.sockets(family, 80);
        asks.send(b"x").unwrap();
        let (_, from) = uninterrupted(|| answers.recv_from(&mut [0])).unwrap();
        answers.send_to(b"x", from).unwrap();
        uninterrupted(|| asks.recv(&mut [0])).unwrap();
        here.set_nonblocking(true).unwrap();
        assert_eq!(here.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

impl Node {
    fn dropped_packets(&self) -> u64 {
        self.host.run(|| held(4).dropped()).unwrap().iter().map(|it| it.packets).sum()
    }
}

/// The rules of another version, or of another option: a second table says the same while
/// they are replaced.
#[test]
fn rules_of_another_version_are_replaced_while_packets_pass() {
    const CHANGES: usize = 60;
    let node = Node::new();
    let of = |denial: Denial| Policies { denial, ..held(4) };
    let log = Denial { log: Some(3), ..Denial::default() };
    let versions = [BEFORE, Denial::default(), log];
    node.host.run(|| assert_eq!(of(BEFORE).enforce(), Ok(Ensured::Installed)));
    let [here, there] = node.sockets(Family::V4, 80);
    let [outside, inside] = node.sockets(Family::V4, 81);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut buffer, mut count) = ([0; 16], 0);
            while !over.load(Ordering::Relaxed) || count < 1000 {
                outside.send(b"never").unwrap();
                here.send(b"question").unwrap();
                let (_, from) = uninterrupted(|| there.recv_from(&mut buffer)).unwrap();
                there.send_to(b"answer", from).unwrap();
                uninterrupted(|| here.recv(&mut buffer)).unwrap();
                count += 1;
            }
        });
        for change in 1..=CHANGES {
            let wanted = of(versions[change % versions.len()]);
            assert_eq!(node.host.run(|| wanted.enforce()), Ok(Ensured::Repaired));
            let found = node.host.run(|| wanted.look()).unwrap();
            assert_eq!((found.is_sound, found.policies), (true, Some(wanted)));
        }
        over.store(true, Ordering::Relaxed);
    });
    inside.set_nonblocking(true).unwrap();
    assert_eq!(inside.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(node.host.run(|| nft::tables("manx")), Ok(vec!["manx-policy".to_owned()]));
}

fn first((done, _): (Ensured, u32)) -> Ensured {
    done
}

/// A table that another version made is none that an ADD may put a pod into; nor is one that
/// somebody was killed over.
#[test]
fn a_pod_is_put_into_no_table_of_another_version() {
    let namespace = Namespace::new();
    let pods = [address("10.1.0.2")];
    let settle = || namespace.run(|| held(4).settle(&pods, Depth::Counted)).unwrap();
    assert_eq!(settle(), Found::Unsound, "there is none");
    assert_eq!(namespace.run(|| held(4).make().map(first)), Ok(Ensured::Installed));
    assert_eq!(settle(), Found::Sound);
    let before = Policies { denial: BEFORE, ..held(4) };
    assert_eq!(namespace.run(|| before.enforce()), Ok(Ensured::Repaired));
    assert_eq!(settle(), Found::Unsound);
    assert_eq!(namespace.run(|| held(4).make().map(first)), Ok(Ensured::Repaired));
    assert_eq!(settle(), Found::Sound);
    namespace.load("add table inet manx-policy.cover");
    assert_eq!(settle(), Found::Unsound);
    assert_eq!(namespace.run(|| held(4).make().map(first)), Ok(Ensured::Unchanged));
    assert_eq!(settle(), Found::Sound);
    // This kernel takes all of it, and nothing is left behind by the question.
    let denial = Denial { rejects: true, log: Some(9), ..Denial::default() };
    let all = Policies { denial, ..held(4) };
    assert_eq!(namespace.run(|| all.possible_denial()), denial);
    assert_eq!(namespace.run(|| nft::tables("manx")), Ok(vec!["manx-policy".to_owned()]));
}

/// A socket that hears what is sent to a group of NFLOG, one packet at a time.
fn listen(group: u16) -> OwnedFd {
    const ULOG: u16 = 4 << 8;
    let kind = SockType::Raw;
    let protocol = SockProtocol::NetlinkNetFilter;
    let socket = socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    let attribute = |kind: u16, value: &[u8]| {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    // NFULNL_CFG_CMD_BIND; NFULNL_COPY_PACKET; a message for each packet.
    let settings = [(1, &[1u8][..]), (2, &[0, 0, 255, 255, 2, 0]), (5, &[0, 0, 0, 1])];
    for (kind, value) in settings {
        let body = [&[0, 0], &group.to_be_bytes()[..], &attribute(kind, value)].concat();
        // NFULNL_MSG_CONFIG; NLM_F_REQUEST and NLM_F_ACK.
        let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend((ULOG | 1).to_ne_bytes());
        message.extend(5u16.to_ne_bytes());
        message.extend([[0; 4]; 2].concat());
        message.extend(body);
        let done = send(socket.as_raw_fd(), &message, MsgFlags::empty());
        assert_eq!(done, Ok(message.len()));
        let mut answer = [0; 4096];
        let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap();
        assert!(
            length >= 20 && answer[16..20] == [0; 4],
            "setting {kind}: {:?}",
            &answer[..length]
        );
    }
    socket
}

#[test]
fn what_is_logged_names_the_direction() {
    let node = Node::new();
    let denial = Denial { log: Some(5), ..Denial::default() };
    let heard = node.host.run(|| listen(5));
    let ingress_alone = [Way::default(), held(4).ways[1].clone()];
    for (ways, direction) in [(held(4).ways, "egress"), (ingress_alone, "ingress")] {
        let policies = Policies { denial, ways, ..held(4) };
        node.host.run(|| assert_ne!(policies.enforce(), Ok(Ensured::Unchanged)));
        for family in Family::BOTH {
            node.send(family, 81);
            let mut packet = [0; 4096];
            let length = recv(heard.as_raw_fd(), &mut packet, MsgFlags::empty()).unwrap();
            let prefix = format!("manx {direction}: \0");
            let packet = &packet[..length];
            let says = packet.windows(prefix.len()).any(|part| part == prefix.as_bytes());
            assert!(says, "{direction}, {family}: {}", String::from_utf8_lossy(packet));
        }
    }
}
