// SPDX-License-Identifier: Apache-2.0
//! How long a pod's attachment takes: one after another, many at once, and on a
//! node that is full already.
//!
//! Subjects take turns, so that whatever else the machine does hits all of them
//! alike, and in another order each time: a DEL that follows one which ended soon
//! waits for what the kernel still has to do for that one.

use std::time::Duration;

use serde::Serialize;

use crate::crowd;
use crate::measure::{Burst, Job, Sample, at_once};
use crate::quantile::{Times, median};
use crate::settle::settle;
use crate::strace::{self, Counts};
use crate::subjects::{Kind, Node, Place, Programs, Setting};
use crate::turns::order;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Pods attached one after another.
    pub pods: usize,
    /// How often all of them are added and removed.
    pub passes: usize,
    /// The same where ADD waits two seconds for duplicate address detection.
    pub slow_pods: usize,
}

/// Times of ADD and DEL.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub subject: Kind,
    pub setting: Setting,
    /// Pods attached at the same moment; 1 is one after another.
    pub at_once: usize,
    /// Whether this is about pods that the node had before, and how many.
    pub crowded: bool,
    pub present: usize,
    pub add: Times,
    pub del: Times,
    /// Medians of processor time, user space and kernel together.
    pub add_cpu_ms: f64,
    pub del_cpu_ms: f64,
    /// Median over the rounds, counted until the last of a round ended.
    pub add_per_second: f64,
    pub del_per_second: f64,
    /// How many rounds of `at_once`, and the most in one; 0 one after another.
    pub rounds: usize,
    pub add_per_second_most: f64,
    pub del_per_second_most: f64,
    /// The most over the rounds: processor time a second, as a number of
    /// processors. One after another, the most over the pods.
    pub add_processors: f64,
    pub del_processors: f64,
}

impl Row {
    /// How the row is called.
    pub fn name(&self) -> String {
        let at_once =
            if self.at_once > 1 { format!("{} at once, ", self.at_once) } else { String::new() };
        let present = if self.crowded {
            format!(" on a node with {} pods", self.present)
        } else {
            String::new()
        };
        format!("{at_once}{}{present}", self.subject.row_name(self.setting))
    }
}

/// Counts of one verb.
#[derive(Clone, Debug, Serialize)]
pub struct CountRow {
    pub subject: Kind,
    pub setting: Setting,
    pub verb: &'static str,
    pub counts: Counts,
    /// Of the largest process, in KiB.
    pub peak_kib: u64,
}

/// Samples of one subject.
#[derive(Default)]
struct Samples {
    add: Verb,
    del: Verb,
}

/// Samples of one verb, and what each round of them came to.
#[derive(Default)]
struct Verb {
    samples: Vec<Sample>,
    rates: Vec<f64>,
    processors: Vec<f64>,
}

impl Verb {
    fn push(&mut self, sample: Sample) {
        self.processors.push(sample.cpu().as_secs_f64() / sample.wall.as_secs_f64());
        self.samples.push(sample);
    }

    fn extend(&mut self, burst: Burst) {
        self.rates.push(burst.per_second());
        self.processors.push(burst.processors());
        self.samples.extend(burst.samples);
    }

    fn times(&self) -> Times {
        Times::of(self.samples.iter().map(|sample| sample.wall))
    }

    fn cpu_ms(&self) -> f64 {
        median(self.samples.iter().map(|sample| ms(sample.cpu())))
    }

    /// One after another, the rate is that of the times alone.
    fn per_second(&self) -> f64 {
        if self.rates.is_empty() {
            let total: f64 = self.samples.iter().map(|sample| sample.wall.as_secs_f64()).sum();
            return self.samples.len() as f64 / total;
        }
        median(self.rates.iter().copied())
    }

    fn processors(&self) -> f64 {
        self.processors.iter().copied().fold(0.0, f64::max)
    }

    fn per_second_most(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }
}

