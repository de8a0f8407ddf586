// SPDX-License-Identifier: Apache-2.0
//! Numbers that a change has to keep, each measured against what it is compared with
//! in turns: a ratio with its spread says more than two rows that were measured minutes
//! apart. A section of its own for each, so that one can be looked at by itself.

use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use serde_json::{Value, json};

use crate::measure::{Job, Sample, at_once};
use crate::quantile::Times;
use crate::ratio::Ratio;
use crate::report::targets::Limit;
use crate::scale::{self, peer};
use crate::settle::settle;
use crate::subjects::{self, Kind, Place, Programs, Setting};
use crate::turns::order;

/// How many peers are many.
const PEERS: usize = 5000;

/// A number and what it may be.
#[derive(Debug)]
pub struct Goal {
    pub section: &'static str,
    pub what: &'static str,
    pub limit: Limit,
    pub unit: &'static str,
    /// Less than this it cannot be.
    least: f64,
    /// And not more.
    most: f64,
}

/// Of the route of one peer by `ip -batch`, the kernel's part is what nobody goes below.
const KERNELS: f64 = 0.5;
const MANY: f64 = 1e6;
const BY_BATCH: &str = "times its routes by ip -batch";
const BY_V4: &str = "times that of v4";
const BY_FLOOR: &str = "times the floor's";
const BY_NONE: &str = "times that without peersFile";
/// What two measurements of the same may differ by.
const NOISE: f64 = 0.05;

const DIRECT: &str = "apply of 5000 peers from nothing, mode direct, processor time";
const VXLAN: &str = "apply of 5000 peers from nothing, mode vxlan, processor time";
const DIRECT_IDLE: &str = "apply with nothing to do, 5000 peers, mode direct, processor time";
const VXLAN_IDLE: &str = "apply with nothing to do, 5000 peers, mode vxlan, processor time";
const DIRECT_WATCH: &str = "one of 5000 peers changed under a watch, mode direct, until its route";
const VXLAN_WATCH: &str = "one of 5000 peers changed under a watch, mode vxlan, until its entry";
const BESIDE: &str = "ADD beside 5000 peers";
const BESIDE_MASQUERADE: &str = "ADD beside 5000 peers, masquerade";
const FAMILIES: &str = "ADD, dual stack";
const BURST: &str = "ADD of 100 pods at once, v4";

/// All of them.
pub const GOALS: [Goal; 10] = [
    goal("families", FAMILIES, Limit::AtMost(1.35), BY_V4, 1.0 - NOISE, MANY),
    goal("burst", BURST, Limit::AtLeast(0.6), BY_FLOOR, 0.0, 1.0 + NOISE),
    goal("apply", DIRECT, Limit::AtMost(1.05), BY_BATCH, KERNELS, MANY),
    goal("apply", VXLAN, Limit::AtMost(1.3), BY_BATCH, KERNELS, MANY),
    goal("apply", DIRECT_IDLE, Limit::AtMost(0.15), BY_BATCH, 0.0, 1.0),
    goal("apply", VXLAN_IDLE, Limit::AtMost(0.15), BY_BATCH, 0.0, 1.0),
    goal("watch", DIRECT_WATCH, Limit::AtMost(10.0), "ms", 0.0, MANY),
    goal("watch", VXLAN_WATCH, Limit::AtMost(10.0), "ms", 0.0, MANY),
    goal("beside", BESIDE, Limit::AtMost(1.15), BY_NONE, 1.0 - NOISE, MANY),
    goal("beside", BESIDE_MASQUERADE, Limit::AtMost(1.15), BY_NONE, 1.0 - NOISE, MANY),
];

const fn goal(
    section: &'static str,
    what: &'static str,
    limit: Limit,
    unit: &'static str,
    least: f64,
    most: f64,
) -> Goal {
    Goal { section, what, limit, unit, least, most }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// That of its [`Goal`].
    pub what: &'static str,
    pub found: Found,
}

/// A ratio of two that took turns, or times by themselves.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    Ratio(Ratio),
    Times(Times),
}

impl Row {
    /// What is held against the goal; of times that which nine of ten do not exceed.
    pub fn value(&self) -> f64 {
        match &self.found {
            Found::Ratio(ratio) => ratio.ratio,
            Found::Times(times) => times.p90_ms,
        }
    }

    /// As in a table.
    pub fn told(&self) -> String {
        match &self.found {
            Found::Ratio(ratio) => ratio.told(),
            Found::Times(times) => format!("{:.2} (p90; p50 {:.2})", times.p90_ms, times.p50_ms),
        }
    }

