// SPDX-License-Identifier: Apache-2.0
//! The pages of docs/ that an operator follows line by line: every command of theirs is run on a
//! node with the fault that its section is about, and prints what the page says.
//!
//! A command is an indented line that begins with a node's prompt, `node-a# `; the indented lines below
//! are what it prints. There `…` stands for any text within a line and, alone on a line, for any
//! lines. `MANX_PAGES=1` writes into the pages what the commands print now.

mod subjects;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::capture::TCPDUMP;
use crate::cluster::{Cluster, Families, MANX, Node, batch, entry};
use crate::doctor::besides_load;
use crate::harness::{DEADLINE, Finished, Netns, Pod, Stdin, connect, eventually, plugin_dir, run};

/// Makes the fault of a section, by its heading.
type Faults = &'static [(&'static str, fn(&Scene))];

/// Two nodes that reach each other through VXLAN, with a pod each.
pub struct Scene {
    cluster: Cluster,
    programs: PathBuf,
    /// One on each node: default/web and default/db.
    pub pods: Vec<Pod>,
    going_on: RefCell<Vec<Child>>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in self.going_on.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Scene {
    pub fn new() -> Self {
        let keys = json!({"mode": "vxlan", "ipMasq": true, "ipam": {
            "type": "manx-ipam", "ranges": [[{"subnet": "usePodCidr"}]]
        }});
        let cluster = Cluster::new(2, Families::Ipv4, &keys);
        cluster.apply();
        let scratch = cluster.nodes[0].host.scratch();
        let programs = scratch.dir("programs");
        std::os::unix::fs::symlink(MANX, programs.join("manx")).unwrap();
        let pods = cluster.nodes.iter().zip(["web", "db"]).map(|(node, name)| {
            let pod = Pod::new(name).kubernetes("default", name);
            node.plugin.add(&pod).ok();
            pod
        });
        let pods = pods.collect();
        let scene = Self { cluster, programs, pods, going_on: RefCell::default() };
        for node in &scene.cluster.nodes {
            scene.configure(node, &node.plugin.conf);
        }
        scene
    }

    /// Puts a configuration where runtimes look for it.
    pub fn configure(&self, node: &Node, plugin: &Value) {
        let mut plugin = plugin.clone();
        let (name, version) = (plugin["name"].take(), plugin["cniVersion"].take());
        let plugin = plugin.as_object().unwrap().iter().filter(|(_, value)| !value.is_null());
        let plugin: serde_json::Map<String, Value> =
            plugin.map(|(key, value)| (key.clone(), value.clone())).collect();
        let list = json!({"cniVersion": version, "name": name, "plugins": [plugin]});
        let scratch = node.host.scratch();
        scratch.dir("root/etc/cni/net.d");
        scratch.file("root/etc/cni/net.d/10-manx.conflist", format!("{list:#}\n"));
    }

    pub fn a(&self) -> &Node {
        &self.cluster.nodes[0]
    }

    pub fn b(&self) -> &Node {
        &self.cluster.nodes[1]
    }

    /// Runs a line of shell on a node, as its administrator does.
    pub fn shell(&self, node: &Node, line: &str) -> Finished {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(self.programs.clone()).chain(std::env::split_paths(&path));
        let mut command = Command::new("sh");
        command.args(["-c", line]).env("PATH", std::env::join_paths(all).unwrap());
        let scratch = node.host.scratch();
        let plugins = std::env::join_paths([plugin_dir(), self.programs.clone()]).unwrap();
        command.env("MANX_ROOT", scratch.dir("root")).env("CNI_PATH", plugins);
        command.env("XTABLES_LOCKFILE", scratch.path().join("xtables.lock"));
        command.current_dir(scratch.path());
        node.host.enter(|| run(command, &Stdin::Null, DEADLINE))
    }

    /// The same for what has to succeed.
    #[track_caller]
    pub fn breaks(&self, node: &Node, line: &str) {
        let done = self.shell(node, line);
        assert_eq!(done.status, 0, "{line}: {done:?}");
    }

    /// Starts what goes on as long as the scene.
    fn goes_on(&self, netns: &Netns, words: &[&str]) {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        self.going_on.borrow_mut().push(netns.enter(|| command.spawn().unwrap()));
    }

    /// What a line prints, as one sees it: without the directory that stands for the node's root.
    pub fn prints(&self, node: &Node, line: &str) -> Vec<String> {
        let done = besides_load(|| self.shell(node, line));
        let root = node.host.scratch().path().join("root").display().to_string();
        let text = format!("{}{}", done.stdout, done.stderr).replace(&root, "");
        text.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

/// A command of a page and where what it prints is told.
struct Step {
    node: usize,
    command: String,
    told: std::ops::Range<usize>,
}

/// A heading with what is below it, up to the next one.
struct Section {
    heading: String,
    steps: Vec<Step>,
}

fn sections(lines: &[String]) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        if let Some(heading) = line.strip_prefix("## ") {
            sections.push(Section { heading: heading.to_owned(), steps: Vec::new() });
        }
        let Some((name, command)) = prompt(line) else { continue };
        let section = sections.last_mut().expect("a command is below a heading");
        let is_printed = |line: &&String| line.starts_with("    ") && prompt(line).is_none();
        let printed = lines[at..].iter().take_while(is_printed).count();
        let node = usize::from(name == "node-b");
        section.steps.push(Step { node, command: command.to_owned(), told: at..at + printed });
        at += printed;
    }
    sections
}

fn prompt(line: &str) -> Option<(&str, &str)> {
    let (name, command) = line.strip_prefix("    ")?.split_once("# ")?;
    ["node-a", "node-b"].contains(&name).then_some((name, command))
}

/// Whether these lines are what was told.
fn is_as_told(told: &[&str], lines: &[String]) -> bool {
    match (told, lines) {
        ([], []) => true,
        (["…", rest @ ..], _) => {
            (0..=lines.len()).any(|skipped| is_as_told(rest, &lines[skipped..]))
        }
        ([first, rest @ ..], [line, others @ ..]) => fits(first, line) && is_as_told(rest, others),
        _ => false,
    }
}

fn fits(told: &str, line: &str) -> bool {
    let Some((before, after)) = told.split_once('…') else { return told == line };
    let Some(rest) = line.strip_prefix(before) else { return false };
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| fits(after, &rest[at..]))
}

