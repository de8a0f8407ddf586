// SPDX-License-Identifier: Apache-2.0
//! Whose link and whose address it is: nothing of another attachment, or of
//! another program, is touched.

use serde_json::{Value, json};

use crate::harness::{Host, Netns, Pod, connect};
use crate::network::{Network, address, host_link, lines, renamed, text};

const LINK: &str = "cali17fddc925b9";

/// A new sandbox of the pod whose host link is [`LINK`].
fn sandbox() -> Pod {
    Pod::new("sandbox").kubernetes("test", "pod1")
}

/// Asserts an error with that code whose message names all of `words`.
#[track_caller]
pub(crate) fn names(error: &Value, code: u32, words: &[&str]) {
    assert_eq!(error["code"], code, "{error}");
    for word in words {
        assert!(text(&error["msg"]).contains(word), "{word} is not in {error}");
    }
}

/// Case 70 of Calico's tests, and calico#10375: the DEL of an old sandbox
/// takes the new one's link or address with it.
#[test]
fn a_newer_sandbox_replaces_the_link_and_the_olders_late_del_harms_nothing() {
    let network = Network::new().dual();
    let before = network.remains();
    let (old, new) = (sandbox(), sandbox());
    let first = network.add(&old).ok();
    let reply = network.add(&new);
    let warning = reply.stderr.lines().find(|line| line.contains("WARN")).unwrap_or_default();
    assert!(warning.contains(LINK) && warning.contains(&old.id), "{}", reply.stderr);
    let second = reply.ok();
    assert_eq!((host_link(&first), host_link(&second)), (LINK.into(), LINK.into()));
    assert_ne!(address(&first, 0), address(&second, 0), "the lease is not yet released");
    assert!(old.netns.links().is_empty());

    for _ in 0..2 {
        network.del(&old).ok();
        network.check(&new, &second).ok();
        assert!(new.netns.pings("192.0.2.11") && new.netns.pings("2001:db8::11"));
        assert_eq!(network.leases(), [address(&second, 0), address(&second, 1)]);
    }
    network.del(&new).ok();
    assert_eq!(network.remains(), before);
}

/// Case 69 of Calico's tests.
#[test]
fn del_of_an_old_sandbox_that_was_deleted_before_harms_nothing() {
    let network = Network::new();
    let (old, new) = (sandbox(), sandbox());
    network.add(&old).ok();
    network.del(&old).ok();
    let result = network.add(&new).ok();
    network.del(&old).ok();
    network.check(&new, &result).ok();
    assert!(new.netns.pings("192.0.2.11"));
}

/// The journal may be lost while the links live: then the mark on the link
/// alone says whose it is.
#[test]
fn an_old_sandboxs_del_harms_nothing_without_the_journal_either() {
    let network = Network::new();
    let (old, new) = (sandbox(), sandbox());
    network.add(&old).ok();
    let result = network.add(&new).ok();
    std::fs::remove_dir_all(network.root("run/manx")).unwrap();
    network.del(&old).ok();
    assert!(network.host().link(LINK).is_some());
    assert!(new.netns.pings("192.0.2.11"));
    assert_eq!(network.leases(), [address(&result, 0)]);
}

/// The reference ptp's second ADD fails as well, but its undoing releases the
/// address of the pod that lives.
#[test]
fn an_attachment_added_twice_is_an_error_that_leaves_it_alive() {
    for pod in [Pod::new("a"), sandbox()] {
        let network = Network::new();
        let result = network.add(&pod).ok();
        let before = network.remains();
        names(&network.add(&pod).error(), 101, &["exists"]);
        assert_eq!(network.remains(), before);
        network.check(&pod, &result).ok();
        assert!(pod.netns.pings("192.0.2.11"));
    }
}

#[test]
fn an_attachment_added_twice_under_another_pod_name_is_an_error_that_leaves_it_alive() {
    let network = Network::new();
    let pod = sandbox();
    let result = network.add(&pod).ok();
    let before = network.remains();
    let empty = Pod { netns: Netns::new(), ..pod.kubernetes("test", "pod2") };
    names(&network.add(&empty).error(), 101, &["exists", LINK]);
    assert_eq!(network.remains(), before);
    network.check(&pod, &result).ok();
}

