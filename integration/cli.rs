//! The command line as an operator has it: the real binary, on pods that it
//! attached itself, in namespaces that play the node.

// Outside of #[test] functions clippy sees no test code, yet all of this crate is.
#![allow(missing_docs)]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "harness/mod.rs"]
mod harness;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use harness::{DEADLINE, Finished, Host, Plugin, Pod, Stdin, eventually, plugin_dir, run};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};

const MANX: &str = env!("CARGO_BIN_EXE_manx");

/// A node with the plugin configured, whose state and leases lie in its scratch.
struct Node {
    host: Host,
    plugin: Plugin,
}

impl Node {
    fn new() -> Self {
        let host = Host::new();
        let leases = host.scratch().dir("leases");
        let plugin = Plugin::new(&host, MANX).config(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "manx",
            "ipam": {"type": "host-local", "dataDir": leases,
                     "ranges": [[{"subnet": "10.9.0.0/24"}], [{"subnet": "fd00:9::/64"}]]},
        }));
        Self { host, plugin }
    }

    /// Attaches a pod of the default Kubernetes namespace.
    fn pod(&self, name: &str) -> Pod {
        let pod = Pod::new(name).kubernetes("default", name);
        self.plugin.add(&pod).ok();
        pod
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (first, rest) = arguments.split_first().unwrap();
        let mut command = Command::new(MANX);
        command.arg(first).arg("--root").arg(self.host.scratch().dir("root")).args(rest);
        command.env("CNI_PATH", plugin_dir());
        command
    }

    fn manx(&self, arguments: &[&str]) -> Finished {
        self.with_stdin(arguments, &Stdin::Null)
    }

    fn with_stdin(&self, arguments: &[&str], stdin: &Stdin) -> Finished {
        self.host.enter(|| run(self.command(arguments), stdin, DEADLINE))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.manx(arguments).ok()).unwrap()
    }

    fn pods(&self) -> Vec<Value> {
        self.json(&["pods", "--json"])["pods"].as_array().unwrap().clone()
    }

    fn leases(&self) -> usize {
        let files = fs::read_dir(self.host.scratch().dir("leases").join("net")).unwrap().flatten();
        let parses = |name: String| name.parse::<std::net::IpAddr>().is_ok();
        files.filter(|file| parses(file.file_name().into_string().unwrap())).count()
    }
}

#[test]
fn without_arguments_it_is_a_plugin_or_says_what_it_is() {
    let start = |verb: Option<&str>| {
        let mut command = Command::new(MANX);
        command.env_clear().envs(verb.map(|verb| ("CNI_COMMAND", verb)));
        run(command, &Stdin::Null, DEADLINE)
    };
    for verb in [None, Some("")] {
        let said = start(verb);
        assert_eq!((said.status, said.stdout.as_str()), (0, ""));
        assert!(said.stderr.contains("manx --help") && said.stderr.contains("1.1.0"), "{said:?}");
    }
    assert!(start(Some("VERSION")).ok().contains("supportedVersions"));
}

#[test]
fn a_reader_that_left_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Command::new(MANX)
        .args(["help"])
        .stdout(Stdio::from(writer))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(MANX).arg("help").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stderr.is_empty());
}

