// SPDX-License-Identifier: Apache-2.0
//! DEL: whatever is lost or broken, what the attachment had is given back, and
//! nothing else.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Host, Netns, Pod, connect};
use crate::network::{Network, host_link};

/// A network with one pod in it, and what was on the node before.
fn attached() -> (Network, Pod, Value) {
    let network = Network::new().dual();
    let before = network.remains();
    let pod = Pod::new("a").kubernetes("test", "pod1");
    network.add(&pod).ok();
    assert_ne!(network.remains(), before);
    (network, pod, before)
}

#[test]
fn del_removes_everything_and_prints_nothing() {
    let (network, pod, before) = attached();
    let reply = network.del(&pod);
    assert_eq!(reply.stdout, "");
    reply.ok();
    assert_eq!(network.remains(), before);
    assert!(pod.netns.links().is_empty());
}

#[test]
fn del_twice_is_ok_and_so_is_del_of_what_never_was() {
    let (network, pod, before) = attached();
    for _ in 0..3 {
        network.del(&pod).ok();
        assert_eq!(network.remains(), before);
    }
    network.del(&Pod::new("never")).ok();
    assert_eq!(network.remains(), before);
}

/// Calico enters the namespace to delete the link from inside, and leaves the
/// host's end behind when it cannot (calico#7554, #4722).
#[test]
fn del_without_a_namespace_removes_everything() {
    let paths = [None, Some(""), Some("/nowhere/at/all"), Some("/proc/0/ns/net")];
    for path in paths {
        let (network, pod, before) = attached();
        let call = network.call("DEL").pod(&pod);
        let call = match path {
            Some(path) => call.env("CNI_NETNS", path),
            None => call.without("CNI_NETNS"),
        };
        call.run().ok();
        assert_eq!(network.remains(), before, "{path:?}");
        assert!(pod.netns.links().is_empty(), "{path:?}");
    }
}

#[test]
fn del_after_the_namespace_is_gone_releases_address_and_journal() {
    let (network, pod, before) = attached();
    let Pod { id, ifname, args, netns } = pod;
    drop(netns);
    let gone = Pod { id, ifname, args, netns: Netns::new() };
    network.call("DEL").pod(&gone).without("CNI_NETNS").run().ok();
    let host = network.host();
    let done = crate::harness::eventually(crate::harness::DEADLINE, || host.links() == ["eth0"]);
    assert!(done, "{:?}", host.links());
    assert_eq!(network.remains(), before);
}

/// After a reboot or an unmount the bind mount is a plain file, upon which the
/// reference ptp's DEL fails for ever ("unknown FS magic").
#[test]
fn del_with_a_plain_file_for_a_namespace_removes_everything() {
    let (network, pod, before) = attached();
    let file = network.host().scratch().file("netns", "");
    for path in [&*file, network.host().scratch().path()] {
        network.call("DEL").pod(&pod).env("CNI_NETNS", path.to_str().unwrap()).run().ok();
        assert_eq!(network.remains(), before);
    }
}

/// The reference bridge deletes the node's own eth0 when it is called with the
/// node's namespace.
#[test]
fn del_with_the_nodes_namespace_never_touches_the_nodes_own_links() {
    let (network, pod, before) = attached();
    let eth0 = network.host().link("eth0").expect("the node's uplink is a veth named eth0");
    assert_eq!(eth0["linkinfo"]["info_kind"], "veth");
    let own = network.host().path();
    network.call("DEL").pod(&pod).env("CNI_NETNS", own.to_str().unwrap()).run().ok();
    assert_eq!(network.remains(), before);
    assert!(network.host().pings("192.0.2.1"));
}

#[test]
fn add_with_the_nodes_namespace_is_refused_before_anything_is_done() {
    let network = Network::new().gives(&json!({"ips": [{"address": "10.1.0.5/24"}]}));
    let before = network.remains();
    let own = network.host().path();
    let pod = Pod::new("a");
    let reply = network.call("ADD").pod(&pod).env("CNI_NETNS", own.to_str().unwrap()).run();
    let error = reply.error();
    assert_eq!(error["code"], 4, "{error}");
    assert_eq!(network.remains(), before);
    assert!(network.asked().is_empty());
}

