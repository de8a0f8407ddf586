// SPDX-License-Identifier: Apache-2.0
//! A cluster of two nodes. Number 1 is this one, and number 2, behind the uplink, is Calico's.

use std::fs;
use std::sync::mpsc::{Sender, channel};

use serde_json::{Value, json};
use sha1_smol::Sha1;

use crate::ground::{Agent, CONFLIST, Ground, MANX, end_of_list, event};
use crate::harness::{Netns, Plugin, connect};
use crate::server::{Answer, Server};

const GROUP: &str = "/apis/crd.projectcalico.org/v1";

/// The MAC address of the tunnel of a node of Calico's.
pub fn calico_mac(name: &str) -> String {
    let digest = Sha1::from(name).digest().bytes();
    let octets: Vec<String> = digest.iter().take(5).map(|octet| format!("{octet:02x}")).collect();
    format!("66:{}", octets.join(":"))
}

/// Where a node is, and the end of its tunnel.
fn addresses(number: u32) -> (&'static str, &'static str) {
    if number == 1 { ("192.0.2.11", "10.65.1.0") } else { ("192.0.2.1", "10.65.2.64") }
}

/// A Node with what Calico notes on it.
pub fn node(number: u32) -> Value {
    let (address, tunnel) = addresses(number);
    json!({"kind": "Node", "apiVersion": "v1",
        "metadata": {"name": format!("node-{number}"), "uid": number.to_string(),
            "resourceVersion": "100", "creationTimestamp": "2026-11-27T00:00:00Z",
            "annotations": {"projectcalico.org/IPv4Address": format!("{address}/24"),
                "projectcalico.org/IPv4VXLANTunnelAddr": tunnel}},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
}

/// The pool of all pods, with this vxlanMode.
pub fn pool(mode: &str) -> Value {
    json!({"kind": "IPPool", "apiVersion": "crd.projectcalico.org/v1",
        "metadata": {"name": "default-ipv4-ippool", "resourceVersion": "101",
            "creationTimestamp": "2026-11-27T00:00:00Z"},
        "spec": {"cidr": "10.65.0.0/16", "blockSize": 26, "ipipMode": "Never", "vxlanMode": mode,
            "natOutgoing": true, "nodeSelector": "all()"}})
}

/// A block of a node's.
pub fn block(cidr: &str, number: u32) -> Value {
    json!({"kind": "IPAMBlock", "apiVersion": "crd.projectcalico.org/v1",
        "metadata": {"name": cidr.replace(['.', '/'], "-"), "resourceVersion": "102"},
        "spec": {"cidr": cidr, "affinity": format!("host:node-{number}"), "deleted": false,
            "allocations": vec![Value::Null; 64], "attributes": [],
            "unallocated": (0..64).collect::<Vec<_>>(), "strictAffinity": false}})
}

/// The API server of a cluster, and what tells it of changes.
pub struct Cluster<'a> {
    ground: &'a Ground,
    server: Server,
    nodes: Sender<Value>,
    pools: Sender<Value>,
    blocks: Sender<Value>,
}

/// Node 2 with a pod, as Felix programs it.
pub struct Felix<'a> {
    pub host: &'a Netns,
    pub pod: Netns,
    pub address: String,
}

impl<'a> Cluster<'a> {
    pub fn new(ground: &'a Ground, nodes: &[Value], pools: &[Value], blocks: &[Value]) -> Self {
        ground.host.scratch().file("agent.json", json!({"calico": "calico-ipam"}).to_string());
        ground.host.scratch().dir("plugins");
        let live = |objects: &[Value], path| {
            let (sender, rest) = channel();
            let events = objects.iter().map(|one| event("ADDED", one.clone()));
            let events: Vec<Value> = events.chain([end_of_list()]).collect();
            (sender, Answer::live(&events, rest).at(path))
        };
        let (of_nodes, list_of_nodes) = live(nodes, "/api/v1/nodes");
        let (of_pools, list_of_pools) = live(pools, "/apis/crd.projectcalico.org/v1/ippools");
        let (of_blocks, list_of_blocks) = live(blocks, "/apis/crd.projectcalico.org/v1/ipamblocks");
        let group = json!({"kind": "APIResourceList", "resources": [{"name": "ippools"}]});
        let answers = vec![
            list_of_nodes,
            list_of_pools,
            list_of_blocks,
            Answer::json(&group).at(GROUP),
            Answer::refusal(404, "not found").at("/apis/projectcalico.org/v3"),
        ];
        let server = ground.host.enter(|| Server::start(answers));
        Self { ground, server, nodes: of_nodes, pools: of_pools, blocks: of_blocks }
    }

