// SPDX-License-Identifier: Apache-2.0
//! A namespace that plays a node.

use std::ops::Deref;
use std::sync::Arc;

use super::{Netns, Scratch};

/// A node: the namespace in which plugin processes run, and a directory for all
/// that they store.
#[derive(Clone, Debug)]
pub struct Host {
    netns: Netns,
    scratch: Arc<Scratch>,
}

impl Host {
    /// A node without any link but loopback.
    pub fn new() -> Self {
        Self { netns: Netns::new(), scratch: Arc::new(Scratch::new()) }
    }

    /// A node with `eth0` (192.0.2.11/24, 2001:db8::11/64, default routes) and
    /// the namespace at the other end of it (192.0.2.1, 2001:db8::1).
    pub fn with_uplink() -> (Self, Netns) {
        let (host, outside) = (Self::new(), Netns::new());
        connect(
            (&host, "eth0", &["192.0.2.11/24", "2001:db8::11/64"]),
            (&outside, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]),
        );
        host.command("ip", &["route", "add", "default", "via", "192.0.2.1"]).ok();
        host.command("ip", &["-6", "route", "add", "default", "via", "2001:db8::1"]).ok();
        (host, outside)
    }

    /// The node's directory.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }
}

impl Deref for Host {
    type Target = Netns;

    fn deref(&self) -> &Netns {
        &self.netns
    }
}

/// Joins two namespaces by a veth pair: for each end the namespace, the link's
/// name and its addresses. Both ends are up when this returns, and no address
/// waits for duplicate detection.
pub fn connect(one: (&Netns, &str, &[&str]), other: (&Netns, &str, &[&str])) {
    let there = other.0.path();
    let peer = ["peer", "name", other.1, "netns", there.to_str().expect("a path of ASCII")];
    let mut args = vec!["link", "add", one.1, "type", "veth"];
    args.extend(peer);
    one.0.command("ip", &args).ok();
    for (netns, link, addresses) in [one, other] {
        for address in addresses {
            let mut args = vec!["address", "add", address, "dev", link];
            if address.contains(':') {
                args.push("nodad");
            }
            netns.command("ip", &args).ok();
        }
        netns.command("ip", &["link", "set", link, "up"]).ok();
    }
    // The kernel tells IPv6 of a carrier in its own time, and until then the end that hears of it
    // later answers no neighbour.
    for (netns, link, _) in [one, other] {
        let is_up = || netns.command("ip", &["-o", "link", "show", link]).ok().contains("state UP");
        assert!(super::eventually(super::DEADLINE, is_up), "{link} has no carrier");
    }
}
