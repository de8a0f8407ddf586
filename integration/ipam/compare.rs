// SPDX-License-Identifier: Apache-2.0
//! What the reference host-local does, case by case, in both families: the same
//! answers, and the same files byte for byte.

use serde_json::{Value, json};

use crate::ground::{Program, address, addresses};
use crate::twin::{Twin, VERSIONS};

/// A subnet of each family, and what its addresses begin with.
const FAMILIES: [(&str, &str); 2] = [("10.1.0.0/24", "10.1.0."), ("fd00:1::/64", "fd00:1::")];

fn sets(subnets: &[&str]) -> Value {
    let sets: Vec<Value> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    json!({"ranges": sets})
}

fn dual() -> Value {
    sets(&["10.1.0.0/24", "fd00:1::/64"])
}

#[track_caller]
fn assert_leases(twin: &Twin, expected: &[(&str, &str)]) {
    let leases = twin.ours.leases();
    let found: Vec<(&str, &str)> = leases.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn one_address_of_each_set() {
    let mut ipam = sets(&["10.1.0.0/24", "fd00:1::/64", "10.2.0.0/25"]);
    ipam["routes"] = json!([
        {"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.0.9"}
    ]);
    let twin = Twin::new(ipam);
    let result = twin.add("c1", "eth0");
    assert_eq!(addresses(&result), ["10.1.0.2", "fd00:1::2", "10.2.0.2"]);
    assert_eq!(result["ips"][0], json!({"address": "10.1.0.2/24", "gateway": "10.1.0.1"}));
    let content = "c1\r\neth0";
    assert_leases(&twin, &[("10.1.0.2", content), ("10.2.0.2", content), ("fd00:1::2", content)]);
    let files = twin.ours.files();
    for (index, expected) in addresses(&result).iter().enumerate() {
        assert_eq!(files[&format!("last_reserved_ip.{index}")], *expected);
    }
    twin.del("c1", "eth0");
    assert_leases(&twin, &[]);
    assert_eq!(twin.ours.files().len(), 3, "the pointers stay");
}

#[test]
fn every_version_has_its_result() {
    for version in VERSIONS {
        let mut ipam = dual();
        ipam["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00:1::9"}]);
        let twin = Twin::new(ipam).key("cniVersion", version.into());
        let result = twin.add("c1", "eth0");
        assert_eq!(result["cniVersion"], version);
        twin.del("c1", "eth0");
        let twin = twin.section(sets(&["10.1.0.0/24", "10.2.0.0/24"]));
        if version < "0.3.0" {
            let error = twin.refused("c1");
            assert_eq!(error["code"], 7, "{version}: {error}");
        } else {
            assert_eq!(twin.add("c1", "eth0")["ips"].as_array().unwrap().len(), 2);
        }
    }
}

#[test]
fn two_interfaces_are_two_owners_and_none_gets_two() {
    for (subnet, prefix) in FAMILIES {
        let twin = Twin::new(sets(&[subnet]));
        assert_eq!(address(&twin.add("c1", "eth0")), format!("{prefix}2"));
        assert_eq!(address(&twin.add("c1", "net1")), format!("{prefix}3"));
        assert_eq!(twin.refused("c1")["code"], 101);
        twin.del("c1", "eth0");
        assert_leases(&twin, &[(&format!("{prefix}3"), "c1\r\nnet1")]);
        assert_eq!(address(&twin.add("c1", "eth0")), format!("{prefix}4"));
        twin.del("c1", "net1");
        twin.del("c1", "eth0");
        assert_leases(&twin, &[]);
    }
}

#[test]
fn other_contents_of_files() {
    for (subnet, prefix) in FAMILIES {
        let twin = Twin::new(sets(&[subnet]));
        twin.write(&format!("{prefix}2"), "old");
        twin.write(&format!("{prefix}3"), "  spaced\r\neth0 \n\n");
        twin.write(&format!("{prefix}4"), "other\neth0");
        assert_eq!(twin.refused("spaced")["code"], 101);
        assert_eq!(address(&twin.add("c1", "eth0")), format!("{prefix}5"));
        // By the older format, all of a container's interfaces.
        twin.del("old", "net7");
        twin.del("spaced", "eth0");
        twin.del("unheard-of", "eth0");
        let kept = [format!("{prefix}4"), format!("{prefix}5")];
        assert_leases(&twin, &[(&kept[0], "other\neth0"), (&kept[1], "c1\r\neth0")]);
    }
}