#[test]
fn pods_are_listed_with_what_the_kernel_has() {
    let node = Node::new();
    assert!(node.pods().is_empty());
    let (web, db) = (node.pod("web"), node.pod("db"));
    let pods = node.pods();
    assert_eq!(pods.len(), 2);
    let listed = &pods[1];
    assert_eq!(listed["podNamespace"], "default");
    assert_eq!(listed["podName"], "web");
    assert_eq!(listed["containerID"], web.id.as_str());
    assert_eq!(listed["ifname"], "eth0");
    assert_eq!(listed["network"], "net");
    assert_eq!(listed["state"], "up");
    let addresses: Vec<String> = web.netns.addresses("eth0");
    let plain = addresses.iter().map(|address| address.split('/').next().unwrap());
    assert_eq!(listed["addresses"], json!(plain.collect::<Vec<_>>()));
    let link = node.host.link(listed["hostLink"].as_str().unwrap()).unwrap();
    assert_eq!(listed["mtu"], link["mtu"]);

    let name = listed["hostLink"].as_str().unwrap();
    node.host.command("ip", &["link", "set", name, "down"]).ok();
    assert_eq!(node.pods()[1]["state"], "down");
    node.host.command("ip", &["link", "delete", name]).ok();
    let table = node.manx(&["pods"]).ok();
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0][0], "POD");
    assert_eq!((rows[1][0], rows[1][1], rows[1][7]), ("default/db", "net", "up"));
    assert_eq!((rows[2][0], rows[2][5], rows[2][7]), ("default/web", name, "missing"));
    assert!(db.id.starts_with(rows[1][2]) && rows[1][2].len() <= 12, "{table}");
    assert!(rows[1][8].ends_with('s') && listed["ageSeconds"].is_u64(), "{table}");
    node.plugin.del(&web).ok();
    node.plugin.del(&db).ok();
    assert!(node.pods().is_empty());
}

#[test]
fn exec_runs_in_the_pod_and_ends_as_the_command_does() {
    let node = Node::new();
    let web = node.pod("web");
    let address = web.netns.addresses("eth0")[0].clone();
    let address = address.split('/').next().unwrap();
    let ip = ["ip", "-o", "-4", "address", "show", "dev", "eth0"];
    for pod in ["default/web", &web.id, &web.id[..web.id.len() - 1], address] {
        let said = node.manx(&[&["exec", pod, "--"], &ip[..]].concat()).ok();
        assert!(said.contains(address), "{pod}: {said}");
    }
    for (script, status) in [("exit 7", 7), ("kill -9 $$", 128 + 9), ("exit 0", 0)] {
        assert_eq!(node.manx(&["exec", "default/web", "sh", "-c", script]).status, status);
    }
    assert_eq!(node.manx(&["exec", "default/web", "no-such-command"]).status, 127);
    assert_eq!(node.manx(&["exec", "default/web", "/dev/null"]).status, 126);
    let input = Stdin::Bytes(b"through and through".to_vec());
    let said = node.with_stdin(&["exec", "default/web", "cat"], &input);
    assert_eq!(said.ok(), "through and through");
    let unknown = node.manx(&["exec", "default/nobody", "true"]);
    assert!(unknown.status == 1 && unknown.stderr.contains("manx pods"), "{unknown:?}");
    let near = node.manx(&["exec", "wbe", "true"]);
    assert!(near.status == 1 && near.stderr.contains("did you mean default/web?"), "{near:?}");

    let twins = ["twin-a", "twin-b"].map(|id| {
        let pod = Pod { id: format!("{id}{}", web.id), ..Pod::new("twin") };
        node.plugin.add(&pod).ok();
        pod
    });
    let ambiguous = node.manx(&["exec", "twin-", "true"]);
    assert_eq!(ambiguous.status, 2);
    for twin in &twins {
        assert!(ambiguous.stderr.contains(&twin.id), "{ambiguous:?}");
    }
}

#[test]
fn exec_finds_a_namespace_whose_path_is_gone() {
    let node = Node::new();
    let pod = node.pod("web");
    let address = pod.netns.addresses("eth0")[0].clone();
    let mut inside = pod.netns.enter(|| Command::new("sleep").arg("1000").spawn().unwrap());
    let id = pod.id.clone();
    // Now only the process holds the namespace: the path was one of our open file.
    drop(pod);
    let said = node.manx(&["exec", &id, "ip", "-o", "address", "show", "dev", "eth0"]);
    let _ = inside.kill();
    inside.wait().unwrap();
    assert!(said.ok().contains(&address));
    let gone = || node.manx(&["exec", &id, "true"]).status == 1;
    assert!(eventually(DEADLINE, gone));
}

