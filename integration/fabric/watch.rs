// SPDX-License-Identifier: Apache-2.0
//! `manx apply --watch` repairs what others change, at once.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, SOON, batch, default_routes, entry};
use crate::harness::{Pod, eventually};

/// A watch that ends with the test.
pub struct Watch<'a> {
    node: &'a Node,
    child: Child,
}

impl<'a> Watch<'a> {
    /// Starts it, and waits until it has brought the fabric up.
    #[track_caller]
    pub fn start(node: &'a Node) -> Self {
        let watch = Self::spawn(node, None);
        assert!(eventually(SOON, || node.plan().status == 0), "{}", watch.log());
        watch
    }

    /// Starts it, with its stdout going elsewhere than to the log.
    pub fn spawn(node: &'a Node, stdout: Option<File>) -> Self {
        Self::of(node, node.command(&["apply", "--watch"]), stdout)
    }

    /// Starts this command.
    pub fn of(node: &'a Node, mut command: Command, stdout: Option<File>) -> Self {
        let log = File::create(node.host.scratch().path().join("watch")).unwrap();
        let stdout = stdout.unwrap_or_else(|| log.try_clone().unwrap());
        let child = node
            .host
            .enter(|| command.stdin(Stdio::null()).stdout(stdout).stderr(log).spawn().unwrap());
        Self { node, child }
    }

    /// Whether it has a file open now.
    pub fn has_open(&self, file: &Path) -> bool {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        open.flatten().any(|one| std::fs::read_link(one.path()).is_ok_and(|link| link == file))
    }

    /// How many bytes it has read from files, the peers file at each pass.
    fn bytes_read(&self) -> u64 {
        let counts = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        let count = counts.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        count.parse().unwrap()
    }

    /// Waits until it makes no more passes, and tells how many bytes it has read.
    #[track_caller]
    pub fn comes_to_rest(&self) -> u64 {
        const REST: Duration = Duration::from_millis(300);
        let (mut count, mut since) = (self.bytes_read(), Instant::now());
        let rests = eventually(SOON, || {
            let now = self.bytes_read();
            if now != count {
                (count, since) = (now, Instant::now());
            }
            since.elapsed() >= REST
        });
        assert!(rests, "it wakes itself: {}", self.log());
        count
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.node.host.scratch().path().join("watch")).unwrap()
    }

    /// Breaks something by `ip`, and waits until the node's state is again what it was. On an idle
    /// machine it takes some ten milliseconds, which is told; but how fast it must be depends on what
    /// else the machine does, so that all that is asserted is that an event brought it and not the
    /// pass of each minute. The delays themselves are units of `cli/fabric/pace.rs`.
    #[track_caller]
    pub fn repairs(&self, what: &str, broken: impl FnOnce()) {
        let before = self.node.state();
        broken();
        self.restores(what, &before);
    }

    #[track_caller]
    fn restores(&self, what: &str, before: &[String]) {
        let begin = Instant::now();
        let restored = eventually(SOON, || self.node.state() == before);
        let took = begin.elapsed();
        assert!(restored, "{what}: {:#?}\n{}", self.node.state(), self.log());
        println!("{what}: repaired within {} ms", took.as_millis());
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes the uplink down and up, as an administrator or a cable does.
fn uplink_bounce(node: &Node) {
    batch(&node.host, "link set eth0 down");
    default_gone(node);
    batch(&node.host, "link set eth0 up");
    default_routes(&node.host, node.number);
}

fn default_gone(node: &Node) {
    let said = node.host.command("ip", &["-4", "route", "show", "default"]).ok();
    assert_eq!(said, "", "the kernel takes the routes of a link that is down");
}

#[test]
fn an_uplink_that_was_down_is_repaired() {
    for (mode, cross_subnet) in [("direct", false), ("vxlan", false), ("vxlan", true)] {
        let keys = json!({"mode": mode, "crossSubnet": cross_subnet});
        let cluster = Cluster::new(3, Families::Dual, &keys);
        let node = &cluster.nodes[0];
        let watch = Watch::start(node);
        let before = node.state();
        for _ in 0..5 {
            watch.comes_to_rest();
            uplink_bounce(node);
            watch.restores(&format!("{mode}: an uplink was down and up"), &before);
        }
        node.assert_settled();
    }
}

#[test]
fn what_others_remove_is_repaired() {
    let keys = json!({"mode": "vxlan", "crossSubnet": true});
    let cluster = Cluster::new(3, Families::Dual, &keys);
    let node = &cluster.nodes[0];
    let watch = Watch::start(node);
    for (what, line) in [
        ("route", "route del 10.244.2.0/24"),
        ("IPv6 route", "route del fd00:244:3::/64"),
        ("route replaced", "route replace 10.244.3.0/24 via 192.0.2.1 proto 109"),
        ("blackhole", "route del blackhole 10.244.1.0/24"),
        ("all routes", "route flush proto 109"),
        ("neighbour", "neighbour flush dev vxlan.calico nud permanent"),
        ("tunnel address", "address flush dev vxlan.calico"),
        ("tunnel down", "link set vxlan.calico down"),
        ("tunnel's MTU", "link set vxlan.calico mtu 1300"),
        ("tunnel gone", "link del vxlan.calico"),
    ] {
        watch.repairs(what, || batch(&node.host, line));
    }
    let entries = node.host.command("bridge", &["fdb", "show", "dev", "vxlan.calico"]).ok();
    let mac = entries.split_whitespace().next().unwrap();
    watch.repairs("forwarding entry", || {
        node.host.command("bridge", &["fdb", "del", mac, "dev", "vxlan.calico"]).ok();
    });
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        node.host.set_sysctl(key, "0");
        let begin = Instant::now();
        assert!(eventually(SOON, || node.host.sysctl(key) == "1"), "{key}: {}", watch.log());
        println!("{key}: repaired within {} ms", begin.elapsed().as_millis());
    }
    node.assert_settled();
}

