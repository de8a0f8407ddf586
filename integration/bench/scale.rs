// SPDX-License-Identifier: Apache-2.0
//! Thousands of peers: what `manx apply` takes from nothing, with one peer
//! changed, and what an ADD takes where they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::effect::Attachment;
use crate::harness::{Host, Netns, Plugin, Pod};
use crate::measure::{Job, Sample};
use crate::quantile::Times;
use crate::size::peak;
use crate::strace;
use crate::subjects::Programs;

/// One mode with so many peers.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub mode: &'static str,
    pub peers: usize,
    pub from_nothing: Pass,
    pub one_changed: Pass,
    /// ADD on the node, with host-local.
    pub add: Times,
    /// ADD of the first pod after the peers file changed, which applies it.
    pub add_ms_after_change: f64,
}

/// Runs of `manx apply` from the same state.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Pass {
    /// How many; each of the times is the mean of them.
    pub runs: usize,
    pub wall_ms: f64,
    /// Processor time, the process's own and what the kernel spent for it.
    pub cpu_ms: f64,
    /// The process's own; `None` for runs too short to tell.
    pub user_ms: Option<f64>,
    /// The most of one run, as a number of processors.
    pub processors: f64,
    /// Messages that change something.
    pub changes: usize,
    /// Messages of any kind.
    pub messages: usize,
    pub peak_kib: u64,
}

/// The node under measurement.
pub struct Node {
    pub host: Host,
    plugin: Plugin,
    /// Of the list as it is.
    peers: AtomicUsize,
    _outside: Netns,
}

/// Measures all of these numbers of peers in both modes.
pub fn rows(programs: &Programs, counts: &[usize], pods: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for mode in ["direct", "vxlan"] {
        for count in counts {
            crate::progress(&format!("scale: {mode}, {count} peers"));
            rows.push(row(programs, mode, *count, pods));
        }
    }
    rows
}

/// One of them.
pub fn peer(number: usize) -> Value {
    let (high, low) = (number / 250, number % 250);
    json!({
        "name": format!("peer-{number}"),
        "addresses": [format!("172.16.{high}.{}", low + 1)],
        "podCIDRs": [format!("10.{}.{low}.0/24", high + 1)],
    })
}

fn row(programs: &Programs, mode: &'static str, count: usize, pods: usize) -> Row {
    let node = Node::new(programs, &json!({"mode": mode, "ipam": {"type": "host-local"}}));
    let mut peers: Vec<Value> = (0..count).map(peer).collect();
    node.set_peers(&peers);
    let from_nothing = node.pass(programs, |node| node.undo());
    let add = node.add_times(pods);
    let mut moves = 0;
    let mut change = |node: &Node| {
        moves += 1;
        peers[count / 2]["addresses"] = json!([format!("172.31.255.{moves}")]);
        node.set_peers(&peers);
    };
    let one_changed = node.pass(programs, &mut change);
    change(&node);
    let add_after = node.add_times(1);
    Row {
        mode,
        peers: count,
        from_nothing,
        one_changed,
        add,
        add_ms_after_change: add_after.p50_ms,
    }
}

