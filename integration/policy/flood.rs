// SPDX-License-Identifier: Apache-2.0
//! Packets in thousands, half of which may pass and half of which may not, while something
//! changes. They are counted by the kernel, in the namespaces that send and receive them.

use std::fmt;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::cluster::Cluster;
use crate::harness::{DEADLINE, Finished, Netns, Stdin, eventually, run, uninterrupted};

/// Packets that are under way at once at most: what waits on a CPU is bounded by
/// net.core.netdev_max_backlog, and is not to be lost there.
const BURST: usize = 64;
/// The n-th kind of packet is sent from this port plus n.
const FIRST_PORT: u16 = 40_000;
/// Where the last packet of a burst goes.
const MARKER_PORT: u16 = 39_999;

/// Packets from one pod to another, which are sent again and again.
pub struct Kind {
    pub from: usize,
    pub to: usize,
    pub port: u16,
    pub allowed: bool,
}

/// What became of packets.
#[derive(Debug, Default)]
pub struct Flood {
    pub seconds: f64,
    pub changes: u64,
    pub sent: u64,
    /// Of those that may not pass, how many arrived.
    pub leaked: u64,
    /// Of those that may pass, how many did not.
    pub lost: u64,
}

/// How a change knows how far the packets are.
pub struct Progress<'a>(&'a AtomicU64);

impl Progress<'_> {
    /// Waits until so many more packets were sent.
    pub fn wait(&self, packets: u64) {
        let until = self.0.load(Ordering::Relaxed) + packets;
        assert!(eventually(DEADLINE, || self.0.load(Ordering::Relaxed) >= until));
    }
}

impl Flood {
    /// Sends all kinds of packets in turns, by both families, for that time or until the
    /// change has been made `least` times, whichever is later.
    pub fn during(
        cluster: &Cluster,
        kinds: &[Kind],
        time: Duration,
        least: u64,
        change: &mut dyn FnMut(u64, &Progress<'_>),
    ) -> Self {
        let all: Vec<(u16, &Kind, usize)> = (FIRST_PORT..)
            .zip(kinds.iter().flat_map(|kind| [(kind, 0), (kind, 1)]))
            .map(|(port, (kind, family))| (port, kind, family))
            .collect();
        for pod in &cluster.pods {
            count(&pod.netns, all.iter().map(|(port, ..)| *port));
        }
        let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut flood = Self::default();
        let start = Instant::now();
        thread::scope(|scope| {
            let sender = scope.spawn(|| send(cluster, &all, &over, &sent));
            let progress = Progress(&sent);
            // Whatever becomes of the change, the sender is to end.
            let ends = End(&over);
            progress.wait(1);
            while start.elapsed() < time || flood.changes < least {
                assert!(!sender.is_finished(), "the sender has ended");
                change(flood.changes, &progress);
                flood.changes += 1;
            }
            drop(ends);
            sender.join().unwrap();
        });
        flood.seconds = start.elapsed().as_secs_f64();
        let counts = |port: &u16, kind: &Kind| {
            let counted =
                |way: &str, pod: usize| counted(&cluster.pods[pod].netns, &format!("{way}{port}"));
            (counted("sent", kind.from), counted("received", kind.to))
        };
        for (port, kind, _) in &all {
            let (sent, received) = counts(port, kind);
            flood.sent += sent;
            match kind.allowed {
                true => flood.lost += sent.saturating_sub(received),
                false => flood.leaked += received,
            }
        }
        flood
    }

    /// Packets a second.
    pub fn rate(&self) -> u64 {
        (self.sent as f64 / self.seconds) as u64
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, changes, sent, leaked, lost } = self;
        write!(f, "{sent} packets in {seconds:.1} s, {changes} changes, ")?;
        write!(f, "{leaked} leaked, {lost} lost")
    }
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends until it is over; who receives the last of each burst says that it was handled.
fn send(cluster: &Cluster, all: &[(u16, &Kind, usize)], over: &AtomicBool, sent: &AtomicU64) {
    pin();
    let open = |netns: &Netns, port: u16, address: IpAddr| {
        netns.enter(|| UdpSocket::bind((address, port)).unwrap())
    };
    let sockets = all.iter().map(|(port, kind, family)| {
        let [from, to] = [kind.from, kind.to].map(|at| &cluster.pods[at]);
        let socket = open(&from.netns, *port, from.addresses[*family]);
        socket.connect((to.addresses[*family], kind.port)).unwrap();
        socket
    });
    let sockets: Vec<UdpSocket> = sockets.collect();
    let last = &cluster.pods[cluster.pods.len() - 1];
    let marked = open(&last.netns, MARKER_PORT, last.addresses[0]);
    marked.set_read_timeout(Some(DEADLINE)).unwrap();
    let marker = open(&cluster.host, 0, [169, 254, 1, 1].into());
    marker.connect((last.addresses[0], MARKER_PORT)).unwrap();
    // From the node, which may always speak to its pods.
    let is_handled = || {
        marker.send(b"x").unwrap();
        uninterrupted(|| marked.recv(&mut [0])).unwrap();
    };
    while !over.load(Ordering::Relaxed) {
        for _ in 0..BURST / sockets.len() {
            for socket in &sockets {
                socket.send(b"x").unwrap();
            }
        }
        is_handled();
        sent.fetch_add(BURST as u64, Ordering::Relaxed);
    }
    // A packet waits for the CPU once for each link that it comes out of: two.
    (0..3).for_each(|_| is_handled());
}

/// Keeps the thread on the last of its CPUs, on which its packets are handled in their order.
fn pin() {
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let last = (0..CpuSet::count()).rev().find(|cpu| all.is_set(*cpu).unwrap()).unwrap();
    let mut set = CpuSet::new();
    set.set(last).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// Counts what a pod sends from these ports, and what it receives of it, which goes no
/// further: nobody answers.
fn count(netns: &Netns, ports: impl Iterator<Item = u16>) {
    let (mut counters, mut sent, mut received) = (String::new(), String::new(), String::new());
    for port in ports {
        counters += &format!("counter sent{port} {{ }}\n counter received{port} {{ }}\n");
        sent += &format!("udp sport {port} counter name sent{port}\n");
        received += &format!("udp sport {port} counter name received{port} drop\n");
    }
    let table = format!(
        "table inet count\n delete table inet count\n table inet count {{\n{counters}\
         chain sent {{ type filter hook output priority 0; \n{sent} }}\n\
         chain received {{ type filter hook prerouting priority -300; \n{received} }}\n}}\n"
    );
    load(netns, &table).ok();
}

/// Loads rules of nft.
pub fn load(netns: &Netns, rules: &str) -> Finished {
    netns.enter(|| {
        let mut command = std::process::Command::new("nft");
        command.args(["-f", "-"]);
        run(command, &Stdin::Bytes(rules.as_bytes().to_vec()), DEADLINE)
    })
}

/// The packets of a counter.
fn counted(netns: &Netns, name: &str) -> u64 {
    let told = netns.command("nft", &["list", "counter", "inet", "count", name]).ok();
    let mut words = told.split_whitespace().skip_while(|word| *word != "packets").skip(1);
    words.next().unwrap_or_else(|| panic!("{told}")).parse().unwrap()
}
