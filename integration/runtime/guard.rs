// SPDX-License-Identifier: Apache-2.0
//! What a hostile pod may not do: speak in another's name, or to what listens on
//! the node's loopback. It has CAP_NET_RAW, as containers have by default.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use serde_json::{Value, json};

use crate::harness::packet::{LAST, datagram, heard, listen, packet, send, send_last};
use crate::harness::{Host, Netns, Plugin, Pod};
use crate::node::{NETWORK, assert_clean, host_local, manx, seen, strace};

const NODE: [&str; 2] = ["192.0.2.11", "2001:db8::11"];
pub(crate) const OUTSIDE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// What the pods get in their order.
const A: [&str; 2] = ["10.1.0.2", "fd00:1::2"];
const B: [&str; 2] = ["10.1.0.3", "fd00:1::3"];
/// Another node, the pod of another node, and anybody.
const OTHERS: [[&str; 3]; 2] =
    [["192.0.2.12", "10.2.0.5", "8.8.8.8"], ["2001:db8::12", "fd00:2::5", "2001:4860::8"]];

/// A node with two pods, and an outside that has routes to everything.
pub(crate) struct Scene {
    pub(crate) outside: Netns,
    pub(crate) plugin: Plugin,
    pub(crate) pods: [Pod; 2],
    pub(crate) results: [Value; 2],
}

impl Scene {
    pub(crate) fn new(keys: &Value) -> Self {
        Self::on(Host::with_uplink(), keys)
    }

    fn on((host, outside): (Host, Netns), keys: &Value) -> Self {
        host.command("ip", &["link", "set", "lo", "up"]).ok();
        for (everything, node) in [("0.0.0.0/0", NODE[0]), ("::/0", NODE[1])] {
            outside.command("ip", &["route", "add", everything, "via", node]).ok();
        }
        let ipam = host_local(&host, &["10.1.0.0/24", "fd00:1::/64"]);
        let mut plugin = manx(&host, &ipam);
        for (key, value) in keys.as_object().unwrap() {
            plugin = plugin.with(key, value.clone());
        }
        let pods = ["a", "b"].map(Pod::new);
        let results = pods.each_ref().map(|pod| plugin.add(pod).ok());
        Self { outside, plugin, pods, results }
    }

    pub(crate) fn host(&self) -> &Host {
        self.plugin.host()
    }

    pub(crate) fn link(&self, pod: usize) -> &str {
        self.results[pod]["interfaces"][0]["name"].as_str().unwrap()
    }

    /// Which of the sources that the first pod claims are believed by whoever
    /// listens in `at`.
    pub(crate) fn believed(&self, at: &Netns, address: &str, sources: &[&str]) -> Vec<String> {
        let socket = listen(at, address);
        let to = socket.local_addr().unwrap();
        for source in sources {
            let source: IpAddr = source.parse().unwrap();
            send(&self.pods[0].netns, to.ip(), &datagram(source, to, b"forged"));
        }
        send_last(&self.pods[0].netns, to);
        heard(&socket).into_iter().map(|(_, source)| source.to_string()).collect()
    }

    pub(crate) fn table(&self) -> String {
        self.host().command("nft", &["list", "ruleset"]).ok()
    }

    pub(crate) fn nft(&self, change: &str) {
        self.host().command("nft", &[change]).ok();
    }

    /// What a pod may not claim, at every place where it could be believed.
    fn assert_sound(&self, told: &str) {
        let forged = |family: usize| {
            let fixed = [NODE[family], OUTSIDE[family], B[family]];
            OTHERS[family].into_iter().chain(fixed).collect::<Vec<_>>()
        };
        for family in [0, 1] {
            for (at, address) in [
                (&**self.host(), NODE[family]),
                (&self.outside, OUTSIDE[family]),
                (&self.pods[1].netns, B[family]),
            ] {
                let sources = [&forged(family)[..], &[A[family]]].concat();
                let believed = self.believed(at, address, &sources);
                assert_eq!(believed, [A[family]], "{told}: the first pod at {address}");
            }
        }
    }
}

/// Whatever the node's own filter by routes does, which looks at IPv4 alone.
#[test]
fn a_pod_speaks_in_no_name_but_its_own() {
    for rp_filter in ["0", "1", "2"] {
        let node = Host::with_uplink();
        for scope in ["all", "default"] {
            node.0.set_sysctl(&format!("ipv4/conf/{scope}/rp_filter"), rp_filter);
        }
        Scene::on(node, &json!({})).assert_sound(&format!("rp_filter {rp_filter}"));
    }
}

