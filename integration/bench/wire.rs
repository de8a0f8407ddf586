// SPDX-License-Identifier: Apache-2.0
//! The way of a packet between two pods of a node, by one thread.
//!
//! It has the sockets of both pods and does nothing but send and receive. What it
//! sends is forwarded and put into the other socket's queue before the call
//! returns, so that neither a wake-up nor a scheduler is part of the time: with
//! two threads these take ten times as long as the way itself.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::{Host, Netns, Plugin, Pod, uninterrupted};
use crate::ratio::Ratio;
use crate::subjects::Programs;
use crate::traffic;
use crate::turns::order;

/// Packets whose time is taken together.
const BATCH: usize = 64;

/// A node with two pods, 10.88.0.2 and 10.88.0.3.
pub struct Wire {
    pub host: Host,
    pods: [Pod; 2],
    pub addresses: [String; 2],
}

/// Sockets of one port of both pods, each connected to the other.
pub struct Flow([UdpSocket; 2]);

impl Wire {
    /// With these keys in the configuration, beside those that all have.
    pub fn new(programs: &Programs, keys: &Value) -> Self {
        let host = Host::new();
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "bench", "type": "manx",
            "ipam": {
                "type": "manx-ipam", "dataDir": host.scratch().dir("leases"),
                "ranges": [[{"subnet": "10.88.0.0/24"}]],
            },
        });
        for (key, value) in keys.as_object().expect("keys") {
            conf[key] = value.clone();
        }
        let plugin = Plugin::new(&host, &programs.manx).config(conf);
        let attach = || {
            let pod = Pod::new("wire");
            let result = plugin.add(&pod).ok();
            let cidr = result["ips"][0]["address"].as_str().expect("an address");
            (pod, cidr.split('/').next().unwrap_or_default().to_owned())
        };
        let [(from, near), (to, far)] = [attach(), attach()];
        assert!(from.netns.pings(&far), "no way between the pods");
        Self { host, pods: [from, to], addresses: [near, far] }
    }

    /// Names of the host's ends of both pods' links.
    pub fn links(&self) -> [String; 2] {
        self.addresses.each_ref().map(|address| {
            let route = self.host.command("ip", &["-o", "route", "show", address]).ok();
            let device = route.split_whitespace().skip_while(|word| *word != "dev").nth(1);
            device.expect("a route to the pod").to_owned()
        })
    }

    pub fn flow(&self, port: u16) -> Flow {
        let bind = |netns: &Netns, address: &str| {
            let ip: IpAddr = address.parse().expect("an address");
            let socket = netns.enter(|| UdpSocket::bind(SocketAddr::new(ip, port)));
            let socket = socket.expect("a socket of the pod");
            socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
            socket
        };
        let [from, to] = &self.pods;
        let [near, far] = &self.addresses;
        let [here, there] = [bind(&from.netns, near), bind(&to.netns, far)];
        let address = |socket: &UdpSocket| socket.local_addr().expect("its address");
        here.connect(address(&there)).expect("a route");
        there.connect(address(&here)).expect("a route");
        Flow([here, there])
    }

    /// A second over the Gbit/s of a stream, so that more is worse.
    pub fn stream(&self, length: Duration) -> f64 {
        let [from, to] = &self.pods;
        let [_, far] = &self.addresses;
        let ended = traffic::stream(&from.netns, &to.netns, far, 1, length);
        1e12 / ended.bits_per_second
    }
}

impl Flow {
    /// Whether a packet arrives.
    pub fn passes(&self) -> bool {
        let Self([here, there]) = self;
        here.send(&[7]).expect("send");
        uninterrupted(|| there.recv(&mut [0])).is_ok()
    }

    /// ns for a packet from the call that sends it until it is in the other
    /// socket's queue.
    pub fn one_way(&self) -> f64 {
        let Self([here, there]) = self;
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
                uninterrupted(|| there.recv(&mut [0])).expect("a packet that was sent");
            }
        }
    }

    /// ns for a request and its answer.
    pub fn round_trip(&self) -> f64 {
        let Self([here, there]) = self;
        let mut byte = [7];
        let begin = Instant::now();
        for _ in 0..BATCH {
            here.send(&byte).expect("send");
            uninterrupted(|| there.recv(&mut byte)).expect("the request");
            there.send(&byte).expect("send");
            uninterrupted(|| here.recv(&mut byte)).expect("the answer");
        }
        begin.elapsed().as_nanos() as f64 / BATCH as f64
    }
}

/// Has all subjects take turns, in a thread that stays on one processor. Each turn is told its
/// subject, and whether it counts: a tenth before is for caches to be warm.
pub fn in_turns(rounds: usize, subjects: usize, mut turn: impl FnMut(usize, bool) + Send) {
    let warm = rounds / 10;
    std::thread::scope(|scope| {
        let packets = scope.spawn(|| {
            pin();
            for round in 0..rounds + warm {
                for number in order(round, subjects) {
                    turn(number, round >= warm);
                }
            }
        });
        packets.join()
    })
    .expect("packets arrive");
}

/// Keeps the thread on one processor, the last one.
fn pin() {
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let mut set = CpuSet::new();
    let pinned = set.set(last).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    pinned.expect("choose a processor");
}

pub fn paired(old: &[f64], new: &[f64]) -> Ratio {
    let pairs: Vec<(f64, f64)> = old.iter().copied().zip(new.iter().copied()).collect();
    Ratio::of(&pairs)
}
