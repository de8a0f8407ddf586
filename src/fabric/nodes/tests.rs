// SPDX-License-Identifier: Apache-2.0
//! What is served of Nodes that clash, and that the file's reader takes all that is
//! written.

use std::net::IpAddr;

use super::*;
use crate::fabric::Peers;

pub(super) fn record(name: &str, created: u32, addresses: &[&str], pod_cidrs: &[&str]) -> Record {
    let boxed = |texts: &[&str]| texts.iter().map(|text| Box::from(*text)).collect();
    Record {
        name: name.into(),
        uid: format!("uid-{name}").into(),
        created: format!("2026-11-27T00:00:{created:02}Z").into(),
        addresses: boxed(addresses),
        pod_cidrs: boxed(pod_cidrs),
        tunnel: None,
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        node: "own".into(),
        fabric: FabricPart::default(),
        cluster_cidrs: None,
        in_blocks: false,
        spared: Vec::new(),
    }
}

/// This node, which came second, and others.
fn with_own(others: Vec<Record>) -> Vec<Record> {
    let own = record("own", 10, &["192.0.2.1"], &["10.0.1.0/24"]);
    others.into_iter().chain([own]).collect()
}

pub(super) fn view_of<R: Borrow<Record>>(
    records: &[R],
    settings: &Settings,
    former: &[IpNetwork],
) -> Result<View, Refusal> {
    Settled::of(records, settings, former).map(|settled| settled.view(settings))
}

fn view(others: Vec<Record>) -> View {
    view_of(&with_own(others), &settings(), &[]).unwrap()
}

pub(super) fn read(view: &View) -> Peers {
    let peers = Peers::parse(view.text.as_bytes(), &|_| false)
        .unwrap_or_else(|problems| panic!("{problems:?}: {}", view.text));
    assert_eq!(peers.excluded, Vec::<String>::new(), "{}", view.text);
    assert_eq!(peers.unread, None);
    peers
}

/// What the file has of the others: name, addresses and pods.
fn served(view: &View) -> Vec<String> {
    let line = |node: &crate::fabric::peers::Node| {
        let addresses = node.addresses.iter().map(ToString::to_string);
        let pods = node.pod_cidrs.iter().map(ToString::to_string);
        let parts: Vec<String> =
            std::iter::once(node.name.clone()).chain(addresses).chain(pods).collect();
        parts.join(" ")
    };
    read(view).others.iter().map(line).collect()
}

fn reasons(view: &View) -> Vec<String> {
    view.quarantined.iter().map(|(name, reason)| format!("{name}: {reason}")).collect()
}

fn evidence(view: &View) -> Vec<String> {
    view.findings.iter().map(|one| format!("{} {}: {}", one.id, one.object, one.evidence)).collect()
}

#[test]
fn sound_nodes_are_written_as_they_are() {
    let mut settings = settings();
    let fabric = json!({"mode": "vxlan", "mtu": 1400});
    settings.fabric = FabricPart::of_file(fabric.as_object().unwrap()).0;
    let b = record("b", 2, &["192.0.2.2", "2001:db8::2"], &["10.0.2.0/24", "fd00:2::/64"]);
    let c = record("c", 1, &["192.0.2.3"], &[]);
    let view = view_of(&with_own(vec![b, c]), &settings, &[]).unwrap();
    assert_eq!(
        view.text,
        r#"{"self": "own",
"fabric": {"mode":"vxlan","mtu":1400},
"nodes": [
{"name":"own","addresses":["192.0.2.1"],"podCIDRs":["10.0.1.0/24"]},
{"name":"c","addresses":["192.0.2.3"],"podCIDRs":[]},
{"name":"b","addresses":["192.0.2.2","2001:db8::2"],"podCIDRs":["10.0.2.0/24","fd00:2::/64"]}
]}
"#
    );
    assert_eq!((view.used, view.incomplete.as_slice()), (2, ["c".to_owned()].as_slice()));
    assert_eq!((view.findings.len(), view.own_trouble.is_none()), (0, true));
    assert_eq!(view.own_pod_cidrs, ["10.0.1.0/24".parse().unwrap()]);
    assert_eq!(read(&view).fabric, settings.fabric);
}