#[test]
fn behind_a_masquerade_neither() {
    let scene = Scene::new(&json!({"ipMasq": true}));
    for family in [0, 1] {
        let believed = scene.believed(&scene.outside, OUTSIDE[family], &OTHERS[family]);
        assert_eq!(believed, [""; 0], "and not as the node");
        let pod = seen(&scene.pods[0].netns, &scene.outside, OUTSIDE[family]);
        assert_eq!(pod, Some(NODE[family].parse().unwrap()));
    }
}

#[test]
fn a_pod_of_a_second_network_neither() {
    let scene = Scene::new(&json!({}));
    let ipam = json!({"type": "manx-ipam", "dataDir": scene.host().scratch().dir("second"),
                      "ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]]});
    let second = manx(scene.host(), &ipam).with("name", "second".into());
    let other = Pod::new("c");
    second.add(&other).ok();
    for (at, sources, own) in [
        (A[0], [B[0], NODE[0], "8.8.8.8"], "10.7.0.1"),
        (A[1], [B[1], NODE[1], "2001::8"], "fd00:7::1"),
    ] {
        let socket = listen(&scene.pods[0].netns, at);
        let to = socket.local_addr().unwrap();
        for source in sources.iter().chain([&own]) {
            send(&other.netns, to.ip(), &datagram(source.parse().unwrap(), to, b"forged"));
        }
        send_last(&other.netns, to);
        let heard: Vec<_> = heard(&socket).iter().map(|(_, source)| source.to_string()).collect();
        let lease = other.netns.addresses("eth0");
        assert!(
            heard.iter().all(|source| lease.iter().any(|own| own.starts_with(source))),
            "{heard:?}"
        );
    }
}

/// Before there is an address, and for what belongs to the link, there is no way
/// back to look for.
#[test]
fn what_has_no_address_yet_passes() {
    let scene = Scene::new(&json!({}));
    let pod = &scene.pods[0].netns;
    let dhcp = listen(scene.host(), "0.0.0.0");
    let everybody = SocketAddr::new([255; 4].into(), dhcp.local_addr().unwrap().port());
    dhcp.set_broadcast(true).unwrap();
    // A raw socket asks for leave to send to everybody, so the packet is one that
    // the pod's own kernel makes.
    pod.command("ip", &["route", "add", "255.255.255.255", "dev", "eth0"]).ok();
    pod.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(LAST.as_bytes(), everybody).unwrap();
    });
    assert_eq!(heard(&dhcp), []);
    let solicit = |source: &str, to: &str| {
        let (source, to): (IpAddr, IpAddr) = (source.parse().unwrap(), to.parse().unwrap());
        // A neighbour solicitation for the host link's own address, with a
        // checksum that nobody looks at before the rules.
        let icmp = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &[0xfe, 0x80], &[0; 13], &[9]].concat();
        packet(58, source, to, &icmp)
    };
    pod.command("ip", &["-6", "route", "add", "ff00::/8", "dev", "eth0", "table", "local"]);
    for (source, to) in [("::", "ff02::1:ff00:9"), ("::", "ff02::16"), ("fe80::77", "ff02::2")] {
        send(pod, to.parse().unwrap(), &solicit(source, to));
    }
    // A new address with duplicate address detection, on a link that was down.
    pod.command("ip", &["link", "set", "eth0", "down"]).ok();
    pod.command("ip", &["link", "set", "eth0", "up"]).ok();
    pod.command("ip", &["address", "add", "fe80::99/64", "dev", "eth0"]).ok();
    let counted = scene.table();
    assert!(counted.contains("counter packets 0 bytes 0 drop"), "{counted}");
}

/// A router or a floating address: whoever routes it to the link vouches for it.
#[test]
fn a_source_that_the_node_routes_to_the_pod_passes() {
    let scene = Scene::new(&json!({}));
    for (family, extra) in [(0, "10.9.9.9"), (1, "fd00:9::9")] {
        let link = scene.link(0).to_owned();
        scene.host().command("ip", &["route", "add", extra, "dev", &link]).ok();
        for (at, address) in [(&scene.outside, OUTSIDE[family]), (&**scene.host(), NODE[family])] {
            assert_eq!(scene.believed(at, address, &[extra]), [extra]);
        }
        scene.host().command("ip", &["route", "del", extra]).ok();
        assert_eq!(scene.believed(&scene.outside, OUTSIDE[family], &[extra]), [""; 0]);
    }
}

