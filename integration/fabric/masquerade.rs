// SPDX-License-Identifier: Apache-2.0
//! Whom the pods of other nodes see, and whom the rest of the world.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, addresses, batch, entry};
use crate::harness::{DEADLINE, Netns};

/// The source address that `server` sees when `client` connects to `address`
/// there; `None` if no connection comes about.
fn seen(client: &Netns, server: &Netns, address: &str) -> Option<IpAddr> {
    let address: IpAddr = address.parse().unwrap();
    let listener = server.enter(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap());
    let to = listener.local_addr().unwrap();
    let _stream = client.enter(|| TcpStream::connect_timeout(&to, DEADLINE)).ok()?;
    Some(listener.accept().unwrap().1.ip())
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

#[test]
fn pods_of_other_nodes_see_the_pod_and_the_world_sees_the_node() {
    for (mode, cross_subnet) in [("direct", false), ("vxlan", false), ("vxlan", true)] {
        let keys = json!({"mode": mode, "crossSubnet": cross_subnet, "ipMasq": true});
        let cluster = Cluster::new(3, Families::Dual, &keys);
        cluster.teach_router();
        cluster.apply();
        let pods = cluster.pods();
        let own = addresses(&pods[0]);
        for other in [1, 2] {
            for (theirs, own) in addresses(&pods[other]).iter().zip(&own) {
                let source = seen(&pods[0].netns, &pods[other].netns, theirs);
                assert_eq!(source, ip(own), "{mode} {theirs}");
            }
        }
        for (outside, node) in [("192.0.2.1", "192.0.2.11"), ("2001:db8:1::1", "2001:db8:1::11")] {
            assert_eq!(seen(&pods[0].netns, &cluster.router, outside), ip(node), "{mode}");
        }
    }
}

/// Pods that run already see a node that came later as it is, once the file
/// that names it was applied.
#[test]
fn the_networks_that_are_spared_follow_the_peers_file() {
    let cluster = Cluster::new(3, Families::Ipv4, &json!({"mode": "vxlan", "ipMasq": true}));
    let node = &cluster.nodes[0];
    let all: Vec<Value> = (1..=3).map(|number| entry(number, Families::Ipv4)).collect();
    node.set_peers(&all[..2]);
    let pods = cluster.pods();
    node.assert_settled();
    node.set_peers(&all);
    let plan = node.plan();
    assert!(plan.stdout.contains("manx-net"), "plan tells of the table: {plan:?}");
    node.apply().ok();
    node.assert_settled();
    let source = seen(&pods[0].netns, &pods[2].netns, &addresses(&pods[2])[0]);
    assert_eq!(source, ip(&addresses(&pods[0])[0]));
}

/// An ADD has the addresses that `usePodCidr` stands for, and whoever reads the configuration has not.
/// If the table were another one to each of them, it would be made anew with every pod.
#[test]
fn a_table_is_the_same_to_an_add_and_to_who_reads_the_file() {
    let ranges = json!({"type": "manx-ipam", "ranges": [[{"subnet": "usePodCidr"}]]});
    // Of several podCIDRs, what stands alone is the first.
    let alone = json!({"type": "manx-ipam", "subnet": "usePodCidr"});
    for (peers_file, ipam) in [(true, &ranges), (false, &ranges), (false, &alone)] {
        let keys = json!({"ipMasq": true, "ipam": ipam});
        let cluster = Cluster::new(2, Families::Ipv4, &keys);
        let mut node = cluster.nodes[0].with("ipMasq", true.into());
        if !peers_file {
            // It is looked for where the agent has it.
            let theirs = node.host.scratch().dir("root/var/lib/manx").join("peers.json");
            let list = std::fs::read(node.peers_file()).unwrap();
            let mut list: Value = serde_json::from_slice(&list).unwrap();
            list["nodes"][0]["podCIDRs"].as_array_mut().unwrap().push("10.245.1.0/24".into());
            std::fs::write(theirs, list.to_string()).unwrap();
            node = node.with("peersFile", Value::Null);
        }
        let table = || {
            let said = node.host.command("nft", &["-a", "list", "table", "inet", "manx-net"]);
            said.ok().lines().next().unwrap().to_owned()
        };
        let mut pods = vec![node.attach("a")];
        // As an ADD makes it, and as a pass does.
        for names in [["b", "c"], ["d", "e"]] {
            let before = table();
            assert!(before.contains("# handle"), "{before}");
            for name in names {
                assert_eq!(node.plan().status, 0, "{peers_file} {ipam}: {:?}", node.plan());
                node.apply().ok();
                pods.push(node.attach(name));
                assert_eq!(table(), before, "{peers_file} {ipam}");
            }
            node.host.command("nft", &["delete", "table", "inet", "manx-net"]).ok();
            node.apply().ok();
        }
        // What another version made, or somebody saved and restored: the next pod's, not the pass's.
        let text = node.host.command("nft", &["list", "table", "inet", "manx-net"]).ok();
        let text =
            node.host.scratch().file("saved.nft", format!("delete table inet manx-net\n{text}"));
        node.host.command("nft", &["-f", text.to_str().unwrap()]).ok();
        let restored = table();
        node.apply().ok();
        assert_eq!(table(), restored, "{peers_file} {ipam}");
        pods.push(node.attach("f"));
        assert_ne!(table(), restored, "{peers_file} {ipam}");
    }
}

/// Where a routing daemon has the routes, the list names this node alone: the
/// pods of others are spared by clusterCIDRs, and export tells of it.
#[test]
fn pods_that_no_list_names_are_spared_by_cluster_cidrs() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct", "ipMasq": true}));
    let all: Vec<Value> = (1..=2).map(|number| entry(number, Families::Ipv4)).collect();
    for (node, other) in cluster.nodes.iter().zip(cluster.nodes.iter().rev()) {
        node.set_peers(&all[node.number - 1..node.number]);
        let route = format!("10.244.{0}.0/24 via 192.0.2.1{0} proto bird", other.number);
        batch(&node.host, &format!("route add {route}"));
    }
    let mesh = json!({"self": "node-a", "nodes": all}).to_string();
    let mesh = cluster.nodes[0].host.scratch().file("mesh.json", mesh).display().to_string();
    let theirs = cluster.nodes[1].attach("b");
    for spared in [false, true] {
        let (key, value) = match spared {
            true => ("clusterCIDRs", json!(["10.244.0.0/16"])),
            false => ("ipMasq", json!(true)),
        };
        let node = cluster.nodes[0].with(key, value);
        let export = node.manx(&["export", "bird", "--peers", &mesh]);
        assert_eq!(export.status, 0, "{export:?}");
        let told = export.stderr.contains("nothing spares 10.244.2.0/24");
        assert_eq!(told, !spared, "{export:?}");
        let pod = node.attach("a");
        let own = if spared { addresses(&pod)[0].clone() } else { "192.0.2.11".to_owned() };
        let source = seen(&pod.netns, &theirs.netns, &addresses(&theirs)[0]);
        assert_eq!(source, ip(&own));
        node.plugin.del(&pod).ok();
    }
}
