//! What an encapsulation costs the traffic between pods of two nodes, with the
//! MTU as it has to be and with the mistake that started all this: pods, or pods and
//! tunnel, as large as the network card, with no room for what is added.
//!
//! The cable between the nodes is a veth pair. With segmentation offload it
//! carries TCP in pieces of 64 KiB, as a card does that segments inside tunnels;
//! without it every packet is made and handled by itself, as where a card cannot.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::harness::{Host, Netns, Plugin, Pod, Stdin, connect, run};
use crate::settle::{Processors, settle};
use crate::subjects::Programs;
use crate::traffic::{self, Latency};

/// One way between two pods.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    pub mode: String,
    pub underlay_mtu: u32,
    pub mtu: Mtu,
    pub pod_mtu: u32,
    /// Segmentation offload of the link between the nodes.
    pub offload: bool,
    pub one_stream: Throughput,
    pub four_streams: Throughput,
    pub latency: Latency,
}

/// Whether there is room for the encapsulation.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub enum Mtu {
    /// Pods and tunnel leave it.
    Right,
    /// The pods do not; the tunnel tells them so, packet by packet that is too
    /// large (ICMP), and TCP learns it.
    PodsTooLarge,
    /// Neither does, as where the link between the nodes carries less than it
    /// did when the tunnel was made: every full packet is cut in two.
    TunnelTooLarge,
}

/// TCP in one direction.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Throughput {
    pub gbit_per_second: f64,
    /// Processor time of the whole machine beyond its idle load, per 10^9 bytes.
    pub cpu_s_per_gb: f64,
    /// IP fragments that the sending node made, per 10^9 bytes.
    pub fragments_per_gb: f64,
    pub retransmits: u64,
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub stream: Duration,
    pub round_trips: usize,
    /// MTUs of the link between the nodes.
    pub underlays: &'static [u32],
    /// Whether to look at the milder of the two mistakes too.
    pub both_mistakes: bool,
}

/// A combination to measure.
#[derive(Clone, Copy, Debug)]
struct Way {
    mode: &'static str,
    underlay_mtu: u32,
    mtu: Mtu,
    offload: bool,
}