#[test]
fn del_needs_neither_the_pods_name_nor_the_journal() {
    let (network, pod, before) = attached();
    fs::remove_dir_all(network.root("run/manx")).unwrap();
    let nameless = Pod { args: None, ..pod.clone() };
    network.call("DEL").pod(&nameless).env("CNI_NETNS", "/nowhere").run().ok();
    assert_eq!(network.remains(), before);
    assert!(pod.netns.links().is_empty());
}

#[test]
fn del_under_another_pods_name_removes_the_attachment_and_not_that_pods() {
    let (network, pod, _) = attached();
    let other = Pod::new("b").kubernetes("test", "pod2");
    let result = network.add(&other).ok();
    let mistaken = pod.kubernetes("test", "pod2");
    network.del(&mistaken).ok();
    assert_eq!(network.host().links(), [host_link(&result), "eth0".into()]);
    assert!(pod.netns.links().is_empty());
    network.check(&other, &result).ok();
}

#[test]
fn del_takes_any_prev_result_or_none() {
    let previous = [
        json!(null),
        json!({}),
        json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.2/32"}}),
        json!({"cniVersion": "9.9.9"}),
        json!("nonsense"),
    ];
    for previous in previous {
        let (network, pod, before) = attached();
        network.call("DEL").pod(&pod).key("prevResult", previous.clone()).run().ok();
        assert_eq!(network.remains(), before, "{previous}");
    }
}

/// The runtime gives the file as it is now, which may have been broken since
/// the ADD; the journal knows what the ADD was told.
#[test]
fn del_with_a_broken_ipam_section_releases_by_the_one_of_the_add() {
    let sections = [
        json!(null),
        json!("nonsense"),
        json!({}),
        json!({"type": "no-such-plugin"}),
        json!({"type": 5}),
        json!({"type": "host-local", "ranges": [[{"subnet": "nonsense"}]]}),
    ];
    for section in sections {
        let (network, pod, before) = attached();
        network.clone().with("ipam", section.clone()).del(&pod).ok();
        assert_eq!(network.remains(), before, "{section}");
    }
}

#[test]
fn del_ignores_values_that_add_would_refuse() {
    let (network, pod, before) = attached();
    let broken = network.clone().with("mtu", json!("big")).with("mode", json!("carrier pigeon"));
    broken.clone().with("hostPrefix", json!("far too long")).del(&pod).ok();
    assert_eq!(network.remains(), before);
}

#[test]
fn a_failing_ipam_is_reported_after_the_link_is_gone_and_del_can_be_repeated() {
    let script = "cat >/dev/null\n\
        test $CNI_COMMAND = ADD && echo '{\"ips\":[{\"address\":\"10.1.0.5/24\"}]}' && exit 0\n\
        test -e $HERE/mended || { echo '{\"code\":11,\"msg\":\"database is away\"}'; exit 1; }";
    let network = Network::new().script(script);
    let before = network.remains();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let error = network.del(&pod).error();
    assert_eq!(error["code"], 11, "{error}");
    assert!(error["msg"].as_str().unwrap().contains("database is away"), "{error}");
    assert_eq!(network.host().links(), ["eth0"], "the link does not wait for the address");
    assert_eq!(network.journal().len(), 1, "what is not done is not forgotten");
    network.host().scratch().file("mended", "");
    network.del(&pod).ok();
    assert_eq!(network.remains(), before);
}

/// The reference ptp and Calico outside Kubernetes release the address first;
/// a pod that gets it meanwhile loses its host route when the old link goes.
#[test]
fn the_link_and_its_routes_are_gone_before_the_address_is_released() {
    let script = "cat >/dev/null\n\
        ip -o link show >$HERE/links.$CNI_COMMAND\n\
        ip -4 route >$HERE/routes.$CNI_COMMAND\n\
        test $CNI_COMMAND != ADD || echo '{\"ips\":[{\"address\":\"10.1.0.5/24\"}]}'";
    let network = Network::new().script(script);
    let pod = Pod::new("a");
    let link = host_link(&network.add(&pod).ok());
    assert!(network.host().link(&link).is_some());
    network.del(&pod).ok();
    let seen = |name: &str| fs::read_to_string(network.host().scratch().path().join(name)).unwrap();
    assert!(seen("links.DEL").contains("eth0") && !seen("links.DEL").contains(&link));
    assert!(!seen("routes.DEL").contains("10.1.0.5"));
    assert!(!seen("links.ADD").contains(&link), "and made only after it was given");
}

