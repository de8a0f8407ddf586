//! What the source check costs: a node with `sourceCheck` and one without, in
//! turns, by the smallest packet from pod to pod and by TCP.
//!
//! One thread has the sockets of both pods and does nothing but send and
//! receive. What it sends is forwarded and put into the other socket's queue
//! before the call returns, so that neither a wake-up nor a scheduler is part of
//! the time: with two threads these take ten times as long as the way itself.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Host, Netns, Plugin, Pod};
use crate::pair::Row;
use crate::ratio::Ratio;
use crate::settle::settle;
use crate::subjects::Programs;
use crate::traffic;
use crate::turns::order;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: usize,
    pub streams: usize,
    /// Of each stream, in whole seconds.
    pub stream: Duration,
}

/// For the smallest packet, which a rule costs most.
const PACKET_AT_MOST: f64 = 1.06;
/// Nothing that can be measured.
const STREAM_AT_MOST: f64 = 1.02;

/// Packets whose time is taken together.
const BATCH: usize = 64;

/// A node with two pods.
struct Node {
    host: Host,
    pods: [Pod; 2],
    /// Of the second pod.
    address: String,
    /// From the first to the second pod and back.
    sockets: [UdpSocket; 2],
}

/// Times of one node: a packet one way, a request and its answer, ns; and a
/// second over the Gbit/s of a stream, so that more is worse.
#[derive(Default)]
struct Samples {
    one_way: Vec<f64>,
    round_trip: Vec<f64>,
    stream: Vec<f64>,
}

/// Measures without ("old"), with ("new"), and without once more.
///
/// # Errors
/// Why there is nothing to compare.
pub fn rows(programs: &Programs, effort: Effort) -> Result<Vec<Row>, String> {
    let mut nodes = Vec::new();
    for check in [false, true, false] {
        let node = Node::new(programs, check);
        let rules = node.host.command("nft", &["list", "ruleset"]).ok();
        if rules.contains("fib ") != check {
            let made = if check { "makes no rule" } else { "makes a rule all the same" };
            return Err(format!("this manx {made} with sourceCheck {check}: {rules}"));
        }
        nodes.push((node, Samples::default()));
    }
    settle();
    std::thread::scope(|scope| {
        let packets = scope.spawn(|| {
            pin();
            // A tenth for caches to be warm.
            for round in 0..effort.rounds + effort.rounds / 10 {
                for number in order(round, nodes.len()) {
                    let (node, samples) = &mut nodes[number];
                    let (one_way, round_trip) = (node.one_way(), node.round_trip());
                    if round >= effort.rounds / 10 {
                        samples.one_way.push(one_way);
                        samples.round_trip.push(round_trip);
                    }
                }
            }
        });
        packets.join()
    })
    .expect("packets arrive");
    for round in 0..effort.streams {
        for number in order(round, nodes.len()) {
            let (node, samples) = &mut nodes[number];
            samples.stream.push(node.stream(effort.stream));
        }
    }
    let [(_, without), (_, with), (_, again)] = nodes.as_slice() else {
        unreachable!("three nodes")
    };
    let row = |what: &str, at_most, of: fn(&Samples) -> &Vec<f64>| Row {
        what: what.into(),
        ratio: paired(of(without), of(with)),
        control: paired(of(without), of(again)),
        at_most,
    };
    Ok(vec![
        row("UDP, one byte, one way, ns", Some(PACKET_AT_MOST), |samples| &samples.one_way),
        row("UDP, one byte and its answer, ns", Some(PACKET_AT_MOST), |samples| {
            &samples.round_trip
        }),
        row("TCP, one stream, ns per kbit", Some(STREAM_AT_MOST), |samples| &samples.stream),
    ])
}

fn paired(old: &[f64], new: &[f64]) -> Ratio {
    let pairs: Vec<(f64, f64)> = old.iter().copied().zip(new.iter().copied()).collect();
    Ratio::of(&pairs)
}

/// A check that makes the way shorter is none, and one that cannot be told from
/// none is told as that by its interval.
pub fn faults(rows: &[Row]) -> Vec<String> {
    let mut faults = crate::pair::faults(rows);
    for row in rows.iter().filter(|row| row.ratio.high < 0.99) {
        let told = row.ratio.told();
        faults.push(format!("{}: with the check it takes less than without: {told}", row.what));
    }
    faults
}

/// Keeps the thread on one processor, the last one.
fn pin() {
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let mut set = CpuSet::new();
    let pinned = set.set(last).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    pinned.expect("choose a processor");
}

impl Node {
    fn new(programs: &Programs, check: bool) -> Self {
        let host = Host::new();
        let conf = json!({
            "cniVersion": "1.1.0", "name": "bench", "type": "manx", "sourceCheck": check,
            "ipam": {
                "type": "manx-ipam", "dataDir": host.scratch().dir("leases"),
                "ranges": [[{"subnet": "10.88.0.0/24"}]],
            },
        });
        let plugin = Plugin::new(&host, &programs.manx).config(conf);
        let attach = || {
            let pod = Pod::new("check");
            let result = plugin.add(&pod).ok();
            let cidr = result["ips"][0]["address"].as_str().expect("an address");
            (pod, cidr.split('/').next().unwrap_or_default().to_owned())
        };
        let [(from, near), (to, far)] = [attach(), attach()];
        assert!(from.netns.pings(&far), "no way between the pods");
        let bind = |netns: &Netns, address: &str| {
            let ip: IpAddr = address.parse().expect("an address");
            let socket = netns.enter(|| UdpSocket::bind(SocketAddr::new(ip, 7007)));
            let socket = socket.expect("a socket of the pod");
            socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
            socket
        };
        let sockets = [bind(&from.netns, &near), bind(&to.netns, &far)];
        let [here, there] = &sockets;
        let address = |socket: &UdpSocket| socket.local_addr().expect("its address");
        here.connect(address(there)).expect("a route");
        there.connect(address(here)).expect("a route");
        Self { host, pods: [from, to], address: far, sockets }
    }

    /// ns for a packet from the call that sends it until it is in the other
    /// socket's queue.
    fn one_way(&self) -> f64 {
        let [here, there] = &self.sockets;
        loop {
            let begin = Instant::now();
            for _ in 0..BATCH {
                here.send(&[7]).expect("send");
            }
            let took = begin.elapsed();
            // Where a softirq was left to a thread of the kernel, part of the way was
            // not in the time: such a batch is no measurement.
            there.set_nonblocking(true).expect("a socket");
            let mut came = 0;
            while came < BATCH {
                match there.recv(&mut [0]) {
                    Ok(_) => came += 1,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("receive: {error}"),
                }
            }
            there.set_nonblocking(false).expect("a socket");
            if came == BATCH {
                return took.as_nanos() as f64 / BATCH as f64;
            }
            for _ in came..BATCH {
                there.recv(&mut [0]).expect("a packet that was sent");
            }
        }
    }

    /// ns for a request and its answer.
    fn round_trip(&self) -> f64 {
        let [here, there] = &self.sockets;
        let mut byte = [7];
        let begin = Instant::now();
        for _ in 0..BATCH {
            here.send(&byte).expect("send");
            there.recv(&mut byte).expect("the request");
            there.send(&byte).expect("send");
            here.recv(&mut byte).expect("the answer");
        }
        begin.elapsed().as_nanos() as f64 / BATCH as f64
    }

    fn stream(&self, length: Duration) -> f64 {
        let [from, to] = &self.pods;
        let ended = traffic::stream(&from.netns, &to.netns, &self.address, 1, length);
        1e12 / ended.bits_per_second
    }
}
