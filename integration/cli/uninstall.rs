// SPDX-License-Identifier: Apache-2.0
//! What `manx uninstall` leaves of a node that `manx install` and pods were on: what was
//! there before.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::MANX;
use crate::harness::{DEADLINE, Finished, Host, Netns, Plugin, Pod, Stdin, run};

/// Directories that others have as well, and that stay.
const SHARED: [&str; 10] = [
    "opt/cni/bin",
    "etc/cni/net.d",
    "etc/manx",
    "etc/systemd/network",
    "etc/systemd/networkd.conf.d",
    "etc/systemd/system",
    "etc/iproute2/rt_protos.d",
    "etc/NetworkManager/conf.d",
    "etc/sysctl.d",
    "var/lib/cni/networks",
];

/// What every installed copy of this program has in it.
const MARK: &str = "manx: a CNI plugin that gives each pod a routed veth (installed copy)";

/// A node with a way out, and what a distribution has there.
struct Bare {
    host: Host,
    _outside: Netns,
    root: PathBuf,
}

impl Bare {
    fn new() -> Self {
        let (host, outside) = Host::with_uplink();
        for directory in SHARED {
            host.scratch().dir(&format!("root/{directory}"));
        }
        let root = host.scratch().dir("root");
        let peers = json!({"version": 1, "self": "node-a", "nodes": [
            {"name": "node-a", "addresses": ["192.0.2.11", "2001:db8::11"],
             "podCIDRs": ["10.9.0.0/24", "fd00:9::/64"]},
            {"name": "node-b", "addresses": ["192.0.2.12", "2001:db8::12"],
             "podCIDRs": ["10.9.1.0/24", "fd00:9:1::/64"]},
        ]});
        let bare = Self { host, _outside: outside, root };
        bare.write("etc/manx/peers.json", &peers.to_string());
        bare.write("etc/sysctl.d/99-mine.conf", "net.ipv4.ip_forward = 1\n");
        bare
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(MANX);
        command.args(arguments).arg("--root").arg(&self.root);
        command
    }

    fn manx(&self, arguments: &[&str]) -> Finished {
        self.host.enter(|| run(self.command(arguments), &Stdin::Null, DEADLINE))
    }

    /// A network with tunnels, masquerade and policies.
    fn conflist(&self) -> PathBuf {
        let list = json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{
            "type": "manx", "mode": "vxlan", "peersFile": "/etc/manx/peers.json", "ipMasq": true,
            "hostPrefix": "pod",
            "ipam": {"type": "manx-ipam",
                     "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd00:9::/64"}]]},
        }]});
        self.host.scratch().file("10-net.conflist", list.to_string())
    }

    fn plugin(&self) -> Plugin {
        let list: Value = serde_json::from_slice(&fs::read(self.conflist()).unwrap()).unwrap();
        let mut conf = list["plugins"][0].clone();
        conf["name"] = list["name"].clone();
        conf["cniVersion"] = list["cniVersion"].clone();
        Plugin::new(&self.host, MANX).config(conf)
    }

    /// Brings up all that the plugin makes, but for a pod: one that was there has left a
    /// lease.
    fn use_it(&self) {
        self.manx(&["apply"]).ok();
        let world = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"kind": "Pod", "metadata": {"namespace": "x", "name": "a", "labels": {"app": "a"}},
             "spec": {"nodeName": "node-a"},
             "status": {"podIP": "10.9.0.99", "podIPs": [{"ip": "10.9.0.99"}]}},
            {"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": "closed"},
             "spec": {"podSelector": {}}},
        ]});
        let world = self.host.scratch().file("world.json", world.to_string());
        self.manx(&["policy", "apply", world.to_str().unwrap(), "--node", "node-a"]).ok();
        let pod = Pod::new("dead").kubernetes("x", "dead");
        self.plugin().add(&pod).ok();
        self.cut(&pod);
    }

    /// Takes a pod's link away, as a node that crashes does, with no DEL.
    fn cut(&self, pod: &Pod) {
        pod.netns.command("ip", &["link", "delete", &pod.ifname]).ok();
    }

    /// All files and links below the root with what they hold, and directories that are not
    /// shared.
    fn tree(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut directories = vec![self.root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap().flatten() {
                let path = entry.path();
                let name = path.strip_prefix(&self.root).unwrap().display().to_string();
                let kind = entry.file_type().unwrap();
                let held = if kind.is_symlink() {
                    fs::read_link(&path).unwrap().display().to_string()
                } else if kind.is_dir() {
                    directories.push(path);
                    if is_shared(&name) {
                        continue;
                    }
                    String::new()
                } else {
                    let bytes = fs::read(&path).unwrap();
                    format!("{} bytes, {:x}", bytes.len(), digest(&bytes))
                };
                found.insert(name, held);
            }
        }
        found
    }

    /// The files below a directory of the root, with their texts.
    fn files(&self, below: &str) -> BTreeMap<String, String> {
        let found = self.tree().into_keys().filter(|name| name.starts_with(below));
        let texts = found.filter_map(|name| {
            let text = fs::read_to_string(self.root.join(&name)).ok()?;
            Some((name, text))
        });
        texts.collect()
    }

    /// What the kernel has of links, addresses, routes, rules, neighbours and tables.
    fn kernel(&self) -> Vec<String> {
        let mut state = self.host.links();
        for arguments in [
            &["-o", "address", "show", "scope", "global"][..],
            &["-N", "-4", "route", "show"],
            &["-N", "-6", "route", "show"],
            &["-4", "rule", "show"],
            &["-6", "rule", "show"],
            &["neighbour", "show", "nud", "permanent"],
        ] {
            let said = self.host.command("ip", arguments).ok();
            // The kernel's own, of which some come by and by.
            let lines = said.lines().filter(|line| !line.contains("proto 2 "));
            state.extend(lines.map(|line| line.trim().to_owned()));
        }
        state.push(self.host.command("nft", &["list", "ruleset"]).ok());
        let forwarding = self.host.command("bridge", &["fdb", "show"]).ok();
        state.extend(forwarding.lines().filter(|line| line.contains(" dst ")).map(str::to_owned));
        state
    }
}

