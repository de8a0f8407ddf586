// SPDX-License-Identifier: Apache-2.0
//! A pod of several interfaces answers by the interface to which the address
//! belongs: by a rule for each address, and a table for each interface.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Host, Netns, Plugin, Pod, connect, plugin_dir};
use crate::network::{Network, address, host_link, lines};

/// Our rules in a pod: source and table, IPv4 first.
pub(crate) fn rules(pod: &Netns) -> Vec<String> {
    let all = ["-4", "-6"].map(|family| lines(pod, &[family, "rule", "show"])).concat();
    let ours = all.iter().filter(|line| line.ends_with("proto 109"));
    ours.map(|line| line.replace("10900: from ", "").replace(" proto 109", "")).collect()
}

/// A node whose links believe no source that they would not answer to.
pub(crate) fn strict(network: &Network) {
    for scope in ["all", "default"] {
        network.host().set_sysctl(&format!("ipv4/conf/{scope}/rp_filter"), "1");
    }
}

/// A pod that is as strict.
fn strict_pod() -> Pod {
    let pod = Pod::new("a");
    for scope in ["all", "default"] {
        pod.netns.set_sysctl(&format!("ipv4/conf/{scope}/rp_filter"), "1");
    }
    pod
}

/// Another network of the same node.
pub(crate) fn another(network: &Network, name: &str, subnets: &[&str]) -> Network {
    network.clone().with("name", json!(name)).ranges(subnets)
}

/// The rules that lead the addresses of these attachments to these tables.
pub(crate) fn leading(all: &[(&Value, u32)]) -> Vec<String> {
    let of = |(result, table): &(&Value, u32)| {
        let table = *table;
        addresses(result).into_iter().map(move |ip| format!("{ip} lookup {table}"))
    };
    all.iter().flat_map(of).collect()
}

/// The same lines, whatever their order.
#[track_caller]
fn assert_same(found: Vec<String>, expected: Vec<String>) {
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(sorted(found), sorted(expected));
}

/// What Multus does for `default-route`: it removes the default routes of the others
/// and gives one through this interface.
pub(crate) fn move_default_route(pod: &Netns, families: &[&str], from: &str, to: &str) {
    for family in families {
        let gateway = if *family == "-6" { "fe80::ecee:eeff:feee:eeee" } else { "169.254.1.1" };
        pod.command("ip", &[family, "route", "del", "default", "dev", from]).ok();
        let moved = [family, "route", "replace", "default", "via", gateway, "dev", to];
        pod.command("ip", &moved).ok();
    }
}

fn addresses(result: &Value) -> Vec<String> {
    let count = result["ips"].as_array().map_or(0, Vec::len);
    (0..count).map(|position| address(result, position)).collect()
}

/// Each address is reached from the node and from another pod, and what leaves
/// with it as its source leaves by `link`.
#[track_caller]
pub(crate) fn answers(network: &Network, pod: &Netns, result: &Value, link: &str) {
    let client = Pod::new("client");
    network.clone().dual().add(&client).ok();
    for address in addresses(result) {
        assert!(network.host().pings(&address), "{address} of {link}");
        assert!(client.netns.pings(&address), "{address} of {link} from a pod");
        let (family, to) =
            if address.contains(':') { ("-6", "2001:db8:5::9") } else { ("-4", "198.51.100.9") };
        let way = lines(pod, &[family, "route", "get", to, "from", &address]);
        assert!(way[0].contains(&format!("dev {link}")), "{way:?}");
    }
    network.del(&client).ok();
}