/// Both underlays, right and wrong, with and without offload.
pub fn rows(
    programs: &Programs,
    modes: &[&'static str],
    offloads: &[bool],
    effort: Effort,
) -> Vec<Row> {
    let mut rows = Vec::new();
    for underlay_mtu in effort.underlays.iter().copied() {
        for offload in offloads {
            for mode in modes {
                // Nothing is added to a packet that is not wrapped.
                let mut mtus = vec![Mtu::Right];
                if *mode != "direct" {
                    mtus.extend(effort.both_mistakes.then_some(Mtu::PodsTooLarge));
                    mtus.push(Mtu::TunnelTooLarge);
                }
                for mtu in &mtus {
                    let way = Way { mode, underlay_mtu, mtu: *mtu, offload: *offload };
                    crate::progress(&format!("overlay: {way:?}"));
                    rows.push(measure(programs, way, effort));
                }
            }
        }
    }
    rows
}

impl Way {
    /// Bytes that the encapsulation adds.
    fn overhead(self) -> u32 {
        match self.mode {
            "vxlan" => 50,
            "ipip" => 20,
            _ => 0,
        }
    }
}

fn measure(programs: &Programs, way: Way, effort: Effort) -> Row {
    let nodes = Nodes::new(programs, way);
    let [(from, _), (to, address)] = nodes.pods();
    nodes.set_cable_mtu(way.underlay_mtu);
    let pod_mtu = from.netns.link("eth0").and_then(|link| link["mtu"].as_u64());
    settle();
    let stream = |count: usize| nodes.throughput(&from, &to, &address, count, effort.stream);
    Row {
        mode: way.mode.into(),
        underlay_mtu: way.underlay_mtu,
        mtu: way.mtu,
        pod_mtu: u32::try_from(pod_mtu.expect("a pod's link")).expect("an MTU"),
        offload: way.offload,
        one_stream: stream(1),
        four_streams: stream(4),
        latency: traffic::latency(&from.netns, &to.netns, &address, effort.round_trips),
    }
}

/// Two nodes on one cable.
struct Nodes {
    hosts: [Host; 2],
    plugins: Vec<Plugin>,
}

const ADDRESSES: [&str; 2] = ["192.0.2.11", "192.0.2.12"];

impl Nodes {
    fn new(programs: &Programs, way: Way) -> Self {
        let hosts = [Host::new(), Host::new()];
        let [a, b] = &hosts;
        connect((a, "eth0", &["192.0.2.11/24"]), (b, "eth0", &["192.0.2.12/24"]));
        let peers: Vec<Value> = (0..2)
            .map(|n| {
                json!({"name": format!("node-{n}"), "addresses": [ADDRESSES[n]],
                       "podCIDRs": [format!("10.244.{n}.0/24")]})
            })
            .collect();
        // The kernel refuses a tunnel that its link has no room for, so the link
        // is larger for as long as the tunnel is being made.
        let wide = if way.mtu == Mtu::TunnelTooLarge { way.overhead() } else { 0 };
        set_mtu(&hosts, way.underlay_mtu + wide);
        let mut plugins = Vec::new();
        for (number, host) in hosts.iter().enumerate() {
            let state = if way.offload { "on" } else { "off" };
            let features = ["tso", "gso", "gro", "tx-udp_tnl-segmentation"];
            let mut args = vec!["-K", "eth0"];
            args.extend(features.iter().flat_map(|feature| [*feature, state]));
            host.command("ethtool", &args).ok();
            plugins.push(plugin(programs, host, number, way, &peers));
        }
        Self { hosts, plugins }
    }

    fn set_cable_mtu(&self, mtu: u32) {
        set_mtu(&self.hosts, mtu);
    }

    /// A pod on each node, with its address.
    fn pods(&self) -> [(Pod, String); 2] {
        let attach = |plugin: &Plugin| {
            let pod = Pod::new("overlay");
            let result = plugin.add(&pod).ok();
            let cidr = result["ips"][0]["address"].as_str().expect("an address");
            (pod, cidr.split('/').next().unwrap_or_default().to_owned())
        };
        let pods = [attach(&self.plugins[0]), attach(&self.plugins[1])];
        assert!(pods[0].0.netns.pings(&pods[1].1), "no way between the pods");
        pods
    }

    fn throughput(
        &self,
        from: &Pod,
        to: &Pod,
        address: &str,
        streams: usize,
        length: Duration,
    ) -> Throughput {
        let idle = idle_load();
        let cut = fragments(&self.hosts[0]);
        let before = Processors::now();
        let ended = traffic::stream(&from.netns, &to.netns, address, streams, length);
        let spent = Processors::now().since(before);
        let busy_s = (spent.busy_s - idle * (spent.busy_s + spent.idle_s)).max(0.0);
        let gigabytes = ended.bytes / 1e9;
        Throughput {
            gbit_per_second: ended.bits_per_second / 1e9,
            cpu_s_per_gb: busy_s / gigabytes,
            fragments_per_gb: (fragments(&self.hosts[0]) - cut) / gigabytes,
            retransmits: ended.retransmits,
        }
    }
}

fn plugin(programs: &Programs, host: &Host, number: usize, way: Way, peers: &[Value]) -> Plugin {
    let me = format!("node-{number}");
    host.scratch().dir("root/etc/manx");
    host.scratch()
        .file("root/etc/manx/peers.json", json!({"self": me, "nodes": peers}).to_string());
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "manx", "mode": way.mode,
        "peersFile": "/etc/manx/peers.json",
        "ipam": {
            "type": "manx-ipam", "dataDir": host.scratch().dir("leases"),
            "ranges": [[{"subnet": format!("10.244.{number}.0/24")}]],
        },
    });
    let conf_file: PathBuf = host.scratch().file("conf.json", conf.to_string());
    let mut apply = Command::new(&programs.manx);
    apply.arg("apply").arg("--root").arg(host.scratch().dir("root")).arg("--conf").arg(conf_file);
    host.enter(|| run(apply, &Stdin::Null, Duration::from_secs(30))).ok();
    if way.mtu == Mtu::PodsTooLarge {
        // Of pods alone: somebody "fixed" their MTU to what the network card has.
        conf["mtu"] = way.underlay_mtu.into();
        conf.as_object_mut().expect("an object").remove("peersFile");
    }
    Plugin::new(host, &programs.manx).config(conf)
}

fn set_mtu(hosts: &[Host], mtu: u32) {
    for host in hosts {
        host.command("ip", &["link", "set", "eth0", "mtu", &mtu.to_string()]).ok();
    }
}

/// What of the machine's time is busy with others' work.
fn idle_load() -> f64 {
    let before = Processors::now();
    std::thread::sleep(Duration::from_millis(500));
    Processors::now().since(before).load()
}

/// Fragments that a node made of packets that were too large (FragCreates).
fn fragments(netns: &Netns) -> f64 {
    // Not /proc/net, which is the first thread's.
    let text = netns.enter(|| fs::read_to_string("/proc/thread-self/net/snmp"));
    let text = text.expect("read the counters of IP");
    let mut lines = text.lines().filter(|line| line.starts_with("Ip: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(name, _)| *name == "FragCreates")
        .and_then(|(_, value)| value.parse().ok())
        .expect("FragCreates")
}