#[test]
fn no_file_is_made_of_a_list_without_nodes_or_without_this_one() {
    assert_eq!(view_of(&[] as &[Record], &settings(), &[]), Err(Refusal::Empty));
    let others = [record("b", 1, &["192.0.2.2"], &["10.0.2.0/24"])];
    assert_eq!(view_of(&others, &settings(), &[]), Err(Refusal::OwnMissing));
}

/// This node was deleted and made again, with pods on it.
#[test]
fn a_former_pod_cidr_stays_as_long_as_it_is_nobody_elses() {
    let of = |former: &[&str], others: Vec<Record>| {
        let former: Vec<IpNetwork> = former.iter().map(|text| text.parse().unwrap()).collect();
        view_of(&with_own(others), &settings(), &former).unwrap()
    };
    let b = |cidr: &str| record("b", 1, &["192.0.2.2"], &[cidr]);
    let view = of(&["10.0.9.0/24"], vec![b("10.0.2.0/24")]);
    let me = read(&view).me;
    assert_eq!(me.given_pod_cidrs(), ["10.0.1.0/24".parse().unwrap()]);
    assert_eq!(me.former_pod_cidrs, ["10.0.9.0/24".parse().unwrap()]);
    assert_eq!(
        (view.own_pod_cidrs, &view.former_pod_cidrs),
        (me.given_pod_cidrs(), &me.former_pod_cidrs)
    );
    assert!(view.own_trouble.is_none());
    let [finding] = view.findings.as_slice() else { panic!("{:?}", view.findings) };
    assert_eq!((finding.id, finding.object.as_str()), ("pod-cidr-changed", "Node own"));
    assert!(finding.fix.starts_with("kubectl drain own "), "{}", finding.fix);
    for (former, others) in [
        ("10.0.9.0/24", vec![b("10.0.9.0/24")]),
        ("10.0.9.0/24", vec![b("10.0.8.0/22")]),
        ("10.0.1.0/25", vec![]),
        ("192.0.2.0/24", vec![b("10.0.2.0/24")]),
        ("fd00:9::/64", vec![]),
    ] {
        let view = of(&[former], others);
        assert_eq!(read(&view).me.former_pod_cidrs, [], "{former}");
        assert!(evidence(&view)[0].contains("not kept"), "{:?}", evidence(&view));
    }
    // The Node is there again, and has no podCIDR yet.
    let bare = [record("own", 10, &["192.0.2.1"], &[])];
    let view = view_of(&bare, &settings(), &["10.0.9.0/24".parse().unwrap()]).unwrap();
    assert_eq!(read(&view).me.former_pod_cidrs.len(), 1);
    assert!(view.own_trouble.is_some());
}

#[test]
fn the_older_node_keeps_a_pod_cidr() {
    for (older, younger, words) in [
        ("10.0.2.0/24", "10.0.2.0/24", "podCIDR 10.0.2.0/24 is that of b, an older Node"),
        ("10.0.2.0/24", "10.0.2.128/25", "podCIDR 10.0.2.128/25 overlaps 10.0.2.0/24 of b"),
        ("10.0.2.128/25", "10.0.2.0/24", "podCIDR 10.0.2.0/24 overlaps 10.0.2.128/25 of b"),
    ] {
        let b = record("b", 20, &["192.0.2.2"], &[older]);
        let a = record("a", 21, &["192.0.2.3"], &[younger]);
        let view = view(vec![a, b]);
        assert_eq!(served(&view), [format!("b 192.0.2.2 {older}")]);
        assert_eq!(view.quarantined.len(), 1);
        assert!(reasons(&view)[0].starts_with(&format!("a: {words}")), "{:?}", reasons(&view));
        assert_eq!(view.findings[0].id, "peer-excluded");
    }
}