/// The node drops what comes by another link than it would send an answer to.
#[test]
fn each_address_answers_by_its_own_link() {
    let network = Network::new().dual();
    strict(&network);
    for subnets in [&["10.9.0.0/24", "fd00:9::/64"][..], &["10.9.0.0/24"], &["fd00:9::/64"]] {
        let other = another(&network, "other", subnets);
        let (first, second) = (strict_pod(), "net1");
        let one = network.add(&first).ok();
        let before = network.remains();
        let second = first.interface(second);
        let two = other.add(&second).ok();
        assert_same(rules(&first.netns), leading(&[(&one, 10_902), (&two, 10_901)]));
        answers(&network, &first.netns, &one, "eth0");
        answers(&network, &first.netns, &two, "net1");
        network.check(&first, &one).ok();
        other.check(&second, &two).ok();
        other.del(&second).ok();
        assert_same(rules(&first.netns), leading(&[(&one, 10_902)]));
        assert_eq!(network.remains(), before);
        answers(&network, &first.netns, &one, "eth0");
        network.check(&first, &one).ok();
        network.del(&first).ok();
        assert_eq!(rules(&first.netns), [""; 0]);
    }
}

#[test]
fn the_second_interface_goes_on_when_the_first_is_removed() {
    let network = Network::new().dual();
    strict(&network);
    let other = another(&network, "other", &["10.9.0.0/24", "fd00:9::/64"]);
    let pod = strict_pod();
    let second = pod.interface("net1");
    network.add(&pod).ok();
    let result = other.add(&second).ok();
    network.del(&pod).ok();
    answers(&network, &pod.netns, &result, "net1");
    // Without a source of its own as well.
    assert!(pod.netns.pings("192.0.2.11"));
    assert!(pod.netns.pings("2001:db8::11"));
    other.check(&second, &result).ok();
    // And one that comes then stands behind it.
    let first = network.add(&pod).ok();
    answers(&network, &pod.netns, &first, "eth0");
    answers(&network, &pod.netns, &result, "net1");
    for (network, pod) in [(&network, &pod), (&other, &second)] {
        network.del(pod).ok();
    }
    assert_eq!(rules(&pod.netns), [""; 0]);
}

#[test]
fn one_network_may_be_attached_several_times() {
    let network = Network::new().dual();
    strict(&network);
    let pod = strict_pod();
    let names = ["eth0", "net1", "net2", "net3"];
    let results = names.map(|name| network.add(&pod.interface(name)).ok());
    assert_eq!(rules(&pod.netns).len(), 8);
    for (name, result) in names.iter().zip(&results) {
        answers(&network, &pod.netns, result, name);
        network.check(&pod.interface(name), result).ok();
    }
    // A number that is free again is used again, and no other's rule leads there.
    network.del(&pod.interface("net2")).ok();
    let again = network.add(&pod.interface("net4")).ok();
    let told = rules(&pod.netns);
    assert_eq!(told.iter().filter(|rule| rule.ends_with("10903")).count(), 2, "{told:?}");
    answers(&network, &pod.netns, &again, "net4");
    answers(&network, &pod.netns, &results[3], "net3");
}

/// ptp and bridge bring a default route of their own, macvlan has none.
#[test]
fn behind_another_plugins_interface_each_answers_by_its_own() {
    let network = Network::new().dual();
    strict(&network);
    network.host().set_sysctl("ipv4/ip_forward", "1");
    for kind in ["ptp", "bridge", "macvlan"] {
        let pod = strict_pod();
        let gone = first_of(network.host(), kind, &pod);
        let before = lines(&pod.netns, &["-4", "route"]);
        let second = pod.interface("net1");
        let result = network.add(&second).ok();
        let now = lines(&pod.netns, &["-4", "route"]);
        assert!(before.iter().all(|route| now.contains(route)), "{kind}: {before:?} {now:?}");
        answers(&network, &pod.netns, &result, "net1");
        network.check(&second, &result).ok();
        assert!(kind == "macvlan" || network.host().pings("10.7.0.2"), "{kind}");
        network.del(&second).ok();
        assert_eq!((rules(&pod.netns), lines(&pod.netns, &["-4", "route"])), (vec![], before));
        gone();
    }
}

