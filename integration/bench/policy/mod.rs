// SPDX-License-Identifier: Apache-2.0
//! What network policies cost: manx's table beside Calico's layout and kube-router's rules, in
//! turns, in one run.
//!
//! A packet of a new connection and one of an established one, between two pods that five
//! policies isolate in both directions; the kernel's part of a pod that joins and of a policy
//! that changes, in clusters of several sizes; ADD; the kernel's memory. Both have the source
//! check, and what neither is to be blamed for, the tracking of connections, is in a third node
//! that has nothing else.

mod calico;
mod kube_router;
mod memory;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Finished, Host, Netns, Pod, Scratch};
use crate::measure::Job;
use crate::pair::Row;
use crate::ratio::Ratio;
use crate::scale;
use crate::settle::settle;
use crate::strace;
use crate::subjects::Programs;
use crate::turns::order;
use crate::wire::{Flow, Wire, in_turns, paired};
use calico::Calico;
use world::{CHANGES, Change, DENIED, FRESH, NODE, Size, TALKING, World};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: usize,
    pub changes: usize,
    pub pods: usize,
    pub streams: usize,
    /// Of each stream, in whole seconds.
    pub stream: Duration,
}

/// What manx adds to a new connection, of what Calico's layout adds.
const NEW_AT_MOST: f64 = 0.5;
/// Nothing that can be measured.
const ESTABLISHED_AT_MOST: f64 = 1.02;
/// The same at any size, but for noise and the depth of a tree of ranges.
const SIZE_AT_MOST: f64 = 1.5;
/// What an ADD with policies may take more than one without, ms.
const ADD_MORE_MS: f64 = 0.3;
/// The kernel's memory, KiB.
const MEMORY_KIB: f64 = 1024.0;

const SMALL: Size = Size { addresses: 10_000, policies: 100, local: 100 };
const MIDDLE: Size = Size { addresses: 10_000, policies: 500, local: 250 };
const LARGE: Size = Size { addresses: 100_000, policies: 2000, local: 1000 };
const SIZES: [(&str, Size); 3] = [
    ("100 pods, 100 policies, 10,000 addresses", SMALL),
    ("250 pods, 500 policies, 10,000 addresses", MIDDLE),
    ("1,000 pods, 2,000 policies, 100,000 addresses", LARGE),
];

/// Measures Calico's layout ("old") and manx's ("new").
///
/// # Errors
/// Why there is nothing to compare.
pub fn rows(programs: &Programs, effort: Effort) -> Result<Vec<Row>, String> {
    let mut rows = packets(programs, effort)?;
    rows.push(open(programs, effort)?);
    rows.extend(changes(programs, effort));
    rows.push(adds(programs, effort));
    rows.push(memory::row(programs)?);
    Ok(rows)
}

/// Times of one node: a packet of a connection that nobody has answered yet, one of an
/// established one and its answer, ns, and a stream.
#[derive(Default)]
struct Samples {
    fresh: Vec<f64>,
    talking: Vec<f64>,
    stream: Vec<f64>,
}

struct Node {
    wire: Wire,
    fresh: Flow,
    talking: Flow,
    samples: Samples,
}

/// Nodes without policies, in Calico's layout, manx's, and without once more, after their
/// packets were measured; one of kube-router behind them where it could be built.
fn measured(programs: &Programs, effort: Effort, change: Change) -> Result<Nodes, String> {
    let mut nodes = Vec::new();
    let mut layouts = vec![Layout::None, Layout::Calico, Layout::Manx, Layout::None];
    if kube_router::is_built() {
        layouts.push(Layout::KubeRouter);
    }
    for layout in layouts {
        let wire = Wire::new(programs, &json!({}));
        let world = World::new(MIDDLE, &wire.addresses, change);
        match layout {
            Layout::None => load(&wire.host, &[TRACKED.to_owned()]),
            Layout::Calico => {
                let links: Vec<(String, String)> =
                    wire.addresses.iter().cloned().zip(wire.links()).collect();
                load(&wire.host, Calico::load(&world, &links).lines());
            }
            Layout::Manx => enforce(&wire.host, programs, &world),
            Layout::KubeRouter => kube_router::enforce(&wire.host, &world),
        }
        let passes = wire.flow(DENIED).passes();
        if passes != (change.open || layout == Layout::None) {
            return Err(format!("{layout:?}: a packet that nothing is said of passes: {passes}"));
        }
        let (fresh, talking) = (wire.flow(FRESH), wire.flow(TALKING));
        if !fresh.passes() || !talking.passes() {
            return Err(format!("{layout:?}: what is allowed does not pass"));
        }
        nodes.push(Node { wire, fresh, talking, samples: Samples::default() });
    }
    settle();
    in_turns(effort.rounds, nodes.len(), |number, counts| {
        let Node { fresh, talking, samples, .. }: &mut Node = &mut nodes[number];
        let (one_way, round_trip) = (fresh.one_way(), talking.round_trip());
        if counts {
            samples.fresh.push(one_way);
            samples.talking.push(round_trip);
        }
    });
    let kube_router = if nodes.len() > 4 { nodes.pop() } else { None };
    Ok((nodes.try_into().ok().expect("four nodes"), kube_router))
}

