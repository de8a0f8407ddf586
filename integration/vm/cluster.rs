// SPDX-License-Identifier: Apache-2.0
//! Three nodes of namespaces, each with its own manx: `node-a` and `node-b` on
//! one subnet, `node-c` behind a router.
//!
//! Everything that a node has is what a person would have given it: a
//! configuration and a peers file below its own root directory.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::harness::{
    DEADLINE, Finished, Host, Netns, PING_SECONDS, Plugin, Pod, Stdin, connect, run, uninterrupted,
};

/// The binary under test.
pub const MANX: &str = env!("CARGO_BIN_EXE_manx");

/// The nodes: name, address, router, pod CIDR.
const NODES: [[&str; 4]; 3] = [
    ["node-a", "192.0.2.11", "192.0.2.254", "10.244.1.0/24"],
    ["node-b", "192.0.2.12", "192.0.2.254", "10.244.2.0/24"],
    ["node-c", "198.51.100.13", "198.51.100.254", "10.244.3.0/24"],
];

/// A node.
#[derive(Debug)]
pub struct Node {
    /// The namespace, and the directory that stands for its file system.
    pub host: Host,
    /// Node name.
    pub name: &'static str,
    /// The address by which others reach it.
    pub address: &'static str,
    /// Its pods.
    pub cidr: &'static str,
}

/// The nodes and the router between them.
#[derive(Debug)]
pub struct Cluster {
    /// `node-a`, `node-b` and `node-c`.
    pub nodes: [Node; 3],
    #[allow(dead_code, reason = "the crates that include this file use parts of it")]
    /// Both subnets' router, which knows no pod.
    pub router: Netns,
}

/// A pod and the address that the plugin gave it.
#[derive(Debug)]
pub struct Attached {
    /// The container.
    pub pod: Pod,
    /// Its address, without a length.
    pub address: String,
}

impl Cluster {
    /// Nodes with these keys in their configurations, and a peers file that
    /// names all of them. Nothing is applied yet.
    pub fn new(keys: &Value) -> Self {
        let router = Netns::new();
        router.command("ip", &["link", "add", "lan", "type", "bridge"]).ok();
        router.command("ip", &["link", "set", "lan", "up"]).ok();
        router.command("ip", &["address", "add", "192.0.2.254/24", "dev", "lan"]).ok();
        router.set_sysctl("ipv4/ip_forward", "1");
        let nodes = NODES.map(|[name, address, gateway, cidr]| {
            let host = Host::new();
            let own = format!("{address}/24");
            let on_bridge = gateway == "192.0.2.254";
            let there: &[&str] = if on_bridge { &[] } else { &["198.51.100.254/24"] };
            connect((&host, "eth0", &[&own]), (&router, name, there));
            if on_bridge {
                router.command("ip", &["link", "set", name, "master", "lan"]).ok();
            }
            host.command("ip", &["route", "add", "default", "via", gateway]).ok();
            let node = Node { host, name, address, cidr };
            node.configure(keys);
            node
        });
        let cluster = Self { nodes, router };
        cluster.publish(&["node-a", "node-b", "node-c"]);
        cluster
    }

    /// Writes a peers file with these members to each of them.
    pub fn publish(&self, members: &[&str]) {
        let members: Vec<&Node> =
            self.nodes.iter().filter(|node| members.contains(&node.name)).collect();
        let list: Vec<Value> = members
            .iter()
            .map(|node| {
                json!({"name": node.name, "addresses": [node.address], "podCIDRs": [node.cidr]})
            })
            .collect();
        for node in &members {
            let file = json!({"self": node.name, "nodes": list});
            node.host.scratch().file("root/etc/cni/peers.json", file.to_string());
        }
    }

    /// `manx apply` on every node.
    #[track_caller]
    pub fn apply(&self) {
        for node in &self.nodes {
            node.manx(&["apply"]).ok();
        }
    }
}

impl Node {
    fn configure(&self, keys: &Value) {
        let scratch = self.host.scratch();
        scratch.dir("root/etc/cni/net.d");
        let conf = self.configuration(keys).to_string();
        scratch.file("root/etc/cni/net.d/10-manx.conf", conf);
    }

