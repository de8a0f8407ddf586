// SPDX-License-Identifier: Apache-2.0
//! `manx probe` measures the paths to other nodes, and its first line names what is wrong
//! with them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, Node, address, addresses, bare, batch, entry};
use crate::harness::{DEADLINE, Finished, Netns, Scratch};
use crate::scale::peer;

/// What the whole of it may take, where nothing is answered as well: that is what is promised.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// A cluster whose fabric is applied, and whose links have come up: until a router has its
/// link-local address it asks for no neighbour.
fn cluster(numbers: &[usize], families: Families, mode: &str) -> Cluster {
    let cluster = Cluster::of(numbers, families, &json!({"mode": mode}));
    if mode == "direct" {
        cluster.teach_router();
    }
    cluster.apply();
    for number in numbers {
        for ipv6 in [false, true] {
            assert!(cluster.nodes[0].host.pings(bare(&address(*number, ipv6))));
        }
    }
    cluster
}

fn first(told: &Finished) -> &str {
    told.stdout.lines().next().unwrap_or_default()
}

/// The document of `--json`.
#[track_caller]
fn document(node: &Node, args: &[&str]) -> Value {
    let told = node.manx(&[&["probe", "--json"], args].concat());
    serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"))
}

/// The path of a peer.
#[track_caller]
fn path<'a>(document: &'a Value, peer: &str, side: &str, family: &str) -> &'a Value {
    let peers = document["peers"].as_array().unwrap();
    let peer = peers.iter().find(|one| one["name"] == peer).unwrap();
    let mut paths = peer["paths"].as_array().unwrap().iter();
    let found = paths.find(|one| one["side"] == side && one["family"] == family);
    found.unwrap_or_else(|| panic!("{side} {family}: {document:#}"))
}

/// Asserts that the first line begins so, and that the exit status agrees.
#[track_caller]
fn names(node: &Node, args: &[&str], begin: &str) -> Finished {
    let told = node.manx(&[&["probe"], args].concat());
    assert!(first(&told).starts_with(begin), "{begin}: {told:#?}");
    let expected = if begin.starts_with("healthy") || begin.starts_with("info") { 0 } else { 3 };
    assert_eq!(told.status, expected, "{told:#?}");
    assert!(told.alone < SILENT_MAX, "{:?} of {:?}", told.alone, told.took);
    told
}

/// Rules of nft for what the router forwards, and for what it says itself.
fn firewall(router: &Netns, forward: &str, output: &str) {
    let rules = format!(
        "flush ruleset
        table inet test {{
            chain forward {{ type filter hook forward priority 0; {forward} }}
            chain output {{ type filter hook output priority 0; {output} }}
        }}"
    );
    let scratch = Scratch::new();
    let file = scratch.file("rules", rules);
    router.command("nft", &["-f", file.to_str().unwrap()]).ok();
}

#[test]
fn paths_that_work_are_measured() {
    for (mode, families, inner) in [
        ("direct", Families::Dual, None),
        ("vxlan", Families::Ipv4, Some([1450, 0])),
        ("vxlan", Families::Dual, Some([1450, 1430])),
    ] {
        let cluster = cluster(&[1, 2, 3], families, mode);
        let node = &cluster.nodes[0];
        let told = names(node, &[], "healthy: nodes probed: 2; errors: 0, warnings: 0");
        assert_eq!(told.stderr, "", "no terminal, no progress");
        let document = document(node, &[]);
        for check in document["checks"].as_array().unwrap() {
            assert_ne!(check["status"], "found", "{document:#}");
        }
        for (family, place) in [("IPv4", 0), ("IPv6", 1)] {
            if place == 1 && families == Families::Ipv4 {
                continue;
            }
            for peer in ["node-b", "node-c"] {
                let outer = path(&document, peer, "outer", family);
                assert_eq!((&outer["sent"], &outer["received"]), (&json!(3), &json!(3)));
                assert_eq!(outer["mtu"]["passed"], 1500, "{outer:#}");
                assert_eq!(outer["mtu"]["udpPassed"], 1500, "{outer:#}");
                assert!(outer["rttMicroseconds"]["mean"].as_u64().is_some(), "{outer:#}");
                let Some(mtus) = inner else { continue };
                let inner = path(&document, peer, "inner", family);
                assert_eq!(inner["mtu"]["passed"], mtus[place], "{inner:#}");
                assert_eq!((&inner["carrier"], &inner["received"]), (&json!("vxlan"), &json!(3)));
                let own = ["10.244.1.0", "fd00:244:1::"][place];
                assert_eq!(inner["source"], own, "answers come back through the tunnel");
            }
        }
        if inner.is_none() {
            assert!(told.stdout.contains("not probed: pods of node-b, node-c: "), "{told:#?}");
        }
    }
}

