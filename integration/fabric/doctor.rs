// SPDX-License-Identifier: Apache-2.0
//! `manx doctor` names what is wrong with a node, and what it says mends it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, MANX, Node, addresses, bare, batch};
use crate::harness::{DEADLINE, Finished, Pod, Stdin, eventually, plugin_dir, run};
use crate::monitor::{reads, sends_of};

pub fn doctor(node: &Node, args: &[&str]) -> Finished {
    let beside = Path::new(MANX).parent().unwrap().to_owned();
    let path = std::env::join_paths([plugin_dir(), beside]).unwrap();
    besides_load(|| {
        let mut command = node.command(&["doctor"]);
        command.args(args).env("CNI_PATH", &path);
        node.host.enter(|| run(command, &Stdin::Null, DEADLINE))
    })
}

/// What doctor says of a node while nothing else is told than that the machine is busy, on which
/// tests have no hold.
pub fn besides_load(look: impl Fn() -> Finished) -> Finished {
    let mut told = look();
    for _ in 0..50 {
        if !tells_of_load(&told.stdout) {
            break;
        }
        told = look();
    }
    told
}

fn tells_of_load(told: &str) -> bool {
    const OF_MACHINE: [&str; 3] = ["cpu-steal", "softirq-share", "backlog-drops"];
    let Ok(document) = serde_json::from_str::<Value>(told) else {
        return OF_MACHINE.iter().any(|id| told.contains(&format!(": {id}: ")));
    };
    let is_one = |check: &&Value| OF_MACHINE.iter().any(|id| check["id"] == *id);
    let mut checks = document["checks"].as_array().into_iter().flatten();
    checks.any(|check| is_one(&check) && check["status"] == "found")
}

/// That a node that is well takes one line.
#[track_caller]
fn well(node: &Node) {
    let told = doctor(node, &[]);
    assert_eq!(told.status, 0, "{told:?}");
    assert!(told.stdout.starts_with("healthy: ") && told.stdout.lines().count() == 1, "{told:?}");
    assert_eq!(told.stderr, "");
}

/// What is found, the worst first.
fn found(node: &Node) -> Vec<Value> {
    let told = doctor(node, &["--json"]);
    let document: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
    let checks = document["checks"].as_array().unwrap().clone();
    assert!(checks.len() > 20, "every check is listed: {checks:?}");
    let found: Vec<Value> = checks.into_iter().filter(|check| check["status"] == "found").collect();
    let bad = found.iter().any(|check| check["severity"] != "info");
    assert_eq!(told.status, if bad { 3 } else { 0 }, "{told:?}");
    found
}

/// A node with a pod and a peer, as it should be.
fn node_with_a_pod(mode: &str) -> (Cluster, Pod) {
    let keys = json!({"mode": mode, "ipMasq": true, "ipam": {"type": "manx-ipam", "ranges": [
        [{"subnet": "usePodCidr"}], [{"subnet": "usePodCidrIPv6"}]
    ]}});
    let cluster = Cluster::new(2, Families::Dual, &keys);
    cluster.apply();
    let pod = cluster.nodes[0].attach("a");
    (cluster, pod)
}

/// Breaks a node: the first line names this check; what it says to do is done, and
/// the node is well again.
#[track_caller]
fn names(node: &Node, id: &str, damage: impl FnOnce()) {
    damage();
    let told = doctor(node, &[]);
    let first = told.stdout.lines().next().unwrap_or_default().to_owned();
    assert!(told.status == 3 && first.contains(id), "{id}: {told:#?}");
    for check in found(node) {
        let fix = check["fix"].as_str().unwrap();
        match fix.split_once(' ') {
            Some(("manx", rest)) => {
                let words: Vec<&str> = rest.split('#').next().unwrap().split_whitespace().collect();
                node.manx(&words);
            }
            Some(("ip" | "sysctl" | "iptables" | "ip6tables", _)) => {
                node.host.command("sh", &["-c", fix]).ok();
            }
            _ => panic!("{id}: nothing that a test can do: {check:#}"),
        }
    }
    well(node);
}

