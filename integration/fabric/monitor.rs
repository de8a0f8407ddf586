//! What the kernel tells of changes, and what manx asks it for.

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
fn sends(node: &Node, args: &[&str]) -> String {
    let trace = node.host.scratch().path().join("trace");
    let plain = node.command(args);
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-v", "-s", "64", "-e", "trace=sendto,sendmsg", "-o"]).arg(&trace);
    command.arg(plain.get_program()).args(plain.get_args());
    node.host.enter(|| run(command, &Stdin::Null, crate::harness::DEADLINE)).ok();
    let trace = std::fs::read_to_string(trace).unwrap();
    assert!(trace.contains("RTM_GETROUTE"), "strace tells what is asked: {trace}");
    trace
}

/// A list of thousands of routes, neighbours or entries is read once for all who compare
/// with it.
#[test]
fn a_plan_with_nothing_to_do_reads_the_tables_of_routes_once() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::new(3, Families::Dual, &json!({"mode": mode}));
        let node = &cluster.nodes[0];
        let _pod = node.attach("a");
        node.apply().ok();
        let trace = sends(node, &["plan"]);
        let dumps = |kind: &str| {
            let asks = |line: &&str| line.contains(kind) && line.contains("NLM_F_DUMP");
            trace.lines().filter(asks).count()
        };
        // One of each family; neighbours and forwarding entries of two devices.
        let neighbours = if mode == "vxlan" { 4 } else { 0 };
        for (kind, count) in [("RTM_GETROUTE", 2), ("RTM_GETNEIGH", neighbours), ("RTM_GETRULE", 2)]
        {
            assert!(dumps(kind) <= count, "{mode}, {kind}: {trace}");
        }
    }
}
