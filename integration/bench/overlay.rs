// SPDX-License-Identifier: Apache-2.0
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
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::harness::{Host, Plugin, Pod, Stdin, connect, run};
use crate::quantile::median;
use crate::settle::{Processors, settle};
use crate::subjects::Programs;
use crate::traffic::{self, Latency};
use crate::turns::order;

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
    /// How often the sending node answered that a packet could not be delivered
    /// (ICMP type 3, which "too large" is of), in all streams together.
    pub told: u64,
    /// How often it took its turn.
    pub rounds: usize,
    /// Of the machine that this ran on.
    pub processors: usize,
    /// What of them was busy with others' work before, 0 to 1.
    pub others: f64,
}

/// Beyond this others' work varies too much to be taken off.
pub const OTHERS_MOST: f64 = 0.25;

/// How a row is called.
pub fn name(row: &Row) -> String {
    let mtu = match row.mtu {
        Mtu::Right => "",
        Mtu::PodsTooLarge => ", pods too large",
        Mtu::TunnelTooLarge => ", tunnel too large",
    };
    let offload = if row.offload { "offload" } else { "no offload" };
    format!("{} over {}, {offload}{mtu}", row.mode, row.underlay_mtu)
}

/// Whether the node cut packets in two.
pub fn was_cut(row: &Row) -> bool {
    row.one_stream.fragments_per_gb > 0.0 || row.four_streams.fragments_per_gb > 0.0
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
    /// did when the tunnel was made. What becomes of a full packet is the
    /// encapsulation's matter: VXLAN cuts it in two, IPIP tells the pod.
    TunnelTooLarge,
}

/// TCP in one direction; medians over the rounds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Throughput {
    pub gbit_per_second: f64,
    /// Processor time of the whole machine beyond others' work, per 10^9 bytes.
    pub cpu_s_per_gb: f64,
    /// IP fragments that the sending node made, per 10^9 bytes.
    pub fragments_per_gb: f64,
    pub retransmits: u64,
    /// Of the machine, busy while iperf3 ran, its start included.
    pub processors: f64,
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The ways over the same link take turns, so many times.
    pub rounds: usize,
    /// Of each stream of a round.
    pub stream: Duration,
    /// Of each round.
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
            let mut ways = Vec::new();
            for mode in modes {
                // Nothing is added to a packet that is not wrapped.
                let mut mtus = vec![Mtu::Right];
                if *mode != "direct" {
                    mtus.extend(effort.both_mistakes.then_some(Mtu::PodsTooLarge));
                    mtus.push(Mtu::TunnelTooLarge);
                }
                let way = |mtu| Way { mode, underlay_mtu, mtu, offload: *offload };
                ways.extend(mtus.into_iter().map(way));
            }
            crate::progress(&format!("overlay: over {underlay_mtu}, offload {offload}"));
            rows.extend(measure(programs, &ways, effort));
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

/// What one way measured, round by round.
#[derive(Default)]
struct Rounds {
    one: Vec<Throughput>,
    four: Vec<Throughput>,
    latency: Vec<Latency>,
}

/// Ways over links that are alike, in turns, so that they can be compared.
fn measure(programs: &Programs, ways: &[Way], effort: Effort) -> Vec<Row> {
    let mut nodes: Vec<(Nodes, Rounds)> =
        ways.iter().map(|way| (Nodes::new(programs, *way), Rounds::default())).collect();
    settle();
    let idle = idle_load();
    for round in 0..effort.rounds {
        for number in order(round, ways.len()) {
            let (nodes, rounds) = &mut nodes[number];
            rounds.one.push(nodes.throughput(1, effort.stream, idle));
            rounds.four.push(nodes.throughput(4, effort.stream, idle));
            rounds.latency.push(nodes.latency(effort.round_trips));
        }
    }
    let rows = ways.iter().zip(&nodes).map(|(way, (nodes, rounds))| Row {
        mode: way.mode.into(),
        underlay_mtu: way.underlay_mtu,
        mtu: way.mtu,
        pod_mtu: nodes.pod_mtu(),
        offload: way.offload,
        one_stream: Throughput::median(&rounds.one),
        four_streams: Throughput::median(&rounds.four),
        latency: Latency {
            p50_us: median(rounds.latency.iter().map(|latency| latency.p50_us)),
            p99_us: median(rounds.latency.iter().map(|latency| latency.p99_us)),
        },
        told: nodes.counter("IcmpMsg: ", "OutType3").unwrap_or_default(),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        others: idle,
        rounds: effort.rounds,
    });
    rows.collect()
}