#[test]
fn a_node_that_works_is_one_line() {
    for mode in ["direct", "vxlan"] {
        let (cluster, _pod) = node_with_a_pod(mode);
        cluster.nodes.iter().for_each(well);
    }
}

#[test]
fn what_is_broken_is_named_first_and_mended_by_its_fix() {
    let (cluster, pod) = node_with_a_pod("vxlan");
    let node = &cluster.nodes[0];
    let own = addresses(&pod);
    let host_link = node.host.links().into_iter().find(|name| name.starts_with("cali")).unwrap();
    let ip = |words: &str| batch(&node.host, words);
    let sh = |words: &str| drop(node.host.command("sh", &["-c", words]).ok());
    names(node, "route-missing", || ip("route del 10.244.2.0/24 proto 109"));
    names(node, "route-missing", || ip(&format!("route del {}", bare(&own[0]))));
    names(node, "route-stale", || ip("route add 10.99.0.0/24 via 192.0.2.2 proto 109"));
    names(node, "route-shadowed", || ip("route add 10.244.2.128/25 via 192.0.2.2"));
    names(node, "neighbour-missing", || ip("link del vxlan.calico"));
    names(node, "neighbour-missing", || sh("ip neigh flush dev vxlan.calico nud permanent"));
    names(node, "masquerade-lost", || sh("nft delete table inet manx-net"));
    names(node, "ip-forward", || sh("sysctl -qw net.ipv4.ip_forward=0"));
    names(node, "mtu-mismatch", || ip(&format!("link set {host_link} mtu 1400")));
    names(node, "mtu-mismatch", || ip("link set vxlan.calico mtu 1300"));
    names(node, "sysctl-drift", || {
        sh(&format!("sysctl -qw net.ipv4.conf.{host_link}.proxy_arp=0"));
    });
    let leases = node.host.scratch().path().join("root/var/lib/cni/networks/net");
    names(node, "lease-missing", || {
        std::fs::remove_file(leases.join(bare(&own[0]))).unwrap();
    });
    names(node, "lease-leaked", || {
        std::fs::write(leases.join("10.244.1.77"), "gone\r\neth0").unwrap();
    });
    names(node, "fabric-stale", || {
        let peers = std::fs::read_to_string(node.peers_file()).unwrap();
        node.write_peers(&format!("{peers}\n"));
    });
}

/// Packets whose way back is another one are dropped without a word, and counted.
#[test]
fn strict_filtering_is_found_while_it_drops_packets() {
    let (cluster, _pod) = node_with_a_pod("direct");
    let node = &cluster.nodes[0];
    let host = &node.host;
    host.command("sysctl", &["-qw", "net.ipv4.conf.eth0.rp_filter=1"]).ok();
    assert_eq!(doctor(node, &[]).status, 0, "it drops nothing");
    batch(host, "route add 203.0.113.0/24 dev lo");
    // Its question for the node's own address would not be answered either.
    let mac = host.link("eth0").unwrap()["address"].as_str().unwrap().to_owned();
    let neighbour = format!("neighbour replace 192.0.2.11 lladdr {mac} dev subnet1 nud permanent");
    batch(&cluster.router, &format!("address add 203.0.113.5/32 dev subnet1\n{neighbour}"));
    let ping = ["-n", "-q", "-i", "0.01", "-I", "203.0.113.5", "192.0.2.11"];
    let ping = || Command::new("ping").args(ping).stdout(Stdio::null()).spawn().unwrap();
    let mut pinging = cluster.router.enter(ping);
    let told = || doctor(node, &["--only", "rp-filter", "--json"]);
    let mut found = told();
    let seen = eventually(DEADLINE, || {
        found = told();
        found.status == 3
    });
    let document: Value = serde_json::from_str(&found.stdout).unwrap();
    let fix = document["checks"][0]["fix"].as_str().unwrap_or("false");
    host.command("sh", &["-c", fix]).ok();
    let after = told();
    pinging.kill().unwrap();
    pinging.wait().unwrap();
    assert!(seen && after.status == 0, "{document} {after:?}");
    well(node);
}

