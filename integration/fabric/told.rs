// SPDX-License-Identifier: Apache-2.0
//! What plan and apply say: what was made and nothing else, how it ends, and that
//! there is nothing to do.

use serde_json::{Value, json};

use crate::cluster::{Cluster, Families, batch, entries, entry};
use crate::harness::{DEADLINE, eventually};

/// The objects of a list of changes, and nothing else of them.
fn objects(changes: &Value) -> Vec<String> {
    let object = |change: &Value| change["object"].as_str().unwrap().to_owned();
    entries(changes).iter().map(object).collect()
}

#[test]
fn plan_finds_fault_where_apply_does() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    // A peer that no route leads to; all else is done.
    let mut away = entry(2, Families::Ipv4);
    away["name"] = json!("node-away");
    away["addresses"] = json!(["198.51.100.9"]);
    away["podCIDRs"] = json!(["10.244.9.0/24"]);
    node.host.command("ip", &["route", "flush", "default"]);
    node.set_peers(&[entry(1, Families::Ipv4), entry(2, Families::Ipv4), away]);
    let apply = node.apply();
    assert_eq!(apply.status, 1, "{apply:?}");
    let plan = node.plan();
    assert_eq!((plan.status, plan.stdout.as_str()), (3, ""), "{plan:?}");
    for said in [&apply, &plan] {
        assert!(said.stderr.contains("error: node-away: no route to 198.51.100.9"), "{said:?}");
    }
    assert!(plan.stderr.ends_with("nothing to change\n"), "{plan:?}");
    node.set_peers(&[entry(1, Families::Ipv4), entry(2, Families::Ipv4)]);
    assert_eq!((node.apply().status, node.plan().status), (0, 0));
}

#[test]
fn plan_ends_with_a_summary() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    node.host.set_sysctl("ipv4/ip_forward", "0");
    let plan = node.plan();
    let lines = plan.stdout.lines().count();
    assert!(plan.stderr.ends_with(&format!("{} to make, 1 to change\n", lines - 1)), "{plan:?}");
}

/// A device of somebody else has the VNI, so that neither ours nor what leads
/// through it can be made.
#[test]
fn apply_prints_what_it_made_and_nothing_else() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "vxlan"}));
    let node = &cluster.nodes[0];
    batch(&node.host, "link add theirs type vxlan id 4096 dstport 4789 local 192.0.2.11 dev eth0");
    let planned = node.plan().stdout;
    assert!(planned.contains("+ link vxlan.calico"), "{planned}");
    let said = node.manx(&["apply", "--json"]);
    assert_eq!(said.status, 1, "{said:?}");
    let told: Value = serde_json::from_str(&said.stdout).unwrap();
    let (made, unmade) = (objects(&told["changes"]), objects(&told["unmade"]));
    assert!(made.contains(&"route 10.244.1.0/24".to_owned()), "the blackhole: {told:#}");
    for object in ["link vxlan.calico", "address of vxlan.calico", "route 10.244.2.0/24"] {
        assert!(unmade.contains(&object.to_owned()), "{object}: {told:#}");
        assert!(!made.contains(&object.to_owned()), "{object}: {told:#}");
    }
    assert_eq!(made.len() + unmade.len(), planned.lines().count(), "{told:#}");
    assert!(told["errors"][0].as_str().unwrap().contains("vxlan.calico"), "{told:#}");
    // What is done is done; the rest is refused again, and printed no more.
    let again = node.apply();
    assert_eq!((again.status, again.stdout.as_str()), (1, ""), "{again:?}");
    batch(&node.host, "link del theirs");
    let said = node.manx(&["apply", "--json"]);
    let told: Value = serde_json::from_str(&said.ok()).unwrap();
    assert_eq!((&told["unmade"], &told["errors"]), (&json!([]), &json!([])), "{told:#}");
    assert!(objects(&told["changes"]).contains(&"link vxlan.calico".to_owned()), "{told:#}");
    node.assert_settled();
}

/// A route that may not be written, with all else as it should be.
#[test]
fn a_parameter_that_may_not_be_written_is_not_printed() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    node.host.set_sysctl("ipv4/ip_forward", "0");
    let apply = node.command(&["apply"]);
    let mut command = std::process::Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "mount -o bind,ro /proc/sys /proc/sys && exec \"$@\"",
        "-",
    ]);
    command.arg(apply.get_program()).args(apply.get_args());
    let said =
        node.host.enter(|| crate::harness::run(command, &crate::harness::Stdin::Null, DEADLINE));
    assert_eq!(said.status, 1, "{said:?}");
    assert!(said.stdout.contains("+ route 10.244.2.0/24"), "{said:?}");
    assert!(!said.stdout.contains("ip_forward") && said.stderr.contains("ip_forward"), "{said:?}");
}

#[test]
fn without_a_list_of_nodes_it_is_said() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    let without = node.with("peersFile", Value::Null);
    for verb in ["plan", "apply"] {
        let said = without.manx(&[verb]);
        assert_eq!((said.status, said.stdout.as_str()), (0, ""), "{said:?}");
        assert!(said.stderr.contains("has no peersFile"), "{said:?}");
        assert!(!said.stderr.contains("--undo"), "{said:?}");
    }
    // Its former configuration made some.
    node.apply().ok();
    let said = without.plan();
    assert!(said.stderr.contains("manx apply --undo"), "{said:?}");
    let undone = without.manx(&["apply", "--undo", "--json"]).ok();
    let undone: Value = serde_json::from_str(&undone).unwrap();
    assert!(objects(&undone["changes"]).contains(&"route 10.244.2.0/24".to_owned()), "{undone}");
    assert!(!without.plan().stderr.contains("--undo"));
    assert_eq!(without.manx(&["apply", "--watch", "--json"]).status, 2);
}

/// A pod's namespace is removed in the background: its link loses the route and the
/// parameters first, and is gone a moment later. That is nothing to repair.
#[test]
fn the_link_of_a_pod_that_goes_wants_nothing() {
    let cluster = Cluster::new(2, Families::Ipv4, &json!({"mode": "direct"}));
    let node = &cluster.nodes[0];
    node.plugin.status().ok();
    for _ in 0..8 {
        drop([node.attach("a"), node.attach("b"), node.attach("c")]);
        let gone = || {
            node.assert_settled();
            !node.host.command("ip", &["-o", "link"]).ok().contains("cali")
        };
        assert!(eventually(DEADLINE, gone));
    }
}
