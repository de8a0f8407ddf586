// SPDX-License-Identifier: Apache-2.0
//! A cluster: a router between two subnets, and nodes with their manx.
//!
//! Nodes a and b are on the first subnet, c and d on the second. Node number n
//! has 192.0.2.1n or 198.51.100.1n, 2001:db8:1::1n or 2001:db8:2::1n, and the
//! pods of 10.244.n.0/24 and fd00:244:n::/64.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Finished, Host, Netns, Plugin, Pod, Stdin, connect, run};

/// The binary under test.
pub const MANX: &str = env!("CARGO_BIN_EXE_manx");

/// The network of all tests that need no other.
pub const NETWORK: &str = "net";

/// How long anything may take that happens soon: less than the minute after which a watch makes a pass
/// without a reason, so that it shows what woke the watch, and otherwise as long as can be.
pub const SOON: Duration = Duration::from_secs(40);

/// Both families, or IPv4 alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Families {
    Ipv4,
    Dual,
}

/// The router and the nodes.
pub struct Cluster {
    pub router: Netns,
    pub nodes: Vec<Node>,
}

/// A node.
pub struct Node {
    pub host: Host,
    /// 1 for node-a.
    pub number: usize,
    /// manx with the configuration of the network.
    pub plugin: Plugin,
}

/// Letters in the names of nodes, and of the router's ports to them.
pub const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// The address of node `number` with its length.
pub fn address(number: usize, ipv6: bool) -> String {
    let subnet = subnet(number);
    if ipv6 {
        format!("2001:db8:{subnet}::1{number}/64")
    } else {
        format!("{}.1{number}/24", ["192.0.2", "198.51.100"][subnet - 1])
    }
}

fn subnet(number: usize) -> usize {
    if number <= 2 { 1 } else { 2 }
}

/// An address without its length.
pub fn bare(address: &str) -> &str {
    address.split('/').next().unwrap()
}

/// The pods of node `number`.
pub fn pod_cidr(number: usize, ipv6: bool) -> String {
    if ipv6 { format!("fd00:244:{number}::/64") } else { format!("10.244.{number}.0/24") }
}

/// The entry of node `number` in a peers file.
pub fn entry(number: usize, families: Families) -> Value {
    let all: &[bool] = if families == Families::Dual { &[false, true] } else { &[false] };
    let addresses: Vec<String> =
        all.iter().map(|ipv6| bare(&address(number, *ipv6)).to_owned()).collect();
    let cidrs: Vec<String> = all.iter().map(|ipv6| pod_cidr(number, *ipv6)).collect();
    json!({"name": format!("node-{}", NAMES[number - 1]), "addresses": addresses, "podCIDRs": cidrs})
}

impl Cluster {
    /// `count` nodes whose configuration has these keys besides the usual ones.
    pub fn new(count: usize, families: Families, keys: &Value) -> Self {
        let numbers: Vec<usize> = (1..=count).collect();
        Self::of(&numbers, families, keys)
    }

    /// The nodes of these numbers.
    pub fn of(numbers: &[usize], families: Families, keys: &Value) -> Self {
        let router = router();
        let peers: Vec<Value> = numbers.iter().map(|number| entry(*number, families)).collect();
        let nodes = numbers
            .iter()
            .map(|number| {
                let host = join(&router, *number);
                let node = Node::new(host, *number, families, keys);
                node.set_peers(&peers);
                node
            })
            .collect();
        Self { router, nodes }
    }

    /// Makes the router know where the pods are, as plain routes across it need.
    pub fn teach_router(&self) {
        for node in &self.nodes {
            for (ipv6, family) in [(false, "-4"), (true, "-6")] {
                let (pods, via) = (pod_cidr(node.number, ipv6), address(node.number, ipv6));
                let route = [family, "route", "add", &pods, "via", bare(&via)];
                self.router.command("ip", &route).ok();
            }
        }
    }

    /// Brings up all nodes' fabrics.
    #[track_caller]
    pub fn apply(&self) {
        for node in &self.nodes {
            node.apply().ok();
        }
    }

    /// A pod on each node.
    #[track_caller]
    pub fn pods(&self) -> Vec<Pod> {
        self.nodes.iter().map(|node| node.attach("pod")).collect()
    }
}

/// Runs `ip` once for all these lines.
#[track_caller]
pub fn batch(netns: &Netns, lines: &str) {
    netns.enter(|| {
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]);
        run(command, &Stdin::Bytes(lines.into()), DEADLINE).ok();
    });
}

/// A router with a bridge for each subnet.
pub fn router() -> Netns {
    let router = Netns::new();
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        router.set_sysctl(key, "1");
    }
    batch(
        &router,
        "link add subnet1 type bridge
         link add subnet2 type bridge
         address add 192.0.2.1/24 dev subnet1
         address add 198.51.100.1/24 dev subnet2
         address add 2001:db8:1::1/64 dev subnet1 nodad
         address add 2001:db8:2::1/64 dev subnet2 nodad
         link set subnet1 up
         link set subnet2 up",
    );
    router
}

/// A node behind the router's port of its name.
pub fn join(router: &Netns, number: usize) -> Host {
    let (host, port) = (Host::new(), format!("to-{}", NAMES[number - 1]));
    // As networkd and its like see to: addresses outlive a link that goes down.
    host.set_sysctl("ipv6/conf/all/keep_addr_on_down", "1");
    let addresses = [address(number, false), address(number, true)];
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    connect((&host, "eth0", &addresses), (router, &port, &[]));
    let subnet = subnet(number);
    batch(router, &format!("link set {port} master subnet{subnet}"));
    default_routes(&host, number);
    host
}

