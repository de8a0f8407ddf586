// SPDX-License-Identifier: Apache-2.0
//! A node with an agent, and the API server that it asks.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::{DEADLINE, Finished, Host, Netns, Plugin, Stdin, eventually, run};
use crate::server::{Answer, Server};

pub const AGENT: &str = env!("CARGO_BIN_EXE_manx-agent");
/// Another build of the agent than the tests', to be measured: `hack/bench --policy-agent` has one that
/// is as it is shipped.
pub fn program() -> PathBuf {
    std::env::var_os("MANX_AGENT").map_or_else(|| AGENT.into(), PathBuf::from)
}

pub const MANX: &str = env!("CARGO_BIN_EXE_manx");

/// Where the routes of all other nodes lead.
pub const CONFLIST: &str = "etc/cni/net.d/10-manx.conflist";

/// Node `number`: 192.0.2.1N and the pods of 10.244.N.0/24. Number 1 is this one.
pub fn node(number: u32) -> Value {
    json!({"kind": "Node", "apiVersion": "v1",
        "metadata": {"name": format!("node-{number}"), "uid": number.to_string(),
            "resourceVersion": "100", "creationTimestamp": "2026-11-27T00:00:00Z"},
        "spec": {"podCIDR": format!("10.244.{number}.0/24"),
            "podCIDRs": [format!("10.244.{number}.0/24")]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": format!("192.0.2.1{number}")}]}})
}

pub fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

pub fn end_of_list() -> Value {
    json!({"type": "BOOKMARK", "object": {"kind": "Node", "apiVersion": "v1", "metadata": {
        "resourceVersion": "100", "annotations": {"k8s.io/initial-events-end": "true"}}}})
}

/// What the container runtime is to get.
pub fn conflist() -> Value {
    json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [{
        "type": "manx", "peersFile": "/var/lib/manx/peers.json", "ipMasq": true,
        "ipam": {"type": "manx-ipam", "ranges": [[{"subnet": "usePodCidr"}]]}}]})
}

/// A node that may run an agent.
pub struct Ground {
    pub host: Host,
    pub outside: Netns,
}

/// An agent at work.
pub struct Agent {
    child: Child,
    /// Who traces it, and ends with it.
    tracer: Option<Child>,
    /// Tells it of what changes; the connection breaks when this goes.
    pub api: Option<Sender<Value>>,
}

/// What whoever installs the plugin notes of it: the newest form of the peers file that it reads.
pub fn note_plugin(root: &Path, peers: u32) {
    let note = root.join("run/manx/plugin.json");
    fs::create_dir_all(note.parent().unwrap()).unwrap();
    let text = json!({"version": env!("CARGO_PKG_VERSION"), "schemas": {"peers": peers}});
    fs::write(note, text.to_string()).unwrap();
}

impl Ground {
    pub fn new() -> Self {
        let (host, outside) = Host::with_uplink();
        let ground = Self { host, outside };
        note_plugin(ground.host.scratch().path(), 3);
        let config = json!({"fabric": {"mode": "direct"}, "conflist": conflist()});
        ground.host.scratch().file("agent.json", config.to_string());
        ground
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.host.scratch().path().join(name)
    }

    /// An API server of these nodes, with who tells it of changes.
    pub fn api(&self, nodes: &[Value]) -> (Server, Sender<Value>) {
        let (sender, rest) = channel();
        let events = nodes.iter().map(|node| event("ADDED", node.clone())).chain([end_of_list()]);
        let list = Answer::live(&events.collect::<Vec<_>>(), rest);
        (self.host.enter(|| Server::start(vec![list])), sender)
    }

    /// An API server that lists these nodes to one who asks, and those to the next.
    pub fn apis(&self, lists: &[&[Value]]) -> (Server, Vec<Sender<Value>>) {
        let mut senders = Vec::new();
        let answers = lists.iter().map(|nodes| {
            let (sender, rest) = channel();
            senders.push(sender);
            let events = nodes.iter().map(|node| event("ADDED", node.clone()));
            Answer::live(&events.chain([end_of_list()]).collect::<Vec<_>>(), rest)
        });
        let answers: Vec<Answer> = answers.collect();
        (self.host.enter(|| Server::start(answers)), senders)
    }

    /// Starts one that has no configuration of its own, and its root from the environment.
    pub fn bare_agent(&self, url: &str, options: &[&str]) -> Agent {
        let mut command = Command::new(program());
        let (config, root) = ("--config=", "--root=");
        let arguments = self.arguments(url).into_iter();
        let arguments = arguments.filter(|one| !one.starts_with(config) && !one.starts_with(root));
        command.args(arguments).args(options).env("MANX_ROOT", self.host.scratch().path());
        self.start(command)
    }

    /// Starts an agent that knows this API server.
    pub fn agent(&self, url: &str, options: &[&str]) -> Agent {
        let mut command = Command::new(program());
        command.args(self.arguments(url)).args(options);
        self.start(command)
    }

    pub fn arguments(&self, url: &str) -> Vec<String> {
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": url}}], "users": [],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": ""}}]});
        let kubeconfig = self.host.scratch().file("kubeconfig", kubeconfig.to_string());
        let config = self.path("agent.json");
        let root = self.host.scratch().path();
        [("config", config.as_path()), ("kubeconfig", &kubeconfig), ("root", root)]
            .into_iter()
            .map(|(name, path)| format!("--{name}={}", path.display()))
            .chain(["--node=node-1".to_owned()])
            .collect()
    }

    pub fn start(&self, mut command: Command) -> Agent {
        let log = File::create(self.path("log")).unwrap();
        let child = self.host.enter(|| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
        });
        Agent { child, tracer: None, api: None }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The plugin with the configuration that was put in place.
    pub fn plugin(&self, root: &str) -> Plugin {
        let bytes = fs::read(self.path(CONFLIST)).unwrap();
        let conflist: Value = serde_json::from_slice(&bytes).unwrap();
        let mut conf = conflist["plugins"][0].clone();
        conf["name"] = conflist["name"].clone();
        conf["cniVersion"] = conflist["cniVersion"].clone();
        Plugin::new(&self.host, MANX).config(conf).env("MANX_ROOT", root)
    }

    /// What the kernel has of the routes to other nodes' pods.
    pub fn routes(&self) -> Vec<String> {
        let routes = self.host.routes("-4").into_iter();
        let pods = routes.filter_map(|route| Some(route["dst"].as_str()?.to_owned()));
        let mut pods: Vec<String> = pods.filter(|dst| dst.starts_with("10.244.")).collect();
        pods.sort();
        pods
    }

    /// Waits for exactly those of these nodes.
    #[track_caller]
    pub fn await_routes(&self, numbers: &[u32]) {
        let expected: Vec<String> =
            numbers.iter().map(|number| format!("10.244.{number}.0/24")).collect();
        self.await_networks(&expected);
    }

    /// Waits for exactly these, beside the pods of this node. The own podCIDR's is a blackhole.
    #[track_caller]
    pub fn await_networks<T: AsRef<str>>(&self, expected: &[T]) {
        let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
        let held = || {
            let mut held = self.routes();
            held.retain(|dst| dst.contains('/'));
            held
        };
        let came = eventually(DEADLINE, || held() == expected);
        assert!(came, "{:?}, not {expected:?}: {}", self.routes(), self.log());
    }

    /// Waits for a route to this network.
    #[track_caller]
    pub fn await_route(&self, network: &str) {
        let there = || self.host.routes("-4").iter().any(|route| route["dst"] == network);
        assert!(eventually(DEADLINE, there), "{:?}: {}", self.host.routes("-4"), self.log());
    }

    #[track_caller]
    pub fn await_file(&self, name: &str) {
        let came = eventually(DEADLINE, || self.path(name).exists());
        assert!(came, "no {name}: {}", self.log());
    }

    #[track_caller]
    pub fn await_log(&self, words: &str) {
        let came = eventually(DEADLINE, || self.log().contains(words));
        assert!(came, "not said: {words}: {}", self.log());
    }

    pub fn manx(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(MANX);
        command.args(arguments).arg("--root").arg(self.host.scratch().path());
        self.host.enter(|| run(command, &Stdin::Null, DEADLINE))
    }
}