#[test]
fn the_first_use_of_a_store_says_nothing_of_missing_files() {
    let twin = Twin::new(dual());
    let plugin = twin.plugin(Program::Manx);
    let pod = twin.ours.container("c1", "eth0");
    plugin.del(&pod).ok();
    assert!(!twin.ours.store().exists(), "a DEL makes no store");
    let reply = plugin.add(&pod);
    let lines: Vec<&str> = reply.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("ADD network=net container=c1 ifname=eth0"), "{lines:?}");
}

#[test]
fn an_address_that_is_asked_for() {
    for (subnet, prefix) in FAMILIES {
        let twin = Twin::new(sets(&[subnet]));
        let wish = |last: &str| format!("{prefix}{last}");
        let ask = |text: String| {
            [
                twin.args(&format!("IP={text}")),
                twin.key("args", json!({"cni": {"ips": [text]}})),
                twin.key("runtimeConfig", json!({"ips": [text]})),
            ]
        };
        for (index, twin) in ask(wish("5")).iter().enumerate() {
            assert_eq!(address(&twin.add(&format!("c{index}"), "eth0")), wish("5"));
            assert_eq!(twin.refused("another")["code"], 101, "it is taken");
            twin.del(&format!("c{index}"), "eth0");
        }
        let length = if subnet.contains(':') { 64 } else { 24 };
        for twin in ask(format!("{}/{length}", wish("6"))) {
            assert_eq!(address(&twin.add("c1", "eth0")), wish("6"));
            twin.del("c1", "eth0");
        }
        for twin in ask(wish("1")) {
            let error = twin.refused("c1");
            assert!(error["msg"].as_str().unwrap().contains("gateway"), "{error}");
        }
        for outside in ["10.9.0.1", "fd00:9::1"] {
            for twin in ask(outside.to_owned()) {
                let error = twin.refused("c1");
                assert!(error["msg"].as_str().unwrap().contains(outside), "{error}");
                assert_leases(&twin, &[]);
            }
        }
        assert_eq!(address(&twin.add("c1", "eth0")), wish("7"), "they move the pointer, too");
    }
}

#[test]
fn addresses_of_several_sets_are_asked_for() {
    let twin = Twin::new(sets(&["10.1.0.0/24", "10.2.0.0/24", "fd00:1::/64"]));
    let ips = |ips: &[&str]| json!({"cni": {"ips": ips}});
    let result = twin.key("args", ips(&["10.2.0.9", "10.1.0.8"])).add("c1", "eth0");
    assert_eq!(addresses(&result), ["10.1.0.8", "10.2.0.9", "fd00:1::2"]);
    let asked = twin.args("IgnoreUnknown=1;IP=fd00:1::7").key("args", ips(&["10.1.0.7"]));
    let result = asked.key("runtimeConfig", json!({"ips": ["10.2.0.7/24"]})).add("c2", "eth0");
    assert_eq!(addresses(&result), ["10.1.0.7", "10.2.0.7", "fd00:1::7"]);
    // One of two is impossible: neither stays taken.
    let before = twin.ours.leases();
    for wrong in [["10.1.0.20", "10.9.0.1"], ["10.1.0.20", "10.2.0.7"], ["10.1.0.20", "10.1.0.21"]]
    {
        twin.key("args", ips(&wrong)).refused("c3");
        assert_eq!(twin.ours.leases(), before);
    }
}