/// The routes that a link takes with it when it goes down, as a network daemon
/// gives them.
pub fn default_routes(host: &Netns, number: usize) {
    let (ipv4, ipv6) =
        [("192.0.2.1", "2001:db8:1::1"), ("198.51.100.1", "2001:db8:2::1")][subnet(number) - 1];
    batch(
        host,
        &format!(
            "route replace default via {ipv4} dev eth0
             route replace default via {ipv6} dev eth0"
        ),
    );
}

impl Node {
    fn new(host: Host, number: usize, families: Families, keys: &Value) -> Self {
        let mut ranges = vec![json!([{"subnet": pod_cidr(number, false)}])];
        if families == Families::Dual {
            ranges.push(json!([{"subnet": pod_cidr(number, true)}]));
        }
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": NETWORK, "type": "manx",
            "peersFile": "/etc/manx/peers.json",
            "ipam": {"type": "host-local", "dataDir": host.scratch().dir("leases"), "ranges": ranges},
        });
        for (key, value) in keys.as_object().unwrap() {
            conf[key] = value.clone();
        }
        let plugin = Plugin::new(&host, MANX).config(conf);
        host.scratch().dir("root/etc/manx");
        Self { host, number, plugin }
    }

    /// The same node with one key of the configuration changed.
    #[must_use]
    pub fn with(&self, key: &str, value: Value) -> Self {
        let plugin = self.plugin.clone().with(key, value);
        Self { host: self.host.clone(), number: self.number, plugin }
    }

    /// Where the peers file is.
    pub fn peers_file(&self) -> PathBuf {
        self.host.scratch().path().join("root/etc/manx/peers.json")
    }

    /// Writes a peers file of these nodes, of which this is one.
    pub fn set_peers(&self, nodes: &[Value]) {
        let me = format!("node-{}", NAMES[self.number - 1]);
        self.write_peers(&json!({"self": me, "nodes": nodes}).to_string());
    }

    /// Writes the peers file, whatever it says, as whoever distributes it should:
    /// at once.
    pub fn write_peers(&self, text: &str) {
        let path = self.peers_file();
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
    }

    /// A command of manx with the options that name this node's configuration.
    pub fn command(&self, args: &[&str]) -> Command {
        let conf = self.host.scratch().file("conf.json", self.plugin.conf.to_string());
        let mut command = Command::new(MANX);
        command.args(args).arg("--root").arg(self.host.scratch().dir("root"));
        command.arg("--conf").arg(conf);
        command
    }

    /// Runs `manx ARGS` on the node.
    pub fn manx(&self, args: &[&str]) -> Finished {
        self.host.enter(|| run(self.command(args), &Stdin::Null, DEADLINE))
    }

    /// `manx plan`.
    pub fn plan(&self) -> Finished {
        self.manx(&["plan"])
    }

    /// `manx apply`.
    pub fn apply(&self) -> Finished {
        self.manx(&["apply"])
    }

    /// Asserts that there is nothing to change.
    #[track_caller]
    pub fn assert_settled(&self) {
        let plan = self.plan();
        assert!(plan.status == 0 && plan.stdout.is_empty(), "still to be done: {plan:?}");
    }

    /// Attaches a new pod; its links go with it.
    #[must_use]
    #[track_caller]
    pub fn attach(&self, name: &str) -> Pod {
        let pod = Pod::new(name);
        self.plugin.add(&pod).ok();
        pod
    }

    /// All that a fabric is made of, as iproute2 tells it: routes of every
    /// protocol but the kernel's, permanent neighbours, forwarding entries,
    /// VXLAN devices.
    pub fn state(&self) -> Vec<String> {
        let mut state = Vec::new();
        let tunnels = self.host.ip(&["address", "show", "type", "vxlan"]);
        for link in entries(&tunnels).iter().filter(|link| link["ifname"].is_string()) {
            let data = &link["linkinfo"]["info_data"];
            let (name, mtu, mac) = (&link["ifname"], &link["mtu"], &link["address"]);
            state.push(format!("vxlan {name} mtu {mtu} {mac} {data}"));
            // A link-local address is the kernel's own affair.
            let global = |info: &&Value| info["scope"] == "global";
            for address in entries(&link["addr_info"]).iter().filter(global) {
                state.push(format!("address {name} {} {}", address["local"], address["prefixlen"]));
            }
        }
        for family in ["-4", "-6"] {
            let routes = self.host.command("ip", &["-N", family, "route", "show"]).ok();
            // In numbers, for the names of protocols are this machine's affair;
            // so is the 6 of a blackhole.
            let foreign = lines(&routes).filter(|route| !route.contains("proto 2 "));
            // A carrier may be noticed a while after its link is up.
            let foreign = foreign.map(|route| route.replace(" linkdown", ""));
            state.extend(foreign.map(|route| match route.strip_prefix("6 ") {
                Some(rest) => format!("blackhole {rest}"),
                None => route,
            }));
        }
        let neighbours = self.host.command("ip", &["neighbour", "show", "nud", "permanent"]).ok();
        state.extend(lines(&neighbours));
        let forwarding = self.host.command("bridge", &["fdb", "show"]).ok();
        state.extend(lines(&forwarding).filter(|entry| entry.contains(" dst ")));
        // The kernel lists entries of a hash in any order.
        state.sort();
        state
    }

    /// Routes of the fabric, of both families, sorted.
    pub fn routes(&self) -> Vec<String> {
        self.state().into_iter().filter(|line| line.contains("proto 109")).collect()
    }
}

/// The elements of a JSON array.
pub fn entries(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Lines without the spaces at their ends, prefixed with nothing.
fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// The addresses of a pod's interface, IPv4 first.
pub fn addresses(pod: &Pod) -> Vec<String> {
    let all = pod.netns.addresses(&pod.ifname);
    all.iter().map(|address| bare(address).to_owned()).collect()
}