/// Changes what the journal says of a pod.
fn renote(node: &Node, pod: &Pod, change: impl FnOnce(&mut Value)) {
    let path = node.host.scratch().dir("root/run/manx/net").join(format!("{}:eth0", pod.id));
    let mut entry: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut entry);
    fs::write(&path, entry.to_string()).unwrap();
}

#[test]
fn exec_runs_in_no_other_pods_namespace() {
    let node = Node::new();
    let (web, db) = (node.pod("web"), node.pod("db"));
    let mut noted = Value::Null;
    renote(&node, &db, |entry| noted = entry.clone());
    // As it looks when the number of a dead namespace was given out again.
    renote(&node, &web, |entry| {
        entry["netns"] = noted["netns"].clone();
        entry["netnsIdentity"] = noted["netnsIdentity"].clone();
    });
    let said = node.manx(&["exec", "default/web", "echo", "ran"]);
    assert!(said.status == 1 && said.stdout.is_empty(), "{said:?}");
    assert!(said.stderr.contains("another pod's by now"), "{said:?}");
    assert_eq!(node.manx(&["exec", "default/db", "echo", "ran"]).ok(), "ran\n");

    node.host.command("ip", &["link", "delete", noted["hostLink"].as_str().unwrap()]).ok();
    let said = node.manx(&["exec", "default/db", "echo", "ran"]);
    assert!(said.status == 1 && said.stdout.is_empty(), "{said:?}");
    assert!(said.stderr.contains("host link") && said.stderr.contains("gone"), "{said:?}");
}

#[test]
fn what_may_not_be_read_is_not_taken_for_nothing() {
    let node = Node::new();
    let web = node.pod("web");
    let directory = node.host.scratch().dir("root/run/manx");
    let entry = directory.join("net").join(format!("{}:eth0", web.id));
    let unprivileged = |arguments: &[&str]| {
        let manx = node.command(arguments);
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-all", "--inh-caps", "-all", "--"]);
        command.arg(manx.get_program()).args(manx.get_args());
        node.host.enter(|| run(command, &Stdin::Null, DEADLINE))
    };
    assert!(unprivileged(&["pods"]).ok().contains("default/web"));
    for path in [&entry, &directory.join("net"), &directory] {
        let mode = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o000);
        let said = [&["pods"][..], &["exec", "default/web", "true"], &["capture", "x"], &["gc"]]
            .map(unprivileged);
        mode(0o700);
        for said in said {
            assert_eq!((said.status, said.stdout.as_str()), (1, ""), "{said:?}");
            let place = format!("cannot read {}", path.display());
            assert!(said.stderr.contains(&place), "{said:?}");
            assert!(said.stderr.contains("Permission denied"), "{said:?}");
            assert!(said.stderr.contains("run as root"), "{said:?}");
        }
    }
}

#[test]
fn a_configuration_that_may_not_be_read_is_not_called_absent() {
    let node = Node::new();
    let directory = node.host.scratch().dir("root/etc/cni/net.d");
    let unprivileged = |arguments: &[&str]| {
        let manx = node.command(arguments);
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-all", "--inh-caps", "-all", "--"]);
        command.arg(manx.get_program()).args(manx.get_args());
        node.host.enter(|| run(command, &Stdin::Null, DEADLINE))
    };
    let file = directory.join("10-a.conf");
    fs::write(&file, node.plugin.conf.to_string()).unwrap();
    // Another one behind it is not the one that counts.
    fs::write(directory.join("20-b.conf"), node.plugin.conf.to_string()).unwrap();
    for path in [&file, &directory] {
        let mode = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o000);
        let said =
            [&["plan"][..], &["apply"], &["ipam", "show"], &["validate"], &["export", "frr"]]
                .map(unprivileged);
        mode(0o700);
        for said in said {
            assert_eq!((said.status, said.stdout.as_str()), (1, ""), "{said:?}");
            assert!(said.stderr.contains(&format!("cannot read {}", path.display())), "{said:?}");
            assert!(said.stderr.contains("Permission denied"), "{said:?}");
            assert!(said.stderr.contains("run as root"), "{said:?}");
        }
    }
    fs::remove_dir_all(&directory).unwrap();
    let absent = node.manx(&["plan"]);
    assert!(absent.status == 1 && absent.stderr.contains("manx install"), "{absent:?}");
}

