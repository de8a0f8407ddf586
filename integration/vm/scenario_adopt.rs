// SPDX-License-Identifier: Apache-2.0
//! `manx adopt` where Calico routes by IP in IP.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::{
    by_hand,
    cluster::{Attached, Cluster, MANX, Node},
};

/// What Calico's plugin and libcni have of a pod, and our own configuration behind theirs.
fn note(node: &Node, old: &Attached, link: &str) {
    let write = |path: &str, value: Value| {
        let path = node.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    };
    let pod = &old.pod;
    let result = json!({
        "cniVersion": "0.3.1", "interfaces": [{"name": link}],
        "ips": [{"version": "4", "address": format!("{}/32", old.address)}],
    });
    let note = json!({
        "kind": "cniCacheV1", "containerId": pod.id, "ifName": "eth0", "netns": pod.netns.path(),
        "networkName": "k8s-pod-network", "result": result,
        "cniArgs": [["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "web"]],
    });
    write(&format!("var/lib/cni/results/k8s-pod-network-{}-eth0", pod.id), note);
    let calico = json!({"type": "calico", "ipam": {"type": "calico-ipam"}});
    let list = json!({"name": "k8s-pod-network", "cniVersion": "0.3.1", "plugins": [calico]});
    write("etc/cni/net.d/05-calico.conflist", list);
    let path = "etc/cni/net.d/10-manx.conf";
    let text = fs::read(node.root().join(path)).unwrap();
    let mut conf: Value = serde_json::from_slice(&text).unwrap();
    conf["ipam"] = json!({"type": "manx-ipam", "ranges": [[{"subnet": node.cidr}]]});
    write(path, conf);
    let programs = node.root().join("opt/cni/bin");
    fs::create_dir_all(&programs).unwrap();
    symlink(MANX, programs.join("manx")).unwrap();
}

#[test]
#[ignore = "needs the module ipip: ipip_between_nodes runs it"]
fn a_node_of_calico_becomes_ours_with_its_pods() {
    let cluster = Cluster::new(&json!({"mode": "ipip"}));
    let [a, b, c] = &cluster.nodes;
    for node in [b, c] {
        node.manx(&["apply"]).ok();
    }
    by_hand::program(a, &[b, c]);
    let old = by_hand::attach(a, 9);
    note(a, &old, "cali00000000009");
    let far = [b.pod(), c.pod()];
    let reach = |told: &str| {
        for one in &far {
            assert!(old.pod.netns.pings(&one.address), "{told}: {}", one.address);
            assert!(one.pod.netns.pings(&old.address), "{told}: from {}", one.address);
        }
    };
    reach("before");
    let tunnel = a.host.link("tunl0").unwrap()["ifindex"].clone();
    a.manx(&["adopt", "calico", "--apply"]).ok();
    reach("after");
    assert_eq!(a.plan(), "");
    let own = a.host.link("tunl0").unwrap();
    assert!(own["ifindex"] == tunnel && own["ifalias"].is_string(), "{own}");
    assert!(a.routes(&["proto", "80"]).is_empty(), "{:?}", a.routes(&[]));
    assert_eq!(a.routes(&["proto", "109", "type", "unicast"]).len(), 2, "{:?}", a.routes(&[]));
    let again = a.manx(&["adopt", "calico", "--json"]).stdout;
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["changes"], json!([]), "{again}");
    let new = a.pod();
    assert!(new.pod.netns.pings(&old.address) && new.pod.netns.pings(&far[1].address));
    a.plugin().del(&old.pod).ok();
    assert!(a.host.link("cali00000000009").is_none());
}
