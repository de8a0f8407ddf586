// SPDX-License-Identifier: Apache-2.0
//! The files in `golden/` are what the reference library of version 1.3.0 makes
//! of one result, with two differences of ours: MACs in lower case, and nothing
//! in 1.0.0 that its specification does not know. Each test names the numbered
//! conformance rule that it holds, where there is one.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::cni::{Code, cidr};

const GOLDEN: [(Version, &str); 7] = [
    (Version::V0_1_0, include_str!("golden/0.1.0.json")),
    (Version::V0_2_0, include_str!("golden/0.2.0.json")),
    (Version::V0_3_0, include_str!("golden/0.3.0.json")),
    (Version::V0_3_1, include_str!("golden/0.3.1.json")),
    (Version::V0_4_0, include_str!("golden/0.4.0.json")),
    (Version::V1_0_0, include_str!("golden/1.0.0.json")),
    (Version::V1_1_0, include_str!("golden/1.1.0.json")),
];

fn golden(version: Version) -> Value {
    let (_, text) = GOLDEN.iter().find(|(name, _)| *name == version).unwrap();
    serde_json::from_str(text).unwrap()
}

fn net(text: &str) -> IpNetwork {
    cidr::parse(text).unwrap()
}

/// Every field set somewhere; both families, one of them twice.
fn sample() -> AddResult {
    let host = Interface {
        name: "cali0123456789a".into(),
        mac: Some("ee:ee:ee:ee:ee:ee".into()),
        mtu: Some(1450),
        ..Interface::default()
    };
    let pod = Interface {
        name: "eth0".into(),
        mac: Some("AA:bb:cc:00:11:22".into()),
        mtu: Some(1450),
        sandbox: Some("/var/run/netns/t".into()),
        socket_path: Some("/run/s".into()),
        pci_id: Some("0000:00:1f.6".into()),
    };
    let ip = |address, gateway: Option<&str>, interface| Ip {
        address: net(address),
        gateway: gateway.map(|text| text.parse().unwrap()),
        interface,
    };
    let mut default = Route::new(net("0.0.0.0/0"), Some("10.1.2.1".parse().unwrap()));
    (default.mtu, default.advmss, default.priority) = (Some(1400), Some(1360), Some(7));
    (default.table, default.scope) = (Some(0), Some(0));
    let mut tabled = Route::new(net("10.9.0.0/16"), None);
    (tabled.table, tabled.scope) = (Some(100), Some(253));
    AddResult {
        interfaces: vec![host, pod],
        ips: vec![
            ip("10.1.2.3/24", Some("10.1.2.1"), Some(1)),
            ip("fd00::5/64", Some("fd00::1"), Some(0)),
            ip("10.1.2.4/32", None, None),
        ],
        routes: vec![default, Route::new(net("::/0"), None), tabled],
        dns: Dns {
            nameservers: vec!["10.96.0.10".into()],
            domain: Some("cluster.local".into()),
            search: vec!["a.b".into(), "c".into()],
            options: vec!["ndots:5".into()],
        },
    }
}

fn refused(value: &Value) -> Error {
    AddResult::decode(value, Version::V1_1_0).unwrap_err()
}

#[test]
fn r26_each_version_has_the_shape_of_the_reference() {
    for version in Version::ALL {
        assert_eq!(sample().encode(version).unwrap(), golden(version), "{version}");
    }
}

#[test]
fn each_version_is_read_and_written_again_without_loss() {
    for version in Version::ALL {
        let decoded = AddResult::decode(&golden(version), Version::V0_1_0).unwrap();
        assert_eq!(decoded.encode(version).unwrap(), golden(version), "{version}");
    }
}

#[test]
fn dns_is_always_there_up_to_0_4_0_and_only_with_content_afterwards() {
    let mut result = sample();
    result.dns = Dns::default();
    for version in Version::ALL {
        let expected = (version < Version::V1_0_0).then(|| json!({}));
        assert_eq!(result.encode(version).unwrap().get("dns"), expected.as_ref(), "{version}");
    }
}