#[test]
fn the_pool_of_another_plugin_is_shown() {
    let node = Node::new();
    let leases = node.host.scratch().dir("leases");
    let ipam = |kind: &str| json!({"type": kind, "dataDir": leases, "ranges": [[{"subnet": "10.8.0.0/24"}]]});
    let allocator = node.host.scratch().dir("bin").join("manx-ipam");
    std::os::unix::fs::symlink(MANX, &allocator).unwrap();
    // Its mode is none that a plugin of ours could have.
    let bridge = |kind: &str| json!({"type": "macvlan", "mode": "bridge", "ipam": ipam(kind)});
    let list = |plugins: Value| json!({"cniVersion": "1.1.0", "name": "lan", "plugins": plugins});
    let conf = json!({"cniVersion": "1.1.0", "name": "lan", "type": "macvlan", "mode": "bridge",
        "ipam": ipam("manx-ipam")});
    Plugin::new(&node.host, &allocator).config(conf).add(&Pod::new("a")).ok();
    for kind in ["manx-ipam", "host-local"] {
        let text = list(json!([{"type": "tuning"}, bridge(kind)])).to_string();
        let file = node.host.scratch().file("lan.conflist", text);
        let shown = node.json(&["ipam", "show", "--json", "--conf", file.to_str().unwrap()]);
        assert_eq!((&shown["network"], &shown["ranges"][0]["used"]), (&json!("lan"), &json!(1)));
        assert_eq!(shown["ranges"][0]["subnet"], "10.8.0.0/24");
    }
    let directory = node.host.scratch().dir("root/etc/cni/net.d");
    let text = list(json!([bridge("manx-ipam")])).to_string();
    fs::write(directory.join("10-lan.conflist"), text).unwrap();
    assert_eq!(node.json(&["ipam", "show", "--json"])["network"], "lan");
    let text = list(json!([{"type": "macvlan", "ipam": {"type": "static"}}])).to_string();
    let file = node.host.scratch().file("static.conflist", text);
    let refused = node.manx(&["ipam", "show", "--conf", file.to_str().unwrap()]);
    assert!(refused.status == 1 && refused.stderr.contains("manx-ipam"), "{refused:?}");
}

#[test]
fn a_link_of_ours_that_no_journal_knows_is_listed() {
    let node = Node::new();
    let web = node.pod("web");
    let link = node.pods()[0]["hostLink"].clone();
    fs::remove_dir_all(node.host.scratch().dir("root/run/manx")).unwrap();
    let pods = node.pods();
    assert_eq!(pods.len(), 1);
    assert_eq!((&pods[0]["state"], &pods[0]["hostLink"]), (&json!("unnoted"), &link));
    assert_eq!((&pods[0]["containerID"], &pods[0]["network"]), (&json!(web.id), &json!("net")));
    let said = node.manx(&["exec", &web.id, "true"]);
    assert!(said.status == 1 && said.stderr.contains("in no journal"), "{said:?}");
    node.plugin.del(&web).ok();
    assert!(node.pods().is_empty());
}