    /// What of it cannot be.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = match &self.found {
            Found::Ratio(ratio) => ratio.faults("it"),
            Found::Times(times) if times.p10_ms > 0.0 => Vec::new(),
            Found::Times(times) => vec![format!("{times:?} are no times")],
        };
        let goal = GOALS.iter().find(|goal| goal.what == self.what);
        let (least, most) = goal.map_or((0.0, 0.0), |goal| (goal.least, goal.most));
        if !(least..=most).contains(&self.value()) {
            faults.push(format!("{} is not between {least} and {most}", self.told()));
        }
        faults
    }
}

/// All that a section measures.
pub fn rows(section: &str, programs: &Programs, quick: bool) -> Vec<Row> {
    let pick = |short: usize, long: usize| if quick { short } else { long };
    crate::progress(&format!("{section}: in turns"));
    match section {
        "families" => vec![families(programs, pick(3, 15))],
        "burst" => vec![burst(programs, pick(3, 9))],
        "apply" => apply(programs, pick(3, 9)),
        "watch" => [("direct", DIRECT_WATCH), ("vxlan", VXLAN_WATCH)]
            .map(|(mode, what)| watch(programs, mode, what, pick(8, 40)))
            .into(),
        _ => [(false, BESIDE), (true, BESIDE_MASQUERADE)]
            .map(|(masquerade, what)| beside(programs, masquerade, what, pick(40, 200)))
            .into(),
    }
}

/// Pairs of one and the other, each measured one right after the other.
fn compared(what: &'static str, pairs: &[(f64, f64)]) -> Row {
    Row { what, found: Found::Ratio(Ratio::of(pairs)) }
}

fn all_peers() -> Vec<Value> {
    (0..PEERS).map(peer).collect()
}

fn node(programs: &Programs, mode: &str) -> scale::Node {
    scale::Node::new(programs, &json!({"mode": mode, "ipam": {"type": "manx-ipam"}}))
}

/// From nothing, and then with nothing to do, beside the routes of mode direct as
/// plain commands.
fn apply(programs: &Programs, rounds: usize) -> Vec<Row> {
    let nodes = ["direct", "vxlan", "direct"].map(|mode| node(programs, mode));
    nodes.iter().for_each(|node| node.set_peers(&all_peers()));
    let [direct, vxlan, plain] = &nodes;
    let [add, delete] = by_hand(plain);
    let cpu = |node: &scale::Node, job: &Job| {
        let sample: Sample = node.host.enter(|| job.run());
        node.assert_applied();
        sample.cpu().as_secs_f64() * 1e3
    };
    let mut pairs: [Vec<(f64, f64)>; 4] = Default::default();
    // The first round finds what is not there yet.
    for round in 0..=rounds {
        let mut found = [0.0; 5];
        for number in order(round, 3) {
            if number == 2 {
                found[4] = cpu(plain, &add);
                plain.host.enter(|| delete.run());
                continue;
            }
            let node = [direct, vxlan][number];
            node.undo();
            found[number] = cpu(node, &node.manx(&["apply"]));
            found[number + 2] = cpu(node, &node.manx(&["apply"]));
        }
        let [.., by_hand] = found;
        if round > 0 {
            pairs.iter_mut().zip(found).for_each(|(pairs, ours)| pairs.push((by_hand, ours)));
        }
    }
    let whats = [DIRECT, VXLAN, DIRECT_IDLE, VXLAN_IDLE];
    whats.iter().zip(&pairs).map(|(what, pairs)| compared(what, pairs)).collect()
}

/// The runs of `ip -batch` that make and remove the routes that manx makes.
fn by_hand(node: &scale::Node) -> [Job; 2] {
    node.host.enter(|| node.manx(&["apply"]).run());
    let routes = node.host.command("ip", &["route", "show", "proto", "109"]).ok();
    node.undo();
    ["add", "delete"].map(|verb| {
        let lines: String = routes.lines().map(|it| format!("route {verb} {it}\n")).collect();
        let file = node.host.scratch().file(verb, lines).display().to_string();
        Job { program: PathBuf::from("ip"), args: vec!["-batch".into(), file], ..node.manx(&[]) }
    })
}

/// A process that ends with this.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the kernel tells of.
const ROUTES: (u32, u16) = (1 << 6, 24);
const NEIGHBOURS: (u32, u16) = (1 << 2, 28);
/// Family of a forwarding entry.
const BRIDGE: u8 = 7;
/// Longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long after a change a watch is at rest.
const REST: Duration = Duration::from_millis(400);