#[test]
fn an_empty_result_is_empty() {
    for version in &Version::ALL[2..] {
        let value = AddResult::default().encode(*version).unwrap();
        let expected = match *version {
            version if version < Version::V1_0_0 => {
                json!({"cniVersion": version.as_str(), "dns": {}})
            }
            version => json!({"cniVersion": version.as_str()}),
        };
        assert_eq!(value, expected);
    }
}

#[test]
fn t171_old_versions_cannot_say_that_there_is_no_address() {
    let mut result = sample();
    result.ips.clear();
    for version in [Version::V0_1_0, Version::V0_2_0] {
        let error = result.encode(version).unwrap_err();
        assert_eq!(error.code, Code::INVALID_CONFIG);
        assert!(error.msg.contains(version.as_str()), "{error}");
    }
    result.encode(Version::V0_3_0).unwrap();
}

#[test]
fn old_versions_lose_the_routes_of_a_family_without_address() {
    let mut result = sample();
    result.ips.retain(|ip| ip.address.is_ipv6());
    let value = result.encode(Version::V0_2_0).unwrap();
    assert_eq!(value.get("ip4"), None);
    assert_eq!(value["ip6"]["routes"], json!([{"dst": "::/0"}]));
}

#[test]
fn r33_index_zero_is_said_and_an_absent_index_is_not() {
    let value = sample().encode(Version::V1_1_0).unwrap();
    assert_eq!(value["ips"][1]["interface"], 0);
    assert_eq!(value["ips"][2].get("interface"), None);
    let decoded = AddResult::decode(&value, Version::V1_1_0).unwrap();
    let indices: Vec<_> = decoded.ips.iter().map(|ip| ip.interface).collect();
    assert_eq!(indices, [Some(1), Some(0), None]);
}

#[test]
fn r35_explicit_zeros_of_table_and_scope_survive_and_those_of_the_rest_mean_unset() {
    let value = json!({"routes": [
        {"dst": "10.0.0.0/8", "mtu": 0, "advmss": 0, "priority": 0, "table": 0, "scope": 0},
    ]});
    let result = AddResult::decode(&value, Version::V1_1_0).unwrap();
    let mut expected = Route::new(net("10.0.0.0/8"), None);
    (expected.table, expected.scope) = (Some(0), Some(0));
    assert_eq!(result.routes, [expected]);
}

#[test]
fn t167_without_a_version_the_assumed_one_counts() {
    for absent in [json!({}), json!({"cniVersion": ""}), json!({"cniVersion": null})] {
        let mut value = absent;
        value["ip4"] = json!({"ip": "10.0.0.2/24"});
        value["ips"] = json!([{"address": "10.0.0.3/24"}, {"address": "10.0.0.4/24"}]);
        assert_eq!(AddResult::decode(&value, Version::V0_1_0).unwrap().ips.len(), 1);
        assert_eq!(AddResult::decode(&value, Version::V0_4_0).unwrap().ips.len(), 2);
    }
    let value = json!({"cniVersion": "0.2.0", "ip6": {"ip": "fd00::2/64"}});
    assert_eq!(AddResult::decode(&value, Version::V1_1_0).unwrap().ips.len(), 1);
    let error = refused(&json!({"cniVersion": "0.9.9"}));
    assert_eq!(error.code, Code::INCOMPATIBLE_VERSION);
    assert!(error.msg.contains("0.9.9"), "{error}");
}