/// Makes the pod's first interface by another plugin, 10.7.0.2; gives what
/// removes it.
fn first_of(host: &Host, kind: &str, pod: &Pod) -> impl FnOnce() + use<> {
    let (host, pod, kind) = (host.clone(), pod.clone(), kind.to_owned());
    let ipam = json!({"type": "static", "addresses": [{"address": "10.7.0.2/24",
        "gateway": "10.7.0.1"}], "routes": [{"dst": "0.0.0.0/0"}]});
    let conf = json!({"cniVersion": "1.0.0", "name": "theirs", "type": kind, "ipam": ipam,
        "bridge": "br0", "isGateway": true, "isDefaultGateway": false});
    let plugin = Plugin::new(&host, plugin_dir().join(&kind)).config(conf);
    let there = pod.netns.path().display().to_string();
    if kind == "macvlan" {
        let make = ["link", "add", "link", "eth0", "name", "eth0m", "netns", &there, "type", &kind];
        host.command("ip", &make).ok();
        for args in [
            ["address", "add", "10.7.0.2/24", "dev", "eth0m"],
            ["link", "set", "eth0m", "mtu", "1400"],
        ] {
            pod.netns.command("ip", &args).ok();
        }
        pod.netns.command("ip", &["link", "set", "eth0m", "up"]).ok();
    } else {
        plugin.add(&pod).ok();
    }
    move || {
        if kind != "macvlan" {
            plugin.del(&pod).ok();
        }
    }
}

#[test]
fn sbr_behind_the_second_interface_moves_its_routes_and_both_answer() {
    let network = Network::new().dual();
    strict(&network);
    let other = another(&network, "other", &["10.9.0.0/24", "fd00:9::/64"]);
    let sbr = |result: &Value| {
        let conf = json!({"cniVersion": "1.1.0", "name": "other", "type": "sbr",
            "prevResult": result});
        Plugin::new(network.host(), plugin_dir().join("sbr")).config(conf)
    };
    let pod = strict_pod();
    let second = pod.interface("net1");
    let one = network.add(&pod).ok();
    let two = other.add(&second).ok();
    sbr(&two).add(&second).ok();
    answers(&network, &pod.netns, &one, "eth0");
    answers(&network, &pod.netns, &two, "net1");
    other.check(&second, &two).ok();
    network.check(&pod, &one).ok();
    sbr(&two).del(&second).ok();
    other.del(&second).ok();
    assert_same(rules(&pod.netns), leading(&[(&one, 10_902)]));
    answers(&network, &pod.netns, &one, "eth0");
}

/// A route's MTU is for what leaves by the own table as well.
#[test]
fn in_route_mode_the_own_table_knows_the_narrow_way() {
    let network = Network::new().with("mtuMode", json!("route")).with("mode", json!("vxlan"));
    let network = network.with("clusterCIDRs", json!(["10.0.0.0/8"]));
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let other = another(&network, "other", &["10.9.0.0/24"]);
    let second = pod.interface("net1");
    let result = other.add(&second).ok();
    let table = lines(&pod.netns, &["-4", "route", "show", "table", "10901"]);
    let narrow = "10.0.0.0/8 via 169.254.1.1 dev net1 mtu 1450 advmss 1410";
    assert!(table.contains(&narrow.to_owned()), "{table:?}");
    let near = "10.9.0.0/24 via 169.254.1.1 dev net1";
    assert!(table.contains(&near.to_owned()), "{table:?}");
    other.check(&second, &result).ok();
}