/// In direct mode a pod is the only one that answers where pods are.
#[test]
fn a_pod_is_the_end_of_the_inner_path() {
    let cluster = cluster(&[1, 3], Families::Dual, "direct");
    let node = &cluster.nodes[0];
    let pod = cluster.nodes[1].attach("pod");
    for pod in addresses(&pod) {
        let told = names(node, &[&pod], "healthy: ");
        assert!(told.stdout.contains(&pod), "{told:#?}");
        // As a cloud does that does not know whose the address is.
        let family = if pod.contains(':') { "ip6" } else { "ip" };
        firewall(&cluster.router, &format!("{family} daddr {pod} drop;"), "");
        let told = names(node, &[&pod], "error: protocol-filtered: node node-c: ");
        assert!(first(&told).contains("source and destination check"), "{told:#?}");
    }
    assert_eq!(node.manx(&["probe", "node-x"]).status, 2);
    assert_eq!(node.manx(&["probe", "--all", "node-c"]).status, 2);
    assert_eq!(node.manx(&["probe", "10.99.0.1"]).status, 2);
}

/// A pod that does not answer is told apart from a tunnel that does not work.
#[test]
fn a_pod_behind_a_tunnel_is_judged_by_what_the_tunnel_does() {
    let cluster = cluster(&[1, 3], Families::Ipv4, "vxlan");
    let (node, other) = (&cluster.nodes[0], &cluster.nodes[1]);
    let pod = other.attach("pod");
    let live = bare(&addresses(&pod)[0]).to_owned();
    let told = names(node, &["node-c", &live], "healthy: nodes probed: 1; ");
    assert_eq!(told.stdout.matches("inner IPv4").count(), 2, "{told:#?}");
    let file = node.host.scratch().path().join("manx.prom");
    for named in [&["node-c", "10.244.3.99"][..], &["10.244.3.99"], &["10.244.3.99", &live]] {
        let args = [named, &["--textfile", file.to_str().unwrap()]].concat();
        let told = names(node, &args, "warning: peer-unreachable: node node-c: 10.244.3.0 answers");
        assert!(first(&told).contains("no pod with that address answers"), "{told:#?}");
        assert!(!told.stdout.contains("filtered"), "{told:#?}");
        // The next steps, as they are printed, on the other node.
        assert!(told.stdout.contains("manx explain node-a 10.244.3.99 on node-c"), "{told:#?}");
        let explained = other.manx(&["explain", "node-a", "10.244.3.99"]);
        let words = "no pod of this node has the address";
        assert!(explained.stdout.contains(words), "{explained:?}");
        let metrics = std::fs::read_to_string(&file).unwrap();
        let series = metrics.lines().filter(|line| !line.starts_with('#'));
        let mut series: Vec<_> = series.filter_map(|line| line.rsplit_once(' ')).collect();
        let count = series.len();
        series.sort_unstable();
        series.dedup_by_key(|(name, _)| *name);
        assert_eq!(series.len(), count, "a value has its line once: {metrics}");
    }
    // A policy that drops what asks.
    let reject = format!(
        "add table inet own
        add chain inet own in {{ type filter hook forward priority 0; }}
        add rule inet own in ip daddr {live} reject with icmpx admin-prohibited"
    );
    let rules = node.host.scratch().file("rules", reject);
    other.host.command("nft", &["-f", rules.to_str().unwrap()]).ok();
    let told = names(node, &[&live], "warning: peer-unreachable: node node-c: 10.244.3.0 answers");
    assert!(first(&told).contains("says that it is not allowed"), "{told:#?}");
    // It is the tunnel, and told once.
    firewall(&cluster.router, "ip daddr 198.51.100.13 udp dport 4789 drop;", "");
    let args = ["node-c", &live, "10.244.3.99"];
    let told = names(node, &args, "error: protocol-filtered: node node-c: ");
    assert_eq!(told.stdout.matches("error: ").count(), 1, "{told:#?}");
    assert!(!told.stdout.contains("no pod with that"), "{told:#?}");
}

/// The router's second subnet takes 1400 bytes, and nobody learns of it.
fn narrow(cluster: &Cluster, mtu: u32, silent: bool) {
    batch(&cluster.router, &format!("link set to-c mtu {mtu}\nlink set subnet2 mtu {mtu}"));
    let last = cluster.nodes.last().unwrap();
    batch(&last.host, &format!("link set eth0 mtu {mtu}"));
    if silent {
        let drop = "icmp type destination-unreachable drop; icmpv6 type packet-too-big drop;";
        firewall(&cluster.router, "", drop);
    }
}