#[test]
fn del_works_on_a_node_that_has_lost_its_links() {
    let network = Network::on(&Host::new());
    let before = network.remains();
    let pod = Pod::new("a");
    let link = host_link(&network.add(&pod).ok());
    network.host().command("ip", &["link", "del", &link]).ok();
    network.del(&pod).ok();
    assert_eq!(network.remains(), before);
}

/// A namespace may be another container's by now, also for the second DEL that some
/// runtimes send.
#[test]
fn another_plugins_link_in_a_reused_namespace_is_left_alone() {
    let network = Network::new();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let link = network.host().links().into_iter().find(|name| name.starts_with("cali")).unwrap();
    network.host().command("ip", &["link", "del", &link]).ok();
    let elsewhere = Netns::new();
    connect((&pod.netns, "eth0", &["10.65.0.2/24"]), (&elsewhere, "veth7", &[]));
    for _ in 0..2 {
        network.del(&pod).ok();
        assert!(pod.netns.link("eth0").is_some() && elsewhere.link("veth7").is_some());
    }
    // And one whose other end is on the node, under a name of its own.
    pod.netns.command("ip", &["link", "del", "eth0"]).ok();
    connect((&pod.netns, "eth0", &["10.65.0.2/24"]), (network.host(), "veth8", &[]));
    network.del(&pod).ok();
    assert!(network.host().link("veth8").is_some());
    assert!(network.leases().is_empty() && network.journal().is_empty());
}

/// containerd deletes with its present configuration.
#[test]
fn a_network_that_has_another_name_by_now_is_found() {
    for forget_the_journal in [false, true] {
        let network = Network::new();
        let before = network.remains();
        let pod = Pod::new("a");
        for pod in [&pod, &pod.interface("net1")] {
            network.add(pod).ok();
        }
        assert_eq!(network.leases().len(), 2);
        if forget_the_journal {
            std::fs::remove_dir_all(network.root("run/manx")).unwrap();
        }
        let renamed = network.clone().with("name", "renamed".into());
        for pod in [&pod.interface("net1"), &pod] {
            for _ in 0..2 {
                renamed.call("DEL").pod(pod).without("CNI_NETNS").run().ok();
            }
        }
        assert_eq!(network.remains(), before, "journal forgotten: {forget_the_journal}");
        assert!(pod.netns.links().is_empty());
    }
}

/// An IPAM plugin that speaks 1.0.0 at most, as older releases do, and keeps a file
/// for its lease.
const OLDER: &str = r#"input=$(cat)
case $CNI_COMMAND in
    VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}'; exit;;
esac
case $input in
    *'"cniVersion":"1.1.0"'*)
        echo '{"cniVersion":"1.0.0","code":1,"msg":"incompatible CNI versions"}'; exit 1;;
esac
case $CNI_COMMAND in
    ADD) echo leased >$HERE/lease
        echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/24"}]}';;
    DEL) rm -f $HERE/lease;;
esac"#;

#[test]
fn a_list_of_a_newer_version_still_releases_what_an_older_plugin_gave() {
    for forget_the_journal in [false, true] {
        let older = Network::new().script(OLDER).with("cniVersion", "1.0.0".into());
        let lease = older.host().scratch().path().join("lease");
        let pod = Pod::new("a");
        let result = older.add(&pod).ok();
        assert!(lease.exists());
        let newer = older.clone().with("cniVersion", "1.1.0".into());
        if forget_the_journal {
            std::fs::remove_dir_all(older.root("run/manx")).unwrap();
        } else {
            let mut previous = result;
            previous["cniVersion"] = "1.1.0".into();
            newer.check(&pod, &previous).ok();
        }
        newer.del(&pod).ok();
        assert!(!lease.exists(), "journal forgotten: {forget_the_journal}");
        assert!(older.journal().is_empty());
    }
}
