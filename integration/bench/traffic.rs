// SPDX-License-Identifier: Apache-2.0
//! Traffic between two namespaces: streams by iperf3, round trips by ourselves.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::harness::{Netns, eventually};

/// Times of a request of one byte and its answer, over an open connection.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Latency {
    pub p50_us: f64,
    pub p99_us: f64,
}

/// What iperf3 tells, of the receiving side.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub bytes: f64,
    pub bits_per_second: f64,
    pub retransmits: u64,
}

const PORT: u16 = 5201;

/// A process that is ended when it is no longer needed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Sends by TCP for so long, in so many streams, to `address` in `to`.
pub fn stream(from: &Netns, to: &Netns, address: &str, streams: usize, length: Duration) -> Ended {
    let mut server = Command::new("iperf3");
    server.args(["--server", "--one-off", "--bind", address]);
    // Each on a processor of its own, where there are two. A sender that moves from
    // one to the other overtakes its own packets, for each processor has a queue of
    // those that came from it, and what TCP makes of that is no cost of the way.
    let is_pinned = thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    if is_pinned {
        server.args(["--affinity", "1"]);
    }
    server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _server = Running(to.enter(|| server.spawn().expect("start iperf3")));
    let listening = format!(":{PORT:04X} 00000000:0000 0A");
    let ready = || {
        to.enter(|| fs::read_to_string("/proc/thread-self/net/tcp"))
            .is_ok_and(|table| table.contains(&listening))
    };
    assert!(eventually(Duration::from_secs(5), ready), "iperf3 does not listen");
    let (seconds, parallel) = (length.as_secs().max(1).to_string(), streams.to_string());
    let mut args = vec!["--client", address, "--json", "--time", &seconds, "--parallel", &parallel];
    if is_pinned {
        args.extend(["--affinity", "0"]);
    }
    let said = from.command("iperf3", &args).ok();
    let said: Value = serde_json::from_str(&said).expect("iperf3 speaks JSON");
    let (sent, received) = (&said["end"]["sum_sent"], &said["end"]["sum_received"]);
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("in {said}"));
    Ended {
        bytes: number(&received["bytes"]),
        bits_per_second: number(&received["bits_per_second"]),
        retransmits: sent["retransmits"].as_u64().unwrap_or_default(),
    }
}

/// The times of so many round trips.
pub fn latency(from: &Netns, to: &Netns, address: &str, round_trips: usize) -> Latency {
    let ip: IpAddr = address.parse().expect("an address");
    let listener = to.enter(|| TcpListener::bind(SocketAddr::new(ip, 0)).expect("listen"));
    let target = listener.local_addr().expect("an address");
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.set_nodelay(true).expect("no delay");
        let mut byte = [0];
        while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    });
    let mut stream = from
        .enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(5)))
        .unwrap_or_else(|e| panic!("connect to {target}: {e}"));
    stream.set_nodelay(true).expect("no delay");
    let mut times = Vec::new();
    for number in 0..round_trips + round_trips / 10 {
        let begin = Instant::now();
        let mut byte = [7];
        stream.write_all(&byte).and_then(|()| stream.read_exact(&mut byte)).expect("an answer");
        // The first tenth finds caches cold and processors asleep.
        if number >= round_trips / 10 {
            times.push(begin.elapsed());
        }
    }
    drop(stream);
    echo.join().expect("the echo ends with its connection");
    let times = crate::quantile::Times::of(times);
    Latency { p50_us: times.p50_ms * 1e3, p99_us: times.p99_ms * 1e3 }
}