#[test]
fn a_black_hole_is_named_with_the_mtu_that_works() {
    for families in [Families::Ipv4, Families::Dual] {
        let cluster = cluster(&[1, 3], families, "direct");
        narrow(&cluster, 1397, true);
        let told = names(&cluster.nodes[0], &[], "error: path-mtu: node node-c: ");
        assert!(first(&told).contains("no more than 1397 pass"), "{told:#?}");
        assert!(first(&told).contains("black hole"), "{told:#?}");
        assert!(told.stdout.contains("fix: set mtu to 1397"), "{told:#?}");
        let document = document(&cluster.nodes[0], &[]);
        assert_eq!(document["checks"][0]["id"], "path-mtu");
        assert_eq!(path(&document, "node-c", "outer", "IPv4")["mtu"]["lost"], 1398);
        let count = told.stdout.matches("path-mtu").count();
        assert_eq!(count, if families == Families::Dual { 2 } else { 1 }, "{told:#?}");
        // What was named works.
        let node = cluster.nodes[0].with("mtu", json!(1397));
        let told = names(&node, &[], "warning: path-mtu: node node-c: ");
        assert!(first(&told).contains("for what the node itself sends"), "{told:#?}");
    }
}

#[test]
fn a_narrow_path_that_says_so_is_a_warning() {
    let cluster = cluster(&[1, 3], Families::Dual, "direct");
    narrow(&cluster, 1397, false);
    let told = names(&cluster.nodes[0], &[], "warning: path-mtu: node node-c: ");
    assert!(first(&told).contains("192.0.2.1 says so"), "{told:#?}");
    assert!(told.stdout.contains("the kernel remembers 1397"), "{told:#?}");
    names(&cluster.nodes[0].with("mtu", json!(1397)), &[], "healthy: ");
}

/// The kernel's VXLAN is cut into fragments in IPv4, and lost in IPv6.
#[test]
fn a_tunnel_over_a_narrow_path() {
    let cluster = cluster(&[1, 3], Families::Dual, "vxlan");
    narrow(&cluster, 1397, true);
    let told = names(&cluster.nodes[0], &[], "error: path-mtu: node node-c: ");
    assert!(first(&told).contains("pods send up to 1430 bytes"), "{told:#?}");
    assert!(first(&told).contains("no more than 1327 pass"), "{told:#?}");
    assert!(told.stdout.contains("are cut into fragments on the way"), "{told:#?}");
    assert!(told.stdout.contains("fix: set mtu to 1347"), "{told:#?}");
}

#[test]
fn a_filter_of_the_tunnels_port_is_named() {
    for (verdict, words) in [
        ("drop", "other UDP is answered, and nobody refuses it"),
        ("reject", "192.0.2.1 says that nobody listens at the port"),
        ("reject with icmpx admin-prohibited", "192.0.2.1 says that it is not allowed"),
    ] {
        let cluster = cluster(&[1, 2, 3], Families::Ipv4, "vxlan");
        firewall(&cluster.router, &format!("ip daddr 198.51.100.13 udp dport 4789 {verdict};"), "");
        let told = names(&cluster.nodes[0], &[], "error: protocol-filtered: node node-c: ");
        assert!(first(&told).contains("UDP 4789 is filtered"), "{told:#?}");
        assert!(first(&told).contains(words), "{told:#?}");
        assert_eq!(told.stdout.matches("error: ").count(), 1, "node-b is reached: {told:#?}");
    }
}

/// Of IPv6, and in this node's own firewall.
#[test]
fn a_filter_is_named_wherever_it_is() {
    let cluster = cluster(&[1, 3], Families::Dual, "vxlan");
    let node = &cluster.nodes[0];
    firewall(&cluster.router, "ip6 daddr 2001:db8:2::13 udp dport 4789 reject;", "");
    let told = names(node, &[], "error: protocol-filtered: node node-c: 2001:db8:2::13 answers, ");
    assert!(first(&told).contains("says that nobody listens at the port"), "{told:#?}");
    assert_eq!(told.stdout.matches("error: ").count(), 1, "IPv4 passes: {told:#?}");
    firewall(&cluster.router, "", "");
    let rules = "add table inet own
        add chain inet own out { type filter hook output priority 0; }
        add rule inet own out udp dport 4789 drop";
    let scratch = Scratch::new();
    let file = scratch.file("rules", rules);
    node.host.command("nft", &["-f", file.to_str().unwrap()]).ok();
    let told = names(node, &[], "error: protocol-filtered: node node-c: ");
    assert!(first(&told).contains("this node does not send it (Operation not"), "{told:#?}");
    assert!(told.stdout.contains("in the firewall of this node"), "{told:#?}");
    // What doctor cannot tell.
    let doctor = node.manx(&["doctor", "--only", "path-mtu", "--json"]);
    assert!(doctor.stdout.contains("run manx probe"), "{doctor:?}");
}