#[test]
fn capture_shows_what_a_pod_sends() {
    let node = Node::new();
    let pod = node.pod("web");
    // As root tcpdump insists on dropping groups, which a user namespace may not do.
    node.host.scratch().dir("tools");
    let wrapper = "#!/bin/sh\nPATH=${PATH#*:}\nexec strace -qq -o /dev/null \\\n\
        -e trace=setgroups -e inject=setgroups:retval=0 tcpdump -Z root \"$@\"\n";
    let wrapper = node.host.scratch().script("tools/tcpdump", wrapper);
    let tools = wrapper.parent().unwrap().display();
    let path = format!("{tools}:{}", std::env::var("PATH").unwrap());
    let capture = || {
        let filter = ["-c", "1", "icmp", "and", "src", "10.9.0.2"];
        let mut command = node.command(&[&["capture", "default/web"], &filter[..]].concat());
        command.env("PATH", &path);
        node.host.enter(|| run(command, &Stdin::Null, DEADLINE))
    };
    let said = thread::scope(|scope| {
        let capture = scope.spawn(capture);
        while !capture.is_finished() {
            // Unanswered: 192.0.2.9 is nowhere, and the request is seen all the same.
            pod.netns.command("ping", &["-n", "-q", "-c", "1", "-W", "0.2", "192.0.2.9"]);
        }
        capture.join().unwrap()
    });
    assert!(said.clone().ok().contains("10.9.0.2 > 192.0.2.9: ICMP echo request"), "{said:?}");

    let mut without = node.command(&["capture", "default/web"]);
    without.env("PATH", "/nowhere");
    let said = node.host.enter(|| run(without, &Stdin::Null, DEADLINE));
    assert!(said.status == 1 && said.stderr.contains("package tcpdump"), "{said:?}");

    node.plugin.add(&pod.interface("net1")).ok();
    let ambiguous = node.manx(&["capture", "default/web"]);
    assert!(ambiguous.status == 2 && ambiguous.stderr.contains("net1"), "{ambiguous:?}");
    assert!(ambiguous.stderr.contains("--ifname"), "{ambiguous:?}");
    for arguments in [
        &["capture", "--ifname", "net1", "default/web", "--version"][..],
        &["capture", "default/web", "--ifname", "net1", "--version"],
        &["capture", "default/web", "--ifname=net1", "--version"],
    ] {
        let chosen = node.manx(arguments);
        assert_eq!(chosen.status, 0, "{chosen:?}");
    }
    let none = node.manx(&["capture", "--ifname", "net9", "default/web"]);
    assert!(none.status == 1 && none.stderr.contains("eth0, net1"), "{none:?}");
    assert_eq!(node.manx(&["capture", "default/web", "--ifname"]).status, 2);
}

#[test]
fn gc_removes_the_dead_and_leaves_the_living() {
    let node = Node::new();
    let (alive, unlinked, dead) = (node.pod("alive"), node.pod("unlinked"), node.pod("dead"));
    assert_eq!(node.json(&["gc", "--json"])["collected"], json!([]));
    let link = node.pods()[2]["hostLink"].clone();
    node.host.command("ip", &["link", "delete", link.as_str().unwrap()]).ok();
    let (unlinked, dead) = (unlinked.id, { dead }.id);
    let both = || {
        let found = node.json(&["gc", "--dry-run", "--json"]);
        assert_eq!(found["dryRun"], true);
        found["collected"].as_array().unwrap().len() == 2
    };
    // The kernel takes a namespace down some time after its last user has gone.
    assert!(eventually(DEADLINE, both));
    assert_eq!((node.pods().len(), node.leases()), (3, 6));

    let said = node.manx(&["gc", "--network", "net"]).ok();
    assert!(said.contains(&unlinked) && said.contains(&dead), "{said}");
    assert!(said.contains("its link is gone") && said.ends_with("removed: 2\n"), "{said}");
    assert!(said.contains("default/unlinked") && said.contains("default/dead"), "{said}");
    assert_eq!((node.pods().len(), node.leases()), (1, 2));
    assert_eq!(node.manx(&["gc"]).ok(), "removed: 0\n");
    assert_eq!(node.manx(&["gc", "--network", "nt"]).status, 1);

    let list =
        |id: &str| Stdin::Bytes(json!([{"containerID": id, "ifname": "eth0"}]).to_string().into());
    let kept = node.with_stdin(&["gc", "--valid", "-"], &list(&alive.id)).ok();
    assert_eq!(kept, "removed: 0\n");
    let broken = node.with_stdin(&["gc", "--valid", "-"], &Stdin::Null);
    assert!(broken.status == 1 && broken.stderr.contains("nothing was removed"), "{broken:?}");
    assert_eq!(node.pods().len(), 1);
    let gone = node.with_stdin(&["gc", "--valid", "-"], &list("other")).ok();
    assert!(gone.contains("not in the list") && gone.contains("removed: 1"), "{gone}");
    assert_eq!((node.pods().len(), node.leases()), (0, 0));
    assert!(alive.netns.links().is_empty() && node.host.links().is_empty());
}