#[test]
fn what_nobody_but_the_operator_can_mend_is_named() {
    let (cluster, _pod) = node_with_a_pod("direct");
    let node = &cluster.nodes[0];
    let first = || doctor(node, &[]).stdout.lines().next().unwrap_or_default().to_owned();
    let peers = std::fs::read_to_string(node.peers_file()).unwrap();
    node.write_peers("{");
    assert!(first().starts_with("warning: fabric-stale: "), "{}", first());
    node.write_peers(&peers);
    node.apply().ok();
    well(node);
    node.host.command("nft", &["add table ip filter"]).ok();
    let chain = "add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }";
    node.host.command("nft", &[chain]).ok();
    assert!(first().starts_with("error: forward-drop: "), "{}", first());
}

#[test]
fn one_check_can_be_asked_for_and_a_wrong_name_is_told() {
    let (cluster, _pod) = node_with_a_pod("direct");
    let node = &cluster.nodes[0];
    let told = doctor(node, &["--json", "--only", "ip-forward"]);
    let document: Value = serde_json::from_str(&told.stdout).unwrap();
    let checks = document["checks"].as_array().unwrap();
    assert!(checks.len() == 1 && checks[0]["id"] == "ip-forward", "{document}");
    assert_eq!(checks[0]["status"], "ok");
    let told = doctor(node, &["--only", "ip-forwrad"]);
    assert!(told.status == 2 && told.stderr.contains("did you mean ip-forward?"), "{told:?}");
}

/// All that a bundle of a node holds.
pub fn bundle(node: &Node) -> String {
    let mut write = node.command(&["bundle", "--plain", "-"]);
    let beside = Path::new(MANX).parent().unwrap().to_owned();
    write.env("CNI_PATH", std::env::join_paths([plugin_dir(), beside]).unwrap());
    node.host.enter(|| run(write, &Stdin::Null, DEADLINE)).ok()
}

/// The same plan as on the node, whatever there is to be changed.
#[test]
fn a_bundle_has_the_plan_of_its_node() {
    for mode in ["direct", "vxlan"] {
        let (cluster, pod) = node_with_a_pod(mode);
        let [node, elsewhere] = cluster.nodes.as_slice() else { panic!("two nodes") };
        let same = |words: &str| {
            let file = elsewhere.host.scratch().file("node.bundle", bundle(node));
            for args in [&["plan"][..], &["plan", "--json"]] {
                let file = file.to_str().unwrap();
                let there = elsewhere.host.command(MANX, &[args, &["--bundle", file]].concat());
                let here = node.manx(args);
                assert_eq!(here.status, if words.is_empty() { 0 } else { 3 }, "{here:?}");
                assert_eq!(here.status, there.status, "{there:?}");
                assert_eq!((here.stdout, here.stderr), (there.stdout, there.stderr));
            }
            assert!(node.plan().stdout.contains(words), "{words}");
        };
        same("");
        let own = addresses(&pod);
        batch(&node.host, "route del 10.244.2.0/24 proto 109");
        same("+ route 10.244.2.0/24");
        batch(&node.host, &format!("route del {}", bare(&own[0])));
        same(bare(&own[0]));
        batch(&node.host, "route add 10.244.2.0/24 via 192.0.2.1 proto static");
        same("! route 10.244.2.0/24");
        node.host.command("nft", &["flush", "table", "inet", "manx-net"]).ok();
        same("nftables table manx-net");
        if mode == "vxlan" {
            node.host.command("nft", &["delete", "table", "inet", "manx.fabric-109"]).ok();
            same("nftables table manx.fabric-109");
            batch(&node.host, "link set vxlan.calico mtu 1300");
            same("mtu 1300");
        }
        // A fabric that is not asked for any more.
        let without = node.with("peersFile", Value::Null);
        let file = elsewhere.host.scratch().file("node.bundle", bundle(&without));
        let there = elsewhere.host.command(MANX, &["plan", "--bundle", file.to_str().unwrap()]);
        assert_eq!(there.stdout, without.plan().stdout);
        assert!(there.stdout.contains("- route"), "{there:?}");
    }
    let cluster = Cluster::new(1, Families::Ipv4, &json!({}));
    assert_eq!(cluster.nodes[0].manx(&["plan", "--bundle", "x"]).status, 2);
}

