// SPDX-License-Identifier: Apache-2.0
//! The files in conf/ that the README's two nodes are made of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::{MANX, SOON, address, addresses, bare, join, router};
use crate::harness::{DEADLINE, Host, Pod, Stdin, eventually, plugin_dir, run, schema::agrees};
use crate::wire::{Capture, carried};

fn conf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(conf(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A node on which nothing but files was put, as the README says.
struct Bare {
    host: Host,
    root: PathBuf,
}

impl Bare {
    /// The files in their places, the same on both nodes.
    fn new(host: Host, conflist: &str) -> Self {
        let root = host.scratch().dir("root");
        for (from, to) in [
            ("two-nodes/peers.json", "etc/manx/peers.json"),
            (conflist, "etc/cni/net.d/10-manx.conflist"),
        ] {
            let to = root.join(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::write(to, read(from)).unwrap();
        }
        Self { host, root }
    }

    #[track_caller]
    fn run(&self, program: &str, args: &[&str]) -> String {
        self.host.enter(|| {
            let mut command = Command::new(program);
            command.args(args).arg("--root").arg(&self.root);
            run(command, &Stdin::Null, DEADLINE).ok()
        })
    }

    /// Attaches a pod as a runtime does it by the conflist.
    #[track_caller]
    fn attach(&self) -> Pod {
        let pod = Pod::new("a");
        let list = fs::read_to_string(self.root.join("etc/cni/net.d/10-manx.conflist")).unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        let mut conf = list["plugins"][0].clone();
        conf["name"] = list["name"].clone();
        conf["cniVersion"] = "1.1.0".into();
        conf["ipam"]["dataDir"] = json!(self.host.scratch().dir("leases"));
        let plugin = crate::harness::Plugin::new(&self.host, MANX).config(conf);
        plugin.path([plugin_dir()]).add(&pod).ok();
        pod
    }
}

/// The command of a unit, for this binary.
fn exec_start(unit: &str) -> Vec<String> {
    let text = read(unit);
    let lines: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("ExecStart=/opt/cni/bin/manx ")).collect();
    assert_eq!(lines.len(), 1, "{unit}");
    lines[0].split(' ').map(String::from).collect()
}

#[test]
fn two_nodes() {
    for (conflist, across) in [
        ("two-nodes/10-manx-direct.conflist", "plain"),
        ("two-nodes/10-manx-vxlan.conflist", "udp 4789"),
    ] {
        let router = router();
        let nodes = [1, 2].map(|number| Bare::new(join(&router, number), conflist));
        let command = exec_start("systemd/system/manx-apply.service");
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let pods = nodes.each_ref().map(|node| {
            assert!(!node.run(MANX, &command).is_empty());
            let pod = node.attach();
            assert_eq!(node.run(MANX, &["plan"]), "", "{conflist}");
            pod
        });
        let own = addresses(&pods[0]);
        for (place, theirs) in addresses(&pods[1]).iter().enumerate() {
            let capture = Capture::start(&router);
            assert!(pods[0].netns.pings(theirs), "{conflist} {theirs}");
            let ends = [1, 2].map(|number| address(number, place == 1));
            let seen = carried(
                &capture.packets(),
                [bare(&ends[0]), bare(&ends[1])],
                [&own[place], theirs],
            );
            assert_eq!(seen, [across], "{conflist} {theirs}");
        }
    }
}

/// Which of the two is used does not matter to the pods' addresses.
#[test]
fn shipped_lists_with_peers_have_no_subnet_and_one_name() {
    let directory = conf("");
    let mut lists = Vec::new();
    for folder in ["", "examples", "two-nodes"] {
        let files = fs::read_dir(directory.join(folder)).unwrap().flatten();
        let paths = files.map(|file| file.path());
        lists.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "conflist")));
    }
    let mut with_peers = 0;
    for path in lists {
        let list: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let ours = &list["plugins"][0];
        if ours["peersFile"].is_null() {
            continue;
        }
        with_peers += 1;
        assert_eq!(list["name"], "pods", "{}", path.display());
        let sets = ours["ipam"]["ranges"].as_array().unwrap();
        let own = ["usePodCidr", "usePodCidrIPv6"];
        assert!(sets.iter().all(|set| own.iter().any(|own| set[0]["subnet"] == *own)));
    }
    assert_eq!(with_peers, 2);
}

