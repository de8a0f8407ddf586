// SPDX-License-Identifier: Apache-2.0
//! What Calico's own agent, Felix, makes of the same objects: the cases of its tests, as far
//! as they are about routes.

use serde_json::{Value, json};

mod noted;

use super::*;
use crate::agent::{
    calico::{blocks::Blocks, nodes::CalicoNodes, pools::Pools},
    watched::Kind,
};

/// A cluster. This node is `here`, 192.168.0.1; others are told by the end of their address.
struct Cluster {
    nodes: Vec<Value>,
    pools: Vec<Value>,
    blocks: Vec<Value>,
    host_local: bool,
    /// Whether the plugin is of a version that knows of families that travel plainly.
    plain: bool,
}

fn node(name: &str, end: u8, notes: Value) -> Value {
    let notes = notes.as_object().unwrap().iter();
    let notes: serde_json::Map<String, Value> =
        notes.map(|(key, value)| (format!("projectcalico.org/{key}"), value.clone())).collect();
    json!({"metadata": {"name": name, "uid": name, "annotations": notes,
            "creationTimestamp": format!("2026-11-27T00:00:{end:02}Z")},
        "status": {"addresses": [
            {"type": "InternalIP", "address": format!("192.168.0.{end}")}]}})
}

/// One that Calico has noted all of, with pods or without.
fn noted(name: &str, end: u8) -> Value {
    node(
        name,
        end,
        json!({"IPv4Address": format!("192.168.0.{end}/24"),
            "IPv4VXLANTunnelAddr": format!("10.0.0.{end}"),
            "IPv4IPIPTunnelAddr": format!("10.0.0.{end}")}),
    )
}