#[test]
fn of_two_that_are_as_old_the_uid_decides_and_one_without_a_time_is_the_youngest() {
    let one = record("z", 20, &["192.0.2.2"], &["10.0.2.0/24"]);
    let mut other = record("a", 20, &["192.0.2.3"], &["10.0.2.0/24"]);
    other.uid = "uid-zz".into();
    assert_eq!(served(&view(vec![one.clone(), other.clone()])), ["z 192.0.2.2 10.0.2.0/24"]);
    other.uid = "uid".into();
    assert_eq!(served(&view(vec![one.clone(), other.clone()])), ["a 192.0.2.3 10.0.2.0/24"]);
    other.created = "".into();
    assert_eq!(served(&view(vec![one, other])), ["z 192.0.2.2 10.0.2.0/24"]);
}

/// What a left out node claims besides is free for others.
#[test]
fn a_node_that_is_left_out_keeps_nothing() {
    let b = record("b", 20, &["192.0.2.2"], &["10.0.2.0/24"]);
    let c = record("c", 21, &["192.0.2.3"], &["10.0.2.0/24", "fd00:3::/64"]);
    let d = record("d", 22, &["192.0.2.3", "2001:db8::4"], &["fd00:3::/64"]);
    let view = view(vec![b, c, d]);
    let expected = ["b 192.0.2.2 10.0.2.0/24", "d 192.0.2.3 2001:db8::4 fd00:3::/64"];
    assert_eq!(served(&view), expected);
}

#[test]
fn where_this_node_is_the_younger_one_it_has_no_pods_and_serves_the_others() {
    let b = record("b", 1, &["192.0.2.2"], &["10.0.1.0/24"]);
    let view = view(vec![b]);
    assert_eq!(served(&view), ["b 192.0.2.2 10.0.1.0/24"]);
    assert_eq!(view.own_pod_cidrs, []);
    let trouble = view.own_trouble.as_ref().unwrap();
    assert_eq!(trouble.evidence, "podCIDR 10.0.1.0/24 is that of b, an older Node");
    assert_eq!(view.quarantined, []);
}

#[test]
fn a_node_without_a_pod_cidr_is_listed_and_this_one_says_what_is_missing() {
    let own = record("own", 10, &["192.0.2.1"], &[]);
    let b = record("b", 20, &["192.0.2.2"], &[]);
    let view = view_of(&[own, b], &settings(), &[]).unwrap();
    assert_eq!(served(&view), ["b 192.0.2.2"]);
    assert_eq!((view.used, view.incomplete.len()), (0, 2));
    let trouble = view.own_trouble.unwrap();
    assert!(trouble.evidence.contains("--allocate-node-cidrs"), "{trouble:?}");
}

#[test]
fn addresses_that_no_node_can_have_do_not_count() {
    for (address, words) in [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "this network"),
        ("255.255.255.255", "broadcast"),
        ("10.0.1.7", "in podCIDR 10.0.1.0/24 of own"),
        ("10.0.2.7", "in podCIDR 10.0.2.0/24 of b"),
        ("::ffff:10.0.2.7", "in podCIDR 10.0.2.0/24 of b"),
        ("192.0.2.1", "own has it"),
        ("node-b.example", "not an IP address"),
        ("", "not an IP address"),
    ] {
        let b = record("b", 20, &[address, "192.0.2.2"], &["10.0.2.0/24"]);
        let view = view(vec![b]);
        assert_eq!(served(&view), ["b 192.0.2.2 10.0.2.0/24"], "{address}");
        let said = evidence(&view);
        assert!(said.len() == 1 && said[0].starts_with("address-ignored Node b: "), "{said:?}");
        assert!(said[0].contains(words), "{said:?}");
    }
}