/// Runs every command of a page.
fn follow(page: &str, faults: Faults) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (mut wrong, mut new) = (Vec::new(), Vec::new());
    let sections = sections(&lines);
    for (heading, _) in faults {
        let is_there = sections.iter().any(|one| one.heading == *heading && !one.steps.is_empty());
        assert!(is_there, "{page} has no section {heading:?} with a command");
    }
    for Section { heading, steps } in sections.iter().filter(|one| !one.steps.is_empty()) {
        let fault = faults.iter().find(|(of, _)| of == heading);
        let (_, fault) = fault.unwrap_or_else(|| panic!("{page}: {heading}: what is its fault?"));
        let scene = Scene::new();
        fault(&scene);
        for Step { node, command, told } in steps {
            let printed = scene.prints(&scene.cluster.nodes[*node], command);
            let expected: Vec<&str> = lines[told.clone()].iter().map(|line| &line[4..]).collect();
            if !is_as_told(&expected, &printed) {
                wrong.push(format!("{heading}: {command} prints:\n{}", printed.join("\n")));
                new.push((told.clone(), printed));
            }
        }
    }
    if std::env::var_os("MANX_PAGES").is_some() {
        for (told, printed) in new.into_iter().rev() {
            lines.splice(told, printed.into_iter().map(|line| format!("    {line}")));
        }
        return fs::write(path, lines.join("\n") + "\n").unwrap();
    }
    assert!(wrong.is_empty(), "{page}: {}", wrong.join("\n\n"));
}

#[test]
fn what_is_told_of_a_line_is_compared_with_it() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    for (told, printed, expected) in [
        (&["a", "b"][..], "a\nb", true),
        (&["a"], "a\nb", false),
        (&["a", "…"], "a\nb\nc", true),
        (&["…", "c"], "a\nb\nc", true),
        (&["…", "c"], "a\nb", false),
        (&["rtt … ms"], "rtt 0.1 ms", true),
        (&["rtt … ms"], "rtt 0.1 s", false),
        (&["… to …, done"], "1 to 2, done", true),
        (&["a…"], "a", true),
    ] {
        assert_eq!(is_as_told(told, &lines(printed)), expected, "{told:?}: {printed:?}");
    }
}

#[test]
fn the_commands_of_troubleshooting_print_what_it_says() {
    follow("troubleshooting.md", TROUBLES);
}

#[test]
fn the_commands_of_the_checklist_print_what_it_says() {
    follow("checklist.md", CHECKS);
}

#[test]
fn the_commands_of_debugging_print_what_it_says() {
    follow("debugging.md", DEBUGGING);
}

/// The pod of the first node asks that of the other as long as the scene is.
fn pings(scene: &Scene) {
    scene.a().host.scratch().script("programs/tcpdump", TCPDUMP);
    scene.goes_on(&scene.pods[0].netns, &["ping", "-q", "-i", "0.1", "10.244.2.2"]);
}