/// Case 72 of Calico's tests: the interface of an earlier container is stuck.
#[test]
fn an_interface_that_is_there_already_is_an_error_and_its_owner_keeps_its_address() {
    let network = Network::new();
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    let before = network.remains();
    let other = renamed(&pod, "another");
    names(&network.add(&other).error(), 101, &["eth0"]);
    assert_eq!(network.remains(), before);
    network.del(&other).ok();
    assert_eq!(network.remains(), before, "the DEL that follows a failed ADD");
    network.check(&pod, &result).ok();
}

/// Calico deletes whatever bears the name (calico#1253, #1406).
#[test]
fn a_foreign_link_of_the_name_is_an_error_that_removes_nothing() {
    let network = Network::new();
    let pod = sandbox();
    let elsewhere = Netns::new();
    connect((network.host(), LINK, &["203.0.113.1/32"]), (&elsewhere, "peer", &[]));
    let before = network.remains();
    names(&network.add(&pod).error(), 101, &[LINK, "no mark"]);
    assert_eq!(network.remains(), before);
    network.del(&pod).ok();
    assert_eq!(network.remains(), before, "nor does DEL remove it");
    assert!(elsewhere.link("peer").is_some());
}

#[test]
fn a_foreign_link_is_refused_before_ipam_is_asked() {
    let network = Network::new().gives(&json!({"ips": [{"address": "10.1.0.5/24"}]}));
    let elsewhere = Netns::new();
    connect((network.host(), LINK, &[]), (&elsewhere, "peer", &[]));
    network.add(&sandbox()).error();
    assert!(network.asked().is_empty(), "{:?}", network.asked());
}

/// A pod that Calico or ptp made bears no mark of ours; its DEL comes to us
/// after a migration.
#[test]
fn a_veth_that_another_plugin_made_in_the_pod_is_removed_by_del() {
    let network = Network::new();
    let before = network.remains();
    let pod = sandbox();
    connect((&pod.netns, "eth0", &["10.65.0.2/32"]), (network.host(), LINK, &[]));
    network.del(&pod).ok();
    assert!(pod.netns.links().is_empty());
    assert_eq!(network.remains(), before);
}

#[test]
fn an_interface_that_is_no_veth_is_not_removed() {
    let network = Network::new();
    let pod = Pod::new("a");
    pod.netns.command("ip", &["link", "add", "eth0", "type", "bridge"]).ok();
    network.del(&pod).ok();
    assert_eq!(pod.netns.links(), ["eth0"]);
}

#[test]
fn an_address_that_a_live_attachment_has_is_refused_with_both_names() {
    let network = Network::new().gives(&json!({"ips": [{"address": "10.1.0.5/24"}]}));
    let (first, second) = (Pod::new("first"), Pod::new("second"));
    let result = network.add(&first).ok();
    let before = network.remains();
    let error = network.add(&second).error();
    names(&error, 101, &["10.1.0.5", &host_link(&result), &first.id]);
    assert_eq!(network.asked(), ["ADD", "ADD", "DEL"], "the second lease is given back");
    assert_eq!(network.remains(), before);
    network.check(&first, &result).ok();
    assert!(first.netns.pings("192.0.2.11"));
}

#[test]
fn an_ipv6_address_that_a_live_attachment_has_is_refused_as_well() {
    let network = Network::new().gives(&json!({"ips": [{"address": "fd00:1::5/64"}]}));
    let first = Pod::new("first");
    let result = network.add(&first).ok();
    let error = network.add(&Pod::new("second")).error();
    names(&error, 101, &["fd00:1::5", &host_link(&result), &first.id]);
    network.check(&first, &result).ok();
}

#[test]
fn an_address_of_the_node_itself_is_refused() {
    for address in ["192.0.2.11", "2001:db8::11", "127.0.0.1"] {
        let given = json!({"ips": [{"address": format!("{address}/24")}]});
        let network = Network::new().gives(&given);
        let before = network.remains();
        names(&network.add(&Pod::new("a")).error(), 101, &[address]);
        assert_eq!(network.remains(), before);
        assert!(network.host().pings("192.0.2.1"));
    }
}