/// The time from the renaming of the peers file until the kernel tells of the one
/// object by which a peer that changed is reached.
fn watch(programs: &Programs, mode: &str, what: &'static str, changes: usize) -> Row {
    let node = node(programs, mode);
    let mut peers = all_peers();
    node.set_peers(&peers);
    let job = node.manx(&["apply", "--watch"]);
    let mut command = Command::new(&job.program);
    command.args(&job.args).stdout(Stdio::null()).stderr(Stdio::null());
    let _watch = Watch(node.host.enter(|| command.spawn().expect("start a watch")));
    let begin = Instant::now();
    while node.routes() < PEERS {
        assert!(begin.elapsed() < PATIENCE, "the watch applies nothing");
        thread::sleep(REST);
    }
    settle();
    let (groups, kind) = if mode == "direct" { ROUTES } else { NEIGHBOURS };
    let times = (0..changes).map(|change| {
        thread::sleep(REST);
        peers[PEERS / 2]["addresses"] = json!([format!("172.31.255.{}", change + 1)]);
        let new = node.write_peers(&peers);
        let events = node.host.enter(|| {
            let mut socket = Socket::new(NETLINK_ROUTE).expect("a netlink socket");
            socket.bind(&SocketAddr::new(0, groups)).expect("listen to the kernel");
            socket
        });
        let begin = Instant::now();
        node.put_peers(&new);
        await_event(&events, kind);
        begin.elapsed()
    });
    Row { what, found: Found::Times(Times::of(times)) }
}

/// Waits for a message of that type, of neighbours only forwarding entries.
fn await_event(events: &Socket, kind: u16) {
    loop {
        let mut sources = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).expect("a time that poll knows");
        assert_ne!(poll(&mut sources, patience).expect("poll"), 0, "the kernel tells of nothing");
        let (message, _) = events.recv_from_full().expect("read what the kernel tells");
        let told = u16::from_ne_bytes([message[4], message[5]]);
        if told == kind && (kind != NEIGHBOURS.1 || message[16] == BRIDGE) {
            return;
        }
    }
}

/// ADD on a node of so many peers, and on one without a peers file.
fn beside(programs: &Programs, masquerade: bool, what: &'static str, pods: usize) -> Row {
    let keys = json!({"ipMasq": masquerade, "ipam": {"type": "manx-ipam"}});
    let mut without = keys.clone();
    without["peersFile"] = Value::Null;
    let nodes = [without, keys].map(|keys| scale::Node::new(programs, &keys));
    nodes[1].set_peers(&all_peers());
    // The first pod of a network costs more.
    for node in &nodes {
        node.add_time();
    }
    settle();
    let pairs: Vec<(f64, f64)> = (0..pods)
        .map(|pod| {
            let mut times = [0.0; 2];
            for number in order(pod, 2) {
                times[number] = nodes[number].add_time().as_secs_f64() * 1e3;
            }
            times.into()
        })
        .collect();
    compared(what, &pairs)
}

/// ADD in dual stack beside the same of IPv4 alone.
fn families(programs: &Programs, rounds: usize) -> Row {
    const PODS: usize = 20;
    let mut subjects = [false, true].map(|dual_stack| {
        let setting = Setting { dual_stack, masquerade: false };
        let node = subjects::Node::new(Kind::ManxIpam, setting, programs);
        let places: Vec<Place> = node.places(0..PODS);
        (node, places)
    });
    let mut pairs = Vec::new();
    settle();
    for round in 0..=rounds {
        for pod in 0..PODS {
            let mut times = [0.0; 2];
            for number in order(round * PODS + pod, 2) {
                let (node, places) = &mut subjects[number];
                times[number] = node.add(&mut places[pod]).wall.as_secs_f64() * 1e3;
            }
            if round > 0 {
                pairs.push(times.into());
            }
        }
        for (node, places) in &mut subjects {
            places.iter_mut().for_each(|place| drop(node.del(place)));
        }
        settle();
    }
    compared(FAMILIES, &pairs)
}

/// Rates of a hundred ADDs that begin at once, beside the floor's.
fn burst(programs: &Programs, rounds: usize) -> Row {
    const WIDTH: usize = 100;
    let mut subjects = [Kind::Floor, Kind::ManxIpam].map(|kind| {
        let node = subjects::Node::new(kind, Setting::default(), programs);
        let places = node.places(0..WIDTH);
        (node, places)
    });
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let mut rates = [0.0; 2];
        for number in order(round, 2) {
            settle();
            let (node, places) = &mut subjects[number];
            let jobs: Vec<Job> = places.iter().map(|place| node.add_job(place)).collect();
            let burst = node.host.enter(|| at_once(&jobs));
            rates[number] = burst.per_second();
            for (place, sample) in places.iter_mut().zip(&burst.samples) {
                node.added(place, sample);
            }
            places.iter_mut().for_each(|place| drop(node.del(place)));
        }
        if round > 0 {
            pairs.push(rates.into());
        }
    }
    compared(BURST, &pairs)
}
