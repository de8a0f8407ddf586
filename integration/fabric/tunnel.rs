// SPDX-License-Identifier: Apache-2.0
//! The tunnel device: ours is made anew where it cannot be changed, another's is
//! left alone.

use serde_json::json;

use crate::cluster::{Cluster, Families, addresses, batch};
use crate::monitor::Monitor;

#[test]
fn a_device_of_another_vni_is_made_anew() {
    let cluster = Cluster::new(2, Families::Dual, &json!({"mode": "vxlan"}));
    cluster.apply();
    let vxlan = json!({"vni": 77, "port": 4800});
    let pods: Vec<_> = cluster
        .nodes
        .iter()
        .map(|node| {
            let other = node.with("vxlan", vxlan.clone());
            let plan = other.plan();
            assert!(plan.stdout.contains("~ link vxlan.calico: vxlan id 4096"), "{plan:?}");
            other.apply().ok();
            other.assert_settled();
            other.attach("a")
        })
        .collect();
    let state = cluster.nodes[0].state().join("\n");
    assert!(state.contains("\"id\":77") && state.contains("\"port\":4800"), "{state}");
    assert!(!state.contains("4096"), "{state}");
    for address in addresses(&pods[1]) {
        assert!(pods[0].netns.pings(&address), "{address}");
    }
}

/// A device that only has another MTU, or another address, is not torn down.
#[test]
fn what_can_be_changed_is_changed() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    node.apply().ok();
    let index =
        |node: &crate::cluster::Node| node.host.link("vxlan.calico").unwrap()["ifindex"].clone();
    let before = (index(node), node.state());
    batch(
        &node.host,
        "link set vxlan.calico mtu 1200
         address add 10.9.9.9/32 dev vxlan.calico
         neighbour add 10.9.9.8 lladdr 02:00:00:00:00:01 dev vxlan.calico nud permanent
         route add 10.9.9.0/24 via 10.9.9.8 dev vxlan.calico onlink proto 109",
    );
    let args = ["fdb", "append", "02:00:00:00:00:01", "dev", "vxlan.calico", "dst", "192.0.2.9"];
    node.host.command("bridge", &args).ok();
    node.apply().ok();
    node.assert_settled();
    assert_eq!((index(node), node.state()), before);
}

/// What somebody else has under the name of our device is not ours to remove.
#[test]
fn a_foreign_device_is_told_and_left_alone() {
    for foreign in [
        "link add vxlan.calico type bridge",
        "link add vxlan.calico type vxlan id 4096 dstport 4790 local 192.0.2.11 dev eth0 nolearning",
    ] {
        let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
        let node = &cluster.nodes[0];
        batch(&node.host, foreign);
        let link = node.host.link("vxlan.calico").unwrap();
        let plan = node.plan();
        assert!(plan.status == 3 && plan.stdout.contains("! link vxlan.calico"), "{plan:?}");
        let apply = node.apply();
        assert_eq!(apply.status, 1, "{apply:?}");
        assert_eq!(
            node.host.link("vxlan.calico").unwrap()["ifindex"],
            link["ifindex"],
            "{foreign}"
        );
        node.manx(&["apply", "--undo"]);
        assert_eq!(
            node.host.link("vxlan.calico").unwrap()["ifindex"],
            link["ifindex"],
            "{foreign}"
        );
        batch(&node.host, "link del vxlan.calico");
        node.apply().ok();
        node.assert_settled();
    }
}

/// The device that Calico's agent made is what ours would be, and serves as it
/// is: pods keep running over it while a node moves over.
#[test]
fn a_device_that_calico_made_is_used_and_left_behind() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let [node, other] = cluster.nodes.as_slice() else { unreachable!() };
    other.apply().ok();
    let mac = crate::interop::calico_mac("node-a");
    let device = format!(
        "link add vxlan.calico address {mac} type vxlan id 4096 dstport 4789 local 192.0.2.11 \
         dev eth0 nolearning\nlink set vxlan.calico mtu 1450 up"
    );
    batch(&node.host, &device);
    let index = node.host.link("vxlan.calico").unwrap()["ifindex"].clone();
    let mut monitor = Monitor::of(&node.host);
    node.apply().ok();
    assert!(!monitor.changes().is_empty());
    node.assert_settled();
    let pods = cluster.pods();
    assert!(pods[0].netns.pings(&addresses(&pods[1])[0]));
    assert_eq!(node.host.link("vxlan.calico").unwrap()["ifindex"], index);
    node.manx(&["apply", "--undo"]).ok();
    assert_eq!(node.host.link("vxlan.calico").unwrap()["ifindex"], index);
}

/// Flannel's names and numbers, and Calico's route protocol.
#[test]
fn profiles_of_others() {
    let vxlan = json!({"vni": 1, "port": 8472, "device": "flannel.1"});
    let keys = json!({"mode": "vxlan", "vxlan": vxlan, "routeProtocol": 80});
    let cluster = Cluster::new(2, Families::Dual, &keys);
    cluster.apply();
    let pods = cluster.pods();
    let node = &cluster.nodes[0];
    assert!(node.host.link("flannel.1").is_some() && node.host.link("flannel-v6.1").is_some());
    let state = node.state().join("\n");
    let route = "10.244.2.0/24 via 10.244.2.0 dev flannel.1 proto 80 onlink mtu 1450";
    assert!(state.contains(route) && state.contains("\"port\":8472"), "{state}");
    for address in addresses(&pods[1]) {
        assert!(pods[0].netns.pings(&address), "{address}");
    }
    node.manx(&["apply", "--undo"]).ok();
    assert!(!node.state().join("\n").contains("proto 80"));
}