#[test]
fn the_schema_tells_sound_files_from_others() {
    let schema: Value = serde_json::from_str(&read("peers.schema.json")).unwrap();
    let example: Value = serde_json::from_str(&read("two-nodes/peers.json")).unwrap();
    assert!(agrees(&schema, &example));
    let mut full = example.clone();
    full["self"] = "node-a".into();
    full["$schema"] = "peers.schema.json".into();
    full["fabric"] = json!({"mode": "direct", "routeMetric": 0});
    full["serviceCIDRs"] = json!(["10.96.0.0/12"]);
    full["nodes"][1]["tunnelAddresses"] = json!(["10.244.2.1"]);
    full["nodes"][0]["formerPodCIDRs"] = json!(["10.244.9.0/24"]);
    full["nodes"][1]["tunnelMAC"] = json!("66:00:00:00:00:01");
    assert!(agrees(&schema, &full));
    let mut newer = full.clone();
    newer["fabric"]["zone"] = "a".into();
    newer["nodes"][0]["zone"] = "a".into();
    assert!(agrees(&schema, &newer), "a writer may say more than is read");
    let faults = [
        ("/nodes/0/name", json!("")),
        ("/nodes/0/addresses", json!("192.0.2.11")),
        ("/nodes/0/podCIDRs", json!(["10.244.1.0"])),
        ("/nodes/0/formerPodCIDRs", json!(["10.244.9.0"])),
        ("/nodes/1/tunnelMAC", json!("66")),
        ("/nodes/1", json!({"name": "b"})),
        ("/fabric", json!({"mode": "warp"})),
        ("/fabric", json!("vxlan")),
        ("/serviceCIDRs", json!("10.96.0.0/12")),
        ("/serviceCIDRs", json!(["10.96.0.0"])),
        ("/nodes", json!([])),
        ("/self", json!(1)),
    ];
    // What the schema refuses, manx refuses, and what it takes, manx takes.
    let host = join(&router(), 1);
    let node = Bare::new(host, "two-nodes/10-manx-direct.conflist");
    let plan = |file: &Value| {
        fs::write(node.root.join("etc/manx/peers.json"), file.to_string()).unwrap();
        node.host.enter(|| {
            let mut command = Command::new(MANX);
            command.arg("plan").arg("--root").arg(&node.root);
            run(command, &Stdin::Null, DEADLINE)
        })
    };
    assert_eq!(plan(&full).status, 3);
    for (place, value) in faults {
        let mut file = full.clone();
        *file.pointer_mut(place).unwrap() = value;
        assert!(!agrees(&schema, &file), "{place}");
        let refused = plan(&file);
        // Of a fault that one node has alone it is that node.
        let alone = place.ends_with("tunnelMAC");
        let words = if alone { "node-b is left out" } else { "peers.json" };
        let status = if alone { 3 } else { 1 };
        assert!(refused.status == status && refused.stderr.contains(words), "{place}: {refused:?}");
    }
}

/// What the units run exists, and they look at the file that the examples name.
#[test]
fn units() {
    for example in ["two-nodes/10-manx-direct.conflist", "two-nodes/10-manx-vxlan.conflist"] {
        let list: Value = serde_json::from_str(&read(example)).unwrap();
        let file = list["plugins"][0]["peersFile"].as_str().unwrap();
        assert!(read("systemd/system/manx-apply.path").contains(&format!("PathChanged={file}\n")));
        let condition = format!("ConditionPathExists={file}\n");
        assert!(read("systemd/system/manx-apply.service").contains(&condition));
    }
    let router = router();
    let node = Bare::new(join(&router, 1), "two-nodes/10-manx-vxlan.conflist");
    let mut child = node.host.enter(|| {
        let mut command = Command::new(MANX);
        command.args(exec_start("systemd/system/manx-watch.service"));
        command.arg("--root").arg(&node.root).stdout(std::process::Stdio::null());
        command.spawn().unwrap()
    });
    let up = eventually(SOON, || node.host.link("vxlan.calico").is_some());
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(up && running);
}

/// iproute2 reads the drop-in: in a mount namespace of the test's own.
#[test]
fn iproute2_has_a_name_for_our_routes() {
    let script = r#"mount -t tmpfs none /etc/iproute2 && mkdir /etc/iproute2/rt_protos.d &&
        cp "$0" /etc/iproute2/rt_protos.d/ && ip route add blackhole 10.9.0.0/24 proto 109 &&
        ip route show proto manx"#;
    let file = conf("iproute2/manx.conf");
    let args = ["-m", "sh", "-c", script, file.to_str().unwrap()];
    let said = Host::new().command("unshare", &args).ok();
    assert!(said.starts_with("blackhole 10.9.0.0/24 "), "{said}");
}