impl Agent {
    /// Tells it of a change.
    pub fn tell(&self, kind: &str, object: Value) {
        self.api.as_ref().unwrap().send(event(kind, object)).unwrap();
    }

    /// Sends a signal, and waits for the end; its exit status.
    pub fn end(mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.child.wait().unwrap().code()
    }

    /// Waits for an end that comes by itself; false if it does not.
    fn ends(&mut self) -> bool {
        eventually(DEADLINE, || self.child.try_wait().unwrap().is_some())
    }

    /// Waits for its end; false if that does not come, or comes by anything but SIGKILL.
    pub fn is_killed(&mut self) -> bool {
        self.ends() && self.child.wait().unwrap().signal() == Some(Signal::SIGKILL as i32)
    }

    /// Has strace see what its thread of this name does from now on, with these options, which
    /// may have strace kill the agent at once.
    pub fn trace(&mut self, name: &str, options: &[String]) {
        let is_named = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|found| found.trim() == name)
        };
        let named = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
            tasks.flatten().find(is_named)
        };
        assert!(eventually(DEADLINE, || named().is_some()), "no thread {name}");
        let task = named().unwrap();
        let attach = format!("--attach={}", task.file_name().display());
        self.tracer = Some(Command::new("strace").args(options).arg(attach).spawn().unwrap());
        let is_traced = || {
            let Ok(status) = fs::read_to_string(task.path().join("status")) else { return true };
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
            tracer.is_some_and(|pid| pid.trim() != "0")
        };
        assert!(eventually(DEADLINE, is_traced), "strace is not at work");
    }

    /// Memory of its own that is in use, and the most that it ever had with its program and
    /// libraries, in KiB.
    pub fn memory_kib(&self) -> [u64; 2] {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        ["RssAnon:", "VmHWM:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        })
    }

    /// How long its threads have run, and how long they waited for a processor, in ms.
    pub fn processor_ms(&self) -> [f64; 2] {
        let mut sum = [0.0; 2];
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap().flatten() {
            // A thread that has ended meanwhile has nothing to tell.
            let told = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            for (sum, nanoseconds) in sum.iter_mut().zip(told.split_whitespace()) {
                *sum += nanoseconds.parse::<f64>().unwrap() / 1e6;
            }
        }
        sum
    }

    fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
        self.tracer.iter_mut().for_each(|tracer| drop(tracer.wait()));
    }
}