#[test]
fn the_older_node_keeps_an_address_but_this_one_knows_its_own() {
    let b = record("b", 20, &["192.0.2.2"], &["10.0.2.0/24"]);
    let c = record("c", 21, &["192.0.2.2"], &["10.0.3.0/24"]);
    let d = record("d", 1, &["192.0.2.1"], &["10.0.4.0/24"]);
    let view = view(vec![c, d, b]);
    assert_eq!(served(&view), ["b 192.0.2.2 10.0.2.0/24"]);
    assert_eq!(
        reasons(&view),
        [
            "d: podCIDR 10.0.4.0/24 has no node: no IPv4 InternalIP counts",
            "c: podCIDR 10.0.3.0/24 has no node: no IPv4 InternalIP counts"
        ]
    );
    let said = evidence(&view);
    assert!(said[0].ends_with("192.0.2.1 does not count: own has it"), "{said:?}");
}

/// A younger Node that says of itself what is an older one's end of tunnels.
#[test]
fn the_older_node_keeps_the_address_of_its_tunnel() {
    let tunnel = |mut record: Record, address: &str| {
        let addresses = vec![address.parse().unwrap()];
        record.tunnel = Some(Box::new(Tunnel { addresses, mac: None }));
        record
    };
    let old = || tunnel(record("b", 20, &["192.0.2.2"], &["10.0.2.0/24"]), "10.9.0.2");
    let c = || record("c", 21, &["192.0.2.3"], &[]);
    let kept = "b 192.0.2.2 10.0.2.0/24";
    for (younger, others, words) in [
        (record("c", 21, &["192.0.2.3", "10.9.0.2"], &[]), 2, "10.9.0.2 does not count: b has it"),
        (record("c", 21, &["192.0.2.3"], &["10.9.0.0/24"]), 1, "contains 10.9.0.2 of b"),
        (tunnel(c(), "10.9.0.2"), 2, "tunnel address 10.9.0.2 does not count: b has it"),
        (tunnel(c(), "192.0.2.2"), 2, "192.0.2.2 does not count: b has it"),
        (tunnel(c(), "192.0.2.1"), 2, "192.0.2.1 does not count: own has it"),
        (tunnel(c(), "10.0.2.7"), 2, "it is in podCIDR 10.0.2.0/24 of b"),
        (tunnel(c(), "192.0.2.3"), 2, "it is an address of the node itself"),
        (tunnel(c(), "127.0.0.7"), 2, "(loopback)"),
    ] {
        let view = view(vec![younger, old()]);
        let peers = read(&view);
        assert_eq!((served(&view)[0].as_str(), peers.others.len()), (kept, others), "{words}");
        let ends = peers.others.iter().map(|node| node.tunnel_addresses.len());
        assert_eq!(ends.sum::<usize>(), 1, "{words}: {}", view.text);
        assert!(evidence(&view)[0].contains(words), "{words}: {:?}", evidence(&view));
    }
}

#[test]
fn a_family_without_an_address_costs_that_family() {
    let b = record("b", 20, &["192.0.2.2"], &["10.0.2.0/24", "fd00:2::/64"]);
    let view = view(vec![b]);
    assert_eq!(served(&view), ["b 192.0.2.2 10.0.2.0/24"]);
    assert!(evidence(&view)[0].contains("podCIDR fd00:2::/64 has no node: no IPv6"));
}