/// One look at the node for all checks and all networks.
#[test]
fn doctor_reads_each_table_once() {
    for mode in ["direct", "vxlan"] {
        let (cluster, _pod) = node_with_a_pod(mode);
        let node = &cluster.nodes[0];
        let other = node
            .with("name", "other".into())
            .with("ipam", json!({"type": "static", "addresses": [{"address": "10.244.1.200/24"}]}));
        let _other = other.attach("b");
        let root = node.host.scratch().dir("root");
        for (name, node) in [("10-net", node), ("20-other", &other)] {
            let mut plugin = node.plugin.conf.clone();
            let name_of = plugin["name"].take();
            let list = json!({"cniVersion": "1.1.0", "name": name_of, "plugins": [plugin]});
            let directory = root.join("etc/cni/net.d");
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(format!("{name}.conflist")), list.to_string()).unwrap();
        }
        let mut command = std::process::Command::new(MANX);
        command.args(["doctor", "--root"]).arg(&root);
        let trace = sends_of(node, &command);
        // Routes and rules in each family; neighbours, and forwarding entries.
        let entries = if mode == "vxlan" { 2 } else { 0 };
        assert_eq!(reads(&trace), [1, 1, 2, 2, entries], "{mode}: {trace}");
    }
}

/// A bundle is what doctor looks at, in a file: it says the same on another machine.
#[test]
fn a_bundle_tells_elsewhere_what_is_wrong_here() {
    let (cluster, _pod) = node_with_a_pod("vxlan");
    let [node, elsewhere] = cluster.nodes.as_slice() else { panic!("two nodes") };
    let mut ipam = node.plugin.conf["ipam"].clone();
    ipam["token"] = "s3cret".into();
    let _other = node.with("ipam", ipam).attach("b");
    batch(&node.host, "route del 10.244.2.0/24 proto 109");
    let file = node.host.scratch().path().join("node.bundle");
    let file = file.to_str().unwrap();
    let mut write = node.command(&["bundle", "--plain", file]);
    let beside = Path::new(MANX).parent().unwrap().to_owned();
    write.env("CNI_PATH", std::env::join_paths([plugin_dir(), beside]).unwrap());
    node.host.enter(|| run(write, &Stdin::Null, DEADLINE)).ok();
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let read = |args: &[&str]| {
        elsewhere.host.command(MANX, &[&["doctor", "--bundle", file], args].concat())
    };
    for args in [&[][..], &["--json"], &["--only", "route-missing"]] {
        let (here, there) = (doctor(node, args), read(args));
        assert_eq!((here.status, &here.stdout), (3, &there.stdout), "{there:?}");
        assert_eq!(there.status, 3);
    }
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("10.244.2.0/24") && !text.contains("s3cret"), "{text}");
    assert_eq!(read(&["--conf", "x"]).status, 2);
    for (other, words) in [
        (text.replacen("\"version\":1", "\"version\":99", 1), "read it with manx"),
        ("{}".to_owned(), "no bundle"),
    ] {
        std::fs::write(file, other).unwrap();
        let said = read(&[]);
        assert!(said.status == 1 && said.stderr.contains(words), "{said:?}");
    }
    // It need not be in a file.
    for name in ["-", "/dev/stdout"] {
        let scratch = node.host.scratch().path().display();
        let pipe = format!(
            "{MANX} bundle {name} --root {scratch}/root --conf {scratch}/conf.json \
             | {MANX} doctor --bundle - --only route-missing"
        );
        let said = node.host.command("sh", &["-c", &pipe]);
        assert!(said.status == 3 && said.stdout.contains("10.244.2.0/24"), "{said:?}");
    }
}