const DEBUGGING: Faults = &[
    ("One packet, at every place it passes", pings),
    ("Where it ends", |scene| {
        pings(scene);
        scene.breaks(
            scene.a(),
            "nft 'add table inet host; add chain inet host out { type filter hook output priority 0; }; \
             add rule inet host out udp dport 4789 drop'",
        );
    }),
    ("A tool in the pod's network", |scene| {
        // The kernel gives it after the pod has been attached.
        let own = || scene.shell(scene.a(), "manx exec default/web -- ip -6 address show dev eth0");
        assert!(eventually(DEADLINE, || own().stdout.contains("fe80:")), "{:?}", own());
    }),
    ("Names as the pod finds them", |scene| {
        let text = "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local \
                    cluster.local\noptions ndots:5\n";
        let file = scene.a().host.scratch().file("resolv.conf", text);
        let mount = format!("mount --bind {} /etc/resolv.conf && exec sleep 1000", file.display());
        scene.goes_on(&scene.pods[0].netns, &["unshare", "--mount", "sh", "-c", &mount]);
        let runs = || scene.shell(scene.a(), "manx exec --dns default/web true").status == 0;
        assert!(eventually(DEADLINE, runs), "no container");
    }),
];

const TROUBLES: Faults = &[
    ("Start here", |_| {}),
    ("No pod reaches anything outside its node", |scene| {
        scene.breaks(scene.a(), "sysctl -qw net.ipv4.ip_forward=0");
    }),
    ("No pod reaches anything outside its node, and forwarding is on", |scene| {
        scene.breaks(scene.a(), "iptables -P FORWARD DROP");
    }),
    ("The pods of one other node do not answer", |scene| {
        scene.breaks(scene.a(), "ip route del 10.244.2.0/24");
    }),
    ("The pods of another node stopped answering after an installation or a change", |scene| {
        scene.breaks(scene.a(), "ip route add 10.244.2.0/25 via 192.0.2.1");
    }),
    ("A new node is not reached, or one that left still is", |scene| {
        scene.b().set_peers(&[entry(1, Families::Ipv4), entry(2, Families::Ipv4)]);
        scene.a().set_peers(&[
            entry(1, Families::Ipv4),
            entry(2, Families::Ipv4),
            entry(3, Families::Ipv4),
        ]);
    }),
    ("Nothing has come from the other nodes since this one got another address", |scene| {
        scene.breaks(
            scene.a(),
            "ip address add 192.0.2.77/24 dev eth0 && ip address del 192.0.2.11/24 dev eth0",
        );
    }),
    ("New pods stay in ContainerCreating", |scene| {
        let leases = scene.a().host.scratch().path().join("root/var/lib/cni/networks/net");
        for last in 2..255 {
            let lease = leases.join(format!("10.244.1.{last}"));
            if !lease.exists() {
                fs::write(lease, format!("gone-{last}\r\neth0")).unwrap();
            }
        }
    }),
    ("Pods reach everything, and nobody reaches them", |scene| {
        scene.a().set_peers(&[entry(1, Families::Ipv4), entry(2, Families::Ipv4)]);
        let conf = scene.a().with(
            "ipam",
            json!({
                "type": "manx-ipam", "ranges": [[{"subnet": "10.245.1.0/24"}]]
            }),
        );
        scene.configure(scene.a(), &conf.plugin.conf);
    }),
    ("Packets come in, and no answer leaves", |scene| {
        let (host, router) = (&scene.a().host, &scene.cluster.router);
        connect((host, "eth1", &["203.0.113.2/24"]), (router, "second", &["203.0.113.1/24"]));
        scene.breaks(scene.a(), "sysctl -qw net.ipv4.conf.eth0.rp_filter=1");
        // A question for the address would be dropped as well.
        let mac = host.link("eth0").unwrap()["address"].as_str().unwrap().to_owned();
        let neighbour = format!("neighbour replace 192.0.2.11 lladdr {mac} dev subnet1");
        batch(router, &format!("{neighbour}\naddress add 203.0.113.5/32 dev lo"));
        scene.goes_on(router, &["ping", "-q", "-i", "0.02", "-I", "203.0.113.5", "192.0.2.11"]);
    }),
    ("Connections are made, and hang with the first large answer", |scene| {
        // As a switch does: what is too large for a port is gone, and nobody is told.
        batch(&scene.cluster.router, "link set to-b mtu 1400");
    }),
    ("Nodes reach each other, and their pods do not", |scene| {
        scene.breaks(
            scene.b(),
            "nft 'add table inet cloud; add chain inet cloud in { type filter hook prerouting \
             priority -300; }; add rule inet cloud in udp dport 4789 drop'",
        );
    }),
    ("One node is not reached at all", |scene| {
        batch(&scene.cluster.router, "link set to-b down");
    }),
    ("What happens to one packet", |_| {}),
    ("Somebody else is to look", |_| {}),
];

const CHECKS: Faults = &[
    ("1. The pool is the node's own, and not full", |_| {}),
    ("2. The MTU leaves room for the encapsulation", |_| {}),
    ("3. The kernel's parameters", |_| {}),
    ("4. Rules that a packet walks", |_| {}),
    ("5. The right interface", pings),
    ("6. The machine itself", |_| {}),
];