type Nodes = ([Node; 4], Option<Node>);

/// What a new connection takes more than without policies, in Calico's layout and in manx's.
fn more([none, calico, manx, again]: &[Node; 4], what: &str, at_most: Option<f64>) -> Row {
    let more = |of: &Node| -> Vec<f64> {
        let pairs = of.samples.fresh.iter().zip(&none.samples.fresh);
        pairs.map(|(with, without)| with - without).collect()
    };
    Row {
        what: format!("a new connection between {what}, ns more than without policies"),
        ratio: paired(&more(calico), &more(manx)),
        control: paired(&none.samples.fresh, &again.samples.fresh),
        at_most,
    }
}

/// Pods that no policy is about.
fn open(programs: &Programs, effort: Effort) -> Result<Row, String> {
    crate::progress("packets of pods that are not isolated");
    let change = Change { open: true, ..Change::default() };
    let (nodes, _) = measured(programs, effort, change)?;
    Ok(more(&nodes, "pods that no policy is about", None))
}

fn packets(programs: &Programs, effort: Effort) -> Result<Vec<Row>, String> {
    crate::progress("packets");
    let (mut nodes, kube_router) = measured(programs, effort, Change::default())?;
    for round in 0..effort.streams {
        for number in order(round, nodes.len()) {
            let Node { wire, samples, .. } = &mut nodes[number];
            samples.stream.push(wire.stream(effort.stream));
        }
    }
    let [none, calico, manx, again] = &nodes;
    let beside = |what: &str, at_most, of: fn(&Samples) -> &Vec<f64>, old: &Node| Row {
        what: what.into(),
        ratio: paired(of(&old.samples), of(&manx.samples)),
        control: paired(of(&none.samples), of(&again.samples)),
        at_most,
    };
    let mut rows = vec![
        more(&nodes, "isolated pods", Some(NEW_AT_MOST)),
        beside("the same, the whole way, ns", None, |samples| &samples.fresh, calico),
        beside(
            "an established connection, a byte and its answer, ns; old is without policies",
            Some(ESTABLISHED_AT_MOST),
            |samples| &samples.talking,
            none,
        ),
        beside("the same, old is Calico's layout", None, |samples| &samples.talking, calico),
        beside(
            "TCP, one stream, ns per kbit; old is without policies",
            None,
            |samples| &samples.stream,
            none,
        ),
    ];
    if let Some(kube_router) = &kube_router {
        let what = "the way of a packet of a new connection, ns; old is kube-router";
        rows.push(beside(what, None, |samples| &samples.fresh, kube_router));
        let what = "an established connection, a byte and its answer, ns; old is kube-router";
        rows.push(beside(what, None, |samples| &samples.talking, kube_router));
    }
    Ok(rows)
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Layout {
    None,
    Calico,
    Manx,
    KubeRouter,
}

/// What a node has that accepts what is established, and nothing else.
const TRACKED: &str = "add table ip tracked\n\
     add chain ip tracked forward { type filter hook forward priority 0; policy accept; }\n\
     add rule ip tracked forward ct state established,related accept";

/// Loads all of it, in as few parts as the kernel takes: without privileges a message has a
/// limit.
fn load(host: &Netns, lines: &[String]) {
    let mut rest = lines;
    let mut size = rest.len();
    while !rest.is_empty() {
        let (part, after) = rest.split_at(size.min(rest.len()));
        let text = part.join("\n") + "\n";
        let finished = nft(host, &text);
        if finished.status == 0 {
            rest = after;
        } else {
            assert!(size > 1, "{}\n{}", finished.stderr, part[0]);
            size = size.div_ceil(2);
        }
    }
}

fn nft(host: &Netns, text: &str) -> Finished {
    let file = Scratch::new();
    let path = file.file("rules.nft", text);
    host.command("nft", &["-f", path.to_str().expect("a path of ASCII")])
}

fn enforce(host: &Host, programs: &Programs, world: &World) {
    let file = host.scratch().file("world.json", world.encode().to_string());
    host.enter(|| apply(host, programs, file).run());
}

/// `manx policy apply` of the world in that file.
fn apply(host: &Host, programs: &Programs, file: PathBuf) -> Job {
    let root = host.scratch().dir("root").display().to_string();
    let file = file.display().to_string();
    let args = ["policy", "apply", &file, "--node", NODE, "--root", &root];
    Job {
        program: programs.manx.clone(),
        args: args.map(str::to_owned).into(),
        env: Vec::new(),
        stdin: None,
        output: Some(host.scratch().path().join("said")),
    }
}

/// The kernel's time for what one program changes of nftables, µs.
fn kernel_us(host: &Host, job: &Job) -> f64 {
    host.enter(|| strace::batches(job, host.scratch().path())).as_secs_f64() * 1e6
}

/// A pod joins, and a policy changes.
fn changes(programs: &Programs, effort: Effort) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut of_size: Vec<[Vec<f64>; 2]> = Vec::new();
    let pair = ["10.88.0.2", "10.88.0.3"].map(str::to_owned);
    for (size_name, size) in SIZES {
        crate::progress(&format!("changes: {size_name}"));
        let world = |change| World::new(size, &pair, change);
        let plain = world(Change::default());
        let joined = world(Change { joined: true, ..Change::default() });
        let changed = world(Change { ports: true, ..Change::default() });
        let (calico, manx) = (Host::new(), Host::new());
        load(&calico, Calico::load(&plain, &[]).lines());
        let file = |name: &str, text: String| manx.scratch().file(name, text);
        let ours =
            |name: &str, of: &World| apply(&manx, programs, file(name, of.encode().to_string()));
        let theirs = |name: &str, of: Calico| {
            let path = calico.scratch().file(name, of.text()).display().to_string();
            Job {
                program: "nft".into(),
                args: vec!["-f".into(), path],
                env: vec![("PATH".into(), std::env::var("PATH").unwrap_or_default())],
                stdin: None,
                output: None,
            }
        };
        let policy = |of: &World| Calico::rewrite(&of.policies[CHANGES]);
        let our_jobs = [("plain", &plain), ("joined", &joined), ("changed", &changed)]
            .map(|(n, w)| ours(n, w));
        let their_jobs = [
            ("join", Calico::join(&joined)),
            ("leave", Calico::leave(&joined)),
            ("changed", policy(&changed)),
            ("plain", policy(&plain)),
        ]
        .map(|(name, of)| theirs(name, of));
        manx.enter(|| our_jobs[0].run());
        settle();
        let mut times: [[Vec<f64>; 2]; 2] = Default::default();
        // The first round finds what the kernel has not in its caches.
        for round in 0..=effort.changes {
            for (what, [there, back]) in [[1, 0], [2, 0]].into_iter().enumerate() {
                let their = [what * 2, what * 2 + 1];
                let mut found = [0.0; 2];
                for number in order(round * 2 + what, 2) {
                    found[number] = if number == 0 {
                        let took = kernel_us(&calico, &their_jobs[their[0]]);
                        calico.enter(|| their_jobs[their[1]].run());
                        took
                    } else {
                        let took = kernel_us(&manx, &our_jobs[there]);
                        manx.enter(|| our_jobs[back].run());
                        took
                    };
                }
                if round > 0 {
                    let [old, new] = &mut times[what];
                    old.push(found[0]);
                    new.push(found[1]);
                }
            }
        }
        for ([old, new], what) in times.iter().zip(WHAT) {
            rows.push(alone(&format!("{what}, kernel, µs; {size_name}"), paired(old, new), None));
        }
        of_size.push(times.map(|[_, ours]| ours));
    }
    let [small, .., large] = of_size.as_slice() else { unreachable!("three sizes") };
    for ((small, large), what) in small.iter().zip(large).zip(WHAT) {
        let what = format!("{what}, kernel, µs; old is the smallest size, new the largest");
        rows.push(alone(&what, paired(small, large), Some(SIZE_AT_MOST)));
    }
    rows
}