/// Where the journal is lost, the configuration tells where the leases are.
#[test]
fn gc_finds_leases_by_a_configuration() {
    let node = Node::new();
    let (_alive, dead) = (node.pod("alive"), node.pod("dead"));
    let link = node.pods()[1]["hostLink"].clone();
    node.host.command("ip", &["link", "delete", link.as_str().unwrap()]).ok();
    let state = node.host.scratch().path().join("root/run/manx");
    fs::remove_dir_all(&state).unwrap();
    let conf = node.host.scratch().file("conf.json", node.plugin.conf.to_string());
    let conf = conf.to_str().unwrap();
    assert_eq!((node.manx(&["gc"]).ok().as_str(), node.leases()), ("removed: 0\n", 4));
    let _ = fs::remove_dir_all(&state);
    let looked = node.manx(&["gc", "--conf", conf, "--dry-run"]).ok();
    assert!(looked.contains(&dead.id) && looked.ends_with("would be removed: 2\n"), "{looked}");
    assert!(!state.join("net").exists(), "nothing was made for a look");
    let said = node.manx(&["gc", "--conf", conf]).ok();
    assert!(said.contains("its lease has no link") && said.ends_with("removed: 2\n"), "{said}");
    assert_eq!(node.leases(), 2);
    assert_eq!(node.manx(&["gc", "--conf", conf, "--network", "net"]).status, 2);
    assert_eq!(node.manx(&["gc", "--conf", "/nowhere"]).status, 1);
}

#[test]
fn gc_tells_what_it_could_not_release() {
    let node = Node::new();
    let pod = node.pod("web").id;
    // A store is written without its plugin; another plugin has to be there.
    let journal = node.host.scratch().path().join("root/run/manx/net");
    let is_entry = |path: &PathBuf| !path.file_name().unwrap().to_string_lossy().starts_with('.');
    let files = fs::read_dir(journal).unwrap().map(|file| file.unwrap().path());
    let entry = files.into_iter().find(is_entry).unwrap();
    let noted = fs::read_to_string(&entry).unwrap();
    fs::write(&entry, noted.replace("\"host-local\"", "\"not-there\"")).unwrap();
    let failing = || node.manx(&["gc"]).status == 1;
    assert!(eventually(DEADLINE, failing));
    let said = node.manx(&["gc", "--json"]);
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    assert!(said["errors"][0]["msg"].as_str().unwrap().contains("not-there"), "{said}");
    // What was not released stays known, for the next try.
    assert_eq!(node.pods()[0]["containerID"], pod);
    fs::write(&entry, noted).unwrap();
    node.manx(&["gc"]).ok();
    assert!(node.pods().is_empty() && node.leases() == 0);
}

#[test]
fn what_install_copies_works_and_is_known_again() {
    let node = Node::new();
    let root = node.host.scratch().dir("root");
    let said = node.manx(&["install"]).ok();
    assert!(said.contains("/opt/cni/bin/manx: installed"), "{said}");
    let binary = root.join("opt/cni/bin/manx");
    let version = run(
        {
            let mut command = Command::new(&binary);
            command.arg("version");
            command
        },
        &Stdin::Null,
        DEADLINE,
    );
    assert_eq!(version.ok(), node.host.command(MANX, &["version"]).ok());
    // Another build of this program is recognised and replaced, unasked.
    let mut bytes = fs::read(&binary).unwrap();
    bytes.push(0);
    fs::write(&binary, &bytes).unwrap();
    let said = node.manx(&["install", "--no-conf"]).ok();
    assert!(said.contains("/opt/cni/bin/manx: replaced"), "{said}");
    assert!(fs::read(&binary).unwrap() == fs::read(MANX).unwrap());
}