#[test]
fn what_a_pod_lost_is_repaired() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let pods = cluster.pods();
    let link = node.host.links().into_iter().find(|name| name.starts_with("cali")).unwrap();
    let watch = Watch::start(node);
    let line = format!("route del 10.244.1.2/32 dev {link}");
    watch.repairs("pod's route", || batch(&node.host, &line));
    watch.repairs("pod's link down", || batch(&node.host, &format!("link set {link} down")));
    // Whoever writes over its alias takes nothing of that away.
    let mark = node.host.link(&link).unwrap()["ifalias"].as_str().unwrap().to_owned();
    batch(&node.host, &format!("link set {link} alias rack-7"));
    watch.repairs("route of a pod without its mark", || batch(&node.host, &line));
    batch(&node.host, &format!("link set {link} alias \"{mark}\""));
    assert!(pods[1].netns.pings("10.244.1.2") && pods[1].netns.pings("fd00:244:1::2"));
    // By its group the rules of the network know it.
    let group = || node.host.link(&link).unwrap()["group"].clone();
    let before = group();
    batch(&node.host, &format!("link set {link} group 0"));
    assert!(eventually(SOON, || group() == before), "{}", watch.log());
    node.assert_settled();
}

/// The masquerade table, whatever of it is taken away. The watch rests before
/// and after, and no firewall of others wakes it.
#[test]
fn the_masquerade_table_is_repaired() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan", "ipMasq": true}));
    let node = &cluster.nodes[0];
    let _pod = node.attach("a");
    let watch = Watch::start(node);
    let nft = |line: &str| node.host.command("nft", &line.split(' ').collect::<Vec<_>>()).ok();
    // One by one: in the list of all, the one that was made first comes first.
    let list = |table: &str| node.host.command("nft", &["list", "table", "inet", table]).stdout;
    let rules = || ["manx.fabric-109", "manx-net"].map(list).concat();
    let before = rules();
    assert!(before.contains("masquerade"), "{before}");
    let repairs = |what: &str| {
        nft(what);
        let begin = Instant::now();
        assert!(eventually(SOON, || rules() == before), "{what}: {}\n{}", rules(), watch.log());
        println!("nft {what}: repaired within {} ms", begin.elapsed().as_millis());
    };
    for what in [
        "flush ruleset",
        "delete table inet manx-net",
        "flush table inet manx-net",
        "flush chain inet manx-net postrouting",
        "add rule inet manx-net postrouting accept",
    ] {
        repairs(what);
    }
    let undisturbed = eventually(SOON, || {
        let rested = watch.comes_to_rest();
        for _ in 0..10 {
            nft("add table inet foreign { chain c { type filter hook forward priority 0; }; }");
            nft("delete table inet foreign");
        }
        // Again, if the kernel told of something else meanwhile.
        watch.comes_to_rest() == rested
    });
    assert!(undisturbed, "tables of others wake it: {}", watch.log());
    repairs("flush table inet manx-net");
}

