// SPDX-License-Identifier: Apache-2.0
use std::collections::HashMap;

use super::{bird, frr, mesh::Mesh};
use crate::{
    conf::Mode,
    fabric::{
        Peers, Settings, describe,
        desired::{Facts, Path},
    },
    pod::mtu::Uplink,
};

fn mesh(mode: Mode) -> Mesh {
    let text = r#"{"self": "a", "nodes": [
        {"name": "a", "addresses": ["192.0.2.1", "2001:db8::1"],
         "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]},
        {"name": "b", "addresses": ["192.0.2.2", "2001:db8::2"],
         "podCIDRs": ["10.2.0.0/24", "fd00:2::/64"]},
        {"name": "c\n", "addresses": ["198.51.100.3"], "podCIDRs": ["10.3.0.0/24"]}]}"#;
    let peers = Peers::parse(text.as_bytes(), &|_| false).unwrap();
    let path = |gateway: Option<&str>| Path {
        device: "eth0".into(),
        narrowest: Uplink { device: "eth0".into(), mtu: 1500 },
        gateway: gateway.map(|text| text.parse().unwrap()),
        onlink: false,
    };
    let facts = Facts {
        addresses: vec![
            ("192.0.2.1/24".parse().unwrap(), "eth0".into()),
            ("2001:db8::1/64".parse().unwrap(), "eth0".into()),
        ],
        paths: HashMap::from([
            ("192.0.2.2".parse().unwrap(), path(None)),
            ("2001:db8::2".parse().unwrap(), path(None)),
            ("198.51.100.3".parse().unwrap(), path(Some("192.0.2.254"))),
        ]),
        ..Facts::default()
    };
    let settings = Settings::of_mode(mode);
    let desired = describe(&settings, &peers, &facts);
    Mesh::new(64512, &settings, &peers, &facts, &desired, &[])
}

#[test]
fn bird_wraps_in_the_order_that_it_needs() {
    let text = bird::render(&mesh(Mode::Ipip));
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"));
    assert!(place("onlink = true") < place("ifname = \"tunl0\""));
    assert!(place("ifname = \"tunl0\"") < place("gw = bgp_next_hop"));
    assert!(text.contains("bgp_next_hop ~ [ 192.0.2.2, 198.51.100.3 ]"), "{text}");
    assert!(text.contains("krt_mtu = 1480"), "{text}");
    // IPv6 is not wrapped.
    assert_eq!(text.matches("tunl0").count(), 1, "{text}");
}

#[test]
fn what_is_learned_is_ours_and_a_blackhole() {
    for mode in [Mode::Direct, Mode::Ipip] {
        let text = bird::render(&mesh(mode));
        let filter = "if krt_source = 109 && dest = RTD_BLACKHOLE then accept;\n      reject;";
        assert_eq!(text.matches(filter).count(), 2, "{text}");
        assert!(!text.contains("import all") && !text.contains("export all"), "{text}");
    }
}

#[test]
fn nodes_behind_a_router_are_found_by_it() {
    let direct = mesh(Mode::Direct);
    let text = bird::render(&direct);
    assert!(text.contains("route 198.51.100.3/32 via 192.0.2.254;"), "{text}");
    assert!(frr::render(&direct).contains("\nip nht resolve-via-default\n"));
    assert!(direct.notes[0].contains("must know its pod CIDRs"), "{:?}", direct.notes);
}

#[test]
fn frr_has_an_alias_for_each_node_behind_the_tunnel() {
    let text = frr::render(&mesh(Mode::Ipip));
    assert!(text.contains("ip route 100.64.0.2/32 198.51.100.3 tunl0 onlink"), "{text}");
    let map = " match ip next-hop address 198.51.100.3\n set ip next-hop 100.64.0.2\n";
    assert!(text.contains(map), "{text}");
    assert!(!text.contains("redistribute"), "{text}");
}

#[test]
fn a_name_cannot_end_its_comment() {
    assert!(bird::render(&mesh(Mode::Direct)).contains(r#"description "c\n";"#));
    assert!(frr::render(&mesh(Mode::Direct)).contains("! c\\n\n neighbor"));
}