#[test]
fn r45_keys_match_without_regard_to_case() {
    let value = json!({
        "CNIVersion": "1.1.0",
        "Interfaces": [{"Name": "eth0", "MAC": "AA:BB:CC:DD:EE:FF", "Sandbox": "/n"}],
        "IPs": [{"Interface": 0, "Address": "10.0.0.2/24", "Gateway": "10.0.0.1"}],
        "Routes": [{"Dst": "0.0.0.0/0", "GW": "10.0.0.1"}],
        "DNS": {"Nameservers": ["10.0.0.53"]},
        "unknown": {"x": 1},
    });
    let result = AddResult::decode(&value, Version::V0_1_0).unwrap();
    assert_eq!(result.interfaces[0].mac.as_deref(), Some("aa:bb:cc:dd:ee:ff"));
    assert_eq!(result.ips[0].interface, Some(0));
    assert_eq!(result.routes[0].gw, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(result.dns.nameservers, ["10.0.0.53"]);
}

#[test]
fn null_lists_and_empty_texts_count_as_absent() {
    let value = json!({"interfaces": null, "ips": null, "routes": null, "dns": null});
    assert_eq!(AddResult::decode(&value, Version::V1_1_0).unwrap(), AddResult::default());
    let value = json!({
        "interfaces": [{"name": "eth0", "mac": "", "sandbox": "", "mtu": 0}],
        "ips": [{"address": "10.0.0.2/24", "gateway": "", "interface": null}],
        "dns": {"nameservers": null, "domain": ""},
    });
    let result = AddResult::decode(&value, Version::V1_1_0).unwrap();
    assert_eq!(result.interfaces, [Interface { name: "eth0".into(), ..Interface::default() }]);
    assert_eq!(result.ips[0].gateway, None);
    assert!(result.dns.is_empty());
}

#[test]
fn mapped_addresses_become_ipv4() {
    let value = json!({
        "ips": [{"address": "::ffff:10.0.0.2/120", "gateway": "::ffff:10.0.0.1"}],
        "routes": [{"dst": "::ffff:0.0.0.0/96", "gw": "::ffff:10.0.0.1"}],
    });
    let result = AddResult::decode(&value, Version::V1_1_0).unwrap();
    let value = result.encode(Version::V0_4_0).unwrap();
    assert_eq!(
        value["ips"],
        json!([{"version": "4", "address": "10.0.0.2/24", "gateway": "10.0.0.1"}])
    );
    assert_eq!(value["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}]));
}

#[test]
fn t93_an_index_needs_its_interface() {
    for (interfaces, index) in
        [(1, json!(1)), (1, json!(-1)), (0, json!(0)), (2, json!(1u64 << 40))]
    {
        let interfaces: Vec<_> =
            (0..interfaces).map(|n| json!({"name": format!("e{n}")})).collect();
        let value = json!({
            "interfaces": interfaces,
            "ips": [{"address": "10.0.0.1/8"}, {"address": "10.0.0.2/24", "interface": index}],
        });
        let error = refused(&value);
        assert_eq!(error.code, Code::DECODE);
        assert!(error.msg.contains("ips[1].interface"), "{error}");
        assert!(error.msg.contains(&index.to_string()), "{error}");
    }
}

#[test]
fn what_makes_no_sense_is_named_with_its_place() {
    for (value, place) in [
        (json!([]), "[]"),
        (json!("text"), "\"text\""),
        (json!({"cniVersion": 1}), "cniVersion: 1"),
        (json!({"ips": {}}), "ips: {}"),
        (json!({"ips": [null]}), "ips[0]: null"),
        (json!({"ips": [{}]}), "ips[0].address: is missing"),
        (json!({"ips": [{"address": "10.0.0.2"}]}), "ips[0].address: \"10.0.0.2\""),
        (json!({"ips": [{"address": 7}]}), "ips[0].address: 7"),
        (json!({"ips": [{"address": "10.0.0.2/8", "gateway": "x"}]}), "ips[0].gateway: \"x\""),
        (json!({"ips": [{"address": "10.0.0.2/8", "interface": 0.5}]}), "ips[0].interface: 0.5"),
        (json!({"interfaces": [{"mac": "x"}]}), "interfaces[0].name: is missing"),
        (json!({"interfaces": [{"name": "e", "mtu": -1}]}), "interfaces[0].mtu: -1"),
        (json!({"routes": [{"gw": "10.0.0.1"}]}), "routes[0].dst: is missing"),
        (json!({"routes": [{"dst": "10.0.0.0/8", "scope": 256}]}), "routes[0].scope: 256"),
        (json!({"routes": [{"dst": "10.0.0.0/8", "table": -1}]}), "routes[0].table: -1"),
        (json!({"dns": []}), "dns: []"),
        (json!({"dns": {"search": ["a", 1]}}), "dns.search[1]: 1"),
    ] {
        let error = refused(&value);
        assert_eq!(error.code, Code::DECODE, "{value}");
        assert!(error.msg.starts_with("result: ") && error.msg.contains(place), "{error}");
    }
    let value = json!({"ip4": {"ip": "fd00::2/64"}});
    let error = AddResult::decode(&value, Version::V0_2_0).unwrap_err();
    assert!(error.msg.contains("ip4.ip: fd00::2/64"), "{error}");
}

fn networks() -> impl Strategy<Value = IpNetwork> {
    let v4 = (any::<u32>(), 0..=32u8).prop_map(|(bits, length)| {
        IpNetwork::new(IpAddr::from(bits.to_be_bytes()), length).unwrap()
    });
    let v6 = (any::<u128>(), 0..=128u8).prop_map(|(bits, length)| {
        // Not one that is IPv4 in disguise.
        IpNetwork::new(IpAddr::from((bits | 1 << 127).to_be_bytes()), length).unwrap()
    });
    prop_oneof![v4, v6]
}

fn gateways() -> impl Strategy<Value = Option<IpAddr>> {
    option::of(networks().prop_map(|network| network.ip()))
}

fn words() -> impl Strategy<Value = String> {
    "[a-zé\"\\\\][a-z0-9./:\"\\\\ ]{0,12}"
}

prop_compose! {
    fn interfaces()(
        name in words(),
        mac in option::of("[0-9a-f]{2}(:[0-9a-f]{2}){5}"),
        mtu in option::of(1..=u32::MAX),
        sandbox in option::of(words()),
        socket_path in option::of(words()),
        pci_id in option::of(words()),
    ) -> Interface {
        Interface { name, mac, mtu, sandbox, socket_path, pci_id }
    }
}

prop_compose! {
    fn routes()(
        dst in networks(),
        gw in gateways(),
        mtu in option::of(1..=u32::MAX),
        advmss in option::of(1..=u32::MAX),
        priority in option::of(1..=u32::MAX),
        table in option::of(any::<u32>()),
        scope in option::of(any::<u8>()),
    ) -> Route {
        Route { dst, gw, mtu, advmss, priority, table, scope }
    }
}

prop_compose! {
    fn resolvers()(
        nameservers in vec(words(), 0..3),
        domain in option::of(words()),
        search in vec(words(), 0..3),
        options in vec(words(), 0..3),
    ) -> Dns {
        Dns { nameservers, domain, search, options }
    }
}

prop_compose! {
    fn results()(interfaces in vec(interfaces(), 0..4))(
        ips in vec((networks(), gateways(), option::of(0..4usize)), 0..4),
        routes in vec(routes(), 0..4),
        dns in resolvers(),
        interfaces in Just(interfaces),
    ) -> AddResult {
        let ip = |(address, gateway, index): (_, _, Option<usize>)| {
            Ip { address, gateway, interface: index.filter(|index| *index < interfaces.len()) }
        };
        let ips = ips.into_iter().map(ip).collect();
        AddResult { interfaces, ips, routes, dns }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_1_1_0_writes_it_reads(result in results()) {
        let value = result.encode(Version::V1_1_0).unwrap();
        let text: Value = serde_json::from_str(&value.to_string()).unwrap();
        prop_assert_eq!(AddResult::decode(&text, Version::V0_1_0).unwrap(), result);
    }

    /// An older version loses something once, and nothing more the second time.
    #[test]
    fn what_older_versions_keep_they_keep(result in results()) {
        for version in Version::ALL {
            let Ok(value) = result.encode(version) else {
                prop_assert!(version < Version::V0_3_0 && result.ips.is_empty());
                continue;
            };
            let decoded = AddResult::decode(&value, Version::NEWEST).unwrap();
            prop_assert_eq!(&decoded.dns, &result.dns);
            if version >= Version::V0_3_0 {
                prop_assert_eq!(&decoded.ips, &result.ips);
                prop_assert_eq!(&decoded.routes, &result.routes);
            }
            prop_assert_eq!(decoded.encode(version).unwrap(), value);
        }
    }

    #[test]
    fn no_text_makes_the_cidr_reader_panic(text in "[0-9a-f:./+ ]{0,24}") {
        if let Ok(network) = cidr::parse(&text) {
            prop_assert_eq!(cidr::parse(&network.to_string()).unwrap(), network);
        }
    }
}