/// A pass without a watch does the same.
#[test]
fn the_table_of_the_tunnels_is_repaired() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let watch = Watch::start(node);
    let listed = || node.host.command("nft", &["list", "table", "inet", "manx.fabric-109"]).stdout;
    let before = listed();
    for change in ["delete table inet manx.fabric-109", "flush set inet manx.fabric-109 peers4"] {
        watch.comes_to_rest();
        node.host.command("nft", &[change]).ok();
        assert!(eventually(SOON, || listed() == before), "{change}: {}", watch.log());
    }
    watch.comes_to_rest();
}

#[test]
fn the_next_pass_repairs_as_well() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let _pod = node.attach("a");
    let before = node.state();
    let link = node.host.links().into_iter().find(|name| name.starts_with("cali")).unwrap();
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        node.host.set_sysctl(key, "0");
    }
    batch(
        &node.host,
        &format!("link set {link} down\nroute flush proto 109\nlink set vxlan.calico down"),
    );
    let plan = node.plan();
    assert!(plan.status == 3 && plan.stdout.contains("net/ipv4/ip_forward: 0 -> 1"), "{plan:?}");
    node.apply().ok();
    assert_eq!(node.state(), before);
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        assert_eq!(node.host.sysctl(key), "1", "{key}");
    }
    node.assert_settled();
}

#[test]
fn a_new_peers_file_is_followed_and_a_bad_one_is_not() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let all: Vec<Value> = (1..=3).map(|number| entry(number, Families::Ipv4)).collect();
    node.set_peers(&all[..2]);
    let watch = Watch::start(node);
    let two = node.state();
    node.set_peers(&all);
    let there = || node.state().iter().any(|line| line.contains("10.244.3.0/24"));
    assert!(eventually(SOON, there), "{}", watch.log());
    let three = node.state();
    node.write_peers("{");
    assert!(eventually(SOON, || watch.log().contains("EOF")), "{}", watch.log());
    assert_eq!(node.state(), three);
    // What was applied last is kept true all the same.
    watch.repairs("beside a bad file", || batch(&node.host, "route del 10.244.3.0/24"));
    node.set_peers(&all[..2]);
    assert!(eventually(SOON, || node.state() == two), "{}", watch.log());
}

/// A pod that is attached and removed under a watch is nothing to repair.
#[test]
fn a_watch_keeps_out_of_the_way_of_the_plugin() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let watch = Watch::start(node);
    let before = node.state();
    for round in 0..5 {
        let pods: Vec<Pod> = (0..4).map(|_| Pod::new("a")).collect();
        std::thread::scope(|scope| {
            for pod in &pods {
                scope.spawn(|| node.plugin.add(pod).ok());
            }
        });
        std::thread::scope(|scope| {
            for pod in &pods {
                scope.spawn(|| node.plugin.del(pod).ok());
            }
        });
        assert!(eventually(SOON, || node.state() == before), "{round}: {:#?}", node.state());
    }
    assert!(!watch.log().contains("manx: "), "{}", watch.log());
}

