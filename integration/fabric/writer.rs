// SPDX-License-Identifier: Apache-2.0
//! One writer at a time: who changes the fabric and does not come to an end keeps
//! no pod from starting, and leaves nothing behind when it is killed.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::json;

use crate::cluster::{Cluster, Families, Node, SOON, batch, entry};
use crate::harness::{DEADLINE, Pod, Stdin, eventually, run};
use crate::watch::Watch;

/// An apply that stops inside its pass, for good.
struct Stopped(Child);

/// How often a writer is seen at one place before it is taken for stopped there.
const LOOKS: usize = 10;

impl Stopped {
    /// Stops it as it sends its `count`th message to the kernel.
    #[track_caller]
    fn at(node: &Node, count: usize) -> Self {
        let plain = node.command(&["apply"]);
        let mut command = Command::new("strace");
        let inject = format!("inject=sendto:signal=STOP:when={count}");
        command.args(["-f", "-o", "/dev/null", "-e", "trace=sendto", "-e", &inject]);
        command.arg(plain.get_program()).args(plain.get_args());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let stopped = Self(node.host.enter(|| command.spawn().unwrap()));
        // Its tracer stops it for a moment at each system call: that is not it.
        let (mut place, mut looks) = (None, 0);
        let stops = eventually(SOON, || {
            let now = stopped.place();
            looks = if now.is_some() && now == place { looks + 1 } else { 0 };
            place = now;
            looks >= LOOKS
        });
        assert!(stops, "it does not stop at message {count}");
        stopped
    }

    /// Where the writer is stopped: how often it has waited until then.
    fn place(&self) -> Option<String> {
        let id = self.0.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        children.unwrap_or_default().split_whitespace().find_map(|child| {
            let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
            let field = |name| status.lines().find_map(|line| line.strip_prefix(name));
            let stopped = field("State:\t")?.starts_with(['T', 't']) && field("Name:\t")? == "manx";
            field("voluntary_ctxt_switches:\t").filter(|_| stopped).map(str::to_owned)
        })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

fn cluster() -> Cluster {
    Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}))
}

#[test]
fn a_writer_that_is_stopped_keeps_no_pod_from_starting() {
    let cluster = cluster();
    let node = &cluster.nodes[0];
    node.apply().ok();
    // There is something to do, so that the pass is noted as begun.
    for count in [2, 9] {
        node.set_peers(&[1, 2].map(|number| entry(number, Families::Ipv4)));
        let writer = Stopped::at(node, count);
        let pod = Pod::new("a");
        let reply = node.plugin.add(&pod);
        assert!(reply.stderr.contains("going on with the fabric"), "{count}: {reply:?}");
        assert!(reply.stderr.contains("(manx)"), "it names the writer: {reply:?}");
        reply.ok();
        node.plugin.status().ok();
        drop(writer);
        node.plugin.del(&pod).ok();
        node.apply().ok();
        node.set_peers(&[1, 2, 3].map(|number| entry(number, Families::Ipv4)));
        node.apply().ok();
    }
}

#[test]
fn without_a_fabric_that_was_applied_a_stopped_writer_is_named() {
    let cluster = cluster();
    let node = &cluster.nodes[0];
    let writer = Stopped::at(node, 2);
    let pod = Pod::new("a");
    let reply = node.plugin.add(&pod);
    assert_eq!(reply.code(), Some(11), "{reply:?}");
    assert!(reply.stdout.contains("(manx)"), "{reply:?}");
    assert_eq!(node.plugin.status().code(), Some(50));
    drop(writer);
    node.plugin.add(&pod).ok();
    node.plugin.del(&pod).ok();
}

/// By its group it is known as ours; the alias is for whoever reads it.
#[test]
fn a_device_without_its_alias_gets_it_again() {
    let cluster = cluster();
    let node = &cluster.nodes[0];
    node.apply().ok();
    let alias = || {
        let links = node.host.ip(&["link", "show", "type", "vxlan"]);
        links[0]["ifalias"].as_str().unwrap_or_default().to_owned()
    };
    let (before, device) = (alias(), "vxlan.calico");
    assert!(before.starts_with("manx1-fabric"), "{before}");
    node.host.command("ip", &["link", "set", device, "alias", ""]).ok();
    assert!(node.plan().stdout.contains("without our alias"), "{:?}", node.plan());
    node.apply().ok();
    assert_eq!(alias(), before);
    node.assert_settled();
}