#[test]
fn a_network_may_do_without_and_still_has_no_loopback() {
    let scene = Scene::new(&json!({"sourceCheck": false}));
    let sources = ["8.8.8.8", A[0]];
    assert_eq!(scene.believed(&scene.outside, OUTSIDE[0], &sources), sources);
    assert!(!scene.table().contains("fib"), "{}", scene.table());
    // Turned on again, the next pod brings it back.
    let plugin = manx(scene.host(), &host_local(scene.host(), &["10.1.0.0/24", "fd00:1::/64"]));
    plugin.add(&Pod::new("c")).ok();
    assert_eq!(scene.believed(&scene.outside, OUTSIDE[0], &sources), [A[0]]);
}

/// Network policies know a pod by its address: the source check keeps it from speaking as
/// somebody whom they do not isolate.
#[test]
fn an_isolated_pod_does_not_escape_in_anothers_name() {
    for (checks, escapes) in [(true, false), (false, true)] {
        let keys =
            json!({"networkPolicy": "enforce", "networkPolicyWait": 0, "sourceCheck": checks});
        let scene = Scene::new(&keys);
        let pod = &scene.pods[0].netns;
        for family in [0, 1] {
            let outside = listen(&scene.outside, OUTSIDE[family]);
            let to = outside.local_addr().unwrap();
            let stranger = OTHERS[family][2];
            for source in [A[family], B[family], stranger] {
                send(pod, to.ip(), &datagram(source.parse().unwrap(), to, b"forged"));
            }
            // A pod may always speak to its node: once this came, what was sent before it has
            // been judged.
            let node = listen(scene.host(), NODE[family]);
            send_last(pod, node.local_addr().unwrap());
            heard(&node);
            send_last(scene.host(), to);
            let heard: Vec<String> =
                heard(&outside).into_iter().map(|(_, source)| source.to_string()).collect();
            let expected: &[&str] = if escapes { &[stranger] } else { &[] };
            assert_eq!(heard, expected, "sourceCheck {checks}");
        }
    }
}

/// What a chained portmap sets opens the node's loopback to pods, were it not for
/// the rules.
#[test]
fn a_pod_does_not_reach_the_nodes_loopback() {
    for keys in [json!({}), json!({"sourceCheck": false})] {
        let scene = Scene::new(&keys);
        let pod = &scene.pods[0].netns;
        let link = scene.link(0).to_owned();
        assert_eq!(scene.host().sysctl(&format!("ipv4/conf/{link}/route_localnet")), "0");
        scene.host().set_sysctl(&format!("ipv4/conf/{link}/route_localnet"), "1");
        scene.host().set_sysctl("ipv4/conf/all/rp_filter", "0");
        pod.set_sysctl("ipv4/conf/eth0/route_localnet", "1");
        let local = listen(scene.host(), "127.0.0.1");
        let to = local.local_addr().unwrap();
        for source in [A[0], "127.0.0.1", "127.1.2.3", "8.8.8.8"] {
            send(pod, to.ip(), &datagram(source.parse().unwrap(), to, b"forged"));
        }
        // Nothing of the pod is heard there, so the node itself ends it, after a
        // packet that came the same way was.
        let open = listen(scene.host(), NODE[0]);
        send_last(pod, open.local_addr().unwrap());
        heard(&open);
        send_last(scene.host(), to);
        assert_eq!(heard(&local), [], "{keys}");
        let from_loopback = scene.believed(&scene.outside, OUTSIDE[0], &["127.0.0.1", "127.9.9.9"]);
        assert_eq!(from_loopback, [""; 0], "{keys}");
    }
}