    fn configuration(&self, keys: &Value) -> Value {
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "manx",
            "peersFile": "/etc/cni/peers.json",
            "ipam": {
                "type": "host-local",
                "dataDir": self.host.scratch().dir("leases"),
                "ranges": [[{"subnet": self.cidr}]],
            },
        });
        for (key, value) in keys.as_object().expect("keys of a configuration") {
            conf[key] = value.clone();
        }
        conf
    }

    /// The directory that stands for this node's file system.
    pub fn root(&self) -> PathBuf {
        self.host.scratch().dir("root")
    }

    /// Runs a command of manx on this node.
    pub fn manx(&self, args: &[&str]) -> Finished {
        let root = self.root();
        self.host.enter(|| {
            let mut command = Command::new(MANX);
            command.args(args).arg("--root").arg(&root);
            run(command, &Stdin::Null, DEADLINE)
        })
    }

    /// What `manx plan` shows; empty where the node is as it should be.
    #[track_caller]
    pub fn plan(&self) -> String {
        let plan = self.manx(&["plan"]);
        assert_eq!(plan.status, if plan.stdout.is_empty() { 0 } else { 3 }, "{plan:?}");
        plan.stdout
    }

    /// Routes of this node that `ip route show` selects by `args`, one a line,
    /// sorted.
    pub fn routes(&self, args: &[&str]) -> Vec<String> {
        let args: Vec<&str> = ["-N", "route", "show"].iter().chain(args).copied().collect();
        let shown = self.host.command("ip", &args).ok();
        let mut lines: Vec<String> = shown
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        lines.sort();
        lines
    }

    /// The plugin, with the configuration of this node.
    pub fn plugin(&self) -> Plugin {
        let path = self.root().join("etc/cni/net.d/10-manx.conf");
        let text = std::fs::read(path).expect("configured");
        let conf: Value = serde_json::from_slice(&text).expect("JSON");
        Plugin::new(&self.host, MANX).config(conf)
    }

    /// Attaches a new pod.
    #[track_caller]
    pub fn pod(&self) -> Attached {
        let pod = Pod::new(self.name);
        let result = self.plugin().add(&pod).ok();
        let cidr = result["ips"][0]["address"].as_str().expect("an address").to_owned();
        let address = cidr.split('/').next().unwrap_or_default().to_owned();
        Attached { pod, address }
    }
}

/// Whether an unfragmentable IPv4 packet of this many bytes makes it there and
/// back; `Err` with ping's words if it does not even leave.
pub fn fits(from: &Netns, to: &str, bytes: u32) -> Result<bool, String> {
    let payload = (bytes - 28).to_string();
    let args = ["-n", "-M", "do", "-s", &payload, "-i", "0.2", "-c", "1", "-w", PING_SECONDS, to];
    let ping = from.command("ping", &args);
    let said = format!("{}{}", ping.stdout, ping.stderr);
    if said.to_lowercase().contains("too long") { Err(said) } else { Ok(ping.status == 0) }
}

/// Sends so many bytes by TCP and counts what arrives.
pub fn transfer(from: &Netns, to: &Netns, address: &str, bytes: usize) -> usize {
    let address: IpAddr = address.parse().expect("an address");
    let listener = to.enter(|| TcpListener::bind(SocketAddr::new(address, 0)).expect("listen"));
    let target = listener.local_addr().expect("an address");
    let receiver = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time limit");
        let (mut count, mut buffer) = (0, vec![0; 64 * 1024]);
        while let Ok(read) = uninterrupted(|| stream.read(&mut buffer)) {
            if read == 0 {
                break;
            }
            count += read;
        }
        count
    });
    let sent = from.enter(|| {
        let mut stream = TcpStream::connect_timeout(&target, DEADLINE)?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.write_all(&vec![0x5a; bytes])
    });
    sent.unwrap_or_else(|error| panic!("send to {target}: {error}"));
    receiver.join().expect("the receiver counts")
}