/// A Node that comes later may say what it likes: all of them are there as before. One that
/// was there before may take from those that come.
#[test]
fn a_younger_pod_cidr_has_no_older_nodes_address_inside() {
    let b = record("b", 20, &["192.0.2.2"], &["10.0.2.0/24"]);
    let c = record("c", 21, &["192.0.2.3"], &["10.0.3.0/24"]);
    let wide = |created, cidr: &str| record("wide", created, &["198.51.100.1"], &[cidr]);
    for cidr in ["192.0.2.2/32", "192.0.2.2/31"] {
        let view = view(vec![b.clone(), c.clone(), wide(30, cidr)]);
        assert_eq!(served(&view), ["b 192.0.2.2 10.0.2.0/24", "c 192.0.2.3 10.0.3.0/24"]);
        let words = format!("wide: podCIDR {cidr} contains 192.0.2.2 of b, an older Node");
        assert_eq!(reasons(&view), [words]);
    }
    let older = view(vec![b.clone(), c, wide(1, "192.0.2.2/31")]);
    assert_eq!(served(&older), ["wide 198.51.100.1 192.0.2.2/31"]);
    let own = view(vec![b, wide(1, "192.0.2.0/31")]);
    assert_eq!(reasons(&own), ["wide: podCIDR 192.0.2.0/31 contains the address of this node"]);
}

/// Addresses are what nodes say of themselves.
#[test]
fn addresses_of_younger_nodes_cost_an_older_one_no_pods() {
    let b = record("b", 20, &["192.0.2.2"], &["10.0.2.0/24"]);
    let of = |name: &str, number: u32| {
        let own = format!("192.0.2.{number}");
        let inside = format!("10.0.2.{number}");
        record(name, number, &[&own, &inside], &[&format!("10.0.{number}.0/24")])
    };
    let view = view(vec![of("x", 30), of("y", 31), b]);
    let expected =
        ["b 192.0.2.2 10.0.2.0/24", "x 192.0.2.30 10.0.30.0/24", "y 192.0.2.31 10.0.31.0/24"];
    assert_eq!(served(&view), expected);
    assert_eq!((view.quarantined.as_slice(), view.findings.len()), ([].as_slice(), 2));
}

#[test]
fn the_api_servers_address_is_no_pods() {
    let mut settings = settings();
    settings.spared = vec!["203.0.113.9".parse().unwrap()];
    let b = record("b", 1, &["192.0.2.2"], &["203.0.113.0/24"]);
    let view = view_of(&with_own(vec![b]), &settings, &[]).unwrap();
    assert_eq!(
        reasons(&view),
        ["b: podCIDR 203.0.113.0/24 contains 203.0.113.9, where the API server is"]
    );
}

/// Where they are known, an older Node takes nothing from a younger one by an address.
#[test]
fn no_node_is_among_the_clusters_pods() {
    let mut settings = settings();
    settings.cluster_cidrs = Some(vec!["10.0.0.0/16".parse().unwrap()]);
    let x = record("x", 1, &["192.0.2.9", "10.0.2.7"], &["10.0.9.0/24"]);
    let b = record("b", 20, &["192.0.2.2"], &["10.0.2.0/24"]);
    let view = view_of(&with_own(vec![b, x]), &settings, &[]).unwrap();
    assert_eq!(served(&view), ["x 192.0.2.9 10.0.9.0/24", "b 192.0.2.2 10.0.2.0/24"]);
    assert!(evidence(&view)[0].ends_with("it is in 10.0.0.0/16 of clusterCIDRs, where pods are"));
    // A network that has this node as well is not where pods alone are.
    settings.cluster_cidrs = Some(vec!["10.0.0.0/8".parse().unwrap()]);
    let own = record("own", 10, &["10.9.0.1"], &["10.0.1.0/24"]);
    let b = record("b", 20, &["10.9.0.2"], &["10.0.2.0/24"]);
    let view = view_of(&[own, b], &settings, &[]).unwrap();
    assert_eq!(served(&view), ["b 10.9.0.2 10.0.2.0/24"]);
}