impl Throughput {
    fn median(rounds: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| median(rounds.iter().map(value));
        Self {
            gbit_per_second: of(|round| round.gbit_per_second),
            cpu_s_per_gb: of(|round| round.cpu_s_per_gb),
            fragments_per_gb: of(|round| round.fragments_per_gb),
            retransmits: of(|round| round.retransmits as f64) as u64,
            processors: of(|round| round.processors),
        }
    }
}

/// Two nodes on one cable.
struct Nodes {
    hosts: [Host; 2],
    /// One on each, that of the first sends to that of the second.
    pods: [Pod; 2],
    /// Of the second pod.
    address: String,
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
            if !way.offload {
                // What comes out of a tunnel is gathered by the tunnel's own device.
                for tunnel in tunnels(host) {
                    host.command("ethtool", &["-K", &tunnel, "gro", "off"]).ok();
                }
            }
        }
        let [(from, _), (to, address)] = [pod(&plugins[0]), pod(&plugins[1])];
        assert!(from.netns.pings(&address), "no way between the pods");
        set_mtu(&hosts, way.underlay_mtu);
        // What is under way has to fit into the queue of a link of veth: 256 packets,
        // be they of 64 KiB, or 1000 where the link does not gather them. Otherwise
        // it is lost packets that decide how fast the streams are.
        let under_way = if way.offload { 1 << 20 } else { 1 << 17 };
        from.netns.set_sysctl("ipv4/tcp_wmem", &format!("4096 16384 {under_way}"));
        Self { hosts, pods: [from, to], address }
    }

    fn pod_mtu(&self) -> u32 {
        let mtu = self.pods[0].netns.link("eth0").and_then(|link| link["mtu"].as_u64());
        u32::try_from(mtu.expect("a pod's link")).expect("an MTU")
    }

    fn latency(&self, round_trips: usize) -> Latency {
        let [from, to] = &self.pods;
        traffic::latency(&from.netns, &to.netns, &self.address, round_trips)
    }

    /// `idle` is what of the machine's time is busy with others' work.
    fn throughput(&self, streams: usize, length: Duration, idle: f64) -> Throughput {
        let [from, to] = &self.pods;
        let cut = self.fragments();
        let (begin, before) = (Instant::now(), Processors::now());
        let ended = traffic::stream(&from.netns, &to.netns, &self.address, streams, length);
        let took = begin.elapsed();
        let spent = Processors::now().since(before);
        let others = if idle > OTHERS_MOST { 0.0 } else { idle };
        let busy_s = spent.busy_s - others * (spent.busy_s + spent.idle_s);
        let gigabytes = ended.bytes / 1e9;
        Throughput {
            gbit_per_second: ended.bits_per_second / 1e9,
            cpu_s_per_gb: busy_s / gigabytes,
            fragments_per_gb: (self.fragments() - cut) / gigabytes,
            retransmits: ended.retransmits,
            processors: busy_s / took.as_secs_f64(),
        }
    }

    /// Fragments that the sending node made of packets that were too large.
    fn fragments(&self) -> f64 {
        self.counter("Ip: ", "FragCreates").expect("FragCreates") as f64
    }

    /// A counter of the sending node. Those of ICMP are listed once they are more
    /// than zero.
    fn counter(&self, protocol: &str, counter: &str) -> Option<u64> {
        // Not /proc/net, which is the first thread's.
        let text = self.hosts[0].enter(|| fs::read_to_string("/proc/thread-self/net/snmp"));
        let text = text.expect("read the counters of IP");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol));
        let (names, values) = (lines.next()?, lines.next()?);
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        pairs.find(|(name, _)| *name == counter).and_then(|(_, value)| value.parse().ok())
    }
}

/// A pod and its address.
fn pod(plugin: &Plugin) -> (Pod, String) {
    let pod = Pod::new("overlay");
    let result = plugin.add(&pod).ok();
    let cidr = result["ips"][0]["address"].as_str().expect("an address");
    (pod, cidr.split('/').next().unwrap_or_default().to_owned())
}

/// The devices of tunnels on a node.
fn tunnels(host: &Host) -> Vec<String> {
    let links = host.ip(&["link", "show"]);
    let is_tunnel = |link: &&Value| {
        link["linkinfo"]["info_kind"].as_str().is_some_and(|kind| ["vxlan", "ipip"].contains(&kind))
    };
    let tunnels = links.as_array().into_iter().flatten().filter(is_tunnel);
    tunnels.filter_map(|link| link["ifname"].as_str().map(String::from)).collect()
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
        // Of pods alone: somebody "fixed" their MTU to what the network card has. As a network
        // of its own, for one that asks for no routes any more loses those that it had.
        conf["name"] = "pods".into();
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
