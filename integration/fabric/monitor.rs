// SPDX-License-Identifier: Apache-2.0
//! What the kernel tells of changes, and what manx asks it for.

use std::collections::BTreeSet;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage, address::AddressScope, neighbour::NeighbourState, route::RouteProtocol,
};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use serde_json::json;

use crate::cluster::{Cluster, Families, Node};
use crate::harness::{Netns, Stdin, run};

/// Links, neighbours, addresses and routes of both families: RTNLGRP_* of
/// include/uapi/linux/rtnetlink.h.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];

/// A subscription to a namespace's changes.
pub struct Monitor(Socket);

impl Monitor {
    /// Everything from now on.
    pub fn of(netns: &Netns) -> Self {
        let mut socket = netns.enter(|| Socket::new(NETLINK_ROUTE).unwrap());
        socket.bind_auto().unwrap();
        for group in GROUPS {
            socket.add_membership(group).unwrap();
        }
        socket.set_non_blocking(true).unwrap();
        Self(socket)
    }

    /// The changes since the last look, but for what the kernel does by itself:
    /// neighbours that it looks for or forgets, link-local addresses that become
    /// valid a second after their link, and its own routes.
    pub fn changes(&mut self) -> Vec<RouteNetlinkMessage> {
        let mut changes = Vec::new();
        let mut buffer = Vec::with_capacity(64 * 1024);
        loop {
            buffer.clear();
            match self.0.recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return changes,
                Err(error) => panic!("read changes: {error}"),
            }
            let mut rest = buffer.as_slice();
            while let Some(length) = rest.get(..4) {
                let length = u32::from_ne_bytes(length.try_into().unwrap()) as usize;
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).unwrap();
                if let NetlinkPayload::InnerMessage(message) = message.payload
                    && matters(&message)
                {
                    changes.push(message);
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

fn matters(message: &RouteNetlinkMessage) -> bool {
    match message {
        RouteNetlinkMessage::NewNeighbour(neighbour)
        | RouteNetlinkMessage::DelNeighbour(neighbour) => {
            neighbour.header.state == NeighbourState::Permanent
        }
        RouteNetlinkMessage::NewAddress(address) => address.header.scope != AddressScope::Link,
        RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route) => {
            route.header.protocol != RouteProtocol::Kernel
        }
        _ => true,
    }
}

/// The requests of `manx ARGS` to the kernel that change something, as strace
/// reads them.
pub fn requests(node: &Node, args: &[&str]) -> Vec<String> {
    let changes = |line: &&str| {
        ["RTM_NEW", "RTM_SET", "RTM_DEL"].iter().any(|kind| line.contains(&format!("type={kind}")))
    };
    sends(node, args).lines().filter(changes).map(String::from).collect()
}

/// All that `manx ARGS` sends to the kernel, as strace reads it.
pub fn sends(node: &Node, args: &[&str]) -> String {
    sends_of(node, &node.command(args))
}

/// The same of any command.
pub fn sends_of(node: &Node, plain: &std::process::Command) -> String {
    let trace = node.host.scratch().path().join("trace");
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-v", "-s", "64", "-e", "trace=sendto,sendmsg", "-o"]).arg(&trace);
    command.arg(plain.get_program()).args(plain.get_args());
    let done = node.host.enter(|| run(command, &Stdin::Null, crate::harness::DEADLINE));
    assert!(!done.timed_out, "{done:?}");
    let trace = std::fs::read_to_string(trace).unwrap();
    assert!(trace.contains("RTM_GETROUTE"), "strace tells what is asked: {trace}");
    trace
}

/// A table of the kernel, and what strace calls a question about it: by its name, or by its
/// number in the first message of a socket.
const TABLES: [(&str, &str); 5] =
    [("LINK", "0x12"), ("ADDR", "0x16"), ("ROUTE", "0x1a"), ("RULE", "0x22"), ("NEIGH", "0x1e")];

/// What is asked for as a whole, message by message.
pub fn dumps(trace: &str) -> Vec<&str> {
    let messages = trace.split("{nlmsg_len=").skip(1);
    let is_dump = |message: &&str| {
        let flags = message.split("nlmsg_flags=").nth(1).and_then(|rest| rest.split(',').next());
        flags.is_some_and(|flags| flags.contains("NLM_F_DUMP") || flags.contains("0x300"))
    };
    messages.filter(is_dump).collect()
}

/// How often each of [`TABLES`] is asked for as a whole. Nothing of nf_tables may be twice.
pub fn reads(trace: &str) -> [usize; 5] {
    let all = dumps(trace);
    let mut seen = BTreeSet::new();
    for message in all.iter().filter(|message| message.contains("NFNL_SUBSYS_NFTABLES")) {
        let kind = message.split("nlmsg_type=").nth(1).and_then(|rest| rest.split(',').next());
        // The family, and the table, chain or set.
        let of = message.split("nlmsg_pid=").nth(1).and_then(|rest| rest.lines().next());
        assert!(seen.insert((kind, of)), "{message} again: {trace}");
    }
    TABLES.map(|(name, number)| {
        let is_of = |message: &&&str| {
            message.contains(&format!("nlmsg_type=RTM_GET{name},"))
                || message.contains(&format!("nlmsg_type={number} "))
        };
        all.iter().filter(is_of).count()
    })
}

/// A list of thousands of routes, neighbours or entries is read once for all who compare
/// with it.
#[test]
fn a_plan_with_nothing_to_do_reads_each_table_once() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::new(3, Families::Dual, &json!({"mode": mode, "ipMasq": true}));
        let node = &cluster.nodes[0];
        let _pods = [node.attach("a"), node.attach("b")];
        node.apply().ok();
        let trace = sends(node, &["plan"]);
        // Routes and rules in each family; neighbours, and forwarding entries.
        let entries = if mode == "vxlan" { 2 } else { 0 };
        assert_eq!(reads(&trace), [1, 1, 2, 2, entries], "{mode}: {trace}");
    }
}