#[test]
fn a_runtime_that_waits_for_a_write_sees_the_configuration() {
    let node = Node::new();
    let conf = node.host.scratch().dir("root/etc/cni/net.d");
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    let events = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MODIFY;
    inotify.add_watch(&conf, events).unwrap();
    // The first run makes the file; the second finds it and wakes the runtime
    // again, in case it was the first one's write that was lost.
    for moved in [true, false] {
        node.manx(&["install", "--no-dropins"]).ok();
        let seen: Vec<AddWatchFlags> = inotify
            .read_events()
            .unwrap()
            .into_iter()
            .filter(|event| event.name.as_deref() == Some("10-manx.conflist".as_ref()))
            .map(|event| event.mask)
            .collect();
        assert_eq!(seen.contains(&AddWatchFlags::IN_MOVED_TO), moved, "{seen:?}");
        assert_eq!(seen.last(), Some(&AddWatchFlags::IN_MODIFY), "{seen:?}");
    }
}

#[test]
fn a_watch_waits_for_a_configuration() {
    let node = Node::new();
    let _web = node.pod("web");
    let link = node.pods()[0]["hostLink"].as_str().unwrap().to_owned();
    let mut command = node.command(&["apply", "--watch"]);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut watch = node.host.enter(|| command.spawn().unwrap());
    let mut said = BufReader::new(watch.stderr.take().unwrap()).lines();
    // There is no directory, then an empty one, then a file that is no good.
    let first = said.next().unwrap().unwrap();
    assert!(first.ends_with("; waiting for a configuration"), "{first}");
    let directory = node.host.scratch().dir("root/etc/cni/net.d");
    assert!(said.next().unwrap().unwrap().contains("names manx"));
    fs::write(directory.join("10-a.conf"), r#"{"type": "manx", "name": "net"}"#).unwrap();
    assert!(said.next().unwrap().unwrap().contains("10-a.conf: "));
    let up = || node.pods()[0]["state"] == "up";
    node.host.command("ip", &["link", "set", &link, "down"]).ok();
    fs::write(directory.join("10-a.conf"), node.plugin.conf.to_string()).unwrap();
    let repaired = eventually(DEADLINE, up);
    let _ = watch.kill();
    watch.wait().unwrap();
    let rest: Vec<String> = said.map_while(Result::ok).collect();
    assert!(repaired, "the link is down still: {rest:?}");
}

/// The shipped files: the default, then the examples.
fn shipped() -> Vec<PathBuf> {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let examples = fs::read_dir(conf.join("examples")).unwrap().flatten().map(|file| file.path());
    let mut files: Vec<PathBuf> = examples.chain([conf.join("10-manx.conflist")]).collect();
    files.sort();
    files
}

#[test]
fn every_shipped_configuration_attaches_a_pod() {
    for file in shipped() {
        let (host, _outside) = Host::with_uplink();
        let list: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let mut conf = list["plugins"][0].clone();
        conf["name"] = list["name"].clone();
        conf["cniVersion"] = list["cniVersion"].clone();
        conf["ipam"]["dataDir"] = json!(host.scratch().dir("leases"));
        let plugin = Plugin::new(&host, MANX).config(conf.clone());
        let pod = Pod::new("a").kubernetes("default", "a");
        plugin.add(&pod).ok();
        let first = pod.netns.addresses("eth0")[0].clone();
        assert!(host.pings(first.split('/').next().unwrap()), "{}", file.display());
        drop_in_agrees(&host);
        plugin.del(&pod).ok();
        assert!(pod.netns.links().is_empty(), "{}", file.display());
    }
}

/// That the sysctl drop-in says of host links what ADD wrote.
fn drop_in_agrees(host: &Host) {
    let text = include_str!("../conf/sysctl.d/90-manx.conf");
    let link = host.links().into_iter().find(|name| name.starts_with("cali")).unwrap();
    let ipv6 = host.sysctl("ipv6/conf/all/forwarding") == "1";
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.trim_start_matches('-').split_once(" = ").unwrap();
        let key = key.strip_prefix("net.").unwrap().replace("cali*", &link).replace('.', "/");
        if ipv6 || !key.starts_with("ipv6") {
            assert_eq!(host.sysctl(&key), value, "{key}");
        }
    }
}

