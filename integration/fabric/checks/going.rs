// SPDX-License-Identifier: Apache-2.0
//! Packets that are sent again and again: faults that are there as long as these are.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::ground::Ground;
use crate::harness::Netns;
use crate::harness::packet::{datagram, packet, send};

/// What goes on in a thread until it is dropped.
pub(super) struct Going {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Going {
    pub(super) fn sends(
        from: &Netns,
        to: IpAddr,
        packet: impl Fn(u16) -> Vec<u8> + Send + 'static,
    ) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (netns, until) = (from.clone(), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            for number in (0..=u16::MAX).cycle() {
                if until.load(Ordering::Relaxed) {
                    break;
                }
                send(&netns, to, &packet(number));
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// What a peer sends whose network card spoils checksums.
pub(super) fn spoilt_checksums(ground: &Ground) -> Going {
    let (from, to) = ("192.0.2.12".parse().unwrap(), "192.0.2.11:4789".parse().unwrap());
    Going::sends(&ground.cluster.nodes[1].host, "192.0.2.11".parse().unwrap(), move |_| {
        let mut spoilt = datagram(from, to, &[8, 0, 0, 0, 0, 16, 0, 0]);
        // The checksum in the header of UDP.
        spoilt[26..28].copy_from_slice(&[0xab, 0xcd]);
        spoilt
    })
}

/// The first packet of a connection of TCP from a port of its own.
pub(super) fn syn(source: IpAddr, number: u16, to: IpAddr) -> Vec<u8> {
    let [high, low] = (20_000 + number % 20_000).to_be_bytes();
    // Ports, numbers of bytes, length and SYN, window, and a checksum that is put in below.
    let mut segment = vec![high, low, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0];
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(_) => unreachable!("of IPv4"),
    };
    let pseudo = [&octets(source)[..], &octets(to), &[0, 6, 0, 20], &segment].concat();
    let sum =
        pseudo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    packet(6, source, to, &segment)
}