/// What Calico's agent has on its device while a node moves over, and ours in
/// addition to it: ours goes again, with a peer or with all, and nothing else.
#[test]
fn what_is_added_to_anothers_device_is_taken_back() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let mac = crate::interop::calico_mac("node-a");
    batch(
        &node.host,
        &format!(
            "link add vxlan.calico address {mac} type vxlan id 4096 dstport 4789 local 192.0.2.11 \
             dev eth0 nolearning
             link set vxlan.calico mtu 1410 up
             address add 10.65.7.1/32 dev vxlan.calico
             neighbour add 10.65.9.0 lladdr 66:11:22:33:44:55 nud permanent dev vxlan.calico
             route add 10.65.9.0/26 via 10.65.9.0 dev vxlan.calico onlink proto 80"
        ),
    );
    let args = ["fdb", "add", "66:11:22:33:44:55", "dev", "vxlan.calico", "dst", "192.0.2.50"];
    node.host.command("bridge", &args).ok();
    let foreign = node.state();
    let narrow = "10.244.2.0/24 via 10.244.2.0 dev vxlan.calico proto 109 onlink mtu 1410";
    for round in 0..2 {
        node.apply().ok();
        node.assert_settled();
        let all = node.state();
        assert!(foreign.iter().all(|entry| all.contains(entry)), "{foreign:#?}\n{all:#?}");
        assert!(all.iter().any(|entry| entry == narrow), "{all:#?}");
        // A peer that goes takes its entries along, and no others.
        node.set_peers(&[crate::cluster::entry(1, Families::Ipv4), peer_two()]);
        node.apply().ok();
        node.assert_settled();
        let fewer = node.state();
        assert!(foreign.iter().all(|entry| fewer.contains(entry)), "{foreign:#?}\n{fewer:#?}");
        assert!(!fewer.join("\n").contains("10.244.3."), "{fewer:#?}");
        if round == 0 {
            node.manx(&["apply", "--undo"]).ok();
        } else {
            // So does a mode that needs no device.
            let direct = node.with("mode", "direct".into());
            direct.apply().ok();
            direct.assert_settled();
            direct.manx(&["apply", "--undo"]).ok();
        }
        assert_eq!(node.state(), foreign);
        node.set_peers(&[
            crate::cluster::entry(1, Families::Ipv4),
            peer_two(),
            crate::cluster::entry(3, Families::Ipv4),
        ]);
    }
}

fn peer_two() -> serde_json::Value {
    crate::cluster::entry(2, Families::Ipv4)
}

/// An entry of another's on another's device has the last word.
#[test]
fn an_entry_of_another_on_its_device_is_told_and_left_alone() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    let mac = crate::interop::calico_mac("node-a");
    let peer = crate::interop::calico_mac("node-b");
    batch(
        &node.host,
        &format!(
            "link add vxlan.calico address {mac} mtu 1450 up type vxlan id 4096 dstport 4789 \
             local 192.0.2.11 dev eth0 nolearning
             address add 10.65.7.1/32 dev vxlan.calico
             neighbour add 10.244.2.0 lladdr 66:11:22:33:44:55 nud permanent dev vxlan.calico"
        ),
    );
    let args = ["fdb", "add", &peer, "dev", "vxlan.calico", "dst", "192.0.2.50"];
    node.host.command("bridge", &args).ok();
    let foreign = node.state();
    let apply = node.apply();
    assert_eq!(apply.status, 1, "{apply:?}");
    for told in ["! neighbour 10.244.2.0 dev vxlan.calico: ", &format!("! fdb {peer} ")] {
        assert!(apply.stdout.contains(told), "{told}: {apply:?}");
    }
    let state = node.state();
    assert!(foreign.iter().all(|entry| state.contains(entry)), "{foreign:#?}\n{state:#?}");
    node.manx(&["apply", "--undo"]).ok();
    assert_eq!(node.state(), foreign);
}

/// Ours learns nothing and has an address; one that differs in that is another.
#[test]
fn a_device_that_learns_or_has_no_address_is_another() {
    for (how, told) in
        [("local 192.0.2.11 dev eth0 learning", "learning"), ("dev eth0", "vxlan id")]
    {
        let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
        let node = &cluster.nodes[0];
        let mac = crate::interop::calico_mac("node-a");
        let device =
            format!("link add vxlan.calico address {mac} type vxlan id 4096 dstport 4789 {how}");
        batch(&node.host, &device);
        let plan = node.plan();
        let line = plan.stdout.lines().find(|line| line.starts_with("! link vxlan.calico"));
        let found = line.and_then(|line| line.split_once("but there is ")).map(|(_, found)| found);
        assert!(found.is_some_and(|found| found.contains(told)), "{plan:?}");
        assert_eq!(node.apply().status, 1);
        // Ours, which somebody has changed, is made anew.
        batch(&node.host, "link del vxlan.calico");
        node.apply().ok();
        batch(&node.host, "link set vxlan.calico type vxlan learning");
        node.apply().ok();
        node.assert_settled();
    }
}
