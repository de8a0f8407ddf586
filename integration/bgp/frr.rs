// SPDX-License-Identifier: Apache-2.0
//! FRR with what `manx export frr` prints.

use std::path::Path;
use std::process::Command;
use std::thread;

use crate::cluster::Node;
use crate::daemon::{Daemon, find};
use crate::harness::eventually;
use crate::mesh::{CONVERGED, assert_mesh, converge, export, plant, prepare};

/// Daemons, in the order in which they start.
const DAEMONS: [&str; 3] = ["zebra", "staticd", "bgpd"];

/// Starts the daemons on a node, each with the whole configuration.
fn start(node: &Node) -> [Daemon; 3] {
    let conf = export(node, "frr");
    let directory = node.host.scratch().path();
    DAEMONS.map(|name| {
        let daemon = Daemon::start(node, name, command(name, &conf, directory));
        if name == "zebra" {
            let listens = eventually(CONVERGED, || directory.join("zserv").exists());
            assert!(listens, "{}", daemon.said());
        }
        daemon
    })
}

/// A daemon of FRR insists on a group that its package makes, with its user in it. A group file where
/// that is root is put over the system's, for this process alone; the package's own line, where it is
/// installed, would be the first that is found.
fn command(name: &str, conf: &Path, directory: &Path) -> Command {
    let groups = std::fs::read_to_string("/etc/group").expect("a group file");
    let others: Vec<&str> = groups.lines().filter(|line| !line.starts_with("frrvty:")).collect();
    let groups_file = directory.join("group");
    std::fs::write(&groups_file, format!("{}\nfrrvty:x:0:root\n", others.join("\n")))
        .expect("write a file");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", r#"mount --bind "$0" /etc/group && exec "$@""#]);
    command.arg(groups_file).arg(find(name).expect("checked by the caller"));
    command.args(["-u", "root", "-g", "root", "-P", "0", "--log", "stdout", "-f"]).arg(conf);
    command.arg("-i").arg(directory.join(format!("{name}.pid")));
    command.arg("--vty_socket").arg(directory).arg("-z").arg(directory.join("zserv"));
    command
}

/// The lines of the configuration that a daemon does not know.
fn unknown(daemon: &Daemon) -> Vec<String> {
    let said = daemon.said();
    let lines = said.lines().filter_map(|line| line.split_once("No such command on config "));
    lines.map(|(_, line)| line.to_owned()).collect()
}

#[test]
#[ignore = "FRR changes its groups, which takes root outside of any user namespace: hack/test runs it"]
fn a_mesh_of_frrs_carries_pods_and_outlives_one() {
    let test = "a_mesh_of_frrs_carries_pods_and_outlives_one";
    if let Some(missing) = DAEMONS.into_iter().find(|name| find(name).is_none()) {
        return eprintln!("SKIP {test}: no {missing} (hack/setup provides it)");
    }
    let cluster = prepare();
    let [a, b, _] = &cluster.nodes;
    plant(b);
    let mut nodes = cluster.nodes.each_ref().map(start);
    converge(&cluster);
    for [zebra, staticd, bgpd] in &nodes {
        // Each tells of what it does not know, or the next check would show nothing.
        assert!(unknown(zebra).iter().any(|line| line.contains("router bgp")));
        let known = |line: &String| [staticd, bgpd].iter().any(|d| !unknown(d).contains(line));
        let nobodys: Vec<String> = unknown(zebra).into_iter().filter(|l| !known(l)).collect();
        assert_eq!(nobodys, [""; 0], "lines that no daemon knows");
    }
    assert_mesh(&cluster);

    let (from, to) = (a.pod(), b.pod());
    let ping = ["-n", "-q", "-i", "0.1", "-c", "40", &to.address];
    let traffic = thread::scope(|scope| {
        let pinging = scope.spawn(|| from.pod.netns.command("ping", &ping));
        nodes[1][2].kill();
        pinging.join().expect("ping ends")
    });
    assert!(traffic.stdout.contains(" 0% packet loss"), "{traffic:?}");
}
