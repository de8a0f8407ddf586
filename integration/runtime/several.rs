// SPDX-License-Identifier: Apache-2.0
//! Several networks of one pod at once: containerd and nerdctl attach and detach
//! them so.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Host, Netns, Plugin, Pod, Reply, eventually, plugin_dir};
use crate::node::{address, assert_clean, manx, script};

/// A network of manx-ipam with a subnet of its own for each number.
fn network(host: &Host, number: usize) -> Plugin {
    let ranges = json!([[{"subnet": format!("10.{}.0.0/24", 100 + number)}],
                        [{"subnet": format!("fd00:{number}::/64")}]]);
    let leases = host.scratch().dir("leases");
    let ipam = json!({"type": "manx-ipam", "dataDir": leases, "ranges": ranges});
    manx(host, &ipam).with("name", json!(format!("net{number}")))
}

/// A reference plugin's network: ptp or bridge.
fn theirs(host: &Host, kind: &str) -> Plugin {
    let ipam = json!({"type": "host-local", "dataDir": host.scratch().dir("theirs"),
        "ranges": [[{"subnet": "10.7.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]});
    Plugin::new(host, plugin_dir().join(kind)).config(json!({
        "cniVersion": "1.0.0", "name": kind, "type": kind, "ipam": ipam,
        "bridge": "br0", "isGateway": true,
    }))
}

/// Does the same for all attachments at the same time.
fn at_once(all: &[(Plugin, Pod)], act: impl Fn(&Plugin, &Pod) -> Reply + Sync) -> Vec<Reply> {
    thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> =
            all.iter().map(|(plugin, pod)| scope.spawn(move || act(plugin, pod))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn ip(netns: &Netns, args: &str) -> Vec<String> {
    let said = netns.command("ip", &args.split(' ').collect::<Vec<_>>()).ok();
    said.lines().map(|line| line.trim().to_owned()).collect()
}

/// Our rules that a pod has.
fn rules(pod: &Pod) -> Vec<String> {
    let mut all = ip(&pod.netns, "-4 rule show");
    all.extend(ip(&pod.netns, "-6 rule show"));
    all.retain(|line| line.ends_with("proto 109"));
    all
}

/// The node answers each address, by the link to which it belongs: it believes no
/// other. One interface has the default route, the others stand behind it.
fn assert_all_answer(host: &Host, all: &[(Plugin, Pod)], results: &[Value]) {
    for ((plugin, pod), result) in all.iter().zip(results) {
        for ip in result["ips"].as_array().unwrap() {
            let address = ip["address"].as_str().unwrap().split('/').next().unwrap();
            assert!(host.pings(address), "{} {address}", pod.ifname);
        }
        if plugin.conf["type"] == "manx" {
            plugin.check(pod, result).ok();
        }
    }
    let pod = &all[0].1;
    let defaults = ip(&pod.netns, "-4 route show default");
    let plain = defaults.iter().filter(|line| !line.contains("metric")).count();
    assert_eq!((plain, defaults.len()), (1, all.len()), "{defaults:?}");
}

fn strict(host: &Host) {
    for scope in ["all", "default"] {
        host.set_sysctl(&format!("ipv4/conf/{scope}/rp_filter"), "1");
    }
}

#[test]
fn networks_of_one_pod_come_and_go_at_once() {
    let (host, _outside) = Host::with_uplink();
    strict(&host);
    for count in [2, 5, 5, 2] {
        let pod = Pod::new("p");
        let all: Vec<_> = (0..count)
            .map(|number| (network(&host, number), pod.interface(&format!("eth{number}"))))
            .collect();
        let results: Vec<Value> = at_once(&all, Plugin::add).into_iter().map(Reply::ok).collect();
        assert_all_answer(&host, &all, &results);
        assert_eq!(rules(&pod).len(), 2 * count, "{:?}", rules(&pod));
        at_once(&all, Plugin::del).into_iter().for_each(|reply| drop(reply.ok()));
        assert_eq!((rules(&pod), pod.netns.links()), (vec![], vec![]));
        assert_clean(&host);
    }
}

/// What Multus does then, to whichever was the first.
#[test]
fn whichever_was_first_the_default_route_may_be_moved() {
    let (host, _outside) = Host::with_uplink();
    strict(&host);
    let pod = Pod::new("p");
    let all: Vec<_> = (0..3)
        .map(|number| (network(&host, number), pod.interface(&format!("eth{number}"))))
        .collect();
    let results: Vec<Value> = at_once(&all, Plugin::add).into_iter().map(Reply::ok).collect();
    for (_, to) in &all {
        for (family, gateway) in [("-4", "169.254.1.1"), ("-6", "fe80::ecee:eeff:feee:eeee")] {
            let ip = |args: String| ip(&pod.netns, &format!("{family} route {args}"));
            let plain =
                |line: &&String| line.starts_with("default") && !line.contains("metric 109");
            for default in ip("show default".into()).iter().filter(plain) {
                let words: Vec<&str> = default.split(' ').collect();
                ip(format!("del default via {} dev {}", words[2], words[4]));
            }
            ip(format!("replace default via {gateway} dev {}", to.ifname));
        }
        for result in &results {
            for ip in result["ips"].as_array().unwrap() {
                let address = ip["address"].as_str().unwrap().split('/').next().unwrap();
                assert!(host.pings(address), "{address} with the way out by {}", to.ifname);
            }
        }
    }
    at_once(&all, Plugin::del).into_iter().for_each(|reply| drop(reply.ok()));
    assert_eq!((rules(&pod), pod.netns.links()), (vec![], vec![]));
    assert_clean(&host);
}

#[test]
fn so_do_those_of_many_pods() {
    let (host, _outside) = Host::with_uplink();
    strict(&host);
    let pods: Vec<Pod> = (0..6).map(|_| Pod::new("p")).collect();
    let of = |pod: &Pod| {
        let one = |number| (network(&host, number), pod.interface(&format!("eth{number}")));
        (0..5).map(one).collect::<Vec<_>>()
    };
    let all: Vec<_> = pods.iter().flat_map(of).collect();
    let results: Vec<Value> = at_once(&all, Plugin::add).into_iter().map(Reply::ok).collect();
    for (all, results) in all.chunks(5).zip(results.chunks(5)) {
        assert_all_answer(&host, all, results);
    }
    at_once(&all, Plugin::del).into_iter().for_each(|reply| drop(reply.ok()));
    assert!(pods.iter().all(|pod| rules(pod).is_empty()));
    assert_clean(&host);
}

/// One is attached while another is detached, over and over.
#[test]
fn an_interface_comes_while_another_goes() {
    let (host, _outside) = Host::with_uplink();
    strict(&host);
    let pod = Pod::new("p");
    let stays = (network(&host, 0), pod.interface("eth0"));
    let kept = stays.0.add(&stays.1).ok();
    let mut goes = (network(&host, 1), pod.interface("net1"));
    goes.0.add(&goes.1).ok();
    for number in 2..8 {
        let comes = (network(&host, number), pod.interface(&format!("net{number}")));
        let result = thread::scope(|scope| {
            let add = scope.spawn(|| comes.0.add(&comes.1));
            goes.0.del(&goes.1).ok();
            add.join().unwrap().ok()
        });
        for address in [address(&result), address(&kept)] {
            assert!(host.pings(&address), "{address}");
        }
        comes.0.check(&comes.1, &result).ok();
        stays.0.check(&stays.1, &kept).ok();
        assert_eq!(rules(&pod).len(), 4, "{:?}", rules(&pod));
        goes = comes;
    }
}

/// They wait for nobody, and put their default route before one that is there.
#[test]
fn ptp_and_bridge_attach_the_same_pod_at_the_same_time() {
    let (host, _outside) = Host::with_uplink();
    host.set_sysctl("ipv4/ip_forward", "1");
    for kind in ["ptp", "bridge", "ptp", "bridge"] {
        let pod = Pod::new("p");
        let mut all = vec![(theirs(&host, kind), pod.interface("eth0"))];
        all.extend((1..4).map(|n| (network(&host, n), pod.interface(&format!("eth{n}")))));
        let results: Vec<Value> = at_once(&all, Plugin::add).into_iter().map(Reply::ok).collect();
        for ((plugin, pod), result) in all.iter().zip(&results).skip(1) {
            assert!(host.pings(&address(result)), "{kind}: {}", pod.ifname);
            plugin.check(pod, result).ok();
        }
        let ours = ip(&pod.netns, "-4 route show default via 169.254.1.1");
        let plain = ours.iter().filter(|line| !line.contains("metric")).count();
        assert!(ours.len() == 3 && plain <= 1, "{kind}: {ours:?}");
        at_once(&all, Plugin::del).into_iter().for_each(|reply| drop(reply.ok()));
        assert_eq!((rules(&pod), pod.netns.links()), (vec![], vec![]), "{kind}");
    }
}

/// An IPAM plugin that waits for a file, and then gives 10.99.0.5.
fn slow(host: &Host, name: &str) -> Plugin {
    let here = host.scratch().path().display().to_string();
    script(
        host,
        "slow",
        &format!(
            "cat >/dev/null; test $CNI_COMMAND = ADD || exit 0
             touch {here}/waiting; while ! test -e {here}/go; do sleep 0.02; done
             echo '{{\"ips\":[{{\"address\":\"10.99.0.5/24\"}}]}}'"
        ),
    );
    manx(host, &json!({"type": "slow"})).with("name", json!(name))
}

/// Runs `meanwhile` while an ADD waits for its address; gives its reply.
fn meanwhile(host: &Host, plugin: &Plugin, pod: &Pod, work: impl FnOnce()) -> Reply {
    thread::scope(|scope| {
        let add = scope.spawn(|| plugin.add(pod));
        let waiting = host.scratch().path().join("waiting");
        assert!(eventually(DEADLINE, || waiting.exists()));
        work();
        host.scratch().file("go", "");
        add.join().unwrap()
    })
}

#[test]
fn the_second_waits_for_the_first_and_sees_what_it_made() {
    let (host, _outside) = Host::with_uplink();
    strict(&host);
    let (first, second) = (slow(&host, "slow"), network(&host, 1));
    let pod = Pod::new("p");
    let net1 = pod.interface("net1");
    let other = Pod::new("q");
    let second_result = thread::scope(|scope| {
        let mut added = None;
        let result = meanwhile(&host, &first, &pod, || {
            added = Some(scope.spawn(|| second.add(&net1)));
            // Another pod waits for nobody.
            network(&host, 2).add(&other).ok();
            thread::sleep(Duration::from_millis(100));
            assert_eq!(pod.netns.links(), [""; 0], "it did not wait");
        });
        result.ok();
        added.unwrap().join().unwrap().ok()
    });
    let defaults = ip(&pod.netns, "-4 route show default");
    assert!(defaults[0].starts_with("default via 169.254.1.1 dev eth0"), "{defaults:?}");
    assert!(defaults[1].contains("net1 metric 10901"), "{defaults:?}");
    assert!(host.pings(&address(&second_result)) && host.pings("10.99.0.5"));
}

/// Who holds the lock of one pod, such as a process of it, holds up no DEL.
#[test]
fn a_pod_cannot_keep_itself_from_being_removed() {
    let (host, _outside) = Host::with_uplink();
    let pod = Pod::new("p");
    let plugin = network(&host, 1);
    plugin.add(&pod).ok();
    plugin.add(&pod.interface("net1")).ok();
    let file = fs::File::open(pod.netns.path()).unwrap();
    file.lock().unwrap();
    plugin.del(&pod.interface("net1")).ok();
    plugin.del(&pod).ok();
    drop(file);
    assert_clean(&host);
}

/// What another plugin made after we looked is no reason to fail: here a default
/// route, and one to our next hop.
#[test]
fn routes_that_came_meanwhile_are_stood_behind() {
    let (host, _outside) = Host::with_uplink();
    strict(&host);
    let plugin = slow(&host, "slow");
    let pod = Pod::new("p");
    let other = Netns::new();
    let add = |args: &str| drop(ip(&pod.netns, args));
    let reply = meanwhile(&host, &plugin, &pod, || {
        crate::harness::connect(
            (&pod.netns, "net0", &["198.51.100.2/24"]),
            (&other, "peer", &["198.51.100.1/24"]),
        );
        add("route add default via 198.51.100.1");
        add("route add 169.254.1.1 dev net0");
    });
    let result = reply.ok();
    assert!(host.pings("10.99.0.5"));
    let routes = ip(&pod.netns, "-4 route show default");
    assert!(routes[0].contains("net0") && routes[1].contains("eth0 metric 10901"), "{routes:?}");
    assert_eq!(result["routes"][0]["priority"], 10_901, "{result}");
    plugin.check(&pod, &result).ok();
    plugin.del(&pod).ok();
    assert_eq!((rules(&pod), pod.netns.links()), (vec![], vec!["net0".to_owned()]));
    assert_clean(&host);
}

/// The same destination twice from IPAM is its mistake, and no reason to try again.
#[test]
fn a_route_that_ipam_gives_twice_fails_as_ever() {
    let (host, _outside) = Host::with_uplink();
    let ipam = json!({"type": "manx-ipam", "dataDir": host.scratch().dir("leases"),
        "ranges": [[{"subnet": "10.1.0.0/24"}]],
        "routes": [{"dst": "10.5.0.0/16"}, {"dst": "10.5.0.0/16"}]});
    let plugin = manx(&host, &ipam);
    let pod = Pod::new("p");
    for pod in [&pod, &pod.interface("net1")] {
        let error = plugin.add(pod).error();
        assert!(error["msg"].as_str().unwrap().contains("10.5.0.0/16"), "{error}");
    }
    assert_clean(&host);
    assert_eq!((rules(&pod), pod.netns.links()), (vec![], vec![]));
}

/// A runtime's list does not have the second any more; the pod lives on.
#[test]
fn a_collection_removes_the_rules_as_well() {
    let (host, _outside) = Host::with_uplink();
    let plugin = network(&host, 1);
    let pod = Pod::new("p");
    let result = plugin.add(&pod).ok();
    plugin.add(&pod.interface("net1")).ok();
    assert_eq!(rules(&pod).len(), 4);
    plugin.gc(&[&pod]).ok();
    assert_eq!((rules(&pod).len(), pod.netns.links()), (2, vec!["eth0".to_owned()]));
    plugin.check(&pod, &result).ok();
    // The first one's as well, by the journal.
    plugin.gc(&[]).ok();
    assert_eq!((rules(&pod), pod.netns.links()), (vec![], vec![]));
}