/// A node on which others have taken all instances of inotify.
/// The kernel tells each half minute of each neighbour to which packets go, on any link.
#[test]
fn neighbours_that_are_nobodys_wake_no_watch() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": mode}));
        let node = &cluster.nodes[0];
        let watch = Watch::start(node);
        let of = |address: &str, state: &str| {
            format!("neigh replace {address} lladdr 02:00:00:00:00:09 dev eth0 nud {state}\n")
        };
        let states = ["reachable", "stale", "reachable"].into_iter();
        let told: String = states
            .flat_map(|state| ["192.0.2.1", "192.0.2.12", "192.0.2.99"].map(|ip| of(ip, state)))
            .chain(["neigh del 192.0.2.99 dev eth0\n".to_owned()])
            .collect();
        // Again, if the kernel told of something else meanwhile.
        let slept = eventually(SOON, || {
            let before = watch.comes_to_rest();
            batch(&node.host, &told);
            watch.comes_to_rest() == before
        });
        assert!(slept, "{mode}: it makes passes; {}", watch.log());
    }
}

#[test]
fn a_watch_goes_on_without_inotify() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    let log = File::create(node.host.scratch().path().join("watch")).unwrap();
    let plain = node.command(&["apply", "--watch"]);
    let mut command = std::process::Command::new("strace");
    command.args(["-D", "-qq", "-f", "-o", "/dev/null", "-e", "trace=/^inotify_init"]);
    command.args(["-e", "inject=/^inotify_init:error=EMFILE"]);
    command.arg(plain.get_program()).args(plain.get_args());
    let child = node.host.enter(|| {
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    });
    let watch = Watch { node, child };
    assert!(eventually(SOON, || node.plan().status == 0), "{}", watch.log());
    let log = watch.log();
    assert!(log.contains("inotify") && log.contains("noticed after 60 s at most"), "{log}");
    // The kernel's events are enough to repair.
    let before = node.routes();
    let route = before.iter().find(|route| route.contains("via")).unwrap();
    let destination = route.split(' ').next().unwrap();
    node.host.command("ip", &["route", "del", destination]).ok();
    assert!(eventually(SOON, || node.routes() == before), "{}", watch.log());
}

/// What the kernel said of the others is known, and so is what they need.
#[test]
fn a_peer_that_changed_is_asked_about_alone() {
    for mode in ["direct", "vxlan"] {
        let cluster = Cluster::of(&[1], Families::Ipv4, &json!({"mode": mode}));
        let node = &cluster.nodes[0];
        let mut all: Vec<Value> = (1..=4).map(|number| entry(number, Families::Ipv4)).collect();
        node.set_peers(&all);
        let trace = node.host.scratch().path().join("trace");
        let mut command = Command::new("strace");
        command.args(["-D", "-qq", "-f", "-v", "-s", "64", "-e", "trace=sendto,sendmsg", "-o"]);
        let plain = node.command(&["apply", "--watch"]);
        command.arg(&trace).arg(plain.get_program()).args(plain.get_args());
        let watch = Watch::of(node, command, None);
        let applied = || node.plan().status == 0;
        assert!(eventually(SOON, applied), "{mode}: {}", watch.log());
        let (mut number, mut was) = (70, "192.0.2.12".to_owned());
        // Again, if the kernel told of something else meanwhile.
        let alone = eventually(SOON, || {
            number += 1;
            watch.comes_to_rest();
            let before = std::fs::read_to_string(&trace).unwrap().len();
            let address = format!("192.0.2.{number}");
            all[1]["addresses"] = json!([address]);
            node.set_peers(&all);
            let said = || node.state().join("\n");
            let has = || said().contains(&address) && !said().contains(&was);
            assert!(eventually(SOON, has), "{mode}: {}\n{}", said(), watch.log());
            watch.comes_to_rest();
            was = address;
            let text = std::fs::read_to_string(&trace).unwrap();
            let asked = |address: &str| {
                let asks = |line: &str| line.contains("RTM_F_LOOKUP_TABLE");
                text[before..].lines().any(|line| asks(line) && line.contains(address))
            };
            assert!(asked(&was), "{mode}: {}", &text[before..]);
            !["198.51.100.13", "198.51.100.14"].into_iter().any(asked)
        });
        assert!(alone, "{mode}: all are asked about");
        // Each change is told once, whichever part of the pass made it.
        let told = |line: &&str| {
            line.contains(&format!("-> {was}"))
                || line.contains(&format!("-> 10.244.2.0/24 via {was}"))
        };
        assert_eq!(watch.log().lines().filter(told).count(), 1, "{mode}: {}", watch.log());
        node.assert_settled();
    }
}
