// SPDX-License-Identifier: Apache-2.0
use std::collections::HashMap;

use super::*;
use crate::{conf::Mode, object::Address, pod::mtu::Uplink};

fn peers() -> Peers {
    let text = r#"{"self": "a", "nodes": [
        {"name": "a", "addresses": ["192.0.2.1", "2001:db8::1"],
         "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"]},
        {"name": "b", "addresses": ["192.0.2.2", "2001:db8::2"],
         "podCIDRs": ["10.2.0.0/24", "fd00:2::/64"]},
        {"name": "c", "addresses": ["198.51.100.3"], "podCIDRs": ["10.3.0.0/24"]}]}"#;
    Peers::parse(text.as_bytes(), &|_| false).unwrap()
}

fn facts() -> Facts {
    let path = |gateway: Option<&str>| Path {
        device: "eth0".into(),
        narrowest: Uplink { device: "eth0".into(), mtu: 1500 },
        gateway: gateway.map(|text| text.parse().unwrap()),
        onlink: false,
    };
    Facts {
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
    }
}

fn lines(settings: &Settings) -> Vec<String> {
    let desired = describe(settings, &peers(), &facts());
    desired.objects.routes.iter().map(ToString::to_string).collect()
}

#[test]
fn direct_routes_go_to_the_node_or_to_its_router() {
    let desired = describe(&Settings::of_mode(Mode::Direct), &peers(), &facts());
    assert_eq!(
        lines(&Settings::of_mode(Mode::Direct)),
        [
            "blackhole 10.1.0.0/24 metric 4294967295",
            "10.2.0.0/24 via 192.0.2.2 dev eth0 onlink",
            "10.3.0.0/24 via 192.0.2.254 dev eth0",
            "blackhole fd00:1::/64 metric 4294967295",
            "fd00:2::/64 via 2001:db8::2 dev eth0 onlink",
        ]
    );
    assert_eq!(desired.objects.tunnels, []);
    assert!(desired.notes[0].contains("192.0.2.254"), "{:?}", desired.notes);
}

#[test]
fn ipip_routes_are_calicos() {
    let settings = Settings::of_mode(Mode::Ipip);
    assert_eq!(
        lines(&settings)[..3],
        [
            "blackhole 10.1.0.0/24 metric 4294967295",
            "10.2.0.0/24 via 192.0.2.2 dev tunl0 onlink mtu 1480",
            "10.3.0.0/24 via 198.51.100.3 dev tunl0 onlink mtu 1480",
        ]
    );
    let desired = describe(&settings, &peers(), &facts());
    assert_eq!(desired.objects.tunnels.len(), 1);
    let address = "10.1.0.0/32".parse().unwrap();
    assert_eq!(desired.objects.addresses, [Address { device: "tunl0".into(), address }]);
}

#[test]
fn cross_subnet_wraps_only_what_leaves_the_subnet() {
    for cross_subnet in [CrossSubnet::Mask, CrossSubnet::Route] {
        let mut settings = Settings::of_mode(Mode::Ipip);
        settings.keys.cross_subnet = cross_subnet;
        assert_eq!(
            lines(&settings)[1..3],
            [
                "10.2.0.0/24 via 192.0.2.2 dev eth0 onlink",
                "10.3.0.0/24 via 198.51.100.3 dev tunl0 onlink mtu 1480",
            ]
        );
    }
}

#[test]
fn vxlan_has_a_neighbour_and_a_forwarding_entry_for_each_peer() {
    let desired = describe(&Settings::of_mode(Mode::Vxlan), &peers(), &facts());
    let names: Vec<_> = desired.objects.tunnels.iter().map(|tunnel| tunnel.name.as_str()).collect();
    assert_eq!(names, ["vxlan.calico", "vxlan-v6.calico"]);
    assert_eq!((desired.objects.tunnels[0].mtu, desired.objects.tunnels[1].mtu), (1450, 1430));
    assert_eq!((desired.objects.neighbours.len(), desired.objects.forwarding.len()), (3, 3));
    let line = desired.objects.routes[1].to_string();
    assert_eq!(line, "10.2.0.0/24 via 10.2.0.0 dev vxlan.calico onlink mtu 1450");
}

