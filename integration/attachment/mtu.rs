// SPDX-License-Identifier: Apache-2.0
//! Where the MTU comes from, and that everybody is told the same one.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Host, Netns, PING_SECONDS, Pod, connect};
use crate::network::{Network, host_link};

/// Adds a pod and compares both ends and the result with `mtu`; gives what was
/// logged.
#[track_caller]
fn attached_with(network: &Network, mtu: u32) -> String {
    let pod = Pod::new("a");
    let reply = network.add(&pod);
    let logged = reply.stderr.clone();
    let result = reply.ok();
    let host = network.host().link(&host_link(&result)).unwrap();
    let inside = pod.netns.link("eth0").unwrap();
    assert_eq!((&host["mtu"], &inside["mtu"]), (&json!(mtu), &json!(mtu)), "{logged}");
    let told: Vec<&Value> = (0..2).map(|index| &result["interfaces"][index]["mtu"]).collect();
    assert_eq!(told, [&json!(mtu), &json!(mtu)]);
    logged
}

/// A node whose uplinks are these (name, MTU, up), without any route but
/// theirs; the namespaces hold the other ends.
fn with_links(links: &[(&str, u32, bool)]) -> (Host, Vec<Netns>) {
    let host = Host::new();
    let ends = links.iter().enumerate().map(|(index, (name, mtu, up))| {
        let (end, mtu) = (Netns::new(), mtu.to_string());
        let address = format!("203.0.113.{}/30", 4 * index + 1);
        connect((&host, name, &[&address]), (&end, "eth0", &[]));
        host.command("ip", &["link", "set", name, "mtu", &mtu]).ok();
        end.command("ip", &["link", "set", "eth0", "mtu", &mtu]).ok();
        if !up {
            host.command("ip", &["link", "set", name, "down"]).ok();
        }
        end
    });
    let ends = ends.collect();
    (host, ends)
}

fn calicos_file(network: &Network, content: &str) {
    fs::create_dir_all(network.root("var/lib/calico")).unwrap();
    fs::write(network.root("var/lib/calico/mtu"), content).unwrap();
}

#[test]
fn the_default_routes_device_decides_less_the_modes_overhead() {
    for (mode, mtu) in [("direct", 1362), ("ipip", 1342), ("vxlan", 1312)] {
        let network = Network::new().with("mode", json!(mode));
        network.host().command("ip", &["link", "set", "eth0", "mtu", "1362"]).ok();
        let logged = attached_with(&network, mtu);
        assert!(!logged.contains("WARN"), "{logged}");
    }
}

#[test]
fn an_overhead_that_is_given_counts_instead_of_the_modes() {
    let network = Network::new().with("mode", json!("vxlan")).with("overhead", json!(70));
    attached_with(&network, 1430);
    attached_with(&network.with("overhead", json!(0)), 1500);
}

#[test]
fn the_default_routes_device_decides_also_where_it_is_not_the_smallest() {
    let (host, _ends) = with_links(&[("small0", 1300, true), ("big0", 9000, true)]);
    host.command("ip", &["route", "add", "default", "dev", "big0"]).ok();
    attached_with(&Network::on(&host), 9000);
}

#[test]
fn a_default_route_of_ipv6_alone_decides_as_well() {
    let (host, _ends) = with_links(&[("small0", 1300, true), ("big0", 1400, true)]);
    host.command("ip", &["-6", "route", "add", "default", "via", "fe80::1", "dev", "big0"]).ok();
    attached_with(&Network::on(&host), 1400);
}

/// `ip route change default … mtu`, and what DHCP's option 26 becomes.
#[test]
fn the_default_routes_own_mtu_counts() {
    for (family, hop, network) in [
        ("-4", "192.0.2.1", Network::new()),
        ("-6", "2001:db8::1", Network::new().dual()),
        ("-6", "2001:db8::1", Network::new().ranges(&["fd00:1::/64"])),
    ] {
        let default = |words: &[&str]| {
            let args = [&[family, "route", "replace", "default", "via", hop, "dev", "eth0"], words];
            network.host().command("ip", &args.concat()).ok();
        };
        default(&["mtu", "1400"]);
        attached_with(&network, 1400);
        default(&["mtu", "lock", "1380"]);
        attached_with(&network, 1380);
        // No route makes a device carry more.
        default(&["mtu", "9000"]);
        attached_with(&network, 1500);
        default(&[]);
        attached_with(&network, 1500);
    }
}

