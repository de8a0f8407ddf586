// SPDX-License-Identifier: Apache-2.0
//! Traffic between namespaces: the exact MTU, and many bytes.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use crate::harness::{DEADLINE, Netns, PING_SECONDS};

/// Bytes of IP and ICMP headers before the payload of an echo request.
const ECHO_OVERHEAD: [usize; 2] = [20 + 8, 40 + 8];

/// Asserts that a packet of exactly `mtu` bytes that may not be fragmented
/// passes to `address` and back, and that the sender's own kernel refuses one of
/// a byte more.
#[track_caller]
pub fn assert_exact_mtu(from: &Netns, address: &str, mtu: usize) {
    let fits = mtu - ECHO_OVERHEAD[usize::from(address.contains(':'))];
    let passed = ping(from, address, fits);
    assert!(passed.status == 0, "{mtu} bytes to {address}: {passed:?}");
    let refused = ping(from, address, fits + 1);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("essage too long"), "{} bytes to {address}: {said}", mtu + 1);
}

/// Echo requests with this many bytes of payload that may not be fragmented.
pub fn ping(from: &Netns, address: &str, payload: usize) -> crate::harness::Finished {
    let payload = payload.to_string();
    let args =
        ["-n", "-M", "do", "-i", "0.2", "-c", "1", "-w", PING_SECONDS, "-s", &payload, address];
    from.command("ping", &args)
}

/// Sends `size` bytes over TCP to `address` in `to`, and prints how fast.
/// Asserts that they arrive as they were sent.
#[track_caller]
pub fn transfer(from: &Netns, to: &Netns, address: &str, size: usize) {
    let ip: IpAddr = address.parse().unwrap();
    let listener = to.enter(|| TcpListener::bind(SocketAddr::new(ip, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    let mut out = from
        .enter(|| TcpStream::connect_timeout(&target, DEADLINE))
        .unwrap_or_else(|e| panic!("connect to {target}: {e}"));
    let (mut incoming, _) = listener.accept().unwrap();
    for stream in [&out, &incoming] {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
    }
    // Of a length that is prime, so that no segment begins as another did.
    let pattern: Vec<u8> =
        (0..65521u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let begin = Instant::now();
    let sent = pattern.clone();
    let sender = thread::spawn(move || {
        let mut left = size;
        while left > 0 {
            let chunk = left.min(sent.len());
            out.write_all(&sent[..chunk]).expect("send");
            left -= chunk;
        }
    });
    let (mut received, mut buffer) = (0, vec![0; pattern.len()]);
    while received < size {
        let wanted = pattern.len().min(size - received);
        incoming.read_exact(&mut buffer[..wanted]).expect("receive");
        assert!(buffer[..wanted] == pattern[..wanted], "other bytes after {received}");
        received += wanted;
    }
    sender.join().unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    println!("{size} bytes to {address} in {seconds:.3} s");
}

/// How many packets a namespace has fragmented, or put together again.
pub fn fragments(netns: &Netns) -> u64 {
    counter(netns, |name| name.contains("Frag") || name.contains("Reasm"))
}

/// The sum of a namespace's counters of IP and TCP whose names are chosen.
pub fn counter(netns: &Netns, chosen: impl Fn(&str) -> bool) -> u64 {
    // Not /proc/net, which is the first thread's.
    let read = |file: &str| {
        let path = format!("/proc/thread-self/net/{file}");
        netns.enter(|| fs::read_to_string(path).unwrap())
    };
    let (ipv4, ipv6) = (read("snmp"), read("snmp6"));
    let lines: Vec<&str> = ipv4.lines().collect();
    let pairs = lines.chunks_exact(2).flat_map(|pair| {
        // A line of names, and one of values.
        pair[0].split_whitespace().zip(pair[1].split_whitespace())
    });
    let ipv6 = ipv6.lines().filter_map(|line| line.split_once(char::is_whitespace));
    pairs
        .chain(ipv6)
        .filter(|(name, _)| chosen(name))
        .map(|(_, value)| value.trim().parse::<u64>().unwrap())
        .sum()
}