/// "Route already exists for an interface other than" (calico#1253, #8642), or
/// BIRD had it first (calico#8663).
#[test]
fn a_stale_host_route_to_the_address_is_replaced() {
    let given = json!({"ips": [{"address": "10.1.0.5/24"}, {"address": "fd00:1::5/64"}]});
    let network = Network::new().gives(&given);
    let host = network.host();
    host.command("ip", &["route", "add", "10.1.0.5/32", "dev", "eth0", "proto", "bird"]).ok();
    host.command("ip", &["-6", "route", "add", "fd00:1::5/128", "dev", "eth0"]).ok();
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    let link = host_link(&result);
    let routes = lines(host, &["-4", "route", "show", "10.1.0.5"]);
    assert_eq!(routes, [format!("10.1.0.5 dev {link} scope link")]);
    let routes = lines(host, &["-6", "route", "show", "fd00:1::5"]);
    assert_eq!(routes, [format!("fd00:1::5 dev {link} metric 1024 pref medium")]);
    assert!(host.pings("10.1.0.5") && host.pings("fd00:1::5"));
    network.check(&pod, &result).ok();
}

#[test]
fn a_replaced_sandboxs_address_may_be_the_new_ones() {
    let network = Network::new().gives(&json!({"ips": [{"address": "10.1.0.5/24"}]}));
    let (old, new) = (sandbox(), sandbox());
    network.add(&old).ok();
    let result = network.add(&new).ok();
    network.check(&new, &result).ok();
    assert!(network.host().pings("10.1.0.5"));
}

/// A link of our group without an alias and known to the journal is what a
/// killed ADD left; the next sandbox of the pod takes its place.
#[test]
fn an_unfinished_link_of_an_older_sandbox_is_replaced() {
    let network = Network::new();
    let (old, new) = (sandbox(), sandbox());
    network.add(&old).ok();
    network.host().command("ip", &["link", "set", LINK, "alias", ""]).ok();
    let result = network.add(&new).ok();
    network.check(&new, &result).ok();
}

#[test]
fn a_node_of_its_own_and_its_state_know_nothing_of_another() {
    let (one, other) = (Network::on(&Host::new()), Network::on(&Host::new()));
    let pod = sandbox();
    let result = one.add(&pod).ok();
    other.del(&Pod { netns: Netns::new(), ..pod.clone() }).ok();
    one.check(&pod, &result).ok();
}

/// Two pods whose names spell the same link, as "shop"/"web.db" and
/// "shop.web"/"db" do.
#[test]
fn two_pods_of_one_spelling_have_a_link_each() {
    let network = Network::new();
    let before = network.remains();
    let one = Pod::new("one").kubernetes("shop", "web.db");
    let other = Pod::new("other").kubernetes("shop.web", "db");
    let first = network.add(&one).ok();
    let second = network.add(&other).ok();
    assert_ne!(host_link(&first), host_link(&second));
    network.check(&one, &first).ok();
    network.check(&other, &second).ok();
    // A newer sandbox of the first replaces the first's, not the second's.
    let newer = Pod::new("newer").kubernetes("shop", "web.db");
    let third = network.add(&newer).ok();
    assert_eq!(host_link(&third), host_link(&first));
    network.check(&other, &second).ok();
    for pod in [&one, &newer, &other] {
        network.del(pod).ok();
    }
    assert_eq!(network.remains(), before);
}

#[test]
fn a_pod_of_another_network_keeps_its_link_of_that_name() {
    let network = Network::new();
    let other = network.clone().with("name", "blue".into()).ranges(&["10.2.0.0/24"]);
    let (one, two) = (sandbox(), sandbox());
    let first = network.add(&one).ok();
    let second = other.add(&two).ok();
    assert_eq!(host_link(&first), LINK);
    assert_ne!(host_link(&second), LINK);
    network.check(&one, &first).ok();
    other.check(&two, &second).ok();
    network.del(&one).ok();
    other.check(&two, &second).ok();
}

/// Somebody wrote over the mark, but the journal knows the attachment.
#[test]
fn an_attachment_without_its_mark_is_still_there_for_add_and_del() {
    for how in [&["alias", "customer 7"][..], &["group", "0"], &["group", "77", "alias", ""]] {
        let network = Network::new();
        let before = network.remains();
        let pod = sandbox();
        network.add(&pod).ok();
        let args = [&["link", "set", "dev", LINK][..], how].concat();
        network.host().command("ip", &args).ok();
        let empty = Pod { netns: Netns::new(), ..pod.clone() };
        names(&network.add(&empty).error(), 101, &["exists"]);
        assert!(pod.netns.pings("192.0.2.11"), "{how:?}");
        network.call("DEL").pod(&pod).without("CNI_NETNS").run().ok();
        assert_eq!(network.remains(), before, "{how:?}");
    }
}
