// SPDX-License-Identifier: Apache-2.0
//! A peers file that is made of what kubectl prints.

use std::fs;

use serde_json::{Value, json};

use crate::MANX;
use crate::Node;
use crate::harness::{DEADLINE, Host, Stdin, run};

fn nodes() -> Value {
    let node = |name: &str, address: &str, pods: Value| {
        json!({"kind": "Node", "metadata": {"name": name, "uid": name,
               "creationTimestamp": "2026-11-27T09:00:00Z"}, "spec": {"podCIDRs": pods},
               "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [
        node("node-b", "192.0.2.12", json!(["10.9.2.0/24"])),
        node("node-a", "192.0.2.11", json!(["10.9.1.0/24"])),
        node("new", "192.0.2.13", json!(null)),
    ]})
}

#[test]
fn what_kubectl_prints_is_a_peers_file_that_is_accepted() {
    let (host, _outside) = Host::with_uplink();
    let manx = |arguments: &[&str], stdin: &Stdin| {
        let mut command = std::process::Command::new(MANX);
        command.args(arguments).env_remove("CNI_PATH");
        host.enter(|| run(command, stdin, DEADLINE))
    };
    let made = manx(&["peers", "from-kubectl"], &Stdin::Bytes(nodes().to_string().into()));
    assert_eq!(made.status, 0, "{made:?}");
    assert!(made.stderr.contains("left out") && made.stderr.contains("new"), "{made:?}");
    let root = host.scratch().dir("root");
    host.scratch().dir("root/etc/manx");
    fs::write(root.join("etc/manx/peers.json"), &made.stdout).unwrap();
    let list = json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [{"type": "manx",
        "mode": "vxlan", "peersFile": "/etc/manx/peers.json",
        "ipam": {"type": "manx-ipam", "ranges": [[{"subnet": "usePodCidr"}]]}}]});
    host.scratch().dir("root/etc/cni/net.d");
    fs::write(root.join("etc/cni/net.d/10-pods.conflist"), list.to_string()).unwrap();
    host.scratch().dir("root/opt/cni/bin");
    std::os::unix::fs::symlink(MANX, root.join("opt/cni/bin/manx")).unwrap();
    let root = root.to_str().unwrap();
    let said = manx(&["validate", "--root", root], &Stdin::Null);
    assert!(said.stdout.contains("errors: 0, warnings: 0"), "{said:?}");
    let planned = manx(&["plan", "--root", root], &Stdin::Null);
    assert!(planned.status == 3 && planned.stdout.contains("+ route 10.9.2.0/24"), "{planned:?}");
    manx(&["apply", "--root", root], &Stdin::Null).ok();
    let peers = manx(&["peers", "--json", "--root", root], &Stdin::Null).ok();
    let peers: Value = serde_json::from_str(&peers).unwrap();
    assert_eq!(peers["peers"][0]["name"], "node-a");
    assert_eq!(
        (&peers["peers"][1]["name"], &peers["peers"][1]["state"]),
        (&json!("node-b"), &json!("reachable"))
    );
}

#[test]
fn what_is_no_list_of_nodes_makes_no_file() {
    let node = Node::new();
    let from = |text: &str| {
        let mut command = std::process::Command::new(MANX);
        command.args(["peers", "from-kubectl"]);
        node.host.enter(|| run(command, &Stdin::Bytes(text.into()), DEADLINE))
    };
    let mut without = nodes();
    without["items"].as_array_mut().unwrap().drain(..2);
    for (text, words) in [
        ("{}", "kubectl get nodes -o json"),
        (without.to_string().as_str(), "--allocate-node-cidrs"),
    ] {
        let refused = from(text);
        assert_eq!((refused.status, refused.stdout.as_str()), (1, ""), "{refused:?}");
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    // Of two that claim the same the older has it, and the other is told.
    let mut clash = nodes();
    clash["items"][0]["spec"]["podCIDRs"] = json!(["10.9.1.0/24"]);
    clash["items"][0]["metadata"]["creationTimestamp"] = "2026-11-27T10:00:00Z".into();
    let made = from(&clash.to_string());
    assert!(made.status == 3 && made.stderr.contains("warning: Node node-b"), "{made:?}");
    assert!(made.stdout.contains("node-a") && !made.stdout.contains("node-b"), "{made:?}");
    for arguments in [&["peers", "from-kubctl"][..], &["peers", "from-kubectl", "--json"]] {
        assert_eq!(node.host.command(MANX, arguments).status, 2);
    }
}