/// As where Calico's pool of IPv6 has no encapsulation, and that of IPv4 has one.
#[test]
fn a_family_may_travel_plainly_beside_one_that_is_carried() {
    let mut settings = Settings::of_mode(Mode::Vxlan);
    settings.keys.plain = vec![Family::V6];
    settings.overhead = Some(60);
    let desired = describe(&settings, &peers(), &facts());
    assert_eq!(
        lines(&settings)[1..],
        [
            "10.2.0.0/24 via 10.2.0.0 dev vxlan.calico onlink mtu 1440",
            "10.3.0.0/24 via 10.3.0.0 dev vxlan.calico onlink mtu 1440",
            "blackhole fd00:1::/64 metric 4294967295",
            "fd00:2::/64 via 2001:db8::2 dev eth0 onlink",
        ]
    );
    let names: Vec<_> = desired.objects.tunnels.iter().map(|tunnel| &*tunnel.name).collect();
    assert_eq!(names, ["vxlan.calico"]);
    assert_eq!((desired.objects.neighbours.len(), desired.objects.forwarding.len()), (2, 2));
    assert_eq!((desired.notes, desired.wanting), (Vec::new(), Vec::new()));
    let overhead = |family| (settings.overhead(family), settings.overhead_of_pods(family));
    assert_eq!((overhead(Family::V4), overhead(Family::V6)), ((60, 60), (0, 60)));
    // Until all peers have heard of it, their packets come by the tunnel.
    let file = serde_json::json!({"accepts": {"mode": "ipip", "plain": ["IPv4"]}});
    settings.keys.file = crate::conf::FabricPart::of_file(file.as_object().unwrap()).0;
    let desired = describe(&settings, &peers(), &facts());
    assert_eq!(desired.objects.tunnels.len(), 1, "none that nobody sends by");
}

#[test]
fn a_peer_without_a_route_is_told_and_left_out() {
    let mut facts = facts();
    facts.paths.clear();
    let desired = describe(&Settings::of_mode(Mode::Direct), &peers(), &facts);
    assert!(desired.objects.routes.iter().all(Route::is_blackhole));
    assert!(desired.wanting.iter().any(|note| note.contains("no route to 192.0.2.2")));
    let cut_off = desired.remote.iter().filter(|cidr| desired.cut_off.contains(cidr));
    assert_eq!(cut_off.count(), 3, "the pods of b in both families, and those of c");
}

/// One that no route leads to has an address where the kernel asks for one.
#[test]
fn a_mode_that_is_accepted_besides_has_a_device_with_an_address() {
    let file = serde_json::json!({"accepts": {"mode": "vxlan"}});
    let part = crate::conf::FabricPart::of_file(file.as_object().unwrap()).0;
    for (mode, expected) in [
        (Mode::Direct, vec!["vxlan.calico 10.1.0.0/32"]),
        (Mode::Ipip, vec!["tunl0 10.1.0.0/32", "vxlan.calico 10.1.0.0/32"]),
    ] {
        let mut settings = Settings::of_mode(mode);
        settings.keys.file = part.clone();
        let mut of_pod = facts();
        let addresses = |facts: &Facts| -> Vec<String> {
            let held = describe(&settings, &peers(), facts).objects.addresses;
            held.iter().map(|one| format!("{} {}", one.device, one.address)).collect()
        };
        assert_eq!(addresses(&of_pod), expected);
        assert!(lines(&settings).iter().all(|line| !line.contains("vxlan")));
        of_pod.taken.insert("10.1.0.0".parse().unwrap(), "a pod's".to_owned());
        assert_eq!(addresses(&of_pod), [""; 0], "a pod has it");
    }
}
