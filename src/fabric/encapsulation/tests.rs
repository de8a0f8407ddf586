// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::{
    conf::FabricKeys,
    fabric::{Peers, desired::Facts},
    family::Family,
    nft::Carrier,
    object::Objects,
};

/// What is known of one, for each family.
struct Known {
    mode: Mode,
    needs: Needs,
    carrier: Carrier,
    own_keys: &'static str,
    families: [OfFamily; 2],
}

struct OfFamily {
    overhead: u32,
    device: Option<&'static str>,
    form: &'static str,
    /// The next hop towards node b, and what else leads there.
    next_hop: &'static str,
    entries: &'static [&'static str],
}

const TABLE: [Known; 2] = [
    Known {
        mode: Mode::Ipip,
        needs: Needs { module: "ipip", instead: "vxlan" },
        carrier: Carrier::Ipip,
        own_keys: "",
        families: [
            OfFamily {
                overhead: 20,
                device: Some("tunl0"),
                form: "ipip",
                next_hop: "192.0.2.2",
                entries: &[],
            },
            OfFamily {
                overhead: 20,
                device: None,
                form: "ipip",
                next_hop: "2001:db8::2",
                entries: &[],
            },
        ],
    },
    Known {
        mode: Mode::Vxlan,
        needs: Needs { module: "vxlan", instead: "direct" },
        carrier: Carrier::Vxlan { port: 4789, vni: 4096 },
        own_keys: "vxlan vxlan.calico vni 4096 port 4789",
        families: [
            OfFamily {
                overhead: 50,
                device: Some("vxlan.calico"),
                form: "vxlan id 4096 dstport 4789 local 192.0.2.1 dev eth0 mac 66:00:00:00:00:0a",
                next_hop: "10.2.0.0",
                entries: &["10.2.0.0 is at 66:00:00:00:00:0b", "66:00:00:00:00:0b is at 192.0.2.2"],
            },
            OfFamily {
                overhead: 70,
                device: Some("vxlan-v6.calico"),
                form: "vxlan id 4096 dstport 4789 local 2001:db8::1 dev eth0 mac 66:00:00:00:00:0a",
                next_hop: "fd00:2::",
                entries: &[
                    "fd00:2:: is at 66:00:00:00:00:0b",
                    "66:00:00:00:00:0b is at 2001:db8::2",
                ],
            },
        ],
    },
];

fn peers() -> Peers {
    let text = r#"{"self": "a", "nodes": [
        {"name": "a", "addresses": ["192.0.2.1", "2001:db8::1"],
         "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"], "tunnelMAC": "66:00:00:00:00:0a"},
        {"name": "b", "addresses": ["192.0.2.2", "2001:db8::2"],
         "podCIDRs": ["10.2.0.0/24", "fd00:2::/64"], "tunnelMAC": "66:00:00:00:00:0b"}]}"#;
    Peers::parse(text.as_bytes(), &|_| false).unwrap()
}

fn facts() -> Facts {
    let own = ["192.0.2.1/24", "2001:db8::1/64"];
    let addresses = own.map(|own| (own.parse().unwrap(), "eth0".to_owned())).into();
    Facts { addresses, ..Facts::default() }
}

#[test]
fn each_is_as_the_kernel_and_the_peers_expect_it() {
    let (peers, facts, keys) = (peers(), facts(), FabricKeys::default());
    assert_eq!(TABLE.len(), ALL.len());
    for (known, one) in TABLE.iter().zip(ALL) {
        let name = one.name();
        assert_eq!(of(known.mode).map(Encapsulation::name), Some(name));
        assert_eq!((one.needs(), one.carrier(&keys)), (known.needs, known.carrier), "{name}");
        assert_eq!(one.own_keys(&keys), known.own_keys, "{name}");
        for (family, known) in Family::BOTH.into_iter().zip(&known.families) {
            assert_eq!(one.overhead(family), known.overhead, "{name}, {family}");
            let device = one.device(family, &keys).ok();
            assert_eq!(device.as_deref(), known.device, "{name}, {family}");
            let here = Here { me: &peers.me, facts: &facts, family, keys: &keys };
            assert_eq!(one.form(&here).unwrap().to_string(), known.form);
            let node = &peers.others[0];
            let peer = Peer { node, address: node.address(family).unwrap(), family };
            let mut objects = Objects::default();
            let next_hop = one.entries("dev", &peer, &mut objects).unwrap();
            assert_eq!(next_hop.to_string(), known.next_hop, "{name}, {family}");
            let neighbours = objects.neighbours.iter();
            let neighbours = neighbours.map(|one| format!("{} is at {}", one.address, one.mac));
            let forwarding = objects.forwarding.iter();
            let forwarding = forwarding.map(|one| format!("{} is at {}", one.mac, one.node));
            let entries: Vec<String> = neighbours.chain(forwarding).collect();
            assert_eq!(entries, known.entries, "{name}, {family}");
            assert_eq!(one.is_led_by_routes(), known.entries.is_empty(), "{name}");
        }
    }
}

#[test]
fn a_node_without_the_device_that_carries_has_none() {
    let (peers, keys) = (peers(), FabricKeys::default());
    let facts = Facts::default();
    let here = Here { me: &peers.me, facts: &facts, family: Family::V4, keys: &keys };
    let why = |mode| of(mode).unwrap().form(&here).map(drop);
    assert_eq!(why(Mode::Ipip), Ok(()));
    assert_eq!(why(Mode::Vxlan).unwrap_err(), "a: no device of this machine has 192.0.2.1");
}

#[test]
fn packets_that_travel_as_they_are_have_none() {
    assert!(of(Mode::Direct).is_none());
    assert_eq!(modes(|_| true), ["ipip", "vxlan"]);
    assert_eq!(modes(Encapsulation::is_led_by_routes), ["ipip"]);
}
