// SPDX-License-Identifier: Apache-2.0
//! How large manx is: on disk, and in memory while a verb runs.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::harness::Host;
use crate::measure::{Job, Sample};
use crate::quantile::Times;
use crate::subjects::{Kind, Node, Programs, Setting};

/// What is told of the binary.
#[derive(Clone, Debug, Serialize)]
pub struct Sizes {
    /// Of the static, stripped binary.
    pub binary_bytes: u64,
    /// Whole runs of VERSION.
    pub start: Times,
    /// Whole runs of a static program that does nothing.
    pub start_floor: Times,
    /// Peak resident memory of manx itself and of its delegate, whichever has
    /// more, by verb.
    pub verbs: Vec<Verb>,
    /// Of the programs that it is compared with.
    pub peers: Vec<Peer>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Verb {
    pub subject: Kind,
    pub verb: String,
    pub dual_stack: bool,
    pub masquerade: bool,
    /// Of manx alone.
    pub peak_kib: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    pub program: String,
    pub bytes: u64,
}

/// The peak memory of a run in KiB, of the largest process in it. In the
/// caller's namespace.
pub fn peak(job: &Job, programs: &Programs, host: &Host) -> (u64, Sample) {
    let answer = host.scratch().path().join("peak");
    let file = answer.to_str().expect("a path of ASCII");
    let sample = job.behind(&programs.meter, &[file]).run();
    let text = fs::read_to_string(&answer).expect("the meter's answer");
    (text.parse().expect("a number"), sample)
}

/// Measures all of it.
pub fn sizes(programs: &Programs, runs: usize) -> Sizes {
    let bytes = |path: &Path| fs::metadata(path).expect("a program").len();
    let node = Node::new(Kind::ManxIpam, Setting::default(), programs);
    let place = node.place(0);
    let (version, nothing) = (node.job("VERSION", &place), node.floor_nothing());
    let (start, start_floor): (Vec<_>, Vec<_>) =
        (0..runs).map(|_| (node.enter(&version).wall, node.enter(&nothing).wall)).unzip();
    let peers = ["ptp", "bridge", "flannel", "host-local"];
    Sizes {
        binary_bytes: bytes(&programs.manx),
        start: Times::of(start),
        start_floor: Times::of(start_floor),
        verbs: crate::attach::SETTINGS.iter().flat_map(|s| verbs(*s, programs)).collect(),
        peers: peers
            .iter()
            .map(|name| Peer {
                program: (*name).into(),
                bytes: bytes(&crate::harness::plugin_dir().join(name)),
            })
            .collect(),
    }
}

/// Every verb once, on a node where a pod came and went before. With IPAM of its
/// own, manx is the only process.
fn verbs(setting: Setting, programs: &Programs) -> Vec<Verb> {
    let node = Node::new(Kind::ManxIpam, setting, programs);
    for mut place in node.places(1..3) {
        node.add(&mut place);
        node.del(&mut place);
    }
    let mut place = node.place(3);
    let mut rows = Vec::new();
    for verb in ["ADD", "CHECK", "STATUS", "VERSION", "DEL", "GC"] {
        let job = match verb {
            "GC" => collection(&node),
            _ => node.job(verb, &place),
        };
        let (peak_kib, sample) = node.host.enter(|| peak(&job, programs, &node.host));
        match verb {
            "ADD" => node.added(&mut place, &sample),
            "DEL" => node.removed(&mut place),
            _ => {}
        }
        rows.push(Verb {
            subject: node.kind,
            verb: verb.into(),
            dual_stack: setting.dual_stack,
            masquerade: setting.masquerade,
            peak_kib,
        });
    }
    rows
}

/// GC with no attachment valid.
fn collection(node: &Node) -> Job {
    let mut conf = node.plugin.conf.clone();
    conf["cni.dev/valid-attachments"] = Vec::<String>::new().into();
    let mut job = node.job("GC", &node.place(4));
    job.stdin = Some(node.host.scratch().file("gc.json", conf.to_string()));
    job
}