impl Node {
    /// With these keys beside those that all have; `null` takes one away.
    pub fn new(programs: &Programs, keys: &Value) -> Self {
        let (host, outside) = Host::with_uplink();
        host.command("ip", &["route", "add", "172.16.0.0/12", "dev", "eth0"]).ok();
        host.scratch().dir("root/etc/manx");
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "manx",
            "peersFile": "/etc/manx/peers.json",
        });
        for (key, value) in keys.as_object().into_iter().flatten() {
            conf[key] = value.clone();
        }
        conf.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        conf["ipam"]["dataDir"] = json!(host.scratch().dir("leases"));
        conf["ipam"]["ranges"] = json!([[{"subnet": "10.244.0.0/16"}]]);
        host.scratch().file("conf.json", conf.to_string());
        let plugin = Plugin::new(&host, &programs.manx).config(conf);
        Self { host, plugin, peers: AtomicUsize::new(0), _outside: outside }
    }

    pub fn set_peers(&self, peers: &[Value]) {
        self.put_peers(&self.write_peers(peers));
    }

    /// A peers file beside the place where it counts.
    pub fn write_peers(&self, peers: &[Value]) -> PathBuf {
        let me = json!({"name": "me", "addresses": ["192.0.2.11"], "podCIDRs": ["10.244.0.0/16"]});
        let nodes: Vec<&Value> = std::iter::once(&me).chain(peers).collect();
        let text = json!({"self": "me", "nodes": nodes}).to_string();
        self.peers.store(peers.len(), Ordering::Relaxed);
        self.host.scratch().file("root/etc/manx/peers.new", text)
    }

    pub fn put_peers(&self, new: &Path) {
        fs::rename(new, new.with_extension("json")).expect("replace the peers file");
    }

    /// Runs from the same state, which `before` makes: timed, then traced and
    /// weighed, for tracing takes time and weighing a process more.
    ///
    /// The kernel counts a process's time exactly, but tells its own part from the
    /// process's by what it finds at each tick of its clock, 250 a second. Of a run
    /// of a few milliseconds it knows nothing and takes all for the process's.
    fn pass(&self, programs: &Programs, mut before: impl FnMut(&Self)) -> Pass {
        const ENOUGH: Duration = Duration::from_millis(400);
        const MOST: usize = 20;
        /// Ten ticks.
        const DIVISIBLE_MS: f64 = 40.0;
        let apply = self.manx(&["apply"]);
        let mut samples: Vec<Sample> = Vec::new();
        let mut spent = Duration::ZERO;
        while spent < ENOUGH && samples.len() < MOST {
            before(self);
            let sample = self.host.enter(|| apply.run());
            self.assert_applied();
            spent += sample.cpu();
            samples.push(sample);
        }
        before(self);
        let (counts, _) = self.host.enter(|| strace::count(&apply, self.host.scratch().path()));
        self.assert_applied();
        before(self);
        let (peak_kib, _) = self.host.enter(|| peak(&apply, programs, &self.host));
        self.assert_applied();
        let mean = |of: fn(&Sample) -> Duration| {
            let total: Duration = samples.iter().map(of).sum();
            total.as_secs_f64() * 1e3 / samples.len() as f64
        };
        let processors = samples.iter().map(|s| s.cpu().as_secs_f64() / s.wall.as_secs_f64());
        let cpu_ms = mean(Sample::cpu);
        Pass {
            runs: samples.len(),
            wall_ms: mean(|sample| sample.wall),
            cpu_ms,
            user_ms: (cpu_ms >= DIVISIBLE_MS).then(|| mean(|sample| sample.user)),
            processors: processors.fold(0.0, f64::max),
            changes: counts.netlink_changes,
            messages: counts.netlink_messages,
            peak_kib,
        }
    }

    /// Whether there is a route to the pods of every peer, and no other: one of
    /// the network's protocol to each next hop in the peers file.
    pub fn assert_applied(&self) {
        let (found, wanted) = (self.routes(), self.peers.load(Ordering::Relaxed));
        assert_eq!(found, wanted, "after manx apply there are {found} routes to {wanted} peers");
    }

    /// How many routes to pods of peers there are.
    pub fn routes(&self) -> usize {
        let table = self.host.enter(|| fs::read_to_string("/proc/thread-self/net/route"));
        let table = table.expect("read the routes");
        // Destination and mask: a /24 of 10.0.0.0/8, as peer() has them.
        let routes = table.lines().filter(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1).is_some_and(|to| to.ends_with("0A")) && words.get(7) == Some(&"00FFFFFF")
        });
        routes.count()
    }

    pub fn undo(&self) {
        self.host.enter(|| self.manx(&["apply", "--undo"]).run());
        let peers = self.peers.swap(0, Ordering::Relaxed);
        self.assert_applied();
        self.peers.store(peers, Ordering::Relaxed);
    }

    pub fn manx(&self, args: &[&str]) -> Job {
        let path = |name: &str| self.host.scratch().path().join(name).display().to_string();
        let mut args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        args.extend(["--root".into(), path("root"), "--conf".into(), path("conf.json")]);
        let env = vec![("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())];
        Job {
            program: self.plugin.binary().into(),
            args,
            env,
            stdin: None,
            output: Some(path("output").into()),
        }
    }

    fn add_times(&self, pods: usize) -> Times {
        Times::of((0..pods).map(|_| self.add_time()))
    }

    /// What an ADD takes of a pod that goes again.
    pub fn add_time(&self) -> Duration {
        self.add_time_of(&Pod::new("scale"))
    }

    /// The same of this one.
    pub fn add_time_of(&self, pod: &Pod) -> Duration {
        let job = |verb: &str| {
            let stdin = self.host.scratch().path().join("conf.json");
            Job::of_call(&self.plugin.call(verb).pod(pod), stdin)
        };
        let (add, del) = (job("ADD"), job("DEL"));
        let added = self.host.enter(|| add.run());
        self.assert_applied();
        let result = serde_json::from_str(&added.stdout).expect("a result is JSON");
        let leases = self.host.scratch().path().join("leases/net");
        let made = Attachment::of_result(&result, None, &leases).expect("a result in full");
        let missing = made.missing(&self.host, &pod.netns);
        assert!(missing.is_empty(), "scale: after ADD there is no {missing:?}");
        self.host.enter(|| del.run());
        let left = made.left(&self.host, &pod.netns);
        assert!(left.is_empty(), "scale: after DEL there is still {left:?}");
        added.wall
    }
}