#[test]
fn pod_cidrs_that_can_be_none_take_their_node_out() {
    for (cidrs, words) in [
        (vec!["10.0.2.1/24"], "host bits"),
        (vec!["10.0.2.0"], "prefix length"),
        (vec!["224.0.0.0/24"], "multicast"),
        (vec!["0.0.0.0/0"], "this network"),
        (vec!["10.0.2.0/24", "10.0.2.0/25"], "overlap"),
        (vec!["junk"], "prefix length"),
    ] {
        let view = view(vec![record("b", 20, &["192.0.2.2"], &cidrs)]);
        assert_eq!(served(&view), Vec::<String>::new());
        assert!(reasons(&view)[0].contains(words), "{words}: {:?}", reasons(&view));
    }
    let twice = view(vec![record("b", 20, &["192.0.2.2", "192.0.2.2"], &["10.0.2.0/24"; 2])]);
    assert_eq!(served(&twice), ["b 192.0.2.2 10.0.2.0/24"]);
}

#[test]
fn pods_are_inside_the_clusters_networks() {
    let mut settings = settings();
    settings.cluster_cidrs = Some(vec!["10.0.0.0/22".parse().unwrap()]);
    let others = ["10.0.2.0/24", "10.0.4.0/24"].into_iter().zip(2..).map(|(cidr, number)| {
        record(&format!("n{number}"), number, &[&format!("192.0.2.{number}")], &[cidr])
    });
    let view = view_of(&with_own(others.collect()), &settings, &[]).unwrap();
    assert_eq!(served(&view), ["n2 192.0.2.2 10.0.2.0/24"]);
    assert_eq!(
        reasons(&view),
        ["n3: podCIDR 10.0.4.0/24 is in none of the clusterCIDRs of agent.json"]
    );
}

/// A Node's name may be an address, and another's at that.
#[test]
fn this_node_finds_itself_also_by_a_name_that_is_anothers_address() {
    let own = record("192.0.2.2", 10, &["192.0.2.1"], &["10.0.1.0/24"]);
    let b = record("b", 1, &["192.0.2.2"], &["10.0.2.0/24"]);
    let settings = Settings { node: "192.0.2.2".into(), ..settings() };
    let view = view_of(&[b, own], &settings, &[]).unwrap();
    assert_eq!(read(&view).me.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
}

/// Made for all nodes it is the same list, but for those who have nothing to be reached by.
#[test]
fn a_list_for_all_nodes_has_what_that_of_each_has() {
    let mut records = with_own(vec![
        record("b", 1, &["192.0.2.2", "2001:db8::2"], &["10.0.2.0/24", "fd00:2::/64"]),
        record("clash", 20, &["192.0.2.4"], &["10.0.2.128/25"]),
        record("a", 11, &["192.0.2.3", "127.0.0.1"], &["10.0.3.0/24"]),
        record("new", 12, &["192.0.2.5"], &[]),
    ]);
    records[0].tunnel =
        Some(Box::new(Tunnel { addresses: vec!["10.0.2.9".parse().unwrap()], mac: None }));
    let items = |text: &str| -> Vec<Value> {
        let list: Value = serde_json::from_str(text).unwrap();
        list["nodes"].as_array().unwrap().clone()
    };
    let all = Settled::of_cluster(&records).unwrap();
    let all = all.view(&Settings { node: String::new(), ..settings() });
    let names: Vec<Value> = items(&all.text).iter().map(|item| item["name"].clone()).collect();
    assert_eq!(names, ["a", "b", "own"]);
    for own in ["a", "b", "own"] {
        let of_one = view_of(&records, &Settings { node: own.into(), ..settings() }, &[]).unwrap();
        assert_eq!(of_one.quarantined, all.quarantined, "{own}");
        let mut listed = items(&of_one.text);
        listed.retain(|item| item["podCIDRs"] != json!([]));
        listed.sort_by_key(|item| item["name"].to_string());
        assert_eq!(listed, items(&all.text), "{own}");
    }
    assert_eq!((all.used, &all.incomplete[..]), (3, &["new".to_owned()][..]));
    assert_eq!(Settled::of_cluster::<Record>(&[]).unwrap_err(), Refusal::Empty);
}