impl Samples {
    fn row(&self, subject: Kind, setting: Setting, at_once: usize, present: Option<usize>) -> Row {
        Row {
            subject,
            setting,
            at_once,
            crowded: present.is_some(),
            present: present.unwrap_or_default(),
            add: self.add.times(),
            del: self.del.times(),
            add_cpu_ms: self.add.cpu_ms(),
            del_cpu_ms: self.del.cpu_ms(),
            add_per_second: self.add.per_second(),
            del_per_second: self.del.per_second(),
            rounds: self.add.rates.len(),
            add_per_second_most: self.add.per_second_most(),
            del_per_second_most: self.del.per_second_most(),
            add_processors: self.add.processors(),
            del_processors: self.del.processors(),
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The families and masquerade that are measured one after another.
pub const SETTINGS: [Setting; 4] = [
    Setting { dual_stack: false, masquerade: false },
    Setting { dual_stack: false, masquerade: true },
    Setting { dual_stack: true, masquerade: false },
    Setting { dual_stack: true, masquerade: true },
];

/// A node and its places, two of which have been used already: the first pod of
/// a network may cost more.
fn ready(kind: Kind, setting: Setting, programs: &Programs, pods: usize) -> (Node, Vec<Place>) {
    let node = Node::new(kind, setting, programs);
    warm_up(&node);
    let places = node.places(0..pods);
    (node, places)
}

fn warm_up(node: &Node) {
    for mut place in node.places(20_000..20_002) {
        node.add(&mut place);
        node.del(&mut place);
    }
}

/// ptp waits until the kernel has finished duplicate address detection.
fn is_slow(kind: Kind, setting: Setting) -> bool {
    kind == Kind::Ptp && setting.dual_stack
}

/// One after another, of every subject; the pods stay until all are there.
pub fn sequential(
    setting: Setting,
    programs: &Programs,
    kinds: &[Kind],
    effort: Effort,
) -> Vec<Row> {
    let count = |kind| if is_slow(kind, setting) { effort.slow_pods } else { effort.pods };
    let mut nodes: Vec<_> =
        kinds.iter().map(|kind| ready(*kind, setting, programs, count(*kind))).collect();
    let mut samples: Vec<Samples> = kinds.iter().map(|_| Samples::default()).collect();
    for removing in [false, true].repeat(effort.passes) {
        settle();
        for round in 0..effort.pods {
            for number in order(round, kinds.len()) {
                let (node, places) = &mut nodes[number];
                let Some(place) = places.get_mut(round) else { continue };
                match removing {
                    false => samples[number].add.push(node.add(place)),
                    true => samples[number].del.push(node.del(place)),
                }
            }
        }
    }
    drop(nodes);
    settle();
    kinds.iter().zip(&samples).map(|(kind, samples)| samples.row(*kind, setting, 1, None)).collect()
}

/// What starting a program costs by itself.
pub fn nothing(programs: &Programs, runs: usize) -> Times {
    let node = Node::new(Kind::Floor, Setting::default(), programs);
    settle();
    Times::of((0..runs).map(|_| node.enter(&node.floor_nothing()).wall))
}

/// So many at once, of every subject in turn, into the same namespaces each round:
/// with thousands of them the kernel takes longer for everything.
pub fn parallel(
    setting: Setting,
    programs: &Programs,
    width: usize,
    kinds: &[Kind],
    rounds: usize,
) -> Vec<Row> {
    let mut nodes: Vec<_> =
        kinds.iter().map(|kind| ready(*kind, setting, programs, width)).collect();
    settle();
    let mut samples: Vec<Samples> = kinds.iter().map(|_| Samples::default()).collect();
    for round in 0..rounds {
        for number in order(round, kinds.len()) {
            let (node, places) = &mut nodes[number];
            let samples = &mut samples[number];
            let jobs: Vec<_> = places.iter().map(|place| node.add_job(place)).collect();
            let added = node.host.enter(|| at_once(&jobs));
            for (place, sample) in places.iter_mut().zip(&added.samples) {
                node.added(place, sample);
            }
            samples.add.extend(added);
            let jobs: Vec<_> = places.iter().map(|place| node.del_job(place)).collect();
            let removed = node.host.enter(|| at_once(&jobs));
            places.iter_mut().for_each(|place| node.removed(place));
            samples.del.extend(removed);
        }
    }
    drop(nodes);
    settle();
    kinds.iter().zip(&samples).map(|(kind, s)| s.row(*kind, setting, width, None)).collect()
}

/// One after another on nodes that have so many pods already.
pub fn crowded(programs: &Programs, levels: &[usize], pods: usize) -> Vec<Row> {
    let setting = Setting::default();
    let mut subjects = Vec::new();
    for kind in Kind::plugins() {
        for level in levels {
            if kind.is_bridged() && *level > crowd::BRIDGE_PORTS_MAX {
                continue;
            }
            let (node, places) = ready(kind, setting, programs, pods);
            crowd::fill(&node, *level);
            subjects.push((node, places, *level, Samples::default()));
        }
    }
    settle();
    for round in 0..pods {
        for number in order(round, subjects.len()) {
            // Added and removed, so that the level stays what it is.
            let (node, places, _, samples) = &mut subjects[number];
            samples.add.push(node.add(&mut places[round]));
            samples.del.push(node.del(&mut places[round]));
        }
    }
    let rows = subjects
        .iter()
        .map(|(node, _, level, samples)| samples.row(node.kind, setting, 1, Some(*level)));
    let rows = rows.collect();
    for (node, ..) in &subjects {
        crowd::clear(node);
    }
    drop(subjects);
    settle();
    rows
}

/// The counts of ADD and DEL after the network's first pod, of every subject.
pub fn counts(setting: Setting, programs: &Programs) -> Vec<CountRow> {
    let mut rows = Vec::new();
    // The floor asks the same with masquerade as without.
    let is_counted = |kind: &Kind| !(setting.masquerade && *kind == Kind::Floor);
    for kind in Kind::all().into_iter().filter(is_counted) {
        let (node, mut places) = ready(kind, setting, programs, 2);
        let [traced, metered] = places.as_mut_slice() else { unreachable!("two places") };
        for verb in ["ADD", "DEL"] {
            let counts =
                run(&node, verb, traced, |job| strace::count(job, node.host.scratch().path()));
            let peak_kib =
                run(&node, verb, metered, |job| crate::size::peak(job, programs, &node.host));
            rows.push(CountRow { subject: kind, setting, verb, counts, peak_kib });
        }
    }
    rows
}

/// A verb behind another program, and whether it did its work there.
fn run<T: Send>(
    node: &Node,
    verb: &str,
    place: &mut Place,
    behind: impl FnOnce(&Job) -> (T, Sample) + Send,
) -> T {
    let is_add = verb == "ADD";
    let job = if is_add { node.add_job(place) } else { node.del_job(place) };
    let (told, sample) = node.host.enter(|| behind(&job));
    if is_add {
        node.added(place, &sample)
    } else {
        node.removed(place)
    }
    told
}