/// Each pass takes away what a killed one was about to write, of its fabric alone.
#[test]
fn what_a_killed_writer_left_goes_with_the_next_pass() {
    let cluster = cluster();
    let node = &cluster.nodes[0];
    node.apply().ok();
    let directory = node.host.scratch().path().join("root/run/manx/.fabric");
    let names = |prefix: &str| {
        let files = fs::read_dir(&directory).unwrap().flatten();
        files.filter(|file| file.file_name().to_string_lossy().starts_with(prefix)).count()
    };
    for name in [".17.109.json", ".17.1a2b3c.109.peers", ".18.80.json"] {
        fs::write(directory.join(name), "").unwrap();
    }
    node.apply().ok();
    assert_eq!((names(".17."), names(".18.")), (0, 1));
}

#[test]
fn what_was_noted_of_a_fabric_may_be_anything() {
    let cluster = cluster();
    let node = &cluster.nodes[0];
    node.apply().ok();
    let directory = node.host.scratch().path().join("root/run/manx/.fabric");
    for name in ["109.json", "109.peers"] {
        let path = directory.join(name);
        for thing in ["pipe", "huge", "directory"] {
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir(&path);
            match thing {
                "pipe" => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                "huge" => File::create(&path).unwrap().set_len(10 << 30).unwrap(),
                _ => fs::create_dir(&path).unwrap(),
            }
            let pod = Pod::new("a");
            for reply in [node.plugin.status(), node.plugin.add(&pod), node.plugin.del(&pod)] {
                assert!(!reply.timed_out && reply.status < 2, "{thing} as {name}: {reply:?}");
            }
            let _ = fs::remove_dir(&path);
        }
        node.apply().ok();
    }
}

/// A runtime's umask is no reason for others to write here.
#[test]
fn with_any_umask_the_fabrics_files_are_roots_alone() {
    let cluster = cluster();
    let node = &cluster.nodes[0];
    let plain = node.command(&["apply"]);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(plain.get_program());
    command.args(plain.get_args());
    assert!(node.host.enter(|| command.output().unwrap()).status.success());
    let mut pending = vec![node.host.scratch().path().join("root/run")];
    let mut count = 0;
    while let Some(directory) = pending.pop() {
        for file in fs::read_dir(directory).unwrap().flatten() {
            let data = file.metadata().unwrap();
            // A symbolic link has no mode of its own; its directory keeps others out.
            if data.is_symlink() {
                continue;
            }
            assert_eq!(data.mode() & 0o077, 0, "{}", file.path().display());
            count += 1;
            pending.extend(data.is_dir().then(|| file.path()));
        }
    }
    assert!(count >= 5, "{count}");
}

/// A container has processes of its own: the kernel names none of the others.
#[test]
fn who_holds_the_lock_is_named_to_one_who_sees_no_process_of_it() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    let root = node.host.scratch().path().join("root");
    // Of that which said who it is, as long as it holds it.
    let lock = File::open(root.join("run/manx/.fabric/109.lock/.lock")).unwrap();
    lock.lock().unwrap();
    let told = |wrapper: &[&str]| {
        let mut command = Command::new(wrapper[0]);
        let apply = node.command(&["apply"]);
        command.args(&wrapper[1..]).arg(apply.get_program()).args(apply.get_args());
        let done = node.host.enter(|| run(command, &Stdin::Null, DEADLINE));
        assert_eq!(done.status, 1, "{done:?}");
        done.stderr
    };
    let told = told(&["unshare", "--pid", "--fork", "--mount-proc"]);
    assert!(told.contains("manx apply, started 2"), "{told}");
    assert!(told.contains("Z, has not let go of it for "), "{told}");
}