#[test]
fn check_names_what_the_second_interface_lacks() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    let second = pod.interface("net1");
    network.add(&pod).ok();
    for (harm, word) in [
        ("-4 rule del from V4 table 10901", "rule 10900: from V4/32 lookup 10901"),
        ("-6 rule del from V6 table 10901", "rule 10900: from V6/128 lookup 10901"),
        ("-4 route del default table 10901", "0.0.0.0/0 via 169.254.1.1 table 10901"),
        ("-6 route del default table 10901", "::/0 via fe80::ecee:eeff:feee:eeee table 10901"),
        ("-4 route del default dev net1", "0.0.0.0/0 via 169.254.1.1 metric 10901"),
        ("-4 route del 169.254.1.1 dev net1", "169.254.1.1/32 metric 10901"),
    ] {
        let result = network.add(&second).ok();
        network.check(&second, &result).ok();
        let fill = |text: &str| {
            text.replace("V4", &address(&result, 0)).replace("V6", &address(&result, 1))
        };
        let command = fill(harm);
        pod.netns.command("ip", &command.split(' ').collect::<Vec<_>>()).ok();
        let error = network.check(&second, &result).error();
        assert!(error["msg"].as_str().unwrap().contains(&fill(word)), "{harm}: {error}");
        network.del(&second).ok();
    }
    // The first one's default route is no less missed for there being another.
    let first = network.add(&pod.interface("eth9")).ok();
    network.del(&pod.interface("eth9")).ok();
    assert_eq!(first["ips"][0]["gateway"], "169.254.1.1");
}

#[test]
fn check_of_the_first_is_not_content_with_the_seconds_default_route() {
    let network = Network::new();
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    network.add(&pod.interface("net1")).ok();
    network.check(&pod, &result).ok();
    pod.netns.command("ip", &["route", "del", "default", "dev", "eth0"]).ok();
    let error = network.check(&pod, &result).error();
    assert!(error["msg"].as_str().unwrap().contains("0.0.0.0/0"), "{error}");
}

#[test]
fn check_needs_no_journal_for_the_second_either() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    let second = pod.interface("net1");
    let one = network.add(&pod).ok();
    let two = network.add(&second).ok();
    fs::remove_dir_all(network.root("run/manx")).unwrap();
    network.check(&pod, &one).ok();
    network.check(&second, &two).ok();
    network.del(&second).ok();
    assert_same(rules(&pod.netns), leading(&[(&one, 10_902)]));
}

/// One ADD fails when all is made: writing its result is refused.
#[test]
fn a_failed_add_leaves_no_rule() {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let third = network.add(&pod.interface("net3")).ok();
    let before = (network.remains(), rules(&pod.netns), lines(&pod.netns, &["-4", "route"]));
    let failing = network.clone().wrapped("exec \"$MANX\" >/dev/full");
    for verb in ["net1", "net2"] {
        assert_ne!(failing.add(&pod.interface(verb)).status, 0);
        let after = (network.remains(), rules(&pod.netns), lines(&pod.netns, &["-4", "route"]));
        assert_eq!(after, before);
    }
    network.check(&pod.interface("net3"), &third).ok();
}

/// A link that somebody else removed leaves its rule behind. Neither the address
/// nor the table is another interface's by that.
#[test]
fn a_rule_that_a_lost_interface_left_harms_nobody() {
    let network = Network::new();
    strict(&network);
    let pod = strict_pod();
    let one = network.add(&pod).ok();
    let lost = network.add(&pod.interface("net1")).ok();
    network.host().command("ip", &["link", "del", &host_link(&lost)]).ok();
    assert_eq!(rules(&pod.netns).len(), 2);
    let next = network.add(&pod.interface("net2")).ok();
    assert_same(rules(&pod.netns), leading(&[(&one, 10_902), (&next, 10_903)]));
    answers(&network, &pod.netns, &next, "net2");
    network.del(&pod.interface("net1")).ok();
    answers(&network, &pod.netns, &next, "net2");
    // A namespace that is used again, where all interfaces went that way.
    network.host().command("ip", &["link", "del", &host_link(&next)]).ok();
    network.del(&pod).ok();
    let again = network.add(&pod.interface("eth1")).ok();
    answers(&network, &pod.netns, &again, "eth1");
}