#[test]
fn a_node_that_is_gone_is_named() {
    let cluster = cluster(&[1, 2, 3], Families::Dual, "vxlan");
    let node = &cluster.nodes[0];
    // Behind the router, and on the link.
    batch(&cluster.nodes[2].host, "link set eth0 down");
    let told = names(node, &["node-c"], "error: peer-unreachable: node node-c: ");
    assert!(first(&told).contains("198.51.100.13 answers none of 3 echo requests"), "{told:#?}");
    // The kernel calls it reachable for a while, and it is asked again.
    batch(&cluster.nodes[1].host, "link set eth0 down");
    let told = names(node, &["node-b"], "error: peer-unreachable: node node-b: ");
    assert!(first(&told).contains("192.0.2.12) does not answer ARP on eth0"), "{told:#?}");
    let told = names(node, &[], "error: peer-unreachable: node node-b: ");
    assert!(told.stdout.contains("error: peer-unreachable: node node-c: "), "{told:#?}");
    assert_eq!(told.stdout.matches("protocol-filtered").count(), 0, "{told:#?}");
}

/// It is there, as its link says, and no more is known of it.
#[test]
fn a_node_whose_firewall_drops_what_asks_is_not_called_dead() {
    let cluster = cluster(&[1, 2, 3], Families::Ipv4, "vxlan");
    let node = &cluster.nodes[0];
    for other in &cluster.nodes[1..] {
        other.host.command("iptables", &["-P", "INPUT", "DROP"]).ok();
    }
    let begin =
        "warning: peer-unreachable: node node-b: 192.0.2.12 answers none of 3 echo requests";
    for state in ["reachable", "stale", "delay"] {
        let mac = cluster.nodes[1].host.link("eth0").unwrap()["address"].to_string();
        let entry = format!("neigh replace 192.0.2.12 dev eth0 lladdr {mac} nud {state}");
        batch(&node.host, &entry.replace('"', ""));
        let told = names(node, &["node-b"], begin);
        assert!(first(&told).contains("it answers ARP on eth0"), "{told:#?}");
    }
    // Behind a router that does.
    let told = names(node, &["node-c"], "error: peer-unreachable: node node-c: ");
    assert!(first(&told).contains("the router (192.0.2.1) answers ARP on eth0"), "{told:#?}");
    // It says so no more.
    batch(&cluster.nodes[1].host, "link set eth0 down");
    let told = names(node, &["node-b"], "error: peer-unreachable: node node-b: ");
    assert!(first(&told).contains("does not answer ARP on eth0"), "{told:#?}");
}

/// Which way is cut shows while both ends probe.
#[test]
fn one_way_is_told_apart_while_both_ends_probe() {
    for (mode, rule, id, words) in [
        (
            "direct",
            "ip daddr 198.51.100.13 drop;",
            "peer-unreachable",
            "the way from node-c to node-a works, and the way from node-a to node-c does not",
        ),
        (
            "vxlan",
            "ip daddr 198.51.100.13 udp dport 4789 drop;",
            "protocol-filtered",
            "dropped on the way from node-a to node-c",
        ),
    ] {
        let cluster = cluster(&[1, 3], Families::Ipv4, mode);
        firewall(&cluster.router, rule, "");
        let (a, c) = (&cluster.nodes[0], &cluster.nodes[1]);
        let (from, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| c.manx(&["probe"]));
            (a.manx(&["probe"]), other.join().unwrap())
        });
        let begin = format!("error: {id}: node node-c: ");
        assert!(first(&from).starts_with(&begin) && first(&from).contains(words), "{from:#?}");
        let begin = format!("error: {id}: node node-a: ");
        assert!(first(&other).starts_with(&begin), "{other:#?}");
        assert!(!first(&other).contains("works"), "{other:#?}");
    }
}