/// What networks share is written under its own lock, also by one that leaves it.
#[test]
fn what_is_shared_is_not_written_under_anothers_lock() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let other = node.with("name", "other".into());
    let directory = node.host.scratch().path().join("root/run/manx/.fabric");
    let noted = || fs::read(directory.join("109.json")).unwrap();
    let moved = node.with("routeProtocol", 110.into());
    let lost = node.with("peersFile", serde_json::Value::Null);
    node.apply().ok();
    other.apply().ok();
    let before = noted();
    let lock = File::open(directory.join("109.lock/.lock")).unwrap();
    lock.lock().unwrap();
    // It waits in vain, and nothing was applied of the other one.
    let reply = moved.plugin.add(&Pod::new("a"));
    assert_eq!(reply.code(), Some(11), "{reply:?}");
    assert_eq!(noted(), before);
    lock.unlock().unwrap();
    // A fabric of its own besides: it alone would go.
    moved.plugin.status().ok();
    other.apply().ok();
    let both = fs::read_to_string(directory.join("109.json")).unwrap();
    fs::write(directory.join("109.json"), both.replace("[\"other\"]", "[\"net\",\"other\"]"))
        .unwrap();
    let before = noted();
    assert!(String::from_utf8_lossy(&before).contains("[\"net\",\"other\"]"));
    lock.lock().unwrap();
    lost.plugin.status().ok();
    assert_eq!(noted(), before);
    assert!(directory.join("110.json").exists());
    lock.unlock().unwrap();
    lost.plugin.status().ok();
    assert!(!directory.join("110.json").exists());
    assert!(!String::from_utf8_lossy(&noted()).contains("[\"net\",\"other\"]"));
}

/// What a network had by the protocol that its peers file named, too.
#[test]
fn what_is_removed_is_locked() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({}));
    let node = &cluster.nodes[0];
    let nodes = [1, 2].map(|number| entry(number, Families::Ipv4));
    let list = json!({"self": "node-a", "fabric": {"routeProtocol": 110}, "nodes": nodes});
    node.write_peers(&list.to_string());
    node.apply().ok();
    let before = node.state();
    let lost = node.with("peersFile", serde_json::Value::Null);
    let directory = node.host.scratch().path().join("root/run/manx/.fabric/110.lock");
    let lock = File::open(directory.join(".lock")).unwrap();
    lock.lock().unwrap();
    let mut command = lost.command(&["apply"]);
    let mut child = node.host.enter(|| command.stdout(Stdio::null()).spawn().unwrap());
    let waits = || {
        let open = fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten().flatten();
        let mut open = open.filter_map(|file| fs::read_link(file.path()).ok());
        open.any(|path| path.starts_with(&directory))
    };
    let waited = eventually(SOON, waits);
    let now = node.state();
    drop(lock);
    assert!(child.wait().unwrap().success() && waited);
    assert_eq!(now, before);
    assert!(node.state().iter().all(|line| !line.contains("10.244.2.0/24")));
}

/// What the kernel told while a watch waited for another writer: else the watch would put
/// back what that one has just made right.
#[test]
fn a_watch_that_waited_goes_by_the_routes_of_now() {
    let cluster = Cluster::of(&[1], Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let peers: Vec<_> = [1, 3].map(|number| entry(number, Families::Ipv4)).into();
    node.set_peers(&peers);
    let watch = Watch::start(node);
    watch.comes_to_rest();
    let told = watch.log();
    let file = node.host.scratch().path().join("root/run/manx/.fabric/109.lock/.lock");
    let lock = File::open(&file).unwrap();
    lock.lock().unwrap();
    // An event by which no answer about the ways to peers may be another.
    batch(&node.host, "neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0");
    assert!(eventually(SOON, || watch.has_open(&file)), "{}", watch.log());
    // The default route goes by another router, and the writer has seen it.
    let route = node.host.command("ip", &["route", "show", "10.244.3.0/24"]).stdout;
    let route = route.trim().replace("192.0.2.1 ", "192.0.2.99 ");
    batch(
        &node.host,
        &format!("route replace default via 192.0.2.99 dev eth0\nroute replace {route}"),
    );
    drop(lock);
    // Something that a pass repairs: after it that pass is over.
    watch.repairs("the node's own route", || {
        batch(&node.host, "route del blackhole 10.244.1.0/24");
    });
    watch.comes_to_rest();
    let log = watch.log();
    let new = log.strip_prefix(&told).unwrap();
    assert!(!new.contains("10.244.3.0/24"), "{new}");
    node.assert_settled();
}