/// A rule that others made is not ours to remove, whatever its source.
#[test]
fn others_rules_stay() {
    let network = Network::new();
    let pod = Pod::new("a");
    network.add(&pod).ok();
    let result = network.add(&pod.interface("net1")).ok();
    let ip = address(&result, 0);
    pod.netns.command("ip", &["rule", "add", "from", &ip, "table", "10901"]).ok();
    pod.netns.command("ip", &["rule", "add", "from", "10.1.0.77", "table", "10977"]).ok();
    let theirs = || {
        let all = lines(&pod.netns, &["-4", "rule", "show"]);
        all.iter().filter(|line| line.contains("10977") || line.contains(&ip)).count()
    };
    assert_eq!(theirs(), 3);
    network.del(&pod.interface("net1")).ok();
    assert_eq!(theirs(), 2);
    network.add(&pod.interface("net2")).ok();
    network.del(&pod.interface("net2")).ok();
    assert_eq!(theirs(), 2);
}

#[test]
fn an_interface_of_another_kind_that_is_down_is_none() {
    let network = Network::new();
    let pod = Pod::new("a");
    let other = Netns::new();
    connect((&pod.netns, "net9", &[]), (&other, "peer", &[]));
    pod.netns.command("ip", &["link", "set", "net9", "down"]).ok();
    network.add(&pod).ok();
    let routes = lines(&pod.netns, &["-4", "route"]);
    assert_eq!(routes, ["169.254.1.1 dev eth0 scope link", "default via 169.254.1.1 dev eth0"]);
    assert_eq!(rules(&pod.netns), [""; 0]);
}

/// The n-th message to the kernel is where `verb` ends: by a kill, which may also be
/// before its answer, or by a refusal. Gives how often that happened.
fn at_each_message(verb: &str, fault: &str, recover: impl Fn(&Network, &Pod)) -> u32 {
    let network = Network::new().dual();
    let pod = Pod::new("a");
    let second = pod.interface("net1");
    let one = network.add(&pod).ok();
    // A refusal is undone. What a kill leaves to the first one serves the next ADD, and
    // goes with the first.
    let refused = fault.starts_with("error");
    let state = || {
        let mut rules = rules(&pod.netns);
        rules.retain(|rule| refused || !leading(&[(&one, 10_902)]).contains(rule));
        (network.remains(), rules, lines(&pod.netns, &["-4", "route"]))
    };
    let before = state();
    // A refusal is not sent; what is sent and not answered has been done.
    let calls = if refused { "sendto,sendmsg" } else { "sendto,sendmsg,recvfrom" };
    let faulty = network.clone().wrapped(&format!(
        "exec strace -qq -o /dev/null -e trace={calls} \
         -e \"inject={calls}:{fault}:when=$FAULT_AT\" \"$MANX\""
    ));
    for at in 1..=100 {
        if verb == "DEL" {
            network.add(&second).ok();
        }
        let call = faulty.call(verb).env("FAULT_AT", &at.to_string());
        let reply = call.pod(&second).run();
        if reply.succeeded() {
            network.del(&second).ok();
            return at - 1;
        }
        recover(&network, &second);
        assert_eq!(state(), before, "{verb}, {fault} at {at}");
        network.check(&pod, &one).ok();
    }
    0
}

#[test]
fn an_add_or_a_del_that_was_killed_leaves_no_rule_behind_the_next_del() {
    for verb in ["ADD", "DEL"] {
        let del = |network: &Network, pod: &Pod| drop(network.del(pod).ok());
        let deaths = at_each_message(verb, "signal=KILL", del);
        assert!(deaths >= 5, "only {deaths} deaths of {verb}: is strace at work?");
    }
}

#[test]
fn an_add_that_the_kernel_refuses_anything_leaves_no_rule() {
    let failed = at_each_message("ADD", "error=ENOBUFS", |_, _| {});
    assert!(failed >= 6, "only {failed} messages were failed: is strace at work?");
}

/// A DEL that names no namespace finds it by the journal.
#[test]
fn what_a_killed_add_left_goes_without_a_namespace() {
    let del = |network: &Network, pod: &Pod| {
        drop(network.call("DEL").pod(pod).without("CNI_NETNS").run().ok());
    };
    let deaths = at_each_message("ADD", "signal=KILL", del);
    assert!(deaths >= 6, "only {deaths} deaths: is strace at work?");
}
