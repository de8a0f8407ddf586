// SPDX-License-Identifier: Apache-2.0
//! CHECK: each object that is missing is named, what later plugins of a chain
//! may change is not, and nothing is modified.

use serde_json::{Value, json};

use crate::harness::{DEADLINE, Netns, Pod, eventually};
use crate::network::{GATEWAY, GATEWAY_IPV6, Network, address, host_link, lines, text};

/// A dual-stack attachment and what a break needs to know of it.
struct Attached {
    network: Network,
    pod: Pod,
    result: Value,
    link: String,
}

impl Attached {
    fn new() -> Self {
        let network = Network::new().dual();
        let pod = Pod::new("a").kubernetes("test", "pod1");
        let result = network.add(&pod).ok();
        let link = host_link(&result);
        Self { network, pod, result, link }
    }

    /// Runs `ip` with LINK, V4 and V6 replaced by what they are here.
    fn ip(&self, netns: &Netns, command: &str) {
        let command = command
            .replace("LINK", &self.link)
            .replace("V4", &address(&self.result, 0))
            .replace("V6", &address(&self.result, 1));
        let args: Vec<&str> = command.split(' ').collect();
        netns.command("ip", &args).ok();
    }

    fn host(&self, command: &str) {
        self.ip(self.network.host(), command);
    }

    fn inside(&self, command: &str) {
        self.ip(&self.pod.netns, command);
    }

    /// CHECK passes before `harm` and after it fails with these words.
    #[track_caller]
    fn fails_with(words: &[&str], harm: impl FnOnce(&Self)) {
        let attached = Self::new();
        attached.network.check(&attached.pod, &attached.result).ok();
        harm(&attached);
        let error = attached.network.check(&attached.pod, &attached.result).error();
        assert_eq!(error["code"], 102, "{error}");
        for word in words {
            let word = word
                .replace("LINK", &attached.link)
                .replace("V4", &address(&attached.result, 0))
                .replace("V6", &address(&attached.result, 1));
            assert!(text(&error["msg"]).contains(&word), "{word} is not in {error}");
        }
        assert!(!text(&error["details"]).is_empty());
    }

    /// CHECK passes after `change`.
    #[track_caller]
    fn passes_after(change: impl FnOnce(&Self)) {
        let attached = Self::new();
        change(&attached);
        attached.network.check(&attached.pod, &attached.result).ok();
    }
}

#[test]
fn check_right_after_add_passes_in_silence() {
    for network in [Network::new(), Network::new().dual(), Network::new().ranges(&["fd00:1::/64"])]
    {
        let pod = Pod::new("a");
        let result = network.add(&pod).ok();
        for _ in 0..3 {
            let reply = network.check(&pod, &result);
            assert_eq!((reply.stdout.as_str(), reply.stderr.as_str()), ("", ""));
            reply.ok();
        }
    }
}

/// The reference ptp's CHECK looks at nothing on the node.
#[test]
fn what_is_missing_on_the_node_is_named() {
    let harms: [(&str, &[&str]); 8] = [
        ("link set LINK down", &["LINK is down"]),
        ("link set LINK alias", &["LINK has lost its mark"]),
        ("link set LINK group 0", &["LINK has lost its group"]),
        ("link set LINK mtu 2000", &["LINK has MTU 2000 above 1500"]),
        ("link del LINK", &["eth0 is missing in the pod", "host link of eth0 is missing"]),
        ("-4 route del V4", &["host route V4/32", "LINK"]),
        ("-6 route del V6", &["host route V6/128", "LINK"]),
        (
            "-6 address del fe80::ecee:eeff:feee:eeee/64 dev LINK",
            &["LINK lacks address fe80::ecee"],
        ),
    ];
    for (harm, words) in harms {
        if harm.ends_with("alias") {
            Attached::fails_with(words, |attached| {
                let args = ["link", "set", attached.link.as_str(), "alias", ""];
                attached.network.host().command("ip", &args).ok();
            });
        } else {
            Attached::fails_with(words, |attached| attached.host(harm));
        }
    }
}

#[test]
fn a_host_route_that_leads_elsewhere_is_named() {
    Attached::fails_with(&["host route V4/32"], |attached| {
        attached.host("-4 route replace V4 dev eth0 scope link");
    });
}