    pub fn tell_node(&self, kind: &str, object: Value) {
        self.nodes.send(event(kind, object)).unwrap();
    }

    pub fn tell_pool(&self, kind: &str, object: Value) {
        self.pools.send(event(kind, object)).unwrap();
    }

    pub fn tell_block(&self, kind: &str, object: Value) {
        self.blocks.send(event(kind, object)).unwrap();
    }

    /// An agent on a node that has Calico's IPAM plugin.
    pub fn agent(&self) -> Agent {
        self.install();
        self.bare_agent()
    }

    pub fn bare_agent(&self) -> Agent {
        let plugins = format!("--plugin-dir={}", self.ground.path("plugins").display());
        self.ground.agent(&self.server.url(), &[&plugins])
    }

    /// Puts a plugin in place of Calico's, which gives the address that a file has.
    pub fn install(&self) {
        let address = self.ground.path("address");
        let script = format!(
            "#!/bin/sh\n[ \"$CNI_COMMAND\" = ADD ] || exit 0\ngrep -q '\"nodename\": *\"node-1\"' || \
             exit 1\nprintf '{{\"cniVersion\": \"1.0.0\", \"ips\": [{{\"address\": \"%s\"}}]}}' \
             \"$(cat {})\"\n",
            address.display()
        );
        self.ground.host.scratch().script("plugins/calico-ipam", &script);
    }

    pub fn next_address(&self, address: &str) {
        self.ground.host.scratch().file("address", address);
    }

    /// The plugin with the configuration that the agent has put in place.
    pub fn plugin(&self) -> Plugin {
        let text = fs::read(self.ground.path(CONFLIST)).unwrap();
        let conflist: Value = serde_json::from_slice(&text).unwrap();
        let mut conf = conflist["plugins"][0].clone();
        conf["name"] = conflist["name"].clone();
        conf["cniVersion"] = conflist["cniVersion"].clone();
        let root = self.ground.host.scratch().path().to_str().unwrap().to_owned();
        let plugin = Plugin::new(&self.ground.host, MANX).config(conf);
        plugin.env("MANX_ROOT", &root).path([self.ground.path("plugins")])
    }

    /// Programs node 2 as Felix does where the pool's vxlanMode is Always.
    pub fn felix(&self) -> Felix<'a> {
        let host = &self.ground.outside;
        let pod = Netns::new();
        host.set_sysctl("ipv4/ip_forward", "1");
        connect((host, "cali0", &[]), (&pod, "eth0", &["10.65.2.70/32"]));
        host.set_sysctl("ipv4/conf/cali0/proxy_arp", "1");
        let felix = Felix { host, pod, address: "10.65.2.70".to_owned() };
        let (mac, our_mac) = (calico_mac("node-2"), calico_mac("node-1"));
        felix.ip(&format!(
            "link add vxlan.calico address {mac} type vxlan id 4096 dstport 4789 local 192.0.2.1 \
             dev eth0 nolearning"
        ));
        // Without one the kernel answers no pod that asks for its next hop.
        felix.ip("route add default via 192.0.2.254");
        felix.ip("link set vxlan.calico mtu 1450 up");
        felix.ip("address add 10.65.2.64/32 dev vxlan.calico");
        felix.ip(&format!(
            "neighbour add 10.65.1.0 lladdr {our_mac} dev vxlan.calico nud permanent"
        ));
        felix.ip("route add 10.65.1.0/26 via 10.65.1.0 dev vxlan.calico onlink mtu 1450");
        felix.ip("route add blackhole 10.65.2.64/26 proto 80");
        felix.ip("link set cali0 mtu 1450");
        felix.ip("route add 10.65.2.70 dev cali0 scope link");
        let entry = ["fdb", "add", &our_mac, "dev", "vxlan.calico", "dst", "192.0.2.11", "self"];
        host.command("bridge", &[&entry[..], &["permanent"]].concat()).ok();
        for arguments in [
            &["link", "set", "eth0", "mtu", "1450"][..],
            &["route", "add", "169.254.1.1", "dev", "eth0", "scope", "link"],
            &["route", "add", "default", "via", "169.254.1.1", "dev", "eth0"],
        ] {
            felix.pod.command("ip", arguments).ok();
        }
        felix
    }
}

impl Felix<'_> {
    /// Runs `ip` on the node.
    pub fn ip(&self, arguments: &str) {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        self.host.command("ip", &arguments).ok();
    }
}