fn pool(cidr: &str, spec: Value) -> Value {
    let mut pool = json!({"metadata": {"name": cidr, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"cidr": cidr, "natOutgoing": true}});
    pool["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    pool
}

fn vxlan(mode: &str) -> Value {
    pool("10.0.0.0/16", json!({"vxlanMode": mode, "ipipMode": "Never"}))
}

/// A block of eight addresses. Of each pair the pod of that place is on that node, or ends
/// its tunnel there.
fn block(cidr: &str, node: &str, pods: &[(usize, &str)]) -> Value {
    let mut allocations = vec![Value::Null; 8];
    let mut attributes = Vec::new();
    for (number, (place, node)) in pods.iter().enumerate() {
        allocations[*place] = json!(number);
        let secondary = match node.strip_prefix("tunnel of ") {
            Some(node) => json!({"node": node, "type": "vxlanTunnelAddress"}),
            None => json!({"node": node, "namespace": "default", "pod": "a"}),
        };
        attributes.push(json!({"handle_id": "h", "secondary": secondary}));
    }
    let mut block = json!({"metadata": {"name": cidr}, "spec": {"cidr": cidr, "deleted": false,
        "allocations": allocations, "attributes": attributes, "unallocated": []}});
    if !node.is_empty() {
        block["spec"]["affinity"] = json!(format!("host:{node}"));
    }
    block
}

fn cluster(pools: Vec<Value>, blocks: Vec<Value>) -> Cluster {
    let nodes = vec![noted("here", 1), noted("one", 2), noted("two", 3)];
    Cluster { nodes, pools, blocks, host_local: false, plain: true }
}

impl Cluster {
    fn with_nodes(self, nodes: Vec<Value>) -> Self {
        Self { nodes, ..self }
    }

    fn settled(&self) -> Result<(Vec<Arc<Record>>, Common), String> {
        fn all<K: Kind>(values: &[Value]) -> Vec<Arc<K::Value>> {
            let object = |value: &Value| serde_json::from_value(value.clone()).unwrap();
            values.iter().map(|value| Arc::new(K::value(object(value)))).collect()
        }
        let blocks = all::<Blocks>(&self.blocks);
        settle(&Input {
            own: "here",
            nodes: &all::<CalicoNodes>(&self.nodes),
            pools: &all::<Pools>(&self.pools),
            blocks: (!self.host_local).then_some(blocks.as_slice()),
            group: "crd.projectcalico.org/v1",
            plain: self.plain,
            prefix: &|_| Some(24),
        })
    }

    fn common(&self) -> Common {
        self.settled().unwrap().1
    }

    /// The nodes with their pods, their address and the ends of their tunnels.
    fn served(&self) -> Vec<String> {
        let line = |record: &Arc<Record>| {
            let mut words = vec![record.name.to_string()];
            words.extend(record.pod_cidrs.iter().map(ToString::to_string));
            if let Some(tunnel) = &record.tunnel {
                words.push("by".to_owned());
                words.extend(tunnel.addresses.iter().map(ToString::to_string));
                words.extend(tunnel.mac.iter().map(ToString::to_string));
            }
            words.join(" ")
        };
        self.settled().unwrap().0.iter().map(line).collect()
    }

    #[track_caller]
    fn serves(&self, expected: &[&str]) {
        assert_eq!(self.served(), expected);
    }
}

#[test]
fn a_block_is_its_nodes() {
    let cluster = cluster(vec![vxlan("Always")], vec![block("10.0.1.0/29", "one", &[])]);
    cluster.serves(&["here by 10.0.0.1", "one 10.0.1.0/29 by 10.0.0.2", "two by 10.0.0.3"]);
    let common = cluster.common();
    assert_eq!((common.mode, common.cross_subnet, common.masquerade), (Mode::Vxlan, false, true));
    assert_eq!((common.findings, common.trouble), (Vec::new(), None));
}

#[test]
fn a_block_that_goes_takes_its_routes_with_it() {
    let mut deleted = block("10.0.1.0/29", "one", &[]);
    deleted["spec"]["deleted"] = json!(true);
    for blocks in [vec![], vec![deleted], vec![block("10.0.1.0/29", "", &[])]] {
        let cluster = cluster(vec![vxlan("Always")], blocks);
        cluster.serves(&["here by 10.0.0.1", "one by 10.0.0.2", "two by 10.0.0.3"]);
    }
}

#[test]
fn a_tunnel_may_have_a_mac_address_of_its_own() {
    let notes = json!({"IPv4Address": "192.168.0.2/24", "IPv4VXLANTunnelAddr": "10.0.0.9",
        "VXLANTunnelMACAddr": "02:00:00:00:00:01"});
    cluster(vec![vxlan("Always")], vec![block("10.0.1.0/29", "one", &[])])
        .with_nodes(vec![noted("here", 1), node("one", 2, notes)])
        .serves(&["here by 10.0.0.1", "one 10.0.1.0/29 by 10.0.0.9 02:00:00:00:00:01"]);
}

/// Felix has the block's route and one of the address; here the block is divided, and each
/// address is with the same node.
#[test]
fn a_borrowed_address_is_with_who_has_it() {
    let pods = [(1, "one"), (2, "two")];
    for (owner, pods, expected) in [
        (
            "one",
            pods,
            [
                "here by 10.0.0.1",
                "one 10.0.1.0/31 10.0.1.3/32 10.0.1.4/30 by 10.0.0.2",
                "two 10.0.1.2/32 by 10.0.0.3",
            ],
        ),
        (
            "two",
            [(1, "two"), (2, "one")],
            [
                "here by 10.0.0.1",
                "one 10.0.1.2/32 by 10.0.0.2",
                "two 10.0.1.0/31 10.0.1.3/32 10.0.1.4/30 by 10.0.0.3",
            ],
        ),
        (
            "here",
            [(1, "here"), (2, "one")],
            [
                "here 10.0.1.0/31 10.0.1.3/32 10.0.1.4/30 by 10.0.0.1",
                "one 10.0.1.2/32 by 10.0.0.2",
                "two by 10.0.0.3",
            ],
        ),
        // What is left of a block that was given back.
        (
            "",
            [(1, "one"), (2, "two")],
            ["here by 10.0.0.1", "one 10.0.1.1/32 by 10.0.0.2", "two 10.0.1.2/32 by 10.0.0.3"],
        ),
    ] {
        cluster(vec![vxlan("Always")], vec![block("10.0.1.0/29", owner, &pods)]).serves(&expected);
    }
    let gone = [(1, "one"), (2, "gone")];
    cluster(vec![vxlan("Always")], vec![block("10.0.1.0/29", "one", &gone)])
        .with_nodes(vec![noted("here", 1), noted("one", 2)])
        .serves(&["here by 10.0.0.1", "one 10.0.1.0/29 by 10.0.0.2"]);
}

#[test]
fn without_both_addresses_there_is_no_tunnel_to_a_node() {
    let blocks = || vec![block("10.0.1.0/29", "one", &[(2, "two")])];
    for notes in [
        json!({"IPv4VXLANTunnelAddr": "10.0.0.2"}),
        json!({"IPv4Address": "192.168.0.2/24"}),
        json!({}),
    ] {
        let nodes = vec![noted("here", 1), node("one", 2, notes.clone()), noted("two", 3)];
        let cluster = cluster(vec![vxlan("Always")], blocks()).with_nodes(nodes);
        let served = cluster.served();
        assert!(!served[1].contains("10.0.1."), "{notes}: {served:?}");
        assert_eq!(served[2], "two 10.0.1.2/32 by 10.0.0.3", "{notes}");
        let findings = cluster.common().findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!((findings[0].id, findings[0].object.as_str()), ("peer-excluded", "Node one"));
    }
}

#[test]
fn in_the_same_subnet_no_tunnel_is_needed_where_pools_say_so() {
    let blocks = || vec![block("10.0.1.0/29", "one", &[])];
    let near = json!({"IPv4Address": "192.168.0.2/24"});
    let nodes = || vec![noted("here", 1), node("one", 2, near.clone())];
    let cross = cluster(vec![vxlan("CrossSubnet")], blocks()).with_nodes(nodes());
    assert!(cross.common().cross_subnet);
    cross.serves(&["here by 10.0.0.1", "one 10.0.1.0/29"]);
    // By what Calico noted, nobody is in this node's subnet.
    let alone = json!({"IPv4Address": "192.168.0.1/32", "IPv4VXLANTunnelAddr": "10.0.0.1"});
    let nodes = vec![node("here", 1, alone), node("one", 2, near.clone())];
    let cross = cluster(vec![vxlan("CrossSubnet")], blocks()).with_nodes(nodes);
    assert!(!cross.common().cross_subnet);
    cross.serves(&["here by 10.0.0.1", "one"]);
    let far = json!({"IPv4Address": "192.168.9.2/24"});
    let nodes = vec![noted("here", 1), node("one", 2, far)];
    cluster(vec![vxlan("CrossSubnet")], blocks())
        .with_nodes(nodes)
        .serves(&["here by 10.0.0.1", "one"]);
}

#[test]
fn pools_say_how_packets_travel() {
    let blocks = || vec![block("10.0.1.0/29", "one", &[])];
    for (spec, mode, cross) in [
        (json!({"vxlanMode": "Always"}), Mode::Vxlan, false),
        (json!({"vxlanMode": "CrossSubnet", "ipipMode": "Never"}), Mode::Vxlan, true),
        (json!({"ipipMode": "Always", "vxlanMode": "Never"}), Mode::Ipip, false),
        (json!({"ipipMode": "CrossSubnet"}), Mode::Ipip, true),
        (json!({"ipipMode": "Never", "vxlanMode": ""}), Mode::Direct, false),
        (json!({"natOutgoing": null}), Mode::Direct, false),
    ] {
        let common = cluster(vec![pool("10.0.0.0/16", spec.clone())], blocks()).common();
        assert_eq!((common.mode, common.cross_subnet), (mode, cross), "{spec}");
        assert_eq!(common.masquerade, !spec.to_string().contains("natOutgoing"), "{spec}");
    }
    // Where no tunnel needs an address, that of the Node's status serves.
    let bare = || vec![node("here", 1, json!({})), node("one", 2, json!({}))];
    let direct = cluster(vec![pool("10.0.0.0/16", json!({}))], blocks()).with_nodes(bare());
    direct.serves(&["here", "one 10.0.1.0/29"]);
    assert_eq!(direct.common().trouble, None);
    let ipip = pool("10.0.0.0/16", json!({"ipipMode": "Always"}));
    cluster(vec![ipip.clone()], blocks())
        .with_nodes(vec![noted("here", 1), node("one", 2, json!({}))])
        .serves(&["here by 10.0.0.1", "one 10.0.1.0/29"]);
}

#[test]
fn a_block_outside_of_all_pools_has_no_route() {
    let blocks = || vec![block("10.9.1.0/29", "one", &[])];
    cluster(vec![vxlan("Always")], blocks()).serves(&[
        "here by 10.0.0.1",
        "one by 10.0.0.2",
        "two by 10.0.0.3",
    ]);
    let balancer = json!({"vxlanMode": "Always", "allowedUses": ["LoadBalancer"]});
    let disabled = json!({"vxlanMode": "Always", "disabled": true});
    cluster(vec![vxlan("Always"), pool("10.9.0.0/16", balancer.clone())], blocks()).serves(&[
        "here by 10.0.0.1",
        "one by 10.0.0.2",
        "two by 10.0.0.3",
    ]);
    cluster(vec![vxlan("Always"), pool("10.9.0.0/16", disabled)], blocks()).serves(&[
        "here by 10.0.0.1",
        "one 10.9.1.0/29 by 10.0.0.2",
        "two by 10.0.0.3",
    ]);
    for pools in [vec![], vec![pool("10.9.0.0/16", balancer)]] {
        let said = cluster(pools, blocks()).settled().unwrap_err();
        assert!(said.contains("kubectl get ippools"), "{said}");
    }
}

#[test]
fn a_pool_and_a_block_may_be_one_address() {
    let one = pool("10.0.0.9/32", json!({"vxlanMode": "Always"}));
    // And that is no other tunnel's.
    cluster(vec![one], vec![block("10.0.0.9/32", "one", &[])])
        .with_nodes(vec![noted("one", 2), noted("two", 3)])
        .serves(&["one 10.0.0.9/32", "two"]);
}

#[test]
fn the_first_pool_with_pods_says_the_mode_for_all() {
    let older = pool("10.0.0.0/17", json!({"ipipMode": "Always"}));
    let mut newer = pool("10.0.128.0/17", json!({"vxlanMode": "Always", "natOutgoing": false}));
    newer["metadata"]["creationTimestamp"] = json!("2026-06-01T00:00:00Z");
    let old = || block("10.0.1.0/29", "one", &[]);
    let new = || block("10.0.128.0/29", "two", &[]);
    let pools = || vec![newer.clone(), older.clone()];
    let both = cluster(pools(), vec![old(), new()]);
    both.serves(&["here by 10.0.0.1", "one 10.0.1.0/29 by 10.0.0.2", "two by 10.0.0.3"]);
    let common = both.common();
    assert_eq!(common.mode, Mode::Ipip);
    assert_eq!(common.findings.len(), 1, "{:?}", common.findings);
    assert_eq!(common.findings[0].object, "IPPool 10.0.128.0/17");
    let moved = cluster(pools(), vec![new()]).common();
    assert_eq!((moved.mode, moved.masquerade), (Mode::Vxlan, false));
    // Tunnels still end at addresses of the other pool.
    assert!(moved.findings.iter().all(|one| one.id == "address-ignored"), "{:?}", moved.findings);
    // Wrapped without need arrives.
    let near = pool("10.1.0.0/16", json!({"vxlanMode": "CrossSubnet", "natOutgoing": false}));
    let blocks = vec![old(), block("10.1.0.0/29", "two", &[])];
    let common = cluster(vec![vxlan("Always"), near], blocks).common();
    assert_eq!((common.cross_subnet, common.masquerade), (false, true));
    assert!(common.findings[0].evidence.contains("natOutgoing"), "{:?}", common.findings);
}

#[test]
fn both_families_have_their_own_blocks_and_tunnels() {
    let notes = |end: u8| {
        json!({"IPv4Address": format!("192.168.0.{end}/24"),
            "IPv6Address": format!("2001:db8::{end}/96"),
            "IPv4VXLANTunnelAddr": format!("10.0.0.{end}"),
            "IPv6VXLANTunnelAddr": format!("fd00::{end}")})
    };
    let v6 = |spec| pool("fd00::/64", spec);
    let blocks = || vec![block("10.0.1.0/29", "one", &[]), block("fd00::1:0/125", "one", &[])];
    let nodes = || vec![node("here", 1, notes(1)), node("one", 2, notes(2))];
    cluster(vec![vxlan("Always"), v6(json!({"vxlanMode": "Always"}))], blocks())
        .with_nodes(nodes())
        .serves(&["here by 10.0.0.1 fd00::1", "one 10.0.1.0/29 fd00::1:0/125 by 10.0.0.2 fd00::2"]);
    // A node that has lost its address of a family.
    let mut half = notes(2);
    half.as_object_mut().unwrap().remove("IPv6Address");
    let nodes_half = vec![node("here", 1, notes(1)), node("one", 2, half)];
    cluster(vec![vxlan("Always"), v6(json!({"vxlanMode": "Always"}))], blocks())
        .with_nodes(nodes_half)
        .serves(&["here by 10.0.0.1 fd00::1", "one 10.0.1.0/29 by 10.0.0.2 fd00::2"]);
    // IP in IP is for IPv4, and IPv6 beside it travels plainly.
    let ipip = pool("10.0.0.0/16", json!({"ipipMode": "Always"}));
    let beside = cluster(vec![ipip, v6(json!({}))], blocks()).with_nodes(nodes());
    assert_eq!(beside.served()[1], "one 10.0.1.0/29 fd00::1:0/125");
    assert_eq!(beside.common().findings, Vec::new());
    assert_eq!(beside.common().plain, []);
    // So it may beside VXLAN, where the plugin knows of that.
    let beside = cluster(vec![vxlan("Always"), v6(json!({}))], blocks()).with_nodes(nodes());
    assert_eq!(beside.served()[1], "one 10.0.1.0/29 fd00::1:0/125 by 10.0.0.2");
    let common = beside.common();
    assert_eq!((common.mode, &*common.plain), (Mode::Vxlan, &[Family::V6][..]));
    assert_eq!((common.findings, common.families), (Vec::new(), Family::BOTH.to_vec()));
    let before = Cluster { plain: false, ..beside };
    assert_eq!(before.served()[1], "one 10.0.1.0/29 by 10.0.0.2");
    let common = before.common();
    assert_eq!((common.plain, common.families), (Vec::new(), vec![Family::V4]));
    assert_eq!(common.findings[0].object, "IPPool fd00::/64");
    assert!(common.findings[0].fix.contains("install manx"), "{:?}", common.findings);
    // And the other way round.
    let v4 = pool("10.0.0.0/16", json!({}));
    let beside = cluster(vec![v4, v6(json!({"vxlanMode": "CrossSubnet"}))], blocks());
    let beside = beside.with_nodes(nodes());
    assert_eq!(beside.served()[1], "one 10.0.1.0/29 fd00::1:0/125 by fd00::2");
    let common = beside.common();
    assert_eq!((common.mode, common.plain), (Mode::Vxlan, vec![Family::V4]));
    let before = Cluster { plain: false, ..beside };
    assert_eq!(
        (before.common().mode, before.served()[1].as_str()),
        (Mode::Direct, "one 10.0.1.0/29")
    );
    // A node without a tunnel of a family that needs none.
    let bare = json!({"IPv4Address": "192.168.0.2/24", "IPv6Address": "2001:db8::2/96"});
    let nodes_bare = vec![node("here", 1, notes(1)), node("one", 2, bare)];
    cluster(vec![vxlan("Always"), v6(json!({}))], blocks())
        .with_nodes(nodes_bare)
        .serves(&["here by 10.0.0.1", "one fd00::1:0/125"]);
}

/// As Calico's users go to another mode: a new pool, and the one of before disabled.
#[test]
fn pods_get_addresses_of_no_family_while_a_pool_is_being_replaced() {
    let before =
        |disabled: bool| pool("10.0.0.0/16", json!({"ipipMode": "Always", "disabled": disabled}));
    let (new, v6) =
        (pool("10.1.0.0/16", json!({"vxlanMode": "Always"})), pool("fd00::/64", json!({})));
    let families = |pools: &[&Value]| {
        let blocks = vec![block("10.0.1.0/29", "one", &[])];
        cluster(pools.iter().map(|pool| (*pool).clone()).collect(), blocks).common().families
    };
    assert_eq!(families(&[&before(false), &v6]), Family::BOTH);
    assert_eq!(families(&[&before(false), &new, &v6]), Family::BOTH);
    assert_eq!(families(&[&before(true), &new, &v6]), []);
    // With nothing in its place IPv4 is turned off.
    assert_eq!(families(&[&before(true), &v6]), [Family::V6]);
}

#[test]
fn where_calico_runs_host_local_pods_are_in_the_pod_cidrs() {
    let mut one = noted("one", 2);
    one["spec"] = json!({"podCIDRs": ["10.0.2.0/24"]});
    let mut here = node("here", 1, json!({}));
    here["spec"] = json!({"podCIDRs": ["10.0.1.0/24"]});
    let cluster = cluster(vec![vxlan("Always")], vec![block("10.0.7.0/29", "one", &[])]);
    let cluster = Cluster { host_local: true, nodes: vec![here, one], ..cluster };
    cluster.serves(&["here 10.0.1.0/24 by 10.0.1.0", "one 10.0.2.0/24 by 10.0.0.2"]);
    let fix = cluster.common().trouble.unwrap().fix;
    let expected = "kubectl annotate node here projectcalico.org/IPv4Address=192.168.0.1/24 \
                    projectcalico.org/IPv4VXLANTunnelAddr=10.0.1.0";
    assert_eq!(fix, expected);
}

/// What is proposed is nobody's, and the same as long as it is.
#[test]
fn what_this_node_lacks_is_told_with_the_commands_that_give_it() {
    let nodes = || vec![node("here", 1, json!({})), noted("one", 2)];
    let blocks = |cidrs: &[&str]| cidrs.iter().map(|cidr| block(cidr, "one", &[])).collect();
    let with = |cidrs: &[&str]| {
        let pool = pool("10.0.0.0/28", json!({"vxlanMode": "Always"}));
        cluster(vec![pool], blocks(cidrs)).with_nodes(nodes())
    };
    let proposed = |cidrs: &[&str]| with(cidrs).served()[0].replace("here by ", "");
    let fix = |cidrs: &[&str]| with(cidrs).common().trouble.unwrap().fix;
    for taken in ["10.0.0.0/29", "10.0.0.8/29"] {
        let address = proposed(&[taken]);
        let inside: IpAddr = address.parse().unwrap();
        assert!(!taken.parse::<IpNetwork>().unwrap().contains(inside), "{address} in {taken}");
        assert!(!["10.0.0.0", "10.0.0.2", "10.0.0.15"].contains(&address.as_str()), "{address}");
        assert_eq!(proposed(&[taken]), address);
        let said = fix(&[taken]);
        for part in [
            format!("\"reservedCIDRs\":[\"{address}/32\"]"),
            "\"apiVersion\":\"crd.projectcalico.org/v1\"".to_owned(),
            "kubectl annotate node here projectcalico.org/IPv4Address=192.168.0.1/24".to_owned(),
            format!("projectcalico.org/IPv4VXLANTunnelAddr={address}"),
        ] {
            assert!(said.contains(&part), "{part}: {said}");
        }
    }
    assert!(fix(&["10.0.0.0/29", "10.0.0.8/29"]).contains("IPv4VXLANTunnelAddr=ADDRESS"));
    assert_eq!(with(&["10.0.0.0/29"]).with_nodes(vec![noted("here", 1)]).common().trouble, None);
}