#[test]
fn two_faults_at_once_are_both_named() {
    let cluster = cluster(&[1, 2, 3], Families::Ipv4, "vxlan");
    narrow(&cluster, 1397, true);
    let silent = "icmp type destination-unreachable drop;";
    firewall(&cluster.router, "ip daddr 198.51.100.13 udp dport 4789 drop;", silent);
    let node = &cluster.nodes[0];
    let told = names(node, &[], "error: protocol-filtered: node node-c: ");
    assert!(told.stdout.contains("error: path-mtu: node node-c: "), "{told:#?}");
    assert!(told.stdout.contains("fix: set mtu to 1347"), "{told:#?}");
    batch(&cluster.nodes[1].host, "link set eth0 down");
    let told = names(node, &[], "error: peer-unreachable: node node-b: ");
    assert!(told.stdout.contains("error: protocol-filtered: node node-c: "), "{told:#?}");
}

/// A node that does not run manx: addresses, and by and by a tunnel made by hand.
#[test]
fn a_node_without_manx_is_probed() {
    let direct = Cluster::of(&[1, 3], Families::Ipv4, &json!({"mode": "direct"}));
    direct.nodes[0].apply().ok();
    let told = names(&direct.nodes[0], &[], "healthy: ");
    assert!(told.stdout.contains("outer IPv4"), "{told:#?}");

    let cluster = Cluster::of(&[1, 3], Families::Ipv4, &json!({"mode": "vxlan"}));
    let (node, other) = (&cluster.nodes[0], &cluster.nodes[1].host);
    let mut peer = entry(3, Families::Ipv4);
    peer["tunnelMAC"] = json!("66:00:00:00:00:03");
    peer["tunnelAddresses"] = json!(["10.99.0.3"]);
    node.set_peers(&[entry(1, Families::Ipv4), peer]);
    node.apply().ok();
    let told = names(node, &[], "error: peer-unreachable: node node-c: ");
    assert!(first(&told).contains("it has no tunnel device"), "{told:#?}");
    let mac = node.host.link("vxlan.calico").unwrap()["address"].as_str().unwrap().to_owned();
    batch(
        other,
        &format!(
            "link add vx address 66:00:00:00:00:03 mtu 1450 type vxlan id 4096 dstport 4789 \
                 local 198.51.100.13 dev eth0 nolearning
             address add 10.99.0.3/32 dev vx
             link set vx up
             neighbour add 10.244.1.0 lladdr {mac} dev vx
             route add 10.244.1.0/24 via 10.244.1.0 dev vx onlink"
        ),
    );
    let fdb = ["fdb", "append", &mac, "dev", "vx", "dst", "192.0.2.11"];
    other.command("bridge", &fdb).ok();
    let told = names(node, &[], "healthy: ");
    assert!(told.stdout.contains("10.99.0.3"), "{told:#?}");
}

/// Of many nodes that have the same there is one finding.
#[test]
fn many_nodes_are_probed_in_bounded_time() {
    const COUNT: usize = 1000;
    let cluster = Cluster::of(&[1], Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let others = (0..COUNT).map(peer);
    let nodes: Vec<Value> = std::iter::once(entry(1, Families::Ipv4)).chain(others).collect();
    node.set_peers(&nodes);
    batch(&cluster.router, "route add blackhole 172.16.0.0/12");
    let told = node.manx(&["probe", "--rate", "20000"]);
    let begin = "error: peer-unreachable: nodes peer-0, peer-1, peer-2 and 997 more: peer-0: ";
    assert!(first(&told).starts_with(begin), "{}", first(&told));
    assert!(told.status == 3 && told.took < DEADLINE, "{:?}", told.took);
    // All of the addresses are the router's.
    batch(&cluster.router, "route add local 172.16.0.0/16 dev lo");
    for key in ["ipv4/icmp_ratelimit", "ipv4/conf/all/rp_filter"] {
        cluster.router.set_sysctl(key, "0");
    }
    let file = node.host.scratch().path().join("manx.prom");
    let name = file.to_str().unwrap();
    let told = node.manx(&["probe", "--rate", "20000", "--textfile", name]);
    assert!(first(&told).starts_with("healthy: nodes probed: 1000; "), "{}", first(&told));
    assert_eq!((told.status, told.stdout.lines().count()), (0, COUNT + 3));
    let metrics = std::fs::read_to_string(&file).unwrap();
    let up = "manx_probe_up{node=\"node-a\",peer=\"peer-999\",path=\"outer\",family=\"IPv4\"} 1\n";
    assert!(metrics.contains(up), "{metrics}");
    // The rate is kept: three echo requests and a datagram of each at least.
    let few = node.manx(&["probe", "peer-1", "peer-2", "peer-3", "peer-4", "--rate", "20"]);
    assert_eq!(few.status, 0, "{few:?}");
    assert!(few.took > Duration::from_millis(750), "{:?}", few.took);
}