const WHAT: [&str; 2] = ["a pod joins", "a policy changes"];

/// A comparison of which nothing was measured twice.
fn alone(what: &str, ratio: Ratio, at_most: Option<f64>) -> Row {
    Row { what: what.into(), ratio, control: Ratio::of(&[(1.0, 1.0)]), at_most }
}

/// ADD with and without, and without once more.
fn adds(programs: &Programs, effort: Effort) -> Row {
    crate::progress("ADD");
    let pair = ["10.88.0.2", "10.88.0.3"].map(str::to_owned);
    let world = World::new(MIDDLE, &pair, Change::default());
    // One that five policies isolate.
    let pod = Pod::new("add").kubernetes("ns-100", "at-10.88.0.2");
    let nodes = [false, true, false].map(|enforced| {
        let mut keys = json!({"peersFile": null, "ipam": {"type": "manx-ipam"}});
        if enforced {
            keys["networkPolicy"] = "enforce".into();
            keys["networkPolicyMissing"] = "fail".into();
        }
        let node = scale::Node::new(programs, &keys);
        if enforced {
            enforce(&node.host, programs, &world);
        }
        // The first pod of a network costs more.
        node.add_time_of(&pod);
        node
    });
    settle();
    let mut times: [Vec<f64>; 3] = Default::default();
    for turn in 0..effort.pods {
        for number in order(turn, nodes.len()) {
            times[number].push(nodes[number].add_time_of(&pod).as_secs_f64() * 1e3);
        }
    }
    let [without, with, again] = &times;
    let ratio = paired(without, with);
    Row {
        what: "ADD, ms; old is networkPolicy off, new is enforce".into(),
        control: paired(without, again),
        at_most: Some(1.0 + ADD_MORE_MS / ratio.old_p50),
        ratio,
    }
}