#[test]
fn the_pointer_goes_around_the_set() {
    let set = json!([[
        {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.11"},
        {"subnet": "10.2.0.0/30", "gateway": "10.2.0.2"},
        {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.40", "rangeEnd": "10.1.0.41",
            "gateway": "10.1.0.40"},
    ]]);
    let twin = Twin::new(json!({"ranges": set}));
    let given: Vec<String> =
        (0..4).map(|number| address(&twin.add(&format!("c{number}"), "eth0"))).collect();
    assert_eq!(given, ["10.1.0.10", "10.1.0.11", "10.2.0.1", "10.1.0.41"]);
    let error = twin.refused("c9");
    assert!(error["msg"].as_str().unwrap().contains("10.1.0.10-10.1.0.11"), "{error}");
    twin.del("c2", "eth0");
    assert_eq!(address(&twin.add("c9", "eth0")), "10.2.0.1");
    let set = json!([[{"subnet": "fd00:1::/126"}]]);
    let twin = Twin::new(json!({"ranges": set}));
    assert_eq!(addresses(&twin.add("c1", "eth0")), ["fd00:1::2"]);
    assert_eq!(addresses(&twin.add("c2", "eth0")), ["fd00:1::3"]);
    twin.refused("c3");
    for (pointer, next) in [("10.1.0.254", "10.1.0.2"), ("10.7.0.1", "10.1.0.2"), ("", "10.1.0.2")]
    {
        let twin = Twin::new(sets(&["10.1.0.0/24"]));
        twin.write("last_reserved_ip.0", pointer);
        assert_eq!(address(&twin.add("c1", "eth0")), next, "behind {pointer:?}");
    }
}

#[test]
fn the_older_keys() {
    let twin = Twin::new(json!({
        "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.50", "rangeEnd": "10.1.0.60",
        "gateway": "10.1.0.254", "ranges": [[{"subnet": "fd00:1::/64"}]]
    }));
    let result = twin.add("c1", "eth0");
    assert_eq!(addresses(&result), ["10.1.0.50", "fd00:1::2"]);
    assert_eq!(result["ips"][0]["gateway"], "10.1.0.254");
    let twin = Twin::new(json!({"subnet": "fd00:2::/112", "rangeStart": "fd00:2::a:1"}));
    twin.refused("c1");
    let twin = twin.section(json!({"subnet": "fd00:2::/112", "rangeStart": "fd00:2::1:0"}));
    twin.refused("c1");
    let twin = twin.section(json!({"subnet": "fd00:2::/112", "rangeStart": "fd00:2::a1"}));
    assert_eq!(addresses(&twin.add("c1", "eth0")), ["fd00:2::a1"]);
}

#[test]
fn the_runtimes_ranges_come_first() {
    let twin = Twin::new(json!({"subnet": "10.2.0.0/24", "ranges": [[{"subnet": "10.3.0.0/24"}]]}));
    let runtime = json!({"ipRanges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]});
    let result = twin.key("runtimeConfig", runtime).add("c1", "eth0");
    assert_eq!(addresses(&result), ["10.1.0.2", "fd00:1::2", "10.2.0.2", "10.3.0.2"]);
    assert_eq!(twin.ours.files()["last_reserved_ip.0"], "10.1.0.2");
}

#[test]
fn ranges_that_make_no_sense() {
    for ranges in [
        json!([]),
        json!([[]]),
        json!([[{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/25"}]]),
        json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.128/25"}]]),
        json!([[{"subnet": "fd00:1::/64"}], [{"subnet": "fd00::/16"}]]),
        json!([[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00:1::/64"}]]),
        json!([[{"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}]]),
        json!([[{"subnet": "10.1.0.0/24", "rangeEnd": "10.2.0.1"}]]),
        json!([[{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8"}]]),
        json!([[{"subnet": "10.1.0.1/24"}]]),
        json!([[{"subnet": "fd00:1::1/64"}]]),
        json!([[{"subnet": "10.1.0.0/31"}]]),
        json!([[{"subnet": "fd00:1::/127"}]]),
        json!([[{"subnet": "10.1.0.0"}]]),
        json!([[{"rangeStart": "10.1.0.1"}]]),
    ] {
        let twin = Twin::new(json!({"ranges": ranges}));
        let theirs = twin.plugin(Program::HostLocal).add(&twin.reference.container("c1", "eth0"));
        let ours = twin.plugin(Program::Manx).add(&twin.ours.container("c1", "eth0"));
        assert!(!theirs.succeeded(), "{ranges}");
        assert_eq!(ours.error()["code"], 7, "{ranges}");
        assert!(!twin.ours.store().exists(), "{ranges}: refused before anything is done");
    }
    // Windows of one subnet that do not meet are two sets.
    let twin = Twin::new(json!({"ranges": [
        [{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.99"}],
        [{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.100"}],
    ]}));
    assert_eq!(addresses(&twin.add("c1", "eth0")), ["10.1.0.2", "10.1.0.100"]);
}

#[test]
fn resolver_settings() {
    for text in [
        "nameserver 192.0.2.53\nnameserver 2001:db8::53\n",
        "# nameserver 192.0.2.1\n; search x\n\nnameserver 192.0.2.2 # here\nsearch a.example\n",
        "domain example.org\nsearch a.example b.example\noptions ndots:5 timeout:1\n\
         nameserver 192.0.2.53\noptions rotate\nsortlist 192.0.2.0\n",
        "",
    ] {
        let mut ipam = dual();
        let twin = Twin::new(ipam.clone());
        let file = twin.ours.host.scratch().file("resolv.conf", text);
        ipam["resolvConf"] = json!(file);
        twin.section(ipam).add("c1", "eth0");
    }
    let mut ipam = dual();
    ipam["resolvConf"] = "/nonexistent/resolv.conf".into();
    Twin::new(ipam).refused("c1");
}