#[test]
fn a_parameter_of_the_node_that_does_not_hold_is_named() {
    for (key, value) in [
        ("ipv4/ip_forward", "0"),
        ("ipv6/conf/all/forwarding", "0"),
        ("ipv4/conf/LINK/forwarding", "0"),
        ("ipv4/conf/LINK/proxy_arp", "0"),
        ("ipv6/conf/LINK/forwarding", "0"),
    ] {
        Attached::fails_with(&[key], |attached| {
            let key = key.replace("LINK", &attached.link);
            attached.network.host().set_sysctl(&key, value);
        });
    }
}

#[test]
fn what_is_missing_in_the_pod_is_named() {
    let neighbours = [GATEWAY, GATEWAY_IPV6]
        .map(|hop| (format!("neighbour del {hop} dev eth0"), format!("permanent neighbour {hop}")));
    let harms: Vec<(&str, &str)> = vec![
        ("link set eth0 down", "eth0 is down"),
        ("link set eth0 mtu 2000", "eth0 has MTU 2000 above 1500"),
        ("link set eth0 address 02:00:00:00:00:01", "eth0 has MAC 02:00:00:00:00:01"),
        ("link set eth0 name eth7", "eth0 is missing in the pod"),
        ("-4 address del V4/32 dev eth0", "eth0 lacks address V4/32"),
        ("-6 address del V6/128 dev eth0", "eth0 lacks address V6/128"),
        ("-4 route del default", "route 0.0.0.0/0 via 169.254.1.1 is missing"),
        ("-4 route del 169.254.1.1", "route 169.254.1.1/32 is missing"),
        ("-6 route del default", "route ::/0 via fe80::ecee:eeff:feee:eeee is missing"),
    ];
    let harms = harms.into_iter().chain(neighbours.iter().map(|(a, b)| (a.as_str(), b.as_str())));
    for (harm, word) in harms {
        Attached::fails_with(&[word], |attached| {
            if harm.contains("name") {
                attached.inside("link set eth0 down");
            }
            attached.inside(harm);
        });
    }
}

#[test]
fn a_neighbour_that_is_there_and_not_permanent_is_named() {
    Attached::fails_with(&["permanent neighbour 169.254.1.1"], |attached| {
        let entry = "neighbour replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud stale";
        attached.inside(entry);
    });
}

#[test]
fn another_veth_in_its_place_is_named() {
    Attached::fails_with(&["host link of eth0 is missing"], |attached| {
        attached.inside("link del eth0");
        attached.inside("link add eth0 type veth peer name eth1");
    });
}

#[test]
fn all_differences_are_told_at_once() {
    Attached::fails_with(
        &["eth0 lacks address V4/32", "host route V6/128", "neighbour"],
        |attached| {
            attached.inside("neighbour del 169.254.1.1 dev eth0");
            attached.inside("-4 address del V4/32 dev eth0");
            attached.host("-6 route del V6");
        },
    );
}

#[test]
fn ipams_check_is_asked_and_its_error_is_told() {
    let attached = Attached::new();
    let leases = attached.network.host().scratch().path().join("leases/net");
    for position in 0..2 {
        std::fs::remove_file(leases.join(address(&attached.result, position))).unwrap();
    }
    let error = attached.network.check(&attached.pod, &attached.result).error();
    assert!(text(&error["msg"]).starts_with("host-local"), "{error}");
}

#[test]
fn a_later_plugin_may_make_the_mtu_smaller() {
    Attached::passes_after(|attached| {
        attached.inside("link set eth0 mtu 1400");
        attached.host("link set LINK mtu 1400");
    });
}

/// A veth drops what is larger than the end that it arrives at.
#[test]
fn ends_of_two_mtus_are_told() {
    Attached::fails_with(&["LINK has MTU 1400", "eth0 in the pod 1500"], |attached| {
        attached.host("link set LINK mtu 1400");
    });
    // As tuning leaves it, whose result does not tell: no difference, but a warning.
    let attached = Attached::new();
    attached.inside("link set eth0 mtu 1400");
    let reply = attached.network.check(&attached.pod, &attached.result);
    assert!(reply.stderr.contains("WARN") && reply.stderr.contains("1400"), "{reply:?}");
    reply.ok();
}

