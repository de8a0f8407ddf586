// SPDX-License-Identifier: Apache-2.0
//! What may not be read is told, and not taken for nothing.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use crate::Node;
use crate::harness::{DEADLINE, Finished, Stdin, run};

/// As root that may not read everything, as in a container.
fn unprivileged(node: &Node, arguments: &[&str]) -> Finished {
    let manx = node.command(arguments);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-all", "--inh-caps", "-all", "--"]);
    command.arg(manx.get_program()).args(manx.get_args());
    node.host.enter(|| run(command, &Stdin::Null, DEADLINE))
}

#[test]
fn what_may_not_be_read_is_not_taken_for_nothing() {
    let node = Node::new();
    let web = node.pod("web");
    let directory = node.host.scratch().dir("root/run/manx");
    let entry = directory.join("net").join(format!("{}:eth0", web.id));
    let unprivileged = |arguments: &[&str]| unprivileged(&node, arguments);
    assert!(unprivileged(&["pods"]).ok().contains("default/web"));
    for path in [&entry, &directory.join("net"), &directory] {
        let mode = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o000);
        let said = [&["pods"][..], &["exec", "default/web", "true"], &["capture", "x"], &["gc"]]
            .map(unprivileged);
        mode(0o700);
        for said in said {
            assert_eq!((said.status, said.stdout.as_str()), (1, ""), "{said:?}");
            let place = format!("cannot read {}", path.display());
            assert!(said.stderr.contains(&place), "{said:?}");
            assert!(said.stderr.contains("Permission denied"), "{said:?}");
            assert!(said.stderr.contains("run as root"), "{said:?}");
        }
    }
}

#[test]
fn a_configuration_that_may_not_be_read_is_not_called_absent() {
    let node = Node::new();
    let directory = node.host.scratch().dir("root/etc/cni/net.d");
    let unprivileged = |arguments: &[&str]| unprivileged(&node, arguments);
    let file = directory.join("10-a.conf");
    fs::write(&file, node.plugin.conf.to_string()).unwrap();
    // Another one behind it is not the one that counts.
    fs::write(directory.join("20-b.conf"), node.plugin.conf.to_string()).unwrap();
    for path in [&file, &directory] {
        let mode = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o000);
        let said =
            [&["plan"][..], &["apply"], &["ipam", "show"], &["validate"], &["export", "frr"]]
                .map(unprivileged);
        mode(0o700);
        for said in said {
            assert_eq!((said.status, said.stdout.as_str()), (1, ""), "{said:?}");
            assert!(said.stderr.contains(&format!("cannot read {}", path.display())), "{said:?}");
            assert!(said.stderr.contains("Permission denied"), "{said:?}");
            assert!(said.stderr.contains("run as root"), "{said:?}");
        }
    }
    fs::remove_dir_all(&directory).unwrap();
    let absent = node.manx(&["plan"]);
    assert!(absent.status == 1 && absent.stderr.contains("manx install"), "{absent:?}");
}

/// What nobody may read is not lost, and no check claims it.
#[test]
fn doctor_skips_what_may_not_be_read() {
    let node = Node::new();
    let _web = node.pod("web");
    let file = node.host.scratch().dir("root/etc/cni/net.d").join("10-a.conf");
    let mut conf = node.plugin.conf.clone();
    conf["ipMasq"] = true.into();
    fs::write(&file, conf.to_string()).unwrap();
    let told = unprivileged(&node, &["doctor", "--json", "--only", "masquerade-lost"]).ok();
    let document: serde_json::Value = serde_json::from_str(&told).unwrap();
    let [check] = &document["checks"].as_array().unwrap()[..] else { panic!("{told}") };
    assert_eq!(check["status"], "skipped", "{told}");
    assert!(check["evidence"].as_str().unwrap().contains("not permitted"), "{told}");
}
