// SPDX-License-Identifier: Apache-2.0
//! A pool that changes its mode while a connection is at work.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::cluster::{Cluster, block, node, pool};
use crate::ground::{CONFLIST, Ground};
use crate::harness::{DEADLINE, Netns, Pod, eventually, uninterrupted};

/// Of a length that is prime, so that no segment begins as another did.
const PATTERN: usize = 65521;
/// What arrives between two steps.
const STEP: usize = 4 << 20;

/// Bytes on their way from one namespace to another until this is told to stop.
struct Transfer {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicUsize>,
    ends: Vec<thread::JoinHandle<usize>>,
}

fn pattern() -> Vec<u8> {
    (0..PATTERN).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

impl Transfer {
    fn new(from: &Netns, to: &Netns, address: &str) -> Self {
        let ip = address.parse().unwrap();
        let listener = to.enter(|| TcpListener::bind(SocketAddr::new(ip, 0)).unwrap());
        let target = listener.local_addr().unwrap();
        let mut out = from.enter(|| TcpStream::connect_timeout(&target, DEADLINE)).unwrap();
        let (mut incoming, _) = listener.accept().unwrap();
        for stream in [&out, &incoming] {
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.set_write_timeout(Some(DEADLINE)).unwrap();
        }
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&received));
        let sender = thread::spawn(move || {
            let (bytes, mut sent) = (pattern(), 0);
            while !stopped.load(Ordering::Relaxed) {
                out.write_all(&bytes).expect("send");
                sent += bytes.len();
            }
            sent
        });
        let receiver = thread::spawn(move || {
            let (bytes, mut buffer, mut total) = (pattern(), vec![0; PATTERN], 0);
            loop {
                match uninterrupted(|| incoming.read(&mut buffer)).expect("receive") {
                    0 => return total,
                    read => {
                        let expected = bytes.iter().cycle().skip(total % PATTERN);
                        assert!(expected.zip(&buffer[..read]).all(|(one, other)| one == other));
                        total += read;
                        count.store(total, Ordering::Relaxed);
                    }
                }
            }
        });
        Self { stop, received, ends: vec![sender, receiver] }
    }

    /// Waits for more to arrive.
    #[track_caller]
    fn goes_on(&self) {
        let before = self.received.load(Ordering::Relaxed);
        let more = || self.received.load(Ordering::Relaxed) >= before + STEP;
        assert!(eventually(DEADLINE, more), "{before} bytes, and no more");
    }

    /// All that was sent has arrived.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let ends: Vec<usize> = self.ends.into_iter().map(|end| end.join().unwrap()).collect();
        assert_eq!(ends[0], ends[1]);
    }
}

#[test]
fn a_pool_that_becomes_cross_subnet_moves_the_routes_under_a_connection() {
    let ground = Ground::new();
    let blocks = [block("10.65.1.0/26", 1), block("10.65.2.64/26", 2)];
    let cluster = Cluster::new(&ground, &[node(1), node(2)], &[pool("Always")], &blocks);
    let _agent = cluster.agent();
    ground.await_file(CONFLIST);
    let felix = cluster.felix();
    let (plugin, pod) = (cluster.plugin(), Pod::new("a"));
    cluster.next_address("10.65.1.5/26");
    plugin.add(&pod).ok();
    let transfers = [
        Transfer::new(&pod.netns, &felix.pod, &felix.address),
        Transfer::new(&felix.pod, &pod.netns, "10.65.1.5"),
    ];
    let go_on = || transfers.iter().for_each(Transfer::goes_on);
    let leads = |words: &str| {
        let route = || ground.host.command("ip", &["route", "show", "10.65.2.64/26"]).ok();
        assert!(eventually(DEADLINE, || route().contains(words)), "{}: {}", route(), ground.log());
    };
    go_on();
    leads("dev vxlan.calico");
    // Each of the two comes to it at its own time, there and back.
    cluster.tell_pool("MODIFIED", pool("CrossSubnet"));
    leads("via 192.0.2.1 dev eth0");
    go_on();
    felix.ip("route replace 10.65.1.0/26 via 192.0.2.11 dev eth0 proto 80 onlink");
    go_on();
    felix.ip("route replace 10.65.1.0/26 via 10.65.1.0 dev vxlan.calico onlink mtu 1450");
    go_on();
    cluster.tell_pool("MODIFIED", pool("Always"));
    leads("via 10.65.2.64 dev vxlan.calico");
    go_on();
    transfers.into_iter().for_each(Transfer::end);
    plugin.del(&pod).ok();
}