#[test]
fn a_later_plugin_may_move_routes_to_a_table_of_its_own() {
    Attached::passes_after(|attached| {
        attached.inside("-4 route add 169.254.1.1 dev eth0 scope link table 100");
        attached.inside("-4 route add default via 169.254.1.1 dev eth0 table 100");
        attached.inside("-4 route del default");
        attached.inside("-4 route del 169.254.1.1");
    });
}

#[test]
fn a_later_plugin_may_change_the_mac_if_prev_result_says_so() {
    let mut attached = Attached::new();
    attached.inside("link set eth0 address 02:00:00:00:00:01");
    attached.result["interfaces"][1]["mac"] = json!("02:00:00:00:00:01");
    attached.network.check(&attached.pod, &attached.result).ok();
}

#[test]
fn a_mac_that_was_asked_for_is_no_difference() {
    let network = Network::new().dual();
    let network = network.with("runtimeConfig", json!({"mac": "ca:fe:ca:fe:ca:fe"}));
    let pod = Pod::new("a");
    let result = network.add(&pod).ok();
    network.check(&pod, &result).ok();
    // tuning behind us sets it once more, and the neighbours go all the same.
    pod.netns.command("ip", &["neighbour", "del", GATEWAY, "dev", "eth0"]).ok();
    network.check(&pod, &result).ok();
}

#[test]
fn more_addresses_routes_and_links_than_ours_are_no_difference() {
    Attached::passes_after(|attached| {
        attached.inside("address add 198.51.100.7/24 dev eth0");
        attached.inside("route add 203.0.113.0/24 via 169.254.1.1");
        attached.inside("link add br0 type bridge");
        attached.host("route add 203.0.113.9/32 dev LINK");
    });
}

#[test]
fn a_prev_result_without_our_interface_is_an_error_that_names_it() {
    let attached = Attached::new();
    for previous in [json!({"cniVersion": "1.1.0", "ips": []}), json!({"cniVersion": "1.1.0"})] {
        let error = attached.network.check(&attached.pod, &previous).error();
        assert!(text(&error["msg"]).contains("eth0"), "{error}");
    }
    let error = attached.network.call("CHECK").pod(&attached.pod).run().error();
    assert_eq!(error["code"], 7, "{error}");
    assert!(text(&error["msg"]).contains("prevResult"), "{error}");
}

#[test]
fn check_of_an_attachment_that_was_deleted_fails() {
    let attached = Attached::new();
    attached.network.del(&attached.pod).ok();
    let error = attached.network.check(&attached.pod, &attached.result).error();
    assert_eq!(error["code"], 102, "{error}");
}

#[test]
fn check_needs_no_journal() {
    Attached::passes_after(|attached| {
        std::fs::remove_dir_all(attached.network.root("run/manx")).unwrap();
    });
}

#[test]
fn check_modifies_nothing_whether_it_passes_or_fails() {
    let attached = Attached::new();
    // The kernel tells itself of the carrier in its own time.
    let settled = || {
        let ends = [attached.network.host().link(&attached.link), attached.pod.netns.link("eth0")];
        ends.iter().flatten().all(|end| end["operstate"] == "UP")
    };
    assert!(eventually(DEADLINE, settled));
    let state = || {
        let whole = |netns: &Netns| {
            [
                lines(netns, &["-d", "link"]),
                lines(netns, &["address"]),
                lines(netns, &["-4", "route", "show", "table", "all"]),
                lines(netns, &["-6", "route", "show", "table", "all"]),
                lines(netns, &["neighbour", "show", "nud", "permanent"]),
                netns
                    .command("sysctl", &["-a", "--pattern", r"^net\.ipv[46]\.(conf|ip_forward)"])
                    .ok()
                    .lines()
                    .filter(|line| !line.contains("stable_secret"))
                    .map(str::to_owned)
                    .collect(),
            ]
        };
        (whole(attached.network.host()), whole(&attached.pod.netns), attached.network.remains())
    };
    let before = state();
    attached.network.check(&attached.pod, &attached.result).ok();
    assert_eq!(state(), before);
    attached.host("-4 route del V4");
    attached.network.host().set_sysctl("ipv4/ip_forward", "0");
    attached.inside("neighbour del 169.254.1.1 dev eth0");
    let before = state();
    attached.network.check(&attached.pod, &attached.result).error();
    assert_eq!(state(), before);
}