#[test]
fn the_narrowest_of_several_paths_decides() {
    for (family, hops) in [("-4", ["203.0.113.2", "203.0.113.6"]), ("-6", ["fe80::1", "fe80::2"])] {
        let (host, _ends) = with_links(&[("wide0", 1500, true), ("narrow0", 1400, true)]);
        let paths = [
            ["nexthop", "via", hops[0], "dev", "wide0"],
            ["nexthop", "via", hops[1], "dev", "narrow0"],
        ]
        .concat();
        let args = [&[family, "route", "add", "default"], &paths[..]].concat();
        host.command("ip", &args).ok();
        attached_with(&Network::on(&host), 1400);
    }
}

/// Calico goes by name patterns that match no bond or bridge, and falls back to
/// 1460 (calico#4522).
#[test]
fn without_a_default_route_the_smallest_link_that_is_up_decides_whatever_its_name() {
    let links = [("bond0", 1400, true), ("br-x", 1390, true), ("eth9", 1280, false)];
    let (host, _ends) = with_links(&links);
    attached_with(&Network::on(&host), 1390);
}

#[test]
fn pods_own_links_do_not_count_as_the_smallest() {
    let (host, _ends) = with_links(&[("bond0", 1400, true)]);
    let network = Network::on(&host);
    attached_with(&network.clone().with("mtu", json!(1000)), 1000);
    attached_with(&network, 1400);
}

#[test]
fn a_node_without_any_device_gets_1500_less_the_overhead_and_a_line_that_says_so() {
    let network = Network::on(&Host::new()).with("mode", json!("ipip"));
    let logged = attached_with(&network, 1480);
    assert!(logged.contains("no device to take the MTU from"), "{logged}");
}

#[test]
fn the_configured_mtu_wins_and_each_pod_keeps_the_one_it_was_made_with() {
    let network = Network::new();
    attached_with(&network.clone().with("mtu", json!(1300)), 1300);
    attached_with(&network.clone().with("mtu", json!(1400)), 1400);
    attached_with(&network.with("mtu", json!(0)), 1500);
}

#[test]
fn an_mtu_above_what_the_device_carries_is_a_warning_with_both_numbers() {
    let network = Network::new().with("mode", json!("vxlan")).with("mtu", json!(1460));
    let logged = attached_with(&network, 1460);
    let warning = logged.lines().find(|line| line.contains("WARN")).unwrap_or_default();
    for word in ["1460", "1450", "eth0", "1500", "50"] {
        assert!(warning.contains(word), "{word} is not in {logged:?}");
    }
    let logged = attached_with(&network.with("mtu", json!(1450)), 1450);
    assert!(!logged.contains("WARN"), "{logged}");
}

#[test]
fn calicos_file_decides_under_the_name_calico_only() {
    let network = Network::new();
    calicos_file(&network, "1234");
    attached_with(&network, 1500);
    let calico = network.with("type", json!("calico"));
    attached_with(&calico, 1234);
    attached_with(&calico.clone().with("mtu", json!(1300)), 1300);
    calicos_file(&calico, "1240\n");
    attached_with(&calico, 1240);
}

/// Calico reads its file on every ADD and fails on garbage, even where the
/// configuration says the MTU.
#[test]
fn garbage_in_calicos_file_fails_nothing() {
    let network = Network::new().with("type", json!("calico"));
    for garbage in ["", "fifteen", "-1", "0", "1e3"] {
        calicos_file(&network, garbage);
        let logged = attached_with(&network.clone().with("mtu", json!(1300)), 1300);
        assert!(!logged.contains("WARN"), "{logged}");
        let logged = attached_with(&network, 1500);
        assert!(logged.contains("/var/lib/calico/mtu holds no MTU"), "{logged}");
    }
}

/// Calico's pods that start before its agent has written the file have 1500
/// for good (calico#9718).
#[test]
fn the_mtu_needs_no_agents_file_under_the_name_calico_either() {
    let network = Network::new().with("type", json!("calico")).with("mode", json!("ipip"));
    attached_with(&network, 1480);
}

#[test]
fn a_packet_of_the_mtu_passes_and_one_byte_more_is_refused_at_home() {
    let network = Network::new().with("mtu", json!(1400));
    let pods = [Pod::new("a"), Pod::new("b")];
    let results = pods.each_ref().map(|pod| network.add(pod).ok());
    let to = crate::network::address(&results[1], 0);
    let ping = |bytes: &str| {
        let args = ["-n", "-M", "do", "-c", "1", "-W", PING_SECONDS, "-s", bytes, &to];
        pods[0].netns.command("ping", &args)
    };
    // 20 bytes of IPv4 and 8 of ICMP go on top.
    assert_eq!(ping("1372").status, 0);
    let refused = ping("1373");
    let said = refused.stdout.clone() + &refused.stderr;
    assert!(refused.status != 0 && said.to_lowercase().contains("message too long"), "{said}");
}