/// What was said, each line once.
fn lines(said: &str) -> BTreeSet<&str> {
    said.lines().collect()
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Whether a directory is shared, or leads to one that is.
fn is_shared(name: &str) -> bool {
    SHARED.iter().any(|shared| Path::new(shared).starts_with(name)) || name == "run"
}

#[test]
fn a_node_is_afterwards_as_it_was_before() {
    let node = Bare::new();
    let before = (node.tree(), node.kernel());
    let conf = node.conflist();
    node.manx(&["install", "--units", "--conf", conf.to_str().unwrap()]).ok();
    node.use_it();
    let used = (node.tree(), node.kernel());
    assert!(used.1.iter().any(|link| link == "vxlan.calico"), "{:?}", used.1);
    for table in ["manx-net", "manx.fabric-109", "manx.policy"] {
        assert!(used.1.iter().any(|text| text.contains(&format!("inet {table} "))), "{table}");
    }
    let dry = node.manx(&["uninstall", "--dry-run"]).ok();
    assert!(dry.contains("/opt/cni/bin/manx: would be removed"), "{dry}");
    assert!(dry.contains("- route 10.9.1.0/24") && !dry.contains(": removed"), "{dry}");
    assert_eq!(lines(&dry).len(), dry.lines().count(), "no line twice: {dry}");
    // The note of the dead pod is there still, and what its link was is gone by itself.
    assert_eq!(node.kernel(), used.1);
    assert_eq!(node.tree().keys().collect::<Vec<_>>(), used.0.keys().collect::<Vec<_>>());

    let said = node.manx(&["uninstall"]).ok();
    assert_eq!(lines(&said).len(), said.lines().count(), "no line twice: {said}");
    // What it would do is what it does; a daemon is told only of what is done.
    let done = said.lines().filter(|line| !line.starts_with("to take effect: "));
    let done = done.collect::<Vec<_>>().join("\n").replace(": removed", ": would be removed");
    assert_eq!(lines(&dry), lines(&done));
    for line in [
        "attachment eth0 of x/dead in network net: removed",
        "- nftables table manx-net",
        "- nftables table manx.policy",
        "10-net.conflist: removed",
        "/etc/systemd/network/10-manx.network: removed",
        "/etc/systemd/system/manx-watch.service: removed",
        "/etc/iproute2/rt_protos.d/manx.conf: removed",
        "to take effect: systemctl try-restart systemd-networkd",
        "to take effect: systemctl daemon-reload",
        "/etc/manx/peers.json: kept, it is the operator's",
        "/run/manx: removed",
        "/opt/cni/bin/manx-ipam: removed",
        "/opt/cni/bin/manx: removed",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.trim_end().ends_with("/opt/cni/bin/manx: removed"), "{said}");
    assert_eq!((node.tree(), node.kernel()), before);
    let again = node.manx(&["uninstall"]).ok();
    assert!(again.ends_with("nothing of manx is on this node\n"), "{again}");
    assert_eq!((node.tree(), node.kernel()), before);
}

#[test]
fn pods_that_are_attached_are_cut_off_by_force_alone() {
    let node = Bare::new();
    let before = (node.tree(), node.kernel());
    let conf = node.conflist();
    node.manx(&["install", "--conf", conf.to_str().unwrap()]).ok();
    let pods: Vec<Pod> = ["a", "b", "c", "d"]
        .map(|name| Pod::new(name).kubernetes("default", name))
        .into_iter()
        .inspect(|pod| drop(node.plugin().add(pod).ok()))
        .collect();
    let used = (node.tree(), node.kernel());
    let refused = node.manx(&["uninstall"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    for words in
        ["4 (default/a, default/b, default/c and 1 more)", "kubectl drain", "nothing was removed"]
    {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    }
    assert!(refused.stdout.is_empty(), "{refused:?}");
    assert_eq!((node.tree(), node.kernel()), used);
    let said = node.manx(&["uninstall", "--force"]).ok();
    assert!(said.contains("attachment eth0 of default/d in network net: removed"), "{said}");
    assert!(pods.iter().all(|pod| pod.netns.links().is_empty()));
    assert_eq!((node.tree(), node.kernel()), before);
}

/// A fabric is found by its marks where its configuration is gone.
#[test]
fn what_lost_its_configuration_goes_as_well() {
    let node = Bare::new();
    let before = (node.tree(), node.kernel());
    let conf = node.conflist();
    let text =
        fs::read_to_string(&conf).unwrap().replace("\"mode\"", "\"routeProtocol\":77,\"mode\"");
    fs::write(&conf, text).unwrap();
    node.manx(&["install", "--conf", conf.to_str().unwrap()]).ok();
    node.use_it();
    fs::remove_file(node.root.join("etc/cni/net.d/10-net.conflist")).unwrap();
    let said = node.manx(&["uninstall"]).ok();
    assert!(said.contains("- route 10.9.1.0/24"), "{said}");
    assert_eq!((node.tree(), node.kernel()), before);
}

#[test]
fn what_would_bring_it_back_has_to_go_first() {
    let node = Bare::new();
    let list = json!({"cniVersion": "1.1.0", "name": "lan", "plugins": [
        {"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "manx"}]});
    let chained = node.write("etc/cni/net.d/20-chained.conflist", &list.to_string());
    let list = json!({"cniVersion": "1.1.0", "name": "other", "plugins": [
        {"type": "macvlan", "ipam": {"type": "manx-ipam"}}]});
    let served = node.write("etc/cni/net.d/30-other.conflist", &list.to_string());
    let wants = node.root.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    let unit = wants.join("manx-watch.service");
    symlink("/etc/systemd/system/manx-watch.service", &unit).unwrap();
    fs::create_dir_all(node.root.join("sys/fs/cgroup/system.slice/manx-apply.service")).unwrap();
    node.write("opt/cni/bin/manx", MARK);
    let before = node.tree();
    let refused = node.manx(&["uninstall"]);
    assert_eq!((refused.status, refused.stdout.as_str()), (1, ""), "{refused:?}");
    for words in [
        "20-chained.conflist: manx is behind another plugin",
        "30-other.conflist: its addresses come from manx-ipam",
        "systemctl disable --now manx-watch.service manx-apply.service",
        "nothing was removed",
    ] {
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
    }
    // Whatever is forced, a service that runs would make it again.
    let refused = node.manx(&["uninstall", "--force"]);
    assert!(refused.status == 1 && refused.stderr.contains("disable --now"), "{refused:?}");
    assert_eq!(node.tree(), before);
    fs::remove_file(&unit).unwrap();
    fs::remove_dir_all(node.root.join("sys")).unwrap();
    node.manx(&["uninstall", "--force"]).ok();
    assert!(!chained.exists() && served.exists());
    assert!(!node.root.join("opt/cni/bin/manx").exists());
}

#[test]
fn what_somebody_else_wrote_stays() {
    let node = Bare::new();
    node.manx(&["install"]).ok();
    let edited = node.root.join("etc/systemd/network/10-manx.link");
    fs::write(&edited, [&*fs::read(&edited).unwrap(), b"# mine\n"].concat()).unwrap();
    // Calico's own, with its configuration.
    let calico = node.write("opt/cni/bin/calico", "not ours");
    let list = json!({"cniVersion": "1.0.0", "name": "k8s", "plugins": [{"type": "calico",
        "ipam": {"type": "calico-ipam"}}]});
    let conflist = node.write("etc/cni/net.d/10-calico.conflist", &list.to_string());
    let cut_off = node.write("etc/cni/net.d/15-half.conflist", "{\"name\": ");
    let said = node.manx(&["uninstall", "--keep-conf"]).ok();
    assert!(said.contains("10-manx.conflist: kept, as asked for"), "{said}");
    assert!(said.contains("10-manx.link: kept, somebody has edited it; --force"), "{said}");
    assert!(node.root.join("etc/cni/net.d/10-manx.conflist").exists() && edited.exists());
    assert!(!node.root.join("opt/cni/bin/manx").exists());
    node.manx(&["uninstall", "--force"]).ok();
    assert!(!edited.exists() && !node.root.join("etc/cni/net.d/10-manx.conflist").exists());
    assert!(calico.exists() && conflist.exists() && cut_off.exists());
    // A copy of ours under Calico's name is another matter.
    fs::write(&calico, MARK).unwrap();
    let said = node.manx(&["uninstall"]).ok();
    assert!(said.contains("10-calico.conflist: removed"), "{said}");
    assert!(said.ends_with("/opt/cni/bin/calico: removed\n"), "{said}");
    assert!(!calico.exists() && !conflist.exists() && cut_off.exists());
}

/// Runs it, killed as it enters the system call `name` for the `count`th time. True if it was.
fn killed(node: &Bare, name: &str, count: usize) -> bool {
    let inject = format!("inject={name}:signal=KILL:when={count}");
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={name}"), "-e", &inject]);
    let plain = node.command(&["uninstall"]);
    command.arg(plain.get_program()).args(plain.get_args());
    let finished = node.host.enter(|| run(command, &Stdin::Null, DEADLINE));
    assert!([0, 137].contains(&finished.status), "{finished:?}");
    finished.status == 137
}

#[test]
fn one_that_was_killed_is_finished_by_the_next() {
    let node = Bare::new();
    let before = (node.tree(), node.kernel());
    let conf = node.conflist();
    node.manx(&["install", "--units", "--conf", conf.to_str().unwrap()]).ok();
    let mut installed = node.files("etc");
    // As large as it is it takes its time, and what counts of it is the mark.
    installed.insert("opt/cni/bin/manx".to_owned(), MARK.into());
    node.manx(&["uninstall"]).ok();
    assert_eq!((node.tree(), node.kernel()), before);
    let install = || {
        installed.iter().for_each(|(path, text)| drop(node.write(path, text)));
        symlink("manx", node.root.join("opt/cni/bin/manx-ipam")).unwrap();
        node.use_it();
    };
    let mut kills = 0;
    for (name, step) in [("sendto", 4), ("/^unlink", 3), ("/^rmdir", 1), ("/^rename", 1)] {
        for count in (1..).step_by(step) {
            install();
            let done = !killed(&node, name, count);
            kills += usize::from(!done);
            let rest = node.manx(&["uninstall"]);
            assert_eq!(rest.status, 0, "after the kill at {name} {count}: {rest:?}");
            assert_eq!((node.tree(), node.kernel()), before, "after the kill at {name} {count}");
            if done {
                break;
            }
        }
    }
    println!("killed at {kills} points");
    assert!(kills > 20, "{kills}");
}