#[test]
fn an_installed_node_validates() {
    let node = Node::new();
    let bin = node.host.scratch().dir("root/opt/cni/bin");
    for plugin in fs::read_dir(plugin_dir()).unwrap().flatten() {
        std::os::unix::fs::symlink(plugin.path(), bin.join(plugin.file_name())).unwrap();
    }
    let said = node.manx(&["install"]).ok();
    assert!(!said.contains("error"), "{said}");
    node.manx(&["install", "--name", "calico"]).ok();
    let validate = |arguments: &[&str]| {
        let mut command = node.command(&[&["validate"], arguments].concat());
        command.env_remove("CNI_PATH");
        node.host.enter(|| run(command, &Stdin::Null, DEADLINE))
    };
    let said = validate(&[]).ok();
    assert!(said.contains("files: 1, errors: 0, warnings: 0"), "{said}");
    for file in shipped() {
        let said = validate(&[file.to_str().unwrap()]).ok();
        assert!(said.contains("errors: 0"), "{said}");
    }
    fs::remove_file(bin.join("portmap")).unwrap();
    let said = validate(&["--json"]);
    assert_eq!(said.status, 3);
    let said: Value = serde_json::from_str(&said.stdout).unwrap();
    let missing = &said["checks"][1];
    assert_eq!(missing["id"], "delegate-missing", "{said}");
    assert!(missing["object"].as_str().unwrap().ends_with(" plugins[1].type"), "{said}");
}

/// `hack/revision` in directories of its own: without git, in a repository, in one
/// with changes, and in an archive that lies in somebody else's.
#[test]
fn the_revision_is_that_of_the_source_tree_alone() {
    let scratch = Host::new();
    let root = scratch.scratch().dir("tree");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/revision");
    for directory in ["hack", "src", "vendor/manx/hack"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for copy in ["hack/revision", "vendor/manx/hack/revision"] {
        fs::copy(&script, root.join(copy)).unwrap();
    }
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-C", root.to_str().unwrap(), "-c", "user.name=a", "-c", "user.email=a@b"]);
        command.args(arguments).env("GIT_CEILING_DIRECTORIES", root.parent().unwrap());
        run(command, &Stdin::Null, DEADLINE).ok()
    };
    let revision = |path: &str| {
        let mut command = Command::new(root.join(path));
        command.env("GIT_CEILING_DIRECTORIES", root.parent().unwrap());
        run(command, &Stdin::Null, DEADLINE).ok()
    };
    assert_eq!(revision("hack/revision"), "", "there is no repository");
    git(&["init", "--quiet"]);
    assert_eq!(revision("hack/revision"), "", "there is no commit");
    fs::write(root.join("src/main.rs"), "fn main() {}").unwrap();
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "one"]);
    let commit = git(&["rev-parse", "HEAD"]);
    assert_eq!(revision("hack/revision"), commit);
    // A report is no part of the binary.
    fs::write(root.join("report.md"), "").unwrap();
    assert_eq!(revision("hack/revision"), commit);
    fs::write(root.join("src/main.rs"), "fn main() { }").unwrap();
    assert_eq!(revision("hack/revision"), commit.trim().to_owned() + "+\n");
    assert_eq!(revision("vendor/manx/hack/revision"), "", "the repository is another's");
}