#[test]
fn advertisements_and_redirects_of_pods_are_dropped_whatever_the_link_is_set_to() {
    let scene = Scene::new(&json!({}));
    let link = scene.link(0).to_owned();
    let rules = scene.table();
    for rule in ["icmp type redirect drop", "nd-router-advert drop", "nd-redirect drop"] {
        assert!(rules.contains(rule), "{rules}");
    }
    scene.host().set_sysctl(&format!("ipv6/conf/{link}/accept_ra"), "2");
    // Lifetime 1800 s, no option; from the pod's own link-local address.
    let pod = &scene.pods[0].netns;
    let source = link_local(pod);
    let mut icmp = vec![134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let to: IpAddr = "ff02::1".parse().unwrap();
    let sum = icmpv6_checksum(source, to, &icmp);
    icmp[2..4].copy_from_slice(&sum);
    let advertisement = packet(58, source, to, &icmp).into_iter();
    // Hop limit 255, as the kernel asks.
    let advertisement: Vec<u8> =
        advertisement.enumerate().map(|(at, byte)| if at == 7 { 255 } else { byte }).collect();
    pod.command("ip", &["-6", "route", "add", "ff02::1", "dev", "eth0", "table", "local"]);
    send(pod, to, &advertisement);
    // A packet behind it has come through.
    let believed = scene.believed(scene.host(), NODE[1], &[]);
    assert_eq!(believed, [""; 0]);
    let routes = scene.host().command("ip", &["-6", "route", "show", "default"]).ok();
    assert!(!routes.contains("proto ra"), "{routes}");
}

fn link_local(pod: &Netns) -> IpAddr {
    let said =
        pod.command("ip", &["-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]).ok();
    let cidr = said.split_whitespace().nth(3).expect("a link-local address");
    cidr.split('/').next().unwrap().parse().unwrap()
}

fn icmpv6_checksum(source: IpAddr, to: IpAddr, icmp: &[u8]) -> [u8; 2] {
    let (IpAddr::V6(source), IpAddr::V6(to)) = (source, to) else { panic!("IPv6") };
    let length = (icmp.len() as u32).to_be_bytes();
    let all = [&source.octets()[..], &to.octets(), &length, &[0, 0, 0, 58], icmp].concat();
    let mut sum: u32 =
        all.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

#[test]
fn a_flush_is_told_by_check_and_repaired_by_status() {
    let masquerade = json!({"ipMasq": true});
    let ours = format!("manx-{NETWORK}");
    for keys in [&json!({}), &masquerade] {
        let scene = Scene::new(keys);
        let before = scene.table();
        for what in [
            "flush ruleset".to_owned(),
            format!("flush table inet {ours}"),
            format!("flush chain inet {ours} forward"),
            format!("delete table inet {ours}"),
            format!("insert rule inet {ours} forward accept"),
            format!("add table inet {ours} {{ flags dormant; }}"),
        ] {
            scene.nft(&what);
            let error = scene.plugin.check(&scene.pods[0], &scene.results[0]).error();
            assert_eq!(error["code"], 102, "{what}: {error}");
            assert!(error["msg"].as_str().unwrap().contains(&ours), "{what}: {error}");
            scene.plugin.status().ok();
            assert_eq!(scene.table(), before, "{what}");
            scene.plugin.check(&scene.pods[0], &scene.results[0]).ok();
        }
        if keys == &json!({}) {
            scene.assert_sound("after all repairs");
        }
    }
}

/// The rules know a pod by the group of its link.
#[test]
fn a_link_that_lost_its_group_gets_it_back_by_status() {
    let scene = Scene::new(&json!({}));
    let group = || scene.host().link(scene.link(0)).unwrap()["group"].clone();
    let before = group();
    for other in ["default", "77"] {
        let changed = ["link", "set", scene.link(0), "group", other];
        scene.host().command("ip", &changed).ok();
        let believed = scene.believed(&scene.outside, OUTSIDE[0], &["8.8.8.8"]);
        assert_eq!(believed, ["8.8.8.8"], "the forgery is good");
        let told = scene.plugin.call("STATUS").run();
        assert!(told.status == 0 && told.stderr.contains(scene.link(0)), "{told:?}");
        assert_eq!(group(), before);
        assert_eq!(scene.believed(&scene.outside, OUTSIDE[0], &["8.8.8.8"]), [""; 0]);
    }
    assert!(!scene.plugin.call("STATUS").run().stderr.contains("group"));
}

/// Where nobody asks for the status, the next pod sees to it.
#[test]
fn a_flush_is_repaired_by_the_next_add() {
    let scene = Scene::new(&json!({}));
    let before = scene.table();
    for (what, id) in [("flush ruleset", "c"), ("flush chain inet manx-net forward", "d")] {
        scene.nft(what);
        scene.plugin.add(&Pod::new(id)).ok();
        assert_eq!(scene.table(), before, "{what}");
    }
}

#[test]
fn status_makes_no_table_before_there_is_a_pod() {
    let (host, _outside) = Host::with_uplink();
    let plugin = manx(&host, &host_local(&host, &["10.1.0.0/24"])).with("ipMasq", true.into());
    plugin.status().ok();
    assert_eq!(host.command("nft", &["list", "ruleset"]).ok(), "");
}

/// A node of 500 pods has the rules of a node with one.
#[test]
fn there_is_no_rule_and_no_element_for_a_pod() {
    let (host, _outside) = Host::with_uplink();
    let ipam = json!({"type": "manx-ipam", "dataDir": host.scratch().dir("leases"),
                      "ranges": [[{"subnet": "10.1.0.0/22"}]]});
    let plugin = manx(&host, &ipam).with("ipMasq", true.into());
    let first = Pod::new("first");
    plugin.add(&first).ok();
    let table = || host.command("nft", &["list", "ruleset"]).ok();
    let one = table();
    let sandboxes: Vec<Pod> = (0..10).map(|number| Pod::new(&format!("many{number}"))).collect();
    std::thread::scope(|scope| {
        for half in sandboxes.chunks(5) {
            let plugin = &plugin;
            let _ = scope.spawn(move || {
                for pod in half {
                    for number in 0..50 {
                        plugin.add(&pod.interface(&format!("n{number}"))).ok();
                    }
                }
            });
        }
    });
    let links = host.links().iter().filter(|name| name.starts_with("cali")).count();
    assert_eq!(links, 501);
    assert_eq!(table(), one);
}

/// A kernel without nf_tables has no table to look at or to remove.
#[test]
fn without_nfnetlink_everything_but_masquerade_works() {
    let (host, _outside) = Host::with_uplink();
    let plugin = manx(&host, &host_local(&host, &["10.1.0.0/24"]));
    let pod = Pod::new("a");
    // The sockets of rtnetlink come first.
    let refusing = |from: usize| format!("inject=socket:error=EPROTONOSUPPORT:when={from}+");
    let (added, _) = strace(&host, &plugin.call("ADD").pod(&pod), &["-f", "-e", &refusing(3)]);
    assert_eq!(added.status, 0, "{added:?}");
    assert!(added.stderr.contains("not checked"), "{added:?}");
    let result: Value = serde_json::from_str(&added.stdout).unwrap();
    let check = plugin.call("CHECK").pod(&pod).key("prevResult", result);
    let status = plugin.call("STATUS");
    let collection = plugin.call("GC").key("cni.dev/valid-attachments", json!([]));
    let calls = [(check, refusing(3)), (status, refusing(2)), (collection, refusing(2))];
    for (call, refuse) in calls {
        let (done, trace) = strace(&host, &call, &["-f", "-e", &refuse]);
        assert!(done.status == 0 && trace.contains("NETLINK_NETFILTER"), "{done:?} {trace}");
    }
    assert_clean(&host);
    let masquerading = plugin.with("ipMasq", true.into());
    let call = masquerading.call("ADD").pod(&pod);
    let (refused, _) = strace(&host, &call, &["-f", "-e", &refusing(3)]);
    assert!(refused.status != 0 && refused.stdout.contains("ipMasq"), "{refused:?}");
    assert_clean(&host);
    assert!(fs::read_dir(host.scratch().dir("root/run/manx")).is_ok());
}

/// A name for which `manx-NAME` is no table's.
#[test]
fn the_longest_names_have_tables_that_come_and_go() {
    for length in [250, 251] {
        let (host, _outside) = Host::with_uplink();
        let plugin = manx(&host, &host_local(&host, &["10.1.0.0/24"]))
            .with("name", "n".repeat(length).into())
            .with("ipMasq", true.into());
        let pod = Pod::new("a");
        let result = plugin.add(&pod).ok();
        plugin.check(&pod, &result).ok();
        plugin.status().ok();
        assert!(host.command("nft", &["list", "tables"]).ok().contains("table inet manx"));
        plugin.gc(&[]).ok();
        assert_eq!(host.command("nft", &["list", "tables"]).ok(), "");
    }
}
